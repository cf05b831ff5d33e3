"""A producer's capsules: their names, and who calls the deleter when."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

from interop_conformance.adapters._base import Unsupported
from interop_conformance.capsules.capsule import Counted, consume, looks_versioned, name_pointer, read
from interop_conformance.protocol.producers.ask import PLAIN, Ask, Finding, producer_check
from interop_conformance.results.outcomes import Observed

if TYPE_CHECKING:
    from collections.abc import Mapping


@producer_check("producer.capsule-name-legacy", PLAIN)
def _name_legacy(ask: Ask) -> Observed:
    raw = ask.export()
    if read(raw).name == "dltensor_versioned":
        raise Unsupported("hands out a versioned capsule without being asked for one")
    return _named(ask, raw, "dltensor")


@producer_check("producer.capsule-name-versioned", PLAIN)
def _name_versioned(ask: Ask) -> Observed:
    ask.need_known("max_version")
    raw = ask.export(max_version=(1, 0))
    if read(raw).name == "dltensor" and not looks_versioned(raw):
        raise Unsupported("hands out the legacy structure")
    return _named(ask, raw, "dltensor_versioned")


def _named(ask: Ask, raw: Any, name: str) -> Observed:
    found = read(raw).name
    if found != name:
        return Observed("wrong", f"the capsule is named {found}")
    if looks_versioned(raw) is not (name == "dltensor_versioned"):
        return Observed("wrong", f"the structure in the capsule named {found} is the other one")
    return ask.outcome_of_capsule(raw)


@producer_check("producer.capsule-name-static", PLAIN)
def _name_static(ask: Ask) -> Observed:
    for keywords in ask.structures():
        # Alive at the same time, so that a name of each capsule's own has an address of its own.
        alive = [ask.export(**keywords) for _ in range(3)]
        if len({name_pointer(raw) for raw in alive}) > 1:
            return Observed("wrong", "each capsule has a name in memory of its own")
    return ask.outcome_of_capsule(alive[0])


@producer_check("producer.capsule-each-call", PLAIN)
def _each_call(ask: Ask) -> Observed:
    for keywords in ask.structures():
        first, second = ask.export(**keywords), ask.export(**keywords)
        if first is second:
            return Observed("wrong", "the second call hands out the capsule of the first")
        observed = ask.outcome_of_capsule(second)
        name = read(second).name
        managed = consume(first)
        if read(second).name != name:
            return Observed("wrong", "consuming one capsule consumes the next")
        other = consume(second)
        if other.address == managed.address:
            return Observed("wrong", "two capsules hold the same managed tensor")
        managed.delete()
        other.delete()
    return observed


@producer_check("producer.destructor-unconsumed", PLAIN)
def _unconsumed(ask: Ask) -> Observed:
    silent = None
    for keywords in ask.structures():
        raw = ask.export(**keywords)
        observed = ask.outcome_of_capsule(raw)
        counted = Counted(raw)
        del raw
        gc.collect()
        if counted.calls > 1:
            return Observed("wrong", f"the deleter was called {counted.calls} times")
        if counted.has_deleter and not counted.calls:
            silent = keywords
    if silent is not None:
        _find_leak(ask, silent)
    return observed


def _find_leak(ask: Ask, keywords: Mapping[str, Any]) -> None:
    """Find that dropping a capsule leaks; its destructor may well call the deleter by name, past the pointer that is counted."""
    raw = ask.export(**keywords)
    gone = ask.drop()
    if gone():
        raise Unsupported("calls no deleter that can be counted, and holds its memory otherwise than by the array")
    del raw
    if not gone():
        raise Finding("wrong", "the deleter was not called, and the array is held for ever")


@producer_check("producer.destructor-consumed", PLAIN)
def _consumed(ask: Ask) -> Observed:
    for keywords in ask.structures():
        raw = ask.export(**keywords)
        observed = ask.outcome_of_capsule(raw)
        counted = Counted(raw)
        managed = consume(raw)
        del raw
        gc.collect()
        if counted.calls:
            return Observed("wrong", "dropping the renamed capsule called the deleter")
        # If the destructor called it past the pointer that is counted, this is the second time, and ends the process.
        counted.restore()
        managed.delete()
    return observed
