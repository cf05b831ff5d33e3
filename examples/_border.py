"""Conversions between NumPy and torch, each explained, made, checked and recorded.

A program that only needs its data in the other library calls `interop.to_torch(x)`. This one also shows what every
conversion did, so each goes through a `Border`, which calls `interop.explain` first and checks the plan afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import interop

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Border", "Crossing"]

HEADINGS = ("what", "from -> to", "memory", "bytes", "copied", "why")
NUMERIC = (3, 4)


@dataclass(frozen=True)
class Crossing:
    """One conversion: its plan as a row of the table."""

    what: str
    route: str
    shared: bool
    nbytes: int
    copied: int
    why: str

    @classmethod
    def of(cls, what: str, plan: interop.Plan) -> Crossing:
        """Put a plan into words; the reasons are the plan's own."""
        source = plan.description
        route = f"{source.backend} {source.dtype} {source.device} -> {plan.target} {plan.dtype} {plan.device}"
        # The reason for a copy is that of the steps that copy bytes; where none does, all reasons are why none has to.
        costly = [step.reason for step in plan.steps if step.bytes]
        why = "; ".join(costly or [step.reason for step in plan.steps])
        return cls(what, route, plan.shares_memory, source.nbytes, plan.bytes_copied, why)

    def row(self) -> tuple[str, ...]:
        """Return the cells of its row."""
        return self.what, self.route, "shared" if self.shared else "copied", f"{self.nbytes:,}", f"{self.copied:,}", self.why


@dataclass
class Border:
    """Converts, and records each conversion."""

    crossings: list[Crossing] = field(default_factory=list)

    def to_torch(self, what: str, x: Any, **keywords: Any) -> Any:
        """Return ``interop.to_torch(x, **keywords)``, noted under the name `what`."""
        return self._cross(what, interop.to_torch, "torch", x, keywords)

    def to_numpy(self, what: str, x: Any, **keywords: Any) -> Any:
        """Return ``interop.to_numpy(x, **keywords)``, noted under the name `what`."""
        return self._cross(what, interop.to_numpy, "numpy", x, keywords)

    def _cross(self, what: str, verb: Callable[..., Any], target: str, x: Any, keywords: dict[str, Any]) -> Any:
        plan = interop.explain(x, target, **keywords)
        result = verb(x, **keywords)
        # The plan is a promise about memory; the addresses of the two arrays are the fact.
        if interop.shares_memory(x, result) != plan.shares_memory:
            raise RuntimeError(f"{what}: the plan did not tell the truth about the memory\n{plan}")
        self.crossings.append(Crossing.of(what, plan))
        return result

    def table(self) -> str:
        """Return the book as a table, one row for each crossing, and its sum."""
        rows = [HEADINGS, *(crossing.row() for crossing in self.crossings)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, tuple("-" * min(width, 40) for width in widths))
        return "\n".join([*(_line(row, widths) for row in rows), "", self._sum()])

    def _sum(self) -> str:
        shared = sum(crossing.shared for crossing in self.crossings)
        copied = sum(crossing.copied for crossing in self.crossings)
        total = sum(crossing.nbytes for crossing in self.crossings)
        count = len(self.crossings)
        return f"{count} crossings: {shared} shared, {count - shared} copied; {copied:,} bytes copied for {total:,} bytes of data."


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = zip(row, widths, strict=True)
    return "  ".join(cell.rjust(width) if n in NUMERIC else cell.ljust(width) for n, (cell, width) in enumerate(cells)).rstrip()
