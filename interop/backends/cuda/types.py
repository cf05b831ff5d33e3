"""What libraries on a CUDA device say of it, and hand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

PoolUse = tuple[int, int]
"""Bytes in use, and bytes that a pool holds altogether."""


class Card(NamedTuple):
    """A CUDA device as a library sees it: its name, its place on the bus, and the devices whose memory it reaches."""

    name: str
    bus: str
    peers: tuple[int, ...] = ()


class CudaView(NamedTuple):
    """CUDA as a library sees it: the newest CUDA of the driver, its own runtime, what it allocates with, and its devices in order."""

    driver: str
    runtime: str
    allocator: str
    cards: tuple[Card, ...]


class DeviceConsumer(NamedTuple):
    """How a library takes memory on a CUDA device, for the fast path between two.

    Attributes
    ----------
    dtypes : frozenset of str
        Those that it has.
    stream_pointer : callable
        Called with the index of a device: the pointer of the library's current stream there (0 for the legacy one).
    from_capsule : callable
        Called with a capsule and the index: an array of the library. The device is current.
    """

    dtypes: frozenset[str]
    stream_pointer: Callable[[int], int]
    from_capsule: Callable[[Any, int], Any]


@dataclass(frozen=True, slots=True)
class MemorySource:
    """Where another library may take memory on a CUDA device.

    Attributes
    ----------
    allocate, release : callable or None
        Called with a size in bytes, the index of a device and the pointer of the stream to which the memory is to belong (0 for
        the legacy one): its address, or MemoryError. And with the address, when it goes back.
    library : str or None
        A shared library with two C functions ``allocate`` and ``release``, as torch has them, in which no Python runs.
    is_used : callable
        Whether the library whose it is takes its own memory there now, in this thread.
    """

    allocate: Callable[[int, int, int], int] | None = None
    release: Callable[[int], None] | None = None
    library: str | None = None
    is_used: Callable[[], bool] = bool
