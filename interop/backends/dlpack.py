"""Every other library: objects that speak DLPack (`__dlpack__` and `__dlpack_device__`), as a source.

The capsule is made once and read here, before any consumer sees it, because consumers differ in what they
check. Host memory then becomes an ndarray of our own making; device memory goes to the target's own import.
"""

from __future__ import annotations

import operator
import re
import traceback
from typing import TYPE_CHECKING, Any

from interop._model.capabilities import Capabilities
from interop._model.description import CPU, DEVICE_TYPES, STREAMED, Description, Device
from interop._model.dtypes import DTYPES
from interop._model.spelling import type_name
from interop.backends.base import Backend
from interop.backends.numpy.backend import address_of, native_dtype, view_memory
from interop.backends.numpy.backend import backend as numpy_backend
from interop.backends.producers import facts_of, is_tracked
from interop.backends.units import said, unit_of
from interop.dlpack import VERSION, Capsule, device_of, producer_of
from interop.errors import DTypeError, GradError, ProducerError, TransferError, UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DLPackBackend", "Opened", "advertised", "ask", "backend"]

# What libraries raise when they refuse; the standard says BufferError, and they say everything.
REFUSALS = (BufferError, RuntimeError, TypeError, ValueError, AssertionError, AttributeError, LookupError, ArithmeticError, OSError)

_ACCELERATED = frozenset(DEVICE_TYPES) - {"cpu", "meta"}


class Opened:
    """A producer with the capsule that it made, not consumed yet; and whether its library's autograd tracks it, which no capsule says (None: nor can it)."""

    __slots__ = ("capsule", "producer", "tracked")

    def __init__(self, producer: Any, capsule: Capsule, *, tracked: bool | None = False) -> None:
        self.producer = producer
        self.capsule = capsule
        self.tracked = tracked


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
        device = advertised(x)
        exported, tracked = _export(x, stream(device) if device.type == "cuda" else None)
        capsule = Capsule(exported)
        _settle_device(x, device, capsule)
        if capsule.readonly is None:
            capsule.readonly = _said_readonly(x, capsule)
        return Opened(x, capsule, tracked=tracked)

    def describe(self, x: Any) -> Description:
        opened = x if isinstance(x, Opened) else self.import_producer(x, _no_synchronisation)
        capsule, kind = opened.capsule, type(opened.producer)
        size = _count(capsule.shape)
        null = size and not capsule.pointer
        unit = unit_of(opened.producer)
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
            requires_grad=opened.tracked,
            units=unit.text,
            advice=unit.advice,
            memory=capsule.memory,
            aligned=capsule.itemsize == 0 or capsule.pointer % capsule.itemsize == 0 or capsule.dtype not in DTYPES or _fits(capsule),
            no_data="null" if null else None,
        )

    # On the host the producer's memory is an ndarray from here on; NumPy does the rest.

    def host_view(self, x: Any) -> Any:
        if not isinstance(x, Opened):
            return x
        capsule = x.capsule
        if capsule.device != CPU:
            raise TransferError(f"the host cannot read memory on {capsule.device}.", hint=_MOVE)
        return view_memory(capsule.consume(), capsule)

    def copy(self, x: Any) -> Any:
        return numpy_backend.copy(self.host_view(x))

    def cast(self, x: Any, dtype: str) -> Any:
        return numpy_backend.cast(self.host_view(x), dtype)

    def transfer(self, x: Any, device: Device, stream: int | None) -> Any:
        if device != CPU:
            raise TransferError(f"the protocol cannot ask a producer on {x.capsule.device} for {device}.", hint=_MOVE)
        # The standard's way to the host. Without a stream: the producer then returns only when it is done
        # (with one, CuPy 13.4 to 14.1 exported memory that was still being written).
        moved = Capsule(ask(x.producer, lambda: x.producer.__dlpack__(dl_device=(1, 0), max_version=VERSION)))
        # CuPy answers with managed memory where that is what it has: the host reads it as it is.
        if (moved.device != CPU and moved.memory != "managed") or (moved.shape, moved.dtype) != (x.capsule.shape, x.capsule.dtype):
            raise TransferError("asked for the CPU, the producer exported something else.", hint=_MOVE)
        moved.device = CPU
        opened = Opened(x.producer, moved)
        # A transfer is new memory, and this may be the old.
        return self.copy(opened) if moved.pointer == x.capsule.pointer else opened

    def from_host(self, view: Any) -> Any:
        raise AssertionError("the plan has DLPack itself as a target")

    def export(self, x: Any, stream: int | None) -> Any:
        return producer_of(x.capsule.raw)


_MOVE = "Move it with its own library."


