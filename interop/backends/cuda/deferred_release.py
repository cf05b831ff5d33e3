"""What is kept until work on a device is done, without anybody waiting for it."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interop.backends.cuda.driver import Relaxed

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["Kept", "all_done"]


def all_done() -> bool:
    """Say that there is nothing to wait for."""
    return True


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

    def keep_for(self, stream: Hashable, ask: Callable[[], Callable[[], bool] | None], what: Any) -> None:
        """Keep something for the work that a stream has by now.

        `ask` returns the question whether that is done: `all_done` where there is none, and nothing is kept; None while the stream captures a
        graph, as what it has then must not be asked for. Of such a stream it is the work that it has when it is found that the capture is over.
        """
        question = ask()
        if question is not all_done:
            self.keep(stream, question or _Later(ask), what)


class _Later:
    """The question of a stream that captures a graph yet."""

    def __init__(self, ask: Callable[[], Callable[[], bool] | None]) -> None:
        self._ask = ask
        self._question: Callable[[], bool] | None = None

    def __call__(self) -> bool:
        self._question = self._question or self._ask()
        return self._question is not None and self._question()


def _settle(queue: deque[_Thing]) -> None:
    with contextlib.suppress(IndexError):  # it is empty
        while (first := queue[0]).is_done():
            with contextlib.suppress(ValueError):  # another thread was faster
                queue.remove(first)
