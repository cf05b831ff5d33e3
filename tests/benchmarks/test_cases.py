"""The host's benchmarks, run once, their rows and reports; nothing here depends on how fast anything is."""

import json
import os
import re
import time
import weakref
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from benchmarks import gpu
from benchmarks.case import Case, Reference, names_in
from benchmarks.cases import CASES, WITHOUT_EXTENSION
from benchmarks.environment import environment
from benchmarks.imports import BUDGET_MS, LOADED, TIME, import_rows, loaded
from benchmarks.names import HOST
from benchmarks.report import FEWEST, SCHEMA, around, document, read, text, verdict, write
from benchmarks.run import arguments, chosen, finish
from benchmarks.runner import measure
from benchmarks.table import main as table
from benchmarks.table import markdown
from benchmarks.timing import PATIENCE, Settings
from benchmarks.without_extension import rows_from_subprocess

ONCE = Settings(rounds=2, turn=0.0, launches=2)
RESULTS = Path(__file__).parent.parent.parent / "benchmarks" / "results"
KEYS = {"id", "title", "note", "call", "reference", "measure", "value", "low", "high"} | {
    "call_ns",
    "reference_ns",
    "budget",
    "or_ns",
    "status",
    "reason",
    "rounds",
    "bytes",
}
FACTS = {"python": "3.11.7", "cpu": "Abacus", "quick_path": "compiled", "versions": {"interop": "0", "numpy": "2.4.6"}}


def ignore(title):
    return None


# Cases and rows.


def makers(**made):
    return {name: (lambda value=value: value) for name, value in made.items()}


def missing():
    raise ModuleNotFoundError("No module named 'peer'", name="peer")


def test_a_case_becomes_one_row_per_reference():
    case = Case("c", "A fact", "f()", (Reference("g()", budget=1e9), Reference("h()", budget=0.0), Reference("g()")), note="small")
    rows = measure([case], makers(f=int, g=int, h=int), ONCE, ignore)
    assert [row["status"] for row in rows] == ["within", "over", "information"]
    assert all(set(row) == KEYS for row in rows)
    assert [(row["id"], row["call"], row["note"]) for row in rows] == [("c", "f()", "small")] * 3
    assert [(row["rounds"], row["bytes"]) for row in rows] == [(2, None)] * 3


def test_a_case_may_ask_for_fewer_rounds_and_says_what_it_moves():
    case = Case("c", "A fact", "f()", (Reference("g()"),), bytes=64, least=3)
    (row,) = measure([case], makers(f=int, g=int), Settings(rounds=9, turn=0.0, launches=0, seconds=0.0), ignore)
    assert (row["rounds"], row["bytes"]) == (3, 64)


def test_a_missing_peer_costs_only_its_own_row():
    case = Case("c", "A fact", "f()", (Reference("peer.g()"), Reference("g()")))
    first, second = measure([case], makers(f=int, g=int) | {"peer": missing}, ONCE, ignore)
    assert (first["status"], first["reason"], first["value"]) == ("not-run", "peer is not installed", None)
    assert second["status"] == "information"


def test_a_case_on_a_missing_peer_is_not_run():
    case = Case("c", "A fact", "f(j)", (Reference("g()"), Reference("h()")))
    rows = measure([case], makers(f=int, g=int, h=int) | {"j": missing}, ONCE, ignore)
    assert [row["status"] for row in rows] == ["not-run"] * 2


def test_a_slow_first_call_does_not_shorten_the_turns():
    calls = []
    case = Case("c", "A fact", "f()", (Reference("g()"),))
    slow = {"f": lambda: calls.append(time.sleep(0 if calls else PATIENCE)), "g": int}
    measure([case], makers(**slow), Settings(rounds=2, turn=0.005, launches=0), ignore)
    assert len(calls) > 100


def fails():
    raise OSError(5, "no such thing", "/home/me/data/x.bin")


