"""torch's memory while another library works on it: not handed out again before that work is done.

torch does that itself (`torch.Tensor.record_stream`): when the memory comes back it asks each stream that was named how far it has come.
So those streams have to be there until then, whoever made them: with one that was destroyed, giving memory back would be an error of CUDA
in the middle of a finaliser.
"""

from __future__ import annotations

import threading
from typing import Any

from torch.multiprocessing.reductions import StorageWeakRef

from interop.backends._streams import holder_of

__all__ = ["Held", "lend"]


def lend(x: Any, stream: Any, number: int) -> None:
    """Keep a tensor's memory for work on a stream; nothing happens for memory of that very stream, nor for memory that is not torch's."""
    x.record_stream(stream)
    if (holder := holder_of(number)) is not None:
        _held.hold(holder, x.untyped_storage())


class Held:
    """Objects that are held until storages are gone; looked after now and then, as nobody is told when a storage goes."""

    def __init__(self) -> None:
        self._by_holder: dict[int, tuple[Any, dict[int, StorageWeakRef]]] = {}
        self._last: list[Any] = []
        self._count, self._limit = 0, LEAST
        self._lock = threading.RLock()  # in the middle of this the garbage collector may run a finaliser that comes here

    def __len__(self) -> int:
        return len(self._by_holder)

    def hold(self, holder: Any, storage: Any) -> None:
        """Hold an object for as long as a storage lives, and a while longer."""
        with self._lock:
            _, storages = self._by_holder.setdefault(id(holder), (holder, {}))
            if storage._cdata in storages:  # not another's: while there is a weak reference its place is not given away
                return
            storages[storage._cdata] = StorageWeakRef(storage)
            self._count += 1
            if self._count > self._limit:
                self.sweep()

    def sweep(self) -> None:
        """Let go of what nobody needs any more: of the objects the next time, as a storage counts as gone before its memory is back."""
        with self._lock:
            self._last.clear()
            for key, (holder, storages) in list(self._by_holder.items()):
                for place in [place for place, storage in storages.items() if storage.expired()]:
                    del storages[place]
                if not storages:
                    self._last.append(holder)
                    del self._by_holder[key]
            self._count = sum(len(storages) for _, storages in self._by_holder.values())
            self._limit = max(LEAST, 2 * self._count)


LEAST = 64
"""Storages that are held for at least before it is looked whether they are gone."""

_held = Held()
