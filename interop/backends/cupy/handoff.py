"""CuPy's side of a handoff on a CUDA device that needs no decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cupy

from interop.backends.cuda.streams import register_owner
from interop.backends.cuda.types import DeviceConsumer
from interop.backends.cupy.release import defer_release
from interop.backends.cupy.streams import is_alias
from interop.dlpack import CUDA, LEGACY, CapsuleProducer

if TYPE_CHECKING:
    from collections.abc import Container

    import numpy as np


def current_pointer(index: int) -> int:
    """Return the pointer of CuPy's current stream on a device, 0 for the legacy default stream."""
    stream = cupy.cuda.get_current_stream(index)
    pointer = int(stream.ptr)
    if not is_alias(stream):
        register_owner(stream, pointer)
    return pointer


def export_to(x: Any, dtypes: Container[np.dtype[Any]], consumer: DeviceConsumer) -> Any | None:
    """Return what the other library makes of an array; None for the general way."""
    flags = x.flags
    if not x.size or x.dtype not in dtypes or not (flags.c_contiguous or flags.f_contiguous) or x.data.ptr % x.itemsize:
        return None
    device = x.__dlpack_device__()
    index = device[1]
    if device[0] != CUDA or index != cupy.cuda.runtime.getDevice():
        return None
    own, theirs = current_pointer(index), consumer.stream_pointer(index)
    number = theirs or LEGACY
    # Also on one stream: the memory may have been allocated on another.
    return consumer.from_capsule(defer_release(x, number, -1 if own == theirs else number), index)


def consumer(dtypes: frozenset[str]) -> DeviceConsumer:
    """Return how CuPy takes a capsule."""
    return DeviceConsumer(dtypes, current_pointer, lambda capsule, index: cupy.from_dlpack(CapsuleProducer(capsule, (CUDA, index))))
