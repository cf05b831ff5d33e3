"""Apache Arrow: columns of immutable host memory in one or more chunks, with nulls; bits for booleans, fixed-size lists for further axes.

A source only. pyarrow's own export refuses nulls, booleans, lists and chunks; here the memory is read as the columnar format says
(https://arrow.apache.org/docs/format/Columnar.html). Tensors (`pyarrow.Tensor`) go the way of every producer of DLPack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from interop._model.capabilities import Capabilities
from interop._model.description import Description, c_strides
from interop._model.spelling import type_name
from interop.backends.base import Backend
from interop.backends.numpy.backend import backend as numpy_backend
from interop.backends.pyarrow.advice import advice

if TYPE_CHECKING:
    from collections.abc import Iterable

_types: Any = pa.types
_NAMES = {"halffloat": "float16", "float": "float32", "double": "float64", "bool": "bool", "extension<arrow.bool8>": "bool"}
_NAMES |= {f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_BITS, _BYTES = "bool", "extension<arrow.bool8>"


class ArrowBackend(Backend):
    """Arrow's arrays and chunked arrays; a source among all others, so it has their name."""

    capabilities = Capabilities(
        name="dlpack",
        title="Arrow",
        dtypes=numpy_backend.capabilities.dtypes,
        devices=frozenset({"cpu"}),
        readonly_arrays=True,
    )

    def owns(self, x: Any) -> bool:
        return isinstance(x, pa.Array | pa.ChunkedArray)

    def describe(self, x: Any) -> Description:
        extents, leaf = _form(x.type)
        name, chunks = _NAMES.get(str(leaf)), _chunks(x)
        said: dict[str, Any] = {
            "backend": "dlpack",
            "type": type_name(x),
            "shape": (len(x), *extents),
            "dtype": name or str(leaf),
            "readonly": True,
            "masked": any(map(_has_nulls, chunks)),
        }
        if any(not chunk.is_cpu for chunk in chunks):
            hint = "Bring it to the host first: x.copy_to(pyarrow.default_cpu_memory_manager())."
            return Description(**said, advice=hint, strides=None, layout="that of another device")
        if name is None:
            return Description(**said, advice=advice(x), strides=None, nbytes=sum(chunk.nbytes for chunk in chunks))
        pending = [word for word, holds in (("unpacking", str(leaf) in (_BITS, _BYTES)), ("joining", len(chunks) > 1)) if holds]
        if pending:
            return Description(**said, pending=tuple(pending))
        view = _values(chunks[0]) if chunks else np.empty((0, *extents), name)
        strides = tuple(step // view.itemsize for step in view.strides) if view.size else c_strides(view.shape)
        return Description(**said, strides=strides, pointer=view.__array_interface__["data"][0])

    def host_view(self, x: Any) -> Any:
        if isinstance(x, np.ndarray):
            return x
        chunks = _chunks(x)
        extents, leaf = _form(x.type)
        view = _values(chunks[0]) if chunks else np.empty((0, *extents), _NAMES[str(leaf)])
        view.flags.writeable = False
        return view

    def copy(self, x: Any) -> Any:
        return numpy_backend.copy(self.host_view(x))

    def cast(self, x: Any, dtype: str) -> Any:
        return numpy_backend.cast(self.host_view(x), dtype)

    def resolve(self, x: Any) -> Any:
        parts = [_values(chunk) for chunk in _chunks(x)]
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    # `unmask` is nothing to do: whatever Arrow has stored under its nulls is there.

    def from_host(self, view: Any) -> Any:
        raise AssertionError("the plan has Arrow as a target")


def _chunks(x: Any) -> list[Any]:
    return x.chunks if isinstance(x, pa.ChunkedArray) else [x]


def _form(kind: Any) -> tuple[tuple[int, ...], Any]:
    """Return the extents within one element, and the type of the numbers there."""
    extents: list[int] = []
    while True:
        if _types.is_fixed_size_list(kind):
            extents.append(kind.list_size)
            kind = kind.value_type
        elif isinstance(kind, pa.FixedShapeTensorType) and _is_clear(kind):
            extents += [kind.shape[axis] for axis in _axes(kind)]
            kind = kind.value_type
        else:
            return tuple(extents), kind


def _is_clear(kind: Any) -> bool:
    """Whether a permutation means the same both ways: pyarrow 26 writes the inverse of what the format says, and reads neither back."""
    axes = list(_axes(kind))
    return [axes[axis] for axis in axes] == list(range(len(axes)))


def _axes(kind: Any) -> Iterable[int]:
    return kind.permutation or range(len(kind.shape))


def _has_nulls(x: Any) -> bool:
    if x.null_count:
        return True
    inner = _inner(x)
    return inner is not None and _has_nulls(inner)


def _inner(x: Any) -> Any:
    """Return the array that holds an array's elements, less what was sliced off; None if there is no other."""
    if isinstance(x, pa.FixedSizeListArray):  # its flatten() would leave out what is under the nulls
        return x.values.slice(x.offset * x.type.list_size, len(x) * x.type.list_size)
    return x.storage if isinstance(x, pa.ExtensionArray) else None


def _values(x: Any) -> Any:
    """Return an ndarray with an array's values, on its memory; new memory for booleans."""
    inner, kind = _inner(x), x.type
    if isinstance(kind, pa.FixedShapeTensorType):  # stored in the order of its shape, and meant in that of its permutation
        return _values(inner).reshape(len(x), *kind.shape).transpose(0, *(axis + 1 for axis in _axes(kind)))
    if inner is not None:
        values = _values(inner)
        return values != 0 if str(kind) == _BYTES else values.reshape(len(x), kind.list_size, *values.shape[1:])
    data, dtype = x.buffers()[1], np.dtype(_NAMES[str(kind)])
    if data is None or not len(x):  # no elements, or nothing but nulls
        return np.zeros(len(x), dtype)
    if str(kind) != _BITS:
        return np.frombuffer(data, dtype, len(x), x.offset * dtype.itemsize)
    first = x.offset % 8
    packed = np.frombuffer(data, "uint8", (first + len(x) + 7) // 8, x.offset // 8)
    return np.unpackbits(packed, count=first + len(x), bitorder="little")[first:].view("bool")


backend = ArrowBackend()
