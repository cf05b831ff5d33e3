"""The DLPack protocol: device types, dtype codes, flags, the C structures, a capsule read with ctypes, and streams as numbers.

Source: `dlpack.h` 1.3 and its Python specification (https://dmlc.github.io/dlpack/latest/). Reading the
structures ourselves is what lets interop look before it shares: consumers differ in what they check, and
some abort or read wrong memory on inputs that the protocol allows.
"""

from __future__ import annotations

import ctypes
import math
import threading
from ctypes import POINTER, Structure, c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from typing import Any

from interop._model.description import Device, c_strides
from interop._model.identity import is_integer
from interop.errors import LayoutError, ProducerError, StreamError

__all__ = [
    "LEGACY",
    "PER_THREAD",
    "VERSION",
    "Capsule",
    "CapsuleProducer",
    "Owner",
    "dtype_of_code",
    "producer_of",
    "stream_device",
    "stream_number",
]

VERSION = (1, 3)
"""The newest version of the protocol that interop reads; sent to producers as ``max_version``."""

READ_ONLY, SUBBYTE_PADDED = 1, 4  # 2 is IS_COPIED: not looked at, since the pointers tell
CUDA, CUDA_MANAGED = 2, 13
MAX_AXES = 64  # NumPy's limit, and more than any library exports

# DLDeviceType: the device, and the kind of memory on it.
DEVICES: dict[int, tuple[str, str]] = {
    1: ("cpu", "plain"),
    2: ("cuda", "plain"),
    3: ("cpu", "pinned"),
    4: ("opencl", "plain"),
    7: ("vulkan", "plain"),
    8: ("metal", "plain"),
    9: ("ext", "plain"),
    10: ("rocm", "plain"),
    11: ("cpu", "pinned"),
    12: ("ext", "plain"),
    13: ("cuda", "managed"),
    14: ("xpu", "plain"),
    15: ("webgpu", "plain"),
    16: ("hexagon", "plain"),
    17: ("maia", "plain"),
    18: ("ext", "plain"),
}

# DLDataTypeCode of the formats whose width is part of the code.
_FIXED = {
    7: "float8_e3m4",
    8: "float8_e4m3",
    9: "float8_e4m3b11fnuz",
    10: "float8_e4m3fn",
    11: "float8_e4m3fnuz",
    12: "float8_e5m2",
    13: "float8_e5m2fnuz",
    14: "float8_e8m0fnu",
    15: "float6_e2m3fn",
    16: "float6_e3m2fn",
    17: "float4_e2m1fn",
}
_SIZED = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 5: "complex"}


def device_of(code: int, index: int) -> tuple[Device, str]:
    """Return the device and the kind of memory for a DLPack device; unknown codes are ``ext`` devices."""
    kind, memory = DEVICES.get(code, ("ext", "plain"))
    return Device(kind, 0 if kind == "cpu" else index), memory


def dtype_of_code(code: int, bits: int, lanes: int, flags: int = 0) -> str:
    """Return the canonical dtype name; vectors and packed sub-byte types get a name that no library casts.

    >>> dtype_of_code(4, 16, 1), dtype_of_code(2, 32, 4), dtype_of_code(17, 4, 2)
    ('bfloat16', 'float32x4', 'packed float4_e2m1fnx2')
    """
    if code == 6:
        name = "bool" if bits == 8 else f"bool{bits}"
    elif f"float{bits}" in _FIXED.get(code, "").split("_"):  # of another width it is none of them
        name = _FIXED[code]
    else:
        name = f"{_SIZED.get(code, f'opaque{code}_')}{bits}"
        name = {"float128": "longdouble", "complex256": "clongdouble"}.get(name, name)
    packed = "packed " if bits < 8 and not flags & SUBBYTE_PADDED else ""
    return f"{packed}{name}" if lanes == 1 else f"{packed}{name}x{lanes}"


class DLDevice(Structure):
    """`DLDevice`."""

    _fields_ = (("type", c_int32), ("id", c_int32))


