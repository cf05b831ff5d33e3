"""Consumers: how ``from_dlpack`` may be called, what it asks of the producer, and what becomes of the producer's exceptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interop_conformance.adapters._base import Unsupported
from interop_conformance.capsules.crafted import CPU
from interop_conformance.protocol.consumers.ask import ANY, ODD_DEVICE, STANDARD, consumer_check, layouts
from interop_conformance.results.outcomes import Observed
from interop_conformance.results.texts import first_sentence

if TYPE_CHECKING:
    from interop_conformance.capsules.crafted import Producer
    from interop_conformance.protocol.consumers.ask import Offer

# ---- the signature


@consumer_check("consumer.keywords")
def _keywords(offer: Offer) -> Observed:
    return offer.take(offer.craft(), device=offer.host(), copy=None)


# ---- the device


@consumer_check("consumer.device-of-capsule")
def _device_of_capsule(offer: Offer) -> Observed:
    offer.need("cpu")
    # The memory is the host's, whatever the capsule's device: a consumer that reads it as the CPU's finds the values there.
    result = offer.array(offer.craft(device=ODD_DEVICE, advertised=CPU), refusals=ANY)
    if _device_of(result) == ODD_DEVICE:
        return Observed("shared", "the array is on the capsule's device")
    return Observed("wrong", "memory of another device is read as the CPU's")


def _device_of(array: Any) -> tuple[int, int]:
    kind, index = array.__dlpack_device__()
    return int(kind), int(index)


@consumer_check("consumer.device-unsupported")
def _device_unsupported(offer: Offer) -> Observed:
    result = offer.array(offer.craft(device=ODD_DEVICE))
    if _device_of(result) == ODD_DEVICE:
        raise Unsupported("holds arrays of any device")
    return Observed("wrong", "memory of a device that the library does not have was taken")


@consumer_check("consumer.device-default")
def _device_default(offer: Offer) -> Observed:
    producer = offer.craft()
    expected = producer.means().copy()
    result = offer.array(producer)
    found, usual = (getattr(array, "device", None) for array in (result, offer.any_array()))
    if found != usual:
        return Observed("wrong", f"the array is on the device {found}")
    return offer.look(result, producer, expected)


@consumer_check("consumer.device-cpu")
def _device_cpu(offer: Offer) -> Observed:
    return offer.take(offer.craft(), device=offer.host())


@consumer_check("consumer.device-cpu-copy-false")
def _device_cpu_copy_false(offer: Offer) -> Observed:
    return offer.take(offer.craft(device=ODD_DEVICE), refusals=STANDARD, device=offer.host(), copy=False)


@consumer_check("consumer.passes-dl-device")
def _passes_dl_device(offer: Offer) -> Observed:
    producer = offer.craft(device=ODD_DEVICE)
    observed = offer.take(producer, refusals=ANY, device=offer.host())
    asked = [each.get("dl_device") for each in producer.asked]
    if not asked or any(each is not None and tuple(map(int, each)) == CPU for each in asked):
        return observed
    return Observed("wrong", f"dl_device={asked[0]} was passed" if asked[0] else "dl_device was not passed")


# ---- the stream


def _streams(producer: Producer) -> list[Any]:
    return [asked["stream"] for asked in producer.asked if "stream" in asked]


@consumer_check("consumer.stream-cpu")
def _stream_cpu(offer: Offer) -> Observed:
    offer.need("cpu")
    producer = offer.craft()
    observed = offer.take(producer)
    wrong = [stream for stream in _streams(producer) if stream is not None]
    return Observed("wrong", f"stream={wrong[0]} was passed for data on the CPU") if wrong else observed


@consumer_check("consumer.stream-passed")
def _stream_passed(offer: Offer) -> Observed:
    offer.need("cuda")
    producer = offer.craft()
    observed = offer.take(producer)
    streams = _streams(producer)
    if not streams:
        return Observed("wrong", "no stream was passed")
    # -1 asks for no synchronisation, which is not telling where it will be read.
    well = all(type(stream) is int and stream > 0 for stream in streams)
    return observed if well else Observed("wrong", f"stream={streams[0]} was passed")


# ---- copy


@consumer_check("consumer.copy-true")
def _copy_true(offer: Offer) -> Observed:
    return offer.take(offer.craft(), copy=True)


@consumer_check("consumer.copy-true-legacy")
def _copy_true_legacy(offer: Offer) -> Observed:
    return offer.take(offer.craft(version=None, knows=("stream",)), refusals=ANY, copy=True)


@consumer_check("consumer.copy-false")
def _copy_false(offer: Offer) -> Observed:
    return offer.take(offer.craft(), refusals=STANDARD, copy=False)


@consumer_check("consumer.copy-false-refusal", *layouts("compact", "transposed", "stepped", "unaligned"))
def _copy_false_refusal(offer: Offer) -> Observed:
    # Compact memory is what only the producer could copy; the other layouts are what a consumer may not be able to hold.
    only = offer.variant.layout == "compact"
    shift = 1 if offer.variant.layout == "unaligned" else 0
    producer = offer.craft(offer.values(), shift=shift) if shift else offer.craft(copies=only)
    return offer.take(producer, refusals=STANDARD, copy=False)


@consumer_check("consumer.passes-copy")
def _passes_copy(offer: Offer) -> Observed:
    observed = Observed("shared")
    for copy in (True, False):
        producer = offer.craft()
        observed = offer.take(producer, refusals=ANY, copy=copy)
        if not any(asked.get("copy") is copy for asked in producer.asked):
            return Observed("wrong", f"copy={copy} did not reach the producer")
    return observed


# ---- exceptions


class OddError(Exception):
    """An exception that no library has heard of."""


def _raised(offer: Offer, expected: type[Exception], **how: Any) -> Observed:
    producer = offer.craft(**how)
    try:
        offer.adapter.from_dlpack(producer)
    except expected as error:
        if len(producer.asked) > 1:
            return Observed("wrong", f"the producer was asked {len(producer.asked)} times")
        return Observed("refused", type(error).__name__)
    except Unsupported:
        raise
    except Exception as error:  # whatever came instead is the finding
        return Observed("unexplained", f"{expected.__name__} became {type(error).__name__}: {first_sentence(str(error))}")
    return Observed("wrong", "an array came")


@consumer_check("consumer.propagates-buffer-error")
def _propagates_buffer_error(offer: Offer) -> Observed:
    return _raised(offer, BufferError, raises=BufferError("cannot be exported"))


@consumer_check("consumer.propagates-other")
def _propagates_other(offer: Offer) -> Observed:
    return _raised(offer, OddError, raises=OddError("not enough of something"))


@consumer_check("consumer.no-protocol")
def _no_protocol(offer: Offer) -> Observed:
    try:
        offer.adapter.from_dlpack(object())
    except AttributeError as error:
        return Observed("refused", f"AttributeError: {first_sentence(str(error))}")
    return Observed("wrong", "an array came of an object without __dlpack__")
