"""The flags of a versioned capsule, and what becomes of what they say where there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interop.dlpack import READ_ONLY, SUBBYTE_PADDED
from interop_conformance.adapters._base import Unsupported
from interop_conformance.capsules.capsule import read
from interop_conformance.protocol.producers.ask import CPU, PLAIN, Ask, producer_check, variants
from interop_conformance.protocol.producers.subbyte import subbyte_difference
from interop_conformance.results.outcomes import Observed
from interop_conformance.results.texts import first_sentence

if TYPE_CHECKING:
    from interop_conformance.capsules.capsule import Facts

IS_COPIED = 2

# Plain: all arrays of some libraries are read-only; in one axis: all of Arrow's that have no more.
_READ_ONLY = (*variants(layouts=("compact", "1d")), *variants(states=("read-only",)))
_COPIED_PERHAPS = (
    *variants(layouts=("compact", "transposed", "offset", "stepped", "reversed", "broadcast", "unaligned")),
    *variants(states=("neg", "odd-device", "pinned", "managed")),
    *variants(dtypes=("complex64",), states=("conj",)),
)


@producer_check("producer.flag-readonly", *_READ_ONLY)
def _readonly(ask: Ask) -> Observed:
    _need_readonly(ask)
    facts = ask.facts(ask.versioned())
    observed = _outcome_of(ask, facts)
    if observed.outcome == "shared" and not facts.flags & READ_ONLY:
        return Observed("unsafe", "read-only memory goes out without the flag")
    return observed


@producer_check("producer.flag-readonly-legacy", *_READ_ONLY)
def _readonly_legacy(ask: Ask) -> Observed:
    _need_readonly(ask)
    raw = ask.export()
    if not read(raw).legacy:
        raise Unsupported("hands out a versioned capsule without being asked for one")
    observed = ask.outcome_of_capsule(raw)
    return (
        Observed("unsafe", "read-only memory goes out in the legacy structure, which cannot say so")
        if observed.outcome == "shared"
        else observed
    )


def _need_readonly(ask: Ask) -> None:
    if ask.adapter.writeable(ask.array):
        raise Unsupported("may be written to")


@producer_check("producer.flags-default", PLAIN)
def _default(ask: Ask) -> Observed:
    if not ask.adapter.writeable(ask.array):
        raise Unsupported("is read-only, so there is something to say")
    facts = ask.facts(ask.versioned())
    observed = _outcome_of(ask, facts)
    if facts.flags and observed.outcome == "shared":
        return Observed("wrong", f"the flags are {facts.flags}")
    return observed


@producer_check("producer.flag-copied", *variants(layouts=("compact", "transposed")))
def _copied(ask: Ask) -> Observed:
    # Whether there is one is another rule's, producer.copy-true.
    try:
        facts = ask.facts(ask.versioned(copy=True))
    except BufferError as error:
        raise Unsupported(f"makes no copy: {first_sentence(str(error))}") from error
    observed = _outcome_of(ask, facts)
    if observed.outcome == "shared":
        raise Unsupported("makes no copy: copy=True shares")
    return observed if facts.flags & IS_COPIED else Observed("wrong", "a copy without the flag")


@producer_check("producer.flag-copied-unasked", *_COPIED_PERHAPS)
def _copied_unasked(ask: Ask) -> Observed:
    keywords = {} if ask.device() == CPU else {"dl_device": CPU}
    facts = ask.facts(ask.versioned(**keywords))
    observed = _outcome_of(ask, facts)
    if observed.outcome == "copied" and not facts.flags & IS_COPIED:
        return Observed("wrong", "a copy without the flag")
    return observed


@producer_check("producer.flag-copied-clear", *variants(layouts=("compact", "transposed", "offset")))
def _copied_clear(ask: Ask) -> Observed:
    facts = ask.facts(ask.versioned())
    observed = _outcome_of(ask, facts)
    if observed.outcome == "shared" and facts.flags & IS_COPIED:
        return Observed("wrong", "shared memory with the flag of a copy")
    return observed


@producer_check("producer.flag-subbyte-padded", *variants(dtypes=("float4_e2m1fn", "int4")))
def _padded(ask: Ask) -> Observed:
    assert ask.expected is not None
    raw = ask.versioned()  # by name: the memory of a copy ends with it
    facts, tensor = ask.facts(raw), ask.tensor(raw)
    if tensor.dtype[1] >= 8:
        raise Unsupported("goes out in whole bytes, as another dtype")
    ask.check_reach(tensor)
    fault = subbyte_difference(facts, ask.expected)
    if fault and not facts.flags & SUBBYTE_PADDED:
        return Observed("wrong", fault)
    return ask.outcome_of(tensor)


def _outcome_of(ask: Ask, facts: Facts) -> Observed:
    assert facts.tensor is not None
    return ask.outcome_of(facts.tensor)
