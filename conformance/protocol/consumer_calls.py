"""Consumers: how ``from_dlpack`` may be called, what it asks of the producer, and what becomes of the producer's exceptions."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from conformance.adapters._base import Unsupported
from conformance.crafted import CPU, Producer
from conformance.outcomes import GOOD, Observed
from conformance.protocol.consumer_ask import ANY, CUDA, ODD_DEVICE, STANDARD, consumer_check, layouts
from conformance.texts import first_sentence

if TYPE_CHECKING:
    from conformance.protocol.consumer_ask import Offer

# ---- the signature


@consumer_check("consumer.keywords")
def _keywords(offer: Offer) -> Observed:
    try:
        return offer.take(offer.craft(), device=offer.host(), copy=None)
    except Unsupported as reason:
        # Elsewhere a keyword that is not there is nobody's fault; here it is what is asked.
        return Observed("unexplained", str(reason))


@consumer_check("consumer.keyword-only")
def _keyword_only(offer: Offer) -> Observed:
    function = _function(offer)
    try:
        function(offer.craft(), None)
    except Exception as error:  # the rule's texts name no class
        return Observed("refused", type(error).__name__)
    return Observed("shared", "None was taken as the second argument")


def _function(offer: Offer) -> Any:
    """Return the library's own function, which an adapter only calls by keyword."""
    array = offer.any_array()
    spaced = hasattr(array, "__array_namespace__")
    namespace = array.__array_namespace__() if spaced else sys.modules[type(array).__module__.partition(".")[0]]
    function = getattr(namespace, "from_dlpack", None)
    if function is None:
        raise Unsupported("from_dlpack is no function of the library's namespace")
    return function


# ---- the device


@consumer_check("consumer.device-of-capsule")
def _device_of_capsule(offer: Offer) -> Observed:
    offer.need("cpu")
    # The memory is the host's, whatever the capsule says: who reads it as the CPU's finds the values there.
    producer = offer.craft(device=ODD_DEVICE, advertised=CPU)
    observed = offer.take(producer, refusals=ANY)
    return observed if observed.outcome == "refused" else Observed("wrong", "memory of another device is read as the CPU's")


@consumer_check("consumer.device-unsupported")
def _device_unsupported(offer: Offer) -> Observed:
    offer.array(offer.craft(device=ODD_DEVICE))
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
    return Observed("wrong", f"dl_device={asked[0]} was passed")


# ---- the stream


def _streams(producer: Producer, *, to_cpu: bool = False) -> list[Any]:
    return [asked["stream"] for asked in producer.asked if "stream" in asked and (asked.get("dl_device") or not to_cpu)]


@consumer_check("consumer.stream-cpu")
def _stream_cpu(offer: Offer) -> Observed:
    offer.need("cpu")
    producer = offer.craft()
    observed = offer.take(producer)
    wrong = [stream for stream in _streams(producer) if stream is not None]
    return Observed("wrong", f"stream={wrong[0]} was passed for data on the CPU") if wrong else observed


@consumer_check("consumer.stream-with-cpu")
def _stream_with_cpu(offer: Offer) -> Observed:
    producer = offer.craft(device=CUDA)
    host = offer.host()
    try:
        observed = offer.take(producer, refusals=ANY, device=host)
    finally:
        wrong = [stream for stream in _streams(producer, to_cpu=True) if stream is not None]
    if wrong:
        return Observed("wrong", f"stream={wrong[0]} was passed with dl_device=(1, 0)")
    if observed.outcome == "refused":
        raise Unsupported(f"does not bring CUDA data to the CPU here: {observed.reason}")
    return observed


def _cuda_streams(offer: Offer) -> tuple[list[Any], Observed]:
    offer.need("cuda")
    producer = offer.craft()
    observed = offer.take(producer)
    return _streams(producer), observed


@consumer_check("consumer.stream-passed")
def _stream_passed(offer: Offer) -> Observed:
    streams, observed = _cuda_streams(offer)
    passed = bool(streams) and -1 not in streams
    return (
        observed
        if passed or observed.outcome not in GOOD
        else Observed("wrong", f"stream={streams[0]} was passed" if streams else "no stream was passed")
    )


@consumer_check("consumer.stream-value")
def _stream_value(offer: Offer) -> Observed:
    streams, observed = _cuda_streams(offer)
    wrong = [stream for stream in streams if stream is not None and (type(stream) is not int or stream < -1 or stream == 0)]
    return Observed("wrong", f"a stream of type {type(wrong[0]).__name__} and value {wrong[0]}") if wrong else observed


@consumer_check("consumer.stream-legacy")
def _stream_legacy(offer: Offer) -> Observed:
    streams, observed = _cuda_streams(offer)
    # No case before this one chose a stream, so the library's current one is its default.
    return (
        observed
        if 1 in streams or observed.outcome not in GOOD
        else Observed("wrong", f"stream={streams[0] if streams else 'nothing'} was passed")
    )


# ---- copy


@consumer_check("consumer.copy-true")
def _copy_true(offer: Offer) -> Observed:
    return offer.take(offer.craft(), copy=True)


@consumer_check("consumer.copy-true-legacy")
def _copy_true_legacy(offer: Offer) -> Observed:
    return offer.take(offer.craft(version=None, knows=()), refusals=ANY, copy=True)


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


@consumer_check("consumer.propagates-device-error")
def _propagates_device_error(offer: Offer) -> Observed:
    producer = offer.craft(device_raises=BufferError("no device"))
    try:
        observed = offer.take(producer)
    except Unsupported:
        raise
    except Exception as error:  # whatever came instead is the finding
        return Observed("unexplained", f"BufferError became {type(error).__name__}: {first_sentence(str(error))}")
    swallowed = producer.devices_asked and observed.outcome != "refused"
    return Observed("wrong", "the error was swallowed, and an array came") if swallowed else observed


@consumer_check("consumer.no-protocol")
def _no_protocol(offer: Offer) -> Observed:
    try:
        offer.adapter.from_dlpack(object())
    except AttributeError as error:
        return Observed("refused", f"AttributeError: {first_sentence(str(error))}")
    return Observed("wrong", "an array came of an object without __dlpack__")
