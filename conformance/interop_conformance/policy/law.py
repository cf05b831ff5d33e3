"""The law of the permission table: what must come of a conversion, from what the array is and what the policy permits.

Written from the promises and the permission table of the design, not from interop's planner: first what is the case, whatever is
permitted (`interop_conformance.policy.situation`), then what each permission makes of it (`verdict`). Where the design leaves room, the law does too.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from interop import Policy
from interop._model.description import CPU, Device

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from interop_conformance.policy.situation import Situation

__all__ = ["TABLE", "Verdict", "matters", "policies", "verdict"]

TABLE: dict[str, tuple[Any, ...]] = {
    "copy": (None, False, True),
    "grad": ("error", "detach"),
    "transfer": ("error", "allow"),
    "readonly": ("copy", "error", "share"),
    "casting": ("no", "safe", "same_kind"),
    "mask": ("error", "drop"),
    "units": ("error", "drop"),
    "extension": ("keep", "widen"),
    "layout": ("error", "dense"),
}
"""The permissions and their values, the default first, as the design has them."""


class Verdict(NamedTuple):
    """What must come of it: refusals with the permissions that lift them (none if one is final), or a result."""

    codes: frozenset[str]
    permissions: tuple[tuple[str, Any], ...] = ()
    shared: bool = False
    costs: frozenset[int] = frozenset({0})
    sealed: bool = False
    place: tuple[Device, str] | None = None


def verdict(case: Situation, policy: Policy) -> Verdict:
    """Return what must come of it under a policy. Every obstacle is named, also beside another and beside a final one."""
    if policy.extension == "widen" and case.widened is not None:
        case = case.widened
    lifted: dict[str, Mapping[str, Any]] = dict(_obstacles(case, policy))
    passes = _passes_under(case, policy)
    dead = {"no-data"} if case.inert and (passes or case.moves or policy.copy is True) else set()
    codes = case.hopeless | dead | lifted.keys()
    if codes:
        permissions = {} if case.hopeless or dead else {name: value for words in lifted.values() for name, value in words.items()}
        return Verdict(codes, tuple(sorted(permissions.items())))
    if passes or case.moves:
        return Verdict(frozenset(), costs=case.costs, place=(case.device, case.dtype))
    if policy.copy is True or (case.held in ("source", "target") and policy.readonly == "copy"):
        return Verdict(frozenset(), costs=frozenset({case.size}), place=(case.device, case.dtype))
    return Verdict(frozenset(), shared=True, sealed=case.sealable and policy.readonly != "share", place=(case.device, case.dtype))


def _passes_under(case: Situation, policy: Policy) -> bool:
    """Whether new memory is needed. Where memory starts decides nothing as long as the target would not share it wherever it started."""
    return case.passes or (case.starts_off and not (case.held == "target" and policy.readonly != "share"))


def _obstacles(case: Situation, policy: Policy) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Return the code of each thing that blocks the conversion, with what lifts it."""
    lost = (("mask", case.masked, "drop"), ("units", case.unit, "drop"), ("layout", case.dense, "dense"), ("grad", case.tracked, "detach"))
    for name, there, permitted in lost:
        if there and getattr(policy, name) == "error":
            yield name, {name: permitted}
    if case.casting and TABLE["casting"].index(policy.casting) < TABLE["casting"].index(case.casting):
        yield "dtype", {"casting": case.casting}
    if case.crosses and policy.transfer == "error":
        yield "transfer", {"transfer": "allow"}
    passes = _passes_under(case, policy)
    if (passes or case.moves) and policy.copy is False:
        yield "copy", {"copy": True}
    if case.held and not passes and not case.moves and policy.copy is not True:
        if policy.readonly == "error":
            yield "readonly", {"readonly": "share"} if case.held == "unsaid" else {"copy": True}
        elif policy.readonly == "copy" and policy.copy is False and case.held != "unsaid":
            yield "readonly", {"copy": True}


@functools.cache
def policies() -> Mapping[tuple[Any, ...], Policy]:
    """Return every policy that the table has, by its values."""
    return {values: Policy(**dict(zip(TABLE, values, strict=True))) for values in product(*TABLE.values())}


def matters(case: Situation) -> tuple[str, ...]:
    """Return the permissions that change the verdict anywhere in the table, in its order."""

    # How many bytes, where and as what is no permission's business: without them few situations are left.
    def bare(one: Situation) -> Situation:
        return replace(one, costs=frozenset(), size=0, device=CPU, dtype="", widened=None)

    return _matters(replace(bare(case), widened=case.widened and replace(bare(case.widened), dtype="widened")))


@functools.cache
def _matters(case: Situation) -> tuple[str, ...]:
    table = {values: verdict(case, policy) for values, policy in policies().items()}
    return tuple(name for place, name in enumerate(TABLE) if _varies(table, place))


def _varies(table: Mapping[tuple[Any, ...], Verdict], place: int) -> bool:
    default = list(TABLE.values())[place][0]
    return any(answer != table[*values[:place], default, *values[place + 1 :]] for values, answer in table.items())
