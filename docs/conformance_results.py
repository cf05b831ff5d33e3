"""The generated parts that come from the committed results: the matrix in numbers, the findings, and the page."""

from __future__ import annotations

import base64
import functools
import gzip
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from interop_conformance.policy.facts import HOLDS
from interop_conformance.protocol.rules import rules
from interop_conformance.report import html, label, readme_table
from interop_conformance.results.deviations import deviations, is_bad, known
from interop_conformance.results.files import read
from interop_conformance.results.outcomes import BAD, NEUTRAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from interop_conformance.results.deviations import Deviation
    from interop_conformance.results.files import Results

__all__ = ["PAGE", "PARTS", "page", "same_page"]

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "conformance.html"
_DATA = re.compile(r'(<script type="application/octet-stream" id="data">)([^<]*)')


_TITLES = [holds.title for name, holds in HOLDS.items() if name != "dlpack"]
_ENDS = f"{', '.join(_TITLES[:-1])} and {_TITLES[-1]}"
"""The libraries that interop converts to."""


@functools.cache
def committed() -> tuple[Results, ...]:
    """Return every committed run, the widest first."""
    found = [read(path) for path in sorted((ROOT / "conformance" / "results").glob("*.json.gz"))]
    return tuple(sorted(found, key=lambda results: -len(results.records)))


def matrix() -> str:
    """Return the handoffs of the widest run, in numbers."""
    results = committed()[0]
    handoffs = [record for record in results.records if record.case.layer == "handoff"]
    bad = Counter(record.case.route for record in handoffs if record.outcome in BAD and record.outcome != "unexplained")
    violated = {record.case.case for record in results.records if record.case.layer == "protocol" and is_bad(record)}
    policies = sum(record.case.layer == "policy" for record in results.records)
    head = f"{len(handoffs)} handoffs ({label(results.environment)}): wrong, unsafe or dead by DLPack's own verbs {bad['dlpack']}, by the usual hand-written code {bad['native']}, by interop **{bad['interop']}**, whose route ends in {_ENDS}."
    judged = {record.case.case for record in results.records if record.case.layer == "protocol" and record.outcome not in NEUTRAL}
    rest = f"Of {len(rules())} rules of the protocol {len(judged)} could be checked here (the others need a GPU), and {len(violated)} are violated by some library; in {policies} cases of the policy layer interop's plan is what the law says."
    return f"{head}\n\n{readme_table(results).rstrip()}\n\n{rest}"


def findings() -> str:
    """Return the known deviations, one row each, by library."""
    # The cases of the environment that shows it most: adding environments up would count the same case twice.
    explained: Counter[str] = Counter()
    for results in committed():
        explained |= Counter(one.id for record in results.records if is_bad(record) and (one := known(record, results.environment)))
    libraries = dict.fromkeys(sorted(one.library for one in deviations()))
    return "\n\n".join(_of_library(library, explained) for library in libraries)


def _of_library(library: str, explained: Counter[str]) -> str:
    rows = [_row(one, explained[one.id]) for one in deviations() if one.library == library]
    return "\n".join(
        [f"## {library}", "", "| finding | versions | what happens | cases | upstream |", "| --- | --- | --- | --- | --- |", *rows]
    )


def _row(one: Deviation, cases: int) -> str:
    happens = one.happens.replace("|", "\\|")
    versions = ", ".join(sorted(str(one.versions).split(","), reverse=True))
    return f"| `{one.id}` | {versions} | {one.outcome}: {happens} | {cases} | [{_short(one.link)}]({one.link}) |"


def _short(link: str) -> str:
    """Return a link as people write it: repository#number, or the file."""
    thread = re.fullmatch(r"https://github.com/[^/]+/([^/]+)/(?:issues|pull)/(\d+).*", link)
    if thread:
        return f"{thread[1]}#{thread[2]}"
    return link.partition("#")[0].rpartition("/")[2] or link


def page() -> str:
    """Return the page about every committed run."""
    return html(committed(), rules(), known)


def same_page(one: str, other: str) -> bool:
    """Return whether two pages say the same: what is in the data counts, not how this machine's zlib packs it."""
    return _opened(one) == _opened(other)


def _opened(text: str) -> tuple[str, bytes]:
    found = _DATA.search(text)
    return (_DATA.sub(r"\1", text), gzip.decompress(base64.b64decode(found[2]))) if found else (text, b"")


PARTS: dict[str, Callable[[], str]] = {"matrix": matrix, "findings": findings}
