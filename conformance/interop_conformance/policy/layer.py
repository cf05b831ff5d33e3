"""The policy layer: interop's whole permission table over described arrays, GPU ones included, without needing the GPU.

One case for each described array, target, and combination of the permissions that matter between the two by the law
(`interop_conformance.policy.law`). Within a case every combination of the other permissions is planned too, and must give the same plan
(the prose of its reasons aside): so every cell of the table is looked at, and a permission has no say where it has no business.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from interop._model.decide import decide
from interop._model.description import Device
from interop._model.plan import Request
from interop_conformance.policy.facts import HOLDS, SOURCES, TARGETS
from interop_conformance.policy.law import TABLE, matters, policies, verdict
from interop_conformance.policy.situation import situation
from interop_conformance.results.outcomes import Observed
from interop_conformance.results.records import Case

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from interop import Description, Plan, Policy
    from interop_conformance.policy.facts import Target
    from interop_conformance.policy.law import Verdict

__all__ = ["cases", "observe", "planned", "policies_of"]

NOTHING_MATTERS = "default"
HOMES = {name: Device(holds.default_device) for name, holds in HOLDS.items()}
_VALUES = {name: {str(value): value for value in values} for name, values in TABLE.items()}


def cases() -> Iterator[Case]:
    """Return every case of the layer."""
    for producer, source in SOURCES.items():
        for consumer, target in TARGETS.items():
            names = matters(situation(source.description, target))
            for values in product(*(TABLE[name] for name in names)):
                words = ",".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
                yield Case("policy", "interop", producer, consumer, words or NOTHING_MATTERS, source.dtype, source.layout, source.state)


def observe(case: Case) -> Observed:
    """Plan the case and hold it to the law; an exception is the runner's to explain."""
    x, target = SOURCES[case.producer].description, TARGETS[case.consumer]
    first, *others = policies_of(case.case)
    plan = planned(x, target, first)
    wrong = _against(plan, verdict(situation(x, target), first)) or _recipe(plan, x, target, first) or _unmoved(plan, x, target, others)
    return Observed("wrong", wrong) if wrong else _outcome(plan)


def planned(x: Description, target: Target, policy: Policy) -> Plan:
    """Return interop's plan. The planner is asked itself: `interop.explain` would load the libraries that it plans for."""
    named = target.device is not None and not target.like
    return decide(x, Request(HOLDS[x.backend], target.holds, policy, HOMES[target.library], target.device, named, target.dtype))


def policies_of(words: str) -> list[Policy]:
    """Return the policies of a case: those that it names, with every value of the others; the defaults come first.

    >>> len(policies_of("grad=detach,copy=None"))
    288
    """
    given = {} if words == NOTHING_MATTERS else dict(word.split("=") for word in words.split(","))
    fixed = {name: (_VALUES[name][value],) for name, value in given.items()}
    return [policies()[values] for values in product(*(fixed.get(name, TABLE[name]) for name in TABLE))]


def _against(plan: Plan, law: Verdict) -> str:
    """Return in words how a plan breaks the law; empty if it does not."""
    codes = frozenset(refusal.code for refusal in plan.refusals)
    if codes != law.codes:
        return f"{_listed(codes)}; the law: {_listed(law.codes)}"
    if plan.refusals:
        offered = dict(plan.permissions)
        return "" if offered == dict(law.permissions) else f"the refusal offers {_words(offered)}; the law: {_words(dict(law.permissions))}"
    sealed = any(step.kind == "protect" for step in plan.steps)
    found: dict[str, tuple[Any, Any]] = {
        "shares": (plan.shares_memory, law.shared),
        "read-only": (sealed, law.sealed),
        "where and as what": ((plan.device, plan.dtype), law.place),
    }
    wrong = [f"{what}: {answer}; the law: {right}" for what, (answer, right) in found.items() if answer != right]
    if plan.bytes_copied not in law.costs:
        wrong.append(f"{plan.bytes_copied} bytes copied; the law: {' or '.join(map(str, sorted(law.costs)))}")
    return ". ".join(wrong)


def _recipe(plan: Plan, x: Description, target: Target, policy: Policy) -> str:
    """Return in words what is wrong with a refusal's recipe: passed back it must get through; a final one has none, and says so."""
    if plan.ok:
        return ""
    if plan.final != (not plan.permissions):
        return f"final is {plan.final}, and the refusal offers {_words(plan.permissions)}"
    if plan.final:
        return ""
    again = planned(x, target, policy.replace(**plan.permissions))
    return (
        ""
        if again.ok
        else f"{_words(plan.permissions)} passed back is refused: {_listed(frozenset(refusal.code for refusal in again.refusals))}"
    )


def _unmoved(plan: Plan, x: Description, target: Target, others: list[Policy]) -> str:
    """Return in words which permissions change the plan although they have no say here."""
    for policy in others:
        other = planned(x, target, policy)
        if other != plan and _bare(other) != _bare(plan):
            changed = {name: value for name, value in policy.as_dict().items() if value != TABLE[name][0]}
            return f"another plan with {_words(changed)}, of which something has no say here"
    return ""


def _bare(plan: Plan) -> tuple[Any, ...]:
    """Return all of a plan but its prose."""
    steps = tuple(step._replace(reason="") for step in plan.steps)
    dtype = plan.dtype if plan.ok else ""  # a refused plan makes nothing of any dtype
    return plan.device, dtype, steps, [refusal._replace(reason="", hint="") for refusal in plan.refusals]


def _outcome(plan: Plan) -> Observed:
    if plan.refusals:
        codes = _listed(frozenset(refusal.code for refusal in plan.refusals)).removeprefix("refused: ")
        return Observed("refused", f"{codes}, final" if plan.final else codes)
    if not plan.shares_memory:
        return Observed("copied", f"{plan.bytes_copied} bytes")
    return Observed("shared", "read-only" if any(step.kind == "protect" for step in plan.steps) else "")


def _listed(codes: frozenset[str]) -> str:
    return f"refused: {', '.join(sorted(codes))}" if codes else "not refused"


def _words(permissions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(permissions.items())) or "nothing"
