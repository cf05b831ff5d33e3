"""CuPy: arrays on CUDA devices, no read-only flag, one current stream for each device.

What is special here: CuPy orders an export against the stream of the *current* device, not of the array's
(`cupy/_core/core.pyx`), so the array's device is made current for every exchange; it refuses host memory in
`from_dlpack`; and without a driver it imports but fails at the first allocation, so a device is asked for first.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import cupy
from cupy.cuda import memory

from interop._model.capabilities import Capabilities
from interop._model.description import CPU, Description, Device
from interop._model.scope import block, nested
from interop.backends.base import Backend
from interop.backends.cuda.copies import SMALL, packs
from interop.backends.cuda.streams import cuda_stream_number
from interop.backends.cuda.types import Card, CudaView, MemorySource
from interop.backends.cupy import copies as _cupy_copies
from interop.backends.cupy import handoff as _cupy_handoff
from interop.backends.cupy import installation
from interop.backends.cupy import pool as _cupy_pool
from interop.backends.cupy import release as _cupy_release
from interop.backends.cupy.streams import current
from interop.backends.numpy.backend import native_dtype
from interop.backends.shortcut import DETACH, TO_HOST, Shortcut
from interop.dlpack import LEGACY, producer_of
from interop.errors import DTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from interop.backends.base import PendingCopy
    from interop.backends.cuda.types import DeviceConsumer, PoolUse

# Memory that CuPy allocated; other memory (DLPack's, of the CUDA array interface) may have owners that cannot be counted.
_OWN = (
    memory.Memory,
    memory.MemoryAsync,
    memory.PooledMemory,
    memory.ManagedMemory,
    memory.CFunctionAllocatorMemory,
    memory.PythonFunctionAllocatorMemory,
    _cupy_pool.PoolMemory,
)
_MAJOR = int(cupy.__version__.partition(".")[0])
_BFLOAT16 = frozenset({"bfloat16"}) if _MAJOR >= 14 else frozenset()
_DTYPES = _BFLOAT16 | {
    "bool",
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    *("float16", "float32", "float64", "complex64", "complex128"),
}


_TRAVELLING = frozenset(native_dtype(name) for name in _DTYPES)


class CuPyBackend(Backend):
    """CuPy arrays."""

    capabilities = Capabilities(
        name="cupy",
        title="CuPy",
        dtypes=frozenset(_DTYPES),
        devices=frozenset({"cuda"}),
        default_device="cuda",
        negative_strides=True,
        extension=_BFLOAT16,
    )
    has_streams = True

    def owns(self, x: Any) -> bool:
        return isinstance(x, cupy.ndarray)

    def describe(self, x: Any) -> Description:
        size = x.dtype.itemsize
        return Description(
            backend="cupy",
            type=f"{type(x).__module__}.{type(x).__qualname__}",
            shape=x.shape,
            dtype=x.dtype.name,
            device=Device("cuda", x.device.id),
            strides=None if any(step % size for step in x.strides) else tuple(step // size for step in x.strides),
            nbytes=x.nbytes,
            pointer=x.data.ptr,
            aligned=x.data.ptr % size == 0,
            memory="managed" if x.size and _is_managed(x) else "plain",
        )

    # For code that is written for any library.

    def namespace(self) -> Any:
        import array_api_compat.cupy

        return array_api_compat.cupy

    def native_device(self, device: Device) -> Any:
        return cupy.cuda.Device(device.index)

    def devices(self) -> tuple[str, ...]:
        none = self.why_unavailable(Device("cuda")) is not None
        return () if none else tuple(f"cuda:{n}" for n in range(cupy.cuda.runtime.getDeviceCount()))

    # Devices and streams.

    def device_of(self, x: Any) -> Device:
        return Device("cuda", x.device.id)

    def parse_device(self, device: Any) -> Device:
        if isinstance(device, cupy.cuda.Device):
            return Device("cuda", device.id)
        return super().parse_device(device)

    def current_index(self) -> int:
        return int(cupy.cuda.runtime.getDevice()) if self.why_unavailable(Device("cuda")) is None else 0

    def why_unavailable(self, device: Device) -> str | None:
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            return f"CuPy sees no CUDA device ({str(error).partition(':')[0]})"
        return None if device.index < count else f"there are {count} CUDA devices, counted from 0"

    def stream_pointer(self, stream: Any, device: Device) -> int | None:
        if device.type != "cuda":
            return None
        if stream is not None:
            return cuda_stream_number(stream, device.index)
        return _cupy_handoff.current_pointer(device.index) or LEGACY

    def on_stream(self, stream: int | None, device: Device) -> AbstractContextManager[Any]:
        if device.type != "cuda":
            return contextlib.nullcontext()
        made: AbstractContextManager[Any] = cupy.cuda.Device(device.index)
        return made if stream is None or stream == -1 else nested(made, current(stream))

    # Within CuPy.

    def may_be_aliased(self, x: Any) -> bool:
        if not isinstance(x.data.mem, _OWN):
            return True
        # References to the base, to the pointers and to the memory behind them: those of `x` and its base, and no others. Counted
        # here and not in a function of its own, which would count its own.
        base = x.base
        if base is None:
            return sys.getrefcount(x.data) > 2 or sys.getrefcount(x.data.mem) > 2
        same = base.data is x.data
        pointers = max(sys.getrefcount(x.data), sys.getrefcount(base.data))
        return sys.getrefcount(base) > 3 or pointers > 2 + same or sys.getrefcount(x.data.mem) > 3 - same

    def copy(self, x: Any) -> Any:
        _cupy_release.release_completed()
        with cupy.cuda.Device(x.device.id):
            return x.copy(order="C" if any(step < 0 for step in x.strides) else "K")

    def cast(self, x: Any, dtype: str) -> Any:
        _cupy_release.release_completed()
        with cupy.cuda.Device(x.device.id):
            if x.dtype.kind == "c" and native_dtype(dtype).kind not in "cb":
                x = x.real  # the loss was permitted by name; CuPy would warn about it
            return x.astype(native_dtype(dtype), copy=True)

    def transfer(self, x: Any, device: Device, stream: int | None) -> Any:
        if device == CPU:
            with self._to_host(x, stream):
                return _cupy_copies.to_host(x)
        with self.on_stream(stream, device):
            _cupy_copies.refuse_capture()
        with cupy.cuda.Device(x.device.id):
            _cupy_copies.refuse_capture()
            packed = x if x.flags.c_contiguous or x.flags.f_contiguous else cupy.ascontiguousarray(x)
            ready = cupy.cuda.get_current_stream().record(cupy.cuda.Event(block=False, disable_timing=True))
            _cupy_release.release_after_event(ready, x)
        with self.on_stream(stream, device):
            return _cupy_copies.from_peer(packed, ready)

    @block
    def ordered_after_current(self, x: Any, stream: int | None) -> Iterator[None]:
        device = Device("cuda", x.device.id)
        before = cupy.cuda.get_current_stream(device.index)
        with self.on_stream(stream, device):
            now = cupy.cuda.get_current_stream()
            if stream is None or now.ptr == before.ptr:
                yield
                return
            now.wait_event(before.record())
            yield
            _cupy_release.release_after(stream, x)

    @block
    def _to_host(self, x: Any, stream: int | None) -> Iterator[None]:
        with cupy.cuda.Device(x.device.id):
            _cupy_copies.refuse_capture()  # before another stream joins the capture by waiting
        with self.ordered_after_current(x, stream):
            yield

    def start_copy_to_host(self, x: Any, stream: int | None, origin: Any) -> PendingCopy:
        with self._to_host(x, stream):
            return _cupy_copies.start_copy_to_host(x, origin)

    def copy_many_to_host(self, arrays: list[Any], device: Device) -> list[Any]:
        with self.on_stream(None, device):
            return [made for pack in packs(arrays) for made in _cupy_copies.copy_many_to_host(pack)]

    # Across the border.

    def host_view(self, x: Any) -> Any:
        return x  # the source's transfer to the host has made it an ndarray

    def from_host(self, view: Any) -> Any:
        raise AssertionError("the plan shared host memory with CuPy")

    def copy_from_host(self, view: Any, device: Device, stream: int | None) -> Any:
        with self.on_stream(stream, device):
            return _cupy_copies.to_device(view)

    def export(self, x: Any, stream: int | None) -> Any:
        with cupy.cuda.Device(x.device.id):
            if stream is None or stream == -1:  # what was asked for without synchronisation is the caller's
                return producer_of(x.__dlpack__(stream=stream, max_version=(1, 0)))
            return producer_of(
                _cupy_release.defer_release(x, stream, stream)
            )  # also on the current stream: the memory may have been allocated on another

    def from_dlpack(self, producer: Any, device: Device) -> Any:
        with cupy.cuda.Device(device.index):
            try:
                return cupy.from_dlpack(producer)
            except NotImplementedError as error:
                hint = "Install ml_dtypes and NumPy 2.1.2 or newer, then import CuPy again (cupy#9670)."
                raise DTypeError(f"CuPy cannot take bfloat16 here: {error}", hint=hint) from error

    # Memory.

    def memory_source(self) -> AbstractContextManager[MemorySource]:
        return _cupy_pool.memory_source()

    def allocate_from(self, source: MemorySource) -> AbstractContextManager[Callable[[], bool]]:
        assert source.allocate is not None
        assert source.release is not None
        return _cupy_pool.allocate_from(source.allocate, source.release)

    def pools(self, device: Device) -> dict[str, PoolUse]:
        return _cupy_pool.pools(device.index)

    def free_memory(self, device: Device) -> tuple[int, int]:
        with cupy.cuda.Device(device.index):
            free, total = cupy.cuda.runtime.memGetInfo()
        return int(free), int(total)

    # Short cuts.

    def shortcuts(self) -> dict[tuple[str, frozenset[str]], dict[Any, Shortcut]]:
        packed = {cupy.ndarray: Shortcut(_packable)}
        return {("numpy", TO_HOST): packed, ("numpy", TO_HOST | DETACH): packed}

    def as_consumer(self) -> DeviceConsumer:
        return _cupy_handoff.consumer(self.capabilities.dtypes)

    def export_to(self, consumer: DeviceConsumer) -> dict[Any, Shortcut]:
        dtypes = {native_dtype(name) for name in _DTYPES & consumer.dtypes}
        return {cupy.ndarray: Shortcut(lambda x: _cupy_handoff.export_to(x, dtypes, consumer), declines=(RuntimeError, BufferError))}

    def cuda(self) -> CudaView | None:
        if self.why_unavailable(Device("cuda")) is not None or cupy.cuda.runtime.is_hip:
            return None
        runtime, count = cupy.cuda.runtime, cupy.cuda.runtime.getDeviceCount()
        driver, own = _cuda_version(runtime.driverGetVersion()), _cuda_version(runtime.runtimeGetVersion())
        allocator = cupy.cuda.get_allocator()
        words = type(getattr(allocator, "__self__", allocator)).__name__
        return CudaView(driver, own, words, tuple(_card(index, count) for index in range(count)))

    def findings(self) -> list[str]:
        return installation.findings()

    def report(self) -> dict[str, Any]:
        problem = self.why_unavailable(Device("cuda"))
        count = 0 if problem else cupy.cuda.runtime.getDeviceCount()
        names = [cupy.cuda.runtime.getDeviceProperties(n)["name"].decode() for n in range(count)]
        return {
            "version": cupy.__version__,
            "devices": [f"cuda:{n} {name}" for n, name in enumerate(names)],
            "unavailable": problem,
            "cuda_build": _cuda_version(cupy.cuda.runtime.runtimeGetVersion()),
            "dlpack_exports": "1.0",
            "dlpack_imports": "1.0 (READ_ONLY ignored)",
        }


def _card(index: int, count: int) -> Card:
    said = cupy.cuda.runtime.getDeviceProperties(index)
    bus = f"{said['pciDomainID']:04x}:{said['pciBusID']:02x}:{said['pciDeviceID']:02x}"
    peers = (other for other in range(count) if other != index and cupy.cuda.runtime.deviceCanAccessPeer(index, other))
    return Card(said["name"].decode(), bus, tuple(peers))


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _packable(x: Any) -> Any | None:
    """Return an array that can travel to the host with others."""
    return x if x.size and x.nbytes <= SMALL and x.flags.c_contiguous and x.dtype in _TRAVELLING else None


def _is_managed(x: Any) -> bool:
    return bool(x.__dlpack_device__()[0] == 13)


backend = CuPyBackend()
