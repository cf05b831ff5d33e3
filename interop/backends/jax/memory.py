"""Memory that JAX takes as its own: how it has to lie on the host, and how it is exported.

Before 0.12 JAX takes memory from legacy DLPack capsules only. NumPy makes them for neither read-only memory nor the small
floats; JAX writes to none of it, not even where such an array is donated, so both are put right here. Others are asked
for the newest form, since it says more, and get a legacy one around it. Apart from the backend because no JAX is needed.
"""

from __future__ import annotations

import ctypes
from typing import Any

from interop.backends.numpy.backend import is_extension, memory_dtype, tidy, writable
from interop.dlpack import Capsule, CapsuleProducer, DLManagedTensor, DLManagedTensorVersioned, Owner, producer_of


def producer(view: Any) -> CapsuleProducer:
    """Return a producer of a legacy capsule on an ndarray's memory, whatever its dtype, read-only or not."""
    name, view = view.dtype.name, tidy(view)
    plain = view.view(memory_dtype(name)) if is_extension(name) else view
    raw = writable(plain).__dlpack__()
    if is_extension(name):
        Capsule(raw).retype(name)
    return producer_of(raw)


_NAME = b"dltensor"
_api = ctypes.pythonapi
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(("PyCapsule_New", _api))
# In a destructor the capsule has no reference left, so it may only be touched by its address.
_name_at = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(("PyCapsule_GetName", _api))
_pointer_at = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))

_kept: dict[int, tuple[DLManagedTensor, Owner]] = {}
"""What JAX holds now, by address: the structure that it was given, and whose memory it is."""


# Their arguments hold what they need: when the interpreter ends, the module's names go first.


def _let_go(address: int, kept: Any = _kept) -> None:
    kept.pop(address, None)


def _end(capsule: int, kept: Any = _kept, name_at: Any = _name_at, pointer_at: Any = _pointer_at, name: bytes = _NAME) -> None:
    if name_at(capsule) == name:  # it was not taken
        kept.pop(pointer_at(capsule, name), None)


# A deleter takes the GIL: JAX releases memory in threads of its own. A capsule's destructor has it already.
_deleter, _destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_let_go), ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_end)
# They are called as long as JAX and capsules live, which may be longer than this module.
_hold = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", _api))
_hold(_deleter)
_hold(_destructor)


def legacy(given: CapsuleProducer) -> CapsuleProducer:
    """Return a producer of the same memory in a legacy capsule; the other capsule is consumed."""
    capsule = Capsule(given.__dlpack__())
    if capsule.version is None:
        return given
    inside = DLManagedTensorVersioned.from_address(_pointer_at(id(capsule.raw), b"dltensor_versioned"))
    owner = capsule.consume()
    made = DLManagedTensor(inside.tensor, None, ctypes.cast(_deleter, ctypes.c_void_p))
    address = ctypes.addressof(made)
    _kept[address] = made, owner
    return producer_of(_new(address, _NAME, ctypes.cast(_destructor, ctypes.c_void_p)))
