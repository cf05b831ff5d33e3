"""Every other library: objects that speak DLPack (`__dlpack__` and `__dlpack_device__`), as a source.

The capsule is made once and read here, before any consumer sees it, because consumers differ in what they
check. Host memory then becomes an ndarray of our own making; device memory goes to the target's own import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interop._model.capabilities import Capabilities
from interop._model.description import CPU, DEVICE_TYPES, Description, Device
from interop._model.dtypes import DTYPES
from interop.backends.base import Backend
from interop.backends.numpy.backend import backend as numpy_backend
from interop.backends.numpy.backend import native_dtype, view_memory
from interop.dlpack import VERSION, Capsule, device_of, producer_of
from interop.errors import LayoutError, TransferError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DLPackBackend", "Opened", "backend"]

# What producers raise when they refuse; the standard says BufferError, and they say everything.
REFUSALS = (BufferError, RuntimeError, TypeError, ValueError, AssertionError, AttributeError, LookupError, ArithmeticError, OSError)

_ACCELERATED = frozenset(DEVICE_TYPES) - {"cpu", "meta"}


class Opened:
    """A producer with the capsule that it made, not consumed yet."""

    __slots__ = ("capsule", "producer")

    def __init__(self, producer: Any, capsule: Capsule) -> None:
        self.producer = producer
        self.capsule = capsule


class DLPackBackend(Backend):
    """Objects that speak DLPack and belong to no library that interop knows."""

    capabilities = Capabilities(
        name="dlpack",
        title="DLPack",
        dtypes=numpy_backend.capabilities.dtypes,
        devices=frozenset({"cpu"}) | _ACCELERATED,
        # On a device the protocol cannot cast for the producer; the target does it.
        lacking=dict.fromkeys(_ACCELERATED, frozenset(DTYPES)),
        only_to_host=True,
        readonly_arrays=True,
        negative_strides=True,
    )

    def owns(self, x: Any) -> bool:
        return isinstance(x, Opened) or hasattr(x, "__dlpack__")

    def import_producer(self, x: Any, stream: Callable[[Device], int | None]) -> Opened:
        device, _ = _refusable(x, lambda: device_of(*map(int, x.__dlpack_device__())))
        number = stream(device) if device.type == "cuda" else None
        return Opened(x, _refusable(x, lambda: Capsule(export_capsule(x, number))))

    def describe(self, x: Any) -> Description:
        opened = x if isinstance(x, Opened) else self.import_producer(x, _no_synchronisation)
        capsule, kind = opened.capsule, type(opened.producer)
        size = _count(capsule.shape)
        null = size and not capsule.pointer
        return Description(
            backend="dlpack",
            type=f"{kind.__module__}.{kind.__qualname__}",
            shape=capsule.shape,
            dtype=capsule.dtype,
            device=capsule.device,
            strides=capsule.strides,
            nbytes=size * capsule.itemsize,
            pointer=None if null else capsule.pointer,
            readonly=capsule.readonly,
            memory=capsule.memory,
            aligned=capsule.itemsize == 0 or capsule.pointer % capsule.itemsize == 0 or capsule.dtype not in DTYPES or _fits(capsule),
            no_data="null" if null else None,
        )

    # On the host the producer's memory is an ndarray from here on; NumPy does the rest.

    def host_view(self, x: Any) -> Any:
        if not isinstance(x, Opened):
            return x
        capsule = x.capsule
        return view_memory(capsule.consume(), capsule)

    def copy(self, x: Any) -> Any:
        return numpy_backend.copy(self.host_view(x))

    def cast(self, x: Any, dtype: str) -> Any:
        return numpy_backend.cast(self.host_view(x), dtype)

    def transfer(self, x: Any, device: Device, stream: int | None) -> Any:
        hint = "Move it with its own library."
        if device != CPU:
            raise TransferError(f"the protocol cannot ask a producer on {x.capsule.device} for {device}.", hint=hint)
        # The standard's way to the host. Without a stream: the producer then returns only when it is done
        # (with one, CuPy 13.4 to 14.1 exported memory that was still being written).
        moved = _refusable(x.producer, lambda: Capsule(x.producer.__dlpack__(dl_device=(1, 0), max_version=VERSION)))
        if (moved.device, moved.shape, moved.dtype) != (CPU, x.capsule.shape, x.capsule.dtype):
            raise TransferError("asked for the CPU, the producer exported something else.", hint=hint)
        return Opened(x.producer, moved)

    def from_host(self, view: Any) -> Any:
        raise AssertionError("the plan has DLPack itself as a target")

    def export(self, x: Any, stream: int | None) -> Any:
        return producer_of(x.capsule.raw)


def export_capsule(x: Any, stream: int | None) -> Any:
    """Return the producer's capsule for the newest version that both sides know."""
    keywords = {} if stream is None else {"stream": stream}
    try:
        return x.__dlpack__(max_version=VERSION, **keywords)
    except TypeError as error:
        # Producers from before the 2023.12 standard do not know the keyword (the standard says: retry).
        # Others raise TypeError to refuse (pyarrow, for nulls): asking again would not change the answer.
        if "argument" not in str(error):
            raise
        return x.__dlpack__(**keywords)


def _refusable(x: Any, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except REFUSALS as error:
        kind = f"{type(x).__module__}.{type(x).__qualname__}"
        message = f"{kind} refuses to be exported through DLPack: {type(error).__name__}: {error}"
        raise LayoutError(message, hint="Its own library has to make a plain array of it first.") from error


def _no_synchronisation(device: Device) -> int | None:
    """Return the number for no synchronisation: the memory is only described."""
    return -1 if device.type == "cuda" else None


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count


def _fits(capsule: Capsule) -> bool:
    """Return whether the address is aligned for the dtype; complex numbers align like their parts."""
    return capsule.pointer % native_dtype(capsule.dtype).alignment == 0


backend = DLPackBackend()
