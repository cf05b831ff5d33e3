"""Where the elements are: values, shape, strides, the first address, and what there is to say of none."""

from __future__ import annotations

from interop_conformance.adapters._base import Unsupported
from interop_conformance.capsules.capsule import read
from interop_conformance.matrix.dtypes import DTYPES
from interop_conformance.matrix.layouts import LAYOUTS
from interop_conformance.protocol import Variant
from interop_conformance.protocol.producers.ask import Ask, Finding, producer_check, refused, variants
from interop_conformance.results.outcomes import Observed

_WITHOUT_DATA = ("vmap", "functional", "fake", "meta", "wrapper", "freed", "deleted", "traced")
_UNIT_STRIDE = ("compact", "1d", "transposed", "offset")
"""Layouts in which some axis has neighbours for neighbours."""


@producer_check(
    "producer.values",
    *variants(layouts=tuple(LAYOUTS)),
    *variants(dtypes=tuple(name for name in DTYPES if name != "float32")),
    *variants(states=("read-only", "big-endian", "subclass", "neg", "inference", "odd-device", "pinned", "managed")),
    *variants(dtypes=("complex64",), states=("conj", "neg")),
)
def _values(ask: Ask) -> Observed:
    return _right(ask)


def _right(ask: Ask) -> Observed:
    raw = ask.newest()
    observed = ask.outcome_of_capsule(raw)
    ask.same(read(raw))
    return observed


@producer_check("producer.shape", *variants(layouts=tuple(LAYOUTS)))
def _shape(ask: Ask) -> Observed:
    raw = ask.newest()
    tensor = ask.tensor(raw)
    assert ask.expected is not None
    shape = ask.expected.shape
    if tensor.ndim != len(shape):
        return Observed("wrong", f"{tensor.ndim} axes instead of {len(shape)}")
    if shape and tensor.shape != shape:
        return Observed("wrong", f"the shape {shape} became {tensor.shape}")
    return ask.outcome_of(tensor)


@producer_check("producer.strides-unit", *variants(dtypes=("int16", "float64"), layouts=_UNIT_STRIDE))
def _unit(ask: Ask) -> Observed:
    raw = ask.newest()
    tensor = ask.tensor(raw)
    assert ask.expected is not None
    if tensor.strides is None:
        raise Unsupported("has no strides, as compact arrays may")
    smallest = min(abs(step) for step, extent in zip(tensor.strides, ask.expected.shape, strict=True) if extent > 1)
    if smallest != 1:
        return Observed("wrong", f"neighbours are {smallest} apart, and an element has {ask.expected.itemsize} bytes")
    return ask.outcome_of(tensor)


@producer_check("producer.strides-given", *variants(layouts=("compact", "1d", "5d", "transposed", "empty")))
def _given(ask: Ask) -> Observed:
    raw = ask.versioned()
    facts, tensor = ask.facts(raw), ask.tensor(raw)
    assert facts.version is not None
    if facts.version < (1, 2):
        raise Unsupported("says a version before 1.2, which has NULL for compact arrays")
    return Observed("wrong", "strides are NULL") if tensor.ndim and tensor.strides is None else ask.outcome_of(tensor)


@producer_check(
    "producer.strides-null-compact", *variants(layouts=("compact", "1d", "transposed", "offset", "stepped", "reversed", "broadcast"))
)
def _null_compact(ask: Ask) -> Observed:
    for keywords in ask.structures():
        raw = ask.export(**keywords)
        if ask.tensor(raw).strides is None:
            ask.same(read(raw))  # as row-major, which is what NULL says
    return ask.outcome_of_capsule(raw)


@producer_check("producer.strides-transposed", Variant(layout="transposed"))
def _transposed(ask: Ask) -> Observed:
    return _right(ask)


@producer_check("producer.strides-negative", *variants(layouts=("reversed", "reversed-length-1", "mirrored")))
def _negative(ask: Ask) -> Observed:
    return _right(ask)


@producer_check("producer.strides-broadcast", Variant(layout="broadcast"))
def _broadcast(ask: Ask) -> Observed:
    return _right(ask)


@producer_check("producer.first-element", *variants(layouts=("offset", "stepped", "reversed", "mirrored")))
def _first(ask: Ask) -> Observed:
    raw = ask.newest()
    tensor = ask.tensor(raw)
    _find_beside(ask, tensor.pointer)
    ask.same(read(raw))
    return ask.outcome_of(tensor)


def _find_beside(ask: Ask, pointer: int) -> None:
    """Find that an address is another element's of the same array: a copy's is elsewhere."""
    assert ask.expected is not None
    off = pointer - ask.adapter.pointer(ask.array)
    room = ask.expected.itemsize
    for extent in LAYOUTS[ask.variant.layout].base:
        room *= extent
    if off and abs(off) < room:
        raise Finding("wrong", f"{off} bytes beside the first element")


@producer_check("producer.alignment", *variants(layouts=("offset", "unaligned")))
def _alignment(ask: Ask) -> Observed:
    own = ask.adapter.pointer(ask.array)
    if own % 256 == 0:
        raise Unsupported("happens to be on a boundary")
    raw = ask.newest()
    tensor = ask.tensor(raw)
    if tensor.pointer != own and tensor.data == own & ~255:
        return Observed("wrong", f"the pointer is rounded, and its byte_offset is {tensor.byte_offset} instead of {own % 256}")
    return ask.outcome_of(tensor)


@producer_check("producer.zero-size", Variant(layout="empty"))
def _zero_size(ask: Ask) -> Observed:
    raw = ask.newest()
    tensor = ask.tensor(raw)
    return Observed("wrong", "data is not NULL") if tensor.data else ask.outcome_of(tensor)


@producer_check("producer.scalar-0d", Variant(layout="0d"))
def _scalar(ask: Ask) -> Observed:
    return _right(ask)


@producer_check("producer.no-null-data", *variants(layouts=("compact", "0d")), *variants(states=_WITHOUT_DATA))
def _no_null(ask: Ask) -> Observed:
    try:
        raw = ask.newest()
    except Exception as error:  # whichever it is, nothing was exported; producer.not-strided is about the class
        return refused(error)
    tensor = ask.tensor(raw)
    if not tensor.data:
        return Observed("wrong", "data is NULL, and there are elements")
    return Observed("shared") if ask.expected is None else ask.outcome_of(tensor)
