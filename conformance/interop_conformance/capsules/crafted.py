"""Producer capsules: a DLPack producer in pure Python, as honest or as odd as a check needs it, that notes what becomes of it.

It exports memory of its own, with guard bytes around; a deleter fills it with poison but never frees it, so that who reads after
the deleter sees poison instead of taking the process down. Everything lives as long as the process: destructors and
deleters are called by the interpreter, or by a library's thread, at times of their own.
"""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING, Any

from interop._model.description import c_strides
from interop.dlpack import DLManagedTensor, DLManagedTensorVersioned, DLTensor
from interop_conformance.capsules.guarded import Memory, fence, fenced_structure
from interop_conformance.matrix.dtypes import dlpack_code

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    import numpy as np

__all__ = [
    "CPU",
    "IS_COPIED",
    "LEGACY",
    "READ_ONLY",
    "SUBBYTE_PADDED",
    "USED",
    "VERSIONED",
    "Memory",
    "Producer",
    "Ticket",
    "code_of",
    "rename",
]

LEGACY, VERSIONED = b"dltensor", b"dltensor_versioned"
USED = {LEGACY: b"used_dltensor", VERSIONED: b"used_dltensor_versioned"}
CPU = (1, 0)
READ_ONLY, IS_COPIED, SUBBYTE_PADDED = 1, 2, 4

# CFUNCTYPE takes the GIL itself, so a library may call these from any thread.
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

# Prototypes of our own: the attributes of `pythonapi` are shared by everybody in the process.
_api = ctypes.pythonapi
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(("PyCapsule_New", _api))
_set_name = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", _api))
# In a destructor the capsule has no reference left, so it may only be touched by its address.
_name_at = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(("PyCapsule_GetName", _api))

_ALIVE: list[Any] = []


def code_of(dtype: np.dtype) -> tuple[int, int, int]:
    """Return code, bits and lanes of a dtype; raises BufferError for one that DLPack has no code for.

    >>> from interop_conformance.matrix.dtypes import dtype_named
    >>> code_of(dtype_named("complex64"))
    (5, 64, 1)
    """
    known = dlpack_code(dtype)
    if known is None:
        raise BufferError(f"DLPack has no code for {dtype.name}")
    return known


def rename(capsule: Any, name: bytes) -> None:
    """Give a capsule another name; the capsule keeps the pointer, so the bytes stay alive as well."""
    _ALIVE.append(name)
    _set_name(capsule, name)


class Ticket:
    """What became of one capsule.

    `deleted` counts the calls of its deleter, `threads` are who called it, `left` is the name that the capsule had at its own end,
    and None before.
    """

    def __init__(self) -> None:
        self.deleted = 0
        self.threads: list[int] = []
        self.left: bytes | None = None
        self.held: Any = None
        self.keeps: list[Any] = []

    @property
    def name(self) -> bytes:
        """Return the name now, if the capsule is held, else the one at its end."""
        return _name_at(id(self.held)) if self.held is not None else self.left or b""


