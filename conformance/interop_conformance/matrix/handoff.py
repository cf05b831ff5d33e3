"""The handoff layer: every ordered pair of libraries x dtype x layout x state, by three routes.

- ``dlpack``: the consumer's own ``from_dlpack``, without keywords;
- ``native``: the line that people write;
- ``interop``: `interop.convert` under the default policy, which permits nothing.

The expected values come from literals, aliasing is proven by writing, and the source is looked at before and after.
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from interop_conformance.adapters._base import Idiom, SuiteFault, Unsupported
from interop_conformance.matrix.dtypes import DTYPES
from interop_conformance.matrix.layouts import LAYOUTS
from interop_conformance.matrix.memory import poison
from interop_conformance.matrix.sources import Source, difference, snapshot, source
from interop_conformance.matrix.states import STATES
from interop_conformance.results.outcomes import Observed
from interop_conformance.results.records import ROUTES, Case
from interop_conformance.results.texts import first_sentence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from interop_conformance.adapters._base import Adapter

__all__ = ["ROUTES", "cases", "observe"]


def cases(adapters: Mapping[str, Adapter]) -> Iterator[Case]:
    """Return every case, in the order of the results."""
    for route, producer, consumer in itertools.product(ROUTES, adapters.values(), adapters.values()):
        if not (producer.produces and consumer.consumes):
            continue
        if not _has(route, consumer, producer):
            yield Case("handoff", route, producer.name, consumer.name)
            continue
        for dtype, layout, state in itertools.product(DTYPES, LAYOUTS, producer.states):
            yield Case("handoff", route, producer.name, consumer.name, "", dtype, layout, state)


def _has(route: str, consumer: Adapter, producer: Adapter) -> bool:
    try:
        _route(route, consumer, producer)
    except Unsupported:
        return False
    return True


def observe(case: Case, producer: Adapter, consumer: Adapter) -> Observed:
    """Make one handoff and return what came of it; raises `Unsupported` if there is no such array or route."""
    route = _route(case.route, consumer, producer)
    if producer.pending(case.state):
        if consumer is producer and case.state != "stream-same":
            raise Unsupported("a library has one current stream, so here is no other to hand over to")
        # What is loaded and allocated on first use waits for the device, and would hide that nothing else waits.
        _observe(case, producer, consumer, route)
        producer.synchronize()
    return _observe(case, producer, consumer, route)


def _observe(case: Case, producer: Adapter, consumer: Adapter, route: Idiom) -> Observed:
    with ExitStack() as stack:
        # Nothing here keeps the array: its end is part of the case.
        handoff = _Handoff(producer, consumer, source(producer, case.dtype, case.layout, case.state, stack), route, case)
        handoff.data = handoff.data and not producer.pending(case.state)
        return handoff.observe()


def _route(name: str, consumer: Adapter, producer: Adapter) -> Idiom:
    if consumer.twin and consumer.device != producer.device:
        if producer.name == consumer.twin:
            raise Unsupported("within one library an array is moved, and not handed over")
        if name != "native":
            raise Unsupported(f"the array stays on its device, where the library is {consumer.twin}")
    if name == "native":
        return consumer.idiom(producer.name)
    if name == "dlpack":
        return Idiom("from_dlpack(x)", consumer.from_dlpack, refuses=(BufferError, *consumer.refuses, *producer.refuses))
    if consumer.target is None:
        raise Unsupported(f"interop converts to no {consumer.name} arrays")
    convert = _Convert(consumer.target)
    return Idiom(f"interop.convert(x, {consumer.target!r})", convert, refuses=(_interop().InteropError,), again=convert.again)


def _interop() -> Any:
    import interop

    return interop


class _Convert:
    """`interop.convert`; a refusal must come with permissions that help, or be final."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __call__(self, x: Any) -> Any:
        return _interop().convert(x, self.target)

    def again(self, x: Any, error: Any) -> Any:
        """Pass a refusal's permissions back; returns None for one that is final."""
        interop = _interop()
        if not error.permissions:
            return None
        try:
            return interop.convert(x, self.target, **error.permissions)
        except interop.InteropError as second:
            raise RuntimeError(f"its own hint {error.permissions} is refused: {type(second).__name__}") from error


_LOST = {"grad": "the gradient is lost", "mask": "the mask is lost", "layout": "the storage was made dense"}
"""What a state may carry besides read-only protection, which is asked of the arrays themselves."""


