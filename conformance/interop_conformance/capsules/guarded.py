"""Memory that shows misuse: guard bytes around, poison instead of a free, and a fence behind which any access ends the process."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

import numpy as np

from interop.dlpack import DLManagedTensorVersioned

__all__ = ["Memory", "fence", "fenced_structure"]

# Never freed: a consumer may keep a pointer for as long as the process lives.
_ALIVE: list[Any] = []


class Memory:
    """Values in a buffer with guard bytes on both sides, at an address of 256 bytes' alignment plus `shift`."""

    GUARD, POISON, _AROUND = 0xC7, 0xA5, 512

    def __init__(self, values: np.ndarray, *, shift: int = 0) -> None:
        self._bytes = values.tobytes()
        self._raw = np.full(len(self._bytes) + 2 * self._AROUND + 512, self.GUARD, "uint8")
        start = self._AROUND + (-self._raw.ctypes.data - self._AROUND) % 256 + shift
        self._payload = self._raw[start : start + len(self._bytes)]
        self.array = self._payload.view(values.dtype).reshape(values.shape)
        self._guards = (self._raw[:start], self._raw[start + len(self._bytes) :])
        self.keeps: Any = None
        self.restore()
        _ALIVE.append(self)

    def restore(self) -> None:
        """Write the values (again)."""
        self._payload[:] = np.frombuffer(self._bytes, "uint8")

    def poison(self) -> None:
        """Write what no case's values are."""
        self._payload[:] = self.POISON

    def intact(self) -> bool:
        """Return whether the guard bytes are as they were."""
        return all((guard == self.GUARD).all() for guard in self._guards)


_BEHIND_THE_FLAGS = DLManagedTensorVersioned.tensor.offset


def fenced_structure() -> DLManagedTensorVersioned:
    """Return a structure whose fields up to the flags end one page of memory, and whose tensor begins the next."""
    pages = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    _ALIVE.append(pages)
    return DLManagedTensorVersioned.from_buffer(pages, mmap.PAGESIZE - _BEHIND_THE_FLAGS)


def fence(structure: DLManagedTensorVersioned) -> None:
    """Forbid the page in which the tensor of a fenced structure lies: who reads it dies."""
    start = ctypes.addressof(structure) + _BEHIND_THE_FLAGS
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(mmap.PAGESIZE), 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
