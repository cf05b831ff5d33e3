"""The one concern that every library has: what its arrays are, and how they are copied and shared on the host."""

from __future__ import annotations

import contextlib
import importlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from interop._model.description import CPU, Description, Device
from interop.errors import DeviceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from interop._model.capabilities import Capabilities

__all__ = ["Arrays", "PendingCopy"]


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


class Arrays(ABC):
    """Arrays of a library: described, copied within the library, and shared with NumPy on the host.

    The methods without a default are all that a library on the host needs. Each does one thing to one array of the library, and checks
    nothing: whether it may be done was decided before, from `describe` and `capabilities`. A method must not change its argument, and it
    turns its library's exceptions into interop's (`interop.errors`).

    Shapes are tuples of int, strides count **elements**, sizes count **bytes**, addresses are integers.
    """

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the library's arrays can be; a class attribute where that does not change while the process runs."""

    @property
    def name(self) -> str:
        """The backend's name in calls: the package in which the class of its arrays is defined."""
        return self.capabilities.name

    @abstractmethod
    def owns(self, x: Any) -> bool:
        """Return whether `x` is an array of this library; asked once for each type."""

    @abstractmethod
    def describe(self, x: Any) -> Description:
        """Describe an array.

        Parameters
        ----------
        x : array
            One of this library.

        Returns
        -------
        Description
            With strides in elements and the address of the first element. It holds no reference: the memory stays the library's.
            What is left out has the default of a plain array: C order, writable, aligned, outside of any graph.

        Notes
        -----
        Moves, computes and synchronises nothing. The decision sees nothing but this, so whatever must not be lost (a gradient, a mask,
        a pending operation, the read-only flag) has to be in it.
        """

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
        """Return whether an array's memory belongs to another object, to which there may be other references."""
        return False

    def import_producer(self, x: Any, stream: Callable[[Device], int | None]) -> Any:
        """Return what the other methods work on; for sources that have to be exported first (`interop.backends.dlpack`).

        `stream` is called with a device, and returns the number of the consumer's stream there.
        """
        return x

    def namespace(self) -> Any:
        """Return the array API namespace of its arrays."""
        return importlib.import_module(self.name)

    # Within the library: the results are arrays of the library.

    @abstractmethod
    def copy(self, x: Any) -> Any:
        """Return a copy in new memory, on the same device; complete before the source can change."""

    @abstractmethod
    def cast(self, x: Any, dtype: str) -> Any:
        """Return a copy with another dtype, given by its canonical name; the loss was permitted by name, and is no warning."""

    def strip(self, x: Any) -> Any:
        """Return the same memory as the library's own class: a subclass may answer for its methods itself."""
        return x

    def detach(self, x: Any) -> Any:
        """Return the same memory outside of the library's graph, without its tangent."""
        return x

    def unmask(self, x: Any) -> Any:
        """Return the data under the mask, on the same memory."""
        return x

    def unitless(self, x: Any) -> Any:
        """Return the stored numbers of an array that has a unit, on the same memory; `strip` took the class off that knows it."""
        return x

    def inside(self, x: Any) -> Any:
        """Return what a wrapper holds, where those are the library's arrays (`Capabilities.wraps`)."""
        return x

    def densify(self, x: Any) -> Any:
        """Return a plain strided copy of another storage layout."""
        return x

    def resolve(self, x: Any) -> Any:
        """Return a copy in which pending operations (conjugation, negation) have been resolved."""
        return x

    def protect(self, x: Any) -> Any:
        """Return a result read-only, where `capabilities` says that the library has such arrays."""
        return x

    def without_modes(self) -> AbstractContextManager[Any]:
        """Return a context in which the methods see memory only: no graph, no modes, no tracing."""
        return contextlib.nullcontext()

    # Shared with NumPy, in whose arrays host memory crosses.

    def host_view(self, x: Any) -> Any:
        """Return a NumPy array on an array's host memory.

        The memory stays the library's; the result keeps it alive. It is read-only where the array is.
        """
        raise AssertionError(f"the plan shared a {self.name} array on the host")

    @abstractmethod
    def from_host(self, view: Any) -> Any:
        """Return an array of this library on the memory of a NumPy array.

        The memory stays NumPy's; the result keeps `view` alive. A read-only `view` comes where the library has read-only arrays, and
        elsewhere where the caller asked for it (``readonly="share"``) or a copy follows.
        """

    def copy_from_host(self, view: Any, device: Device, stream: int | None) -> Any:
        """Return an array of this library on `device`, copied from a NumPy array; `view` may change as soon as this returns."""
        return self.transfer(self.from_host(view), device, stream)

    # On other devices than the host.

    def parse_device(self, device: Any) -> Device:
        """Return the device that a string or one of this library's own device objects means."""
        return device if isinstance(device, Device) else Device.parse(str(device), index=self.current_index())

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

    def transfer(self, x: Any, device: Device, stream: int | None) -> Any:
        """Return a copy on another device, ordered on `stream`; complete before the host can read it."""
        raise AssertionError(f"the plan moved a {self.name} array to {device}")

    def start_copy_to_host(self, x: Any, stream: int | None, origin: Any) -> PendingCopy:
        """Start a copy to the host, ordered on `stream`, and do not wait for it.

        Until it has ended, the memory that it reads stays, and that of `origin`, of which `x` was made.
        """
        return PendingCopy(self.transfer(x, CPU, stream))

    def export(self, x: Any, stream: int | None) -> Any:
        """Return a producer (`interop.dlpack.producer_of`) of an array on a device.

        What the array is made of has to be ready for work on `stream` (None: not ordered). The memory stays the library's until the
        consumer calls the capsule's deleter, and must not be reused before work on `stream` by then has ended.
        """
        raise self._unshared(self.device_of(x))

    def from_dlpack(self, producer: Any, device: Device) -> Any:
        """Return an array of this library on the device memory of a producer, which it keeps alive."""
        raise self._unshared(device)

    def _unshared(self, device: Device) -> DeviceUnavailableError:
        # Two libraries may each have a device of their own ("ext:1"), which a plan takes for one.
        title = self.capabilities.title
        return DeviceUnavailableError(f"{title} shares no memory on {device}", hint="Ask for the host by name, with device='cpu'.")
