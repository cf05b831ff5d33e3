"""What a backend is: the verbs that the executor calls, and the facts that the decision needs.

Adding a library means one file beside this one with a subclass, and its name in `interop.backends`; from
outside the project an entry point in the group ``interop.backends`` does the same.

A verb does one dumb thing to one array of its own library. Whether it may be done was decided before, so
verbs do not check; what they must do is turn their library's exceptions into interop's.
"""

from __future__ import annotations

import contextlib
import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from interop._model.description import CPU, Description, Device
from interop.backends.shortcut import Shortcut

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from interop._model.capabilities import Capabilities
    from interop.backends.cuda.types import CudaView, DeviceConsumer, MemorySource, PoolUse

__all__ = ["Backend", "KnownIssue", "PendingCopy", "Shortcut"]


@dataclass(frozen=True, slots=True)
class KnownIssue:
    """Something that is known to be broken in a range of versions, for ``interop doctor``.

    `requires` maps a distribution's name to the version specifier (PEP 440) in which it happens.
    """

    id: str
    requires: Mapping[str, str]
    happens: str
    advice: str
    link: str


def _nothing_left() -> bool:
    return True


class PendingCopy(NamedTuple):
    """A copy to the host that has been started; with `host` alone, one that has ended.

    Attributes
    ----------
    host : array
        The library's array on the host, in new memory; must not be read before the copy has ended.
    is_ready : callable
        Returns whether it has; waits for nothing.
    wait : callable
        Returns when it has.
    """

    host: Any
    is_ready: Callable[[], bool] = _nothing_left
    wait: Callable[[], object] = _nothing_left


