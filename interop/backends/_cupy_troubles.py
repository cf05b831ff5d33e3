"""What is known to be broken in which versions of cupy."""

from __future__ import annotations

from interop.backends._base import KnownTrouble

TROUBLES: tuple[KnownTrouble, ...] = ()
