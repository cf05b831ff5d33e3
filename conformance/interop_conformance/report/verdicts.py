"""What the reports agree on: what a record comes to, what a run is called, and which command repeats a case."""

from __future__ import annotations

import shlex
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from interop_conformance.results.outcomes import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from interop_conformance.protocol.rules import Rule
    from interop_conformance.results.files import Results
    from interop_conformance.results.records import Case, Record

__all__ = ["MARKS", "Deviation", "Known", "Verdict", "command", "judge", "label", "labels", "nothing_known", "selection", "versions"]

MARKS = ("bad", "known", "good", "neutral")
"""What a record can come to, worst first; ``known`` is bad as well, and a known deviation says why."""


class Deviation(Protocol):
    """What the reports read of a known deviation."""

    @property
    def id(self) -> str: ...

    @property
    def happens(self) -> str: ...

    @property
    def link(self) -> str: ...


if TYPE_CHECKING:
    # `interop_conformance.results.deviations.known` is one.
    Known = Callable[[Record, Mapping[str, Any]], Deviation | None]


class Verdict(NamedTuple):
    """A mark, and the deviation behind a ``known`` one."""

    mark: str
    deviation: Deviation | None = None


def nothing_known(record: Record, environment: Mapping[str, Any]) -> Deviation | None:  # noqa: ARG001 - the signature is Known's
    """Explain nothing: for results that are looked at without the list of deviations."""
    return None


def judge(results: Results, rules: Mapping[str, Rule], known: Known) -> list[Verdict]:
    """Return what each record comes to; `known` is asked about bad ones only."""
    return [_judge(record, results.environment, rules, known) for record in results.records]


def _judge(record: Record, environment: Mapping[str, Any], rules: Mapping[str, Rule], known: Known) -> Verdict:
    mark = _mark(record, rules)
    if mark != "bad":
        return Verdict(mark)
    deviation = known(record, environment)
    return Verdict("known", deviation) if deviation else Verdict("bad")


def _mark(record: Record, rules: Mapping[str, Rule]) -> str:
    """Return good, bad or neutral.

    In the protocol layer the rule decides, elsewhere the outcome. A rule that is no longer in ``rules.toml`` (an old file) leaves
    the outcome to decide. What a text says that one may do is not bad to leave, and does not count as good either.
    """
    rule = rules.get(record.case.case) if record.case.layer == "protocol" else None
    if rule and rule.violated_by(record.outcome):
        return "neutral" if rule.level == "may" else "bad"
    return OUTCOMES[record.outcome].verdict


def command(case: Case) -> str:
    """Return the line that runs this one case again.

    >>> from interop_conformance.results.records import Case
    >>> command(Case("handoff", "dlpack", "numpy", "torch", dtype="int8", layout="1d", state="plain"))
    "interop conformance run --case 'handoff/dlpack/numpy/torch/int8/1d/plain'"
    """
    # The option is a pattern; each sign that means something in one has to stand for itself.
    pattern = "".join(f"[{sign}]" if sign in "[*?" else sign for sign in case.id)
    quoted = shlex.quote(pattern)
    return f"interop conformance run --case {quoted if quoted.startswith(chr(39)) else chr(39) + quoted + chr(39)}"


def label(environment: Mapping[str, Any]) -> str:
    """Return what an environment is called: its hardware, its system and its Python."""
    hardware = environment["hardware"]
    return f"{hardware['gpu'] or 'CPU'} · {environment['platform']} · Python {environment['python']}"


def labels(results_list: Sequence[Results]) -> list[str]:
    """Return a name for each run, by which it is chosen; equal ones get the versions in which they differ, or a number."""
    plain = [label(results.environment) for results in results_list]
    held = [dict(versions(results.environment)) for results in results_list]
    differing = [name for name in dict.fromkeys(chain(*held)) if len({each.get(name) for each in held}) > 1]
    more = ["".join(f" · {name} {each[name]}" for name in differing if name in each) for each in held]
    names = [name + text if plain.count(name) > 1 else name for name, text in zip(plain, more, strict=True)]
    return [f"{name} ({names[: number + 1].count(name)})" if names.count(name) > 1 else name for number, name in enumerate(names)]


def versions(environment: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield each library, and its version or why it was not there."""
    for name, library in environment["libraries"].items():
        distribution = library["distribution"]
        what = f"{distribution} {library['version']}" if distribution != name else str(library["version"])
        yield name, f"not available: {library['unavailable']}" if library["unavailable"] else what


def selection(environment: Mapping[str, Any]) -> str:
    """Return what a run was limited to, in words; empty for a full one."""
    limits = environment["selection"].items()
    return "; ".join(f"{key}: {', '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}" for key, value in limits)
