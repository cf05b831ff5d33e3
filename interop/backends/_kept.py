"""What is kept until work on a device is done, without anybody waiting for it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from interop.backends._cuda_driver import Relaxed

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["Kept"]


class Kept:
    """Queues of things, one for each stream: each thing until its work is done, let go of in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[tuple[Callable[[], bool], Any]]] = {}

    def __len__(self) -> int:
        return sum(map(len, list(self._waiting.values())))

    def keep(self, stream: Hashable, is_done: Callable[[], bool], what: Any) -> None:
        """Keep something until `is_done`, which is asked when the next thing comes, and waits for nothing itself."""
        self._add(stream, [(is_done, what)])

    def settle(self) -> None:
        """Let go of those whose work is done."""
        if self._waiting:
            with Relaxed():
                for stream in list(self._waiting):
                    self._settle(stream)

    def _settle(self, stream: Hashable) -> None:
        # Without a lock: what comes may come in the middle of this, in this thread too, and to let go of something may take a lock of
        # an allocator, in which another thread comes here. A queue that was taken out is put back
        # behind what came meanwhile, which is later than needed and no harm.
        queue = self._waiting.pop(stream, None)
        while queue:
            is_done, what = queue.popleft()
            if not is_done():
                queue.appendleft((is_done, what))
                self._add(stream, list(queue))
                return
            del is_done, what

    def _add(self, stream: Hashable, things: list[tuple[Callable[[], bool], Any]]) -> None:
        while True:
            queue = self._waiting.setdefault(stream, deque())
            queue.extend(things)
            if self._waiting.get(stream) is queue:
                return
            # Another thread took the queue out meanwhile, and may have been through with it: once more. To be in two queues is no harm.

    def clear(self) -> None:
        """Let go of all."""
        self._waiting.clear()
