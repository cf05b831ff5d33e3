"""Names in messages: the nearest right word for a wrong one, and what an object is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["nearest", "type_name"]


def nearest(word: str, words: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"``, or an empty string when nothing is near."""
    from difflib import get_close_matches  # on request: only mistakes need it

    found = get_close_matches(word.lower(), list(words), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else "."


def type_name(x: Any) -> str:
    """Return the qualified name of an object's class, as messages have it.

    >>> type_name(1), type_name(nearest)
    ('int', 'function')
    """
    return f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")
