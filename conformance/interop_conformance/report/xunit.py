"""JUnit XML: a test case a record, so that any CI shows the findings.

Bad is a failure. Bad and known is skipped with the deviation's id: it is no news. Neutral is skipped with its reason, because it
never counts as good.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, tostring

from interop_conformance.report.verdicts import command, judge, labels, nothing_known, versions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from interop_conformance.protocol.rules import Rule
    from interop_conformance.report.verdicts import Known, Verdict
    from interop_conformance.results.files import Results
    from interop_conformance.results.records import Record

__all__ = ["junit"]

_FORBIDDEN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to say, not even escaped; reasons are other people's words and may have it."""


def junit(results_list: Sequence[Results], rules: Mapping[str, Rule], known: Known = nothing_known) -> str:
    """Return JUnit XML with a suite for each environment, layer and route."""
    top = Element("testsuites", name="interop conformance")
    for results, name in zip(results_list, labels(results_list), strict=True):
        _suites(top, results, name, rules, known)
    return tostring(top, encoding="unicode", xml_declaration=False) + "\n"


def _suites(top: Element, results: Results, name: str, rules: Mapping[str, Rule], known: Known) -> None:
    suites: dict[tuple[str, str], Element] = {}
    counts: dict[tuple[str, str], Counter[str]] = {}
    for record, verdict in zip(results.records, judge(results, rules, known), strict=True):
        part = record.case[:2]
        if part not in suites:
            suites[part], counts[part] = _suite(top, f"{name}: {'/'.join(part)}", results), Counter()
        _case(suites[part], record, verdict)
        counts[part][verdict.mark] += 1
    for part, suite in suites.items():
        counted = counts[part]
        skipped = counted["known"] + counted["neutral"]
        for key, value in {"tests": counted.total(), "failures": counted["bad"], "errors": 0, "skipped": skipped}.items():
            suite.set(key, str(value))


def _suite(top: Element, name: str, results: Results) -> Element:
    suite = SubElement(top, "testsuite", name=_clean(name))
    properties = SubElement(suite, "properties")
    for key, value in versions(results.environment):
        SubElement(properties, "property", name=_clean(key), value=_clean(value))
    return suite


def _case(suite: Element, record: Record, verdict: Verdict) -> None:
    case = record.case
    found = SubElement(suite, "testcase", classname=_clean(".".join(case[:4])), name=_clean(case.id))
    # A line a case, so that two files can be compared.
    found.tail = "\n"
    says = f"{record.outcome}: {record.reason}" if record.reason else record.outcome
    if verdict.mark == "bad":
        failure = SubElement(found, "failure", type=record.outcome, message=_clean(says))
        failure.text = _clean("\n".join([command(case), *(f"rule {rule}" for rule in record.rules)]))
    elif verdict.deviation is not None:
        SubElement(found, "skipped", message=_clean(f"known deviation {verdict.deviation.id}: {says} ({verdict.deviation.link})"))
    elif verdict.mark == "neutral":
        SubElement(found, "skipped", message=_clean(says))


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
