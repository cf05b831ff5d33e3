"""What is kept until work on a device is done, without anybody waiting for it."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interop.backends._cuda_driver import Relaxed

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["Kept"]


@dataclass(frozen=True, slots=True, eq=False)  # what is kept may be an array, which is not compared
class _Thing:
    is_done: Callable[[], bool]
    what: Any


class Kept:
    """Queues of things, one for each stream: each thing until its work is done, let go of in the order in which they came.

    Without locks: things come in finalisers, which run in the middle of anything, in this thread too, and to let go of one may take a
    lock of an allocator, in which another thread comes here. So a queue stays where it is once it was made, and a thing stays in
    it until it is known to be done: whoever is interrupted in between, by an error or a user, has lost nothing.
    """

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[_Thing]] = {}

    def __len__(self) -> int:
        return sum(map(len, list(self._waiting.values())))

    def keep(self, stream: Hashable, is_done: Callable[[], bool], what: Any) -> None:
        """Keep something until `is_done`, which is asked when the next thing comes, and waits for nothing itself."""
        self._waiting.setdefault(stream, deque()).append(_Thing(is_done, what))

    def settle(self) -> None:
        """Let go of those whose work is done."""
        queues = [queue for queue in list(self._waiting.values()) if queue]
        if queues:
            with Relaxed():
                for queue in queues:
                    _settle(queue)

    def clear(self) -> None:
        """Let go of all."""
        self._waiting.clear()


def _settle(queue: deque[_Thing]) -> None:
    with contextlib.suppress(IndexError):  # it is empty
        while (first := queue[0]).is_done():
            with contextlib.suppress(ValueError):  # another thread was faster
                queue.remove(first)
