"""NumPy, and NumPy with every array read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from interop_conformance.adapters._base import Adapter, Idiom, Unsupported, why_missing
from interop_conformance.adapters.pyarrow import to_numpy as _from_arrow
from interop_conformance.matrix.memory import aligned

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from interop_conformance.matrix.layouts import Layout

__all__ = ["NumPy", "ReadOnlyNumPy"]


class Tagged(np.ndarray):
    """A user's subclass without anything of its own."""


class NumPy(Adapter):
    """NumPy; the dtypes that it lacks are those of `ml_dtypes`."""

    name: ClassVar[str] = "numpy"
    states: ClassVar[tuple[str, ...]] = ("plain", "read-only", "masked", "big-endian", "subclass")
    target: ClassVar[str | None] = "numpy"
    since: ClassVar[str] = "2.1.1"

    def available(self) -> str:
        return why_missing(self, "numpy")

    def version(self) -> str:
        return np.__version__

    def make(self, values: np.ndarray) -> Any:
        return aligned(values)

    def lay(self, x: Any, layout: Layout) -> Any:
        return layout.view(x)

    def from_dlpack(self, x: Any, /, **keywords: Any) -> Any:
        return np.from_dlpack(x, **keywords)

    def values(self, x: Any) -> np.ndarray:
        plain = np.ma.getdata(x)
        return np.array(plain, dtype=plain.dtype.newbyteorder("="), subok=False)

    def pointer(self, x: Any) -> int:
        return int(x.__array_interface__["data"][0])

    def writeable(self, x: Any) -> bool:
        return bool(x.flags.writeable)

    def put(self, x: Any, state: str, stack: ExitStack) -> Any:
        match state:
            case "read-only":
                view = x.view()
                view.flags.writeable = False
                return view
            case "masked":
                mask = np.zeros(x.shape, bool)
                mask.flat[:1] = True
                return np.ma.array(x, mask=mask)
            case "big-endian":
                return _swapped(x)
            case "subclass":
                return x.view(Tagged)
        return super().put(x, state, stack)

    def keeps(self, x: Any) -> frozenset[str]:
        return frozenset({"mask"}) if isinstance(x, np.ma.MaskedArray) else frozenset()

    def looks(self, x: Any) -> Mapping[str, Any]:
        mask = np.ma.getmaskarray(x).tobytes() if isinstance(x, np.ma.MaskedArray) else b""
        return {"type": type(x), "strides": x.strides, "dtype": x.dtype, "mask": mask}

    def idiom(self, producer: str) -> Idiom:
        return _IDIOMS.get(producer) or super().idiom(producer)


def _swapped(x: Any) -> Any:
    if x.dtype.itemsize == 1 or x.dtype.isbuiltin != 1:  # those of ml_dtypes have the machine's only
        raise Unsupported(f"{x.dtype.name} has no byte order")
    # The strides stay: the bytes are swapped where they lie.
    other = np.lib.stride_tricks.as_strided(x, x.shape, x.strides)
    if 0 not in x.strides or not x.size:
        other[...] = other.byteswap()
        return other.view(x.dtype.newbyteorder())
    raise Unsupported("a broadcast array's bytes cannot be swapped element by element")


class ReadOnlyNumPy(NumPy):
    """NumPy as pandas 3, memory maps and broadcasts return it: read-only. A source only."""

    name: ClassVar[str] = "numpy-readonly"
    distribution: ClassVar[str] = "numpy"
    states: ClassVar[tuple[str, ...]] = ("plain",)
    consumes: ClassVar[bool] = False
    target: ClassVar[str | None] = None

    def put(self, x: Any, state: str, stack: ExitStack) -> Any:
        if state != "plain":
            return Adapter.put(self, x, state, stack)
        return super().put(x, "read-only", stack)


_NUMPY_SAYS = (TypeError, ValueError)
# Says what it gives up: the gradient.
_FROM_TORCH = Idiom(
    "x.detach().cpu().numpy()",
    lambda x: x.detach().cpu().numpy(),
    permits=frozenset({"grad"}),
    refuses=(TypeError, RuntimeError),  # torch.Tensor.numpy: "otherwise an error is raised"
)
_IDIOMS = {
    **dict.fromkeys(("numpy", "numpy-readonly"), Idiom("np.asarray(x)", np.asarray, refuses=_NUMPY_SAYS)),
    # RuntimeError: an array that is not on its CPU_DEVICE, which is what its other devices are for
    "array-api-strict": Idiom("np.asarray(x)", np.asarray, refuses=(*_NUMPY_SAYS, RuntimeError)),
    "jax": Idiom("np.asarray(x)", np.asarray, refuses=(*_NUMPY_SAYS, RuntimeError)),  # RuntimeError: a deleted array
    **dict.fromkeys(("torch", "torch-cuda"), _FROM_TORCH),
    # zero_copy_only=False is the line for anything but floats without nulls, which become NaN.
    "pyarrow": Idiom("x.to_numpy(zero_copy_only=False)", _from_arrow, refuses=(NotImplementedError,)),
    "cupy": Idiom("x.get()", lambda x: x.get()),
}