def fails_late():
    fails_late.calls += 1
    return fails() if fails_late.calls > 3 else None


REASON = "OSError: [Errno 5] no such thing: '.../x.bin'"


def test_a_call_that_raises_costs_its_case_only(capsys):
    first, second = Case("c", "A fact", "f()", (Reference("g()"), Reference("h()"))), Case("d", "A fact", "g()", (Reference("h()"),))
    rows = measure([first, second], makers(f=fails, g=int, h=int), ONCE, ignore)
    assert [(row["status"], row["reason"]) for row in rows] == [("failed", REASON)] * 2 + [("information", None)]
    assert "in fails" in capsys.readouterr().err


def test_a_reference_that_raises_costs_its_row_only():
    case = Case("c", "A fact", "f()", (Reference("h()"), Reference("g()"), Reference("h()")))
    rows = measure([case], makers(f=int, g=fails, h=int), ONCE, ignore)
    assert [(row["status"], row["reason"]) for row in rows] == [("information", None), ("failed", REASON), ("information", None)]
    assert [row["rounds"] for row in rows] == [2, None, 2]


def test_what_raises_in_the_middle_costs_its_case():
    fails_late.calls = 0
    rows = measure([Case("c", "A fact", "f()", (Reference("g()"),))], makers(f=int, g=fails_late), ONCE, ignore)
    assert [(row["status"], row["reason"]) for row in rows] == [("failed", REASON)]


@pytest.mark.parametrize(("name", "failed"), [("f", 2), ("g", 1)])
def test_what_cannot_be_made_fails(name, failed):
    case = Case("c", "A fact", "f()", (Reference("g()"), Reference("h()")))
    rows = measure([case], makers(f=int, g=int, h=int) | {name: fails}, ONCE, ignore)
    assert [row["status"] for row in rows].count("failed") == failed


def test_a_module_that_a_statement_misses_is_a_failure():
    rows = measure([Case("c", "A fact", "f()", (Reference("g()"),))], makers(f=missing, g=int), ONCE, ignore)
    assert [row["status"] for row in rows] == ["failed"]


@pytest.mark.parametrize("call", [int, fails])
def test_what_a_case_has_made_is_dropped_after_it(call):
    class Large:
        pass

    made = []
    names = makers(f=call, g=int) | {"large": lambda: made.append(weakref.ref(big := Large())) or big}
    seen = []
    cases = [Case("c", "A fact", "f()", (Reference("(g(), large)"),), drain="large"), Case("d", "A fact", "g()", (Reference("g()"),))]
    measure(cases, names, ONCE, lambda title: seen.append([ref() for ref in made]))
    assert seen == [[], [None]]


def test_scope_tail_and_settle_run_where_they_belong():
    seen = []
    names = {name: (lambda name=name: seen.append(name)) for name in ("call", "other", "wait", "drain")}
    scope = MagicMock()
    scope.__enter__.side_effect = lambda *_: seen.append("enter")
    scope.__exit__.side_effect = lambda *_: seen.append("exit")
    case = Case("c", "A fact", "call()", (Reference("other()"),), scope="scope", tail="wait()", drain="drain()")
    measure([case], makers(scope=scope, **names), ONCE, ignore)
    assert (seen[0], seen[-1]) == ("enter", "exit")
    assert seen[-7:-1] == ["other", "wait", "drain", "call", "wait", "drain"]


ALL = [*CASES, *WITHOUT_EXTENSION, *gpu.CASES]


