"""Large crossings between a device and pageable memory of the host, in chunks through two page-locked buffers.

A device reaches page-locked memory only; for other memory the driver copies through buffers of its own, one chunk after the other
(1.4 GB/s where page-locked memory had 12.6 in pytorch#138018). Here one buffer is filled while the other is emptied. Page-locking the
memory itself would take longer than copying it, and what is page-locked is lost to the rest of the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CAPTURING", "CHUNK", "SLOTS", "WORTH", "chunks", "through"]

CAPTURING = "a CUDA graph is being captured on this stream: a copy from or to the host cannot be waited for, and would be of the past when it is replayed."

CHUNK = 16 << 20
"""Bytes of a buffer."""

SLOTS = 2
"""How many there are."""

WORTH = 2 * CHUNK
"""Bytes from which on it is done: with less there is nothing to overlap."""


def chunks(nbytes: int) -> Iterator[tuple[int, int, int]]:
    """Yield for each chunk its slot, and its first and last byte (exclusive)."""
    for n, low in enumerate(range(0, nbytes, CHUNK)):
        yield n % SLOTS, low, min(low + CHUNK, nbytes)


def through(nbytes: int, fetch: Callable[[int, int, int], None], take_out: Callable[[int, int, int], None]) -> None:
    """Call `fetch` for each chunk and then `take_out` for the one before it, so that the device works meanwhile."""
    waiting: list[tuple[int, int, int]] = []
    for chunk in chunks(nbytes):
        fetch(*chunk)
        waiting.append(chunk)
        if len(waiting) == SLOTS:
            take_out(*waiting.pop(0))
    for chunk in waiting:
        take_out(*chunk)
