"""PyTorch on a CUDA device: what it is on the CPU, and page-locked memory and streams besides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from interop_conformance.adapters import _cuda
from interop_conformance.adapters._base import Adapter, Idiom, Unsupported
from interop_conformance.adapters.torch import Torch

if TYPE_CHECKING:
    from contextlib import ExitStack

__all__ = ["TorchCUDA"]


def _torch() -> Any:
    import torch

    return torch


class TorchCUDA(_cuda.CUDAAdapter, Torch):
    """PyTorch on the first device. Pinned tensors are here as well: they are the host's, and take CUDA to be made."""

    name: ClassVar[str] = "torch-cuda"
    distribution: ClassVar[str] = "torch"
    module: ClassVar[str] = "torch"
    states: ClassVar[tuple[str, ...]] = (*Torch.states, "pinned", *_cuda.STREAMS)
    twin: ClassVar[str] = "torch"
    home: ClassVar[str] = "cuda"
    """What torch calls the device."""

    def available(self) -> str:
        missing = super().available()
        if missing:
            return missing
        found, reason = _cuda.ask("torch")
        return "" if found else f"torch sees no CUDA device: {reason}"

    def make(self, values: np.ndarray) -> Any:
        return super().make(values).to(self.home)

    def span(self, x: Any) -> tuple[int, int]:
        storage = x.untyped_storage()
        return int(storage.data_ptr()), int(storage.nbytes())

    def put(self, x: Any, state: str, stack: ExitStack) -> Any:
        return _pinned(x) if state == "pinned" else super().put(x, state, stack)

    def idiom(self, producer: str) -> Idiom:
        return _IDIOMS.get(producer) or Adapter.idiom(self, producer)


def _pinned(x: Any) -> Any:
    """Return the same view of the same bytes, in page-locked memory of the host."""
    torch = _torch()
    storage = x.untyped_storage()
    if not storage.nbytes():
        raise Unsupported("no elements, so there is no memory to be pinned")
    memory = torch.empty(storage.nbytes(), dtype=torch.uint8, pin_memory=True)
    memory.copy_(torch.empty(0, dtype=torch.uint8, device=x.device).set_(storage))
    return torch.empty(0, dtype=x.dtype).set_(memory.untyped_storage(), x.storage_offset(), x.shape, x.stride())


def _as_tensor(x: Any) -> Any:
    return _torch().as_tensor(x, device="cuda")


_TORCH_SAYS = (TypeError, ValueError)  # torch.as_tensor: unsupported dtypes, byte orders and strides
_IDIOMS = {
    # `device="cuda"` names the crossing, and permits it.
    **dict.fromkeys(("numpy", "numpy-readonly", "cupy"), Idiom('torch.as_tensor(x, device="cuda")', _as_tensor, refuses=_TORCH_SAYS)),
    "torch-cuda": Idiom("torch.as_tensor(x)", lambda x: _torch().as_tensor(x)),
    **dict.fromkeys(
        ("array-api-strict", "jax"),
        Idiom('torch.as_tensor(np.asarray(x), device="cuda")', lambda x: _as_tensor(np.asarray(x)), refuses=(*_TORCH_SAYS, RuntimeError)),
    ),
    "pyarrow": Idiom(
        'torch.as_tensor(x.to_numpy(zero_copy_only=False), device="cuda")',
        lambda x: _as_tensor(x.to_numpy(zero_copy_only=False)),
        refuses=(*_TORCH_SAYS, NotImplementedError),
    ),
}
