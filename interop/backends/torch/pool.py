"""torch's memory for others, and where torch's comes from for one scope."""

from __future__ import annotations

import contextlib
import functools
import threading
from typing import TYPE_CHECKING, Any

import torch

from interop._model.scope import block
from interop.backends.torch.streams import current

if TYPE_CHECKING:
    from collections.abc import Iterator

    from interop.backends.cuda.types import PoolUse


def allocate(size: int, device: int, stream: int) -> int:
    """Return the address of memory of torch's pool that belongs to work on a stream (its pointer; 0 for the legacy one); MemoryError if there is none."""
    # Inside of a `torch.cuda.MemPool` new memory is asked for on torch's current stream, whichever is named.
    other = stream != torch.cuda.current_stream(device).cuda_stream
    named = current(device, lambda: torch.cuda.ExternalStream(stream) if stream else torch.cuda.default_stream())
    with named if other else contextlib.nullcontext():
        try:
            return int(torch.cuda.caching_allocator_alloc(size, device, stream))
        except torch.OutOfMemoryError as error:
            raise MemoryError(str(error)) from error


def release(pointer: int) -> None:
    """Give memory back."""
    torch.cuda.caching_allocator_delete(pointer)


@functools.cache
def _allocator(path: str) -> Any:
    # Kept for good: memory that came through it goes back through it, whenever that is.
    return torch.cuda.memory.CUDAPluggableAllocator(path, "allocate", "release")


# Pools that no thread is in, by path and device. They are reused and never destroyed: torch aborts the process when a `MemPool`
# goes while anybody else is in one (pytorch#146431), another thread of the user's too.
_idle: dict[tuple[str, int], list[Any]] = {}
_here = threading.local()


@block
def allocate_from(path: str) -> Iterator[None]:
    """Let torch allocate on the current device with the functions `allocate` and `release` of a shared library, in this thread.

    torch caches what it gets, for the next scope too; what is still in use after this one stays valid.
    """
    key = path, torch.cuda.current_device()
    inside = _here.__dict__.setdefault("inside", [])
    if key in inside:
        yield  # it does already
        return
    try:
        pool = _idle.setdefault(key, []).pop()
    except IndexError:
        pool = torch.cuda.MemPool(_allocator(path).allocator())
    entry = object()
    try:
        inside.append(key)
        _entered.add(entry)
        with torch.cuda.use_mem_pool(pool):
            yield
    finally:
        _entered.discard(entry)
        inside[:] = [other for other in inside if other != key]
        _idle[key].append(pool)


_entered: set[object] = set()  # by all threads


def is_open() -> bool:
    """Return whether any thread allocates so."""
    return bool(_entered)


def pools(device: int) -> dict[str, PoolUse]:
    """Return what torch's pool holds on a device, in bytes: in use, and altogether."""
    return {"torch": (torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device))}
