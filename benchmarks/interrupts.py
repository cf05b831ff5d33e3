"""What stops a run from outside, made into one exception at places where it can be caught: SIGTERM, SIGINT, the end of its time.

A signal's handler runs between two instructions of Python, so a loop in Python is stopped, and a call that hangs in C is not: that is left
to whoever started the process.
"""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["INTERRUPTED", "STOPPED", "Interrupts", "StoppedError"]

STOPPED, INTERRUPTED = 1, 130
"""Exit statuses: after SIGTERM or the end of the time, and after SIGINT, as a shell has it."""

AGAIN_S = 0.5
"""Seconds after which the exception is raised once more: one that was raised in a finalizer is printed there, and lost."""


class StoppedError(BaseException):
    """The run was stopped; no Exception, so that no library takes it for an error of its own.

    Attributes
    ----------
    reason : str
        What stopped it, for the results.
    status : int
        The exit status that says so.
    """

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.reason, self.status = reason, status


class Interrupts:
    """Handles the signals while it is entered, and raises `StoppedError` inside of `allowed`, and nowhere else.

    Parameters
    ----------
    seconds : float, optional
        The time of the run, from the moment at which this is entered; None for no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.stopped: StoppedError | None = None
        self._allowed = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            self._before[number] = signal.signal(number, self._come)
        if self.seconds is not None:
            # A time of 0 would set no timer.
            signal.setitimer(signal.ITIMER_REAL, max(self.seconds, 1e-6), AGAIN_S)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _come(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's signature
        if self.stopped is None:
            over = number == signal.SIGALRM
            reason = f"stopped after {self.seconds:g} seconds" if over else f"stopped by {signal.Signals(number).name}"
            self.stopped = StoppedError(reason, INTERRUPTED if number == signal.SIGINT else STOPPED)
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)
        if self._allowed:
            raise self.stopped

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Let a signal raise, also one that came before."""
        self._allowed = True
        try:
            if self.stopped:
                raise self.stopped
            yield
        finally:
            self._allowed = False
