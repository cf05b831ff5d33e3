"""Known deviations: what the libraries do wrong today, each with its versions and its upstream link, read from ``deviations.toml``.

They are strict. A bad outcome that none explains is a finding; so is a deviation within whose cases something came out good (it has
healed, at least in part), and one that fits no case of a full run. What is healed is taken out of the file, or its versions are bounded.
"""

from __future__ import annotations

import functools
import operator
import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion

from interop_conformance.adapters import built_in
from interop_conformance.matrix.states import STATES
from interop_conformance.protocol.rules import rules
from interop_conformance.results.outcomes import BAD, GOOD, NOT_ITS_OWN, OUTCOMES
from interop_conformance.results.records import Case
from interop_conformance.results.texts import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from interop_conformance.results.files import Results
    from interop_conformance.results.records import Record

__all__ = ["Deviation", "Finding", "also_from", "deviations", "findings", "is_bad", "known"]


@dataclass(frozen=True)
class Deviation:
    """One thing that a library does wrong.

    `match` has patterns for a case's fields, `but` the same for cases that fit and are not meant: each a mapping of a field's name to one
    pattern or several. `outcome` is what happens, `versions` the range of the library's versions in which it does. `reason` has patterns of the
    reasons that the records give, if it is not any: another fault in the same place is a new one.
    """

    id: str
    library: str
    versions: SpecifierSet
    happens: str
    link: str
    outcome: str
    match: tuple[Mapping[str, Any], ...]
    but: tuple[Mapping[str, Any], ...] = ()
    reason: tuple[str, ...] = ()
    workaround: str = ""
    fields: frozenset[str] = field(default=frozenset(Case._fields), repr=False)

    def __post_init__(self) -> None:
        unknown = {name for pattern in (*self.match, *self.but) for name in pattern} - self.fields
        if unknown:
            raise ValueError(f"{self.id}: cases have no {', '.join(sorted(unknown))}")
        if self.outcome not in OUTCOMES:
            raise ValueError(f"{self.id}: {self.outcome!r} is not an outcome")

    def here(self, environment: Mapping[str, Any]) -> bool:
        """Return whether the library is there, in a version that the deviation is about."""
        libraries = environment["libraries"].values()
        versions = {entry["version"] for entry in libraries if entry["distribution"] == self.library and entry["version"]}
        return any(self._holds_for(version.partition("+")[0]) for version in versions)

    def _holds_for(self, version: str) -> bool:
        try:
            return self.versions.contains(version, prereleases=True)
        except InvalidVersion:  # of packaging before 26, in a stranger's file
            return False

    def met(self, environment: Mapping[str, Any]) -> bool:
        """Return whether one of its patterns has every library that it names here: without one, a full run has no such cases either.

        Of one distribution's adapters in a list, such as torch and torch-cuda, one is enough.
        """
        entries = environment["libraries"]
        there = {name for name, entry in entries.items() if not entry["unavailable"]}
        distributions = {name: entry["distribution"] for name, entry in entries.items()}

        def is_there(pattern: Mapping[str, Any], side: str) -> bool:
            named = [name for name in _several(pattern.get(side, ())) if name in distributions]
            enough = {distributions[name] for name in named if name in there}
            return all(distributions[name] in enough for name in named)

        return any(is_there(pattern, "producer") and is_there(pattern, "consumer") for pattern in self.match)

    def is_about(self, case: Case) -> bool:
        """Return whether a case is one of its."""
        key = _PAIR(case)
        if key not in self._by_pair:
            self._by_pair[key] = tuple(
                tuple(one for one in patterns if _fits(case, one, _PAIR_FIELDS)) for patterns in (self.match, self.but)
            )
        match, but = self._by_pair[key]
        return any(_fits(case, pattern) for pattern in match) and not any(_fits(case, pattern) for pattern in but)

    @functools.cached_property
    def _by_pair(self) -> dict[Any, tuple[tuple[Mapping[str, Any], ...], ...]]:
        """The patterns of `match` and `but` that fit a pair of libraries: mostly none, and a pair has thousands of cases."""
        return {}

    def explains(self, record: Record) -> bool:
        """Return whether a record is one of its cases with its outcome, for its reason: another fault in the same place is a new one."""
        return self._happens_in(record) and self.is_about(record.case)

    def explains_with(self, record: Record, stranger: str) -> bool:
        """Return whether it is this library's fault with others' arrays, and so also with those of a stranger, which no pattern names.

        `stranger` is the side that is one, ``producer`` or ``consumer``. The patterns list what was seen with the suite's own libraries;
        what happens to a plain and compact array happens to any.
        """
        if not self._happens_in(record) or any(_fits(record.case, pattern) for pattern in self.but):
            return False
        case = record.case
        states = (case.state, "plain") if stranger == "producer" else (case.state,)
        alike = [case._replace(state=state, layout=layout) for state in states for layout in (case.layout, "compact")]
        for pattern in self._with_others(stranger):
            # What the protocol layer found of a library is its fault in a handoff too, for the same reason.
            crafted = self.reason and "protocol" in pattern.get("layer", ())
            left_out = {stranger, "layer", "case", "layout"} if crafted else {stranger}
            fields = [name for name in Case._fields if name not in left_out]
            if any(_fits(one, pattern, fields) for one in alike):
                return True
        return False

    def _with_others(self, side: str) -> list[Mapping[str, Any]]:
        """Return the patterns in which this library is the other side, and another than itself is on this one."""
        own, other = built_in(), "consumer" if side == "producer" else "producer"
        return [
            pattern
            for pattern in self.match
            if any(self.library in (own.get(name), STANDS_ON.get(name)) for name in _several(pattern.get(other, ())))
            and any(own.get(name) != self.library for name in _several(pattern.get(side, "*")))
        ]

    def _happens_in(self, record: Record) -> bool:
        return self.outcome == record.outcome and (not self.reason or _is_one_of(record.reason, self.reason))


