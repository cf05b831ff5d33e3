"""The cases with a library on a GPU, in the time that ``make gpu`` has for them: ``python -m conformance.gpu [--output DIR]``.

The quick selection, since a stream's cases take a tenth of a second each, and what is met once is met. It needs neither click nor rich,
which a borrowed machine may lack; ``interop conformance run --device cuda`` runs all of them, and prints them better.

Status 0 if nothing was found, 1 with findings or if the time was too short, 3 if no library finds a GPU.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.adapters import load_adapters
from conformance.deviations import findings
from conformance.environment import name_of
from conformance.results import write
from conformance.run import run
from conformance.selection import Selection, all_cases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.deviations import Finding
    from conformance.results import Results

__all__ = ["JOBS", "NO_DEVICE", "SECONDS", "SELECTION", "main", "said"]

JOBS = 4
"""Each process has a context of its own on the device, and the device has one clock: more of them would wait for each other."""

NO_DEVICE = 3
SECONDS = 230
SELECTION = Selection(layer=("protocol", "handoff"), device=("cuda",), quick=True)
"""The policy layer is about described arrays, and the same everywhere."""

SHOWN = 60
"""Findings that are printed; the rest is counted."""


class OverError(Exception):
    """The time is over."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases, write the results and print what was found; returns the exit status."""
    given = _arguments(argv)
    adapters = load_adapters()
    reasons = [adapter.available() for adapter in adapters.values() if adapter.device == "cuda"]
    if all(reasons):
        print(*reasons, sep="\n", file=sys.stderr)
        return NO_DEVICE
    cases = SELECTION.of(list(all_cases(adapters)), adapters)
    signal.signal(signal.SIGALRM, _over)
    signal.alarm(given.seconds)
    try:
        results = run(cases, adapters, selection=SELECTION.header(), jobs=given.jobs)
    except OverError:
        print(f"stopped after {given.seconds} seconds: nothing is written", file=sys.stderr)
        return 1
    finally:
        signal.alarm(0)
    write(results, given.output / f"{name_of(results.environment)}.json.gz")
    found = findings(results)
    print(said(results, found))
    return 1 if found else 0


def _over(*_: object) -> None:
    raise OverError  # `run` ends the processes that it started, whatever is raised


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m conformance.gpu", description="Run the cases with a library on a GPU.")
    default = Path(__file__).parent / "results"
    parser.add_argument(
        "--output", metavar="DIR", type=Path, default=default, help="write the results into this folder; default: conformance/results"
    )
    parser.add_argument("--jobs", type=int, default=JOBS, help="processes at a time; default: %(default)s")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="give up after so long; default: %(default)s")
    return parser.parse_args(argv)


def said(results: Results, found: Sequence[Finding]) -> str:
    """Return the outcome in a few lines: what was found, then the counts."""
    lines = [f"{one.kind}: {one.about}: {one.text}" for one in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"and {len(found) - SHOWN} more; `interop conformance report` on the file prints them")
    counts = ", ".join(f"{count} {outcome}" for outcome, count in results.summary["outcomes"].items() if count)
    return "\n".join([*lines, f"conformance: {counts}; {len(found)} findings"])


if __name__ == "__main__":
    raise SystemExit(main())
