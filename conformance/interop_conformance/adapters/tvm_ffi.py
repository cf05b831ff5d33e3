"""tvm-ffi: a container for other libraries' arrays, which it takes in by DLPack and nothing else."""

from __future__ import annotations

import ctypes
import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from interop._model.description import c_strides
from interop.dlpack import READ_ONLY
from interop_conformance.adapters._base import Adapter, Unsupported, installed_version, why_missing
from interop_conformance.adapters._cuda import without_starting
from interop_conformance.capsules.capsule import HOST_READABLE, read
from interop_conformance.capsules.crafted import Producer
from interop_conformance.matrix.dtypes import dlpack_code, dtype_named
from interop_conformance.matrix.memory import aligned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from interop_conformance.matrix.layouts import Layout

__all__ = ["TVMFFI"]

BYTE = 8


def _tvm() -> Any:
    import tvm_ffi

    return tvm_ffi


class TVMFFI(Adapter):
    """apache-tvm-ffi. It makes no arrays of its own, so they come from a capsule that the suite makes by hand."""

    name: ClassVar[str] = "tvm-ffi"
    distribution: ClassVar[str] = "apache-tvm-ffi"
    refuses: ClassVar[tuple[type[BaseException], ...]] = ()
    since: ClassVar[str] = "0.1.13"  # Tensor.data_ptr

    def available(self) -> str:
        return why_missing(self, "tvm_ffi")

    def version(self) -> str:
        return installed_version("apache-tvm-ffi")

    def prepare(self) -> None:
        with without_starting():
            _tvm()

    def make(self, values: np.ndarray) -> Any:
        made = self._over(aligned(values))
        try:
            dtype_named(str(made.dtype))
        except (AttributeError, ValueError) as error:
            raise Unsupported(f"tvm-ffi does not say what {values.dtype.name} is") from error
        return made

    def lay(self, x: Any, layout: Layout) -> Any:
        values = aligned(self.values(x))
        laid = layout.view(values)
        return x if laid is values else self._over(laid)

    def _over(self, array: np.ndarray) -> Any:
        code = dlpack_code(array.dtype)
        if code is None:
            raise Unsupported(f"DLPack has no {array.dtype.name}")
        if code[1] < BYTE:
            raise Unsupported("tvm-ffi asks for the legacy structure, which cannot say that a narrow element fills a byte")
        return _tvm().from_dlpack(Producer(array, dtype=code, null=not array.size, polite=True))

    def from_dlpack(self, x: Any, /, **keywords: Any) -> Any:
        if keywords:
            raise Unsupported(f"tvm_ffi.from_dlpack has no {', '.join(keywords)}")
        return _tvm().from_dlpack(x)

    def values(self, x: Any) -> np.ndarray:
        if x.__dlpack_device__()[0] not in HOST_READABLE:
            raise Unsupported("tvm-ffi holds memory of any device, and here the host's is read")
        dtype = dtype_named(str(x.dtype))
        if x.dtype.bits < BYTE:
            raise Unsupported("tvm-ffi does not say whether narrow elements are packed")
        shape = tuple(x.shape)
        if not math.prod(shape):
            return np.empty(shape, dtype)
        strides = tuple(x.strides) or c_strides(shape)
        low = sum((extent - 1) * step for extent, step in zip(shape, strides, strict=True) if step < 0) * dtype.itemsize
        span = sum((extent - 1) * abs(step) for extent, step in zip(shape, strides, strict=True)) * dtype.itemsize + dtype.itemsize
        raw = np.frombuffer(ctypes.string_at(self.pointer(x) + low, span), "uint8")
        # Along an axis of length 1 there is nowhere to go, and any stride is right.
        steps = [step * dtype.itemsize if extent > 1 else 0 for step, extent in zip(strides, shape, strict=True)]
        return np.ndarray(shape, dtype, raw.tobytes(), -low, steps).copy()

    def pointer(self, x: Any) -> int:
        data = x.data_ptr
        return int(data() if callable(data) else data)

    def writeable(self, x: Any) -> bool:
        # It has no writes of its own, but exports the memory: the flag of that export counts.
        return not (read(x.__dlpack__(max_version=(1, 1))).flags or 0) & READ_ONLY

    def looks(self, x: Any) -> Mapping[str, Any]:
        return {"strides": tuple(x.strides)}
