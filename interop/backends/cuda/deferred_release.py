"""Memory whose release is deferred until work on a device has completed, without waiting for it."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interop.backends.cuda.driver import Relaxed

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


def all_done() -> bool:
    """Return True: there is nothing to wait for."""
    return True


@dataclass(frozen=True, slots=True, eq=False)  # an owner may be an array, which is not compared
class _Entry:
    is_done: Callable[[], bool]
    owner: Any


class DeferredRelease:
    """One queue of owners for each stream; an owner is released when its work has completed, in the order of arrival.

    Lock-free on purpose: entries are added from finalizers, which may run at any bytecode of any thread, this one included. And releasing
    an owner may take an allocator's lock, under which another thread comes here. So a queue is never removed once it was made, and an entry
    stays in its queue until its work is known to have completed: an error or an interrupt in between loses nothing.
    """

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[_Entry]] = {}

    def __len__(self) -> int:
        return sum(map(len, list(self._waiting.values())))

    def add(self, stream: Hashable, is_done: Callable[[], bool], owner: Any) -> None:
        """Hold an owner until `is_done`, which is asked when others are added or released, and must not wait."""
        self._waiting.setdefault(stream, deque()).append(_Entry(is_done, owner))

    def release_completed(self) -> None:
        """Release the owners whose work has completed; waits for nothing."""
        queues = [queue for queue in list(self._waiting.values()) if queue]
        if queues:
            with Relaxed():
                for queue in queues:
                    _release_completed(queue)

    def defer(self, stream: Hashable, ask: Callable[[], Callable[[], bool] | None], owner: Any) -> None:
        """Hold an owner until the work that the stream has by now has completed.

        `ask` returns the question whether it has. `all_done` means that there is none, and nothing is held. None means that the stream
        captures a graph, during which no event may be asked; the work waited for is then what the stream has when the capture is found ended.
        """
        question = ask()
        if question is not all_done:
            self.add(stream, question or _AfterCapture(ask), owner)


class _AfterCapture:
    """The question for a stream that still captures a graph: asked once the capture has ended."""

    def __init__(self, ask: Callable[[], Callable[[], bool] | None]) -> None:
        self._ask = ask
        self._question: Callable[[], bool] | None = None

    def __call__(self) -> bool:
        self._question = self._question or self._ask()
        return self._question is not None and self._question()


def _release_completed(queue: deque[_Entry]) -> None:
    with contextlib.suppress(IndexError):  # it is empty
        while (first := queue[0]).is_done():
            with contextlib.suppress(ValueError):  # another thread was faster
                queue.remove(first)
