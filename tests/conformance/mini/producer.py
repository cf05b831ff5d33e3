"""A miniature array library in pure Python that exports by the book; its faults are in `tests.conformance.faulty`.

Everything that a rule is about is one small method of `Mini`, so that a liar is one overridden method.
float4 has an element in each byte, as NumPy's; int4 goes out packed, as a copy, so that either kind of narrow element is met.
"""

from __future__ import annotations

import ctypes
import itertools
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from interop.dlpack import DLManagedTensor, DLManagedTensorVersioned, DLTensor

if TYPE_CHECKING:
    from collections.abc import Callable


CPU, CUDA, PINNED, EXT, MANAGED = (1, 0), (2, 0), (3, 0), (12, 0), (13, 0)
READ_ONLY, IS_COPIED, SUBBYTE_PADDED = 1, 2, 4
LEGACY, VERSIONED = b"dltensor", b"dltensor_versioned"

_KINDS = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
_CODES = {
    "bfloat16": (4, 16),
    "float8_e4m3fn": (10, 8),
    "float8_e4m3fnuz": (11, 8),
    "float8_e5m2": (12, 8),
    "float8_e5m2fnuz": (13, 8),
    "float8_e8m0fnu": (14, 8),
    "float4_e2m1fn": (17, 4),
    "int4": (0, 4),
    "complex32": (5, 32),
}

FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_CALL = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)  # a destructor has the GIL, and keeps it
_api = ctypes.pythonapi
# Prototypes of our own: the attributes of `pythonapi` are shared by everybody in the process.
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(("PyCapsule_New", _api))
# In a destructor the capsule has no reference left, so it may only be touched by its address.
name_at = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(("PyCapsule_GetName", _api))
pointer_at = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))

# What each managed tensor keeps alive, by its address: taken away by the deleter, and by nothing else.
EXPORTS: dict[int, Any] = {}


@FUNCTION
def delete(address: int) -> None:
    """The deleter of every managed tensor."""
    EXPORTS.pop(address)


@FUNCTION
def destroy(capsule: int) -> None:
    """The destructor of every capsule: calls the deleter, unless the capsule was renamed."""
    name = name_at(capsule)
    if name in (LEGACY, VERSIONED):
        call_deleter(pointer_at(capsule, name), versioned=name == VERSIONED)


def call_deleter(address: int, *, versioned: bool) -> None:
    structure = DLManagedTensorVersioned if versioned else DLManagedTensor
    _CALL(structure.from_address(address).deleter)(address)


def aligned(values: np.ndarray) -> np.ndarray:
    """Return a compact copy whose first element is at a multiple of 256, as the header wants it."""
    room = np.zeros(values.nbytes + 256, "uint8")
    start = -room.__array_interface__["data"][0] % 256
    made = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    made[...] = values
    return made


class Streams:
    """Streams on the host: what is queued on one happens when it is waited for there. Stands in for `producer_cuda.Driver`."""

    OTHER = 999  # where the library itself works

    def __init__(self) -> None:
        self.queued: dict[int, list[Callable[[], object]]] = {}
        self._handles = itertools.count(1000)

    def stream(self) -> int:
        return next(self._handles)

    def queue(self, stream: int, work: Callable[[], object]) -> None:
        self.queued.setdefault(stream, []).append(work)

    def finish(self, stream: int) -> None:
        for work in self.queued.pop(stream, []):
            work()

    def read(self, pointer: int, nbytes: int, stream: int) -> bytes:
        self.finish(stream)
        return ctypes.string_at(pointer, nbytes)


