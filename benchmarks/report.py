"""Rows made into a report: the JSON that is committed, the table on the screen, the verdict."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from interop_conformance.running.journal import write_whole

__all__ = ["FEWEST", "SCHEMA", "bandwidth", "document", "read", "text", "verdict", "write"]

SCHEMA = 1
"""The version of the JSON's structure; goes up when a key changes its meaning or goes away."""

STATES = ("within", "over", "information", "not-run", "failed")

FEWEST = 7
"""Rounds from which on a spread says something."""

ADDED = {"rounds": None, "bytes": None}
"""Keys of a row that older files of this schema lack."""


def document(rows: list[dict[str, Any]], facts: dict[str, Any]) -> dict[str, Any]:
    """Return the report as plain data, the rows in the order of the tables."""
    counts = Counter(row["status"] for row in rows)
    return {"schema": SCHEMA, "environment": facts, "rows": rows, "summary": {state: counts[state] for state in STATES}}


def verdict(report: dict[str, Any]) -> int:
    """Return 0 if every budget holds, else 1; one that could not be looked at does not hold, and no case may fail, budget or not."""
    return int(
        any(row["status"] == "failed" or (row["budget"] is not None and row["status"] in {"over", "not-run"}) for row in report["rows"])
    )


def write(report: dict[str, Any], path: str | Path) -> None:
    """Write the report as JSON, in one step: a reader finds the old file or the new one, never a part."""
    write_whole(Path(path), (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())


def read(path: str | Path) -> dict[str, Any]:
    """Read a report, with what older files lack; raises ValueError for another structure."""
    found = json.loads(Path(path).read_text(encoding="utf-8"))
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"{Path(path).name} is no report of schema {SCHEMA}: its schema is {schema!r}.")
    return document([ADDED | row for row in found["rows"]], found["environment"])


def nanoseconds(value: float | None) -> str:
    """Return a time in a unit that suits it.

    >>> nanoseconds(640), nanoseconds(47_354), nanoseconds(21_600_000)
    ('640 ns', '47.4 µs', '21.6 ms')
    """
    if value is None:
        return ""
    for unit, size in (("ms", 1e6), ("µs", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} ns"


def number(row: dict[str, Any], key: str = "value") -> str:
    """Return a measured number with its unit."""
    value = row[key]
    if value is None:
        return ""
    return {"ratio": f"{value:.2f}", "count": f"{value}", "ms more": f"{value:+.1f} ms"}[row["measure"]]


def bandwidth(row: dict[str, Any], key: str) -> str:
    """Return a rate in GB/s (1e9 bytes); nothing for a row without bytes, or without the time.

    >>> bandwidth({"bytes": 1 << 28, "call_ns": 10_000_000}, "call_ns")
    '26.8 GB/s'
    """
    return f"{row['bytes'] / row[key]:.1f} GB/s" if row.get("bytes") and row[key] else ""


def around(row: dict[str, Any]) -> str:
    """Return the spread of a measured number."""
    few = row.get("rounds") is not None and row["rounds"] < FEWEST
    return f"{number(row, 'low')} to {number(row, 'high')}" if row["low"] is not None and not few else ""


def budget(row: dict[str, Any]) -> str:
    """Return the budget of a row, as it is written in tables."""
    if row["budget"] is None:
        return ""
    unit = " ms" if row["measure"] == "ms more" else ""
    return f"≤ {row['budget']:g}{unit}" + (f" or ≤ {row['or_ns']:g} ns" if row["or_ns"] else "")


def said(row: dict[str, Any]) -> str:
    """Return the status of a row in words; nothing for a row that is for information."""
    state = "" if row["status"] == "information" else row["status"].replace("-", " ")
    return f"{state}: {row['reason']}" if row["reason"] else state


def text(report: dict[str, Any]) -> str:
    """Return the report as a table for the screen, ending with its summary."""
    heads = ("call", "time", "against", "time", "ratio", "10 to 90 %", "budget", "")
    lines: list[tuple[str, ...] | str] = [heads]
    title = None
    for row in report["rows"]:
        if row["title"] != title:
            title = row["title"]
            lines.append(title)
        cells = (_time(row, "call_ns"), row["reference"], _time(row, "reference_ns"), number(row), around(row), budget(row), said(row))
        lines.append((f"  {row['call']}", *cells))
    widths = [max(len(line[column]) for line in lines if not isinstance(line, str)) for column in range(len(heads))]
    made = [line if isinstance(line, str) else "  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    return "\n".join([*made, "", summary(report)])


def _time(row: dict[str, Any], key: str) -> str:
    rate = bandwidth(row, key)
    return f"{nanoseconds(row[key])} ({rate})" if rate else nanoseconds(row[key])


def summary(report: dict[str, Any]) -> str:
    """Return the counts in one line."""
    return ", ".join(f"{report['summary'][state]} {state.replace('-', ' ')}" for state in STATES)
