"""What an array is, in words that no library owns: the input of every decision.

A `Description` is made by a backend from a real array, by hand, or from a short text (`interop.notation`).
The plan looks at nothing else, which is why a GPU case can be decided on a machine without one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from interop._model.dtypes import DTYPES
from interop._model.spelling import nearest

DEVICE_TYPES = ("cpu", "cuda", "rocm", "mps", "xpu", "meta", "metal", "vulkan", "opencl", "webgpu", "hexagon", "maia", "ext")
MEMORIES = ("plain", "pinned", "managed")
PENDING = ("conj", "neg", "zero", "unpacking", "joining")
# Devices whose work is ordered by streams; interop passes one explicitly for them.
STREAMED = frozenset({"cuda", "rocm"})


@dataclass(frozen=True, slots=True)
class Device:
    """A device type and an index; the index of the CPU and of meta is always 0."""

    type: str
    index: int = 0

    def __post_init__(self) -> None:
        if self.type in ("cpu", "meta") and self.index:
            object.__setattr__(self, "index", 0)

    def __str__(self) -> str:
        return self.type if self.type in ("cpu", "meta") else f"{self.type}:{self.index}"

    @classmethod
    def parse(cls, text: str, index: int = 0) -> Device:
        """Read ``"cpu"``, ``"cuda"`` (device `index`) or ``"cuda:1"``; ValueError with the nearest name otherwise.

        >>> Device.parse("cuda:1")
        Device(type='cuda', index=1)
        """
        kind, colon, number = text.partition(":")
        if kind not in DEVICE_TYPES:
            near = "; did you mean 'cuda'?" if kind == "gpu" else nearest(kind, DEVICE_TYPES)
            raise ValueError(f"{text!r} is not a device{near}")
        if colon and not number.isdecimal():
            raise ValueError(f"{text!r} is not a device: the index is a number, as in {kind}:0.")
        if kind in ("cpu", "meta"):
            return cls(kind)
        return cls(kind, int(number) if colon else index)


CPU = Device("cpu")


def c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of C order, in elements.

    >>> c_strides((2, 3, 4))
    (12, 4, 1)
    """
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What interop sees of an array. Reading it moves and synchronises nothing.

    Attributes
    ----------
    backend : str
        The library that owns it; ``"dlpack"`` for any other object that speaks the protocol.
    type : str
        The qualified name of its class.
    shape : tuple of int or None
        None where the extent is not a number (nested, symbolic).
    dtype : str
        Canonical name (see `interop._model.dtypes`); the library's own word if it has no numeric meaning elsewhere.
    device : Device
        Where the bytes lie. `memory` distinguishes pinned and managed memory.
    strides : tuple of int or None
        In elements; left out, those of C order. None if the storage is not strided, or if the strides are
        not whole elements.
    nbytes : int
        Bytes of the elements, each counted once per index (a broadcast axis counts); left out, computed.
    pointer : int or None
        Address of the first element; the library keeps owning the memory.
    readonly : bool or None
        The library forbids writing. None where the producer cannot say, as in a legacy DLPack capsule.
    writable_base : bool
        Read-only, but a view of memory that others can write to.
    requires_grad : bool or None
        Tracked by reverse-mode autograd. None where that cannot be said, because asking the producer raised.
    tangent : bool
        Carries a forward-mode tangent.
    pending : tuple of str
        Lazy operations to be resolved: ``"conj"``, ``"neg"``, ``"zero"``; the unpacking of bits, the joining of chunks (Arrow).
    layout : str
        ``"strided"`` for plain memory, else what it is: ``"sparse_coo"``, ``"quantized"``, ``"nested"``, ...
    densifies : bool
        The library can make a plain strided copy of that layout.
    dense_dtype : str or None
        The dtype of that copy, where it is not `dtype` (a quantized tensor dequantizes to float32).
    fixed : tuple of str
        What its own library cannot do with it as it is: ``"cast"``, ``"transfer"``, ``"meta"`` (a transfer to that device).
    memory : str
        ``"plain"``, ``"pinned"`` or ``"managed"``.
    units : str
        The unit without which the numbers mean nothing; empty if there is none.
    masked, swapped, aligned, scalar : bool
        Something in it is masked, or null; not in native byte order; aligned to its itemsize; a NumPy scalar, which has no buffer.
    advice : str
        What its own library can do where interop has to refuse; empty if nothing is known.
    no_data : str or None
        Why there are no data to export (``"meta"``, ``"fake"``, ``"vmap"``, ...); None if there are.
    """

    backend: str
    type: str = ""
    shape: tuple[int | None, ...] = ()
    dtype: str = "float32"
    device: Device = CPU
    strides: tuple[int, ...] | None = ()
    nbytes: int = -1
    pointer: int | None = None
    readonly: bool | None = False
    writable_base: bool = False
    requires_grad: bool | None = False
    tangent: bool = False
    pending: tuple[str, ...] = ()
    layout: str = "strided"
    densifies: bool = False
    dense_dtype: str | None = None
    fixed: tuple[str, ...] = ()
    memory: str = "plain"
    units: str = ""
    masked: bool = False
    swapped: bool = False
    aligned: bool = True
    scalar: bool = False
    advice: str = ""
    no_data: str | None = None

    def __post_init__(self) -> None:
        given: Any = self.device
        if isinstance(given, str):  # by hand
            object.__setattr__(self, "device", Device.parse(given))
        if self.memory not in MEMORIES:
            raise ValueError(f"{self.memory!r} is not a kind of memory{nearest(self.memory, MEMORIES)}")
        if not isinstance(self.pending, tuple) or not set(self.pending) <= set(PENDING):
            raise ValueError(f"pending is a tuple of {', '.join(map(repr, PENDING))}, got {self.pending!r}.")
        if self.strides and len(self.strides) != len(self.shape):
            raise ValueError(f"{len(self.strides)} strides for {len(self.shape)} axes.")
        if self.strides == () and self.shape:
            object.__setattr__(self, "strides", c_strides(tuple(extent or 0 for extent in self.shape)))
        if self.nbytes < 0:
            object.__setattr__(self, "nbytes", self.size * DTYPES[self.dtype].itemsize if self.dtype in DTYPES else 0)

    @property
    def constant(self) -> bool:
        """Whether nobody is known to be able to write to its memory."""
        return self.readonly is True and not self.writable_base

    @property
    def tracked(self) -> bool:
        """Whether autograd follows it, in reverse or in forward mode, or may do so unsaid."""
        return self.requires_grad is not False or self.tangent

    @property
    def pinned(self) -> bool:
        """Whether it lies in page-locked host memory."""
        return self.memory == "pinned"

    @property
    def size(self) -> int:
        """The number of elements; unknown extents count as 0."""
        count = 1
        for extent in self.shape:
            count *= extent or 0
        return count

    @property
    def negative_strides(self) -> bool:
        """Whether a stride is negative on an axis that is walked (length 2 or more, array not empty)."""
        if self.strides is None or not self.size:
            return False
        return any(step < 0 for step, extent in zip(self.strides, self.shape, strict=True) if (extent or 0) > 1)

    def nbytes_as(self, dtype: str) -> int:
        """Return the bytes that a dense copy takes in `dtype`; 0 for a dtype without a size of its own."""
        return self.size * DTYPES[dtype].itemsize if dtype in DTYPES else self.nbytes

    def replace(self, **changes: Any) -> Description:
        """Return a description with these fields changed."""
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain data for JSON."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return plain | {"device": str(self.device), "shape": list(self.shape), "pending": list(self.pending), "fixed": list(self.fixed)}

    def __str__(self) -> str:
        extents = ", ".join("?" if extent is None else str(extent) for extent in self.shape)
        words = [f"{self.type or self.backend} {self.dtype}[{extents}] on {self.device}", *self.notes()]
        return ", ".join(words)

    def notes(self) -> list[str]:
        """Return, in words, whatever is not plain about it."""
        pending = [f"pending {word}" for word in self.pending]
        states = {
            f"no data ({self.no_data})": self.no_data,
            f"{self.layout} layout": self.layout != "strided",
            "requires grad": self.requires_grad is True,
            "its producer cannot say whether it requires grad": self.requires_grad is None,
            "carries a tangent": self.tangent,
            "read-only": self.readonly is True,
            "a view of memory that others can write to": self.writable_base,
            "its producer cannot say whether it is read-only": self.readonly is None,
            f"in units of {self.units}": bool(self.units),
            "masked": self.masked,
            "byte-swapped": self.swapped,
            "unaligned": not self.aligned,
            "a scalar": self.scalar,
            f"{self.memory} memory": self.memory != "plain",
            f"strides {self.strides}": not self._compact(),
        }
        return pending + [word for word, holds in states.items() if holds]

    def _compact(self) -> bool:
        """Whether the strides are those of C order (unknown ones are not worth a word)."""
        expected = 1
        for extent, step in zip(reversed(self.shape), reversed(self.strides or ()), strict=False):
            if extent != 1 and step != expected:
                return not self.size
            expected *= extent or 0
        return True
