"""The command line of the suite: what it runs, prints and writes, wrong use, and the exit status."""

import gzip
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from interop_conformance.command import command
from interop_conformance.matrix.dtypes import DTYPES
from interop_conformance.protocol.rules import rules
from interop_conformance.results import deviations as module
from interop_conformance.results.deviations import deviations
from interop_conformance.results.files import Results, read, write
from interop_conformance.results.outcomes import OUTCOMES
from interop_conformance.results.records import Case, Record
from interop_conformance.selection import LAYERS

from interop.cli import cli

ROOT = Path(__file__).parents[2]
ONE = "handoff/dlpack/numpy/numpy/float32/compact/plain"
MASKED = "handoff/dlpack/numpy/numpy/float32/compact/masked"
ABORT = "handoff/dlpack/numpy/torch/float32/reversed/plain"


def conformance(line):
    return CliRunner().invoke(cli, ["conformance", *shlex.split(line)], prog_name="interop")


def words(text):
    """Return a text without the line breaks of click's own errors."""
    return " ".join(text.split())


# Wrong use.


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("rnu", "No such command 'rnu'"),
        ("run --producer nunpy", "'nunpy' is not a library here; did you mean 'numpy'?"),
        ("run --consumer toch", "'toch' is not a library here; did you mean 'torch'?"),
        ("run --producer numpy --producer nunpy", "'nunpy' is not a library here"),
        ("run --route dlpak", "'dlpak' is not one of 'dlpack', 'native', 'interop'"),
        ("run --layer handof", "'handof' is not one of 'protocol', 'handoff', 'policy'"),
        ("run --device tpu", "'tpu' is not one of 'cpu', 'cuda'"),
        ("run --jobs 0", "Invalid value for '--jobs'"),
        ("run --case nothing/*", "no case fits. `list` says what there is"),
        (f"run --case {ONE} --route native", "no case fits."),
        ("run --jsno", "--jsno"),
        ("report", "Missing argument 'RESULTS...'"),
        ("report nowhere.json.gz", "'nowhere.json.gz' does not exist"),
        ("diff nowhere.json.gz nowhere.json.gz", "'nowhere.json.gz' does not exist"),
        ("run --deviations nowhere.toml", "'nowhere.toml' does not exist"),
    ],
)
def test_wrong_use_is_status_2_and_says_what_is_right(line, answer):
    done = conformance(line)
    assert done.exit_code == 2
    assert answer in words(done.output)


def test_a_library_that_is_not_there_says_why_no_case_fits(monkeypatch):
    from interop_conformance.adapters.pyarrow import PyArrow

    monkeypatch.setattr(PyArrow, "available", lambda self: "pyarrow is not installed")
    done = conformance("run --producer pyarrow")
    assert (done.exit_code, "no case fits. pyarrow: pyarrow is not installed." in words(done.output)) == (2, True)


def test_without_fork_it_says_where_to_run_it(monkeypatch):
    monkeypatch.delattr(os, "fork")
    done = conformance(f"run --case {ONE}")
    assert (done.exit_code, "run it on Linux or macOS" in words(done.output)) == (2, True)


@pytest.mark.parametrize("name", ["", "run", "report", "diff", "list"])
def test_help(name):
    done = conformance(f"{name} --help")
    assert done.exit_code == 0
    assert name == "list" or "Exit status:" in done.output


