"""CuPy's arrays on their way to the host."""

from __future__ import annotations

import math
from typing import Any, Literal

import cupy
import numpy as np

from interop.backends._cupy_copies import refuse_capture
from interop.backends._cupy_lent import keep
from interop.backends._departure import Departure, arrived, split

__all__ = ["depart", "fetch"]


def depart(x: Any) -> Departure:
    """Begin a copy to page-locked memory on the current stream of the current device, which is the array's.

    CuPy's pools would hand both out again while it goes on: neither knows of a copy. So they are kept until it has ended.
    """
    refuse_capture()
    if not x.size:
        return arrived(np.empty(x.shape, x.dtype))
    if not (x.flags.c_contiguous or x.flags.f_contiguous):
        x = cupy.ascontiguousarray(x)
    order: Literal["C", "F"] = "C" if x.flags.c_contiguous else "F"
    memory = cupy.cuda.alloc_pinned_memory(x.nbytes)
    host = np.frombuffer(memory, x.dtype, math.prod(x.shape)).reshape(x.shape, order=order)
    x.get(order=order, out=host, blocking=False)
    event = cupy.cuda.Event(block=False, disable_timing=True)
    event.record()
    keep(event, (x, host))
    return Departure(host, lambda: bool(event.done), event.synchronize)


def fetch(arrays: list[Any]) -> list[Any]:
    """Return the values of arrays in C order as NumPy arrays of their own, in one transfer on the current stream."""
    refuse_capture()
    packed = cupy.concatenate([x.reshape(-1).view(np.uint8) for x in arrays])
    host = np.frombuffer(cupy.cuda.alloc_pinned_memory(packed.nbytes), np.uint8, packed.nbytes)
    packed.get(out=host, blocking=True)
    return split(host, [(x.dtype, x.shape) for x in arrays])
