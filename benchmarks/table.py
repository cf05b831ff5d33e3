"""The results as Markdown tables, for the README and the docs: ``python -m benchmarks.table FILE``.

Made from the committed JSON, so that no number in the docs is written by hand.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from benchmarks.report import around, bandwidth, budget, nanoseconds, number, read, said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    Row = dict[str, Any]

__all__ = ["NOT_MEASURED", "gpu_markdown", "gpu_results", "main", "markdown"]

NOT_MEASURED = "No speed has been measured on a GPU yet."

HEADS = ("Call", "Takes", "Against", "Ratio", "10 to 90 %", "Budget", "")
LATENCY = ("Call", "Takes", "Against", "Takes", "Ratio", "10 to 90 %", "Budget", "")
BANDWIDTH = ("Call", "Size", "GB/s", "Against", "GB/s", "Ratio", "10 to 90 %", "Budget", "")


def markdown(report: dict[str, Any]) -> str:
    """Return a report as a Markdown table, with a line that says what was measured where."""
    return "\n".join([_table(HEADS, report["rows"], _cells), "", _origin(report["environment"]), ""])


def gpu_results(folder: Path) -> str:
    """Return the tables of all results from a GPU in a folder, or a sentence that says that there are none."""
    found = [gpu_markdown(read(path)).rstrip() for path in sorted(folder.glob("gpu-*.json"))]
    return "\n\n".join(found) or NOT_MEASURED


def gpu_markdown(report: dict[str, Any]) -> str:
    """Return a report from a GPU as two Markdown tables, times and rates, below a line that says what was measured where."""
    rates = [row for row in report["rows"] if row["bytes"]]
    times = [row for row in report["rows"] if not row["bytes"]]
    parts = [_origin(report["environment"]), _device(report["environment"])]
    if times:
        parts += ["Time of a call:", _table(LATENCY, times, _latency)]
    if rates:
        parts += ["Between device and host (1 GB/s is 1e9 bytes per second):", _table(BANDWIDTH, rates, _rate)]
    return "\n\n".join([*filter(None, parts), ""])


def _table(heads: Sequence[str], rows: Iterable[Row], cells: Callable[[Row], list[str]]) -> str:
    lines = [_line(map(_escape, heads)), _line(["---"] * len(heads))]
    return "\n".join([*lines, *(_line(map(_escape, cells(row))) for row in rows)])


def _cells(row: Row) -> list[str]:
    return [_call(row), nanoseconds(row["call_ns"]), _against(row), number(row), *_judged(row)]


def _latency(row: Row) -> list[str]:
    if row["value"] is None:
        return [_call(row), "not measured", _against(row), "", "", *_judged(row)]
    return [_call(row), nanoseconds(row["call_ns"]), _against(row), nanoseconds(row["reference_ns"]), number(row), *_judged(row)]


def _rate(row: Row) -> list[str]:
    call, size = f"`{row['call']}`", row["note"]
    if row["value"] is None:
        return [call, size, "not measured", _against(row), "", "", *_judged(row)]
    mine, theirs = (bandwidth(row, key).removesuffix(" GB/s") for key in ("call_ns", "reference_ns"))
    return [call, size, mine, _against(row), theirs, number(row), *_judged(row)]


def _judged(row: Row) -> list[str]:
    return [around(row), budget(row), said(row)]


def _call(row: Row) -> str:
    return f"`{row['call']}`, {row['note']}" if row["note"] else f"`{row['call']}`"


def _against(row: Row) -> str:
    return str(row["reference"]) if row["measure"] == "count" else f"`{row['reference']}`"


def _escape(cell: str) -> str:
    return cell.replace("|", r"\|")


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _origin(facts: dict[str, Any]) -> str:
    libraries = ("numpy", "torch", "cupy-cuda12x", "cupy-cuda13x")
    versions = [f"{name} {facts['versions'][name]}" for name in libraries if name in facts["versions"]]
    places = [facts[key] for key in ("gpu", "cpu") if facts.get(key)]
    return f"Python {facts['python']}, {', '.join(versions)}; {', '.join(places)}. Ratios are comparable between machines; times are not."


def _device(facts: dict[str, Any]) -> str:
    """Return what the device was like, as far as it is known."""
    pcie, clocks = facts.get("pcie") or {}, facts.get("clocks") or {}
    said = (
        facts.get("memory") and f"{facts['memory']} of memory",
        pcie.get("generation")
        and f"PCIe {pcie['generation']}.0 x{pcie['width']} (at most {pcie['generation_max']}.0 x{pcie['width_max']})",
        clocks.get("sm") and f"SM clock {clocks['sm']} (at most {clocks['sm_max']})",
        facts.get("mig") and f"MIG {str(facts['mig']).lower()}",
        facts.get("driver") and f"driver {facts['driver']}",
        facts.get("cores") and f"{facts['cores']} cores of the host",
    )
    text = ", ".join(filter(None, said))
    return f"{text[0].upper()}{text[1:]}." if text else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables of a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description="Print results as Markdown tables.")
    parser.add_argument("file", help="a JSON file that benchmarks.run has written")
    report = read(parser.parse_args(argv).file)
    print(gpu_markdown(report) if "gpu" in report["environment"] else markdown(report), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
