"""What is kept until work on a device is done, without anybody waiting for it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Kept"]


class Kept:
    """A queue of things, each until its work is done; let go of in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], bool], Any]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def keep(self, is_done: Callable[[], bool], what: Any) -> None:
        """Keep something until `is_done`, which is asked when the next thing comes, and waits for nothing itself."""
        self._waiting.append((is_done, what))

    def settle(self) -> None:
        """Let go of those whose work is done."""
        # Without a lock: what comes may come in the middle of this, in this thread too.
        while self._waiting:
            try:
                is_done, what = self._waiting.popleft()
            except IndexError:  # another thread was faster
                return
            if not is_done():
                self._waiting.appendleft((is_done, what))
                return
            del is_done, what

    def clear(self) -> None:
        """Let go of all."""
        self._waiting.clear()