def test_ids_are_unique():
    ids = [LOADED.id, TIME.id, *(case.id for case in ALL)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_every_name_in_a_statement_has_a_maker(case):
    known = gpu.DEVICE if case in gpu.CASES else HOST
    assert set(names_in(*case.statements, *case.setting)) <= set(known)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_case_on_the_host_can_be_measured(case):
    rows = measure([case], HOST, ONCE, ignore)
    assert [row["reason"] for row in rows if row["status"] in {"not-run", "failed"}] == []


@pytest.mark.parametrize(
    ("one_is_enough", "budgets", "statuses"),
    [
        (False, (1e9, 1e-9), ["within", "over"]),
        (True, (1e9, 1e-9), ["within", "information"]),
        (True, (1e-9, 1e9), ["information", "within"]),
        (True, (1e-9, 1e-9), ["over", "over"]),
        (True, (1e-9, None), ["over", "information"]),
    ],
)
def test_one_budget_may_be_enough(one_is_enough, budgets, statuses):
    references = tuple(Reference(name, budget=budget) for name, budget in zip(("g(1)", "h(1)"), budgets, strict=True))
    rows = measure([Case("x", "X", "f(1)", references, one_is_enough=one_is_enough)], makers(f=int, g=int, h=int), ONCE, ignore)
    assert [row["status"] for row in rows] == statuses


def test_without_the_extension_the_twin_is_measured():
    rows = rows_from_subprocess(quick=True)
    assert {row["id"] for row in rows} == {case.id for case in WITHOUT_EXTENSION}
    assert {row["status"] for row in rows} == {"information"}


# The import.


def test_the_import_is_a_difference_of_neighbours():
    drift = iter(range(100))

    def launch(source):
        return next(drift) + (0.025 if source == "import interop" else 0.0)

    _, row = import_rows(Settings(rounds=0, turn=0.0, launches=4), launch, list)
    assert (row["value"], row["measure"], row["budget"], row["status"]) == (1025.0, "ms more", BUDGET_MS, "over")


@pytest.mark.parametrize(("more", "expected"), [(0.040, "within"), (0.041, "over")])
def test_the_budget_of_the_import(more, expected):
    _, row = import_rows(ONCE, lambda source: 0.5 + (more if source == "import interop" else 0.0), list)
    assert row["status"] == expected


@pytest.mark.parametrize(("found", "expected"), [([], "within"), (["numpy"], "over")])
def test_a_loaded_array_library_is_over_the_budget(found, expected):
    row, _ = import_rows(ONCE, lambda source: 0.0, lambda: found)
    assert (row["status"], row["value"], row["reason"]) == (expected, len(found), ", ".join(found) or None)


def test_the_look_at_what_is_loaded_sees_an_array_library():
    assert loaded("import numpy") == ["numpy"]
    assert loaded() == []


# Reports.


def rows():
    case = Case("c", "A fact", "f(a | b)", (Reference("g()", budget=1e9), Reference("h()")))
    return measure([case], makers(f=bool, g=bool, h=bool, a=1, b=2), ONCE, ignore)


def test_the_verdict_counts_what_has_a_budget():
    good, info = rows()
    over, skipped = good | {"status": "over"}, good | {"status": "not-run"}
    assert verdict(document([good, info], FACTS)) == 0
    assert verdict(document([good, over], FACTS)) == 1
    assert verdict(document([good, skipped], FACTS)) == 1
    assert verdict(document([good, info | {"status": "not-run"}], FACTS)) == 0
    assert verdict(document([good, info | {"status": "failed"}], FACTS)) == 1
    assert document([good, over, info], FACTS)["summary"] == {"within": 1, "over": 1, "information": 1, "not-run": 0, "failed": 0}


def test_a_report_is_read_as_it_was_written(tmp_path):
    report = document(rows(), environment())
    write(report, tmp_path / "new" / "x.json")
    assert read(tmp_path / "new" / "x.json") == report


@pytest.mark.parametrize("step", ["write", "rename"])
def test_a_report_is_written_in_one_step(tmp_path, monkeypatch, step):
    path = tmp_path / "x.json"
    write(document(rows(), FACTS), path)
    if step == "write":
        whole = Path.write_bytes
        monkeypatch.setattr(Path, "write_bytes", lambda self, data: whole(self, data[:20]) and fails())
    else:
        monkeypatch.setattr(os, "replace", lambda *_: fails())
    with pytest.raises(OSError, match="no such thing"):
        write(document([], FACTS), path)
    assert len(read(path)["rows"]) == 2


def test_a_report_from_before_a_key_was_added_can_be_read(tmp_path):
    report = document(rows(), FACTS)
    old = [{key: value for key, value in row.items() if key not in {"rounds", "bytes"}} for row in report["rows"]]
    (tmp_path / "x.json").write_text(json.dumps(report | {"rows": old, "summary": {"within": 1}}))
    assert read(tmp_path / "x.json") == report | {"rows": [row | {"rounds": None} for row in report["rows"]]}
    enough = [row | {"rounds": FEWEST} for row in report["rows"]]
    assert markdown(report | {"rows": old}) == markdown(report | {"rows": enough})


def test_a_few_rounds_have_no_spread():
    (row, *_) = (row | {"rounds": FEWEST} for row in rows() if row["low"] is not None)
    assert " to " in around(row)
    assert around(row | {"rounds": FEWEST - 1}) == ""


def test_another_structure_is_refused(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"schema": SCHEMA + 1}))
    with pytest.raises(ValueError, match=f"no report of schema {SCHEMA}"):
        read(tmp_path / "x.json")


