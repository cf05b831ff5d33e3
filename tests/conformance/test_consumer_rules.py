"""Every rule for consumers passes an honest miniature, and catches a liar that violates it."""

from __future__ import annotations

import numpy as np
import pytest
from interop_conformance.adapters import Unsupported
from interop_conformance.protocol import Variant, checks
from interop_conformance.protocol.rules import rules
from interop_conformance.results.outcomes import GOOD, Observed

from tests.conformance.alone import alone
from tests.conformance.mini.consumer import Mini

CHECKS = {rule: check for rule, check in checks().items() if rule.startswith("consumer.")}
RULES = [rule for rule in rules() if rule.startswith("consumer.")]
CUDA = {"consumer.stream-passed"}
MORE_LIARS = [
    ("consumer.renames-versioned", "name-goes-away"),
    ("consumer.deleter-not-early", "deleter-view"),
    ("consumer.max-version-passed", "max-version-form"),
    ("consumer.stream-passed", "stream-zero"),
]
LIARS = [*((rule, rule.partition(".")[2]) for rule in RULES), *MORE_LIARS]
# What they come to cannot be caught.
DEADLY = {"deleter-null", "major-untouched", "renames-legacy", "renames-versioned"}


def judge(rule: str, adapter: Mini, variant: Variant) -> Observed:
    """Run one check as the suite does."""
    try:
        return CHECKS[rule].run(adapter, variant)
    except Unsupported as reason:
        return Observed("unsupported", str(reason))
    except Exception as error:
        return Observed("unexplained", f"{type(error).__name__}: {error}")


def device(rule: str) -> str:
    return "cuda" if rule in CUDA else "cpu"


def test_every_rule_has_a_check_and_every_check_a_rule():
    assert sorted(CHECKS) == sorted(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_the_honest_miniature_keeps_every_rule(rule):
    observed = [judge(rule, Mini(device=device(rule)), variant) for variant in CHECKS[rule].variants]
    assert not [each for each in observed if rules()[rule].violated_by(each.outcome)]
    assert [each for each in observed if each.outcome in GOOD], "nothing was judged"


@pytest.mark.parametrize(("rule", "fault"), LIARS, ids=lambda part: part.removeprefix("consumer."))
def test_every_rule_catches_its_liar(rule, fault):
    def worst() -> Observed:
        observed = [judge(rule, Mini(fault, device(rule)), variant) for variant in CHECKS[rule].variants]
        return next((each for each in observed if rules()[rule].violated_by(each.outcome)), observed[0])

    seen = alone(worst) if fault in DEADLY else worst()
    assert rules()[rule].violated_by(seen.outcome), seen
    assert seen.reason or seen.outcome in GOOD


def test_what_is_seen_of_a_read_only_capsule_is_not_by_chance():
    honest, liar = Mini(), Mini("readonly-kept")
    from interop_conformance.capsules.crafted import READ_ONLY, Producer

    for adapter, expected in ((honest, False), (liar, True)):
        assert adapter.writeable(adapter.from_dlpack(Producer.of(np.ones(3, "float32"), flags=READ_ONLY))) is expected
