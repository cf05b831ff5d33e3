"""What a library may have besides arrays, one class for each concern; every method has a default for a library without it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from interop._model.description import Device
    from interop.backends.base.issues import KnownIssue
    from interop.backends.cuda.types import CudaView, DeviceConsumer, MemorySource, PoolUse
    from interop.backends.shortcut import Shortcut

__all__ = ["FastPaths", "Gradients", "Pools", "Reports", "Streams", "Testing"]


class Streams:
    """Work on a device that is ordered by streams (CUDA, ROCm).

    A stream is the number that ``__dlpack__(stream=...)`` takes: 1 the legacy default stream, 2 the one of each thread, otherwise its
    address; -1 asks for no order, None is the current stream.
    """

    has_streams: ClassVar[bool] = False
    """Whether it has a current stream for each device, which `on_stream` sets."""

    def stream_pointer(self, stream: Any, device: Device) -> int | None:
        """Return the number of a stream object, of the current stream for None; None where there are no streams."""
        return None

    def on_stream(self, stream: int | None, device: Device) -> AbstractContextManager[Any]:
        """Return a context in which `device` and `stream` are current; both are restored after it."""
        return contextlib.nullcontext()

    def ordered_after_current(self, x: Any, stream: int | None) -> AbstractContextManager[Any]:
        """Return a context in which `stream` is current on the array's device.

        Its work is ordered after what the current stream has to do by now, and the array's memory is not reused before it has ended.
        """
        return contextlib.nullcontext()

    def copy_many_to_host(self, arrays: list[Any], device: Device) -> list[Any]:
        """Return NumPy arrays with the values of small arrays of one device, in one transfer: those of the fast paths ``TO_HOST``."""
        raise AssertionError(f"{type(self).__name__} copied from {device}")


_NO_POOL = "{} has no pool on a CUDA device"


class Pools:
    """Memory on a CUDA device, for `interop.cuda`. Sizes are in bytes."""

    def memory_source(self) -> AbstractContextManager[MemorySource]:
        """Return a context in which another library can allocate where this one does."""
        raise AssertionError(_NO_POOL.format(type(self).__name__))

    def allocate_from(self, source: MemorySource) -> AbstractContextManager[Callable[[], bool]]:
        """Return a context in which this thread's arrays are allocated from a source; yields what tells whether they are now."""
        raise AssertionError(_NO_POOL.format(type(self).__name__))

    def pools(self, device: Device) -> Mapping[str, PoolUse]:
        """Return for each pool the bytes in use on a device, and those that it holds altogether."""
        return {}

    def free_memory(self, device: Device) -> tuple[int, int]:
        """Return how many bytes of a device are free, and how many it has."""
        raise AssertionError(f"{type(self).__name__} knows no CUDA device")


class FastPaths:
    """Fast paths, as data. A library without them is as correct, and slower."""

    def shortcuts(self) -> Mapping[tuple[str, frozenset[str]], Mapping[Any, Shortcut]]:
        """Return fast paths by (target, what a call has to permit: `interop.backends.shortcut`), and then by the type of the source."""
        return {}

    def as_consumer(self) -> DeviceConsumer | None:
        """Return how it takes memory on a CUDA device; None from a library without streams."""
        return None

    def export_to(self, consumer: DeviceConsumer) -> Mapping[Any, Shortcut]:
        """Return fast paths, by type, that export arrays on a CUDA device to a consumer, ordered before its current stream's work.

        Anything else (a stream that is named, another device than the current one) is decided and planned.
        """
        return {}


class Reports:
    """What ``interop doctor`` says of an installation."""

    known_issues: ClassVar[tuple[KnownIssue, ...]] = ()

    def report(self) -> dict[str, Any]:
        """Return facts of this installation: version, devices, DLPack versions."""
        return {}

    def findings(self) -> list[str]:
        """Return what is wrong with this installation itself, in sentences."""
        return []

    def cuda(self) -> CudaView | None:
        """Return how the library sees CUDA; None without a device. Makes no context on one."""
        return None


class Gradients:
    """What a library with gradients has; interop's own parts of it are in `interop.autograd` and `interop._watch`."""

    def native_guard(self, forbidden: frozenset[str]) -> AbstractContextManager[None]:
        """Return a context in which the library itself raises `TransferError` or `GradError` for what goes past interop.

        `forbidden` has the words of `interop.guard`. A library without a way to see it does nothing.
        """
        return contextlib.nullcontext()

    def derivatives(self, forward: Callable[..., Any]) -> Any | None:
        """Return what differentiates a function of this library; None from a library that cannot.

        It has one method, ``pure(function, key, others)``: `interop.autograd._jax.derivatives.Derivatives` says what it is given and returns.
        """
        return None


class Testing:
    """The devices and states in which `interop.testing` runs a test."""

    def native_device(self, device: Device) -> Any:
        """Return what the namespace's functions take as ``device=``."""
        return str(device)

    def devices(self) -> tuple[str, ...]:
        """Return the devices that can be used here and now, as ``device=`` of a conversion names them; the usual one first."""
        return ("cpu",)

    def states(self) -> Mapping[str, Callable[[Any], Any]]:
        """Return states that tests put an array into, to see whether a function still takes it: a name, and how it is done."""
        return {}
