"""The results of a run of tests as committed data: a header, one record per test, a footer.

They are made from the journal of `tools.recorder`, at any moment. Every test that was found has a record: one that was not reached is
`not-run`, with its reason. The footer is there only if every test was reached, and a reader refuses a file without one unless it asks
for a part: half a run must not be taken for a good one. Outcomes are never merged.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interop_conformance.running.journal import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["BAD", "OUTCOMES", "SCHEMA", "IncompleteError", "all_passed", "compose", "counts", "failures", "read", "write"]

SCHEMA = 2
"""The version of the JSON's structure; goes up when a key changes its meaning or goes away."""

OUTCOMES = ("passed", "failed", "error", "crash", "skipped", "xfailed", "xpassed", "not-run")
BAD = frozenset({"failed", "error", "crash", "xpassed"})


class IncompleteError(ValueError):
    """The file holds half a run, or what it says does not add up."""


def compose(events: Sequence[dict[str, Any]], environment: dict[str, Any], stopped: str = "") -> dict[str, Any]:
    """Return the document for a run's events; `stopped` says why tests were not reached, where that is so."""
    records = {record["nodeid"]: record for record in _records(events)}
    found = [nodeid for event in events if event["event"] == "collected" for nodeid in event["tests"]]
    left = [nodeid for nodeid in dict.fromkeys(found) if nodeid not in records]
    because = stopped or "the run has not ended"
    records |= {nodeid: _of(nodeid, "not-run", None, f"not reached: {because}") for nodeid in left}
    tests = sorted(records.values(), key=lambda record: record["nodeid"])
    complete = not stopped and not left and any(event["event"] == "finished" for event in events)
    end = {"footer": counts(tests)} if complete else {"stopped": because}
    return {"schema": SCHEMA, "environment": environment, "tests": tests, **end}


def failures(events: Sequence[dict[str, Any]]) -> str:
    """Return the texts of what failed."""
    failed = [event for event in events if event.get("text")]
    return "\n".join(f"==== {event['item']} ({event.get('when', 'import')})\n\n{event['text']}\n" for event in failed)


def counts(tests: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Return how many records have each outcome, and how many there are."""
    found = Counter(record["outcome"] for record in tests)
    return {outcome: found[outcome] for outcome in OUTCOMES} | {"total": found.total()}


def _of(nodeid: str, outcome: str, duration: float | None, reason: str | None, figures: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"nodeid": nodeid, "outcome": outcome, "duration": duration, "reason": reason} | ({"figures": figures} if figures else {})


def _records(events: Sequence[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    phases: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        item = event.get("item", "")
        match event["event"]:
            case "started":
                phases[item] = []  # also of one that is run again because the run was stopped
            case "phase":
                phases[item].append(event)
            case "broken":
                yield _of(item, "error", None, event["reason"])
            case "died":
                yield _of(item, "crash", _duration(phases.get(item, [])), f"the process ended here: {event['because']}")
            case "ended":
                yield _record(item, phases[item])
            case "poisoned":
                yield _record(item, phases[item], event["because"])


def _duration(parts: list[dict[str, Any]]) -> float:
    return round(float(sum(part["duration"] for part in parts)), 2)


def _record(nodeid: str, parts: list[dict[str, Any]], fault: str = "") -> dict[str, Any]:
    figures = {name: value for part in parts for name, value in part["figures"].items()}
    deciding = next((part for part in parts if _outcome(part) in BAD), None)
    deciding = deciding or next((part for part in parts if _outcome(part) != "passed"), parts[-1])
    outcome, reason = _outcome(deciding), deciding["reason"]
    if fault:
        outcome, reason = (outcome if outcome in BAD else "failed"), "; ".join(filter(None, (reason, fault)))
    return _of(nodeid, outcome, _duration(parts), reason, figures)


def _outcome(part: dict[str, Any]) -> str:
    if part["outcome"] == "failed":
        return "failed" if part["when"] == "call" else "error"
    return {"skipped": "xfailed", "passed": "xpassed"}[part["outcome"]] if part["expected"] else str(part["outcome"])


def write(document: dict[str, Any], path: Path) -> None:
    """Write the document as JSON, whole or not at all."""
    write_whole(path, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())


def read(path: str | Path, *, partial: bool = False) -> dict[str, Any]:
    """Read a run; raises IncompleteError for one that was stopped, unless a part is asked for, and for one that does not add up."""
    name = Path(path).name
    found = json.loads(Path(path).read_text(encoding="utf-8"))
    if found.get("schema") != SCHEMA:
        raise IncompleteError(f"{name}: its schema is {found.get('schema')!r}, and {SCHEMA} is read here.")
    if partial and "stopped" in found:
        return dict(found)
    if "footer" not in found:
        raise IncompleteError(f"{name} has no footer: {found.get('stopped', 'the run did not end')}.")
    if found["footer"] != counts(found["tests"]):
        raise IncompleteError(f"{name}: the footer says {found['footer']}, the records {counts(found['tests'])}.")
    return dict(found)


def all_passed(document: dict[str, Any]) -> bool:
    """Return whether the run came to its end, at least one test passed and none was bad."""
    footer = document.get("footer")
    return footer is not None and footer["passed"] > 0 and not any(footer[outcome] for outcome in BAD)
