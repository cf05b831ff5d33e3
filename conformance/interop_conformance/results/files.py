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
from interop_conformance.results.records import LAYERS, ROUTES, Case, Record
from interop_conformance.results.texts import first_sentence, printable
from interop_conformance.running.journal import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["SCHEMA", "SCHEMA_FILE", "IncompleteError", "Results", "read", "summary_of", "write"]

SCHEMA = 1
"""The version of the structure; goes up when a key changes its meaning or goes away."""

SCHEMA_FILE = Path(__file__).parent / "results.schema.json"

LIMIT = 256 << 20
"""Bytes that a file may hold, unpacked: six times what a full run of today has. A few kilobytes of gzip may be gigabytes."""

ROOM = 4096
"""Characters of one text: a reason has 160 at most, a selection may be longer."""

LIBRARIES = 200
"""Libraries that records may name: the reports have tables of all pairs."""


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
    """Read a whole run; raises IncompleteError for half a one, or for one that does not add up. Its texts are printable.

    The file may be a stranger's: nothing in it is believed before it was looked at.
    """
    path = Path(path)
    try:
        return _results(_parsed(path))
    except IncompleteError as error:
        raise IncompleteError(f"{path.name!r} {error}.") from None


def _parsed(path: Path) -> Any:
    try:
        return json.loads(_unpacked(path), object_pairs_hook=_unique, parse_constant=_refuse)
    except IncompleteError:
        raise
    except PermissionError as error:
        raise IncompleteError(f"cannot be read: {error.strerror}") from error
    except (ValueError, EOFError, OSError, zlib.error) as error:  # OSError is gzip's word for a file that is none
        raise IncompleteError(f"is not whole: {first_sentence(str(error))}") from error
    except (RecursionError, MemoryError) as error:
        raise IncompleteError(f"is not whole: {type(error).__name__}") from error


def _unpacked(path: Path) -> bytes:
    if not path.is_file():  # a pipe might never end
        raise IncompleteError("is not a regular file" if path.exists() else "does not exist")
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        text = file.read(LIMIT + 1)
    if len(text) > LIMIT:
        raise IncompleteError(f"holds more than {LIMIT >> 20} MiB")
    return text


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands in it twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON's")


def _results(found: Any) -> Results:
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA or isinstance(schema, bool):
        raise IncompleteError(f"has no schema that is known: schema {SCHEMA} is read here, and it has {first_sentence(repr(schema))}")
    missing = {"environment", "records", "summary"} - found.keys()
    if missing:
        raise IncompleteError(f"has no {', '.join(sorted(missing))}: the run did not come to its end")
    if not isinstance(found["records"], list):
        raise IncompleteError("has no list of records")
    results = Results(_environment(found["environment"]), tuple(map(_record, found["records"])))
    if len({name for record in results.records for name in (record.case.producer, record.case.consumer)}) > LIBRARIES:
        raise IncompleteError(f"names more than {LIBRARIES} libraries, and a table has a row for each")
    if results.summary != found["summary"]:
        raise IncompleteError(f"does not add up: the footer says {first_sentence(str(found['summary']))}")
    return results


def _environment(found: Any) -> dict[str, Any]:
    """Return what is known here of a header, in the types that the schema gives it."""
    environment = _object(found, "environment")
    lacking = {"libraries", "selection", "hardware", "platform", "python", "interop"} - environment.keys()
    if lacking:
        raise IncompleteError(f"has an environment that does not say {', '.join(sorted(lacking))}")
    hardware = {name: _plain(value, name) for name, value in _object(environment["hardware"], "hardware").items()}
    hardware.setdefault("machine", "")
    gpu = hardware.setdefault("gpu", None)
    hardware["gpu"] = ", ".join(map(str, gpu)) or None if isinstance(gpu, list) else gpu
    return {
        **{name: _text(environment[name], name) for name in ("interop", "python", "platform")},
        "hardware": hardware,
        "libraries": {name: _library(entry, name) for name, entry in _object(environment["libraries"], "libraries").items()},
        "selection": {name: _plain(value, name) for name, value in _object(environment["selection"], "selection").items()},
    }


def _library(found: Any, name: str) -> dict[str, Any]:
    entry = _object(found, name)
    if not {"distribution", "version", "unavailable"} <= entry.keys():
        raise IncompleteError(f"does not say enough of the library {name}")
    version, unavailable = (entry[key] and _text(entry[key], key) for key in ("version", "unavailable"))
    return {"distribution": _text(entry["distribution"], "distribution"), "version": version or None, "unavailable": unavailable or ""}


def _object(found: Any, name: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise IncompleteError(f"has a {name} that is no object")
    return {_text(key, name): value for key, value in found.items()}


def _text(found: Any, name: str) -> str:
    if not isinstance(found, str) or len(found) > ROOM:
        raise IncompleteError(f"has a {name} that is no text of at most {ROOM} characters")
    return printable(found)


def _plain(found: Any, name: str) -> Any:
    """Return a text, a number or nothing, or a list of such."""
    if isinstance(found, list):
        return [_plain(one, name) for one in found if not isinstance(one, list)]
    return found if found is None or isinstance(found, (bool, int, float)) else _text(found, name)


_TEXTS = (*Case._fields, "outcome", "reason")


def _record(entry: Any) -> Record:
    if not isinstance(entry, dict) or not {*_TEXTS, "rules"} <= entry.keys() or not isinstance(entry["rules"], list):
        raise IncompleteError("has a record that is none: it lacks a key, or its rules are no list")
    texts = [*(entry[name] for name in _TEXTS), *entry["rules"]]
    if not all(isinstance(text, str) for text in texts) or not "".join(texts).isprintable() or len("".join(texts)) > ROOM:
        texts = [_text(text, "record") for text in texts]
    *case, outcome, reason = texts[: len(_TEXTS)]
    record = Record(Case(*case), outcome, reason, tuple(texts[len(_TEXTS) :]))
    for name, known in (("layer", LAYERS), ("route", ROUTES), ("outcome", OUTCOMES)):
        if entry[name] not in known:
            raise IncompleteError(f"has a record that is none: {first_sentence(repr(entry[name]))} is not one of the {name}s")
    return record
