"""The cases with a library on a GPU, in the time that ``make gpu`` has for them: ``python -m interop_conformance.gpu [--output DIR]``.

The quick selection, since a stream's cases take a tenth of a second each, and what is met once is met. It needs neither click nor rich,
which a borrowed machine may lack; ``interop conformance run --device cuda`` runs all of them, and prints them better.

The results are written as the answers come: a file that is whole, in which the cases without an answer are ``not-run``, and beside
it a journal of the answers. So a run that was stopped at any moment has results, and ``--resume`` goes on where it was.

Status 0 if nothing was found, 3 if no library finds a GPU, 4 if some cases were not reached, 5 with findings; 1 is Python's own, for an error.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from interop_conformance.adapters import load_adapters
from interop_conformance.results.deviations import findings
from interop_conformance.results.files import IncompleteError, read, write
from interop_conformance.results.outcomes import Observed
from interop_conformance.running.environment import environment_of, name_of
from interop_conformance.running.journal import Journal
from interop_conformance.running.run import Stop, results_of, run
from interop_conformance.selection import Selection, all_cases

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from interop_conformance.adapters import Adapter
    from interop_conformance.results.deviations import Finding
    from interop_conformance.results.files import Results
    from interop_conformance.results.records import Case

__all__ = ["FINDINGS", "JOBS", "NOT_ALL", "NO_DEVICE", "SECONDS", "SELECTION", "main", "summary_of"]

JOBS = 4
"""Each process has a context of its own on the device, and the device has one clock: more of them would wait for each other."""

NO_DEVICE, NOT_ALL, FINDINGS = 3, 4, 5
SECONDS = 170
SELECTION = Selection(layer=("protocol", "handoff"), device=("cuda",), quick=True)
"""The policy layer is about described arrays, and the same everywhere."""

SHOWN = 60
"""Findings that are printed; the rest is counted."""

EVERY = 2.0
"""Seconds between two writings of the file while answers come."""

NOT_REACHED = "not reached"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases, write the results and print what was found; returns the exit status."""
    given = _arguments(argv)
    _stop_at(given.seconds)
    try:
        adapters = load_adapters()
        reasons = [adapter.available() for adapter in adapters.values() if adapter.device == "cuda"]
        if all(reasons):
            print(*reasons, sep="\n", file=sys.stderr)
            return NO_DEVICE
        cases = SELECTION.of(list(all_cases(adapters)), adapters)
        written = _Written(given.output, cases, adapters, resume=given.resume)
    except Stop as stop:
        print(f"{stop}, before the first case: nothing is written", file=sys.stderr)
        return NOT_ALL
    results = run(cases, adapters, selection=SELECTION.header(), jobs=given.jobs, on_result=written.on_result, known=written.known)
    _stop_no_more()
    left = written.finish(results)
    found = findings(results)
    print(summary_of(results, found, left))
    return NOT_ALL if left else FINDINGS if found else 0


_SIGNALS = (signal.SIGALRM, signal.SIGTERM, signal.SIGINT)


def _stop_at(seconds: int) -> None:
    def over(number: int, _: object) -> None:
        _stop_no_more()
        why = f"stopped after {seconds} seconds" if number == signal.SIGALRM else f"stopped by {signal.Signals(number).name}"
        raise Stop(f"{NOT_REACHED}: {why}")

    for number in _SIGNALS:
        signal.signal(number, over)
    signal.alarm(max(1, seconds))  # 0 would be no alarm


def _stop_no_more() -> None:
    """Have nothing interrupt what is written at the end."""
    signal.alarm(0)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class _Written:
    """The results of a run that goes on, in a file that is whole at every moment, and the journal that they are made from."""

    def __init__(self, folder: Path, cases: Sequence[Case], adapters: Mapping[str, Adapter], *, resume: bool) -> None:
        self.cases, self.adapters = cases, adapters
        self.environment = environment_of(adapters, SELECTION.header())
        self.path = folder / f"{name_of(self.environment)}.json.gz"
        self.journal = Journal(self.path.with_name(f"{self.path.name.partition('.json')[0]}.jsonl"))
        if not resume:
            self.journal.path.unlink(missing_ok=True)
        self.answers = self._answered() if resume else {}
        if not self.journal.path.exists() or not self.answers:
            self.journal.path.unlink(missing_ok=True)
            self.journal.write(environment=self.environment)
        self.known = dict(self.answers)
        self._write()

    def _answered(self) -> dict[str, Observed]:
        """Return the answers of the run that was stopped: those in its file, and those that came after that was written."""
        answers = {}
        with contextlib.suppress(OSError, IncompleteError):  # there is none, or none of a run
            before = read(self.path)
            if before.environment == json.loads(json.dumps(self.environment)):
                answers = {
                    one.case.id: Observed(one.outcome, one.reason) for one in before.records if not one.reason.startswith(NOT_REACHED)
                }
        events = self.journal.events()
        if events and events[0].get("environment") != json.loads(json.dumps(self.environment)):
            return answers
        return answers | {event["case"]: Observed(event["outcome"], event["reason"]) for event in events[1:]}

    def on_result(self, case: Case, observed: Observed) -> None:
        """Note an answer."""
        self.journal.write(case=case.id, outcome=observed.outcome, reason=observed.reason)
        self.answers[case.id] = observed
        if time.monotonic() - self.at > EVERY:
            self._write()

    def finish(self, results: Results) -> int:
        """Write the results, and remove the journal if every case has an answer; returns how many have none."""
        write(results, self.path)
        left = sum(case.id not in self.answers for case in self.cases)
        if not left:
            self.journal.path.unlink(missing_ok=True)
        return left

    def _write(self) -> None:
        self.at = time.monotonic()
        write(results_of(self.cases, self.answers, f"{NOT_REACHED}: the run has not ended", self.adapters, SELECTION.header()), self.path)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m interop_conformance.gpu", description="Run the cases with a library on a GPU.")
    default = Path(__file__).parent.parent / "results"
    parser.add_argument(
        "--output", metavar="DIR", type=Path, default=default, help="write the results into this folder; default: conformance/results"
    )
    parser.add_argument("--jobs", type=int, default=JOBS, help="processes at a time; default: %(default)s")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="stop after so long; default: %(default)s")
    parser.add_argument("--resume", action="store_true", help="go on where a run that was stopped left off")
    return parser.parse_args(argv)


def summary_of(results: Results, found: Sequence[Finding], left: int = 0) -> str:
    """Return the outcome in a few lines: what was found, then the counts, and how many cases have no answer."""
    found = [one for one in found if not one.text.startswith(NOT_REACHED)]
    lines = [f"{one.kind}: {one.about}: {one.text}" for one in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"and {len(found) - SHOWN} more; `interop conformance report` on the file prints them")
    counts = ", ".join(f"{count} {outcome}" for outcome, count in results.summary["outcomes"].items() if count)
    return "\n".join([*lines, f"conformance: {counts}; {len(found)} findings" + (f"; {left} not reached" if left else "")])


if __name__ == "__main__":
    raise SystemExit(main())
