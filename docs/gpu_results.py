"""The generated parts about a GPU: what `make gpu` has shown, from the committed results; what was not measured says so."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.report import nanoseconds
from benchmarks.table import gpu_results
from tools.results import read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["EVIDENCE", "NOT_MEASURED", "PARTS", "Evidence", "evidence"]

ROOT = Path(__file__).parent.parent
NOT_MEASURED = "not measured"


class Evidence(NamedTuple):
    """What a test on a GPU shows: a statement, the test, and the figures that it records, each with its words."""

    shows: str
    test: str
    figures: Mapping[str, str]


_TRACE, _FILE, _LIFE = "tests/gpu/test_trace.py", "tests/gpu/test_evidence.py", "tests/gpu/test_lifetime.py"
EVIDENCE = (
    Evidence(
        "Calls of CUDA's runtime in a handoff, and what the device did: on one stream nothing, on two an event and a wait",
        f"{_TRACE}::test_a_handoff_makes_no_call_but_for_order",
        {"calls_of_a_handoff": "calls", "handoffs_count": "handoffs"},
    ),
    Evidence("torch's synchronisation debug mode finds nothing that waits", f"{_TRACE}::test_torch_finds_nothing_that_waits", {}),
    Evidence(
        "Host time of a handoff while the producer is busy",
        f"{_FILE}::test_the_host_does_not_wait_for_a_busy_producer",
        {"host_time_median_ns": "median", "host_time_99_percent_ns": "99 %", "handoffs_count": "handoffs", "delay_ns": "busy for"},
    ),
    Evidence(
        "Device memory that a handoff to CuPy and back takes",
        f"{_FILE}::test_a_handoff_takes_no_memory",
        {
            "handed_over_bytes": "handed over",
            "device_memory_more_bytes": "more in use",
            "device_memory_of_copy_bytes": "a copy of an eighth",
        },
    ),
    Evidence(
        "Device memory that CuPy takes while torch holds as much unused",
        f"{_FILE}::test_cupy_takes_memory_that_torch_holds_unused",
        {
            "held_unused_by_torch_bytes": "held",
            "device_memory_more_in_torch_pool_bytes": "more in `torch_pool()`",
            "device_memory_more_without_bytes": "more without",
        },
    ),
    Evidence(
        "Every dtype in every layout is shared both ways",
        f"{_FILE}::test_every_dtype_in_every_layout_is_shared",
        {"dtypes_count": "dtypes", "layouts_count": "layouts", "shared_both_ways_count": "shared"},
    ),
    Evidence(
        "A graph across two streams that the handoffs join has the right values at each replay",
        f"{_FILE}::test_a_graph_across_two_streams_is_joined_by_the_handoffs",
        {"replays_count": "replays", "capture_and_replays_ns": "all in"},
    ),
    Evidence(
        "Memory that the source releases stays valid for the consumer",
        f"{_LIFE}::test_cupy_keeps_memory_that_its_source_lets_go_of",
        {},
    ),
)
"""The evidence list, in the order of the table."""


def evidence() -> str:
    """Return a table for each committed run on a GPU, or one that says that nothing is measured."""
    found = [read(path, partial=True) for path in sorted((ROOT / "conformance" / "results").glob("gpu-*.json"))]
    return "\n\n".join(map(of_run, found)) or of_run(None)


def of_run(document: dict[str, Any] | None) -> str:
    """Return the table of a run; None for no run at all."""
    rows = ["| What | Case | Figures |", "| --- | --- | --- |"]
    rows += [row for one in EVIDENCE for row in _rows(one, document["tests"] if document else ())]
    return "\n".join([*([_origin(document), ""] if document else []), *rows])


def _rows(one: Evidence, tests: Sequence[Mapping[str, Any]]) -> list[str]:
    found = [record for record in tests if record["nodeid"].partition("[")[0] == one.test]
    if found and not one.figures:
        passed = sum(record["outcome"] == "passed" for record in found)
        return [f"| {one.shows} | | {passed} of {len(found)} cases passed |"]
    cases = [(record["nodeid"].partition("[")[2].rstrip("]"), _said(one, record)) for record in found] or [("", NOT_MEASURED)]
    return [f"| {one.shows} | {case.replace('-', ', ')} | {said} |" for case, said in cases]


def _said(one: Evidence, record: Mapping[str, Any]) -> str:
    if record["outcome"] != "passed":
        reason = str(record["reason"] or "").replace("|", r"\|")
        return f"{NOT_MEASURED}: {reason}" if record["outcome"] in {"not-run", "skipped"} else f"**{record['outcome']}**: {reason}"
    figures = record.get("figures", {})
    return ", ".join(f"{words} {_number(name, figures[name])}" for name, words in one.figures.items() if name in figures) or "no figures"


def _number(name: str, value: Any) -> str:
    if name.endswith("_ns"):
        return nanoseconds(value)
    if name.endswith("_bytes"):
        return (
            f"{value / 2**30:.2f} GiB" if abs(value) >= 2**30 else f"{value / 2**20:.1f} MiB" if abs(value) >= 2**20 else f"{value} bytes"
        )
    return str(value)


def _origin(document: Mapping[str, Any]) -> str:
    facts = document["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items())
    counts = document.get("footer") or {}
    text = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count and outcome != "total")
    ended = text or f"the run was stopped: {document['stopped']}"
    return f"{facts['gpu']}, driver {facts.get('driver')}, Python {facts.get('python')}, {versions}. Tests: {ended}."


def speed() -> str:
    """Return the tables of times and rates, or a sentence that says that there are none."""
    return gpu_results(ROOT / "benchmarks" / "results")


def limits() -> str:
    """Return the tests that fail on the emulated device and say nothing about a GPU, each with its reason."""
    listed = tomllib.loads((ROOT / "tests" / "emulated" / "limits.toml").read_text(encoding="utf-8"))["limit"]
    return "\n".join(f"- `{test.rpartition('::')[2]}`: {limit['reason']}" for limit in listed for test in limit["tests"])


PARTS: dict[str, Callable[[], str]] = {"gpu_evidence": evidence, "gpu_speed": speed, "gpu_limits": limits}
