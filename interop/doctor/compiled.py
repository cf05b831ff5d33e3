"""Whether the compiled half is there: it is optional, and conversions without it cost several times as much."""

from __future__ import annotations

from interop.native.compiled import compiled

__all__ = ["compiled_half"]

_MISSING = (
    "the C extension is missing, or of another version: a short conversion takes several times as long in Python. "
    "Reinstall array-interop from a wheel for this Python, or where there is a C compiler."
)


def compiled_half() -> list[str]:
    """Return what is wrong with the C extension, in sentences."""
    if compiled is not None:
        return []
    return [_MISSING]
