"""Deferred release of CuPy's memory: memory still in use by another stream is not reused.

CuPy's pool reuses memory as soon as its last reference is gone, for work on the stream on which it was allocated. A consumer on another
stream may drop its reference while its work is still to come, and DLPack's deleter knows no stream (dmlc/dlpack#176). So the deleter of an
exported capsule only defers the release, until the work that the consumer's stream has by then has completed. For torch's memory
`torch.Tensor.record_stream` does this.

A release during the capture of a graph waits for the end of the capture. A graph works on its memory whenever it is replayed, so its
inputs have to be kept alive for as long.
"""

from __future__ import annotations

import functools
import importlib
import sys
from typing import TYPE_CHECKING, Any

import cupy
from cupy.cuda import memory

from interop.backends.cuda.deferred_release import DeferredRelease, all_done
from interop.backends.cuda.driver import Relaxed
from interop.backends.cuda.streams import stream_owners
from interop.backends.cupy.streams import native_stream
from interop.dlpack import LEGACY, PER_THREAD

if TYPE_CHECKING:
    from collections.abc import Callable

compiled: Callable[[Any, Callable[[Any], None]], Any] | None
try:
    compiled = importlib.import_module("interop.native.lend").defer_release
except ImportError:  # an installation without a compiler: `_DeferredMemory` does the same, in four times the time
    compiled = None

deferred = DeferredRelease()


def defer_release(x: Any, stream: int, asked: int | None) -> Any:
    """Return a capsule of an array, whose release is deferred for work on `stream`; CuPy orders the export before work on `asked`."""
    release_completed()
    device = x.data.mem.device_id
    if compiled is None:
        pointer = memory.MemoryPointer(_DeferredMemory(x.data.mem, stream), x.data.ptr - x.data.mem.ptr)
        x = cupy.ndarray(x.shape, x.dtype, memptr=pointer, strides=x.strides)
        return x.__dlpack__(stream=asked, max_version=_VERSION)
    on_release = functools.partial(_on_release, device, stream, stream_owners(stream))
    return compiled(x.__dlpack__(stream=asked, max_version=_VERSION), on_release)


_VERSION = (1, 0)


def release_completed() -> None:
    """Release the memory whose work has completed."""
    deferred.release_completed()


def release_after_event(event: Any, owner: Any) -> None:
    """Keep something until an event has come that was recorded on the current stream; noticed with the next handoff."""
    release_completed()
    stream = cupy.cuda.get_current_stream()
    deferred.add((cupy.cuda.runtime.getDevice(), stream.ptr), lambda: bool(event.done), owner)


def release_after(number: int, owner: Any) -> None:
    """Keep something for the work that a stream of the current device has by now; of one that captures a graph, for what it has after that."""
    release_completed()
    _on_release(cupy.cuda.runtime.getDevice(), number, stream_owners(number), owner)


def _on_release(device: int, stream: int, owners: Any, own: Any) -> None:
    """Keep memory until the work is done that a stream has by now; `owners` are what it may belong to."""
    if not sys.is_finalizing():
        deferred.defer((device, stream), functools.partial(_ask, device, stream), (own, owners))


class _DeferredMemory(memory.BaseMemory):  # type: ignore[misc]  # CuPy has no types
    """Memory of CuPy's in the hands of another library, where nothing was compiled."""

    def __init__(self, own: Any, stream: int) -> None:
        self.ptr, self.size, self.device_id = own.ptr, own.size, own.device_id
        self._own, self._stream, self._owners = own, stream, stream_owners(stream)

    def __del__(self) -> None:
        _on_release(self.device_id, self._stream, self._owners, self._own)


def _ask(device: int, stream: int) -> Callable[[], bool] | None:
    """Return what tells whether the work is done that a stream has by now; None while it captures a graph."""
    runtime = cupy.cuda.runtime
    if device != runtime.getDevice():
        with cupy.cuda.Device(device):
            return _ask(device, stream)
    # The per-thread one is another in each thread, and this may be any; the legacy one comes behind all of them.
    pointer = 0 if stream in (LEGACY, PER_THREAD) else stream
    with Relaxed():
        try:
            # An event costs more than asking first, and mostly there is nothing left to do. What captures must not be asked.
            if runtime.streamIsCapturing(pointer):
                return None
            if stream != PER_THREAD and runtime.streamQuery(pointer) == _SUCCESS:
                return all_done
            event = cupy.cuda.Event(block=False, disable_timing=True)
            event.record(native_stream(pointer or LEGACY))
        except RuntimeError as error:
            # Nothing can be recorded on the legacy stream while one is captured that it waits for, nor where a capture is broken already.
            if getattr(error, "status", _CAPTURE_IMPLICIT) == _CAPTURE_IMPLICIT:
                return None
            # The stream was given by its number and destroyed before the release. Its work may still go on.
            runtime.deviceSynchronize()
            return all_done
    return lambda: bool(event.done)


_SUCCESS, _CAPTURE_IMPLICIT = 0, 906
