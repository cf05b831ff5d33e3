"""CuPy's memory while another library works on it: not handed out again before that work is done.

CuPy's pool gives memory out anew as soon as nobody holds it, to work on the stream on which it was allocated. Memory that was handed
over to work on another stream may be let go of while that work is still to come, and DLPack's deleter knows no stream
(dmlc/dlpack#176). So it is lent: when the other library lets go of it, it waits here for the work that its stream has by then.
It is what `torch.Tensor.record_stream` does for torch's memory.

Inside of a graph capture nothing waits: a graph works on its memory whenever it is replayed, so its inputs have to be kept for as long.
"""

from __future__ import annotations

import functools
import importlib
import sys
from typing import TYPE_CHECKING, Any

import cupy
from cupy.cuda import memory

from interop.backends._cupy_streams import native_stream
from interop.backends._kept import Kept
from interop.backends._streams import LEGACY, holder_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["keep", "lent", "settle"]

lend: Callable[[Any, Callable[[Any], None]], Any] | None
try:
    lend = importlib.import_module("interop._lend").lend
except ImportError:  # an installation without a compiler: `_Lent` does the same, in four times the time
    lend = None

_waiting = Kept()


def lent(x: Any, stream: int, asked: int | None) -> Any:
    """Return a capsule of an array on memory that is lent to work on a stream; `asked` is what CuPy is asked to order the work on."""
    settle()
    device = x.data.mem.device_id
    if lend is None:
        pointer = memory.MemoryPointer(_Lent(x.data.mem, stream), x.data.ptr - x.data.mem.ptr)
        x = cupy.ndarray(x.shape, x.dtype, memptr=pointer, strides=x.strides)
        return x.__dlpack__(stream=asked, max_version=_VERSION)
    came_back = functools.partial(_came_back, device, stream, holder_of(stream))
    return lend(x.__dlpack__(stream=asked, max_version=_VERSION), came_back)


_VERSION = (1, 0)


def settle() -> None:
    """Let go of the memory for which the work is done, in the order in which it came back."""
    _waiting.settle()


def keep(event: Any, what: Any) -> None:
    """Keep something until an event has come; noticed with the next handoff."""
    settle()
    _waiting.keep(lambda: bool(event.done), what)


def _came_back(device: int, stream: int, _holder: Any, own: Any) -> None:
    """Keep memory until the work is done that a stream has by now; `_holder` is what the stream belongs to."""
    if not sys.is_finalizing() and (event := _reached(device, stream)) is not None:
        _waiting.keep(lambda: bool(event.done), own)


class _Lent(memory.BaseMemory):  # type: ignore[misc]  # CuPy has no types
    """Memory of CuPy's in the hands of another library, where nothing was compiled."""

    def __init__(self, own: Any, stream: int) -> None:
        self.ptr, self.size, self.device_id = own.ptr, own.size, own.device_id
        self._own, self._stream, self._holder = own, stream, holder_of(stream)

    def __del__(self) -> None:
        _came_back(self.device_id, self._stream, self._holder, self._own)


def _reached(device: int, stream: int) -> Any | None:
    """Return an event behind the work that a stream has by now; None where there is nothing to wait for."""
    runtime = cupy.cuda.runtime
    if device != runtime.getDevice():
        with cupy.cuda.Device(device):
            return _reached(device, stream)
    pointer = 0 if stream == LEGACY else stream
    try:
        # An event costs more than asking first, and mostly there is nothing left to do. Not inside of a capture, which a question breaks.
        if runtime.streamIsCapturing(pointer) or runtime.streamQuery(pointer) == _SUCCESS:
            return None
        event = cupy.cuda.Event(block=False, disable_timing=True)
        event.record(native_stream(stream))
    except runtime.CUDARuntimeError:
        # It was destroyed before the memory came back, by somebody who gave its number. What it had to do may go on.
        runtime.deviceSynchronize()
        return None
    return event


_SUCCESS = 0