class _Handoff:
    """One handoff, from before to after. The source is in `made` and nowhere else, so that it can be let go."""

    def __init__(self, producer: Adapter, consumer: Adapter, made: Source, route: Idiom, case: Case) -> None:
        self.producer, self.consumer, self.made, self.route = producer, consumer, made, route
        self.carries, self.layout = STATES[case.state].carries, LAYOUTS[case.layout]
        if self.carries == "mask" and case.route == "interop" and 0 in self.layout.base:
            self.carries = ""  # of no elements none is masked, and interop looks
        self.data = STATES[case.state].data

    def observe(self) -> Observed:
        before = self._snapshot()
        self._check_source()
        self._poison()
        try:
            result = self.route.call(self.made.array)
        except Unsupported:  # also where an adapter's `refuses` is wide
            raise
        except self.route.refuses as error:
            return self._unless_changed(before, self._again(error) or Observed("refused", _reason_of(error)))
        if result is self.made.array:
            return self._unless_changed(before, Observed("shared", "the very same object"))
        return self._judge(result, before)

    def _poison(self) -> None:
        if self.made.expected is not None:
            poison(self.made.expected.nbytes)

    def _again(self, error: BaseException) -> Observed | None:
        """Do what a refusal says would help; it must help, and give what the source means."""
        if self.route.again is None or self.made.expected is None:
            return None
        self._poison()
        result = self.route.again(self.made.array, error)
        if result is None:
            return None
        found, expected = self.consumer.values(result), self.made.expected
        casting = getattr(error, "permissions", {}).get("casting")
        if found.dtype != expected.dtype and casting is not None:
            fault = "" if _is_cast(found, expected, lossy=casting == "same_kind") else "other values after the cast"
        else:
            fault = difference(found, expected)
        return Observed("wrong", f"with its own permissions: {fault}") if fault else None

    def _snapshot(self) -> Mapping[str, Any]:
        return snapshot(self.producer, self.made.array, data=self.data)

    def _check_source(self) -> None:
        """Make sure that the suite's own array means what it should: a fault here is not the libraries'."""
        if self.data and self.made.expected is not None:
            fault = difference(self.producer.values(self.made.array), self.made.expected)
            if fault:
                raise SuiteFault(f"the adapter {self.producer.name} made a wrong array: {fault}")

    def _judge(self, result: Any, before: Mapping[str, Any]) -> Observed:
        if self.made.expected is None:
            return Observed("wrong", "there were no data, and an array came")
        if self.made.expected.size and not self.consumer.pointer(result):
            return Observed("wrong", "the result has no memory behind it")
        fault = difference(self.consumer.values(result), self.made.expected)
        if fault:
            return Observed("wrong", fault)
        how = self._aliasing(result, self.made.expected)
        if how.outcome == "wrong":
            return how
        how = self._unless_changed(before, self._lost(result, how) or how)
        return how if how.outcome == "unsafe" else self._outlives(result, how, self.made.expected)

    def _aliasing(self, result: Any, expected: np.ndarray) -> Observed:
        """Write into the source's first element, and see whether the result changes with it; then write it back."""
        if not expected.size:
            return Observed("shared", "no elements, so nothing to alias")
        pointer = self.producer.pointer(self.made.array)
        if not pointer:
            return Observed("copied", "the source has no one address")
        self.producer.flip(pointer)
        try:
            now, meant = self.consumer.values(result), self.producer.values(self.made.array)
        finally:
            self.producer.flip(pointer)
        if not difference(now, expected):
            return Observed("copied")
        arrived = not difference(now, meant)
        return Observed("shared") if arrived else Observed("wrong", "a write through the source arrives elsewhere in the result")

    def _lost(self, result: Any, how: Observed) -> Observed | None:
        carries = self.carries
        if carries in _LOST and carries not in self.consumer.keeps(result) and carries not in self.route.permits:
            return Observed("unsafe", _LOST[carries])
        sealed = not self.producer.writeable(self.made.array)
        if how.outcome == "shared" and not how.reason and sealed and self.consumer.writeable(result):
            return Observed("unsafe", "read-only memory became writeable")
        return None

    def _outlives(self, result: Any, how: Observed, expected: np.ndarray) -> Observed:
        """Let the source go, have its library use the memory again, and see whether the result is still what it was."""
        zeros = np.zeros(self.layout.base, expected.dtype)
        self.made = Source(None, None)
        # What is freed is overwritten (MALLOC_PERTURB_), but for the blocks that a library keeps for its next array of that size.
        fillers = [self.producer.lay(self.producer.make(zeros), self.layout) for _ in range(2)]
        fault = difference(self.consumer.values(result), expected)
        del fillers
        return Observed("wrong", f"the result does not keep its memory: {fault}") if fault else how

    def _unless_changed(self, before: Mapping[str, Any], observed: Observed) -> Observed:
        after = self._snapshot()
        changed = [name for name in before if after.get(name) != before[name]]
        return Observed("unsafe", f"the source was changed: {', '.join(changed)}") if changed else observed


def _is_cast(found: np.ndarray, expected: np.ndarray, *, lossy: bool) -> bool:
    """Return whether the values are those of a cast: one that keeps them all or, if it may, one that loses what NumPy's own loses."""
    with np.errstate(all="ignore"):
        exact = np.array_equal(found.astype(expected.dtype), expected)
        return exact or (lossy and np.array_equal(found, expected.astype(found.dtype)))


def _reason_of(error: BaseException) -> str:
    """Return an exception's class and what it is about, in words that do not change from run to run."""
    code = getattr(error, "code", None)
    refusals = getattr(error, "refusals", None)
    about = ", ".join(refusal.code for refusal in refusals) if refusals else code
    return f"{type(error).__name__}: {about or first_sentence(str(error))}"
