"""What is known to be broken in which versions of JAX.

Imports no JAX: the doctor also reads this where JAX itself cannot be imported.
"""

from __future__ import annotations

from interop.backends._base import KnownTrouble

__all__ = ["DISTRIBUTIONS", "TROUBLES", "findings"]

DISTRIBUTIONS = ("jax",)
"""The distributions that install this library."""

TROUBLES: tuple[KnownTrouble, ...] = ()


def findings() -> list[str]:
    """Return what is wrong with the JAX that is installed; what can be is seen from outside (`interop.doctor`)."""
    return []
