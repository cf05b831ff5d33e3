"""The page: one HTML file with everything in it, without external requests.

The tables are written here, so that they are there without a script; the script counts them anew under filters, and opens cells.
The policy in the head lets just this style and this script run, by their hashes, and no request leave.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from interop_conformance.protocol.rules import ROLES
from interop_conformance.report.columns import pack, web
from interop_conformance.report.counts import CAPSULE, bar, chips, tally
from interop_conformance.report.verdicts import judge, labels, nothing_known, selection, versions
from interop_conformance.results.outcomes import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from interop_conformance.protocol.rules import Rule
    from interop_conformance.report.counts import Tally
    from interop_conformance.report.verdicts import Known, Verdict
    from interop_conformance.results.files import Results
    from interop_conformance.results.records import Record

__all__ = ["html"]

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("data.js", "view.js", "cases.js", "main.js")
LAYERS = ("handoff", "protocol", "policy")
ROUTES = {
    "dlpack": "The consumer's own from_dlpack, with nothing around it.",
    "native": "The idiom that people write for this pair, as numpy.asarray(tensor).",
    "interop": "interop's convert with its default policy.",
}
LAYER_TITLES = {"handoff": "handoff", "protocol": "protocol rules", "policy": "policy"}
ROLE_TITLES = {
    "producer": "Producers: what a library hands out",
    "consumer": "Consumers: what a library takes, also from crafted capsules",
    "exchange": "The C exchange API, held against __dlpack__",
}


class Matrix(NamedTuple):
    """A table producer x consumer, of one layer and route."""

    layer: str
    route: str
    producers: list[str]
    consumers: list[str]


class Rules(NamedTuple):
    """A table of the rules of one role x libraries."""

    role: str
    title: str
    rules: list[Rule]
    libraries: list[str]


class Run(NamedTuple):
    """One environment, with what its tables show."""

    label: str
    anchor: str
    environment: Mapping[str, Any]
    versions: list[tuple[str, str]]
    selection: str
    tally: dict[str, Tally]
    totals: list[tuple[str, str]]
    matrices: list[Matrix]
    protocol: list[Rules]
    permissions: list[str]

    def counts(self, key: str) -> Tally:
        """Return the counts of a cell; none for one that no record falls in."""
        return self.tally.get(key, Counter())

    @staticmethod
    def marked(counts: Tally, *marks: str) -> int:
        """Return how many records have one of the marks."""
        return sum(count for (_, mark), count in counts.items() if mark in marks)

    @staticmethod
    def came_to(counts: Tally, outcome: str) -> int:
        """Return how many records have the outcome."""
        return sum(count for (name, _), count in counts.items() if name == outcome)


def html(results_list: Sequence[Results], rules: Mapping[str, Rule], known: Known = nothing_known) -> str:
    """Return the page about one or several runs.

    Parameters
    ----------
    results_list : sequence of Results
        One per environment; the page shows the first, and a choice.
    rules : mapping of str to Rule
        `interop_conformance.protocol.rules.rules()`.
    known : callable
        Returns the known deviation that explains a bad record in an environment, or None: `interop_conformance.results.deviations.known`.
    """
    verdicts = [judge(results, rules, known) for results in results_list]
    named = zip(results_list, verdicts, labels(results_list), strict=True)
    runs = [_run(results, judged, name, f"env{number}", rules) for number, (results, judged, name) in enumerate(named, 1)]
    style, script = _asset("page.css"), _script()
    return (
        _templates()
        .get_template("page.html.jinja")
        .render(
            runs=runs,
            outcomes=OUTCOMES,
            routes=ROUTES,
            layer_titles=LAYER_TITLES,
            # Both are this package's own files; nothing of the results is in them.
            style=Markup(style),  # noqa: S704
            script=Markup(script),  # noqa: S704
            policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; base-uri 'none'; form-action 'none'",
            data=pack(results_list, verdicts, rules),
        )
    )


def _run(results: Results, verdicts: Sequence[Verdict], name: str, anchor: str, rules: Mapping[str, Rule]) -> Run:
    records = results.records
    found = tally(records, verdicts)
    totals = sorted({(record.case.layer, record.case.route) for record in records}, key=_layer_order)
    return Run(
        label=name,
        anchor=anchor,
        environment=results.environment,
        versions=list(versions(results.environment)),
        selection=selection(results.environment),
        tally=found,
        totals=totals,
        matrices=[_matrix(records, layer, route) for layer, route in totals if layer != "protocol"],
        protocol=_protocol(records, rules),
        permissions=[key.removeprefix("token:") for key in found if key.startswith("token:")],
    )


def _layer_order(key: tuple[str, str]) -> tuple[int, int, str]:
    layer, route = key
    return LAYERS.index(layer), list(ROUTES).index(route) if route in ROUTES else len(ROUTES), route


def _matrix(records: Iterable[Record], layer: str, route: str) -> Matrix:
    cases = [record.case for record in records if (record.case.layer, record.case.route) == (layer, route)]
    return Matrix(layer, route, list(dict.fromkeys(case.producer for case in cases)), list(dict.fromkeys(case.consumer for case in cases)))


def _protocol(records: Iterable[Record], rules: Mapping[str, Rule]) -> list[Rules]:
    cases = [record.case for record in records if record.case.layer == "protocol"]
    asked = {case.case for case in cases}
    tables = []
    for role in ROLES:
        listed = [rule for rule in rules.values() if rule.role == role and rule.id in asked]
        mine = {rule.id for rule in listed}
        libraries = dict.fromkeys(case.consumer if case.producer == CAPSULE else case.producer for case in cases if case.case in mine)
        tables += [Rules(role, ROLE_TITLES[role], listed, list(libraries))] * bool(listed)
    return tables


@functools.cache
def _templates() -> Environment:
    found = Environment(autoescape=True, undefined=StrictUndefined, loader=FileSystemLoader(ASSETS), trim_blocks=True, lstrip_blocks=True)
    found.globals.update(chips=chips, bar=bar, web=web)
    return found


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _script() -> str:
    """Return the scripts as one, with a scope of its own."""
    return '"use strict";\n(() => {\n' + "".join(_asset(name) for name in SCRIPTS) + "})();\n"


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
