"""The tables of what a GPU has shown: each row is a test that there is, with figures that it records; what was not measured says so."""

import re

import pytest

from docs.generate import ROOT
from docs.gpu_results import EVIDENCE, NOT_MEASURED, Evidence, of_run

RECORDS = re.compile(r'record_property\("(\w+)"')

FACTS = {"gpu": "Test Device 9", "driver": "999.1", "python": "3.12.1", "versions": {"torch": "2.11.0"}}
ONE = Evidence("It is quick", "tests/test_x.py::test_one", {"median_ns": "median", "more_bytes": "more", "handoffs_count": "handoffs"})
WITHOUT = Evidence("It holds", "tests/test_x.py::test_two", {})


@pytest.mark.parametrize("one", EVIDENCE, ids=lambda one: one.test.rpartition("::")[2])
def test_each_row_is_a_test_on_a_gpu_that_records_these_figures(one):
    path, _, name = one.test.partition("::")
    text = (ROOT / path).read_text()
    function = re.search(rf"^def {name}\(.*?(?=^\S(?!\)))", text, re.DOTALL | re.MULTILINE)
    assert function is not None
    assert "pytest.mark" + ".gpu" in text  # in two parts: this file has none, and `make gpu` looks for the words
    assert set(one.figures) <= set(RECORDS.findall(function[0]))


def test_without_a_run_nothing_is_measured():
    table = of_run(None)
    assert table.count(NOT_MEASURED) == len(EVIDENCE)
    assert not re.search(r"\d (ns|µs|ms|GiB)", table)


def record(name, outcome="passed", reason=None, **figures):
    return {"nodeid": f"tests/test_x.py::{name}", "outcome": outcome, "duration": 0.1, "reason": reason, "figures": figures}


def rows(monkeypatch, *records, **end):
    monkeypatch.setattr("docs.gpu_results.EVIDENCE", (ONE, WITHOUT))
    return of_run(
        {"environment": FACTS, "tests": list(records)} | (end or {"footer": {"passed": len(records), "total": len(records)}})
    ).splitlines()


def test_figures_are_shown_in_their_units(monkeypatch):
    head, *_, first, second, other = rows(
        monkeypatch,
        record("test_one[a-1]", median_ns=2300, more_bytes=3 << 30, handoffs_count=500),
        record("test_one[b-2]", median_ns=640, more_bytes=5 << 20),
        record("test_two[x]"),
    )
    assert head == "Test Device 9, driver 999.1, Python 3.12.1, torch 2.11.0. Tests: 3 passed."
    assert first == "| It is quick | a, 1 | median 2.3 µs, more 3.00 GiB, handoffs 500 |"
    assert second == "| It is quick | b, 2 | median 640 ns, more 5.0 MiB |"
    assert other == "| It holds | | 1 of 1 cases passed |"


def test_what_did_not_pass_says_so(monkeypatch):
    head, *_, first, second, third, other = rows(
        monkeypatch,
        record("test_one[a]", "failed", "1 | 2"),
        record("test_one[b]", "not-run", "not reached: stopped after 9 seconds"),
        record("test_one[c]", "crash", "the process ended here"),
        record("test_two[x]", "failed", "no"),
        stopped="stopped after 9 seconds",
    )
    assert head.endswith("Tests: the run was stopped: stopped after 9 seconds.")
    assert first == r"| It is quick | a | **failed**: 1 \| 2 |"
    assert second == "| It is quick | b | not measured: not reached: stopped after 9 seconds |"
    assert third == "| It is quick | c | **crash**: the process ended here |"
    assert other == "| It holds | | 0 of 1 cases passed |"
