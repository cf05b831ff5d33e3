"""A copy to the host that has been asked for, and may not have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Departure", "arrived"]


class Departure(NamedTuple):
    """What `Backend.depart` returns.

    Attributes
    ----------
    host : array
        The library's array on the host, to be read when the copy has ended and not before.
    is_there : callable
        Whether it has; waits for nothing.
    wait : callable
        Returns when it has.
    """

    host: Any
    is_there: Callable[[], bool]
    wait: Callable[[], object]


def arrived(host: Any) -> Departure:
    """Return one that has ended."""
    return Departure(host, lambda: True, lambda: None)
