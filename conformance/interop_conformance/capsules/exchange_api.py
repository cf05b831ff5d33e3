"""DLPack's C exchange API (since 1.3) by ctypes: the table of functions that a type holds in ``__dlpack_c_exchange_api__``.

The functions are called with the GIL held; the Python exceptions that they set are raised here. Nothing is synchronised by them.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_int, c_int32, c_uint32, c_void_p, py_object
from typing import TYPE_CHECKING, Any, NamedTuple

from interop.dlpack import DLTensor
from interop_conformance.adapters._base import Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ALLOCATOR",
    "ATTRIBUTE",
    "CAPSULE",
    "FROM_OBJECT",
    "INTO_TENSOR",
    "SET_ERROR",
    "STREAM",
    "TO_OBJECT",
    "Api",
    "Header",
    "ReportedError",
    "SilentError",
    "Table",
    "address_in",
    "api_of",
    "capsule_name",
]

ATTRIBUTE, CAPSULE = "__dlpack_c_exchange_api__", b"dlpack_exchange_api"

SET_ERROR = ctypes.PYFUNCTYPE(None, c_void_p, c_char_p, c_char_p)
ALLOCATOR = ctypes.PYFUNCTYPE(c_int, POINTER(DLTensor), POINTER(c_void_p), c_void_p, SET_ERROR)
FROM_OBJECT = ctypes.PYFUNCTYPE(c_int, py_object, POINTER(c_void_p))
TO_OBJECT = ctypes.PYFUNCTYPE(c_int, c_void_p, POINTER(c_void_p))
INTO_TENSOR = ctypes.PYFUNCTYPE(c_int, py_object, POINTER(DLTensor))
STREAM = ctypes.PYFUNCTYPE(c_int, c_int32, c_int32, POINTER(c_void_p))


class Header(Structure):
    """`DLPackExchangeAPIHeader`: what stays the same in every version. `older` is the table of an older major version, or NULL."""

    _fields_ = (("major", c_uint32), ("minor", c_uint32), ("older", c_void_p))


class Table(Structure):
    """`DLPackExchangeAPI`: the addresses of the functions. Only `into_tensor` may be NULL."""

    _fields_ = (
        ("header", Header),
        ("allocator", c_void_p),
        ("from_object", c_void_p),
        ("to_object", c_void_p),
        ("into_tensor", c_void_p),
        ("stream", c_void_p),
    )


class ReportedError(NamedTuple):
    """What the allocator's error callback got."""

    kind: str
    message: str


_api = ctypes.pythonapi
_pointer_of = ctypes.PYFUNCTYPE(c_void_p, py_object, c_char_p)(("PyCapsule_GetPointer", _api))
_name_of = ctypes.PYFUNCTYPE(c_char_p, py_object)(("PyCapsule_GetName", _api))
_taken_over = ctypes.PYFUNCTYPE(None, c_void_p)(("Py_DecRef", _api))


class SilentError(RuntimeError):
    """A function of the table reported failure, and set no Python exception."""


class Api:
    """The table of one type, and its functions as Python calls. Managed tensors are addresses: who gets one calls its deleter."""

    def __init__(self, address: int) -> None:
        self.header = Header.from_address(address)
        self.table = Table.from_address(address)

    @property
    def version(self) -> tuple[int, int]:
        """Return the major and minor version."""
        return (self.header.major, self.header.minor)

    def chain(self) -> Iterator[Header]:
        """Yield this header and those of older major versions, as far as they are linked."""
        header = self.header
        while True:
            yield header
            if not header.older:
                return
            header = Header.from_address(header.older)

    def require(self, function: str) -> None:
        """Raise `Unsupported` if a function is NULL: the rule about that reports it."""
        if not getattr(self.table, function):
            raise Unsupported(f"{function} is NULL")

    def from_object(self, x: Any) -> int:
        """Export an array, and return its managed tensor, 0 for NULL; raises what the function set."""
        out = c_void_p()
        _unless_failed(FROM_OBJECT(self.table.from_object)(x, ctypes.byref(out)), "managed_tensor_from_py_object_no_sync")
        return out.value or 0

    def into_tensor(self, x: Any) -> DLTensor:
        """Export an array without owning it; good until control goes back to the library."""
        tensor = DLTensor()
        _unless_failed(INTO_TENSOR(self.table.into_tensor)(x, ctypes.byref(tensor)), "dltensor_from_py_object_no_sync")
        return tensor

    def to_object(self, managed: int) -> Any:
        """Import a managed tensor, which belongs to the library from then on."""
        out = c_void_p()
        _unless_failed(TO_OBJECT(self.table.to_object)(managed, ctypes.byref(out)), "managed_tensor_to_py_object_no_sync")
        if not out.value:
            raise SilentError("managed_tensor_to_py_object_no_sync says success and gives no object")
        made = ctypes.cast(out, py_object).value
        _taken_over(out)  # the reference that the function gave away; `made` has one of its own
        return made

    def allocate(self, prototype: DLTensor) -> tuple[int, int, list[ReportedError]]:
        """Ask for a new tensor; return the function's status, the managed tensor or 0, and what its error callback got."""
        errors: list[ReportedError] = []
        callback = SET_ERROR(
            lambda _context, kind, message: errors.append(ReportedError((kind or b"").decode(), (message or b"").decode()))
        )
        out = c_void_p()
        status = ALLOCATOR(self.table.allocator)(ctypes.byref(prototype), ctypes.byref(out), None, callback)
        return status, out.value or 0, errors

    def stream(self, device_type: int, device_id: int = 0) -> int:
        """Return the device's current work stream, 0 for none."""
        out = c_void_p()
        _unless_failed(STREAM(self.table.stream)(device_type, device_id, ctypes.byref(out)), "current_work_stream")
        return out.value or 0


def _unless_failed(status: int, name: str) -> None:
    # ctypes raises what a function set; so here nothing was set.
    if status:
        raise SilentError(f"{name} failed and set no exception")


def capsule_name(raw: Any) -> str:
    """Return the name of the table's capsule."""
    return (_name_of(raw) or b"").decode()


def address_in(raw: Any) -> int:
    """Return where the table is that a capsule leads to; raises ValueError for a capsule of another name."""
    return int(_pointer_of(raw, CAPSULE))


def api_of(kind: type) -> Api | None:
    """Return the table of a type, None if it has none; raises ValueError for a capsule of another name."""
    raw = getattr(kind, ATTRIBUTE, None)
    return None if raw is None else Api(address_in(raw))
