"""Consumers: what they take a code, a width and a number of lanes for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.adapters._base import SuiteFault, Unsupported
from conformance.capsule import read
from conformance.dtypes import dtype_named, values_of
from conformance.outcomes import Observed
from conformance.protocol import Variant
from conformance.protocol.consumer_ask import ANY, consumer_check
from conformance.sources import difference

if TYPE_CHECKING:
    from conformance.protocol.consumer_ask import Offer

_STANDARD_DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64", "complex64", "complex128"),
)
_FLOAT8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
_FLOAT, _OPAQUE, _FLOAT6, _FLOAT4 = 2, 3, 15, 17


def _all(*names: str) -> tuple[Variant, ...]:
    return tuple(Variant(dtype=name) for name in names)


@consumer_check("consumer.dtype-standard", *_all(*_STANDARD_DTYPES))
def _dtype_standard(offer: Offer) -> Observed:
    offer.adapter.make(offer.values())  # Unsupported, if the library lacks it altogether
    return offer.take(offer.craft())


@consumer_check("consumer.dtype-bool", *_all("bool"))
def _dtype_bool(offer: Offer) -> Observed:
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
    try:
        result = offer.adapter.from_dlpack(producer)
    except (Unsupported, SuiteFault):
        raise
    except Exception as error:  # the rule's texts name no class
        return Observed("refused", type(error).__name__)
    found = offer.adapter.values(result)
    return Observed("shared", "with all lanes") if found.tobytes() == values.tobytes() else Observed("wrong", "lanes are lost")


def values_over(array: np.ndarray, dtype: str) -> np.ndarray:
    """Return the same memory as one axis of another dtype."""
    return array.reshape(-1).view(dtype)


def _must_refuse(offer: Offer, values: np.ndarray, *dtypes: tuple[int, int, int]) -> Observed:
    observed = Observed("refused")
    for dtype in dtypes:
        observed = offer.refuses(offer.craft(values, dtype=dtype))
        if observed.outcome != "refused":
            return Observed(observed.outcome, f"code {dtype[0]} with {dtype[1]} bits was taken")
    return observed


@consumer_check("consumer.dtype-bits")
def _dtype_bits(offer: Offer) -> Observed:
    return _must_refuse(offer, values_of("float32", (6,)), (_FLOAT, 24, 1))


@consumer_check("consumer.dtype-unknown")
def _dtype_unknown(offer: Offer) -> Observed:
    return _must_refuse(offer, values_of("float32", (6,)), (200, 32, 1))


@consumer_check("consumer.dtype-opaque")
def _dtype_opaque(offer: Offer) -> Observed:
    return _must_refuse(offer, values_of("int64", (6,)), (_OPAQUE, 64, 1))


@consumer_check("consumer.dtype-subbyte-bits")
def _dtype_subbyte_bits(offer: Offer) -> Observed:
    return _must_refuse(offer, values_of("uint8", (6,)), (_FLOAT4, 8, 1), (_FLOAT6, 8, 1))


def _sub_byte(offer: Offer, memory: np.ndarray, flags: int) -> Observed:
    """Take six numbers of 4 bits, packed or padded; either what they mean must come, or what is handed on must say the same."""
    expected = values_of("float4_e2m1fn", (6,))
    producer = offer.craft(memory, dtype=(_FLOAT4, 4, 1), flags=flags)
    producer.array = np.lib.stride_tricks.as_strided(producer.array, (6,), (1,))
    try:
        result = offer.adapter.from_dlpack(producer)
    except (Unsupported, SuiteFault):
        raise
    except Exception as error:  # the rule's texts name no class
        return Observed("refused", type(error).__name__)
    if flags:
        offer.need_versioned(producer)
    if _hands_on(result, producer.pointer, flags):
        return Observed("shared", "handed on as it came")
    fault = difference(offer.adapter.values(result), expected)
    return Observed("wrong", fault) if fault else Observed("shared")


def _hands_on(result: Any, pointer: int, flags: int) -> bool:
    try:
        facts = read(result.__dlpack__(max_version=(1, 3)))
    except Exception:
        return False
    tensor = facts.tensor
    return bool(tensor and (tensor.pointer, tensor.dtype, tensor.shape, facts.flags & 4) == (pointer, (_FLOAT4, 4, 1), (6,), flags))


@consumer_check("consumer.dtype-subbyte-packed", *_all("float4_e2m1fn"))
def _dtype_subbyte_packed(offer: Offer) -> Observed:
    numbers = values_of("float4_e2m1fn", (6,)).view("uint8")
    return _sub_byte(offer, (numbers[::2] | numbers[1::2] << 4).copy(), 0)


@consumer_check("consumer.dtype-subbyte-padded", *_all("float4_e2m1fn"))
def _dtype_subbyte_padded(offer: Offer) -> Observed:
    return _sub_byte(offer, values_of("float4_e2m1fn", (6,)).astype(dtype_named("float4_e2m1fn")).view("uint8").copy(), 4)
