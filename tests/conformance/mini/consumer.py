"""A miniature library that takes DLPack by the book, in pure Python; and, by name, every way in which a consumer can fail to.

`Mini(fault)` is an adapter. A fault is named after the rule that it violates; what it does instead stands where it does it.
"""

from __future__ import annotations

import ctypes
import math
import threading
from typing import TYPE_CHECKING, Any, ClassVar

import ml_dtypes
import numpy as np
from interop_conformance.adapters import Adapter
from interop_conformance.capsules.crafted import LEGACY, SUBBYTE_PADDED, USED, VERSIONED, rename

from interop._model.description import c_strides
from interop.dlpack import DLManagedTensor, DLManagedTensorVersioned, dtype_of_code

if TYPE_CHECKING:
    from interop_conformance.matrix.layouts import Layout

CPU, CUDA = (1, 0), (2, 0)
READ_ONLY, IS_COPIED = 1, 2
WIDTHS = {
    0: (8, 16, 32, 64),
    1: (8, 16, 32, 64),
    2: (16, 32, 64),
    4: (16,),
    5: (64, 128),
    6: (8,),
    **dict.fromkeys(range(7, 15), (8,)),
    17: (4,),
}

_api = ctypes.pythonapi
_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", _api))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_set_name = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_void_p)(("PyCapsule_SetName", _api))
_DELETER = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)


class Owner:
    """Owns a managed tensor; its deleter is called when the last array on it dies."""

    def __init__(self, address: int, deleter: int | None, fault: str) -> None:
        self.address, self.deleter, self.fault, self.thread = address, deleter, fault, threading.get_ident()
        self.name: Any = None

    def delete(self) -> None:
        deleter, self.deleter = self.deleter, None
        if self.name is not None:
            ctypes.memset(self.name, 0, len(self.name))
        if self.fault == "deleter-null" and not deleter:
            ctypes.string_at(0)  # what calling it comes to
        if deleter and not (self.fault == "deleter-thread" and threading.get_ident() != self.thread):
            _DELETER(deleter)(self.address)
            if self.fault == "deleter-once":
                _DELETER(deleter)(self.address)

    def __del__(self) -> None:
        if self.fault != "deleter-called":
            self.delete()


class Array:
    """An array of the miniature library: NumPy's, over memory that another object owns."""

    def __init__(self, held: np.ndarray, device: tuple[int, int], device_name: str = "mini") -> None:
        self.held, self.kind, self.device = held, device, device_name
        self.owner: Owner | None = None

    def __getitem__(self, index: Any) -> Array:
        return Array(self.held[index], self.kind, self.device)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind


