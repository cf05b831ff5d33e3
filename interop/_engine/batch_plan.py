"""What a tree's conversion will do with each of its arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from interop._model.plan import Refusable, grouped, listed

if TYPE_CHECKING:
    from interop._model.plan import Plan
    from interop.errors import Refusal


@dataclass(frozen=True, slots=True)
class TreePlan(Refusable):
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
        Everything that blocks it, each with its ``path``.
    """

    target: str
    plans: dict[str, Plan]
    aliases: dict[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    @property
    def shares_memory(self) -> bool:
        """Whether every result will be on its source's own bytes."""
        return self.ok and all(plan.shares_memory for plan in self.plans.values())

    @property
    def bytes_copied(self) -> int:
        """Bytes written for all leaves together."""
        return sum(plan.bytes_copied for plan in self.plans.values())

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
            return "\n".join([head, *grouped(self.refusals), self._advice()])
        kept = [f"  kept as they are: {listed(list(self.kept))}"] if self.kept else []
        return "\n".join([head, *(f"  {path}: {_how(plan)}" for path, plan in self.plans.items()), *kept])


def _how(plan: Plan) -> str:
    if not plan.steps:
        return "returned as it is"
    if plan.shares_memory:
        return "shared"
    return f"{plan.bytes_copied:,} bytes copied: {'; '.join(step.reason for step in plan.copies)}"
