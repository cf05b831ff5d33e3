"""Every producer rule catches its liars, and lets the honest miniature pass: on real capsules, in one process but for those that end it."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import pytest
from interop_conformance.adapters import Unsupported
from interop_conformance.protocol import checks
from interop_conformance.protocol.rules import rules
from interop_conformance.results.outcomes import NEUTRAL, Observed

from tests.conformance.faulty import answers, elements  # noqa: F401 - they register their liars
from tests.conformance.faulty.producers import CRASHES, FAULTS
from tests.conformance.mini.adapters import MiniAdapter, MiniCuda
from tests.conformance.mini.producer import EXPORTS, Mini

if TYPE_CHECKING:
    from collections.abc import Mapping

    from interop_conformance.adapters import Adapter
    from interop_conformance.protocol import Check, Variant

RULES = [rule for rule in rules().values() if rule.role == "producer"]


# The rows of the xp fixture start JAX when the suite is collected, and it warns of every fork; these children never touch it.
FORKS = pytest.mark.filterwarnings("ignore:os.fork\\(\\) was called:RuntimeWarning")


def producer_checks() -> Mapping[str, Check]:
    from interop_conformance import protocol

    found = checks([name for name in protocol._FILES if name.startswith("producer")])
    return {name: check for name, check in found.items() if name.startswith("producer.")}


CHECKS = producer_checks()


def adapters(array: type[Mini]) -> list[Adapter]:
    return [type(base.__name__, (base,), {"array": array})() for base in (MiniAdapter, MiniCuda)]


def observed(rule: str, adapter: Adapter, variant: Variant) -> Observed:
    # As the runner does.
    try:
        return CHECKS[rule].run(adapter, variant)
    except Unsupported as reason:
        return Observed("unsupported", str(reason))
    except Exception as error:
        return Observed("unexplained", f"{type(error).__name__}: {error}")


def all_observed(rule: str, array: type[Mini]) -> list[Observed]:
    return [observed(rule, adapter, variant) for adapter in adapters(array) for variant in CHECKS[rule].variants]


def violated_in_a_child(rule: str, array: type[Mini]) -> bool:
    """Return whether the process ends by a signal."""
    pid = os.fork()
    if pid == 0:
        os.close(2)  # what the interpreter says of its end
        all_observed(rule, array)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_honest_miniature_keeps_the_rule(rule):
    found = all_observed(rule.id, Mini)
    assert [one for one in found if rule.violated_by(one.outcome)] == []
    assert [one for one in found if one.outcome not in NEUTRAL], f"nothing was judged: {found}"


@FORKS
@pytest.mark.parametrize(
    ("rule", "liar"), [pytest.param(rule, liar, id=f"{rule.id}-{liar.__name__}") for rule in RULES for liar in FAULTS.get(rule.id, [])]
)
def test_liar_violates_the_rule(rule, liar):
    if liar.__name__ in CRASHES:
        assert violated_in_a_child(rule.id, liar)
        return
    found = all_observed(rule.id, liar)
    bad = [one for one in found if rule.violated_by(one.outcome)]
    assert bad, f"not caught: {found}"
    assert all(one.reason for one in bad if one.outcome in {"wrong", "unsafe", "unexplained"})


def test_values_in_device_memory_are_judged():
    """They are read by the driver, and strides that lead out of the array are found before anything is read."""

    class Unsigned(Mini):
        """Divides a negative stride by an unsigned size, as cupy#10172 says."""

        def strides(self) -> tuple[int, ...]:
            size = self.values.itemsize
            return tuple(step // size if step >= 0 else (step + 2**64) // size for step in self.values.strides)

    honest, unsigned = (MiniCuda() for _ in range(2))
    unsigned.array = Unsigned
    found = {variant: observed("producer.strides-negative", honest, variant) for variant in CHECKS["producer.strides-negative"].variants}
    assert {one.outcome for one in found.values()} == {"shared"}
    for variant in found:
        seen = observed("producer.strides-negative", unsigned, variant)
        moves = variant.layout != "reversed-length-1"
        assert seen.outcome == ("wrong" if moves else "shared"), seen
        assert ("lead out of the array" in seen.reason) is moves


@FORKS
def test_honest_miniature_survives_in_a_child():
    assert not violated_in_a_child("producer.deleter-any-thread", Mini)


def test_every_rule_has_a_check_and_a_liar():
    ids = {rule.id for rule in RULES}
    assert ids == CHECKS.keys()
    assert ids == FAULTS.keys()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_check_gives_back_what_it_takes(rule):
    gc.collect()
    before = len(EXPORTS)
    all_observed(rule.id, Mini)
    gc.collect()
    assert len(EXPORTS) == before