def test_it_runs_without_being_installed():
    done = subprocess.run([sys.executable, "-m", "interop_conformance", "--help"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith("Usage: python -m interop_conformance")


# A run.


def test_one_case_is_told_with_what_it_means():
    done = conformance(f"run --case {ONE}")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [ONE, "= shared", f"  {OUTCOMES['shared'].meaning}"]
    assert not done.stderr


@pytest.mark.slow
def test_a_case_that_kills_its_process_is_told_and_known():
    done = conformance(f"run --case {ABORT}")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == ABORT
    assert lines[1].startswith("✖ crash: SIGABRT")
    assert any(line.startswith("Known: torch-negative-stride") for line in lines)


def test_a_bad_outcome_that_nothing_explains_is_a_finding(monkeypatch):
    monkeypatch.setattr("interop_conformance.results.deviations._here", lambda key: ())
    done = conformance(f"run --case {MASKED} --json")
    assert done.exit_code == 1
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding == {"kind": "new", "about": MASKED, "text": "unsafe: the mask is lost"}


def test_json_is_all_that_is_printed():
    done = conformance(f"run --case {ONE} --json")
    printed = json.loads(done.stdout)
    assert (done.exit_code, done.stderr) == (0, "")
    assert printed["summary"]["total"] == printed["summary"]["outcomes"]["shared"] == 1
    assert printed["findings"] == []
    assert printed["environment"]["selection"] == {"case": [ONE]}


def test_plain_lines_where_nobody_sees_a_terminal():
    done = conformance("run --case 'handoff/dlpack/numpy/numpy/*/*/plain'")
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output
    total = len(DTYPES) * 13
    assert done.stderr.splitlines() == [f"{-(-total * tenth // 10)} of {total} cases; none bad" for tenth in range(1, 11)]
    assert max(map(len, re.findall(r"^[=+·-] .*$", done.stdout, re.MULTILINE))) <= 80
    assert done.stdout.rstrip().endswith(
        "No findings: interop keeps its promises in these cases, and nothing differs from the known deviations."
    )


@pytest.mark.slow
def test_a_bar_on_a_terminal_and_plain_output_beside_it():
    import pty

    terminal, end = pty.openpty()
    line = [sys.executable, "-m", "interop_conformance", "run", "--case", ONE]
    done = subprocess.run(line, stdout=subprocess.PIPE, stderr=end, text=True, check=True, cwd=ROOT, env={**os.environ, "TERM": "xterm"})
    os.close(end)
    seen = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert "\x1b[" in seen
    assert done.stdout.splitlines()[:2] == [ONE, "= shared"]


def test_filters_are_alternatives_within_one_and_conditions_among_them():
    done = conformance(f"run --case '{ONE[:-5]}*' --case {ABORT} --consumer numpy --json")
    assert json.loads(done.stdout)["environment"]["selection"]["consumer"] == ["numpy"]
    assert json.loads(done.stdout)["summary"]["total"] == 5  # numpy's five states


def test_what_is_written_is_what_is_reported(tmp_path):
    done = conformance(f"run --case {ONE} --output {tmp_path / 'results'}")
    (path,) = (tmp_path / "results").iterdir()
    assert f"Written: {path}" in done.stdout
    assert [(record.case.id, record.outcome) for record in read(path).records] == [(ONE, "shared")]
    files = {kind: tmp_path / "made" / kind for kind in ("html", "markdown", "junit")}
    done = conformance(f"report {path} {' '.join(f'--{kind} {file}' for kind, file in files.items())}")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [f"Written: {file}" for file in files.values()]
    assert all(file.read_text(encoding="utf-8") for file in files.values())
    shown = conformance(f"report {path}")
    assert (shown.exit_code, "= shared" in shown.stdout) == (0, True)
    printed = json.loads(conformance(f"report {path} --json").stdout)
    assert [summary["total"] for summary in printed["summaries"]] == [1]


def test_two_runs_write_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        assert conformance(f"run --case 'handoff/dlpack/numpy/numpy/float32/*/plain' --output {tmp_path / name} --json").exit_code == 0
    one, two = (next((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert (one.name, one.read_bytes()) == (two.name, two.read_bytes())


# Results that are written already: reports and differences.


def results(**outcomes):
    """Return results in which the case of each dtype has an outcome."""
    environment = {
        "interop": "0.1.0",
        "python": "3.11.7",
        "platform": "Linux x86_64",
        "hardware": {"machine": "x86_64", "cores": 2, "gpu": None},
        "libraries": {name: {"distribution": name, "version": "1.0", "unavailable": ""} for name in ("alpha", "beta")},
        "selection": {"layer": ["handoff"]},
    }
    cases = (
        Record(Case("handoff", "dlpack", "alpha", "beta", "", dtype, "compact", "plain"), outcome, "")
        for dtype, outcome in outcomes.items()
    )
    return Results(environment, tuple(cases))


@pytest.fixture
def file(tmp_path):
    def written(name, **outcomes):
        path = tmp_path / name
        write(results(**outcomes), path)
        return path

    return written


def test_a_report_of_findings_is_status_1_and_says_those_together_that_are_alike(file):
    done = conformance(f"report {file('bad.json', float32='wrong', int8='wrong', int16='crash', int32='shared', int64='not-run')}")
    assert done.exit_code == 1
    assert done.stdout[done.stdout.index("Not run") :].splitlines() == [
        "Not run (1):",
        "- handoff/dlpack/alpha/beta/int64/compact/plain",
        "    ",
        "",
        "Bad, and not among the known deviations (3):",
        "- handoff/dlpack/alpha/beta/float32/compact/plain, and 1 more like it",
        "    wrong: ",
        "- handoff/dlpack/alpha/beta/int16/compact/plain",
        "    crash: ",
    ]


@pytest.fixture
def only_these(monkeypatch):
    """No known deviations but those of the test, and none of them afterwards, however it ends."""
    monkeypatch.setattr(module, "_FILES", [])
    yield
    module.deviations.cache_clear()
    module._here.cache_clear()


KNOWN = """
[[deviation]]
id = "alpha-int8"
library = "alpha"
versions = "<2"
outcome = "wrong"
happens = "int8 is wrong."
link = "https://example.org"
match = { producer = "alpha", dtype = "int8" }
"""


@pytest.mark.parametrize(
    ("outcome", "kinds"),
    [("wrong", []), ("unsupported", []), ("shared", ["healed"]), ("crash", ["new"])],
)
def test_a_part_of_a_run_speaks_of_the_known_deviations_that_have_healed(file, tmp_path, monkeypatch, only_these, outcome, kinds):
    (tmp_path / "known.toml").write_text(KNOWN)
    monkeypatch.setattr(module, "_own", lambda: frozenset({"beta"}))
    path = file("part.json", float32="shared", int8=outcome)
    done = conformance(f"report {path} --deviations {tmp_path / 'known.toml'} --json")
    assert [finding["kind"] for finding in json.loads(done.stdout)["findings"]] == kinds
    assert done.exit_code == bool(kinds)


@pytest.mark.parametrize(
    ("spoil", "answer"),
    [
        (lambda text: text[: len(text) // 2], "is not whole"),
        (lambda text: text[: text.index('"summary"')].rstrip(",\n ") + "}", "has no summary: the run did not come to its end"),
        (lambda text: text.replace('"outcome": "shared"', '"outcome": "refused"'), "the footer says"),
        (lambda text: text.replace('"outcome": "shared"', '"outcome": "splendid"'), "'splendid' is not one of the outcomes"),
        (lambda text: text.replace('"schema": 1', '"schema": 2'), "schema 1 is read here"),
        (lambda text: "[]", "schema 1 is read here"),
        (lambda text: "", "is not whole"),
    ],
)
@pytest.mark.parametrize("line", ["report {}", "diff {} {}"])
def test_a_file_that_is_not_whole_is_status_2(file, line, spoil, answer):
    path = file("good.json", float32="shared")
    path.write_text(spoil(path.read_text(encoding="utf-8")), encoding="utf-8")
    done = conformance(line.format(path, path))
    assert done.exit_code == 2
    assert answer in words(done.output)


def test_half_a_compressed_file_is_not_whole(file):
    path = file("good.json.gz", float32="shared")
    assert gzip.decompress(path.read_bytes())
    path.write_bytes(path.read_bytes()[:-9])
    done = conformance(f"report {path}")
    assert (done.exit_code, "is not whole" in words(done.output)) == (2, True)


def test_the_same_outcomes_are_no_difference(file):
    one, two = file("one.json", float32="shared", int8="wrong"), file("two.json.gz", float32="shared", int8="wrong")
    done = conformance(f"diff {one} {two}")
    assert (done.exit_code, done.stdout) == (0, "No outcome differs.\n")


def test_differences_are_status_1_each_with_its_direction(file):
    one = file("one.json", float32="shared", int8="wrong", int16="shared")
    two = file("two.json", float32="crash", int8="shared", int16="copied")
    done = conformance(f"diff {one} {two}")
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "1 worse, 1 better, 1 other",
        "- handoff/dlpack/alpha/beta/float32/compact/plain: shared, now crash",
        "- handoff/dlpack/alpha/beta/int8/compact/plain: wrong, now shared",
        "- handoff/dlpack/alpha/beta/int16/compact/plain: shared, now copied",
    ]
    printed = json.loads(conformance(f"diff {one} {two} --json").stdout)["differences"]
    assert [(one["kind"], one["old"]["outcome"], one["new"]["outcome"]) for one in printed] == [
        ("worse", "shared", "crash"),
        ("better", "wrong", "shared"),
        ("other", "shared", "copied"),
    ]


# What there is.


def test_list_says_all_there_is():
    done = conformance("list --json")
    there = json.loads(done.stdout)
    assert done.exit_code == 0
    assert there["layers"] == list(LAYERS)
    assert there["dtypes"] == list(DTYPES)
    assert list(there["outcomes"]) == list(OUTCOMES)
    assert list(there["rules"]) == list(rules())
    assert list(there["deviations"]) == [one.id for one in deviations()]
    assert there["libraries"]["numpy"] == __import__("numpy").__version__
    text = conformance("list").stdout
    assert all(f"\n{kind} ({len(entries)})\n" in text for kind, entries in there.items())
    assert "\n  numpy-readonly: " in text


# The page in docs/.


@pytest.mark.parametrize("page", ["conformance.md", "conformance-adapter.md"])
def test_the_commands_in_the_docs_have_these_options(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    lines = re.findall(r"interop conformance (\w+)([^\n#`]*)", text)
    assert lines
    for name, rest in lines:
        known = {option for parameter in command.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[\w-]+", rest)) <= known, (name, rest)
