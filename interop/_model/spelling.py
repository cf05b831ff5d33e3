"""Slips of the keyboard: the nearest right word for a wrong one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["nearest"]


def nearest(word: str, words: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"``, or an empty string when nothing is near."""
    from difflib import get_close_matches  # on request: only mistakes need it

    found = get_close_matches(word.lower(), list(words), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else "."
