"""Where CuPy's memory comes from, in one thread and for one scope: from another library's pool, or from CUDA's own."""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import threading
from typing import TYPE_CHECKING, Any

import cupy
from cupy.cuda import memory

from interop._model.scope import block, undone
from interop.backends.cuda.types import MemorySource
from interop.dlpack import PER_THREAD
from interop.errors import DeviceUnavailableError, StreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from interop.backends.cuda.types import PoolUse


class PoolMemory(memory.BaseMemory):  # type: ignore[misc]  # CuPy has no types
    """Memory of another pool.

    CuPy's own class for it (`PythonFunctionAllocatorMemory`) forgets how to give memory back when the garbage collector breaks a
    cycle that an array is part of; so it is a class of Python's, whose finaliser comes before that.
    """

    def __init__(self, size: int, device: int, allocate: Callable[[int, int, int], int], release: Callable[[int], None]) -> None:
        self.size, self.device_id, self.ptr, self._release = size, device, 0, release
        if size:
            self.ptr = allocate(size, device, cupy.cuda.get_current_stream().ptr)

    def __del__(self) -> None:
        """Give it back."""
        if self.ptr and not sys.is_finalizing():
            self._release(self.ptr)


@block
def allocate_from(allocate: Callable[[int, int, int], int], release: Callable[[int], None]) -> Iterator[Callable[[], bool]]:
    """Let CuPy allocate with functions of another pool, in this thread; gives what tells whether it does now.

    `allocate` is called with a size in bytes, the index of a device, and the pointer of CuPy's current stream (0 for the legacy
    one), to which the memory belongs: after its release only work on that stream reuses it.
    """

    def ask(size: int, device: int, stream: int) -> int:
        if stream == PER_THREAD:  # one number for many streams
            hint = "Use a stream of your own: with cupy.cuda.Stream(): ..."
            raise StreamError("memory of CuPy's per-thread default stream cannot come from another pool.", hint=hint)
        try:
            return allocate(size, device, stream)
        except MemoryError as error:
            if cupy.cuda.runtime.streamIsCapturing(stream):  # nothing can be freed then
                raise _out_of_memory(size, error) from error
        cupy.get_default_memory_pool().free_all_blocks()  # what CuPy's own pool holds unused, as it would do itself
        try:
            return allocate(size, device, stream)
        except MemoryError as error:
            raise _out_of_memory(size, error) from error

    def allocator(size: int) -> Any:
        return memory.MemoryPointer(PoolMemory(size, cupy.cuda.runtime.getDevice(), ask, release), 0)

    with _using(allocator) as is_used:
        yield is_used


@block
def memory_source() -> Iterator[MemorySource]:
    """Let CuPy allocate from CUDA's stream-ordered pool of the device, in this thread, as others can without Python.

    While it does, the pool keeps what is freed for the next one, as `cupy.cuda.MemoryAsyncPool` has it; that is set back after.
    """
    library = _driver_pool()
    with _keeping(cupy.cuda.runtime.getDevice()), _using(memory.malloc_async) as is_used:
        yield MemorySource(library=library, is_used=is_used)


@block
def _keeping(device: int) -> Iterator[None]:
    """Have CUDA's pool hold freed memory while any scope is entered; otherwise it returns it to the driver at every synchronisation."""
    runtime = cupy.cuda.runtime
    pool = runtime.deviceGetMemPool(device)
    entry = object()

    def undo() -> None:
        with _guard:
            entries, before = _inside.get(device, (set(), None))
            entries.discard(entry)
            if not entries and before is not None:
                runtime.memPoolSetAttribute(pool, runtime.cudaMemPoolAttrReleaseThreshold, before)
                _inside.pop(device, None)

    with undone(undo):
        with _guard:
            if device not in _inside:
                _inside[device] = set(), runtime.memPoolGetAttribute(pool, runtime.cudaMemPoolAttrReleaseThreshold)
            _inside[device][0].add(entry)
            runtime.memPoolSetAttribute(pool, runtime.cudaMemPoolAttrReleaseThreshold, _ALL)
        yield


_inside: dict[int, tuple[set[object], int]] = {}  # by device: the scopes that there are, and what it was before
_guard = threading.Lock()
_ALL = (1 << 64) - 1


@functools.cache
def _driver_pool() -> str:
    """Return the shared library that allocates there, ready."""
    try:
        module = importlib.import_module("interop.native.async_pool")
        module.load("libcuda.so.1")
    except ImportError as error:
        raise DeviceUnavailableError("interop.native.async_pool was not built: there was no C compiler.", hint=_OTHER_WAY) from error
    except OSError as error:
        raise DeviceUnavailableError(f"the CUDA driver has no stream-ordered pool: {error}.", hint=_OTHER_WAY) from error
    return str(module.__file__)


_OTHER_WAY = "Use interop.cuda.torch_pool(), which needs nothing of the kind."


@block
def _using(allocator: Any) -> Iterator[Callable[[], bool]]:
    with cupy.cuda.using_allocator(allocator):
        # The same object and not an equal one.
        yield lambda: cupy.cuda.get_allocator() is allocator


def _out_of_memory(size: int, error: MemoryError) -> MemoryError:
    """Return the error that users of CuPy catch."""
    made: MemoryError = memory.OutOfMemoryError(size, cupy.get_default_memory_pool().total_bytes(), 0)
    made.add_note(str(error))
    return made


def pools(device: int) -> dict[str, PoolUse]:
    """Return what CuPy's pool and CUDA's own hold on a device, in bytes: in use, and altogether. Asks, and changes nothing."""
    runtime = cupy.cuda.runtime
    with cupy.cuda.Device(device):
        own = cupy.get_default_memory_pool()
        found = {"cupy": (own.used_bytes(), own.total_bytes())}
    with contextlib.suppress(runtime.CUDARuntimeError):  # a device or driver without one
        pool = runtime.deviceGetMemPool(device)
        used, held = (runtime.memPoolGetAttribute(pool, one) for one in (_USED, _HELD))
        found["cuda"] = (int(used), int(held))
    return found


_USED, _HELD = cupy.cuda.runtime.cudaMemPoolAttrUsedMemCurrent, cupy.cuda.runtime.cudaMemPoolAttrReservedMemCurrent
