"""As much of CUDA's driver as it takes to look at memory from a stream: what a consumer's first kernel there would find."""

from __future__ import annotations

import ctypes
from typing import Any

from conformance.adapters._base import Unsupported

__all__ = ["LEGACY", "PER_THREAD", "Driver"]

LEGACY, PER_THREAD = 1, 2
"""The handles of the default streams, the same in the driver and in the standard."""

_NON_BLOCKING = 1


class Driver:
    """Streams that wait for nothing on their own, and reads that are ordered on them.

    Uses the context that the library made current when it made its array.
    """

    def __init__(self) -> None:
        try:
            self._cuda: Any = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise Unsupported("there is no CUDA driver") from error

    def stream(self) -> int:
        """Return the handle of a new stream; it lives as long as the process."""
        handle = ctypes.c_void_p()
        self._do("cuStreamCreate", ctypes.byref(handle), ctypes.c_uint(_NON_BLOCKING))
        return int(handle.value or 0)

    def read(self, pointer: int, nbytes: int, stream: int) -> bytes:
        """Return what is at an address of the device when a stream gets there, without waiting for any other."""
        room = ctypes.create_string_buffer(nbytes)
        self._do("cuMemcpyDtoHAsync_v2", room, ctypes.c_uint64(pointer), ctypes.c_size_t(nbytes), ctypes.c_void_p(stream))
        self._do("cuStreamSynchronize", ctypes.c_void_p(stream))
        return room.raw

    def _do(self, function: str, *arguments: Any) -> None:
        status = getattr(self._cuda, function)(*arguments)
        if status:
            raise OSError(f"{function} returned {status}")
