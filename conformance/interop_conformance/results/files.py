"""Results as data: a header (the environment), the records in a fixed order, a footer (the counts).

The footer is written last, and a reader refuses a file without one, or whose records do not add up to it: half a run must not be
taken for a good one. No times, no addresses, no logs: the same libraries give the same file.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from interop_conformance.results.outcomes import OUTCOMES
from interop_conformance.results.records import Case, Record
from interop_conformance.running.journal import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["SCHEMA", "SCHEMA_FILE", "IncompleteError", "Results", "read", "summary_of", "write"]

SCHEMA = 1
"""The version of the structure; goes up when a key changes its meaning or goes away."""

SCHEMA_FILE = Path(__file__).parent / "results.schema.json"


class IncompleteError(ValueError):
    """The file holds half a run, or what it says does not add up."""


class Results(NamedTuple):
    """A whole run. `environment` has versions and hardware; `records` are in the order of the enumeration."""

    environment: Mapping[str, Any]
    records: tuple[Record, ...]

    @property
    def summary(self) -> dict[str, Any]:
        """Return the counts that stand in the footer."""
        return summary_of(self.records)


def summary_of(records: Iterable[Record]) -> dict[str, Any]:
    """Return how many records have each outcome, in all and for each layer and route."""
    counts: dict[str, Counter[str]] = {}
    for record in records:
        counts.setdefault(f"{record.case.layer}/{record.case.route}", Counter())[record.outcome] += 1
    total = sum(counts.values(), Counter())
    return {
        "total": total.total(),
        "outcomes": {name: total[name] for name in OUTCOMES},
        "by_route": {key: {name: counter[name] for name in OUTCOMES} for key, counter in counts.items()},
    }


def write(results: Results, path: Path) -> None:
    """Write a run as JSON, one record a line; compressed if the name ends in ``.gz``, and then the same bytes each time."""
    text = "".join(_lines(results)).encode()
    # No name and no time in the header, so that the same results are the same file.
    write_whole(path, gzip.compress(text, 9, mtime=0) if path.suffix == ".gz" else text)


def _lines(results: Results) -> Iterable[str]:
    yield f'{{"schema": {SCHEMA},\n"environment": {_json(results.environment, indent=1)},\n"records": [\n'
    for number, record in enumerate(results.records):
        entry = {**record.case._asdict(), "outcome": record.outcome, "reason": record.reason, "rules": list(record.rules)}
        yield f"{',' * bool(number)}{_json(entry)}\n"
    yield f'],\n"summary": {_json(results.summary, indent=1)}}}\n'


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def read(path: str | Path) -> Results:
    """Read a whole run; raises IncompleteError for half a one, or for one that does not add up."""
    path = Path(path)
    raw = path.read_bytes()
    try:
        found = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (ValueError, EOFError, OSError, zlib.error) as error:  # OSError is gzip's word for a file that is none
        raise IncompleteError(f"{path.name} is not whole: {error}.") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise IncompleteError(
            f"{path.name}: schema {SCHEMA} is read here, and it has {found.get('schema') if isinstance(found, dict) else 'none'}."
        )
    missing = {"environment", "records", "summary"} - found.keys()
    if missing:
        raise IncompleteError(f"{path.name} has no {', '.join(sorted(missing))}: the run did not come to its end.")
    lacking = {"libraries", "selection", "hardware", "python", "interop"} - found["environment"].keys()
    if lacking:
        raise IncompleteError(f"{path.name}: its environment does not say {', '.join(sorted(lacking))}.")
    try:
        results = Results(found["environment"], tuple(map(_record, found["records"])))
    except (KeyError, TypeError) as error:
        raise IncompleteError(f"{path.name} has a record that is none: {error}.") from error
    if results.summary != found["summary"]:
        raise IncompleteError(f"{path.name}: the footer says {found['summary']}, its records {results.summary}.")
    return results


def _record(entry: Mapping[str, Any]) -> Record:
    case = Case(*(entry[name] for name in Case._fields))
    if entry["outcome"] not in OUTCOMES:
        raise KeyError(f"{case.id}: {entry['outcome']!r} is not an outcome")
    return Record(case, entry["outcome"], entry["reason"], tuple(entry["rules"]))
