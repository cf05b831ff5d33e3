"""A DLPack capsule as it is: every field read without consuming it, nothing judged and nothing normalised.

`interop.dlpack.Capsule` reads what can be shared and refuses the rest. Here an oddity is a finding, so NULL stays NULL and an unknown flag
stays set. The structures are the same ones.
"""

from __future__ import annotations

import ctypes
import datetime as dt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from interop.dlpack import DLManagedTensor, DLManagedTensorVersioned

if TYPE_CHECKING:
    from collections.abc import Callable

    from interop.dlpack import DLTensor

__all__ = [
    "HOST_READABLE",
    "Consumed",
    "Counted",
    "Facts",
    "NotACapsuleError",
    "Tensor",
    "consume",
    "facts_at",
    "is_capsule",
    "looks_versioned",
    "name_pointer",
    "read",
    "tensor_of",
    "values",
]

MAJOR = 1
"""The major version whose layout the structures have; behind the deleter of any other nothing may be read."""

HOST_READABLE = frozenset({1, 3, 11, 13})
"""The device types whose memory this process can read: plain, both kinds of pinned, and managed."""

_MAX_AXES = 1024  # no library has more: a larger number is not an axis count

_Capsule = type(dt.datetime_CAPI)  # types.CapsuleType, before Python 3.13

# Prototypes of our own: the attributes of `pythonapi` are shared by everybody in the process.
_api = ctypes.pythonapi
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_set_name = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", _api))
_name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", _api))
_name_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyCapsule_GetName", _api))

# The capsule keeps the pointer to its name, so the bytes must live as long as the process.
_USED = {b"dltensor": b"used_dltensor", b"dltensor_versioned": b"used_dltensor_versioned"}
_STRUCTURES: dict[bytes, type[DLManagedTensor | DLManagedTensorVersioned]] = {
    b"dltensor": DLManagedTensor,
    b"used_dltensor": DLManagedTensor,
    b"dltensor_versioned": DLManagedTensorVersioned,
    b"used_dltensor_versioned": DLManagedTensorVersioned,
}

# Holding the GIL, as a consumer's array does that dies in Python.
_DELETER = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)

# A library may still hold the pointer to a trampoline, so they live as long as the process.
_TRAMPOLINES: list[Any] = []


class NotACapsuleError(TypeError):
    """The export is no capsule at all."""


class Tensor(NamedTuple):
    """`DLTensor`: strides in elements, None for NULL, as is `shape`; `data` is 0 for NULL; `byte_offset` not yet added."""

    data: int
    device: tuple[int, int]
    ndim: int
    dtype: tuple[int, int, int]
    shape: tuple[int, ...] | None
    strides: tuple[int, ...] | None
    byte_offset: int

    @property
    def pointer(self) -> int:
        """Return the address of the first element, 0 for NULL."""
        return self.data + self.byte_offset if self.data else 0


class Facts(NamedTuple):
    """What a capsule holds. `version` is None for the legacy structure, which has neither version nor flags.

    `tensor` is None where its layout is not known: another major version, or a name that says nothing of the structure.
    """

    name: str | None
    version: tuple[int, int] | None
    flags: int
    deleter: int
    tensor: Tensor | None

    @property
    def legacy(self) -> bool:
        """Return whether it holds a `DLManagedTensor`."""
        return self.version is None


def is_capsule(raw: Any) -> bool:
    """Return whether an object is a capsule, of whatever name."""
    return isinstance(raw, _Capsule)


def read(raw: Any) -> Facts:
    """Return what a capsule holds; it stays as it was. Raises `NotACapsuleError` for anything else."""
    name = _raw_name(raw)
    if name not in _STRUCTURES:
        return Facts(None if name is None else name.decode(errors="replace"), None, 0, 0, None)
    return facts_at(_address(raw), versioned=_STRUCTURES[name] is DLManagedTensorVersioned, name=name.decode())


def _raw_name(raw: Any) -> bytes | None:
    if not is_capsule(raw):
        raise NotACapsuleError(f"a {type(raw).__name__} instead of a capsule")
    name: bytes | None = _name_of(raw)
    return name


def _address(raw: Any) -> int:
    address: int = _pointer_of(raw, _raw_name(raw))
    return address


def facts_at(address: int, *, versioned: bool, name: str | None = None) -> Facts:
    """Return what the managed tensor at an address says."""
    if not versioned:
        legacy = DLManagedTensor.from_address(address)
        return Facts(name, None, 0, legacy.deleter or 0, tensor_of(legacy.tensor))
    managed = DLManagedTensorVersioned.from_address(address)
    known = managed.major == MAJOR
    version = (managed.major, managed.minor)
    return Facts(name, version, managed.flags if known else 0, managed.deleter or 0, tensor_of(managed.tensor) if known else None)


def tensor_of(tensor: DLTensor) -> Tensor:
    """Return what a `DLTensor` says."""
    # Copied out, so that nothing dangles when the capsule is gone.
    length = tensor.ndim if 0 <= tensor.ndim <= _MAX_AXES else 0
    return Tensor(
        tensor.data or 0,
        (tensor.device.type, tensor.device.id),
        tensor.ndim,
        (tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes),
        tuple(tensor.shape[:length]) if tensor.shape else None,
        tuple(tensor.strides[:length]) if tensor.strides else None,
        tensor.byte_offset,
    )


