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

from conformance.adapters._base import Idiom, SuiteFault, Unsupported
from conformance.dtypes import DTYPES
from conformance.layouts import LAYOUTS
from conformance.outcomes import Observed
from conformance.records import Case
from conformance.sources import Source, difference, snapshot, source
from conformance.states import STATES
from conformance.texts import first_sentence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from conformance.adapters._base import Adapter

__all__ = ["ROUTES", "cases", "observe"]

ROUTES = ("dlpack", "native", "interop")


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
        # What is loaded and allocated on first use waits for the device, and would hide that nobody else waits.
        _observe(case, producer, consumer, route)
        producer.settle()
    return _observe(case, producer, consumer, route)


def _observe(case: Case, producer: Adapter, consumer: Adapter, route: Idiom) -> Observed:
    with ExitStack() as stack:
        made = source(producer, case.dtype, case.layout, case.state, stack)
        carries = STATES[case.state].carries
        handoff = _Handoff(producer, consumer, made, route, carries, LAYOUTS[case.layout].base)
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
    return Idiom(f"interop.convert(x, {consumer.target!r})", _Convert(consumer.target), refuses=(_interop().InteropError,))


def _interop() -> Any:
    import interop

    return interop


class _Convert:
    """`interop.convert`; a refusal must come with permissions that help, or be final."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __call__(self, x: Any) -> Any:
        interop = _interop()
        try:
            return interop.convert(x, self.target)
        except interop.InteropError as error:
            if error.permissions:
                try:
                    interop.convert(x, self.target, **error.permissions)
                except interop.InteropError as second:
                    raise RuntimeError(f"its own hint {error.permissions} is refused: {type(second).__name__}") from error
            raise


class _Handoff:
    """One handoff, from before to after."""

    def __init__(self, producer: Adapter, consumer: Adapter, made: Source, route: Idiom, carries: str, shape: Sequence[int]) -> None:
        self.producer, self.consumer, self.made, self.route, self.carries = producer, consumer, made, route, carries
        self.shape = shape
        self.data = made.expected is not None

    def observe(self) -> Observed:
        x = self.made.array
        before = snapshot(self.producer, x, data=self.data)
        self._check_source(x)
        try:
            result = self.route.call(x)
        except self.route.refuses as error:
            return self._unless_changed(before, Observed("refused", _said(error)))
        if result is x:
            return self._unless_changed(before, Observed("shared", "the very same object"))
        return self._judge(x, result, before)

    def _check_source(self, x: Any) -> None:
        """Make sure that the suite's own array means what it should: a fault here is not the libraries'."""
        if self.data and self.made.expected is not None:
            fault = difference(self.producer.values(x), self.made.expected)
            if fault:
                raise SuiteFault(f"the adapter {self.producer.name} made a wrong array: {fault}")

    def _judge(self, x: Any, result: Any, before: Mapping[str, Any]) -> Observed:
        if self.made.expected is None:
            if 0 in self.shape:
                return Observed("shared", "no elements, so there was nothing to hand over")
            return Observed("wrong", "there were no data, and an array came")
        if self.made.expected.size and not self.consumer.pointer(result):
            return Observed("wrong", "the result has no memory behind it")
        fault = difference(self.consumer.values(result), self.made.expected)
        if fault:
            return Observed("wrong", fault)
        how = self._aliasing(x, result)
        if how.outcome == "wrong":
            return how
        how = self._unless_changed(before, self._lost(x, result, how) or how)
        return how if how.outcome == "unsafe" else self._outlives(result, how)

    def _outlives(self, result: Any, how: Observed) -> Observed:
        """Let the source go, and see whether the result is still what it was: freed memory is overwritten here."""
        expected = self.made.expected
        assert expected is not None
        self.made = Source(None, None)
        fault = difference(self.consumer.values(result), expected)
        return Observed("wrong", f"the result does not keep its memory: {fault}") if fault else how

    def _aliasing(self, x: Any, result: Any) -> Observed:
        """Write into the source's first element, and see whether the result changes with it; then write it back."""
        expected = self.made.expected
        assert expected is not None
        pointer = self.producer.pointer(x) if expected.size else 0
        if not pointer:
            return (
                Observed("shared", "no elements, so nothing to alias")
                if not expected.size
                else Observed("copied", "the source has no one address")
            )
        self.producer.flip(pointer)
        try:
            now, meant = self.consumer.values(result), self.producer.values(x)
        finally:
            self.producer.flip(pointer)
        if not difference(now, expected):
            return Observed("copied")
        return (
            Observed("shared")
            if not difference(now, meant)
            else Observed("wrong", "a write through the source arrives elsewhere in the result")
        )

    def _lost(self, x: Any, result: Any, how: Observed) -> Observed | None:
        carries = self.carries
        if carries in {"grad", "mask"} and carries not in self.consumer.keeps(result) and carries not in self.route.permits:
            return Observed("unsafe", {"grad": "the gradient is lost", "mask": "the mask is lost"}[carries])
        if how.outcome == "shared" and not how.reason and not self.producer.writeable(x) and self.consumer.writeable(result):
            return Observed("unsafe", "read-only memory became writeable")
        return None

    def _unless_changed(self, before: Mapping[str, Any], observed: Observed) -> Observed:
        after = snapshot(self.producer, self.made.array, data=self.data)
        changed = [name for name in before if after.get(name) != before[name]]
        return Observed("unsafe", f"the source was changed: {', '.join(changed)}") if changed else observed


def _said(error: BaseException) -> str:
    """Return an exception's class and what it is about, in words that do not change from run to run."""
    code = getattr(error, "code", None)
    refusals = getattr(error, "refusals", None)
    about = ", ".join(refusal.code for refusal in refusals) if refusals else code
    return f"{type(error).__name__}: {about or first_sentence(str(error))}"
