"""``copy=``: when a producer must copy, when it must not, and when it need not."""

from __future__ import annotations

from interop_conformance.protocol.producers.ask import CPU, PLAIN, Ask, producer_check, variants
from interop_conformance.results.outcomes import Observed

_CUDA = (2, 0)
_STRIDED = ("transposed", "offset", "stepped", "reversed", "broadcast")


@producer_check("producer.copy-true", *variants(layouts=("compact", "transposed")))
def _true(ask: Ask) -> Observed:
    ask.need_known("copy")
    tensor = ask.tensor(ask.newest(copy=True))
    observed = ask.outcome_of(tensor)
    assert ask.expected is not None
    off = tensor.pointer - ask.adapter.pointer(ask.array)
    if observed.outcome == "copied" and tensor.device == ask.device() and abs(off) < ask.expected.nbytes:
        return Observed("wrong", f"the copy begins {off} bytes into the array")
    return observed


@producer_check("producer.copy-false", *variants(layouts=("compact", *_STRIDED)))
def _false(ask: Ask) -> Observed:
    ask.need_known("copy")
    return ask.outcome_of_capsule(ask.newest(copy=False))


@producer_check("producer.copy-false-refusal", *variants(states=("plain", "odd-device", "pinned", "managed")))
def _false_refusal(ask: Ask) -> Observed:
    ask.need_known("copy", "dl_device")
    # Another device takes a copy; if there is none, BufferError is what it takes as well.
    return ask.outcome_of_capsule(ask.newest(copy=False, dl_device=_CUDA if ask.device() == CPU else CPU))


@producer_check("producer.copy-none", PLAIN)
def _none(ask: Ask) -> Observed:
    ask.need_known("copy")
    return ask.outcome_of_capsule(ask.newest(copy=None))


@producer_check("producer.zero-copy", PLAIN)
def _zero_copy(ask: Ask) -> Observed:
    return ask.outcome_of_capsule(ask.export())
