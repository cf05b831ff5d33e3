"""What the commands print: a progress bar on a terminal, plain lines elsewhere, tables and findings."""

from __future__ import annotations

from collections import Counter
from textwrap import fill
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from interop_conformance.protocol.rules import rules
from interop_conformance.results.deviations import is_bad, known
from interop_conformance.results.outcomes import BAD, NEUTRAL, OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from interop_conformance.protocol.rules import Rule
    from interop_conformance.results.deviations import Finding
    from interop_conformance.results.diff import Difference
    from interop_conformance.results.files import Results
    from interop_conformance.results.outcomes import Observed
    from interop_conformance.results.records import Case, Record

__all__ = ["Progress", "show_differences", "show_findings", "show_list", "show_one", "show_summary"]

STYLES = {"good": "green", "bad": "red", "neutral": "dim"}
SHOWN = 40
"""Findings and differences that are printed; the rest is counted."""


def _console(*, stderr: bool = False) -> Console:
    return Console(highlight=False, markup=False, emoji=False, stderr=stderr)


def _line(text: str = "", style: str = "") -> None:
    # Never folded, so that ids, commands and links can be copied from a narrow terminal or a log.
    _console().print(Text(text, style), soft_wrap=True)


class Progress:
    """How far a run is: a bar on a terminal, elsewhere a line for each tenth; on standard error, so that output can be piped."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self.total, self.done, self.quiet = total, 0, quiet
        self.counts: Counter[str] = Counter()
        self.console = _console(stderr=True)
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[bad]}"),
            console=self.console,
            transient=True,
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.quiet:
            self.bar.start()
            self.task = self.bar.add_task("Starting the libraries", total=self.total, bad="")
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal and not self.quiet:  # it prints a line even if it was never started
            self.bar.stop()

    def on_result(self, case: Case, observed: Observed) -> None:
        """Count one answer."""
        self.done += 1
        self.counts[observed.outcome] += 1
        if self.quiet:
            return
        if self.console.is_terminal:
            self.bar.update(self.task, completed=self.done, description=f"{case.layer} {case.producer} to {case.consumer}", bad=self._bad())
        elif self.total >= 100 and self.done * 10 // self.total != (self.done - 1) * 10 // self.total:
            self.console.print(Text(f"{self.done} of {self.total} cases; {self._bad()}"), soft_wrap=True)

    def _bad(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in self.counts.items() if name in BAD) or "none bad"


def show_summary(results: Results) -> None:
    """Print the environment, and how many cases of each route have each outcome."""
    environment = results.environment
    versions = {entry["distribution"]: entry["version"] for entry in environment["libraries"].values() if entry["version"]}
    _line()
    _line(
        f"interop {environment['interop']}, Python {environment['python']}, {environment['platform']}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
    )
    for name, entry in environment["libraries"].items():
        if entry["unavailable"]:
            _line(f"{name}: not run, {entry['unavailable']}")
    # An outcome a row: a column for each would not fit into 80 characters.
    table = Table(show_edge=False, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    by_route = results.summary["by_route"]
    table.add_column("")
    for key in by_route:
        table.add_column(key.replace("/", "\n"), justify="right")
    for name, outcome in OUTCOMES.items():
        if results.summary["outcomes"][name]:
            counts = (str(counts[name] or "") for counts in by_route.values())
            table.add_row(f"{outcome.symbol} {name}", *counts, style=STYLES[outcome.verdict])
    _line()
    _console().print(table)
    explained = Counter(one.id for record in results.records if is_bad(record) and (one := known(record, environment)))
    if explained:
        _line()
        _line(
            f"{_count(explained.total(), 'bad outcome')} explained by {_count(len(explained), 'known deviation')} of the libraries; `list` names them."
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def show_findings(found: Sequence[Finding]) -> None:
    """Print what a run found, the gravest kind first."""
    if not found:
        _line()
        _line("No findings: interop keeps its promises in these cases, and nothing differs from the known deviations.", "green")
        return
    for kind, heading in _HEADINGS.items():
        of_kind = [finding for finding in found if finding.kind == kind]
        if of_kind:
            _line()
            _line(f"{heading} ({len(of_kind)}):", "bold red")
            together = _together(of_kind)
            for first, *others in together[:SHOWN]:
                _line(f"- {first.about}{f', and {len(others)} more like it' if others else ''}")
                _line(f"    {first.text}")
            if len(together) > SHOWN:
                _line(f"  and {sum(map(len, together[SHOWN:]))} more; --json prints all")


def _together(found: Sequence[Finding]) -> list[list[Finding]]:
    """Return the findings, grouped where they report the same of the same two libraries, by the same route, about the same rule or state."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for finding in found:
        layer, *parts = finding.about.split("/")
        where = (*parts[:3], parts[-1]) if layer == "handoff" else parts[:4]
        groups.setdefault((layer, *where, finding.text), []).append(finding)
    return list(groups.values())