def test_finish_prints_writes_and_judges(tmp_path, capsys):
    assert finish([rows()[0] | {"status": "over"}], FACTS | {"quick_path": "python"}, str(tmp_path / "x.json")) == 1
    printed = capsys.readouterr().out
    assert "0 within, 1 over" in printed
    assert "compiled extension is not installed" in printed
    assert read(tmp_path / "x.json")["summary"]["over"] == 1


def test_the_table_on_the_screen_has_every_row():
    report = document(rows(), FACTS)
    lines = text(report).splitlines()
    assert lines.count("A fact") == 1
    assert next(line for line in lines if "g()" in line).endswith("within")
    assert sum(line.startswith("  f(a | b)") for line in lines) == 2


def test_the_markdown_table_is_one(tmp_path, capsys):
    write(document(rows(), FACTS), tmp_path / "x.json")
    assert table([str(tmp_path / "x.json")]) == 0
    printed = capsys.readouterr().out
    assert printed == markdown(read(tmp_path / "x.json"))
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in printed.splitlines() if line.startswith("|")]
    assert cells == [8] * 4
    assert "numpy 2.4.6; Abacus." in printed


# The command lines, and what is committed.


def test_a_misspelt_option_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        arguments(["--quik"], "x")
    assert caught.value.code == 2


def test_the_committed_results_are_of_these_cases():
    report = read(RESULTS / "cpu.json")
    declared = [
        (case.id, case.call, ref.statement, ref.budget) for case in [LOADED, TIME, *CASES, *WITHOUT_EXTENSION] for ref in case.references
    ]
    assert [(row["id"], row["call"], row["reference"], row["budget"]) for row in report["rows"]] == declared
    assert all(set(row) == KEYS for row in report["rows"])
    assert report == document(report["rows"], report["environment"])


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_committed_results_name_no_folder(path):
    assert re.findall(r"(?:^|[\s\"'])/\w+/", path.read_text(encoding="utf-8")) == []


def test_some_of_the_cases_can_be_asked_for_by_their_id_and_are_not_written(capsys, tmp_path):
    assert [case.id for case in chosen(CASES, "tree-rec")] == ["tree-records"]
    assert chosen(CASES, None) == list(CASES)
    with pytest.raises(SystemExit, match="no case has an id that begins with 'tree-x'"):
        chosen(CASES, "tree-x")
    with pytest.raises(SystemExit):
        arguments(["--only", "tree", "--output", str(tmp_path / "x.json")], "python -m benchmarks.run")
    assert "would pass for the whole" in capsys.readouterr().err
