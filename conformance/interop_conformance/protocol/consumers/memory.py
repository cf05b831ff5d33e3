"""Consumers: what they make of pointers, offsets, strides, sizes and flags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interop_conformance.capsules.crafted import IS_COPIED, READ_ONLY
from interop_conformance.protocol.consumers.ask import ANY, consumer_check, layouts
from interop_conformance.results.outcomes import Observed

if TYPE_CHECKING:
    from interop_conformance.capsules.crafted import Producer
    from interop_conformance.protocol.consumers.ask import Offer

# ---- flags

_UNKNOWN_FLAG = 1 << 40


def _protected(offer: Offer, producer: Producer) -> Observed:
    """Take read-only memory, and return `unsafe` if it can be written to by a library that knows better."""
    expected = producer.means().copy()
    result = offer.array(producer, refusals=ANY)
    offer.need_versioned(producer)
    observed = offer.look(result, producer, expected)
    if observed.outcome != "shared" or not offer.adapter.writeable(result):
        return observed
    if offer.protects():
        return Observed("unsafe", "read-only memory became writeable")
    return Observed("shared", "the library has no read-only arrays")


@consumer_check("consumer.readonly-kept")
def _readonly_kept(offer: Offer) -> Observed:
    return _protected(offer, offer.craft(flags=READ_ONLY))


@consumer_check("consumer.readonly-accepted")
def _readonly_accepted(offer: Offer) -> Observed:
    producer = offer.craft(flags=READ_ONLY)
    observed = offer.take(producer)
    offer.need_versioned(producer)
    return observed


@consumer_check("consumer.copied-accepted")
def _copied_accepted(offer: Offer) -> Observed:
    producer = offer.craft(flags=IS_COPIED)
    observed = offer.take(producer)
    offer.need_versioned(producer)
    return observed


@consumer_check("consumer.flags-unknown")
def _flags_unknown(offer: Offer) -> Observed:
    return _protected(offer, offer.craft(flags=_UNKNOWN_FLAG | READ_ONLY))


# ---- values and memory


@consumer_check("consumer.values", *layouts("compact", "1d", "5d"))
def _values(offer: Offer) -> Observed:
    producer = offer.craft()
    expected = producer.means().copy()
    result = offer.array(producer)
    observed = offer.look(result, producer, expected)
    del result
    # Only what is beside: inside is poison, once the deleter was called.
    written = producer.memory is not None and not producer.memory.intact()
    return Observed("unsafe", "memory beside the array was written to") if written else observed


@consumer_check("consumer.zero-copy")
def _zero_copy(offer: Offer) -> Observed:
    return offer.take(offer.craft())


@consumer_check("consumer.byte-offset", *layouts("1d"))
def _byte_offset(offer: Offer) -> Observed:
    return offer.take(offer.craft(offset=2 * offer.values().itemsize))


@consumer_check("consumer.unaligned", *layouts("compact", "unaligned"))
def _unaligned(offer: Offer) -> Observed:
    """Take what begins on a boundary of its elements, and what does not even do that."""
    values = offer.values()
    shift = 1 if offer.variant.layout == "unaligned" else values.itemsize
    return offer.take(offer.craft(values, shift=shift), refusals=ANY)


# ---- strides


@consumer_check("consumer.strides", *layouts("transposed", "offset", "stepped"))
def _strides(offer: Offer) -> Observed:
    return offer.take(offer.craft(), refusals=ANY)


@consumer_check("consumer.strides-negative", *layouts("reversed", "reversed-length-1", "mirrored"))
def _strides_negative(offer: Offer) -> Observed:
    return offer.take(offer.craft(), refusals=ANY)


@consumer_check("consumer.strides-broadcast", *layouts("broadcast"))
def _strides_broadcast(offer: Offer) -> Observed:
    return offer.take(offer.craft(), refusals=ANY)


@consumer_check("consumer.strides-null")
def _strides_null(offer: Offer) -> Observed:
    if offer.takes_legacy() and (legacy := offer.take(offer.craft(version=None, strides=None))).outcome not in {"shared", "copied"}:
        return legacy
    return offer.take(offer.craft(version=(1, 1), strides=None))


@consumer_check("consumer.strides-null-since-1.2")
def _strides_null_since_1_2(offer: Offer) -> Observed:
    producer = offer.craft(version=(1, 3), strides=None)
    observed = offer.take(producer, refusals=ANY)
    offer.need_versioned(producer)
    return observed


# ---- nothing there


@consumer_check("consumer.zero-size", *layouts("empty"))
def _zero_size(offer: Offer) -> Observed:
    return offer.take(offer.craft(null=True))


@consumer_check("consumer.null-data")
def _null_data(offer: Offer) -> Observed:
    # The values are not read: they would be at NULL, or whatever was in fresh memory.
    observed = offer.refuses(offer.craft(null=True))
    return observed if observed.outcome == "refused" else Observed("wrong", "there were no data, and an array came")


@consumer_check("consumer.scalar-0d", *layouts("0d"))
def _scalar_0d(offer: Offer) -> Observed:
    offer.need_array()
    observed = offer.take(offer.craft())
    for how in ({"null_shape": True}, {"strides": None}, {"null_shape": True, "strides": None}):
        if observed.outcome in {"shared", "copied"}:
            observed = offer.take(offer.craft(**how))
    return observed