_HEADINGS = {
    "promise": "interop breaks a promise",
    "not-run": "Not run",
    "new": "Bad, and not among the known deviations",
    "healed": "Known deviations that have healed",
    "stale": "Known deviations that were not seen",
}


def show_one(record: Record, environment: Mapping[str, Any]) -> None:
    """Print one case: what came of it, which rule it is about, and what is known of it."""
    outcome = OUTCOMES[record.outcome]
    _line(record.case.id, "bold")
    _line(f"{outcome.symbol} {record.outcome}{f': {record.reason}' if record.reason else ''}", STYLES[outcome.verdict])
    _line(f"  {outcome.meaning}")
    for name in record.rules:
        rule = rules()[name]
        _line()
        _line(f"{rule.level.upper()} {rule.title} ({rule.source}, since {rule.since})")
        _line(f"  allowed: {', '.join(name for name in OUTCOMES if name in rule.allowed)}; this {_judged(rule, record.outcome)}")
        _line(fill(f"“{rule.clause}”", 100, initial_indent="  ", subsequent_indent="  "))
        _line(f"  {rule.link}")
    deviation = known(record, environment) if is_bad(record) else None
    if deviation:
        _line()
        _line(f"Known: {deviation.id} ({deviation.library} {deviation.versions})")
        _line(f"  {deviation.happens}")
        _line(f"  {deviation.link}")


def _judged(rule: Rule, outcome: str) -> str:
    if outcome in NEUTRAL:
        return "leaves it open"
    return "violates it" if rule.violated_by(outcome) else "fulfils it"


def show_differences(found: Sequence[Difference], old: Results, new: Results) -> None:
    """Print what differs between two runs: versions first, then cases."""
    for name in dict.fromkeys((*old.environment["libraries"], *new.environment["libraries"])):
        before, now = (results.environment["libraries"].get(name, {}).get("version") for results in (old, new))
        if before != now:
            _line(f"{name}: {before or 'not there'}, now {now or 'not there'}")
    counts = Counter(one.kind for one in found)
    _line("No outcome differs." if not found else ", ".join(f"{count} {kind}" for kind, count in counts.items()), "bold")
    for one in found[:SHOWN]:
        before, now = ("none" if record is None else record.outcome for record in (one.old, one.new))
        _line(f"- {one.case}: {before}, now {now}", "red" if one.kind == "worse" else "")
        if one.new is not None and one.new.reason:
            _line(f"    {one.new.reason}")
    if len(found) > SHOWN:
        _line(f"  and {len(found) - SHOWN} more; --json prints all")


def show_list(there: Mapping[str, Any]) -> None:
    """Print what there is, kind by kind."""
    for kind, entries in there.items():
        _line()
        _line(f"{kind} ({len(entries)})", "bold")
        if isinstance(entries, list):
            _line(f"  {', '.join(entries)}")
        else:
            for name, meaning in entries.items():
                _line(f"  {name}: {meaning}")
