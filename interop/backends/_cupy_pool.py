"""Where CuPy's memory comes from, in one thread and for one scope: from another library's pool, or from CUDA's own."""

from __future__ import annotations

import contextlib
import functools
import importlib
from typing import TYPE_CHECKING, Any

import cupy
from cupy.cuda import memory

from interop.backends._base import MemorySource
from interop.errors import DeviceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from interop.backends._base import PoolUse

__all__ = ["drawing", "lending", "pools"]


@contextlib.contextmanager
def drawing(allocate: Callable[[int, int, int], int], release: Callable[[int], None]) -> Iterator[Callable[[], bool]]:
    """Let CuPy allocate with functions of another pool, in this thread; gives what tells whether it does now.

    `allocate` is called with a size in bytes, the index of a device, and the pointer of CuPy's current stream (0 for the legacy
    one), to which the memory belongs: nobody else's work gets it when it is given back.
    """

    def ask(size: int, device: int) -> int:
        stream = cupy.cuda.get_current_stream().ptr
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

    def give_back(pointer: int, _: int) -> None:
        release(pointer)

    with _using(memory.PythonFunctionAllocator(ask, give_back).malloc) as is_used:
        yield is_used


@contextlib.contextmanager
def lending() -> Iterator[MemorySource]:
    """Let CuPy allocate from CUDA's stream-ordered pool of the device, in this thread, as others can without Python."""
    library = _driver_pool()
    try:
        pool = cupy.cuda.MemoryAsyncPool()
    except RuntimeError as error:
        raise DeviceUnavailableError(f"CUDA has no stream-ordered pool here: {error}.", hint=_OTHER_WAY) from error
    with _using(pool.malloc) as is_used:
        yield MemorySource(library=library, is_used=is_used)


@functools.cache
def _driver_pool() -> str:
    """Return the shared library that allocates there, ready."""
    try:
        module = importlib.import_module("interop._async_pool")
        module.load("libcuda.so.1")
    except ImportError as error:
        raise DeviceUnavailableError("interop._async_pool was not built: there was no C compiler.", hint=_OTHER_WAY) from error
    except OSError as error:
        raise DeviceUnavailableError(f"the CUDA driver has no stream-ordered pool: {error}.", hint=_OTHER_WAY) from error
    return str(module.__file__)


_OTHER_WAY = "Use interop.cuda.torch_pool(), which needs nothing of the kind."


@contextlib.contextmanager
def _using(allocator: Any) -> Iterator[Callable[[], bool]]:
    with cupy.cuda.using_allocator(allocator):
        # The same object and not an equal one: `pool.malloc` is another one each time.
        yield lambda: cupy.cuda.get_allocator() is allocator


def _out_of_memory(size: int, error: MemoryError) -> MemoryError:
    """Return the error that users of CuPy catch."""
    made: MemoryError = memory.OutOfMemoryError(size, cupy.get_default_memory_pool().total_bytes(), 0)
    made.add_note(str(error))
    return made


def pools(device: int) -> dict[str, PoolUse]:
    """Return what CuPy's pool and CUDA's own hold on a device, in bytes: in use, and altogether."""
    with cupy.cuda.Device(device):
        own = cupy.get_default_memory_pool()
        found = {"cupy": (own.used_bytes(), own.total_bytes())}
        with contextlib.suppress(RuntimeError):  # a device or driver without one
            ordered = cupy.cuda.MemoryAsyncPool("default")
            found["cuda"] = (ordered.used_bytes(), ordered.total_bytes())
    return found
