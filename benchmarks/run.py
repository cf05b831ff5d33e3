"""The benchmarks on the host: ``python -m benchmarks.run [--output FILE] [--quick] [--only ID]``.

Status 0 if every budget holds, 1 if not. The titles of the cases go to the standard error as they are measured,
the table to the standard output.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.cases import CASES
from benchmarks.environment import environment
from benchmarks.imports import import_rows
from benchmarks.names import HOST
from benchmarks.report import document, text, verdict, write
from benchmarks.runner import measure
from benchmarks.timing import FULL, QUICK
from benchmarks.without_extension import rows_from_subprocess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from benchmarks.case import Case

__all__ = ["arguments", "chosen", "conclude", "finish", "main", "tell"]


def arguments(argv: Sequence[str] | None, program: str, add: Callable[[argparse.ArgumentParser], None] | None = None) -> argparse.Namespace:
    """Return the arguments which the runs on the host and on a GPU have in common, and those that `add` adds to a parser."""
    parser = argparse.ArgumentParser(prog=program, description="Compare interop's calls with the raw ones, in turns.")
    parser.add_argument("--output", metavar="FILE", help="write the results there too, as JSON")
    parser.add_argument("--quick", action="store_true", help="few rounds: to see that it runs, not to quote")
    parser.add_argument("--only", metavar="ID", help="only the cases whose id begins so: while working on one of them")
    if add:
        add(parser)
    given = parser.parse_args(argv)
    if given.only and given.output:
        parser.error("--output is for all of them: a file of some rows would pass for the whole.")
    return given


def chosen(cases: Iterable[Case], only: str | None) -> list[Case]:
    """Return the cases whose id begins with `only`; all of them for None. Raises SystemExit where there is none."""
    found = [case for case in cases if case.id.startswith(only or "")]
    if not found:
        raise SystemExit(f"no case has an id that begins with {only!r}")
    return found


def tell(title: str) -> None:
    """Say what is being measured."""
    print(title, file=sys.stderr, flush=True)


def finish(rows: list[dict[str, Any]], facts: dict[str, Any], output: str | None) -> int:
    """Print the report, write it where asked to, and return the exit status."""
    report = document(rows, facts)
    if output:
        write(report, output)
    return conclude(report)


def conclude(report: dict[str, Any]) -> int:
    """Print a report and return the exit status that it deserves."""
    print(text(report))
    if report["environment"]["quick_path"] == "python":
        print("interop's compiled extension is not installed here; the budgets are promised with it.")
    return verdict(report)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure everything on the host; returns the exit status."""
    given = arguments(argv, "python -m benchmarks.run")
    settings = QUICK if given.quick else FULL
    if given.only:
        return finish(measure(chosen(CASES, given.only), HOST, settings, tell), environment(), None)
    tell("import interop")
    rows = import_rows(settings)
    rows += measure(CASES, HOST, settings, tell)
    rows += rows_from_subprocess(quick=given.quick)
    return finish(rows, environment(), given.output)


if __name__ == "__main__":
    raise SystemExit(main())
