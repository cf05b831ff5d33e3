"""What pyarrow itself can do with a column that has no dtype elsewhere."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

_types: Any = pa.types
_ADVICE = (
    (_types.is_dictionary, "Decode it first, x.cast(x.type.value_type), or convert its codes: {one}.indices."),
    (_types.is_run_end_encoded, "Decode it first: pyarrow.compute.run_end_decode(x)."),
    (_types.is_decimal, "If float64 is precise enough, x.cast('float64')."),
    (_types.is_interval, "Convert its parts: {one}.to_pylist()."),
    (_types.is_temporal, "Convert the counts: x.cast('int{bits}')."),
    (
        lambda kind: _types.is_nested(kind) and hasattr(kind, "value_type"),
        "Its lists differ in length. Convert the elements: {one}.flatten().",
    ),
    (_types.is_struct, "Convert one field at a time: {one}.field(0)."),
    (_types.is_null, "It holds nothing but nulls."),
    (lambda kind: isinstance(kind, pa.BaseExtensionType), "Convert what it stores: {one}.storage."),
    (lambda kind: not _types.is_nested(kind), "Encode the values as numbers first: {one}.dictionary_encode().indices."),
    (_types.is_nested, "Take it apart with pyarrow first: {one}.flatten()."),
)


def advice(x: Any) -> str:
    """Return what to call for a column whose elements are no numbers."""
    kind = x.type
    while _types.is_fixed_size_list(kind):
        kind = kind.value_type
    text = next(text for holds, text in _ADVICE if holds(kind))
    bits = getattr(kind, "bit_width", 64) if _types.is_temporal(kind) else 64
    return text.format(one="x.combine_chunks()" if isinstance(x, pa.ChunkedArray) else "x", bits=bits)
