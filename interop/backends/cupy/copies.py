"""CuPy's copies between memories, on the current stream of the current device: to the host, from it, and from another device.

Large ones to or from pageable memory go through page-locked buffers that are used again. CuPy itself has none on the way to the host,
and on the way to the device one as large as the array.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Literal

import cupy
import numpy as np

from interop.backends.base import PendingCopy
from interop.backends.cuda import staging as _staging
from interop.backends.cuda.copies import split
from interop.backends.cuda.driver import relaxed
from interop.backends.cupy.release import release_after_event, release_completed
from interop.errors import StreamError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE_LOCKED = 1
"""``cudaMemoryTypeHost``: page-locked memory, CUDA's own or registered."""

_INVALID = 1
"""``cudaErrorInvalidValue``"""


def refuse_capture() -> None:
    """Raise StreamError while the current stream captures a graph."""
    try:
        is_capturing = cupy.cuda.runtime.streamIsCapturing(cupy.cuda.get_current_stream().ptr)
    except RuntimeError as error:  # asked of the legacy stream while one is captured that it waits for, or of a capture that is broken
        raise StreamError(_staging.CAPTURING, hint=_staging.OUTSIDE) from error
    if is_capturing:
        raise StreamError(_staging.CAPTURING, hint=_staging.OUTSIDE)


def to_host(x: Any) -> Any:
    """Return an array on the host, complete; as ``x.get(order="A")`` does."""
    refuse_capture()
    stream = cupy.cuda.get_current_stream()
    if x.nbytes < _staging.WORTH or not (x.flags.c_contiguous or x.flags.f_contiguous):
        # Blocking: the host may read the result at once.
        return x.get(order="A", blocking=True)
    order: Literal["C", "F"] = "C" if x.flags.c_contiguous else "F"
    host = np.empty(x.shape, x.dtype, order=order)
    source, made, buffers, events = _bytes_of(x), host.ravel(order="K").view(np.uint8), _buffers(), _events()

    def fill(slot: int, low: int, high: int) -> None:
        source[low:high].get(out=buffers[slot][: high - low], blocking=False)
        events[slot].record()

    def empty(slot: int, low: int, high: int) -> None:
        events[slot].synchronize()
        made[low:high] = buffers[slot][: high - low]

    with _unless_all_is_done(stream):
        _staging.through(x.nbytes, fill, empty)
    return host


@contextlib.contextmanager
def _unless_all_is_done(stream: Any) -> Iterator[None]:
    """Wait for a stream if something comes in between: CuPy's pools know of no copy, and what it reads or writes goes back to them then."""
    try:
        yield
    except BaseException:
        stream.synchronize()
        raise


def to_device(view: Any) -> Any:
    """Return a copy of a NumPy array, in C order and this machine's byte order; the source has been read when this returns."""
    refuse_capture()
    # Not ascontiguousarray, which makes one axis of none.
    view = np.asarray(view, view.dtype.newbyteorder("="), order="C")
    if _is_page_locked(view):
        return _from_page_locked(view)
    if view.nbytes < _staging.WORTH:
        release_completed()
        return cupy.asarray(view)  # which reads it into page-locked memory of its own before it returns
    release_completed()
    made = cupy.empty(view.shape, view.dtype)
    there, source, buffers, events = _bytes_of(made), view.reshape(-1).view(np.uint8), _buffers(), _events()
    with _unless_all_is_done(cupy.cuda.get_current_stream()):
        for slot, low, high in _staging.chunks(view.nbytes):
            events[slot].synchronize()  # what was in the buffer has left; nothing, the first time
            buffers[slot][: high - low] = source[low:high]
            there[low:high].set(buffers[slot][: high - low])
            events[slot].record()
        for event, buffer in zip(events, buffers, strict=True):
            release_after_event(event, buffer)
    return made


def from_peer(x: Any, arrived: Any) -> Any:
    """Return a copy of an array of another device, when `arrived` has come, an event of that device behind the work that makes it."""
    release_completed()
    stream = cupy.cuda.get_current_stream()
    stream.wait_event(arrived)
    with _unless_all_is_done(stream):
        made = cupy.array(x, copy=True)
        event = cupy.cuda.Event(block=False, disable_timing=True)
        event.record()
        release_after_event(event, x)  # the pool of the other device knows nothing of the work on this one
    return made


def start_copy_to_host(x: Any, origin: Any) -> PendingCopy:
    """Begin a copy to page-locked memory on the current stream of the current device, which is the array's.

    CuPy's pools would reuse the memory of both before the copy has ended, as neither knows of it. So the release of both is deferred until then,
    and of `origin`, of which the array may have been made.
    """
    refuse_capture()
    if not x.size:
        return PendingCopy(np.empty(x.shape, x.dtype))
    origin = origin, x
    if not (x.flags.c_contiguous or x.flags.f_contiguous):
        x = cupy.ascontiguousarray(x)
    order: Literal["C", "F"] = "C" if x.flags.c_contiguous else "F"
    release_completed()  # page-locked memory of the last time may be free again
    host = np.frombuffer(cupy.cuda.alloc_pinned_memory(x.nbytes), x.dtype, math.prod(x.shape)).reshape(x.shape, order=order)
    with _unless_all_is_done(cupy.cuda.get_current_stream()):
        x.get(order=order, out=host, blocking=False)
        event = cupy.cuda.Event(block=False, disable_timing=True)
        event.record()
        release_after_event(event, (origin, x, host))
    return PendingCopy(host, relaxed(lambda: bool(event.done)), relaxed(event.synchronize, release_completed))


def copy_many_to_host(arrays: list[Any]) -> list[Any]:
    """Return the values of arrays in C order as NumPy arrays of their own, in one transfer on the current stream."""
    refuse_capture()
    release_completed()
    packed = cupy.concatenate([x.reshape(-1).view(np.uint8) for x in arrays])
    host = np.frombuffer(cupy.cuda.alloc_pinned_memory(packed.nbytes), np.uint8, packed.nbytes)
    packed.get(out=host, blocking=True)
    return split(host, [(x.dtype, x.shape) for x in arrays])


def _from_page_locked(view: Any) -> Any:
    """Return a copy of memory that the device reads itself: straight, which `cupy.asarray` does not do."""
    release_completed()
    made = cupy.empty(view.shape, view.dtype)
    with _unless_all_is_done(cupy.cuda.get_current_stream()):
        made.set(view)
        event = cupy.cuda.Event(block=False, disable_timing=True)
        event.record()
        event.synchronize()  # the owner may write on
    return made


def _is_page_locked(view: Any) -> bool:
    runtime = cupy.cuda.runtime
    try:
        return bool(view.size and runtime.pointerGetAttributes(view.ctypes.data).type == _PAGE_LOCKED)
    except runtime.CUDARuntimeError as error:
        if error.status != _INVALID:  # what HIP before ROCm 6 says of memory that it does not know (ROCm/hip#3057)
            raise
        return False


def _bytes_of(x: Any) -> Any:
    return cupy.ndarray((x.nbytes,), np.uint8, memptr=x.data)


def _buffers() -> list[Any]:
    release_completed()  # those of the last time may be free again
    return [np.frombuffer(cupy.cuda.alloc_pinned_memory(_staging.CHUNK), np.uint8) for _ in range(_staging.SLOTS)]


def _events() -> list[Any]:
    return [cupy.cuda.Event(block=False, disable_timing=True) for _ in range(_staging.SLOTS)]
