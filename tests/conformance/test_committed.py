"""The committed results: whole, of these versions, without findings, and what a quick run here still gives."""

import gzip
import json
import re
from functools import cache
from pathlib import Path

import jsonschema
import pytest
from interop_conformance.adapters import load_adapters
from interop_conformance.matrix import handoff
from interop_conformance.protocol.rules import rules
from interop_conformance.results.deviations import STANDS_ON, findings, is_bad, known
from interop_conformance.results.diff import differences
from interop_conformance.results.files import SCHEMA_FILE, IncompleteError, Results, read, write
from interop_conformance.results.outcomes import BAD
from interop_conformance.running.environment import environment_of, name_of
from interop_conformance.running.run import run
from interop_conformance.selection import Selection, all_cases

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "conformance" / "results"
FILES = sorted(FOLDER.glob("*.json.gz"))


@cache
def adapters():
    return load_adapters()


@cache
def committed(path):
    return read(path)


def here():
    """Return the committed file of the environment that CI and `make test` install."""
    path = FOLDER / f"{name_of(environment_of(adapters(), {}))}.json.gz"
    assert path in FILES, f"there are no committed results for this environment: write `interop conformance run --output {FOLDER}`"
    return committed(path)


def test_there_are_some():
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_whole_and_as_the_schema_says(path):
    committed(path)  # raises for half a file
    found = json.loads(gzip.decompress(path.read_bytes()))
    # One record in a hundred, since they are written by one line of code; all of the rest.
    found["records"] = found["records"][::100]
    jsonschema.validate(found, json.loads(SCHEMA_FILE.read_text()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_has_findings_and_interop_has_no_bad_outcome(path):
    results = committed(path)
    assert not findings(results)
    of_interop = [record for record in results.records if record.case.route == "interop"]
    assert of_interop
    assert not [record for record in of_interop if record.outcome in BAD]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_raw_routes_show_theirs(path):
    outcomes = {(record.case.route, record.outcome) for record in committed(path).records if record.case.layer == "handoff"}
    assert {("dlpack", "wrong"), ("dlpack", "unsafe"), ("native", "wrong"), ("native", "unsafe")} <= outcomes


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_a_library_that_takes_part_is_blamed(path):
    results = committed(path)
    libraries = {name: entry["distribution"] for name, entry in results.environment["libraries"].items()}
    for record in results.records:
        deviation = known(record, results.environment) if is_bad(record) else None
        if deviation:
            sides = {libraries[name] for name in (record.case.producer, record.case.consumer) if name in libraries}
            sides |= {STANDS_ON[name] for name in sides & STANDS_ON.keys()}
            assert deviation.library in sides or deviation.id in ONE_MORE, (record.case.id, deviation.id)


ONE_MORE = {"pyarrow-tensor-bool-length-1"}
"""NumPy's part in it: which of pyarrow's inputs have a stride that pyarrow does not take."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_not_good_says_why_and_nothing_names_an_address(path):
    for record in committed(path).records:
        assert record.reason or record.outcome in {"shared", "copied", "refused"}, record
        assert not re.search(r"0x[0-9a-f]{4}|/work|/root|/home", record.reason), record


def test_the_full_run_is_committed_and_of_these_versions():
    results = here()
    assert results.environment["selection"] == {}
    now = environment_of(adapters(), {})["libraries"]
    assert {name: entry["version"] for name, entry in results.environment["libraries"].items()} == {
        name: entry["version"] for name, entry in now.items()
    }, "other versions: run the suite again and commit its results"
    assert [record.case for record in results.records] == list(all_cases(adapters())), "other cases: run the suite again"


def test_the_quick_selection_meets_everything_once():
    everything = list(all_cases(adapters()))
    chosen = Selection(quick=True).of(everything, adapters())
    for axis in ("layer", "route", "producer", "consumer", "case", "dtype", "layout", "state"):
        assert {getattr(case, axis) for case in chosen} == {getattr(case, axis) for case in everything}, axis
    pairs = {(case.route, case.producer, case.consumer) for case in everything if case.layer == "handoff"}
    assert {(case.route, case.producer, case.consumer) for case in chosen if case.layer == "handoff"} == pairs
    assert {case.case for case in chosen if case.layer == "protocol"} == set(rules())
    assert len(chosen) < len(everything) / 10
    assert {route for route, _, _ in pairs} == set(handoff.ROUTES)


@pytest.mark.matrix
def test_a_quick_run_gives_what_is_committed():
    selection = Selection(quick=True)
    results = run(selection.of(list(all_cases(adapters())), adapters()), adapters(), selection=selection.header())
    found = differences(here(), results)
    assert not [f"{one.case}: {one.old.outcome} became {one.new.outcome}: {one.new.reason}" for one in found]
    assert not findings(results)


def test_the_comparison_can_fail():
    """The negative control."""
    old = here()
    first = next(record for record in old.records if record.outcome == "shared")
    new = Results({**old.environment, "selection": {"quick": True}}, (first._replace(outcome="crash"),))
    (found,) = differences(old, new)
    assert (found.kind, found.case) == ("worse", first.case.id)


def test_half_a_file_is_refused(tmp_path):
    path = FILES[0]
    text = gzip.decompress(path.read_bytes()).decode()
    for name, broken in {
        "cut": text[: len(text) // 2],
        "no footer": text[: text.rindex('"summary"')].rstrip(",\n ") + "}",
        "a record less": re.sub(r"\n,\{[^\n]*\n", "\n", text, count=1),
        "not ours": "[]",
    }.items():
        file = tmp_path / f"{name}.json"
        file.write_text(broken)
        with pytest.raises(IncompleteError, match=r"\S"):
            read(file)


def test_writing_is_the_same_each_time_and_reading_gives_it_back(tmp_path):
    results = here()
    some = Results(results.environment, results.records[::997])
    write(some, tmp_path / "one.json.gz")
    write(some, tmp_path / "two.json.gz")
    assert (tmp_path / "one.json.gz").read_bytes() == (tmp_path / "two.json.gz").read_bytes()
    assert read(tmp_path / "one.json.gz") == some