class DLDataType(Structure):
    """`DLDataType`."""

    _fields_ = (("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16))


class DLTensor(Structure):
    """`DLTensor`: strides in elements, byte_offset in bytes."""

    _fields_ = (
        ("data", c_void_p),
        ("device", DLDevice),
        ("ndim", c_int32),
        ("dtype", DLDataType),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    )


# With the GIL held: a deleter may be a Python callback, and some touch reference counts without taking it.
_DELETER = ctypes.PYFUNCTYPE(None, c_void_p)


class DLManagedTensor(Structure):
    """`DLManagedTensor`, the legacy structure: no version, no flags."""

    _fields_ = (("tensor", DLTensor), ("manager_ctx", c_void_p), ("deleter", c_void_p))


class DLManagedTensorVersioned(Structure):
    """`DLManagedTensorVersioned`, since DLPack 1.0."""

    _fields_ = (
        ("major", c_uint32),
        ("minor", c_uint32),
        ("manager_ctx", c_void_p),
        ("deleter", c_void_p),
        ("flags", c_uint64),
        ("tensor", DLTensor),
    )


# Prototypes of our own: the attributes of `pythonapi` are shared by everybody in the process, and Warp sets them at each export.
_api = ctypes.pythonapi
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", _api))
_pointer_of = ctypes.PYFUNCTYPE(c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_set_name = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", _api))

# The capsule keeps the pointer to its name, so the bytes must live as long as the process.
_LEGACY, _VERSIONED = b"dltensor", b"dltensor_versioned"
_USED = {_LEGACY: b"used_dltensor", _VERSIONED: b"used_dltensor_versioned"}

_ONCE = "A capsule is consumed once: pass the array that makes it."
_ENDS = 1 << 63  # no address and no count of bytes reaches it: both are signed numbers somewhere on the way

# A capsule is consumed once, also by two threads that are given the same one. Re-entrant: what is allocated meanwhile may run a finalizer.
_consuming = threading.RLock()


class Owner:
    """Owns a consumed managed tensor: calls its deleter once, when the last array on it is gone."""

    __slots__ = ("__array_interface__", "__weakref__", "_address", "_deleter")
    __array_interface__: dict[str, Any]

    def __init__(self, address: int, deleter: int | None) -> None:
        self._address = address
        self._deleter = deleter

    def __del__(self, prototype: Any = _DELETER) -> None:  # an argument: when the interpreter ends, the module's names go first
        deleter, self._deleter = self._deleter, None
        if deleter:  # a NULL deleter is allowed: nothing to free
            prototype(deleter)(self._address)


class Capsule:
    """A DLPack capsule, read without consuming it; one that holds no array that there can be is a `LayoutError`.

    Attributes
    ----------
    version : tuple of int or None
        None for a legacy capsule, which has neither version nor flags.
    device, memory
        The device of the tensor inside, and the kind of memory.
    shape, strides : tuple of int
        Strides in elements; those of C order where the producer left them NULL (allowed before DLPack 1.2).
    pointer : int
        Address of the first element, byte offset added; 0 for NULL.
    readonly : bool or None
        The READ_ONLY flag; None for a legacy capsule, which cannot say, until somebody else does.
    """

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self._name = next((name for name in _USED if _is_valid(raw, name)), b"")
        if not self._name:
            raise ProducerError(f"not a DLPack capsule, or one that was consumed already: {object.__repr__(raw)}", hint=_ONCE)
        self._address: int = _pointer_of(raw, self._name)
        self.version: tuple[int, int] | None = None
        self.readonly: bool | None = None
        self._flags = 0
        structure = DLManagedTensorVersioned if self._name == _VERSIONED else DLManagedTensor
        self._managed: Any = structure.from_address(self._address)
        if self._name == _VERSIONED:
            self.version = major, minor = self._managed.major, self._managed.minor
            if major != VERSION[0]:
                # Nothing behind the deleter may be read: its layout is that of another major version.
                raise _impossible(f"of DLPack version {major}.{minor} is not one that interop reads")
            self._flags = self._managed.flags
            self.readonly = bool(self._flags & READ_ONLY)
        self._read(self._managed.tensor)

    def _read(self, tensor: DLTensor) -> None:
        self.device_codes = (tensor.device.type, tensor.device.id)
        self.device, self.memory = device_of(*self.device_codes)
        self.dtype = dtype_of_code(tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes, self._flags)
        self.itemsize = (tensor.dtype.bits * tensor.dtype.lanes + 7) // 8
        if not 0 <= tensor.ndim <= MAX_AXES or (tensor.ndim and not tensor.shape):
            raise _impossible(f"holds no array: {tensor.ndim} axes")
        if not self.itemsize or self.device.index < 0:
            raise _impossible(f"holds no array: {tensor.dtype.lanes} lanes of {tensor.dtype.bits} bits on {self.device}")
        self.shape: tuple[int, ...] = tuple(tensor.shape[: tensor.ndim]) if tensor.ndim else ()
        # Empty arrays too: whoever counts the bytes of the other axes must be able to.
        if any(extent < 0 for extent in self.shape) or math.prod(extent or 1 for extent in self.shape) * self.itemsize >= _ENDS:
            raise _impossible(f"holds no array: its shape is {self.shape}")
        empty = 0 in self.shape
        given = tensor.strides[: tensor.ndim] if tensor.ndim and tensor.strides else c_strides(self.shape)
        # No element lies along an axis of an empty array, or of length 1: its stride may be any number there, so it becomes one that fits.
        fits = [(extent > 1 and not empty) or abs(step) * self.itemsize < _ENDS for step, extent in zip(given, self.shape, strict=True)]
        self.strides: tuple[int, ...] = tuple(step if fine else 1 for step, fine in zip(given, fits, strict=True))
        self.pointer: int = (tensor.data + tensor.byte_offset) if tensor.data else 0
        reach = [step * (extent - 1) * self.itemsize for step, extent in zip(self.strides, self.shape, strict=True)]
        first = self.pointer + sum(step for step in reach if step < 0)
        last = self.pointer + sum(step for step in reach if step > 0) + self.itemsize
        if self.pointer and not empty and not 0 < first < last < _ENDS:
            raise _impossible(f"holds no array: from {self.pointer:#x} with strides {self.strides} it would reach beyond all memory")

    def relabel(self, code: int) -> None:
        """Change the device type in the capsule; only before it is exported."""
        self._managed.tensor.device.type = code
        self._read(self._managed.tensor)

    def retype(self, name: str) -> None:
        """Change the dtype in the capsule to another of the same width; only before it is exported."""
        codes = (code for code in (*_SIZED, *_FIXED) if dtype_of_code(code, self.itemsize * 8, 1) == name)
        self._managed.tensor.dtype.code = next(codes)
        self._read(self._managed.tensor)

    def consume(self) -> Owner:
        """Consume the managed tensor: the capsule is renamed, and the owner will call the deleter."""
        with _consuming:
            if not _is_valid(self.raw, self._name):
                raise ProducerError("the DLPack capsule was consumed meanwhile", hint=_ONCE)
            _set_name(self.raw, _USED[self._name])
            return Owner(self._address, self._managed.deleter)


def _impossible(what: str) -> LayoutError:
    return LayoutError(f"the capsule {what}", hint="Report it to its library: the capsule breaks the protocol.")


def producer_of(raw: Any) -> CapsuleProducer:
    """Return a producer that exports one capsule; managed memory is labelled as the device memory that it also is.

    torch imports neither managed nor pinned memory (pytorch#96318), though it can work on the former.
    """
    capsule = Capsule(raw)
    if capsule.device_codes[0] == CUDA_MANAGED:
        capsule.relabel(CUDA)
    return CapsuleProducer(raw, capsule.device_codes)


class CapsuleProducer:
    """A producer that exports one capsule, made beforehand: the consumer's own import does the rest.

    The work was ordered when the capsule was made, so the stream that the consumer asks for here is ignored.
    """

    __slots__ = ("_capsule", "_device")

    def __init__(self, capsule: Any, device: tuple[int, int]) -> None:
        self._capsule = capsule
        self._device = device

    def __dlpack__(self, **asked: Any) -> Any:
        """Return the capsule, whatever is asked."""
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return the device of the capsule."""
        return self._device


# Streams: as numbers, in the array API standard's `__dlpack__`; as objects, by the `__cuda_stream__` protocol of cuda.core, which torch
# (2.10 and newer) and CuPy (14 and newer) have; the attributes are what older CuPy streams have.

LEGACY = 1
"""The legacy default stream in the standard's numbering; a native pointer of 0 means this one."""

PER_THREAD = 2
"""The default stream of each thread, in the standard's numbering and in CUDA's own."""

_MEANINGS = "The standard's values are None, -1 (no synchronisation), 1 (legacy), 2 (per-thread) and a pointer greater than 2."


def stream_number(stream: Any, index: int | None = None) -> int:
    """Return the standard's number for an int or a native stream object; StreamError if it is neither, or of another device than the one of an index."""
    if is_integer(stream):
        number = int(stream)
        if number == 0 or number < -1:
            raise StreamError(f"stream={number} is not a CUDA stream: 0 is ambiguous and others are undefined.", hint=_MEANINGS)
        return number
    pointer = _stream_pointer(stream)
    if pointer is None:
        raise StreamError(f"{stream!r} is not a stream.", hint=_MEANINGS)
    own = stream_device(stream)
    if index is not None and own is not None and own != index:
        raise StreamError(
            f"the stream is on cuda:{own}, and the data are on cuda:{index}.", hint="Pass a stream of the device of the data."
        )
    return pointer or LEGACY


def _stream_pointer(stream: Any) -> int | None:
    protocol = getattr(stream, "__cuda_stream__", None)
    if callable(protocol):
        return int(protocol()[1])
    if hasattr(stream, "wait_event"):  # an event and an array's memory have a pointer too
        for attribute in ("cuda_stream", "ptr"):
            found = getattr(stream, attribute, None)
            if isinstance(found, int):
                return found
    return None


def stream_device(stream: Any) -> int | None:
    """Return the index of the device that a native stream object says it is on; None if it says none, as a number does."""
    for holder, attribute in ((stream, "device_index"), (stream, "device_id"), (getattr(stream, "device", None), "device_id")):
        found = getattr(holder, attribute, None)
        if isinstance(found, int) and found >= 0:  # CuPy's default streams say -1: they are on every device
            return found
    found = getattr(getattr(stream, "device", None), "index", None)  # interop's own
    return found if isinstance(found, int) else None
