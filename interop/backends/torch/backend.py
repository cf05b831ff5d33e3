"""PyTorch: tensors on many devices, in a graph, with lazy conjugation, modes, wrappers and fakes.

torch's own checks have holes, so everything is checked here before memory is shared: `.numpy()` under
`no_grad` lets tracked tensors through, DLPack exports the negative bit with the wrong sign
(pytorch#145000), null pointers of wrappers become uninitialised memory, duals lose their tangent.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from interop._model.capabilities import Capabilities
from interop._model.description import Device
from interop._model.scope import block
from interop.backends.base import Backend
from interop.backends.cuda.copies import packs
from interop.backends.cuda.driver import version
from interop.backends.cuda.streams import cuda_stream_number
from interop.backends.cuda.types import Card, CudaView, MemorySource
from interop.backends.numpy.backend import is_extension, memory_dtype, native_dtype, tidy
from interop.backends.torch import copies as _torch_copies
from interop.backends.torch import handoff as _torch_handoff
from interop.backends.torch import installation, kinds, modes
from interop.backends.torch import pool as _torch_pool
from interop.backends.torch.describe import describe, is_memory_only
from interop.backends.torch.release import defer_release, native_stream, release_after
from interop.backends.torch.shortcuts import export_to, shortcuts
from interop.backends.torch.streams import current
from interop.dlpack import LEGACY, PER_THREAD, VERSION, producer_of
from interop.errors import DTypeError, LayoutError, TransferError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from interop._model.description import Description
    from interop.backends.base import PendingCopy
    from interop.backends.cuda.types import DeviceConsumer, PoolUse
    from interop.backends.shortcut import Shortcut


class TorchBackend(Backend):
    """torch tensors, parameters and subclasses."""

    # No negative strides (deviation `torch-negative-stride-abort`, and from 2.14 on deviation `torch-negative-stride-error`) and no
    # read-only arrays (deviation `torch-readonly-ignored`, deviation `torch-from-numpy-readonly`), which are the defaults of Capabilities.
    capabilities = Capabilities(
        name="torch",
        title="torch",
        dtypes=frozenset(kinds.DTYPES),
        packed=frozenset({"packed float4_e2m1fnx2"} if hasattr(torch, "float4_e2m1fn_x2") else ()),
        devices=frozenset({"cpu", "cuda", "mps", "xpu", "meta"}),
        lacking={"mps": frozenset({"float64", "complex128", *(d for d in kinds.DTYPES if d.startswith("float8"))})},
    )
    has_streams = True

    def owns(self, x: Any) -> bool:
        return isinstance(x, torch.Tensor)

    def describe(self, x: Any) -> Description:
        return describe(x)

    def version_of(self, x: Any) -> Any:
        return None if x.is_inference() else x._version

    # For code that is written for any library.

    def namespace(self) -> Any:
        import array_api_compat.torch

        return array_api_compat.torch

    def devices(self) -> tuple[str, ...]:
        accelerators = [
            f"{kind}:{n}"
            for kind in ("cuda", "xpu", "mps")
            if not self.why_unavailable(Device(kind))
            for n in range(getattr(torch, kind).device_count())
        ]
        return ("cpu", *accelerators)

    def states(self) -> Mapping[str, Callable[[Any], Any]]:
        return {"grad": lambda x: x.requires_grad_() if x.is_floating_point() or x.is_complex() else x}

    # Devices and streams.

    def device_of(self, x: Any) -> Device:
        return kinds.device_of(x)

    def current_index(self) -> int:
        return torch.cuda.current_device() if torch.cuda.is_available() else 0

    def why_unavailable(self, device: Device) -> str | None:
        if device.type in ("cpu", "meta"):
            return None
        module = getattr(torch, device.type, None)
        if device.type == "cuda" and not torch.backends.cuda.is_built():
            return "this torch is a build for the CPU only"
        if module is None or not module.is_available():
            return f"torch sees no {device.type} device"
        count = module.device_count()
        return None if device.index < count else f"there are {count} {device.type} devices, counted from 0"

    def stream_pointer(self, stream: Any, device: Device) -> int | None:
        if device.type != "cuda" or not torch.cuda.is_available():
            return None
        if stream is not None:
            return cuda_stream_number(stream, device.index)
        return torch.cuda.current_stream(device.index).cuda_stream or LEGACY

    def on_stream(self, stream: int | None, device: Device) -> AbstractContextManager[Any]:
        if device.type != "cuda":
            return contextlib.nullcontext()
        if stream is None or stream == -1:
            return current(device.index)
        return current(device.index, lambda: torch.cuda.ExternalStream(stream) if stream == PER_THREAD else native_stream(stream))

    # Within torch: these keep the graph, unless `without_modes` is around them.

    def copy(self, x: Any) -> Any:
        if x.dtype in kinds.SHELL_DTYPES:  # torch has no copy kernel for them, but their bytes can be copied
            return x.view(torch.uint8).clone().view(x.dtype)
        with kinds.explained(LayoutError, "copy", x):
            return x.clone()

    def cast(self, x: Any, dtype: str) -> Any:
        wanted = kinds.DTYPES[dtype]
        if x.is_complex() and not wanted.is_complex and wanted is not torch.bool:
            x = x.real  # what .to() does with a warning, about a loss that the call permitted by name
        with kinds.explained(DTypeError, f"cast to {wanted}", x):
            return (x.dequantize() if x.is_quantized else x).to(wanted, copy=True)

    def transfer(self, x: Any, device: Device, stream: int | None) -> Any:
        # Not non_blocking: memory that the host reads before the copy has ended is garbage (pytorch#140296).
        on = kinds.runs_on(x)
        leaves = on.type == "cuda" and device.type == "cpu"
        where = self._to_host(x, stream) if leaves else self.on_stream(stream, device)
        with where, kinds.explained(TransferError, f"move to {device}", x):
            there = torch.device(str(device))
            if {on.type, device.type} != {"cpu", "cuda"}:
                return x.to(there)
            _torch_copies.refuse_capture()  # of the stream that was named
            if is_memory_only(x):
                return _torch_copies.to_host(x) if on.type == "cuda" else _torch_copies.to_device(x, there)
            return x.to(there)

    @block
    def ordered_after_current(self, x: Any, stream: int | None) -> Iterator[None]:
        on = kinds.runs_on(x)
        if on.type != "cuda":
            yield
            return
        before = torch.cuda.current_stream(on.index)
        with self.on_stream(stream, on):
            now = torch.cuda.current_stream()
            if stream is None or now == before:
                yield
                return
            now.wait_stream(before)
            yield
            release_after(stream, x)

    @block
    def _to_host(self, x: Any, stream: int | None) -> Iterator[None]:
        with self.on_stream(None, kinds.runs_on(x)):
            _torch_copies.refuse_capture()  # before another stream joins the capture by waiting
        with self.ordered_after_current(x, stream):
            yield

    def start_copy_to_host(self, x: Any, stream: int | None, origin: Any) -> PendingCopy:
        on = kinds.runs_on(x)
        if on.type != "cuda":
            return super().start_copy_to_host(x, stream, origin)
        with self._to_host(x, stream), kinds.explained(TransferError, "move to cpu", x):
            return _torch_copies.start_copy_to_host(x, origin)

    def copy_many_to_host(self, arrays: list[Any], device: Device) -> list[Any]:
        with self.without_modes(), self.on_stream(None, device), kinds.explained(TransferError, "move to cpu", arrays[0]):
            return [made for pack in packs(arrays) for made in _torch_copies.copy_many_to_host(pack)]

    def strip(self, x: Any) -> Any:
        if kinds.is_masked(x):  # whether it may be left was decided, and there may be nothing masked
            return kinds.data_of(x).detach()
        return x if kinds.is_own(x) else torch.Tensor.as_subclass(x, torch.Tensor)

    def detach(self, x: Any) -> Any:
        return x.detach()

    def densify(self, x: Any) -> Any:
        with kinds.explained(LayoutError, "make dense", x):
            return kinds.densify(x)

    def resolve(self, x: Any) -> Any:
        if torch._is_zerotensor(x):
            x = x.clone()
        with kinds.explained(DTypeError, "resolve the pending operation of", x):
            return x.resolve_conj().resolve_neg()

    def without_modes(self) -> AbstractContextManager[Any]:
        return modes.alone()

    # Across the border.

    def host_view(self, x: Any) -> Any:
        name = kinds.NAMES[x.dtype]
        if is_extension(name):
            return x.view(getattr(torch, memory_dtype(name).name)).numpy().view(native_dtype(name))
        return x.numpy()

    def from_host(self, view: Any) -> Any:
        name = view.dtype.name
        view = tidy(view)
        if is_extension(name):
            return _take(view.view(memory_dtype(name))).view(kinds.DTYPES[name])
        return _take(view)

    def export(self, x: Any, stream: int | None) -> Any:
        device, x = kinds.device_of(x), _torch_handoff.alias(x)
        with self.on_stream(None, device):
            capsule = x.__dlpack__(stream=_awaited(stream), max_version=VERSION)
            # DLPack's deleter knows no stream (dmlc/dlpack#176): memory that the consumer
            # releases before its work has completed would be reused.
            if device.type == "cuda" and stream is not None and stream != -1:
                capsule = defer_release(x, capsule, stream)
            return producer_of(capsule)

    def from_dlpack(self, producer: Any, device: Device) -> Any:
        with self.on_stream(None, device):
            return torch.from_dlpack(producer)

    # Short cuts.

    def shortcuts(self) -> Mapping[tuple[str, frozenset[str]], Mapping[Any, Shortcut]]:
        return shortcuts()

    def as_consumer(self) -> DeviceConsumer | None:
        return _torch_handoff.consumer(self.capabilities.dtypes) if torch.backends.cuda.is_built() else None

    def export_to(self, consumer: DeviceConsumer) -> Mapping[Any, Shortcut]:
        return export_to(consumer)

    # Memory on a CUDA device.

    def memory_source(self) -> AbstractContextManager[MemorySource]:
        torch.cuda.init()  # which torch puts off until its first tensor there
        return contextlib.nullcontext(MemorySource(_torch_pool.allocate, _torch_pool.release, is_used=lambda: True))

    @block
    def allocate_from(self, source: MemorySource) -> Iterator[Callable[[], bool]]:
        assert source.library is not None
        with _torch_pool.allocate_from(source.library):
            yield lambda: True  # torch does not say where it allocates

    def pools(self, device: Device) -> dict[str, PoolUse]:
        return _torch_pool.pools(device.index)

    def free_memory(self, device: Device) -> tuple[int, int]:
        free, total = torch.cuda.mem_get_info(device.index)
        return int(free), int(total)

    def cuda(self) -> CudaView | None:
        if not torch.cuda.is_available() or torch.version.cuda is None:
            return None
        count = torch.cuda.device_count()
        words = version() or "unknown", torch.version.cuda, torch.cuda.get_allocator_backend()
        return CudaView(*words, tuple(_card(index, count) for index in range(count)))

    def findings(self) -> list[str]:
        return installation.findings()

    def report(self) -> dict[str, Any]:
        cuda = torch.cuda.is_available()
        devices = ["cpu", *(f"cuda:{n} {torch.cuda.get_device_name(n)}" for n in range(torch.cuda.device_count() if cuda else 0))]
        return {
            "version": torch.__version__,
            "devices": devices,
            "cuda_build": torch.version.cuda,
            "dlpack_exports": "1.0",
            "dlpack_imports": "1.0 (READ_ONLY ignored)",
            "dlpack_exchange_api": hasattr(torch.Tensor, "__dlpack_c_exchange_api__"),
        }


def _awaited(stream: int | None) -> int | None:
    """Return the stream that torch is asked to let wait; -1 where that has been done here."""
    if stream != PER_THREAD:
        return stream
    # torch.Tensor.__dlpack__ refuses this one: "per-thread default stream is not supported".
    torch.cuda.ExternalStream(PER_THREAD).wait_stream(torch.cuda.current_stream())
    return -1


def _card(index: int, count: int) -> Card:
    said = torch.cuda.get_device_properties(index)
    bus = f"{getattr(said, 'pci_domain_id', 0):04x}:{getattr(said, 'pci_bus_id', 0):02x}:{getattr(said, 'pci_device_id', 0):02x}"
    peers = (other for other in range(count) if other != index and torch.cuda.can_device_access_peer(index, other))
    return Card(said.name, bus, tuple(peers))


def _take(view: Any) -> torch.Tensor:
    """Return a tensor on an ndarray's memory, read-only memory included (the plan said that it may)."""
    # from_numpy warns about read-only memory; from_dlpack ignores the flag. Here that is what is wanted.
    return torch.from_numpy(view) if view.flags.writeable else torch.from_dlpack(view)


backend = TorchBackend()
