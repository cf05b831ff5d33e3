"""What is known to be broken in which versions of numpy."""

from __future__ import annotations

from interop.backends._base import KnownTrouble

TROUBLES: tuple[KnownTrouble, ...] = ()