def export_capsule(x: Any, stream: int | None) -> Any:
    """Return the producer's capsule for the newest version that both sides know."""
    keywords = {} if stream is None else {"stream": stream}

    def export() -> Any:
        try:
            return x.__dlpack__(max_version=VERSION, **keywords)
        except TypeError as error:
            # Producers from before the 2023.12 standard do not know the keyword (the standard says: retry).
            # Others raise TypeError to refuse (pyarrow, for nulls): asking again would not change the answer.
            if "argument" not in str(error):
                raise
            return x.__dlpack__(**keywords)

    return ask(x, export)


_GRADIENT = re.compile(r"(?<![a-z])grad(s|ients?)?(?![a-z])", re.IGNORECASE)


def _export(x: Any, stream: int | None) -> tuple[Any, bool | None]:
    """Return a producer's capsule, and whether it is tracked by autograd; DTypeError where an export would end the process.

    What is tracked may be refused ("Can't export tensors that require gradient"). The decision has to see it, so its memory is asked for.
    """
    aborting = facts_of(x).aborting
    if aborting and (name := said(said(x, "dtype"), "name")) in aborting:
        raise DTypeError(
            f"the elements of {type_name(x)} are objects of its own ({name}), not numbers.",
            hint="Encode them as numbers with its library first.",
        )
    try:
        return export_capsule(x, stream), is_tracked(x)
    except ProducerError as error:
        if not _GRADIENT.search(_words(error.__cause__)):
            raise
        if not hasattr(type(x), "detach"):
            raise GradError(error.message, hint="Take it out of the graph with its own library first.") from error.__cause__
    return export_capsule(ask(x, x.detach), stream), True


def _words(error: BaseException | None) -> str:
    # Not str(error), which is the producer's own code once more.
    return "".join(traceback.format_exception_only(error)).strip()


def ask(x: Any, question: Callable[[], Any]) -> Any:
    """Return a producer's answer. What it raises is a `ProducerError`: so `question` calls the producer, and does nothing else."""
    try:
        return question()
    except (MemoryError, RecursionError, UnsupportedTypeError):  # not about this producer; or it is none, as a `Transfer`
        raise
    except Exception as error:
        message = f"{type_name(x)} refuses to be exported through DLPack: {_words(error)}"
        raise ProducerError(message, hint="Its own library has to make a plain array of it first.") from error


def advertised(x: Any) -> Device:
    """Return the device that a producer says it is on."""

    def question() -> Any:
        return x.__dlpack_device__()

    answer = ask(x, question)
    codes = answer if isinstance(answer, tuple | list) and len(answer) == 2 else (None, None)
    if hasattr(type(codes[0]), "__index__") and (codes[1] is None or hasattr(type(codes[1]), "__index__")):
        code, index = ask(x, lambda: [operator.index(code or 0) for code in codes])
        device, _ = device_of(code, index)
        # The host is one device, which needs no number: Paddle gives it none.
        if device == CPU or (codes[1] is not None and index >= 0):
            return device
    text = _quietly(lambda: repr(answer)) or type_name(answer)
    raise ProducerError(f"{type_name(x)} answers __dlpack_device__ with no device: {text:.80}", hint=_REPORT)


_REPORT = "Report it to its library: a device is a pair of numbers, and that of the memory."


def _settle_device(x: Any, said: Device, capsule: Capsule) -> None:
    """Compare the device that a producer said with that in its capsule: the work was ordered for the one, and done on the other."""
    found = capsule.device
    if said == found or (capsule.memory == "managed" and (said == CPU or said.type == found.type)):
        capsule.device = said  # managed memory is on every device, and on the host, where it is memory like any other
        if said == CPU and capsule.memory == "managed":
            capsule.memory = "plain"
    elif STREAMED & {said.type, found.type} and capsule.memory != "pinned":
        # A CUDA array labelled as one of the host (cuvs#2239) would be read there. Without streams the label of the memory
        # counts: MLX says Metal, and exports memory of the host, which is the same.
        raise ProducerError(f"{type_name(x)} says that it is on {said}, and exports memory on {found}.", hint=_REPORT)


def _said_readonly(x: Any, capsule: Capsule) -> bool | None:
    """Return whether an array is read-only by what is known of its library, or by what it says elsewhere; None if nothing does."""
    known = facts_of(x).readonly
    if known is not None:
        return known
    on_host = capsule.device == CPU
    # Each says where its memory is: it need not be that of the capsule.
    answers = [_quietly(lambda: _of_interface(x, "__array_interface__" if on_host else "__cuda_array_interface__"))]
    answers += [_quietly(lambda: _of_buffer(x))] if on_host else []
    return next((readonly for address, readonly in filter(None, answers) if address == capsule.pointer), None)


def _of_interface(x: Any, name: str) -> tuple[int, bool]:
    address, readonly = getattr(x, name)["data"]
    return operator.index(address), bool(readonly)


def _of_buffer(x: Any) -> tuple[int, bool]:
    view = memoryview(x)
    return address_of(view), view.readonly


def _quietly(question: Callable[[], Any]) -> Any:
    """Return an answer of an object that need not have one."""
    try:
        return question()
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return None


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
