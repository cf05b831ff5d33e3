"""What is known to be broken in which versions of array-api-strict.

Imports no array-api-strict: the doctor also reads this where array-api-strict itself cannot be imported.
"""

from __future__ import annotations

from interop.backends._base import KnownTrouble

__all__ = ["DISTRIBUTIONS", "TROUBLES", "findings"]

DISTRIBUTIONS = ("array-api-strict",)
"""The distributions that install this library."""

TROUBLES: tuple[KnownTrouble, ...] = ()


def findings() -> list[str]:
    """Return what is wrong with the array-api-strict that is installed; what can be is seen from outside (`interop.doctor`)."""
    return []