class Backend(ABC):
    """One array library."""

    known_issues: ClassVar[tuple[KnownIssue, ...]] = ()

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What its arrays can be; a class attribute where that does not change while the process runs."""

    has_streams: ClassVar[bool] = False
    """Whether it has a current stream for each CUDA device, which `on_stream` sets."""

    @property
    def name(self) -> str:
        """The backend's name in calls."""
        return self.capabilities.name

    # What it is.

    @abstractmethod
    def owns(self, x: Any) -> bool:
        """Return whether `x` is an array of this library."""

    @abstractmethod
    def describe(self, x: Any) -> Description:
        """Describe an array; moves, synchronises and changes nothing."""

    def device_of(self, x: Any) -> Device:
        """Return the device that an array lives on."""
        return self.describe(x).device

    def is_scalar(self, x: Any) -> bool:
        """Return whether it is one of the library's scalars, which mix with arrays of any library as Python's numbers do."""
        return False

    def version_of(self, x: Any) -> Any:
        """Return what changes with every write to the array, where the library counts them; None elsewhere."""
        return None

    def may_be_aliased(self, x: Any) -> bool:
        """Return whether an array's memory belongs to another object, which somebody else may hold."""
        return False

    def import_producer(self, x: Any, stream: Callable[[Device], int | None]) -> Any:
        """Return what the other verbs work on; `stream` tells the consumer's stream for a device."""
        return x

    def parse_device(self, device: Any) -> Device:
        """Return the device that a string or one of this library's own device objects means."""
        if isinstance(device, Device):
            return device
        return Device.parse(str(device), index=self.current_index())

    def current_index(self) -> int:
        """Return the index of the accelerator that is current now."""
        return 0

    def default_device(self) -> Device:
        """Return where data go that cannot stay where they are."""
        kind = self.capabilities.default_device
        return CPU if kind == "cpu" else Device(kind, self.current_index())

    def why_unavailable(self, device: Device) -> str | None:
        """Return why a device cannot be used on this machine now; None if it can."""
        return None

    def report(self) -> dict[str, Any]:
        """Return what ``interop doctor`` says of this installation: version, devices, DLPack versions."""
        return {}

    def findings(self) -> list[str]:
        """Return what is wrong with this installation itself, in sentences."""
        return []

    def cuda(self) -> CudaView | None:
        """Return how the library sees CUDA, for ``interop doctor``; None without a device. Makes no context on one."""
        return None

    # For code that is written for any library.

    def namespace(self) -> Any:
        """Return the array API namespace of its arrays."""
        return importlib.import_module(self.name)

    def native_device(self, device: Device) -> Any:
        """Return what the namespace's functions take as ``device=``."""
        return str(device)

    def devices(self) -> tuple[str, ...]:
        """Return the devices that can be used here and now, as ``device=`` of a conversion names them; the usual one first."""
        return ("cpu",)

    def states(self) -> Mapping[str, Callable[[Any], Any]]:
        """Return what tests put an array through to see whether a function still takes it: a name, and how it is done."""
        return {}

    def native_guard(self, forbidden: frozenset[str]) -> AbstractContextManager[None]:
        """Return a context in which the library itself raises `TransferError` or `GradError` for what goes past interop.

        `forbidden` has the words of `interop.guard`. A library without a way to see it does nothing.
        """
        return contextlib.nullcontext()

    # Derivatives.

    def derivatives(self, forward: Callable[..., Any]) -> Any | None:
        """Return what makes the derivatives of a function of this library; None from a library that cannot differentiate.

        It has one method, ``pure(function, key, others)``: `interop.autograd._jax.derivatives.Derivatives` says what it is given and returns.
        """
        return None

    # Within the library.

    @abstractmethod
    def copy(self, x: Any) -> Any:
        """Return a copy in new memory, on the same device."""

    @abstractmethod
    def cast(self, x: Any, dtype: str) -> Any:
        """Return a copy with another dtype."""

    def transfer(self, x: Any, device: Device, stream: int | None) -> Any:
        """Return a copy on another device, ordered on `stream` and complete before the host can read it."""
        raise AssertionError(f"the plan moved a {self.name} array to {device}")

    def start_copy_to_host(self, x: Any, stream: int | None, origin: Any) -> PendingCopy:
        """Begin a copy to the host, ordered on `stream`; what it reads stays until it has ended, and `origin`, of which it was made. Here it has ended."""
        return PendingCopy(self.transfer(x, CPU, stream))

    def copy_many_to_host(self, arrays: list[Any], device: Device) -> list[Any]:
        """Return NumPy arrays with the values of several arrays of a device, which travel together: those that the short cut ``"copy_to_host"`` gave."""
        raise AssertionError(f"{self.name} fetched from {device}")

    def strip(self, x: Any) -> Any:
        """Return the same memory as the library's own class: a subclass may answer for its methods itself."""
        return x

    def detach(self, x: Any) -> Any:
        """Return the same memory outside of the library's graph, without its tangent."""
        return x

    def unmask(self, x: Any) -> Any:
        """Return the data under the mask."""
        return x

    def densify(self, x: Any) -> Any:
        """Return a plain strided copy of another storage layout."""
        return x

    def resolve(self, x: Any) -> Any:
        """Return a copy in which pending operations (conjugation, negation) have been carried out."""
        return x

    def protect(self, x: Any) -> Any:
        """Make a result read-only, where the library can say so."""
        return x

    def without_modes(self) -> AbstractContextManager[Any]:
        """Return a context in which the verbs see memory only: no graph, no modes, no tracing."""
        return contextlib.nullcontext()

    # Across the border.

    def host_view(self, x: Any) -> Any:
        """Return a NumPy array on the same host memory, which it keeps alive."""
        raise AssertionError(f"the plan shared a {self.name} array on the host")

    @abstractmethod
    def from_host(self, view: Any) -> Any:
        """Return an array of this library on the memory of a NumPy array, which it keeps alive."""

    def copy_from_host(self, view: Any, device: Device, stream: int | None) -> Any:
        """Return an array of this library on `device`, copied from a NumPy array on the host."""
        return self.transfer(self.from_host(view), device, stream)

    def export(self, x: Any, stream: int | None) -> Any:
        """Return a producer (`interop.dlpack.handover`) of `x`, ready for work on `stream`."""
        raise AssertionError(f"the plan exported a {self.name} array")

    def from_dlpack(self, producer: Any, device: Device) -> Any:
        """Return an array of this library on the device memory of a producer."""
        raise AssertionError(f"the plan handed device memory to {self.name}")

    def stream_pointer(self, stream: Any, device: Device) -> int | None:
        """Return the number that ``__dlpack__(stream=...)`` takes, of the current stream for None; None where there are no streams."""
        return None

    def on_stream(self, stream: int | None, device: Device) -> AbstractContextManager[Any]:
        """Return a context in which `device` and `stream` are current; both are restored after it."""
        return contextlib.nullcontext()

    def ordered_after_current(self, x: Any, stream: int | None) -> AbstractContextManager[Any]:
        """Return a context in which `stream` is current on the array's device, behind what the current one has to do; the array stays for its work."""
        return contextlib.nullcontext()

    # Memory on a CUDA device, for `interop.cuda`.

    def memory_source(self) -> AbstractContextManager[MemorySource]:
        """Return a context in which another library can take memory where this one does."""
        raise AssertionError(f"{self.name} has no pool on a CUDA device")

    def allocate_from(self, source: MemorySource) -> AbstractContextManager[Callable[[], bool]]:
        """Return a context in which this thread's arrays lie on memory of a source; gives what tells whether they do now."""
        raise AssertionError(f"{self.name} has no pool on a CUDA device")

    def pools(self, device: Device) -> Mapping[str, PoolUse]:
        """Return what its pools hold on a CUDA device, by their names."""
        return {}

    def free_memory(self, device: Device) -> tuple[int, int]:
        """Return how many bytes of a CUDA device are free, and how many it has."""
        raise AssertionError(f"{self.name} knows no CUDA device")

    # Short cuts: target backend's name -> type of the source -> guards and handoff.

    def shortcuts(self) -> Mapping[tuple[str, frozenset[str]], Mapping[Any, Shortcut]]:
        """Return the fast paths by (target, what a call has to permit: `interop.backends.shortcut`)."""
        return {}

    def as_consumer(self) -> DeviceConsumer | None:
        """Return how it takes memory on a CUDA device; None from a library without streams."""
        return None

    def export_to(self, consumer: DeviceConsumer) -> Mapping[Any, Shortcut]:
        """Return the short cuts that hand arrays on a CUDA device to another library, for work on its current stream there.

        Anything else (a stream that is named, another device than the current one, an array that needs a look) goes the long way.
        """
        return {}
