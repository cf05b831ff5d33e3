"""What a tree's conversion will do, and the one error for everything that stands in its way.

The refusals of many leaves are told together: each reason once, with the paths of all leaves that it holds for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from interop._model.policy import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from interop._engine.call import Call
    from interop._model.plan import Plan, Refusal
    from interop.errors import InteropError

__all__ = ["TreePlan", "merged_permissions", "refusal_of"]

SHOWN = 100
"""So many paths of one reason are printed; ``refusals`` has them all."""


def merged_permissions(refusals: Iterable[Refusal]) -> dict[str, Any]:
    """Return what permits all of them: of two values of one permission the later in its list, which permits more.

    Empty if one of them is final.
    """
    merged: dict[str, Any] = {}
    for refusal in refusals:
        if refusal.final:
            return {}
        for name, value in refusal.permissions.items():
            merged[name] = _laxer(name, merged[name], value) if name in merged else value
    return merged


def _laxer(name: str, one: Any, other: Any) -> Any:
    values = FIELDS[name].values if name in FIELDS else (one, other)
    return max(one, other, key=values.index)


def _told_together(refusals: Iterable[Refusal]) -> list[str]:
    """Return the lines for refusals with paths: each reason once, and where."""
    places: dict[tuple[str, str], list[str]] = {}
    for refusal in refusals:
        places.setdefault((refusal.code, refusal.reason), []).append(refusal.path)
    return [f"  - [{code}] {reason}\n      at {_listed(paths)}" for (code, reason), paths in places.items()]


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - SHOWN:,} more (.refusals has them all)" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more


def refusal_of(call: Call, refusals: tuple[Refusal, ...], plans: Iterable[Plan]) -> InteropError:
    """Return the error for a tree: the class of the first refusal, the text of all, the call to write."""
    permissions = merged_permissions(refusals)
    head = f"{call.text()} cannot convert everything; this stands in the way:"
    final = dict.fromkeys(refusal.hint for refusal in refusals if refusal.final and refusal.hint)
    hint = f"write {call.text(permissions)}" if permissions else " ".join(final)
    seen = next((plan.description for plan in plans if plan.refusals), None)
    text = "\n".join([head, *_told_together(refusals)])
    return refusals[0].error(text, hint=hint, permissions=permissions, description=seen, refusals=refusals)


@dataclass(frozen=True, slots=True)
class TreePlan:
    """What `interop.tree.convert` will do with each leaf; prints as a short list.

    Attributes
    ----------
    target : str
        Name of the target backend.
    plans : dict of str to Plan
        The plan of each array by its path, once for an array that occurs more than once.
    aliases : dict of str to str
        The other paths of such arrays, and the one under which the plan is.
    kept : tuple of str
        Paths of the leaves that are not arrays, and stay as they are.
    refusals : tuple of Refusal
        Everything that stands in the way, each with its ``path``.
    """

    target: str
    plans: dict[str, Plan]
    aliases: dict[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing stands in the way."""
        return not self.refusals

    @property
    def shares_memory(self) -> bool:
        """Whether every result will be on its source's own bytes."""
        return self.ok and all(plan.shares_memory for plan in self.plans.values())

    @property
    def bytes_copied(self) -> int:
        """Bytes written for all leaves together."""
        return sum(plan.bytes_copied for plan in self.plans.values())

    @property
    def permissions(self) -> dict[str, Any]:
        """The keyword arguments that make the call succeed; empty if it does, or if a refusal is final."""
        return merged_permissions(self.refusals)

    @property
    def final(self) -> bool:
        """Whether it is refused for good."""
        return any(refusal.final for refusal in self.refusals)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain data for JSON."""
        return {
            "target": self.target,
            "shares_memory": self.shares_memory,
            "bytes_copied": self.bytes_copied,
            "plans": {path: plan.as_dict() for path, plan in self.plans.items()},
            "aliases": self.aliases,
            "kept": list(self.kept),
            "refusals": [{"path": r.path, "code": r.code, "reason": r.reason, "permissions": r.permissions} for r in self.refusals],
            "permissions": self.permissions,
            "final": self.final,
        }

    def __str__(self) -> str:
        ending = "shares memory" if self.shares_memory else f"{self.bytes_copied:,} bytes copied"
        head = f"{len(self.plans):,} arrays -> {self.target}: {ending if self.ok else 'refused'}"
        if self.refusals:
            words = ", ".join(f"{name}={value!r}" for name, value in self.permissions.items())
            final = " ".join(dict.fromkeys(refusal.hint for refusal in self.refusals if refusal.final and refusal.hint))
            return "\n".join([head, *_told_together(self.refusals), f"  Hint: {f'pass {words}.' if words else final or 'final.'}"])
        kept = [f"  kept as they are: {_listed(list(self.kept))}"] if self.kept else []
        return "\n".join([head, *(f"  {path}: {_how(plan)}" for path, plan in self.plans.items()), *kept])


def _how(plan: Plan) -> str:
    if not plan.steps:
        return "returned as it is"
    if plan.shares_memory:
        return "shared"
    return f"{plan.bytes_copied:,} bytes copied: {'; '.join(step.reason for step in plan.copies)}"
