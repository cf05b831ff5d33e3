"""One pool of memory for torch and CuPy."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interop._model.description import Device
from interop._model.scope import Block
from interop._model.sizes import sized
from interop.backends import load_backend
from interop.cuda._libraries import current_index, device_of, imported, memory_of, usable
from interop.errors import DeviceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from interop.backends.cuda.types import PoolUse


@dataclass(frozen=True)
class MemoryReport:
    """Who holds the memory of a device, in bytes.

    Attributes
    ----------
    device : Device
        Which one.
    free, total : int
        What no process holds, and what there is.
    pools : mapping of str to (int, int)
        For each pool of this process the bytes in use, and those that it holds altogether: ``"torch"``, ``"cupy"``, and ``"cuda"``
        for CUDA's own stream-ordered pool, on which `cupy_pool` lies.
    """

    device: Device
    free: int
    total: int
    pools: Mapping[str, PoolUse]

    def __str__(self) -> str:
        """Return a line for the device, and one for each pool."""
        lines = [f"{self.device}: {sized(self.free)} of {sized(self.total)} free"]
        lines += [f"  {name}: holds {sized(held)}, {sized(used)} of it in use" for name, (used, held) in self.pools.items()]
        return "\n".join(lines)


def memory_report(device: Any = None) -> MemoryReport:
    """Return who holds the memory of a CUDA device; of the libraries that are imported, and importing none.

    Parameters
    ----------
    device : str or native device, optional
        Default: the current one.

    Raises
    ------
    DeviceUnavailableError
        If no library that is imported can use it.

    Examples
    --------
    >>> print(interop.cuda.memory_report())  # doctest: +SKIP
    cuda:0: 120.5 GiB of 139.8 GiB free
      torch: holds 2.0 GiB, 1.3 GiB of it in use
      cupy: holds 512.0 MiB, 0 bytes of it in use
      cuda: holds 0 bytes, 0 bytes of it in use
    """
    libraries = imported()
    where = device_of(device, libraries)
    return MemoryReport(where, *memory_of(usable(libraries, where, "memory to report"), where))


class Pool(Block["Pool"]):
    """A scope in which torch and CuPy allocate from one pool: `torch_pool` and `cupy_pool` make one.

    It can be entered again, inside of itself too, and by other threads: each enters it for itself, in both libraries. Memory that is in
    use when it is left stays valid.

    Raises
    ------
    BackendNotInstalledError
        On entering, if one of the two cannot be imported.
    DeviceUnavailableError
        If one of the two cannot use the current device, or there is no such pool.
    """

    def __init__(self, owner: str, guest: str) -> None:
        super().__init__(f"{owner}_pool", self._allocating)
        self._owner, self._guest = owner, guest
        self._local = threading.local()

    def __repr__(self) -> str:
        """Return the call that makes it, and whether it is active."""
        return f"<interop.cuda.{self._owner}_pool(), {'active' if self.is_active() else 'not active'}>"

    @property
    def _entered(self) -> list[Callable[[], bool]]:
        found: list[Callable[[], bool]] = self._local.__dict__.setdefault("entered", [])
        return found

    def _allocating(self) -> Generator[Pool, None, None]:
        owner, guest = load_backend(self._owner), load_backend(self._guest)
        where = Device("cuda", current_index([owner]))
        reasons = [why for library in (owner, guest) if (why := library.why_unavailable(where)) is not None]
        if reasons:
            raise DeviceUnavailableError(f"there is no pool on {where}: {'; '.join(reasons)}.", hint="Run `interop doctor`.")
        entered = self._entered
        with owner.memory_source() as source, guest.allocate_from(source) as draws:

            def is_used() -> bool:
                return source.is_used() and draws()

            try:
                entered.append(is_used)
                yield self
            finally:
                entered[:] = [other for other in entered if other is not is_used]

    def is_active(self) -> bool:
        """Return whether what this thread allocates now, with either library, comes from this pool.

        False inside of another pool, and inside of an allocator that was set in CuPy meanwhile. What `torch.cuda.use_mem_pool` sets
        inside cannot be seen from here.
        """
        return any(is_used() for is_used in self._entered)

    def memory_report(self, device: Any = None) -> MemoryReport:
        """Return who holds the memory of a device: `interop.cuda.memory_report`."""
        return memory_report(device)


def torch_pool() -> Pool:
    """Return a scope in which CuPy allocates from torch's pool, so that memory that one frees is there for the other.

    CuPy's memory belongs to its current stream, as it does in CuPy's own pool; torch counts it as its own
    (`torch.cuda.memory_allocated`) and reuses it for that stream's work only. It may live longer than the scope. Where torch has none
    left, CuPy's own pool gives back what it holds unused before `cupy.cuda.memory.OutOfMemoryError` is raised.

    Returns
    -------
    Pool
        To be entered by ``with``; has `is_active` and `memory_report`. For this thread, on all devices.

    Examples
    --------
    >>> with interop.cuda.torch_pool() as pool:  # doctest: +SKIP
    ...     c = cupy.zeros(1 << 20)  # torch's memory
    ...     assert pool.is_active()
    ...     print(pool.memory_report())
    """
    return Pool("torch", "cupy")


def cupy_pool() -> Pool:
    """Return a scope in which torch allocates from the pool that CuPy uses, which is CUDA's stream-ordered one for the time.

    CuPy allocates as with `cupy.cuda.MemoryAsyncPool` inside, and torch in a `torch.cuda.MemPool` on the same memory. CuPy's
    usual pool is Python's, and torch must not wait for Python while it allocates (pytorch#97833), so that one is not shared.

    Returns
    -------
    Pool
        To be entered by ``with``; has `is_active` and `memory_report`. For this thread, and the device that is current then: also
        not for the threads in which torch runs a backward pass, whose memory comes from torch's own pool.

    Examples
    --------
    >>> with interop.cuda.cupy_pool() as pool:  # doctest: +SKIP
    ...     t = torch.zeros(1 << 20, device="cuda")
    ...     print(pool.memory_report())
    """
    return Pool("cupy", "torch")