_PAIR_FIELDS = ("layer", "route", "producer", "consumer")
_PAIR = operator.attrgetter(*_PAIR_FIELDS)

IMMUTABLE = {"jax"}
"""The libraries that interop converts to, and whose arrays nobody writes to."""

STANDS_ON = {"array-api-strict": "numpy"}
"""Whose arrays are another distribution's inside, which then takes and gives them."""


def _fits(case: Case, patterns: Mapping[str, Any], fields: Sequence[str] = Case._fields) -> bool:
    return all(_is_one_of(getattr(case, name), tuple(_several(wanted))) for name, wanted in patterns.items() if name in fields)


@functools.cache  # the same few values meet the same few patterns in every one of a hundred thousand cases
def _is_one_of(value: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in patterns)


def _several(wanted: Any) -> Sequence[str]:
    return [wanted] if isinstance(wanted, str) else wanted


_FILES = [Path(__file__).parent / "deviations.toml"]


@functools.cache
def deviations(path: Path | None = None) -> tuple[Deviation, ...]:
    """Return every known deviation, in the order of the file; without one, those of the suite's and of every file that `also_from` named."""
    if path is None:
        listed = tuple(one for file in _FILES for one in deviations(file))
    else:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        groups = found.get("group", {})
        listed = tuple(_deviation(entry, groups) for entry in found.get("deviation", ()))
    if len({deviation.id for deviation in listed}) != len(listed):
        raise ValueError(f"{path.name if path else 'the files together'} has one id twice")
    return listed


def also_from(path: Path) -> None:
    """Add a third party's file to the suite's own, for the rest of this process; raises ValueError for one that cannot be read."""
    if path in _FILES:
        return
    if not path.is_file():
        raise ValueError("not a regular file")  # a pipe might never end
    try:
        deviations(path)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:  # a group or a key that is not there, or is something else
        raise ValueError(str(error)) from error
    _FILES.append(path)
    deviations.cache_clear()
    _here.cache_clear()
    deviations()  # an id that is there twice is found now


def _deviation(entry: Mapping[str, Any], groups: Mapping[str, list[str]]) -> Deviation:
    entry = {name: printable(value) if isinstance(value, str) else value for name, value in entry.items()}
    words = {**entry, "versions": SpecifierSet(entry["versions"]), "reason": tuple(_several(entry.get("reason", ())))}
    for name in ("match", "but"):
        patterns = entry.get(name, ())
        several = [patterns] if isinstance(patterns, dict) else patterns
        words[name] = tuple({key: tuple(_expanded(_several(wanted), groups)) for key, wanted in one.items()} for one in several)
    return Deviation(**words)


def _expanded(patterns: Iterable[str], groups: Mapping[str, list[str]]) -> Iterator[str]:
    """Replace ``@name`` by the patterns of the group."""
    for pattern in patterns:
        if pattern.startswith("@"):
            yield from _expanded(groups[pattern[1:]], groups)
        else:
            yield pattern


def is_bad(record: Record) -> bool:
    """Return whether an outcome is one that must be explained: bad, or in the protocol layer, not what the rule allows.

    A rule that is no longer in ``rules.toml`` (an old file) leaves the outcome to decide.
    """
    rule = rules().get(record.case.case) if record.case.layer == "protocol" else None
    if rule is None:
        return record.outcome in BAD
    return rule.level != "may" and rule.violated_by(record.outcome)


