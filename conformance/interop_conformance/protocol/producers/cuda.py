"""As much of CUDA's driver as it takes to look at memory from a stream: what a consumer's first kernel there would find."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from interop_conformance.adapters._base import Unsupported
from interop_conformance.capsules.capsule import HOST_READABLE, values

if TYPE_CHECKING:
    import numpy as np

    from interop_conformance.adapters._base import Adapter
    from interop_conformance.capsules.capsule import Tensor

__all__ = ["LEGACY", "PER_THREAD", "Driver", "driver_of", "need_readable", "seen"]

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


def driver_of(adapter: Adapter) -> Any:
    """Return the driver to look with; a miniature library has a miniature one."""
    return getattr(adapter, "driver", None) or Driver()


_CUDA = 2  # kDLCUDA


def need_readable(tensor: Tensor) -> None:
    """Raise `Unsupported` for memory that cannot be read from here."""
    if tensor.device[0] not in {*HOST_READABLE, _CUDA}:
        raise Unsupported("memory that the host cannot read")


def seen(adapter: Adapter, tensor: Tensor, dtype: np.dtype) -> np.ndarray:
    """Return the values that a consumer would find; raises `Unsupported` for memory that cannot be read.

    The memory of a device is read by the driver: a read by the host would end the process.
    """
    need_readable(tensor)
    if tensor.device[0] in HOST_READABLE:
        return values(tensor, dtype)
    driver = driver_of(adapter)
    return values(tensor, dtype, lambda address, nbytes: driver.read(address, nbytes, LEGACY))
