"""A DLPack producer in pure Python, as honest or as odd as a test needs it, that notes what it was asked."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from interop.description import c_strides
from interop.dlpack import DLManagedTensor, DLManagedTensorVersioned, DLTensor

if TYPE_CHECKING:
    import numpy as np

_KINDS = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_DESTRUCTOR = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_api = ctypes.pythonapi
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_api.PyCapsule_GetName.restype = ctypes.c_char_p
_api.PyCapsule_GetName.argtypes = [ctypes.py_object]
# In a destructor the capsule has no reference left, so it may only be touched by its address.
_name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(("PyCapsule_GetName", _api))

# Producers are never freed: their destructors and deleters are called by the interpreter at times of its own.
_ALIVE: list[Producer] = []

LEGACY, VERSIONED = b"dltensor", b"dltensor_versioned"


class Producer:
    """Exports an ndarray as if it were a library of its own.

    `made` counts the capsules, `deleted` the calls of their deleters, `asked` the keywords of each request.
    """

    def __init__(
        self,
        array: np.ndarray,
        *,
        version: tuple[int, int] | None = (1, 1),
        flags: int = 0,
        dtype: tuple[int, int, int] | None = None,
        strides: Any = "own",
        offset: int = 0,
        null: bool = False,
        null_deleter: bool = False,
        device: tuple[int, int] = (1, 0),
        knows_max_version: bool = True,
        raises: Exception | None = None,
        gives: Any = None,
    ) -> None:
        self.array, self.version, self.flags, self.device = array, version, flags, device
        self.dtype = dtype or (_KINDS[array.dtype.kind], array.itemsize * 8, 1)
        self.own_strides = strides == "own"
        self.offset, self.null, self.null_deleter = offset, null, null_deleter
        self.knows_max_version, self.raises, self.gives = knows_max_version, raises, gives
        self.made = self.deleted = 0
        self._last_name = b""
        self.asked: list[dict[str, Any]] = []
        self._kept: list[Any] = []
        _ALIVE.append(self)

    def means(self) -> np.ndarray:
        """Return the values that a consumer must see; the byte offset cuts elements off the front."""
        return self.array.reshape(-1)[self.offset // self.array.itemsize :] if self.offset else self.array

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, **asked: Any) -> Any:
        self.asked.append(asked)
        if "max_version" in asked and not self.knows_max_version:
            raise TypeError("__dlpack__() got an unexpected keyword argument 'max_version'")
        if self.raises is not None:
            raise self.raises
        device = asked.get("dl_device", self.device)
        return self.gives if self.gives is not None else self._capsule(device)

    def capsule_name(self) -> bytes:
        """Return the name that the last capsule had when it was freed."""
        return self._last_name

    def _capsule(self, device: tuple[int, int]) -> Any:
        self.made += 1
        managed = DLManagedTensor() if self.version is None else DLManagedTensorVersioned()
        self._fill(managed.tensor, device)
        deleter = _DELETER(self._delete)
        managed.deleter = None if self.null_deleter else ctypes.cast(deleter, ctypes.c_void_p)
        if self.version is not None:
            managed.major, managed.minor = self.version
            managed.flags = self.flags
        address = ctypes.addressof(managed)
        destructor = _DESTRUCTOR(lambda capsule: self._destroy(capsule, address))
        self._kept += [managed, deleter, destructor]
        name = LEGACY if self.version is None else VERSIONED
        return _api.PyCapsule_New(address, name, ctypes.cast(destructor, ctypes.c_void_p))

    def _fill(self, tensor: DLTensor, device: tuple[int, int]) -> None:
        shape = self.means().shape
        strides = [step // self.array.itemsize for step in self.means().strides] if self.own_strides else None
        extents = (ctypes.c_int64 * max(len(shape), 1))(*shape)
        steps = (ctypes.c_int64 * max(len(shape), 1))(*(strides or c_strides(shape)))
        self._kept += [extents, steps]
        tensor.data = None if self.null else self.array.__array_interface__["data"][0]
        tensor.device.type, tensor.device.id = device
        tensor.ndim = len(shape)
        tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes = self.dtype
        tensor.shape = ctypes.cast(extents, ctypes.POINTER(ctypes.c_int64))
        tensor.strides = ctypes.cast(steps if strides else None, ctypes.POINTER(ctypes.c_int64))
        tensor.byte_offset = self.offset

    def _delete(self, address: int) -> None:
        self.deleted += 1

    def _destroy(self, capsule: int, address: int) -> None:
        self._last_name = _name_of(capsule)
        if self._last_name in (LEGACY, VERSIONED) and not self.null_deleter:
            self._delete(address)
