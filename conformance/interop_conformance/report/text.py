"""Markdown: a summary of each environment, a comparison if there are several, and one compact table for a README."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from interop_conformance.report.verdicts import judge, labels, nothing_known, selection, versions
from interop_conformance.results.outcomes import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from interop_conformance.protocol.rules import Rule
    from interop_conformance.report.verdicts import Known, Verdict
    from interop_conformance.results.files import Results

__all__ = ["markdown", "readme_table"]

ROUTES = ("dlpack", "native", "interop")


def markdown(results_list: Sequence[Results], rules: Mapping[str, Rule], known: Known = nothing_known) -> str:
    """Return the summary of one or several runs, each under a heading of its own."""
    judged = [judge(results, rules, known) for results in results_list]
    names = labels(results_list)
    parts = [_comparison(results_list, judged, names)] if len(results_list) > 1 else []
    for results, verdicts, name in zip(results_list, judged, names, strict=True):
        parts += [f"## {_plain(name)}", _environment(results), _totals(results, verdicts)]
        parts += [part for route in ROUTES if (part := _matrix(results, verdicts, route))]
    return "\n\n".join(parts) + "\n"


def readme_table(results: Results) -> str:
    """Return the handoff layer in one table: a row a route, a column an outcome; neutral outcomes come last and count for nothing."""
    counts = {route: Counter[str]() for route in ROUTES}
    for record in results.records:
        if record.case.layer == "handoff":
            counts.setdefault(record.case.route, Counter())[record.outcome] += 1
    head = ["route", *(f"{outcome.symbol} {name}" for name, outcome in OUTCOMES.items())]
    return _table(
        head,
        (
            [f"`{route}`", *(_number(found[name], bad=OUTCOMES[name].verdict == "bad") for name in OUTCOMES)]
            for route, found in counts.items()
        ),
    )


def _environment(results: Results) -> str:
    listed = ", ".join(f"{_plain(name)} {_plain(version)}" for name, version in versions(results.environment))
    limits = selection(results.environment)
    return f"interop {_plain(results.environment['interop'])}; {listed}{f'; only a part: {_plain(limits)}' if limits else ''}"


def _totals(results: Results, verdicts: Sequence[Verdict]) -> str:
    counts: dict[str, Counter[str]] = {}
    for record, verdict in zip(results.records, verdicts, strict=True):
        row = counts.setdefault(f"{record.case.layer}: {record.case.route}", Counter())
        row.update((record.outcome, f"mark {verdict.mark}"))
    head = ["layer: route", "bad", "of these known", *(f"{outcome.symbol} {name}" for name, outcome in OUTCOMES.items())]
    rows = (
        [_plain(name), _number(_bad(row), bad=True), _number(row["mark known"]), *(_number(row[outcome]) for outcome in OUTCOMES)]
        for name, row in counts.items()
    )
    return _table(head, rows)


def _bad(row: Mapping[str, int]) -> int:
    return row["mark bad"] + row["mark known"]


def _matrix(results: Results, verdicts: Sequence[Verdict], route: str) -> str:
    """Return producer x consumer of one route: good and bad, without the neutral ones."""
    cells: dict[tuple[str, str], Counter[str]] = {}
    for record, verdict in zip(results.records, verdicts, strict=True):
        if (record.case.layer, record.case.route) == ("handoff", route):
            mark = "bad" if verdict.mark == "known" else verdict.mark
            cells.setdefault((record.case.producer, record.case.consumer), Counter())[mark] += 1
    if not cells:
        return ""
    producers, consumers = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True))
    rows = ([_plain(producer), *(_good_and_bad(cells.get((producer, consumer))) for consumer in consumers)] for producer in producers)
    return f"### Handoff, route `{route}`: good / bad\n\n{_table(['from ↓ to →', *map(_plain, consumers)], rows)}"


def _good_and_bad(cell: Mapping[str, int] | None) -> str:
    return f"{cell['good']:,} / {_number(cell['bad'], bad=True)}" if cell else ""


def _comparison(results_list: Sequence[Results], judged: Sequence[Sequence[Verdict]], names: Sequence[str]) -> str:
    """Return bad of all cases, for each layer and route, with a column for each environment."""
    rows: dict[str, dict[int, Counter[str]]] = {}
    for number, (results, verdicts) in enumerate(zip(results_list, judged, strict=True)):
        for record, verdict in zip(results.records, verdicts, strict=True):
            cell = rows.setdefault(f"{record.case.layer}: {record.case.route}", {}).setdefault(number, Counter())
            cell.update(("all", f"mark {verdict.mark}"))
    shown = ([_plain(row), *(_bad_of_all(cells.get(number)) for number in range(len(names)))] for row, cells in rows.items())
    return f"## Environments: bad of all\n\n{_table(['layer: route', *map(_plain, names)], shown)}"


def _bad_of_all(cell: Mapping[str, int] | None) -> str:
    return f"{_number(_bad(cell), bad=True)} of {cell['all']:,}" if cell else ""


def _number(count: int, *, bad: bool = False) -> str:
    return f"**{count:,}**" if bad and count else f"{count:,}"


_SIGNS = re.compile(r"[\\|`*_\[\]~!#]")


def _plain(text: str) -> str:
    """Return a text that Markdown and HTML take as text, and neither as a link nor as an image."""
    return _SIGNS.sub(r"\\\g<0>", text.replace("&", "&amp;").replace("<", "&lt;")).replace("\n", " ")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(_lines(head, rows))


def _lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| --- |{' ---: |' * (len(head) - 1)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