def known(record: Record, environment: Mapping[str, Any]) -> Deviation | None:
    """Return the deviation that explains a bad outcome; None for one that nothing explains.

    A library's deviation holds with every other library, also with one that is not the suite's own.
    """
    here = _here(_key(environment))
    found = next((one for one in here if one.explains(record)), None)
    strangers = [side for side in ("producer", "consumer") if getattr(record.case, side) not in _own()]
    if found is not None or len(strangers) != 1:
        return found
    return next((one for one in here if one.explains_with(record, strangers[0])), None)


def _key(environment: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    entries = environment["libraries"].values()
    return tuple(sorted({(entry["distribution"], entry["version"]) for entry in entries if entry["version"]}))


@functools.cache
def _here(versions: tuple[tuple[str, str], ...]) -> tuple[Deviation, ...]:
    environment = {"libraries": {name: {"distribution": name, "version": version} for name, version in versions}}
    return tuple(one for one in deviations() if one.here(environment))


@dataclass(frozen=True)
class Finding:
    """Something that a run found: a kind, what it is about, and what to do."""

    kind: str
    about: str
    text: str


def findings(results: Results) -> list[Finding]:
    """Return what a run found: bad outcomes that nothing explains, and deviations that are not what they were."""
    found = [*_unexplained(results), *_unshared(results)]
    plain = (record for record in results.records if record.case.state == "plain" and record.outcome == "refused")
    plainly_refused = frozenset((record.case, record.reason) for record in plain)
    for one in _here(_key(results.environment)):
        found += _stale(one, results, plainly_refused)
    return found


def _unexplained(results: Results) -> Iterator[Finding]:
    for record in results.records:
        ours = record.case.route == "interop" and (record.case.layer == "policy" or record.case.producer in _own())
        if ours and record.outcome in BAD:
            yield Finding("promise", record.case.id, f"{record.outcome}: {record.reason}")
        elif record.outcome == "not-run" and not record.reason.startswith(NOT_ITS_OWN):
            yield Finding("not-run", record.case.id, record.reason)
        elif is_bad(record) and known(record, results.environment) is None:
            yield Finding("new", record.case.id, f"{record.outcome}: {record.reason}")


def _unshared(results: Results) -> Iterator[Finding]:
    """Find where interop refuses or copies what a raw route shares: shared whenever it can be, is promised too.

    Only of arrays that carry nothing, since what they carry must be given up by name, and of aligned ones: torch takes unaligned
    memory, and may die of it later (pytorch#23213), so interop copies that. Managed memory is on the device as well, and so to pass it
    to a library of the host is to cross, which must be named too: the raw routes share it while the device may still be writing.
    A library whose arrays are constant gets a copy of memory that somebody may still write to, unless it is asked for by name.
    """
    raw = {
        record.case[2:]
        for record in results.records
        if record.case.layer == "handoff" and record.case.route != "interop" and record.outcome == "shared" and not record.reason
    }
    for record in results.records:
        case = record.case
        plain = case.state in STATES and not STATES[case.state].carries and case.layout != "unaligned"
        crosses = case.state == "managed" and record.reason.startswith("TransferError")
        constant = case.consumer in IMMUTABLE and record.outcome == "copied"
        if (
            case.layer == "handoff"
            and case.route == "interop"
            and plain
            and not crosses
            and not constant
            and record.outcome in {"refused", "copied"}
            and case[2:] in raw
        ):
            yield Finding("promise", case.id, f"{record.outcome}, where a raw route shares: {record.reason}")


@functools.cache
def _own() -> frozenset[str]:
    return frozenset({"capsule", *built_in()})


def _is_refused_anyway(record: Record, plainly_refused: frozenset[tuple[Case, str]]) -> bool:
    """Whether the same array is refused in the same words without what it carries, for a dtype that the other side lacks: that heals nothing."""
    return (
        record.outcome == "refused"
        and record.case.state != "plain"
        and (record.case._replace(state="plain"), record.reason) in plainly_refused
    )


def _stale(one: Deviation, results: Results, plainly_refused: frozenset[tuple[Case, str]]) -> Iterator[Finding]:
    # A third party's library may do well where those of the matrix do not, or badly, and neither says anything of a deviation but its own.
    entries = results.environment["libraries"].items()
    judged = _own() | {name for name, entry in entries if entry["distribution"] == one.library}
    about = [record for record in results.records if {record.case.producer, record.case.consumer} <= judged and one.is_about(record.case)]
    healed = [record for record in about if record.outcome in GOOD and not is_bad(record)]
    healed = [record for record in healed if not _is_refused_anyway(record, plainly_refused)]
    shown = any(one.explains(record) for record in about)
    if healed:
        yield Finding(
            "healed",
            one.id,
            f"{len(healed)} of its cases came out well, {healed[0].case.id} was {healed[0].outcome}: bound its versions, or its cases",
        )
    elif not shown and not results.environment["selection"] and one.met(results.environment):
        yield Finding("stale", one.id, "none of its cases shows it: take it out, or bound its versions" if about else "it fits no case")
