"""Consumers: what they take a code, a width and a number of lanes for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from interop_conformance.capsules.capsule import read
from interop_conformance.capsules.crafted import SUBBYTE_PADDED
from interop_conformance.matrix.dtypes import values_of
from interop_conformance.matrix.sources import difference
from interop_conformance.protocol import Variant
from interop_conformance.protocol.consumers.ask import ANY, consumer_check
from interop_conformance.results.outcomes import BAD, Observed

if TYPE_CHECKING:
    from interop_conformance.capsules.crafted import Producer
    from interop_conformance.protocol.consumers.ask import Offer

_STANDARD_DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64", "complex64", "complex128"),
)
_FLOAT8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
_FLOAT, _FLOAT6, _FLOAT4 = 2, 15, 17


def _all(*names: str) -> tuple[Variant, ...]:
    return tuple(Variant(dtype=name) for name in names)


@consumer_check("consumer.dtype-standard", *_all(*_STANDARD_DTYPES))
def _dtype_standard(offer: Offer) -> Observed:
    offer.need_array()
    return offer.take(offer.craft())


@consumer_check("consumer.dtype-bfloat16", *_all("bfloat16"))
def _dtype_bfloat16(offer: Offer) -> Observed:
    return offer.take(offer.craft(), refusals=ANY)


@consumer_check("consumer.dtype-float8", *_all(*_FLOAT8))
def _dtype_float8(offer: Offer) -> Observed:
    return offer.take(offer.craft(), refusals=ANY)


@consumer_check("consumer.dtype-lanes")
def _dtype_lanes(offer: Offer) -> Observed:
    values = values_of("float32", (2, 4))
    # Two vectors of four: an array of two, whose memory is that of eight numbers.
    producer = offer.craft(values, dtype=(_FLOAT, 32, 4))
    producer.array = values_over(producer.array, "V16")
    result = offer.array(producer, refusals=ANY)
    if _exports_again(result, producer):
        return Observed("shared", "handed on as it came")
    found = offer.adapter.values(result)
    return Observed("shared", "with all lanes") if found.tobytes() == values.tobytes() else Observed("wrong", "lanes are lost")


def values_over(array: np.ndarray, dtype: str) -> np.ndarray:
    """Return the same memory as one axis of another dtype."""
    return array.reshape(-1).view(dtype)


def _must_refuse(offer: Offer, values: np.ndarray, *dtypes: tuple[int, int, int], **how: Any) -> Observed:
    observed = Observed("refused")
    for dtype in dtypes:
        observed = offer.refuses(offer.craft(values, dtype=dtype, **how))
        if observed.outcome != "refused":
            return Observed(observed.outcome, f"code {dtype[0]} with {dtype[1]} bits was taken")
    return observed


@consumer_check("consumer.dtype-bits")
def _dtype_bits(offer: Offer) -> Observed:
    return _must_refuse(offer, values_of("float32", (6,)), (_FLOAT, 24, 1))


@consumer_check("consumer.dtype-unknown")
def _dtype_unknown(offer: Offer) -> Observed:
    # A newer minor version may have new codes: what they mean is not known here either.
    observed = _must_refuse(offer, values_of("float32", (6,)), (99, 32, 1), version=(1, 99))
    return observed if observed.outcome != "refused" else _must_refuse(offer, values_of("float32", (6,)), (200, 32, 1))


@consumer_check("consumer.dtype-subbyte-bits")
def _dtype_subbyte_bits(offer: Offer) -> Observed:
    return _must_refuse(offer, values_of("uint8", (6,)), (_FLOAT4, 8, 1), (_FLOAT6, 8, 1))


def _sub_byte(offer: Offer, memory: np.ndarray, flags: int) -> Observed:
    """Take six numbers of 4 bits, packed or padded; either the values must arrive, or what is exported again must have the same dtype."""
    expected = values_of("float4_e2m1fn", (6,))
    producer = offer.craft(memory, dtype=(_FLOAT4, 4, 1), flags=flags)
    producer.array = np.lib.stride_tricks.as_strided(producer.array, (6,), (1,))
    result = offer.array(producer, refusals=ANY)
    if flags and not offer.asks_versioned(producer):
        return Observed("refused", "asks for legacy capsules only, which have no flags")
    if _exports_again(result, producer):
        return Observed("shared", "handed on as it came")
    fault = difference(offer.adapter.values(result), expected)
    return Observed("wrong", fault) if fault else Observed("shared")


def _exports_again(result: Any, producer: Producer) -> bool:
    """Return whether the library's own export has what it imported: dtype, flag and shape."""
    try:
        facts = read(result.__dlpack__(max_version=(1, 3)))
    except Exception:  # it exports nothing, for whatever reason; then its values count
        return False
    tensor, padded = facts.tensor, producer.flags & SUBBYTE_PADDED
    if tensor is None or facts.flags & SUBBYTE_PADDED != padded:
        return False
    return (tensor.pointer, tensor.dtype, tensor.shape) == (producer.pointer, producer.dtype, producer.means().shape)


@consumer_check("consumer.dtype-subbyte-layout", *_all("float4_e2m1fn"))
def _dtype_subbyte_layout(offer: Offer) -> Observed:
    numbers = values_of("float4_e2m1fn", (6,)).view("uint8")
    packed = _sub_byte(offer, (numbers[::2] | numbers[1::2] << 4).copy(), 0)
    padded = _sub_byte(offer, numbers.copy(), SUBBYTE_PADDED)
    return next((each for each in (packed, padded) if each.outcome in BAD), packed if packed.outcome != "refused" else padded)
