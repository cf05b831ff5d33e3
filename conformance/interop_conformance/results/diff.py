"""Two runs against each other: which cases came out differently."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from interop_conformance.results.outcomes import GOOD, NEUTRAL

if TYPE_CHECKING:
    from interop_conformance.results.files import Results
    from interop_conformance.results.records import Record

__all__ = ["Difference", "differences"]


class Difference(NamedTuple):
    """A case that has another outcome now; None where a run does not have it."""

    case: str
    old: Record | None
    new: Record | None

    @property
    def kind(self) -> str:
        """Return ``gone``, ``added``, ``better``, ``worse`` or ``other``."""
        if self.old is None or self.new is None:
            return "gone" if self.new is None else "added"
        before, now = (_rank(record.outcome) for record in (self.old, self.new))
        return "better" if now > before else "worse" if now < before else "other"


def _rank(outcome: str) -> int:
    return 2 if outcome in GOOD else 1 if outcome in NEUTRAL else 0


def differences(old: Results, new: Results) -> list[Difference]:
    """Return every case whose outcome differs, in the order of the results.

    A run that was limited to a selection says nothing of the cases that it left out, so they are not differences.
    """
    before, now = ({record.case.id: record for record in results.records} for results in (old, new))
    found = [
        Difference(case, before.get(case), record)
        for case, record in now.items()
        if _differs(before.get(case), record, limited=bool(old.environment["selection"]))
    ]
    if not new.environment["selection"]:
        found += [Difference(case, record, None) for case, record in before.items() if case not in now]
    return found


def _differs(old: Record | None, new: Record, *, limited: bool) -> bool:
    return not limited if old is None else old.outcome != new.outcome
