"""What the elements are: code, bits and lanes; and which arrays have none that DLPack can say."""

from __future__ import annotations

from interop.dlpack import SUBBYTE_PADDED
from interop_conformance.adapters._base import Unsupported
from interop_conformance.capsules.capsule import read
from interop_conformance.matrix.dtypes import DTYPES, dlpack_code
from interop_conformance.protocol import Variant
from interop_conformance.protocol.producers.ask import Ask, producer_check, refused, variants
from interop_conformance.protocol.producers.subbyte import subbyte_difference
from interop_conformance.results.outcomes import Observed

_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_BOOLS = Variant("bool", "1d")
"""Arrow's arrays have one axis, and their booleans a bit each."""
_STANDARD = ("bool", *_INTEGERS, "float32", "float64", "complex64", "complex128")
_CODES = frozenset(range(18))


@producer_check("producer.dtype-standard", *variants(dtypes=_STANDARD), _BOOLS)
def _standard(ask: Ask) -> Observed:
    return ask.outcome_of_capsule(ask.newest())


def _coded(ask: Ask) -> Observed:
    raw = ask.newest()
    tensor = ask.tensor(raw)
    assert ask.expected is not None
    expected = dlpack_code(ask.expected.dtype)
    if tensor.dtype[:2] != (expected or ())[:2]:
        return Observed("wrong", f"code {tensor.dtype[0]} and {tensor.dtype[1]} bits instead of {expected}")
    return ask.outcome_of(tensor)


@producer_check("producer.dtype-number", *variants(dtypes=(*_INTEGERS, "float16", "float32", "float64")))
def _number(ask: Ask) -> Observed:
    return _coded(ask)


@producer_check("producer.dtype-bool", Variant("bool"), _BOOLS)
def _bool(ask: Ask) -> Observed:
    return _coded(ask)


@producer_check("producer.dtype-complex", *variants(dtypes=("complex64", "complex128")))
def _complex(ask: Ask) -> Observed:
    return _coded(ask)


@producer_check("producer.dtype-bfloat16", Variant("bfloat16"))
def _bfloat16(ask: Ask) -> Observed:
    return _coded(ask)


@producer_check("producer.dtype-float8", *variants(dtypes=tuple(name for name in DTYPES if name.startswith("float8"))))
def _float8(ask: Ask) -> Observed:
    return _coded(ask)


@producer_check("producer.dtype-subbyte-bits", Variant("float4_e2m1fn"))
def _subbyte_bits(ask: Ask) -> Observed:
    raw = ask.newest()
    _, bits, lanes = ask.tensor(raw).dtype
    return ask.outcome_of_capsule(raw) if (bits, lanes) == (4, 1) else Observed("wrong", f"{bits} bits and {lanes} lanes")


@producer_check("producer.dtype-subbyte-order", *variants(dtypes=("float4_e2m1fn", "int4")))
def _subbyte_order(ask: Ask) -> Observed:
    raw = ask.newest()
    facts, tensor = ask.facts(raw), ask.tensor(raw)
    assert ask.expected is not None
    if tensor.dtype[1] >= 8 or facts.flags & SUBBYTE_PADDED:
        raise Unsupported("is not packed: an element fills a byte")
    ask.check_reach(tensor)
    fault = subbyte_difference(facts, ask.expected)
    # One element in each byte without a flag is another rule's, producer.flag-subbyte-padded.
    return Observed("wrong", fault) if fault and "no flag" not in fault else ask.outcome_of(tensor)


@producer_check("producer.dtype-lanes", *variants(dtypes=_STANDARD))
def _lanes(ask: Ask) -> Observed:
    raw = ask.newest()
    lanes = ask.tensor(raw).dtype[2]
    return ask.outcome_of_capsule(raw) if lanes == 1 else Observed("wrong", f"{lanes} lanes")


@producer_check("producer.dtype-unsupported", Variant("datetime64"))
def _unsupported(ask: Ask) -> Observed:
    raw = ask.newest()
    return Observed(ask.outcome_of_capsule(raw).outcome, f"goes out as code {ask.tensor(raw).dtype[0]}")


@producer_check("producer.byte-order", *variants(dtypes=("int16", "float32"), states=("big-endian",)))
def _byte_order(ask: Ask) -> Observed:
    try:
        raw = ask.newest()
    except Exception as error:  # "an explicit error message": no class is named
        return refused(error)
    return Observed(ask.outcome_of_capsule(raw).outcome, "goes out as if it were in the native order")


@producer_check("producer.not-strided", *variants(states=("sparse", "meta", "wrapper", "fake", "functional", "vmap", "traced")))
def _not_strided(ask: Ask) -> Observed:
    facts = read(ask.newest())
    return Observed(
        "wrong", "handed out NULL" if facts.tensor and not facts.tensor.data else "handed out memory that does not hold the values"
    )