class Mini(Adapter):
    """The miniature library. On `cuda` it says that its memory, the host's, is CUDA's."""

    name: ClassVar[str] = "mini"
    states: ClassVar[tuple[str, ...]] = ("plain", "read-only")

    def __init__(self, fault: str = "", device: str = "cpu") -> None:
        self.fault, self.device = fault, device  # type: ignore[misc]
        self.own = CPU if device == "cpu" else CUDA

    def available(self) -> str:
        return ""

    def version(self) -> str:
        return "1"

    def make(self, values: np.ndarray) -> Any:
        return Array(np.array(values), self.own)

    def lay(self, x: Any, layout: Layout) -> Any:
        return Array(layout.view(x.held), self.own)

    def values(self, x: Any) -> np.ndarray:
        return np.array(x.held)

    def pointer(self, x: Any) -> int:
        return int(x.held.__array_interface__["data"][0])

    def writeable(self, x: Any) -> bool:
        return bool(x.held.flags.writeable)

    def from_dlpack(self, x: Any, /, **keywords: Any) -> Any:
        if self.fault == "keywords" and keywords:
            raise TypeError("from_dlpack() got an unexpected keyword argument")
        return self._taken(x, **keywords)

    def _taken(self, x: Any, *, device: Any = None, copy: bool | None = None) -> Array:
        if self.fault == "no-protocol" and not hasattr(x, "__dlpack__"):
            raise TypeError("not an array")
        source, target = self._devices(x, device)
        raw, asked = self._asked(x, self._keywords(source, target, copy))
        held = self._read(raw, source if self.fault == "device-of-capsule" else None)
        unserved = copy and (not asked or self.fault == "passes-copy")
        if self.fault == "copy-true-legacy" and not asked:
            unserved = False
        if unserved or self.fault == "zero-copy" or (self.fault == "copy-false" and copy is False):
            held = held.copy()
        made = Array(held, self.own, "elsewhere" if self.fault == "device-default" else "mini")
        made.owner = self.__dict__.pop("owner_of_last", None)
        return made

    # Asking.

    def _devices(self, x: Any, device: Any) -> tuple[tuple[int, int], tuple[int, int] | None]:
        source = x.__dlpack_device__()
        target = CPU if device is not None and self.fault != "passes-dl-device" else None
        if target and self.fault == "device-cpu":
            raise RuntimeError("no devices here")
        if target is None and source != self.own:
            if self.fault == "passes-dl-device":
                return source, None
            raise (RuntimeError if self.fault == "device-unsupported" else BufferError)(f"no device {source}")
        return source, target

    def _keywords(self, source: tuple[int, int], target: Any, copy: bool | None) -> dict[str, Any]:
        keywords: dict[str, Any] = {} if self.fault == "max-version-passed" else {"max_version": (1, 3)}
        if self.fault == "max-version-form":
            keywords["max_version"] = [1, 3]
        if target:
            keywords["dl_device"] = target
        if copy is not None and self.fault not in {"passes-copy", "copy-true", "copy-false-refusal", "device-cpu-copy-false"}:
            keywords["copy"] = copy
        if self.fault == "stream-cpu":
            keywords["stream"] = 1
        if source == CUDA and not target and self.fault != "stream-passed":
            keywords["stream"] = 0 if self.fault == "stream-zero" else 1
        return keywords

    def _asked(self, x: Any, keywords: dict[str, Any]) -> tuple[Any, bool]:
        """Return the capsule, and whether the producer knew the keywords."""
        try:
            return x.__dlpack__(**keywords), True
        except TypeError:
            if self.fault == "retries-legacy":
                raise
        except BufferError:
            if self.fault != "propagates-buffer-error":
                raise
        except Exception as error:
            if self.fault == "propagates-other":
                raise RuntimeError("something went wrong") from error
            raise
        return x.__dlpack__(), False

    # Reading.

    def _read(self, raw: Any, device: tuple[int, int] | None) -> np.ndarray:
        name, managed, owner = self._consumed(raw)
        try:
            flags = self._checked(name, managed)
            return self._array(managed.tensor, flags, owner, device, name, managed)
        except BaseException:
            if self.fault == "deleter-on-refusal" or (self.fault == "major-deleter" and name == VERSIONED and managed.major != 1):
                owner.deleter = None
            raise

    def _consumed(self, raw: Any) -> tuple[bytes, Any, Owner]:
        name = next((name for name in (LEGACY, VERSIONED) if _valid(raw, name)), None)
        label = name
        if name is None and self.fault == "consumes-once":
            name, label = next((fresh, used) for fresh, used in USED.items() if _valid(raw, used))
        if name is None or label is None:
            raise BufferError("not a capsule, or a used one")
        address = _pointer(raw, label)
        managed: Any = (DLManagedTensor if name == LEGACY else DLManagedTensorVersioned).from_address(address)
        if self.fault == "deleter-not-early":
            _DELETER(managed.deleter)(address)
        skipped = self.fault == "deleter-not-early" or (self.fault == "context-null" and not managed.manager_ctx)
        owner = Owner(address, None if skipped else managed.deleter, self.fault)
        if self.fault == "name-goes-away":
            owner.name = ctypes.create_string_buffer(USED[name])
            _set_name(raw, owner.name)
        elif self.fault != {LEGACY: "renames-legacy", VERSIONED: "renames-versioned"}[name]:
            rename(raw, USED[name])
        return name, managed, owner

    def _checked(self, name: bytes, managed: Any) -> int:
        """Return the flags, once the version is one that is known."""
        if name == LEGACY:
            if self.fault == "accepts-legacy":
                raise BufferError("too old")
            return 0
        if self.fault == "major-untouched" and managed.tensor.ndim > 64:
            raise BufferError("too many axes")
        if managed.major != 1 and self.fault != "major-refused":
            raise BufferError("too new")
        if self.fault == "minor-newer" and managed.minor > 3:
            raise BufferError("too new")
        flags = int(managed.flags)
        if (self.fault, flags & 3) in {("readonly-accepted", READ_ONLY), ("copied-accepted", IS_COPIED)}:
            raise BufferError("not such a one")
        return 0 if self.fault == "readonly-kept" or (self.fault == "flags-unknown" and flags > 7) else flags

    def _array(self, tensor: Any, flags: int, owner: Owner, device: Any, name: bytes, managed: Any) -> np.ndarray:
        if (device or (tensor.device.type, tensor.device.id)) not in {self.own, CPU}:
            raise BufferError("no such device")
        shape = tuple(tensor.shape[: tensor.ndim]) if tensor.ndim else ()
        if self.fault == "scalar-0d" and not shape:
            shape = (1,)
        if self.fault == "values":
            shape = shape[::-1]
        dtype = self._dtype(tensor.dtype, flags)
        pointer = self._address(tensor, math.prod(shape))
        if pointer is None:
            return np.empty(shape, dtype)
        strides = self._strides(tensor, shape, name, managed)
        if tensor.dtype.bits == 4 and (not flags & SUBBYTE_PADDED or self.fault == "dtype-subbyte-layout"):
            return self._unpacked(pointer, shape, dtype, owner)
        if self.fault == "deleter-view" and shape:
            whole = np.frombuffer((ctypes.c_char * (math.prod(shape) * dtype.itemsize)).from_address(pointer), dtype).reshape(shape)
            self.owner_of_last = owner  # and not of the views
            return whole
        return _over(owner, pointer, shape, [step * dtype.itemsize for step in strides], dtype, bool(flags & READ_ONLY))

    def _address(self, tensor: Any, size: int) -> int | None:
        """Return the first element's address; None for fresh memory."""
        if not size:
            if self.fault == "zero-size" and not tensor.data:
                raise BufferError("no data")
            return 0
        if not tensor.data:
            if self.fault == "null-data":
                return None
            raise BufferError("no data")
        pointer = int(tensor.data) + (0 if self.fault == "byte-offset" else tensor.byte_offset)
        return pointer - pointer % 8 if self.fault == "unaligned" else pointer

    def _strides(self, tensor: Any, shape: tuple[int, ...], name: bytes, managed: Any) -> tuple[int, ...]:
        if not tensor.strides or len(shape) != tensor.ndim:
            if self.fault == "strides-null" and shape:
                raise BufferError("no strides")
            newest = name == VERSIONED and (managed.major, managed.minor) >= (1, 2)
            return c_strides(shape[::-1])[::-1] if newest and self.fault == "strides-null-since-1.2" else c_strides(shape)
        strides = tuple(tensor.strides[: tensor.ndim])
        if self.fault == "strides-negative":
            return tuple(map(abs, strides))
        if self.fault == "strides-broadcast" and 0 in strides:
            return tuple(step or 1 for step in strides)
        return c_strides(shape) if self.fault in {"strides", "values"} else strides

    def _dtype(self, read: Any, flags: int) -> np.dtype:
        code, bits, lanes = read.code, read.bits, read.lanes
        if lanes != 1 and self.fault != "dtype-lanes":
            raise BufferError("no vectors here")
        if code == 17 and bits == 8 and self.fault == "dtype-subbyte-bits":
            return np.dtype("uint8")
        if bits == 24 and self.fault == "dtype-bits":
            bits = 32
        if code not in WIDTHS and self.fault == "dtype-unknown":
            code = 2
        if bits not in WIDTHS.get(code, ()) or (self.fault == "dtype-standard" and (code, bits) == (1, 16)):
            raise BufferError("no such type")
        name = dtype_of_code(code, bits, 1, flags).removeprefix("packed ")
        name = {("dtype-bfloat16", "bfloat16"): "float16", ("dtype-float8", "float8_e4m3fn"): "float8_e5m2"}.get((self.fault, name), name)
        return np.dtype(getattr(ml_dtypes, name, name))

    def _unpacked(self, pointer: int, shape: tuple[int, ...], dtype: np.dtype, owner: Owner) -> np.ndarray:
        size = math.prod(shape)
        raw = np.frombuffer(ctypes.string_at(pointer, (size + 1) // 2), "uint8")
        owner.delete()
        return np.stack([raw & 15, raw >> 4], -1).reshape(-1)[:size].view(dtype).reshape(shape)


def _over(owner: Owner, pointer: int, shape: tuple[int, ...], strides: list[int], dtype: np.dtype, readonly: bool) -> np.ndarray:
    plain = f"|V{dtype.itemsize}"
    owner.__array_interface__ = {"data": (pointer, readonly), "shape": shape, "strides": tuple(strides), "typestr": plain, "version": 3}  # type: ignore[attr-defined]
    return np.asarray(owner).view(dtype)
