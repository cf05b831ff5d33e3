"""CuPy's arrays on their way to the host."""

from __future__ import annotations

import math
from typing import Any, Literal

import cupy
import numpy as np

from interop.backends.cuda.copies import Departure, arrived, split
from interop.backends.cuda.driver import relaxed
from interop.backends.cupy.copies import refuse_capture, unless_all_is_done
from interop.backends.cupy.release import keep, settle

__all__ = ["depart", "fetch"]


def depart(x: Any, origin: Any) -> Departure:
    """Begin a copy to page-locked memory on the current stream of the current device, which is the array's.

    CuPy's pools would hand both out again while it goes on: neither knows of a copy. So they are kept until it has ended, and `origin` too,
    of which the array may have been made.
    """
    refuse_capture()
    if not x.size:
        return arrived(np.empty(x.shape, x.dtype))
    origin = origin, x
    if not (x.flags.c_contiguous or x.flags.f_contiguous):
        x = cupy.ascontiguousarray(x)
    order: Literal["C", "F"] = "C" if x.flags.c_contiguous else "F"
    settle()  # page-locked memory of the last time may be free again
    memory = cupy.cuda.alloc_pinned_memory(x.nbytes)
    host = np.frombuffer(memory, x.dtype, math.prod(x.shape)).reshape(x.shape, order=order)
    with unless_all_is_done(cupy.cuda.get_current_stream()):
        x.get(order=order, out=host, blocking=False)
        event = cupy.cuda.Event(block=False, disable_timing=True)
        event.record()
        keep(event, (origin, x, host))
    return Departure(host, relaxed(lambda: bool(event.done)), relaxed(event.synchronize, settle))


def fetch(arrays: list[Any]) -> list[Any]:
    """Return the values of arrays in C order as NumPy arrays of their own, in one transfer on the current stream."""
    refuse_capture()
    settle()
    packed = cupy.concatenate([x.reshape(-1).view(np.uint8) for x in arrays])
    host = np.frombuffer(cupy.cuda.alloc_pinned_memory(packed.nbytes), np.uint8, packed.nbytes)
    packed.get(out=host, blocking=True)
    return split(host, [(x.dtype, x.shape) for x in arrays])
