"""CuPy: arrays in a CUDA device's memory, plain or managed. Pinned memory is NumPy's there, so it is no state of CuPy's arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from interop_conformance.adapters import _cuda
from interop_conformance.adapters._base import Idiom, Unsupported, why_missing
from interop_conformance.protocol.producers.cuda import LEGACY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from interop_conformance.matrix.layouts import Layout

__all__ = ["CuPy"]


def _cupy() -> Any:
    import cupy

    return cupy


# CuPy's arrays take any dtype that NumPy has, but nothing can be computed with the others: docs.cupy.dev, "Data types".
_DTYPES = {
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
}
_SINCE_14 = {"bfloat16"}


class CuPy(_cuda.CUDAAdapter):
    """CuPy on the first device."""

    name: ClassVar[str] = "cupy"
    module: ClassVar[str] = "cupy"
    states: ClassVar[tuple[str, ...]] = ("plain", "managed", *_cuda.STREAMS)
    target: ClassVar[str | None] = "cupy"

    def available(self) -> str:
        if missing := why_missing(self, "cupy"):
            return missing
        found, reason = _cuda.ask("cupy")
        return "" if found else f"CuPy finds no CUDA device: {reason}"

    def version(self) -> str:
        return str(_cupy().__version__)

    def prepare(self) -> None:
        _cupy()

    def make(self, values: np.ndarray) -> Any:
        name = values.dtype.name
        if name not in _DTYPES and not (name in _SINCE_14 and int(self.version().partition(".")[0]) >= 14):
            raise Unsupported(f"CuPy has no {name}")
        made = _cupy().empty(values.shape, values.dtype)
        _cuda.current().upload(made.data.ptr, values.tobytes())
        return made

    def lay(self, x: Any, layout: Layout) -> Any:
        cupy = _cupy()
        if layout.name == "broadcast":
            return cupy.broadcast_to(x, (3, *x.shape))
        if layout.name == "unaligned":
            raw = cupy.empty(x.nbytes + 1, "uint8")[1:]
            _cuda.current().upload(raw.data.ptr, self.values(x).tobytes())
            return raw.view(x.dtype).reshape(x.shape)
        return layout.view(x)

    def from_dlpack(self, x: Any, /, **keywords: Any) -> Any:
        return _cupy().from_dlpack(x, **keywords)

    def values(self, x: Any) -> np.ndarray:
        # On the current stream, which is where CuPy says that the array may be read.
        stream = _cupy().cuda.get_current_stream().ptr or LEGACY
        return _cuda.strided(lambda address, nbytes: _cuda.current().read(address, nbytes, stream), x.data.ptr, x.shape, x.strides, x.dtype)

    def pointer(self, x: Any) -> int:
        return int(x.data.ptr) if x.size else 0

    def writeable(self, x: Any) -> bool:  # noqa: ARG002 - every array is
        return True

    def span(self, x: Any) -> tuple[int, int]:
        return int(x.data.mem.ptr), int(x.data.mem.size)

    def put(self, x: Any, state: str, stack: ExitStack) -> Any:
        return _managed(x, *self.span(x)) if state == "managed" else super().put(x, state, stack)

    def looks(self, x: Any) -> Mapping[str, Any]:
        return {"type": type(x), "strides": x.strides, "dtype": x.dtype}

    def idiom(self, producer: str) -> Idiom:
        return _IDIOMS.get(producer) or super().idiom(producer)


def _managed(x: Any, address: int, nbytes: int) -> Any:
    """Return the same view of the same bytes, in managed memory."""
    if not nbytes:
        raise Unsupported("no elements, so there is no memory to be managed")
    cupy, gpu = _cupy(), _cuda.current()
    memory = cupy.cuda.malloc_managed(nbytes)
    gpu.upload(memory.ptr, gpu.read(address, nbytes, LEGACY))
    return cupy.ndarray(x.shape, x.dtype, memory + (x.data.ptr - address), x.strides)


def _asarray(x: Any) -> Any:
    return _cupy().asarray(x)


_CUPY_SAYS = (TypeError, ValueError)  # cupy.asarray: dtypes that CuPy lacks
_IDIOMS = {
    # These cross to the device, by name: asarray is what CuPy's documentation gives for that.
    **dict.fromkeys(("numpy", "numpy-readonly"), Idiom("cupy.asarray(x)", _asarray, refuses=_CUPY_SAYS)),
    **dict.fromkeys(
        ("array-api-strict", "jax"),
        Idiom("cupy.asarray(np.asarray(x))", lambda x: _asarray(np.asarray(x)), refuses=(*_CUPY_SAYS, RuntimeError)),
    ),
    "torch": Idiom(
        "cupy.asarray(x.detach().numpy())",
        lambda x: _asarray(x.detach().numpy()),
        permits=frozenset({"grad"}),
        refuses=(*_CUPY_SAYS, RuntimeError),  # torch.Tensor.numpy: "otherwise an error is raised"
    ),
    "pyarrow": Idiom(
        "cupy.asarray(x.to_numpy(zero_copy_only=False))",
        lambda x: _asarray(x.to_numpy(zero_copy_only=False)),
        refuses=(*_CUPY_SAYS, NotImplementedError),
    ),
    # These stay, by __cuda_array_interface__; torch's raises RuntimeError for a tensor that autograd tracks.
    "cupy": Idiom("cupy.asarray(x)", _asarray),
    "torch-cuda": Idiom("cupy.asarray(x)", _asarray, refuses=(*_CUPY_SAYS, RuntimeError)),
}