def name_pointer(raw: Any) -> int:
    """Return where the name of a capsule is stored."""
    where: int = _name_pointer_of(raw)
    return where


def looks_versioned(raw: Any) -> bool:
    """Return whether the structure in a capsule begins with a version, whatever the name says of it.

    The legacy one begins with a data pointer, which is not a small odd number in one half and a small number in the other.
    """
    begins = DLManagedTensorVersioned.from_address(_address(raw))
    major, minor = int(begins.major), int(begins.minor)
    return 0 < major < 10 and minor < 100  # any that there may be for a long time


def values(tensor: Tensor, dtype: np.dtype, read: Callable[[int, int], bytes] = ctypes.string_at) -> np.ndarray:
    """Return the elements as a consumer would find them, in memory of their own.

    ``read(address, nbytes)`` returns what is in memory; the default is for memory that the host can read.
    """
    shape = tensor.shape or ()
    steps = tensor.strides if tensor.strides is not None else _row_major(shape)
    # Along an axis of length 1 there is nowhere to go, and any stride is right.
    in_bytes = [step * dtype.itemsize if extent > 1 else 0 for step, extent in zip(steps, shape, strict=True)]
    if 0 in shape:
        return np.empty(shape, dtype)
    reach = [step * (extent - 1) for step, extent in zip(in_bytes, shape, strict=True)]
    low, high = sum(r for r in reach if r < 0), sum(r for r in reach if r > 0) + dtype.itemsize
    return np.ndarray(shape, dtype, read(tensor.pointer + low, high - low), -low, tuple(in_bytes)).copy()


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    steps, step = [], 1
    for extent in reversed(shape):
        steps.append(step)
        step *= extent
    return tuple(reversed(steps))


def consume(raw: Any) -> Consumed:
    """Rename a capsule to ``used_*``, as a consumer does; the deleter is then the caller's to call."""
    name = _raw_name(raw)
    if name not in _USED:
        raise NotACapsuleError(f"a capsule named {name!r} instead of one to consume")
    address = _address(raw)
    _set_name(raw, _USED[name])
    return Consumed(address, versioned=_STRUCTURES[name] is DLManagedTensorVersioned)


class Consumed:
    """A managed tensor that is ours: its deleter is called once, by `delete`, and never by itself."""

    def __init__(self, address: int, *, versioned: bool) -> None:
        self.address, self.versioned = address, versioned

    def facts(self) -> Facts:
        """Return what it says; only before `delete`."""
        return facts_at(self.address, versioned=self.versioned)

    def delete(self, *, foreign: bool = False) -> None:
        """Call the deleter, unless it is NULL; `foreign` from a thread that Python knows nothing of."""
        address, self.address = self.address, 0
        deleter = (DLManagedTensorVersioned if self.versioned else DLManagedTensor).from_address(address).deleter
        if not deleter:
            return
        if foreign:
            _in_a_foreign_thread(deleter, address)
        else:
            _DELETER(deleter)(address)


def _in_a_foreign_thread(function: int, argument: int) -> None:
    # Not threading.Thread, which has a thread state in Python: a consumer's own threads have none. CDLL lets go of the GIL meanwhile.
    threads = ctypes.CDLL(None)
    thread = ctypes.c_size_t()
    threads.pthread_create.argtypes = [ctypes.POINTER(ctypes.c_size_t), ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    threads.pthread_join.argtypes = [ctypes.c_size_t, ctypes.c_void_p]
    # A deleter returns nothing where pthread_create expects a pointer; it is not used.
    if threads.pthread_create(ctypes.byref(thread), None, function, argument):
        raise OSError("no thread could be started")
    threads.pthread_join(thread, None)


class Counted:
    """Counts the calls of a capsule's deleter: a trampoline takes its place, puts it back when called, and calls it.

    A second call is counted and goes no further, since what the deleter frees is gone after the first.
    """

    def __init__(self, raw: Any) -> None:
        name = _raw_name(raw)
        if name not in _STRUCTURES:
            raise NotACapsuleError(f"a capsule named {name!r}, which says nothing of its structure")
        self.calls = 0
        self._managed = _STRUCTURES[name].from_address(_address(raw))
        self._original: int = self._managed.deleter or 0
        self._trampoline = _DELETER(self._called)
        _TRAMPOLINES.append(self._trampoline)
        if self._original:  # NULL means that there is nothing to call, and so it stays
            self._managed.deleter = ctypes.cast(self._trampoline, ctypes.c_void_p)

    @property
    def has_deleter(self) -> bool:
        """Return whether there is a deleter to count; NULL is allowed."""
        return bool(self._original)

    def _called(self, address: int) -> None:
        self.calls += 1
        if self.calls == 1:
            self.restore()
            _DELETER(self._original)(address)

    def restore(self) -> None:
        """Put the library's deleter back; only as long as the managed tensor is there."""
        self._managed.deleter = self._original or None
