"""What Python does with the emulated device beside CuPy and torch: work for its streams, and what only a test wants."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import itertools
import traceback
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ASSERT", "ILLEGAL_ADDRESS", "LAUNCH_FAILURE", "CudaError", "Emulated"]

ILLEGAL_ADDRESS, ASSERT, LAUNCH_FAILURE = 700, 710, 719
"""Errors that end a context (driver_types.h)."""

_RUN = ctypes.CFUNCTYPE(None, ctypes.c_size_t, ctypes.c_int)


class CudaError(RuntimeError):
    """A call has failed; the libraries have errors of their own for that."""

    def __init__(self, status: int) -> None:
        super().__init__(f"CUDA error {status}")
        self.status = status


class Emulated:
    """The emulated CUDA runtime."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self._jobs: dict[int, Callable[[], object]] = {}
        self._numbers = itertools.count(1)
        self._run = _RUN(self._run_job)
        for function in (library.emulated_calls, library.emulated_dropped):
            function.restype = ctypes.c_size_t
        library.emulated_reachable.restype = ctypes.c_void_p
        atexit.register(library.emulated_finish)

    def calls(self) -> list[str]:
        """Return what was called since this was called last: a function's name, and its arguments without their names."""
        room = self.library.emulated_calls(None, 0) + 4096
        buffer = ctypes.create_string_buffer(room)
        length = self.library.emulated_calls(buffer, room)
        return buffer.raw[:length].decode().splitlines()

    def sleep(self, stream: Any, milliseconds: float = 80) -> None:
        """Keep a stream busy for a time: a stream of CuPy's, or a pointer."""
        _check(self.library.emulated_sleep(_handle(stream), round(milliseconds * 1000)))

    @contextlib.contextmanager
    def held(self, stream: Any) -> Iterator[None]:
        """Have a stream go on only after the block; what waits for it inside waits for ever."""
        gate = self.library.emulated_hold(_handle(stream))
        assert gate
        try:
            yield
        finally:
            self.library.emulated_open(gate)

    def break_(self, status: int = ILLEGAL_ADDRESS, stream: Any = None) -> None:
        """Have every call fail from now on, or from when a stream gets there, until the process ends."""
        if stream is None:
            self.library.emulated_break(status)
        else:
            _check(self.library.emulated_break_behind(_handle(stream), status))

    def launch(self, stream: Any, work: Callable[[], object]) -> None:
        """Have a stream do something, or the graph that it captures; what raises is a kernel that fails, and ends the context."""
        while dropped := self.library.emulated_dropped():
            self._jobs.pop(dropped, None)
        number = next(self._numbers)
        self._jobs[number] = work
        status = self.library.emulated_launch(_handle(stream), self._run, ctypes.c_size_t(number))
        if status:
            del self._jobs[number]
        _check(status)

    def _run_job(self, number: int, is_last: int) -> None:
        work = self._jobs.pop(number) if is_last else self._jobs[number]
        try:
            work()
        except Warning:  # torch raises it when the work is done, and a kernel does not warn
            return
        except IndexError:  # a kernel asserts that its indices are within bounds
            traceback.print_exc()
            self.break_(ASSERT)
        except BaseException:
            traceback.print_exc()
            self.break_(LAUNCH_FAILURE)

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
        return np.frombuffer((ctypes.c_char * count).from_address(self.reachable(pointer)), np.uint8)

    def reachable(self, pointer: int) -> int:
        """Return where the host finds what is at an address of a device."""
        return int(self.library.emulated_reachable(ctypes.c_void_p(pointer)) or 0)


def _check(status: int) -> None:
    if status:
        raise CudaError(status)


def _handle(stream: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(getattr(stream, "ptr", stream))
