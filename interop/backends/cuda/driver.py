"""What is asked of CUDA's driver directly, because neither torch nor CuPy exposes it."""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

T = TypeVar("T")

_RELAXED = 2
"""``CU_STREAM_CAPTURE_MODE_RELAXED``"""


class Relaxed:
    """A block in which this thread may ask events and streams how far they are, whichever thread captures a graph meanwhile.

    While anybody captures in the global mode, which is torch's, such a question is an error else, and it ends the capture
    (pytorch#104555). What captures itself must not be asked in any mode.
    """

    __slots__ = ("_mode",)

    def __enter__(self) -> None:
        """Change the mode of this thread."""
        self._mode = ctypes.c_int(_RELAXED)
        try:
            self._exchange()
        except BaseException:
            if self._mode.value != _RELAXED:  # an interrupt that came after it was exchanged
                self._exchange()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Change it back."""
        self._exchange()

    def _exchange(self) -> None:
        if (driver := _driver()) is not None:
            driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(self._mode))


def relaxed(question: Callable[[], T], after: Callable[[], object] | None = None) -> Callable[[], T]:
    """Return a question that is asked so, and what is done after it."""

    def ask() -> T:
        with Relaxed():
            answer = question()
        if after is not None:
            after()
        return answer

    return ask


def version() -> str | None:
    """Return the newest CUDA that the driver can run; None without a driver."""
    number = ctypes.c_int()
    if (driver := _driver()) is None or driver.cuDriverGetVersion(ctypes.byref(number)):
        return None
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


@functools.cache
def _driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
