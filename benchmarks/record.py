"""The results of a run as they come: each case is written down at once, so that a stop at any moment leaves all that was measured.

Beside the results lies a journal of events, from which a run can go on in another process:

================  =======================================================================================================
``opened``        whoever started the process opened the journal, and removes it; written from outside
``environment``   ``facts``: what the numbers belong to, as the first process found it
``started``       ``item``: the case that is being measured
``rows``          ``item``, ``rows``: the case is done
``poisoned``      ``item``, ``because``: the case left a CUDA context in which nothing works any more
``died``          ``item``, ``because``: the case took its process down; written from outside
``stopped``       ``because``: a signal, or the time was over
``finished``      every case has rows
================  =======================================================================================================

A case that was started, without more, was stopped from outside, and is measured again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from interop_conformance.running.journal import Journal

from benchmarks.report import document, write
from benchmarks.runner import unmeasured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.case import Case

    Rows = list[dict[str, Any]]

__all__ = ["NOT_REACHED", "Record"]

NOT_REACHED = "not reached"
"""The reason of a case that was not measured, while the run goes on."""


class Record:
    """Rows by case, in memory and, where there is a file for them, in that file and its journal.

    Parameters
    ----------
    cases : sequence of Case
        All the cases of the run, in the order of the results.
    output : str, optional
        The file of the results; the journal lies beside it, with the suffix ``.jsonl``.
    resume : bool
        Whether to go on where the journal ends. Otherwise the journal is removed first.

    Attributes
    ----------
    facts : dict
        What the numbers belong to; from the journal, or empty until they are set.
    """

    def __init__(self, cases: Sequence[Case], output: str | None, *, resume: bool = False) -> None:
        self.cases = {case.id: case for case in cases}
        self.path = Path(output) if output else None
        self.journal = Journal(self.path.with_suffix(".jsonl")) if self.path else None
        self.facts: dict[str, Any] = {}
        self._rows: dict[str, Rows] = {}
        self._is_ours = True
        if self.path and self.journal:
            if not resume:
                self.journal.path.unlink(missing_ok=True)
            self._load(self.journal.events())
            if not self.facts:  # nothing was begun, so a file that is there is of another run
                self.path.unlink(missing_ok=True)

    def _load(self, events: list[dict[str, Any]]) -> None:
        self._is_ours = all(event.get("event") != "opened" for event in events)
        for event in events:
            kind, case = event.get("event"), self.cases.get(event.get("item", ""))
            if kind == "environment":
                self.facts = event["facts"]
            elif case and kind == "rows":
                self._rows[case.id] = event["rows"]
            elif case and kind in {"died", "poisoned"}:
                self._rows.setdefault(case.id, unmeasured(case, event["because"], "failed"))

    def begin(self) -> None:
        """Write what the numbers belong to, and a file with what is known so far: for a new run, that nothing is reached."""
        self._note(event="environment", facts=self.facts)
        self.write()

    @property
    def missing(self) -> list[Case]:
        """The cases without rows, in order."""
        return [case for case in self.cases.values() if case.id not in self._rows]

    def start(self, case: Case) -> None:
        """Say which case is being measured, for the case that it takes the process down."""
        self._note(event="started", item=case.id)

    def poison(self, case: Case, because: str) -> None:
        """Keep a case as failed because of the context that it leaves behind."""
        self._note(event="poisoned", item=case.id, because=because)
        self.keep(case, unmeasured(case, because, "failed"))

    def keep(self, case: Case, rows: Rows) -> None:
        """Keep the rows of a case, and rewrite the file."""
        self._rows[case.id] = rows
        self._note(event="rows", item=case.id, rows=rows)
        self.write()

    def stop(self, because: str) -> dict[str, Any]:
        """Write the file of a run that was stopped, and return the report."""
        self._note(event="stopped", because=because)
        self.write(because)
        return self.report(because)

    def finish(self) -> dict[str, Any]:
        """Write the file of a run that has rows for every case, and return the report; its journal is not resumed from."""
        self._note(event="finished")
        self.write()
        if self.journal and self._is_ours:
            self.journal.path.unlink()
        return self.report()

    def report(self, reason: str = NOT_REACHED) -> dict[str, Any]:
        """Return the results as they stand; `reason` says why the others were not measured."""
        rows = [row for case in self.cases.values() for row in self._rows.get(case.id) or unmeasured(case, reason)]
        return document(rows, self.facts)

    def write(self, reason: str = NOT_REACHED) -> None:
        """Write the results as they stand."""
        if self.path:
            write(self.report(reason), self.path)

    def _note(self, **event: Any) -> None:
        if self.journal:
            self.journal.write(**event)
