"""CuPy's memory while another library works on it: not handed out again before that work is done.

CuPy's pool gives memory out anew as soon as nobody holds it, to work on the stream on which it was allocated. Memory that was handed
over to work on another stream may be let go of while that work is still to come, and DLPack's deleter knows no stream
(dmlc/dlpack#176). So it is lent: when the other library lets go of it, it waits here for the work that its stream has by then.
It is what `torch.Tensor.record_stream` does for torch's memory.

Inside of a graph capture nothing waits: a graph works on its memory whenever it is replayed, so its inputs have to be kept for as long.
"""

from __future__ import annotations

import sys
from typing import Any

import cupy
from cupy.cuda import memory

from interop.backends._cupy_streams import native_stream
from interop.backends._kept import Kept
from interop.backends._streams import holder_of

__all__ = ["keep", "lent", "settle"]

_waiting = Kept()


def lent(x: Any, stream: int) -> Any:
    """Return the same array on memory that is lent to work on a stream."""
    settle()
    pointer = memory.MemoryPointer(Lent(x.data.mem, stream), x.data.ptr - x.data.mem.ptr)
    return cupy.ndarray(x.shape, x.dtype, memptr=pointer, strides=x.strides)


def settle() -> None:
    """Let go of the memory for which the work is done, in the order in which it came back."""
    _waiting.settle()


def keep(event: Any, what: Any) -> None:
    """Keep something until an event has come; noticed with the next handoff."""
    settle()
    _waiting.keep(lambda: bool(event.done), what)


class Lent(memory.BaseMemory):  # type: ignore[misc]  # CuPy has no types
    """Memory of CuPy's in the hands of another library."""

    def __init__(self, own: Any, stream: int) -> None:
        self.ptr, self.size, self.device_id = own.ptr, own.size, own.device_id
        self._own, self._stream, self._holder = own, stream, holder_of(stream)

    def __del__(self) -> None:
        """Keep the memory until the work is done that the stream has by now."""
        if not sys.is_finalizing() and (event := _reached(self.device_id, self._stream)) is not None:
            _waiting.keep(lambda: bool(event.done), self._own)


def _reached(device: int, stream: int) -> Any | None:
    """Return an event behind the work that a stream has by now; None where there is nothing to wait for."""
    with cupy.cuda.Device(device):
        there = native_stream(stream)
        try:
            if cupy.cuda.runtime.streamIsCapturing(there.ptr):
                return None
            event = cupy.cuda.Event(block=False, disable_timing=True)
            event.record(there)
        except cupy.cuda.runtime.CUDARuntimeError:
            # It was destroyed before the memory came back, by somebody who gave its number. What it had to do may go on.
            cupy.cuda.runtime.deviceSynchronize()
            return None
    return None if event.done else event
