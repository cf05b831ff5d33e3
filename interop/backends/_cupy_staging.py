"""CuPy's large crossings to the host's pageable memory, on the current stream of the current device.

The other way CuPy does the like itself: it sends host memory through page-locked memory.
"""

from __future__ import annotations

from typing import Any, Literal

import cupy
import numpy as np

from interop.backends import _staging

__all__ = ["to_host"]


def to_host(x: Any) -> Any:
    """Return an array on the host, complete; as ``x.get(order="A")`` does."""
    if x.nbytes < _staging.WORTH or not (x.flags.c_contiguous or x.flags.f_contiguous):
        # Blocking: the host may read the result at once.
        return x.get(order="A", blocking=True)
    order: Literal["C", "F"] = "C" if x.flags.c_contiguous else "F"
    host = np.empty(x.shape, x.dtype, order=order)
    source, made = cupy.ndarray((x.nbytes,), np.uint8, memptr=x.data), host.ravel(order="K").view(np.uint8)
    buffers = [np.frombuffer(cupy.cuda.alloc_pinned_memory(_staging.CHUNK), np.uint8) for _ in range(_staging.SLOTS)]
    events = [cupy.cuda.Event(block=False, disable_timing=True) for _ in range(_staging.SLOTS)]

    def fetch(slot: int, low: int, high: int) -> None:
        source[low:high].get(out=buffers[slot][: high - low], blocking=False)
        events[slot].record()

    def take_out(slot: int, low: int, high: int) -> None:
        events[slot].synchronize()
        made[low:high] = buffers[slot][: high - low]

    try:
        _staging.through(x.nbytes, fetch, take_out)
    finally:
        # CuPy's pool knows of no copy: if something came in between, the buffers go back when nothing writes to them any more.
        for event in events:
            event.synchronize()
    return host
