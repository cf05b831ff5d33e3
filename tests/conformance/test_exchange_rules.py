"""Every rule about the C exchange API passes an honest miniature, and catches a liar that violates it."""

from __future__ import annotations

import pytest
from interop_conformance.adapters import Unsupported
from interop_conformance.protocol import Variant, checks
from interop_conformance.protocol.rules import rules
from interop_conformance.results.outcomes import GOOD, Observed

from tests.conformance.alone import alone
from tests.conformance.mini.consumer import Mini
from tests.conformance.mini.exchange import MiniExchange
from tests.conformance.mini.producer import Streams

CHECKS = {rule: check for rule, check in checks().items() if rule.startswith("exchange.")}
RULES = [rule for rule in rules() if rule.startswith("exchange.")]
CUDA = {"exchange.export-no-sync", "exchange.work-stream-cuda"}
MORE_LIARS = [
    ("exchange.stays-alive", "another-table"),
    ("exchange.export-strides", "strides-in-bytes"),
    ("exchange.export-owning", "export-leak"),
    ("exchange.allocator-prototype", "reads-strides"),
    ("exchange.allocator-error", "sets-error"),
]
LIARS = [*((rule, rule.partition(".")[2]) for rule in RULES), *MORE_LIARS]
DEADLY = {"reads-strides"}


def mini(rule: str, fault: str = "") -> MiniExchange:
    return MiniExchange(fault, "cuda" if rule in CUDA else "cpu", imports=rule != "exchange.import-failure")


def judge(rule: str, adapter: Mini, variant: Variant) -> Observed:
    """Run one check as the suite does."""
    try:
        return CHECKS[rule].run(adapter, variant)
    except Unsupported as reason:
        return Observed("unsupported", str(reason))
    except Exception as error:
        return Observed("unexplained", f"{type(error).__name__}: {error}")


def test_every_rule_has_a_check_and_every_check_a_rule():
    assert sorted(CHECKS) == sorted(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_the_honest_miniature_keeps_every_rule(rule):
    observed = [judge(rule, mini(rule), variant) for variant in CHECKS[rule].variants]
    assert not [each for each in observed if rules()[rule].violated_by(each.outcome)]
    assert [each for each in observed if each.outcome in GOOD], f"nothing was judged: {observed}"


@pytest.mark.parametrize(("rule", "fault"), LIARS, ids=lambda part: part.removeprefix("exchange."))
def test_every_rule_catches_its_liar(rule, fault):
    def worst() -> Observed:
        observed = [judge(rule, mini(rule, fault), variant) for variant in CHECKS[rule].variants]
        return next((each for each in observed if rules()[rule].violated_by(each.outcome)), observed[0])

    seen = alone(worst) if fault in DEADLY else worst()
    assert rules()[rule].violated_by(seen.outcome), seen
    assert seen.reason


class Reads(Streams):
    """A driver that notes whether it was asked; the memory is the host's."""

    asked = 0

    def read(self, pointer: int, nbytes: int, stream: int) -> bytes:
        self.asked += 1
        return super().read(pointer, nbytes, stream)


@pytest.mark.parametrize(("fault", "outcome"), [("", "copied"), ("export-guards-pending", "wrong")])
def test_what_was_pending_in_device_memory_is_read_by_the_driver(fault, outcome):
    """A read by the host would end the process."""
    rule = "exchange.export-guards-pending"
    adapter = MiniExchange(fault, "cuda")
    adapter.driver = Reads()
    variants = CHECKS[rule].variants
    assert {judge(rule, adapter, variant).outcome for variant in variants} == {outcome}
    assert adapter.driver.asked == len(variants)


def test_a_library_without_the_table_is_unsupported():
    for rule, check in CHECKS.items():
        assert {judge(rule, Mini(), variant).outcome for variant in check.variants} == {"unsupported"}
