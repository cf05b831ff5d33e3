"""Large crossings between a device and pageable memory of the host, in chunks through two page-locked buffers.

A device reaches page-locked memory only; for other memory the driver copies through buffers of its own, one chunk after the other
(1.4 GB/s where page-locked memory had 12.6 in pytorch#138018). Here one buffer is filled while the other is emptied. Page-locking the
memory itself would take longer than copying it, and what is page-locked is lost to the rest of the machine.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CAPTURING = "a CUDA graph is being captured on this stream: a copy from or to the host cannot be waited for, and would be of the past when it is replayed."

OUTSIDE = "Convert before the capture begins, into memory that the graph works on, or after it has ended."
"""The hint to it."""

CHUNK = 16 << 20
"""Bytes of a buffer."""

SLOTS = 2
"""How many there are."""

WORTH = 2 * CHUNK
"""Bytes from which on it is done: with less there is nothing to overlap."""


LARGE = 4 << 20
"""Bytes from which on fresh memory is asked for in large pages: as NumPy has it, which asks for its own."""


def with_large_pages(address: int, nbytes: int) -> None:
    """Ask for large pages where fresh memory of the host is not there yet; a hint, and nothing where there are none.

    The first write to a page has the system look for it and clear it. With the usual 4 KiB that takes longer than the copy: 1.5 GB/s
    where large pages give 6 (256 MiB into memory of torch's and of NumPy's, on the machine on which this was written).
    """
    if nbytes >= LARGE and (advise := _madvise()) is not None:
        low = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
        advise(low, (address + nbytes) // mmap.PAGESIZE * mmap.PAGESIZE - low, mmap.MADV_HUGEPAGE)


@functools.cache
def _madvise() -> Any:
    """Return the C library's function; None where it knows no large pages."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    found = ctypes.CDLL(None).madvise
    found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return found


def chunks(nbytes: int) -> Iterator[tuple[int, int, int]]:
    """Yield for each chunk its slot, and its first and last byte (exclusive)."""
    for n, low in enumerate(range(0, nbytes, CHUNK)):
        yield n % SLOTS, low, min(low + CHUNK, nbytes)


def through(nbytes: int, fill: Callable[[int, int, int], None], empty: Callable[[int, int, int], None]) -> None:
    """Call `fill` for each chunk and then `empty` for the one before it, so that the device works meanwhile."""
    waiting: list[tuple[int, int, int]] = []
    for chunk in chunks(nbytes):
        fill(*chunk)
        waiting.append(chunk)
        if len(waiting) == SLOTS:
            empty(*waiting.pop(0))
    for chunk in waiting:
        empty(*chunk)
