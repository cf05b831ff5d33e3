"""Which cases a run is about: all of them, those that fit the filters, or a quick selection that still meets everything once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from interop_conformance.matrix import handoff
from interop_conformance.policy import layer as policy
from interop_conformance.protocol import checks
from interop_conformance.protocol.rules import rules
from interop_conformance.results.records import LAYERS, Case

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from interop_conformance.adapters import Adapter

__all__ = ["LAYERS", "Selection", "all_cases", "quick"]

BASE = ("float32", "compact", "plain")
"""The dtype, layout and state that the quick selection varies one at a time."""


@dataclass(frozen=True)
class Selection:
    """Filters; an empty one lets everything through. `case` are patterns with ``*`` and ``?`` on the whole id."""

    layer: tuple[str, ...] = ()
    route: tuple[str, ...] = ()
    producer: tuple[str, ...] = ()
    consumer: tuple[str, ...] = ()
    case: tuple[str, ...] = ()
    device: tuple[str, ...] = ()
    quick: bool = False

    def header(self) -> dict[str, Any]:
        """Return what stands in the results' header: nothing for a full run."""
        return {name: value for name, value in asdict(self).items() if value}

    def of(self, cases: Sequence[Case], adapters: Mapping[str, Adapter]) -> list[Case]:
        """Return the selected cases, in their order."""
        chosen = [case for case in cases if self._lets(case, adapters)]
        return list(quick(chosen)) if self.quick else chosen

    def _lets(self, case: Case, adapters: Mapping[str, Adapter]) -> bool:
        # The policy layer's arrays are described, and so on the processor, whatever device they are described on.
        described = case.layer == "policy"
        sides = ["cpu"] if described else [adapters[name].device for name in (case.producer, case.consumer) if name in adapters]
        return (
            (not self.layer or case.layer in self.layer)
            and (not self.route or case.route in self.route)
            and (not self.producer or case.producer in self.producer)
            and (not self.consumer or case.consumer in self.consumer)
            and (not self.case or any(case.matches(pattern) for pattern in self.case))
            and (not self.device or bool(set(sides) & set(self.device)))
        )


def all_cases(adapters: Mapping[str, Adapter]) -> Iterator[Case]:
    """Return every case of every layer, in the order of the results; only of libraries that are available."""
    here = {name: adapter for name, adapter in adapters.items() if not adapter.available()}
    yield from _protocol(here)
    yield from handoff.cases(here)
    yield from policy.cases()


def _protocol(adapters: Mapping[str, Adapter]) -> Iterator[Case]:
    for rule in rules().values():
        for adapter in adapters.values():
            if not (adapter.consumes if rule.role == "consumer" else adapter.produces):
                continue
            sides = ("capsule", adapter.name) if rule.role == "consumer" else (adapter.name, "capsule")
            for variant in checks()[rule.id].variants:
                yield Case("protocol", "dlpack", *sides, rule.id, *variant)


def quick(cases: Iterable[Case]) -> Iterator[Case]:
    """Return a selection in which every rule, pair, dtype, layout and state still occurs.

    All of the protocol and policy layers; of the handoffs those that differ from a plain compact float32 in one thing at most.
    """
    for case in cases:
        if case.layer != "handoff" or not case.dtype or sum(a != b for a, b in zip(case[-3:], BASE, strict=True)) <= 1:
            yield case
