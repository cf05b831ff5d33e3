"""pyarrow: its arrays in one axis, its tensors in more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from interop_conformance.adapters._base import Adapter, Idiom, Unsupported, installed_version, why_missing
from interop_conformance.matrix.memory import aligned

if TYPE_CHECKING:
    from contextlib import ExitStack

    from interop_conformance.matrix.layouts import Layout

__all__ = ["PyArrow", "to_numpy"]


def _arrow() -> Any:
    import pyarrow as pa

    return pa


def to_numpy(x: Any) -> Any:
    """Do what people write: zero_copy_only=False is the line for an array with nulls or booleans; a tensor has no such word."""
    return x.to_numpy(zero_copy_only=False) if isinstance(x, _arrow().Array) else x.to_numpy()


class PyArrow(Adapter):
    """pyarrow.Array for one axis, pyarrow.Tensor for more: both immutable, as is all of Arrow."""

    name: ClassVar[str] = "pyarrow"
    states: ClassVar[tuple[str, ...]] = ("plain", "nulls")
    # "If the array has a validity bitmap or is of another type than integers and floats": arrow/python/dlpack.cc
    refuses: ClassVar[tuple[type[BaseException], ...]] = ()
    since: ClassVar[str] = "21"  # Tensor.__dlpack__

    def available(self) -> str:
        return why_missing(self, "pyarrow")

    def version(self) -> str:
        return installed_version("pyarrow")

    def prepare(self) -> None:
        _arrow().set_cpu_count(1)

    def make(self, values: np.ndarray) -> Any:
        arrow = _arrow()
        try:
            kind = arrow.bool_() if values.dtype == bool else arrow.from_numpy_dtype(values.dtype)
        except (NotImplementedError, TypeError) as error:  # ArrowNotImplementedError is one
            raise Unsupported(f"Arrow has no {values.dtype.name}") from error
        if values.dtype.kind == "M":
            raise Unsupported("Arrow has no days that NumPy has, and dates are not what DLPack is about")
        if values.ndim == 1:
            return arrow.array(values.tolist(), type=kind)
        try:
            made = arrow.Tensor.from_numpy(aligned(values))
        except (NotImplementedError, TypeError) as error:
            raise Unsupported(f"Arrow has no tensor of {values.dtype.name}") from error
        if made.to_numpy().dtype != values.dtype:
            raise Unsupported(f"Arrow makes {made.to_numpy().dtype.name} tensors of {values.dtype.name}")
        return made

    def lay(self, x: Any, layout: Layout) -> Any:
        if isinstance(x, _arrow().Tensor):
            values = aligned(self.values(x))
            laid = layout.view(values)
            if any(step < 0 for step in laid.strides):
                raise Unsupported("Arrow tensors have no negative strides")
            return x if laid is values else _arrow().Tensor.from_numpy(laid)
        if layout.name == "1d":
            return x
        raise Unsupported("an Arrow array has one axis, and one stride")

    def from_dlpack(self, x: Any, /, **keywords: Any) -> Any:
        arrow = _arrow()
        one_axis = isinstance(x, arrow.Array) or len(getattr(x, "shape", (0, 0))) == 1
        kind = arrow.Array if one_axis else arrow.Tensor
        if not hasattr(kind, "from_dlpack"):
            raise Unsupported("pyarrow only exports before version 26")
        if keywords:
            raise Unsupported(f"pyarrow's from_dlpack has no {', '.join(keywords)}")
        return kind.from_dlpack(x)

    def values(self, x: Any) -> np.ndarray:
        arrow = _arrow()
        if isinstance(x, arrow.Tensor):
            return np.array(x.to_numpy())
        if arrow.types.is_boolean(x.type):
            return np.array(arrow.Array.from_buffers(x.type, len(x), [None, x.buffers()[1]], 0, x.offset).to_pylist(), bool)
        # Not to_pandas_dtype, which needs pandas up to pyarrow 25, and names another dtype than the buffer's for days.
        dtype = np.dtype("int32") if arrow.types.is_date32(x.type) else np.asarray(arrow.array([], x.type)).dtype
        read = np.frombuffer(bytearray(x.buffers()[1].to_pybytes()), dtype)[x.offset : x.offset + len(x)].copy()
        return read.astype("datetime64[D]") if arrow.types.is_date32(x.type) else read

    def pointer(self, x: Any) -> int:
        if isinstance(x, _arrow().Tensor):
            return int(x.to_numpy().__array_interface__["data"][0])
        width = 1 if _arrow().types.is_boolean(x.type) else x.type.bit_width // 8
        return int(x.buffers()[1].address + x.offset * width)

    def writeable(self, x: Any) -> bool:
        return bool(x.is_mutable) if isinstance(x, _arrow().Tensor) else False

    def put(self, x: Any, state: str, stack: ExitStack) -> Any:
        arrow = _arrow()
        if state == "nulls":
            if isinstance(x, arrow.Tensor):
                raise Unsupported("an Arrow tensor has no nulls")
            valid = arrow.array([False] + [True] * (len(x) - 1)).buffers()[1]
            return arrow.Array.from_buffers(x.type, len(x), [valid, x.buffers()[1]])
        return super().put(x, state, stack)

    def keeps(self, x: Any) -> frozenset[str]:
        return frozenset({"mask"}) if getattr(x, "null_count", 0) else frozenset()

    def idiom(self, producer: str) -> Idiom:
        return _IDIOMS.get(producer) or super().idiom(producer)


def _array(x: Any) -> Any:
    return _arrow().array(x) if x.ndim == 1 else _arrow().Tensor.from_numpy(x)


_ARROW_SAYS = (TypeError, ValueError, NotImplementedError)  # pyarrow.lib.ArrowInvalid and ArrowNotImplementedError derive from them
_TEXT = "pa.array(x) or pa.Tensor.from_numpy(x)"
_IDIOMS = {
    **dict.fromkeys(("numpy", "numpy-readonly"), Idiom(_TEXT, _array, refuses=_ARROW_SAYS)),
    "jax": Idiom("pa.array(np.asarray(x))", lambda x: _array(np.asarray(x)), refuses=(*_ARROW_SAYS, RuntimeError)),
    "array-api-strict": Idiom("pa.array(np.asarray(x))", lambda x: _array(np.asarray(x)), refuses=(*_ARROW_SAYS, RuntimeError)),
    "torch": Idiom(
        "pa.array(x.detach().cpu().numpy())",
        lambda x: _array(x.detach().cpu().numpy()),
        permits=frozenset({"grad"}),
        refuses=(*_ARROW_SAYS, RuntimeError),
    ),
}
