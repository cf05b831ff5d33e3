"""A producer's memory: valid until the deleter is called, let go of afterwards, and the array none the worse for it."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import numpy as np

from interop_conformance.adapters._base import Unsupported
from interop_conformance.capsules.capsule import HOST_READABLE, consume, read
from interop_conformance.matrix.sources import snapshot
from interop_conformance.protocol.producers.ask import PLAIN, Ask, producer_check, refused, variants
from interop_conformance.results.outcomes import Observed

if TYPE_CHECKING:
    from typing import Any

_OF_SHAPES = variants(layouts=("compact", "transposed"))


@producer_check("producer.keeps-alive", *_OF_SHAPES)
def _keeps_alive(ask: Ask) -> Observed:
    _need_host(ask)
    raw = ask.newest()
    observed = ask.outcome_of_capsule(raw)
    _end(ask)
    ask.same(read(raw))
    return observed


@producer_check("producer.keeps-alive-consumed", *_OF_SHAPES)
def _keeps_alive_consumed(ask: Ask) -> Observed:
    _need_host(ask)
    raw = ask.newest()
    observed = ask.outcome_of_capsule(raw)
    managed = consume(raw)
    del raw
    _end(ask)
    ask.same(managed.facts())
    managed.delete()
    return observed


def _need_host(ask: Ask) -> None:
    if ask.device()[0] not in HOST_READABLE:
        raise Unsupported("memory that the host cannot read")


def _end(ask: Ask) -> None:
    """Let go of the array, and have its memory taken by others if it was freed."""
    assert ask.expected is not None
    other = np.frombuffer(bytes(byte ^ 0x55 for byte in ask.expected.tobytes()), ask.expected.dtype).reshape(ask.expected.shape)
    del ask.array
    gc.collect()
    ask.others = [ask.adapter.make(other) for _ in range(8)]


@producer_check("producer.deleter-releases", PLAIN)
def _releases(ask: Ask) -> Observed:
    raw = ask.newest()
    observed = ask.outcome_of_capsule(raw)
    managed = consume(raw)
    del raw
    gone = ask.drop()
    if gone():
        raise Unsupported("the memory is held otherwise than by the array, so its end cannot be seen")
    managed.delete()
    return observed if gone() else Observed("wrong", "the array is still held after the deleter was called")


@producer_check("producer.deleter-any-thread", PLAIN)
def _any_thread(ask: Ask) -> Observed:
    for keywords in ask.structures():
        raw = ask.export(**keywords)
        observed = ask.outcome_of_capsule(raw)
        managed = consume(raw)
        del raw
        # If it takes the GIL for granted, this ends the process.
        managed.delete(foreign=True)
    return observed


@producer_check(
    "producer.source-usable",
    *variants(layouts=("compact", "transposed", "reversed", "empty", "0d")),
    *variants(states=("read-only", "big-endian", "subclass", "grad", "dual", "neg", "inference")),
    *variants(dtypes=("complex64",), states=("conj",)),
)
def _usable(ask: Ask) -> Observed:
    before = snapshot(ask.adapter, ask.array)
    observed = _all_the_way(ask)
    after = snapshot(ask.adapter, ask.array)
    changed = sorted(name for name in before if before[name] != after[name])
    return Observed("unsafe", f"the array's {' and '.join(changed)} changed") if changed else observed


def _all_the_way(ask: Ask) -> Observed:
    """Export the array, consume the capsule and call its deleter."""
    try:
        raw: Any = ask.newest()
    except BufferError as error:
        return refused(error)
    observed = ask.outcome_of_capsule(raw)
    managed = consume(raw)
    del raw
    managed.delete()
    return observed
