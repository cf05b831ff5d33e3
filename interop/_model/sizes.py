"""Sizes in words."""

from __future__ import annotations


def sized(count: int) -> str:
    """Return a number of bytes in the largest unit that fits.

    >>> sized(512), sized(3 << 19), sized(5 << 40)
    ('512 bytes', '1.5 MiB', '5120.0 GiB')
    """
    size, unit = float(count), "bytes"
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
