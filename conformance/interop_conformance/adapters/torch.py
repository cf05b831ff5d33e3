"""PyTorch on the CPU, with all that a tensor can carry or await."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from interop_conformance.adapters._base import Adapter, Idiom, Unsupported, installed_version, why_missing
from interop_conformance.adapters._cuda import without_starting
from interop_conformance.adapters._torch_states import STATES
from interop_conformance.adapters.pyarrow import to_numpy as _from_arrow
from interop_conformance.matrix.dtypes import dtype_named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from interop_conformance.matrix.layouts import Layout

__all__ = ["Torch"]


def _torch() -> Any:
    import torch

    return torch


_NAMES = {"float4_e2m1fn": "", "longdouble": "", "datetime64": "", "int4": ""}  # torch's shells for int4 and fp4 hold no values


class Torch(Adapter):
    """PyTorch on the CPU."""

    name: ClassVar[str] = "torch"
    states: ClassVar[tuple[str, ...]] = ("plain", *STATES)
    target: ClassVar[str | None] = "torch"
    since: ClassVar[str] = "2.10"
    twin: ClassVar[str] = "torch-cuda"

    def available(self) -> str:
        return why_missing(self, "torch")

    def version(self) -> str:
        return installed_version("torch")

    def prepare(self) -> None:
        # One thread: a pool of them would not survive the fork, and the cases are small.
        _torch().set_num_threads(1)

    def warm_up(self) -> None:
        # What these import on first use takes most of a second.
        for state in ("masked", "fake"):
            with ExitStack() as stack, without_starting():
                self.put(self.make(np.zeros(2, "float32")), state, stack)

    def make(self, values: np.ndarray) -> Any:
        torch = _torch()
        dtype = getattr(torch, _NAMES.get(values.dtype.name, values.dtype.name), None)
        if dtype is None:
            raise Unsupported(f"torch has no {values.dtype.name}")
        # Through Python's numbers of bytes: neither torch.from_numpy nor DLPack, which are what is tested.
        return torch.tensor(list(values.tobytes()), dtype=torch.uint8).view(dtype).reshape(values.shape)

    def lay(self, x: Any, layout: Layout) -> Any:
        if layout.name in {"reversed", "reversed-length-1", "mirrored"}:
            raise Unsupported("torch has no negative strides")
        if layout.name == "broadcast":
            return x.expand(3, *x.shape)
        if layout.name == "unaligned":
            raise Unsupported("torch makes no unaligned tensors")
        return layout.view(x)

    def from_dlpack(self, x: Any, /, **keywords: Any) -> Any:
        return _torch().from_dlpack(x, **keywords)

    def values(self, x: Any) -> np.ndarray:
        torch = _torch()
        functorch = torch._C._functorch
        while functorch.is_gradtrackingtensor(x):
            x = functorch.get_unwrapped(x)
        x = x.get_data() if hasattr(x, "get_mask") else x
        with torch.no_grad():
            plain = (x.to_dense() if x.is_sparse else x.as_subclass(torch.Tensor)).detach()
            plain = plain.cpu().dequantize() if plain.is_quantized else plain
            plain = plain.resolve_conj().resolve_neg().contiguous()
            raw = bytes(plain.reshape(-1).view(torch.uint8).tolist()) if plain.numel() else b""
        return np.frombuffer(bytearray(raw), dtype_named(_name(plain))).reshape(tuple(plain.shape))

    def pointer(self, x: Any) -> int:
        # A tensor of zeros that were never written down refuses to say, as do sparse ones.
        try:
            return int(x.data_ptr())
        except (RuntimeError, NotImplementedError):
            return 0

    def writeable(self, x: Any) -> bool:  # noqa: ARG002 - every tensor is
        return True

    def put(self, x: Any, state: str, stack: ExitStack) -> Any:
        if state == "plain":
            return x
        if state not in STATES:
            return super().put(x, state, stack)
        with warnings.catch_warnings():
            # Masked, quantized and sparse tensors announce on every use that they are prototypes or on their way out.
            warnings.simplefilter("ignore")
            return STATES[state](x, stack)

    def keeps(self, x: Any) -> frozenset[str]:
        torch = _torch()
        found = set()
        if x.requires_grad or torch.autograd.forward_ad.unpack_dual(x).tangent is not None:
            found.add("grad")
        if hasattr(x, "get_mask"):
            found.add("mask")
        if x.layout != torch.strided or x.is_quantized:
            found.add("layout")
        return frozenset(found)

    def looks(self, x: Any) -> Mapping[str, Any]:
        strides = x.stride() if not x.is_sparse else ()
        version = None if x.is_inference() else x._version
        return {
            "type": type(x),
            "strides": tuple(strides),
            "requires_grad": x.requires_grad,
            "grad_fn": type(x.grad_fn).__name__,
            "version": version,
            "pending": (x.is_conj(), x.is_neg()),
            "device": str(x.device),
        }

    def idiom(self, producer: str) -> Idiom:
        return _IDIOMS.get(producer) or super().idiom(producer)


def _name(x: Any) -> str:
    return str(x.dtype).removeprefix("torch.")


def _from_numpy(x: Any) -> Any:
    return _torch().from_numpy(x)


_TORCH_SAYS = (TypeError, ValueError)  # torch.from_numpy: unsupported dtypes, byte orders and strides
_IDIOMS = {
    "numpy": Idiom("torch.from_numpy(x)", _from_numpy, refuses=_TORCH_SAYS),
    "numpy-readonly": Idiom("torch.from_numpy(x)", _from_numpy, refuses=_TORCH_SAYS),
    "torch": Idiom("torch.as_tensor(x)", lambda x: _torch().as_tensor(x)),
    "array-api-strict": Idiom(
        "torch.from_numpy(np.asarray(x))", lambda x: _from_numpy(np.asarray(x)), refuses=(*_TORCH_SAYS, RuntimeError)
    ),
    "jax": Idiom("torch.from_numpy(np.asarray(x))", lambda x: _from_numpy(np.asarray(x)), refuses=(*_TORCH_SAYS, RuntimeError)),
    "cupy": Idiom("torch.from_numpy(x.get())", lambda x: _from_numpy(x.get()), refuses=_TORCH_SAYS),
    "pyarrow": Idiom(
        "torch.from_numpy(x.to_numpy(zero_copy_only=False))",
        lambda x: _from_numpy(_from_arrow(x)),
        refuses=(*_TORCH_SAYS, NotImplementedError),
    ),
}
