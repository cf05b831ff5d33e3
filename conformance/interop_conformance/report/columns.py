"""The records as columns of small integers, compressed: the whole matrix in a fraction of a megabyte.

A record's fields repeat: a few libraries, dtypes, layouts, states, some hundred reasons. Each field becomes a list of its values and
one integer a record. Columns lie one after the other (integers of two bytes as two columns of bytes), so that gzip sees long runs.

The bytes, before gzip: the length of the head (4 bytes, little-endian), the head as JSON, then the columns in the head's order.
"""

from __future__ import annotations

import base64
import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from interop_conformance.report.verdicts import MARKS
from interop_conformance.results.outcomes import OUTCOMES
from interop_conformance.results.records import Case

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from interop_conformance.protocol.rules import Rule
    from interop_conformance.report.verdicts import Deviation, Verdict
    from interop_conformance.results.files import Results

__all__ = ["FIELDS", "pack", "web"]

FIELDS = (*Case._fields, "outcome", "mark", "reason", "rules", "deviation")
"""The columns. `rules` are ids with a blank between them; `mark` and `deviation` are the verdict."""


class _Column:
    """One field: its values in the order of their appearance, and each record's number of them."""

    def __init__(self, values: Sequence[str] = ()) -> None:
        self.numbers = {value: number for number, value in enumerate(values)}
        self.rows: list[int] = []

    def add(self, value: str) -> None:
        self.rows.append(self.numbers.setdefault(value, len(self.numbers)))

    @property
    def width(self) -> int:
        """Return how many bytes a number takes."""
        return 1 if len(self.numbers) <= 0xFF else 2 if len(self.numbers) <= 0xFFFF else 4

    def planes(self) -> bytes:
        """Return all lowest bytes, then all next ones."""
        numbers = np.array(self.rows, f"<u{self.width}")
        return np.ascontiguousarray(numbers.view("u1").reshape(-1, self.width).T).tobytes()


def pack(results_list: Sequence[Results], verdicts: Sequence[Sequence[Verdict]], rules: Mapping[str, Rule]) -> str:
    """Return the records of every run, their rules and the deviations behind them, as base64 of gzip."""
    # Fixed lists keep their own order; the others that of the enumeration.
    columns = {name: _Column() for name in FIELDS} | {
        "outcome": _Column(list(OUTCOMES)),
        "mark": _Column(MARKS),
        "deviation": _Column([""]),
    }
    deviations: dict[str, Deviation] = {}
    for results, judged in zip(results_list, verdicts, strict=True):
        for record, (mark, deviation) in zip(results.records, judged, strict=True):
            if deviation is not None:
                deviations.setdefault(deviation.id, deviation)
            values = (*record.case, record.outcome, mark, record.reason, " ".join(record.rules), deviation.id if deviation else "")
            for column, value in zip(columns.values(), values, strict=True):
                column.add(value)
    head = {
        "fields": [{"name": name, "values": list(column.numbers), "width": column.width} for name, column in columns.items()],
        "counts": [len(results.records) for results in results_list],
        "outcomes": {name: outcome._asdict() for name, outcome in OUTCOMES.items()},
        "rules": {rule.id: _rule(rule) for rule in rules.values()},
        "deviations": {key: {"happens": found.happens, "link": web(found.link)} for key, found in deviations.items()},
    }
    return base64.b64encode(_compressed(head, columns)).decode()


def _compressed(head: Mapping[str, Any], columns: Mapping[str, _Column]) -> bytes:
    text = json.dumps(head, separators=(",", ":")).encode()
    body = b"".join(column.planes() for column in columns.values())
    # No time in gzip's header: the same results are the same page.
    return gzip.compress(len(text).to_bytes(4, "little") + text + body, 9, mtime=0)


def _rule(rule: Rule) -> dict[str, Any]:
    also = rule.also and {**rule.also, "link": web(rule.also.get("link", ""))}
    return {"title": rule.title, "level": rule.level, "clause": rule.clause, "source": rule.source, "link": web(rule.link), "also": also}


def web(link: str) -> str:
    """Return a link that is safe to click; any other scheme becomes none."""
    return link if link.startswith(("https://", "http://")) else ""
