"""An array on its way to the host."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NoReturn

from interop.errors import UnsupportedTypeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from interop._model.plan import Plan


class Transfer:
    """A conversion whose data may not have arrived yet: what ``to_numpy(x, ..., blocking=False)`` returns.

    The array is behind `result`, which waits for it, so that data that have not arrived cannot be read. The source can be
    dropped, and changed by work that is queued on its stream afterwards; other work on it has to wait for the result. A
    transfer whose result is never asked for ends by itself.

    Attributes
    ----------
    plan : Plan
        What is being done.
    """

    def __init__(self, plan: Plan, is_ready: Callable[[], bool], finish: Callable[[], Any]) -> None:
        self.plan = plan
        self._is_ready, self._finish = is_ready, finish
        self._lock = threading.RLock()
        self._made: list[Any] = []

    def done(self) -> bool:
        """Return whether `result` would not wait; waits for nothing itself."""
        return bool(self._made) or self._is_ready()

    def result(self) -> Any:
        """Return the array, the same one each time; waits until it has arrived, for this transfer and nothing else.

        Raises
        ------
        InteropError
            What the conversion raises, where something is left to do on the host (a cast, say).
        """
        with self._lock:
            if not self._made:
                self._made.append(self._finish())  # the first counts: a signal's handler may have asked in the middle of it, in this thread
                self._is_ready, self._finish = _there, _there  # and the source is let go of
            return self._made[0]

    def __repr__(self) -> str:
        """Return what it is and how far; the data are not looked at."""
        return f"<Transfer of {self.plan.description} to {self.plan.target}, {'done' if self.done() else 'under way'}>"

    # Whatever takes arrays would take it for something else.

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: NumPy would make an array of one object out of it."""
        raise _no_array()

    def __dlpack__(self, **_: Any) -> NoReturn:
        """Refuse: the memory is not to be read yet."""
        raise _no_array()

    def __dlpack_device__(self) -> NoReturn:
        """Refuse."""
        raise _no_array()


def _there() -> bool:
    return True


def _no_array() -> UnsupportedTypeError:
    return UnsupportedTypeError("a Transfer is not an array: its data may not have arrived.", hint="Write transfer.result().")