class Producer:
    """Exports an ndarray as if it were a library of its own.

    Parameters
    ----------
    array : ndarray
        What is exported; strides and all.
    memory : Memory, optional
        The memory that the array lies in: poisoned once every capsule's deleter was called, restored for the next capsule.
    version : tuple of int or None
        None makes legacy capsules.
    polite : bool
        Whether who did not ask for version 1 gets a legacy capsule.
    strides : ``"own"``, None or sequence
        None is the NULL pointer.
    offset : int
        The bytes between the data pointer and the first element; `means` are the values behind it.
    moved : int
        The memory that the capsule points to lies this many bytes behind the array's: device memory, which the array is a twin of.
    twin : callable, optional
        Returns an array on the capsule's device with the values of one of the host's, and its address: what a copy there is made with.
    null_context : bool
        Whether the managed tensor has no manager context; its deleter must be called all the same.
    copies : bool
        Whether only a copy can be exported; ``copy=False`` is a BufferError then.
    fenced : bool
        Whether what lies behind the flags is memory that must not be read.
    knows : collection of str or None
        The keywords that ``__dlpack__`` takes; any other is a TypeError. None: all.
    advertised : tuple of int, optional
        What ``__dlpack_device__`` says, if not the capsule's device.
    raises, gives
        What ``__dlpack__`` raises, or returns instead of a capsule.
    device_raises
        What ``__dlpack_device__`` raises.
    hold : bool
        Whether capsules stay alive, to see their names at any time; `release` lets go of them.
    """

    def __init__(
        self,
        array: np.ndarray,
        *,
        memory: Memory | None = None,
        version: tuple[int, int] | None = (1, 3),
        polite: bool = False,
        flags: int | None = None,
        dtype: tuple[int, int, int] | None = None,
        strides: Any = "own",
        offset: int = 0,
        null: bool = False,
        null_shape: bool = False,
        null_deleter: bool = False,
        null_context: bool = False,
        device: tuple[int, int] = CPU,
        advertised: Any = None,
        moved: int = 0,
        twin: Callable[[np.ndarray], tuple[Any, int]] | None = None,
        copies: bool = False,
        fenced: bool = False,
        knows: Collection[str] | None = None,
        raises: BaseException | None = None,
        gives: Any = None,
        device_raises: BaseException | None = None,
        hold: bool = False,
    ) -> None:
        self.array, self.memory, self.version, self.polite = array, memory, version, polite
        own = dlpack_code(array.dtype)
        # NumPy gives a narrow element a byte of its own, which DLPack calls padded.
        self.flags = (SUBBYTE_PADDED if own and own[1] < 8 else 0) if flags is None else flags
        self.dtype = dtype or code_of(array.dtype)
        self.strides, self.offset, self.null, self.null_shape, self.null_deleter = strides, offset, null, null_shape, null_deleter
        self.null_context = null_context
        self.device, self.advertised = device, device if advertised is None else advertised
        self.moved, self.twin, self.copies, self.fenced, self.hold = moved, twin, copies, fenced, hold
        self.knows, self.raises, self.gives, self.device_raises = knows, raises, gives, device_raises
        self.asked: list[dict[str, Any]] = []
        self.devices_asked = 0
        self.tickets: list[Ticket] = []
        self._kept: list[Any] = []
        _ALIVE.append(self)

    @classmethod
    def of(cls, values: np.ndarray, *, shift: int = 0, **how: Any) -> Producer:
        """Return a producer of these values in guarded memory."""
        memory = Memory(values, shift=shift)
        return cls(memory.array, memory=memory, **how)

    # What the checks look at.

    @property
    def made(self) -> int:
        """Return how many capsules were exported."""
        return len(self.tickets)

    @property
    def deleted(self) -> int:
        """Return how often a deleter was called."""
        return sum(ticket.deleted for ticket in self.tickets)

    @property
    def pointer(self) -> int:
        """Return the address of the first element that a consumer must see."""
        return int(self.array.ctypes.data) + self.moved + self.offset

    def means(self) -> np.ndarray:
        """Return the values that a consumer must see; the byte offset cuts elements off the front."""
        return self.array.reshape(-1)[self.offset // self.array.itemsize :] if self.offset else self.array

    def capsule_name(self) -> bytes:
        """Return the name that the last capsule has or had."""
        return self.tickets[-1].name

    def release(self) -> None:
        """Let go of the capsules that are held."""
        for ticket in self.tickets:
            ticket.held = None

    # What the consumer calls.

    def __dlpack_device__(self) -> Any:
        self.devices_asked += 1
        if self.device_raises is not None:
            raise self.device_raises
        return self.advertised

    def __dlpack__(self, **asked: Any) -> Any:
        self.asked.append(asked)
        unknown = sorted(asked.keys() - (asked.keys() if self.knows is None else self.knows))
        if unknown:
            raise TypeError(f"__dlpack__() got an unexpected keyword argument {unknown[0]!r}")
        if self.raises is not None:
            raise self.raises
        return self.gives if self.gives is not None else self.capsule(asked)

    def capsule(self, asked: dict[str, Any]) -> Any:
        """Return a new capsule; with ``copy=True`` over a copy that is flagged as one, whose memory stays alive as well."""
        if self.memory is not None and self._open() == 0:
            self.memory.restore()
        asked_device = asked.get("dl_device")
        device = (int(asked_device[0]), int(asked_device[1])) if asked_device else self.device
        if device[0] not in {self.device[0], CPU[0]}:
            raise BufferError(f"cannot export to device type {device[0]}")
        must = self.copies or (device != self.device and self.memory is not None)
        if must and asked.get("copy") is False:
            raise BufferError("only a copy can be exported")
        copied = self._copied(device) if must or (asked.get("copy") and self.memory is not None) else None
        ticket = Ticket()
        self.tickets.append(ticket)
        legacy = self.version is None or (self.polite and (asked.get("max_version") or (0, 0))[0] < 1)
        managed: Any = DLManagedTensor() if legacy else fenced_structure() if self.fenced else DLManagedTensorVersioned()
        self._fill(managed.tensor, device)
        if copied is not None:
            managed.tensor.data = copied - self.offset
            managed.tensor.strides = ctypes.cast(self._numbers(c_strides(self.means().shape)), ctypes.POINTER(ctypes.c_int64))
        if not legacy and self.version is not None:
            managed.major, managed.minor = self.version
            managed.flags = self.flags | (IS_COPIED if copied is not None else 0)
        return self._wrapped(managed, ticket, LEGACY if legacy else VERSIONED)

    def _wrapped(self, managed: Any, ticket: Ticket, name: bytes) -> Any:
        deleter = _CALLBACK(lambda _: self._delete(ticket))
        # Any address will do: what it points to is the producer's own business.
        managed.manager_ctx = None if self.null_context else ctypes.addressof(managed)
        managed.deleter = None if self.null_deleter else ctypes.cast(deleter, ctypes.c_void_p)
        destructor = _CALLBACK(lambda capsule: self._destroy(capsule, ticket))
        ticket.keeps += [managed, deleter, destructor]
        if self.fenced:
            fence(managed)
        capsule = _new(ctypes.addressof(managed), name, ctypes.cast(destructor, ctypes.c_void_p))
        if self.hold:
            ticket.held = capsule
        return capsule

    def _copied(self, device: tuple[int, int]) -> int:
        """Return the address of a compact copy on a device: the capsule's, or the host's."""
        if self.twin is not None and device == self.device:
            owner, address = self.twin(self.means())
        else:
            owner = Memory(self.means()).array
            address = int(owner.ctypes.data)
        self._kept.append(owner)
        return address

    def _fill(self, tensor: DLTensor, device: tuple[int, int]) -> None:
        shape = self.means().shape
        itemsize = self.array.itemsize
        own = [step // itemsize for step in self.means().strides]
        steps = c_strides(shape) if self.strides is None else own if isinstance(self.strides, str) else self.strides
        extents, strides = self._numbers(shape), self._numbers(steps)
        tensor.data = None if self.null else self.array.ctypes.data + self.moved
        tensor.device.type, tensor.device.id = device
        tensor.ndim = len(shape)
        tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes = self.dtype
        tensor.shape = None if self.null_shape else ctypes.cast(extents, ctypes.POINTER(ctypes.c_int64))
        tensor.strides = None if self.strides is None else ctypes.cast(strides, ctypes.POINTER(ctypes.c_int64))
        tensor.byte_offset = self.offset

    def _numbers(self, numbers: Sequence[int]) -> Any:
        made = (ctypes.c_int64 * max(len(numbers), 1))(*numbers)
        self._kept.append(made)
        return made

    def _open(self) -> int:
        return sum(ticket.deleted == 0 for ticket in self.tickets)

    def _delete(self, ticket: Ticket) -> None:
        ticket.deleted += 1
        ticket.threads.append(threading.get_ident())
        if self.memory is not None and self._open() == 0:
            self.memory.poison()

    def _destroy(self, capsule: int, ticket: Ticket) -> None:
        ticket.left = _name_at(capsule)
        if ticket.left in USED and not self.null_deleter:
            self._delete(ticket)
