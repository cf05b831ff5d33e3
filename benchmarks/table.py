"""The results as a Markdown table, for the README and the docs: ``python -m benchmarks.table FILE``.

Made from the committed JSON, so that no number in the docs is written by hand.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from benchmarks.report import around, budget, nanoseconds, number, read, said

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "markdown"]

HEADS = ("Call", "Takes", "Against", "Ratio", "10 to 90 %", "Budget", "")


def markdown(report: dict[str, Any]) -> str:
    """Return a report as a Markdown table, with a line that says what was measured where."""
    rows = [_line(map(_escape, HEADS)), _line(["---"] * len(HEADS))]
    rows += [_line(map(_escape, _cells(row))) for row in report["rows"]]
    return "\n".join([*rows, "", _origin(report["environment"]), ""])


def _cells(row: dict[str, Any]) -> list[str]:
    code = f"`{row['call']}`"
    against = row["reference"] if row["measure"] == "count" else f"`{row['reference']}`"
    call = f"{code}, {row['note']}" if row["note"] else code
    return [call, nanoseconds(row["call_ns"]), against, number(row), around(row), budget(row), said(row)]


def _escape(cell: str) -> str:
    return cell.replace("|", r"\|")


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _origin(facts: dict[str, Any]) -> str:
    libraries = ("numpy", "torch", "cupy-cuda12x", "cupy-cuda13x")
    versions = [f"{name} {facts['versions'][name]}" for name in libraries if name in facts["versions"]]
    places = [facts[key] for key in ("gpu", "cpu") if facts.get(key)]
    return f"Python {facts['python']}, {', '.join(versions)}; {', '.join(places)}. Ratios are comparable between machines; times are not."


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table of a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description="Print results as a Markdown table.")
    parser.add_argument("file", help="a JSON file that benchmarks.run has written")
    print(markdown(read(parser.parse_args(argv).file)), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
