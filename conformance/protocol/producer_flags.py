"""The flags of a versioned capsule, and what becomes of what they say where there are none."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from conformance.adapters._base import Unsupported
from conformance.capsule import HOST_READABLE, read
from conformance.outcomes import Observed
from conformance.protocol.producer_ask import CPU, PLAIN, Ask, Finding, producer_check, variants
from conformance.protocol.producer_subbyte import subbyte_difference
from interop.dlpack import READ_ONLY, SUBBYTE_PADDED

if TYPE_CHECKING:
    from conformance.capsule import Facts

IS_COPIED = 2

_READ_ONLY = variants(states=("plain", "read-only"))  # plain: all arrays of some libraries are
_COPIED_PERHAPS = (
    *variants(layouts=("compact", "transposed", "offset", "stepped", "reversed", "broadcast", "unaligned")),
    *variants(states=("neg", "odd-device", "pinned", "managed")),
    *variants(dtypes=("bool",), layouts=("1d",)),
    *variants(dtypes=("complex64",), states=("conj",)),
)


@producer_check("producer.flag-readonly", *_READ_ONLY)
def _readonly(ask: Ask) -> Observed:
    _need_readonly(ask)
    facts = ask.facts(ask.versioned())
    observed = _handed(ask, facts)
    if observed.outcome == "shared" and not facts.flags & READ_ONLY:
        return Observed("unsafe", "read-only memory goes out without the flag")
    return observed


@producer_check("producer.flag-readonly-legacy", *_READ_ONLY)
def _readonly_legacy(ask: Ask) -> Observed:
    _need_readonly(ask)
    raw = ask.export()
    if not read(raw).legacy:
        raise Unsupported("hands out a versioned capsule without being asked for one")
    observed = ask.handed_over(raw)
    return Observed("unsafe", "read-only memory goes out in the legacy structure, which cannot say so") if observed.outcome == "shared" else observed


def _need_readonly(ask: Ask) -> None:
    if ask.adapter.writeable(ask.array):
        raise Unsupported("may be written to")


@producer_check("producer.flags-default", PLAIN)
def _default(ask: Ask) -> Observed:
    if not ask.adapter.writeable(ask.array):
        raise Unsupported("is read-only, so there is something to say")
    facts = ask.facts(ask.versioned())
    observed = _handed(ask, facts)
    if facts.flags and observed.outcome == "shared":
        return Observed("wrong", f"the flags are {facts.flags}")
    return observed


@producer_check("producer.flag-copied", *variants(layouts=("compact", "transposed")))
def _copied(ask: Ask) -> Observed:
    facts = ask.facts(ask.versioned(copy=True))
    observed = _handed(ask, facts)
    if observed.outcome == "shared":
        raise Unsupported("copy=True makes no copy")
    return observed if facts.flags & IS_COPIED else Observed("wrong", "a copy without the flag")


@producer_check("producer.flag-copied-unasked", *_COPIED_PERHAPS)
def _copied_unasked(ask: Ask) -> Observed:
    keywords = {} if ask.device() == CPU else {"dl_device": CPU}
    facts = ask.facts(ask.versioned(**keywords))
    observed = _handed(ask, facts)
    if observed.outcome == "copied" and not facts.flags & IS_COPIED:
        return Observed("wrong", "a copy without the flag")
    return observed


@producer_check("producer.flag-copied-clear", *variants(layouts=("compact", "transposed", "offset")))
def _copied_clear(ask: Ask) -> Observed:
    facts = ask.facts(ask.versioned())
    observed = _handed(ask, facts)
    if observed.outcome == "shared" and facts.flags & IS_COPIED:
        return Observed("wrong", "shared memory with the flag of a copy")
    return observed


@producer_check("producer.copied-is-owned", PLAIN)
def _owned(ask: Ask) -> Observed:
    first, second = (ask.versioned(copy=True) for _ in range(2))
    facts = ask.facts(first)
    if not facts.flags & IS_COPIED:
        raise Unsupported("marks no copy as one")
    tensor, other = ask.tensor(first), ask.tensor(second)
    if tensor.pointer == other.pointer:
        return Observed("wrong", "two copies are the same memory")
    if tensor.device[0] in HOST_READABLE and not facts.flags & READ_ONLY:
        _find_written(ask, facts, read(second))
    return ask.handed(tensor)


def _find_written(ask: Ask, copy: Facts, other: Facts) -> None:
    """Find that a write to a copy is seen elsewhere."""
    assert ask.expected is not None
    assert copy.tensor is not None
    byte = ctypes.c_uint8.from_address(copy.tensor.pointer)
    byte.value ^= 0xFF
    try:
        if ask.adapter.values(ask.array).tobytes() != ask.expected.tobytes():
            raise Finding("unsafe", "a write to the copy is seen in the array")
        ask.same(other)
    finally:
        byte.value ^= 0xFF


@producer_check("producer.flag-subbyte-padded", *variants(dtypes=("float4_e2m1fn", "int4")))
def _padded(ask: Ask) -> Observed:
    assert ask.expected is not None
    facts = ask.facts(ask.versioned())
    tensor = facts.tensor
    assert tensor is not None
    if tensor.dtype[1] >= 8:
        raise Unsupported("goes out in whole bytes, as another dtype")
    ask.check_reach(tensor)
    told = subbyte_difference(facts, ask.expected)
    if told and not facts.flags & SUBBYTE_PADDED:
        return Observed("wrong", told)
    return ask.handed(tensor)


def _handed(ask: Ask, facts: Facts) -> Observed:
    assert facts.tensor is not None
    return ask.handed(facts.tensor)
