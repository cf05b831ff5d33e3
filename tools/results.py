"""The results of a run of tests as committed data: a header, one record per test, a footer.

The footer is written only if the run came to its end, and a reader refuses a file without one: half a run must not be taken
for a good one. Outcomes are never merged. `not-run` is a file without GPU tests that could not be imported there.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BAD", "OUTCOMES", "SCHEMA", "IncompleteError", "all_passed", "compose", "events", "opened", "read", "write"]

SCHEMA = 1
"""The version of the JSON's structure; goes up when a key changes its meaning or goes away."""

OUTCOMES = ("passed", "failed", "error", "crash", "skipped", "xfailed", "xpassed", "not-run")
BAD = frozenset({"failed", "error", "crash", "xpassed"})

COMPLETE = frozenset({0, 1, 5})
"""pytest's exit statuses after which every test has been run: all passed, some failed, there was none."""


class IncompleteError(ValueError):
    """The file holds half a run, or what it says does not add up."""


def events(path: Path) -> list[dict[str, Any]]:
    """Return the recorder's events; the last line may be half written."""
    found = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            found.append(json.loads(text))
        except ValueError:
            break
    return found


def opened(environment: dict[str, Any]) -> dict[str, Any]:
    """Return the document as it stands before the run, so that a killed runner leaves no older file behind."""
    return _document(environment, [], died={"because": "the run has begun and not ended", "during": None, "missing": None})


def compose(found: Iterable[dict[str, Any]], environment: dict[str, Any], because: str) -> dict[str, Any]:
    """Return the document for a run's events; `because` says how its process ended, for a run that did not come to its end."""
    found = list(found)
    tests = sorted(_records(found, because), key=lambda record: record["nodeid"])
    expected = sum(event["count"] for event in found if event["event"] == "collected")
    ran = sum(record["outcome"] != "crash" for record in tests if record["duration"] is not None)
    if any(event["event"] == "finished" and event["status"] in COMPLETE for event in found) and ran == expected:
        return _document(environment, tests, footer=_counts(tests))
    during = next((record["nodeid"] for record in tests if record["outcome"] == "crash"), None)
    return _document(environment, tests, died={"because": because, "during": during, "missing": expected - ran})


def _document(environment: dict[str, Any], tests: list[dict[str, Any]], **end: Any) -> dict[str, Any]:
    return {"schema": SCHEMA, "environment": environment, "tests": tests, **end}


def _counts(tests: list[dict[str, Any]]) -> dict[str, int]:
    counts = Counter(record["outcome"] for record in tests)
    return {outcome: counts[outcome] for outcome in OUTCOMES} | {"total": len(tests)}


def _records(found: list[dict[str, Any]], because: str) -> Iterable[dict[str, Any]]:
    phases: dict[str, list[dict[str, Any]]] = {}
    for event in found:
        if event["event"] == "started":
            phases[event["nodeid"]] = []
        elif event["event"] == "phase":
            phases[event["nodeid"]].append(event)
        elif event["event"] in {"broken", "not-run"}:
            outcome = {"broken": "error"}.get(event["event"], event["event"])
            yield {"nodeid": event["nodeid"], "outcome": outcome, "duration": None, "reason": event["reason"]}
    for nodeid, parts in phases.items():
        yield _record(nodeid, parts, because)


def _record(nodeid: str, parts: list[dict[str, Any]], because: str) -> dict[str, Any]:
    duration = round(sum(part["duration"] for part in parts), 2)
    if not parts or parts[-1]["when"] != "teardown":
        return {"nodeid": nodeid, "outcome": "crash", "duration": duration, "reason": f"the process ended here: {because}"}
    deciding = next((part for part in parts if _outcome(part) in BAD), None)
    deciding = deciding or next((part for part in parts if _outcome(part) != "passed"), parts[-1])
    return {"nodeid": nodeid, "outcome": _outcome(deciding), "duration": duration, "reason": deciding["reason"]}


def _outcome(part: dict[str, Any]) -> str:
    if part["outcome"] == "failed":
        return "failed" if part["when"] == "call" else "error"
    return {"skipped": "xfailed", "passed": "xpassed"}[part["outcome"]] if part["expected"] else str(part["outcome"])


def write(document: dict[str, Any], path: Path) -> None:
    """Write the document as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(path: str | Path) -> dict[str, Any]:
    """Read a whole run; raises IncompleteError for half a one, and for one whose footer does not agree with its records."""
    name = Path(path).name
    found = json.loads(Path(path).read_text(encoding="utf-8"))
    if found.get("schema") != SCHEMA:
        raise IncompleteError(f"{name}: its schema is {found.get('schema')!r}, and {SCHEMA} is read here.")
    if "footer" not in found:
        raise IncompleteError(f"{name} has no footer: {found.get('died', {}).get('because', 'the run did not end')}.")
    if found["footer"] != _counts(found["tests"]):
        raise IncompleteError(f"{name}: the footer says {found['footer']}, the records {_counts(found['tests'])}.")
    return dict(found)


def all_passed(document: dict[str, Any]) -> bool:
    """Return whether the run came to its end, at least one test passed and none was bad."""
    footer = document.get("footer")
    return footer is not None and footer["passed"] > 0 and not any(footer[outcome] for outcome in BAD)
