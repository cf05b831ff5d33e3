"""``stream=``: on which stream the data are safe to read, which values are none, and what the CPU makes of it.

For CUDA the array is one that another stream is still writing; what a consumer's stream finds there tells whether it was made to wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interop_conformance.capsules.capsule import HOST_READABLE, read
from interop_conformance.protocol import Variant
from interop_conformance.protocol.producers.ask import CPU, PLAIN, Ask, producer_check, refused, variants
from interop_conformance.protocol.producers.cuda import LEGACY, PER_THREAD, driver_of
from interop_conformance.results.outcomes import Observed

if TYPE_CHECKING:
    from collections.abc import Iterable

_BUSY = Variant(state="stream-other")


@producer_check("producer.stream-none", PLAIN, device="cpu")
def _none(ask: Ask) -> Observed:
    ask.need_known("stream")
    return ask.outcome_of_capsule(ask.newest(stream=None))


@producer_check("producer.stream-cpu", PLAIN, device="cpu")
def _cpu(ask: Ask) -> Observed:
    ask.need_known("stream")
    return _refuses(ask, (1, 2, 0, -1))


@producer_check("producer.stream-cuda-zero", PLAIN, device="cuda")
def _zero(ask: Ask) -> Observed:
    ask.need_known("stream")
    return _refuses(ask, (0,))


def _refuses(ask: Ask, streams: Iterable[int]) -> Observed:
    """Return ``refused`` if every one is; no text names the class of the exception."""
    observed = Observed("refused")
    for stream in streams:
        try:
            raw = ask.newest(stream=stream)
        except Exception as error:  # an argument that is not allowed: "other errors are raised"
            observed = refused(error)
        else:
            return Observed(ask.outcome_of_capsule(raw).outcome, f"stream={stream} is accepted")
    return observed


@producer_check("producer.stream-cuda-legacy", _BUSY, device="cuda")
def _cuda_legacy(ask: Ask) -> Observed:
    observed = _complete(ask, ask.newest(stream=None), LEGACY)
    named = _complete_on(ask, LEGACY)
    # A library need not know stream=1, but None it must.
    return observed if named.outcome == "refused" else named if named.outcome == "wrong" else observed


@producer_check("producer.stream-cuda-per-thread", _BUSY, device="cuda")
def _cuda_per_thread(ask: Ask) -> Observed:
    return _complete_on(ask, PER_THREAD)


@producer_check("producer.stream-waits", _BUSY, device="cuda")
def _waits(ask: Ask) -> Observed:
    return _complete_on(ask, driver_of(ask.adapter).stream())


@producer_check("producer.stream-no-sync", _BUSY, device="cuda")
def _no_sync(ask: Ask) -> Observed:
    try:
        raw = ask.newest(stream=-1)
    except Exception as error:  # support for a stream is optional, and no class is named
        return refused(error)
    if _found(ask, raw, driver_of(ask.adapter).stream()) == _meant(ask):
        return Observed("wrong", "the writing stream had been waited for")
    return ask.outcome_of_capsule(raw)


@producer_check("producer.dl-device-cpu-synchronised", *variants(states=("plain", "stream-other", "stream-per-thread", "managed")))
def _synchronised(ask: Ask) -> Observed:
    ask.need_known("dl_device")
    raw = ask.newest(dl_device=CPU)
    if ask.tensor(raw).device[0] not in HOST_READABLE:
        return Observed("wrong", f"the capsule is on {ask.tensor(raw).device}")
    ask.same(read(raw))
    return ask.outcome_of_capsule(raw)


def _complete_on(ask: Ask, stream: int, **keywords: Any) -> Observed:
    try:
        raw = ask.newest(stream=stream, **keywords)
    except Exception as error:  # support for a stream is optional, and no class is named
        return refused(error)
    return _complete(ask, raw, stream)


def _complete(ask: Ask, raw: Any, stream: int) -> Observed:
    if _found(ask, raw, stream) != _meant(ask):
        return Observed("wrong", "the consumer's stream finds data that were not written yet")
    return ask.outcome_of_capsule(raw)


def _found(ask: Ask, raw: Any, stream: int) -> bytes:
    found: bytes = driver_of(ask.adapter).read(ask.tensor(raw).pointer, len(_meant(ask)), stream)
    return found


def _meant(ask: Ask) -> bytes:
    assert ask.expected is not None
    return ask.expected.tobytes()
