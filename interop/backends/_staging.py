"""Large crossings between a device and pageable memory of the host, in chunks through two page-locked buffers.

A device reaches page-locked memory only; for other memory the driver copies through buffers of its own, one chunk after the other
(1.4 GB/s where page-locked memory had 12.6 in pytorch#138018). Here one buffer is filled while the other is emptied. Page-locking the
memory itself would take longer than copying it, and what is page-locked is lost to the rest of the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CHUNK", "SLOTS", "WORTH", "through"]

CHUNK = 16 << 20
"""Bytes of a buffer."""

SLOTS = 2
"""How many there are."""

WORTH = 2 * CHUNK
"""Bytes from which on it is done: with less there is nothing to overlap."""


def through(nbytes: int, first: Callable[[int, int, int], None], second: Callable[[int, int, int], None]) -> None:
    """Call `first` for each chunk and `second` for the one before it, so that the two go on at the same time.

    Both are called with the slot and the chunk's first and last byte (exclusive). A slot's next `first` comes after its `second`.
    """
    waiting: list[tuple[int, int, int]] = []
    for n, low in enumerate(range(0, nbytes, CHUNK)):
        chunk = n % SLOTS, low, min(low + CHUNK, nbytes)
        first(*chunk)
        waiting.append(chunk)
        if len(waiting) == SLOTS:
            second(*waiting.pop(0))
    for chunk in waiting:
        second(*chunk)
