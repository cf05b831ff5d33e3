"""What pyarrow itself can do with a column that has no dtype elsewhere."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

_types: Any = pa.types
_ADVICE = (
    (
        _types.is_fixed_size_list,
        "Its lists hold no numbers. Convert their elements{without}: {one}.flatten(), and give the result a shape.",
    ),
    (_types.is_dictionary, "Decode it first, {one}.dictionary.take({one}.indices), or convert its codes: {one}.indices."),
    (_types.is_run_end_encoded, "Decode it first: pyarrow.compute.run_end_decode(x)."),
    (_types.is_decimal, "If float64 is precise enough, x.cast('float64')."),
    (lambda kind: _types.is_interval(kind) or _types.is_union(kind), "Convert its parts, as Python has them: x.to_pylist()."),
    (_types.is_temporal, "Convert the counts: x.cast('int{bits}')."),
    (_types.is_map, "Take it for lists of its keys and items: x.cast({entries})."),
    (
        lambda kind: _types.is_nested(kind) and hasattr(kind, "value_type"),
        "Its lists may differ in length. Convert their elements{without}: {one}.flatten().",
    ),
    # Not field(0), which has other values where the whole is null.
    (lambda kind: _types.is_struct(kind) and kind.num_fields, "Convert one field at a time: {one}.flatten()[0]."),
    (_types.is_struct, "It has no fields."),
    (_types.is_null, "It holds nothing but nulls."),
    (lambda kind: isinstance(kind, pa.BaseExtensionType), "Convert what it stores: {one}.storage."),
    (lambda kind: not _types.is_nested(kind), "Encode the values as numbers first: {one}.dictionary_encode().indices."),
    (_types.is_nested, "Take its values as Python has them: x.to_pylist()."),
)
_AXIS = "Its lists have one length, and may be an axis: x.cast(pyarrow.list_(x.type.value_type, {length}))."
_ENTRIES = "pyarrow.list_(pyarrow.struct([x.type.key_field, x.type.item_field]))"


def advice(x: Any) -> str:
    """Return what to call for a column whose elements are no numbers."""
    # On request, and before the hint is followed: two name it, and `import pyarrow` alone does not bring it.
    import pyarrow.compute as functions

    kind = x.type
    if (_types.is_list(kind) or _types.is_large_list(kind)) and (length := _length(functions.list_value_length(x), functions)):
        return _AXIS.format(length=length)
    text = next(text for holds, text in _ADVICE if holds(kind))
    return text.format(
        one="x.combine_chunks()" if isinstance(x, pa.ChunkedArray) else "x",
        bits=getattr(kind, "bit_width", 64) if _types.is_temporal(kind) else 64,
        without=", without the missing lists" if x.null_count else "",
        entries=_ENTRIES,
    )


def _length(lengths: Any, functions: Any) -> Any:
    """Return the length that all lists have; None if they have none in common."""
    found = functions.min_max(lengths).as_py()
    return found["max"] if found["min"] == found["max"] else None
