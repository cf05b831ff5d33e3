"""Deferred release of torch's memory: memory still in use by another stream is not reused.

torch does that itself (`torch.Tensor.record_stream`): on release its allocator asks each recorded stream how far it has come. So those
streams have to exist until then, whichever library made them: with a destroyed one the release would be a CUDA error inside a finalizer.

In two cases torch does not: its allocator on CUDA's own pool refuses memory that is not its own, and before 2.13 streams recorded inside of
a `torch.cuda.MemPool` are forgotten (pytorch#175015). There the release is deferred as CuPy's is.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from typing import TYPE_CHECKING, Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from interop.backends.cuda.deferred_release import DeferredRelease
from interop.backends.cuda.driver import Relaxed
from interop.backends.cuda.streams import stream_owners
from interop.backends.torch import kinds
from interop.backends.torch import pool as _torch_pool
from interop.dlpack import LEGACY, PER_THREAD

if TYPE_CHECKING:
    from collections.abc import Callable

compiled: Callable[[Any, Callable[[Any], None]], Any] | None
try:
    compiled = importlib.import_module("interop.native.lend").defer_release
except ImportError:  # an installation without a compiler
    compiled = None

deferred = DeferredRelease()
"""Tensors in use by work on a device, though nothing else refers to them."""


def defer_release(x: Any, capsule: Any, number: int, stream: Any = None) -> Any:
    """Return a capsule of a tensor, whose release is deferred for work on a stream of the current device; `stream` is torch's object for it."""
    if compiled is None or _records():
        # Nothing happens for memory of that very stream, nor for memory that is not torch's.
        x.record_stream(native_stream(number) if stream is None else stream)
        hold_stream_owners(x, number)
        return capsule
    deferred.release_completed()
    return compiled(capsule, functools.partial(_on_release, x.get_device(), number, stream_owners(number)))


def release_after(number: int, x: Any) -> None:
    """Keep a tensor's memory for the work that a stream of the current device has by now."""
    if _records() and _is_plain(x):
        x.record_stream(native_stream(number))
        hold_stream_owners(x, number)
    else:
        _on_release(torch.cuda.current_device(), number, stream_owners(number), x)


def native_stream(number: int) -> Any:
    """Return torch's stream of a number, on the device that is current.

    The per-thread one is another in each thread, and a release may happen in any; the legacy one is ordered after all of them.
    """
    current = torch.cuda.current_stream()
    if number == PER_THREAD:
        return torch.cuda.default_stream()
    if (current.cuda_stream or LEGACY) == number:
        return current
    return torch.cuda.default_stream() if number == LEGACY else torch.cuda.ExternalStream(number)


def hold_stream_owners(x: Any, number: int) -> None:
    """Have the object that a stream belongs to live as long as a tensor's memory."""
    for owner in stream_owners(number):
        _owners.add(owner, x.untyped_storage())


def _records() -> bool:
    """Return whether torch itself defers the release for recorded streams."""
    return _is_native() and (_REMEMBERS or not _torch_pool.is_open())


@functools.cache
def _is_native() -> bool:
    return torch.cuda.get_allocator_backend() == "native"


_REMEMBERS = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 13)


def _on_release(device: int, number: int, owners: Any, own: Any) -> None:
    """Keep memory until the work is done that a stream has by now; `owners` are what it may belong to."""
    if not sys.is_finalizing():
        deferred.defer((device, number), functools.partial(_ask, device, number), (own, owners))


def _ask(device: int, number: int) -> Callable[[], bool] | None:
    """Return what tells whether the work is done that a stream has by now; None while it captures a graph."""
    with torch.cuda.device(device), Relaxed():
        stream = native_stream(number)
        with torch.cuda.stream(stream):
            if torch.cuda.is_current_stream_capturing():
                return None
        event = torch.cuda.Event()
        event.record(stream)
    asked: Callable[[], bool] = event.query
    return asked


def _is_plain(x: Any) -> bool:
    """Return whether torch can record a stream for it: it cannot for sparse and quantized tensors, nor for wrappers."""
    plain = type(x) in (torch.Tensor, torch.nn.Parameter) and kinds.layout_of(x) == "strided"
    return plain and not torch._C._functorch.is_functorch_wrapped_tensor(x)


class StreamOwners:
    """Owners of streams, referred to until storages are freed; checked now and then, as freeing a storage calls nothing."""

    def __init__(self) -> None:
        self._by_owner: dict[int, tuple[Any, dict[int, StorageWeakRef]]] = {}
        self._last: list[Any] = []
        self._count, self._limit = 0, LEAST
        self._lock = threading.RLock()  # in the middle of this the garbage collector may run a finaliser that comes here

    def __len__(self) -> int:
        return len(self._by_owner)

    def add(self, owner: Any, storage: Any) -> None:
        """Hold an object for as long as a storage lives, and a while longer."""
        with self._lock:
            _, storages = self._by_owner.setdefault(id(owner), (owner, {}))
            if storage._cdata in storages:  # not another's: while there is a weak reference its place is not given away
                return
            storages[storage._cdata] = StorageWeakRef(storage)
            self._count += 1
            if self._count > self._limit:
                self.remove_expired()

    def remove_expired(self) -> None:
        """Drop owners whose storages are freed: one call later, as a storage counts as freed before its allocator has asked the stream."""
        with self._lock:
            self._last.clear()
            for key, (owner, storages) in list(self._by_owner.items()):
                for place in [place for place, storage in storages.items() if storage.expired()]:
                    del storages[place]
                if not storages:
                    self._last.append(owner)
                    del self._by_owner[key]
            self._count = sum(len(storages) for _, storages in self._by_owner.values())
            self._limit = max(LEAST, 2 * self._count)


LEAST = 64
"""Storages that are held for at least before it is looked whether they are gone."""

_owners = StreamOwners()