class Mini:
    """An array of the miniature library: an ndarray, where it pretends to be, and whether it may be written to.

    `data` is False where there is none; `streams` are those on which it is still being written; `packed` what goes out instead.
    """

    VERSION: ClassVar[tuple[int, int]] = (1, 3)

    def __init__(
        self,
        values: np.ndarray,
        device: tuple[int, int] = CPU,
        *,
        readonly: bool = False,
        data: bool = True,
        streams: Streams | None = None,
        packed: np.ndarray | None = None,
    ) -> None:
        self.values, self.device, self.readonly, self.data, self.streams, self.packed = values, device, readonly, data, streams, packed

    def like(self, values: np.ndarray, **changes: Any) -> Mini:
        same = {name: getattr(self, name) for name in ("device", "readonly", "data", "streams", "packed")}
        return type(self)(values, **{**same, **changes})

    @property
    def pointer(self) -> int:
        memory = self.values if self.packed is None else self.packed
        return int(memory.__array_interface__["data"][0]) if memory.size else 0

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None) -> Any:
        device = self.goal(dl_device)
        self.check_stream(stream, device)
        versioned = self.negotiate(max_version)
        self.check_data()
        self.check_flags(versioned=versioned)
        source, copied = self.placed(device, copy)
        self.wait(stream)
        return source.export(copied=copied, versioned=versioned)

    # What is asked for.

    def goal(self, dl_device: Any) -> tuple[int, int]:
        device = self.device if dl_device is None else (int(dl_device[0]), int(dl_device[1]))
        if device not in (self.device, CPU):
            raise BufferError(f"the miniature brings nothing to the device {device}")
        return device

    def check_stream(self, stream: Any, device: tuple[int, int]) -> None:
        if device[0] == CUDA[0]:
            if stream is not None and (not isinstance(stream, int) or stream == 0 or stream < -1):
                raise ValueError("a CUDA stream is None, -1, 1, 2 or a pointer")
        elif stream is not None:
            raise ValueError("only None on a device without streams")

    def negotiate(self, max_version: Any) -> bool:
        """Return whether the capsule has the versioned structure."""
        return max_version is not None and max_version[0] >= 1

    def check_data(self) -> None:
        if not self.data:
            raise BufferError("there are no data to export")
        if not self.values.dtype.isnative:
            raise BufferError("not in native byte order")
        self.code()
        if any(step % self.values.itemsize for step in self.values.strides):
            raise BufferError("the strides are not whole elements")

    def check_flags(self, *, versioned: bool) -> None:
        if not versioned and (self.readonly or self.padded()):
            raise BufferError("read-only and padded arrays have flags, which the legacy structure lacks")

    def placed(self, device: tuple[int, int], copy: bool | None) -> tuple[Mini, bool]:
        """Return what goes out, and whether it is a copy made for it."""
        packs = self.values.dtype.name == "int4"
        if device == self.device and not copy and not packs:
            return self, False
        if copy is False:
            raise BufferError("it takes a copy, and copy=False")
        self.synchronise()
        values = aligned(self.values)
        packed = self.packs(values) if packs else None
        return self.like(values, device=device, readonly=False, packed=packed), True

    def packs(self, values: np.ndarray) -> np.ndarray:
        """Return two elements a byte, the first in the lower half."""
        low, high = (values.reshape(-1).view("uint8") & 15).reshape(-1, 2).T
        return low | high << 4

    def synchronise(self) -> None:
        if self.streams:
            self.streams.finish(Streams.OTHER)

    def wait(self, stream: Any) -> None:
        """Make the consumer's stream wait for the one on which the values are being written."""
        streams = self.streams
        if streams and stream != -1:
            streams.queue(stream or 1, lambda: streams.finish(Streams.OTHER))

    # What goes out.

    def code(self) -> tuple[int, int, int]:
        dtype = self.values.dtype
        if dtype.name in _CODES:
            return (*_CODES[dtype.name], 1)
        if dtype.kind not in _KINDS:
            raise BufferError(f"DLPack has no {dtype.name}")
        return _KINDS[dtype.kind], dtype.itemsize * 8, 1

    def padded(self) -> bool:
        return self.code()[1] < 8 and self.values.dtype.name != "int4"

    def flags(self, *, copied: bool) -> int:
        return READ_ONLY * self.readonly | IS_COPIED * copied | SUBBYTE_PADDED * self.padded()

    def address(self) -> tuple[int, int]:
        """Return the data pointer, a multiple of 256, and the byte offset that leads to the first element."""
        return self.pointer & ~255, self.pointer & 255

    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def strides(self) -> tuple[int, ...] | None:
        return tuple(step // self.values.itemsize for step in self.values.strides)

    def ndim(self) -> int:
        return self.values.ndim

    def exported_device(self) -> tuple[int, int]:
        return self.device

    def version(self) -> tuple[int, int]:
        return self.VERSION

    def name(self, *, versioned: bool) -> bytes | None:
        return VERSIONED if versioned else LEGACY

    def deleter(self) -> Any:
        return delete

    def destructor(self) -> Any:
        return destroy

    def export(self, *, copied: bool, versioned: bool) -> Any:
        managed = DLManagedTensorVersioned() if versioned else DLManagedTensor()
        if versioned:
            managed.major, managed.minor = self.version()
            managed.flags = self.flags(copied=copied)
        managed.deleter = ctypes.cast(self.deleter(), ctypes.c_void_p)
        arrays = self.fill(managed.tensor)
        address = ctypes.addressof(managed)
        EXPORTS[address] = (self, managed, arrays)
        return _new(address, self.name(versioned=versioned), ctypes.cast(self.destructor(), ctypes.c_void_p))

    def fill(self, tensor: DLTensor) -> Any:
        tensor.data, tensor.byte_offset = self.address()
        tensor.device.type, tensor.device.id = self.exported_device()
        tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes = self.code()
        tensor.ndim = self.ndim()
        arrays = [_numbers(self.shape()), _numbers(self.strides())]
        tensor.shape, tensor.strides = (ctypes.cast(numbers, ctypes.POINTER(ctypes.c_int64)) for numbers in arrays)
        return arrays


def _numbers(numbers: tuple[int, ...] | None) -> Any:
    # NULL for none at all: of 0-d arrays the header allows it.
    return (ctypes.c_int64 * len(numbers))(*numbers) if numbers else None
