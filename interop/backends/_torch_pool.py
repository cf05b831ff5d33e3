"""torch's memory for others, and where torch's comes from for one scope."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from interop.backends._base import PoolUse

__all__ = ["allocate", "drawing", "pools", "release"]


def allocate(size: int, device: int, stream: int) -> int:
    """Return the address of memory of torch's pool that belongs to work on a stream (its pointer; 0 for the legacy one); MemoryError if there is none."""
    try:
        return int(torch.cuda.caching_allocator_alloc(size, device, 0 if stream == 1 else stream))
    except torch.OutOfMemoryError as error:
        raise MemoryError(str(error)) from error


def release(pointer: int) -> None:
    """Give memory back."""
    torch.cuda.caching_allocator_delete(pointer)


@functools.cache
def _allocator(path: str) -> Any:
    # Kept for good: memory that came through it goes back through it, whenever that is.
    return torch.cuda.memory.CUDAPluggableAllocator(path, "allocate", "release")


@contextlib.contextmanager
def drawing(path: str) -> Iterator[None]:
    """Let torch allocate on the current device with the functions `allocate` and `release` of a shared library, in this thread.

    torch caches what it gets for the scope; what is still in use after it stays valid.
    """
    pool = torch.cuda.MemPool(_allocator(path).allocator())
    with torch.cuda.use_mem_pool(pool):
        yield


def pools(device: int) -> dict[str, PoolUse]:
    """Return what torch's pool holds on a device, in bytes: in use, and altogether."""
    return {"torch": (torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device))}
