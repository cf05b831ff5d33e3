"""What the tests do with the emulated device beside CuPy."""

from __future__ import annotations

import contextlib
import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Emulated"]

_WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Emulated:
    """The emulated CUDA runtime."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._kept: list[Any] = []
        library.emulated_calls.restype = ctypes.c_size_t
        library.emulated_reachable.restype = ctypes.c_void_p

    def calls(self) -> list[str]:
        """Return what was called since this was called last: a function's name, and its arguments without their names."""
        room = self._library.emulated_calls(None, 0) + 4096
        buffer = ctypes.create_string_buffer(room)
        length = self._library.emulated_calls(buffer, room)
        return buffer.raw[:length].decode().splitlines()

    def sleep(self, stream: Any, milliseconds: int = 80) -> None:
        """Keep a stream busy for a time: a stream of CuPy's, or a pointer."""
        self._check(self._library.emulated_sleep(_handle(stream), milliseconds))

    @contextlib.contextmanager
    def held(self, stream: Any) -> Iterator[None]:
        """Have a stream go on only after the block; what waits for it inside waits for ever."""
        gate = self._library.emulated_hold(_handle(stream))
        assert gate
        try:
            yield
        finally:
            self._library.emulated_open(gate)

    def launch(self, stream: Any, work: Callable[[], object]) -> None:
        """Have a stream do something."""
        run = _WORK(lambda _: work())
        self._kept.append(run)
        self._check(self._library.cudaLaunchHostFunc(_handle(stream), run, None))

    def see(self, x: Any) -> np.ndarray[Any, Any]:
        """Return an array of CuPy's as NumPy sees the same memory, past all streams."""
        if not x.size:
            return np.empty(x.shape, x.dtype)
        reach = [step * (length - 1) for step, length in zip(x.strides, x.shape, strict=True)]
        low, high = sum(n for n in reach if n < 0), sum(n for n in reach if n > 0) + x.itemsize
        return np.ndarray(x.shape, x.dtype, self.bytes_at(x.data.ptr + low, high - low).data, offset=-low, strides=x.strides)

    def bytes_at(self, pointer: int, count: int) -> np.ndarray[Any, Any]:
        """Return the bytes at an address of a device."""
        if not count:
            return np.empty(0, np.uint8)
        start = self._library.emulated_reachable(ctypes.c_void_p(pointer))
        return np.frombuffer((ctypes.c_char * count).from_address(start), np.uint8)

    @staticmethod
    def _check(status: int) -> None:
        assert status == 0, f"CUDA error {status}"


def _handle(stream: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(getattr(stream, "ptr", stream))
