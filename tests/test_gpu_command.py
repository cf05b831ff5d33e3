"""`make gpu` as a command, without a GPU: stages that end well or badly, one deadline, what is built, what the stages get."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.environment import NoDeviceError
from conformance.gpu import SECONDS
from tests.gpu_checkout import FACTS, HEAD, as_run, checkout
from tools import gpu
from tools.results import read
from tools.supervise import launch

PROJECT = Path(__file__).parent.parent
NAME = "gpu-test-device-9-torch2.11-cupy14.2.json"

# Instead of the project's own: its other modules are found behind it.
PACKAGE = "from pkgutil import extend_path\n__path__ = extend_path(__path__, __name__)\n"

CONFORMANCE = "import sys, time\nprint(sys.argv)\n{}\n"

BENCHMARK = """
import json, os, pathlib, sys, time
from conformance.journal import Journal

path = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
journal = Journal(path.with_suffix(".jsonl"))
for item in ("a", "b"):
    if not any(event.get("item") == item for event in journal.events()):
        journal.write(event="started", item=item)
        {}
        journal.write(event="rows", item=item, rows=[])
path.write_text(json.dumps([event["event"] for event in journal.events()]))
journal.write(event="finished")
raise SystemExit({})
"""


@pytest.fixture(name="tree")
def a_project(tmp_path):
    """Return a function that makes a checkout with one test, a conformance suite and benchmarks, and returns its root."""

    def make(test="pass", conformance="", measures="pass", status=0):
        root = checkout(tmp_path / "checkout", test_it=HEAD + f"import time\ndef test_one():\n    {test}\n")
        for name, text in (("conformance", CONFORMANCE.format(conformance)), ("benchmarks", BENCHMARK.format(measures, status))):
            (root / name).mkdir()
            (root / name / "__init__.py").write_text(PACKAGE)
            (root / name / "gpu.py").write_text(text)
        (root / "setup.py").write_text("raise SystemExit('nothing to build')\n")
        return root

    return make


def command(root, *words):
    return gpu.main(["--output", str(root / "out"), "--root", str(root), *words], lambda: FACTS)


@pytest.mark.parametrize(
    ("project", "expected"),
    [
        ({}, 0),
        ({"test": "assert False"}, 1),
        ({"test": "os.abort()"}, 1),
        ({"conformance": "raise SystemExit(1)"}, 1),
        ({"status": 1}, 1),
        ({"measures": "item == 'a' and os.abort()"}, 0),
    ],
    ids=["good", "failing", "aborting", "with-findings", "over-budget", "benchmark-aborting"],
)
def test_the_command_writes_its_files_and_judges(tree, capfd, project, expected):
    root = tree(**project)
    assert command(root) == expected
    assert sorted(path.relative_to(root / "out").as_posix() for path in root.rglob(NAME)) == [
        f"benchmarks/results/{NAME}",
        f"conformance/results/{NAME}",
    ]
    said = capfd.readouterr().out
    assert ("conformance: exit status 1" if "conformance" in project else "conformance: done") in said
    assert ("benchmarks: exit status 1" if "status" in project else "benchmarks: done") in said
    assert not list(root.rglob("out/**/*.jsonl"))
    stages = json.loads((root / "out" / "conformance" / "results" / NAME).read_text())["stages"]
    assert [name for name, how in stages.items() if how] == [
        name for name, key in (("benchmarks", "status"), ("conformance", "conformance")) if key in project
    ]


def test_a_benchmark_that_aborts_costs_itself(tree):
    root = tree(measures="item == 'a' and os.abort()")
    command(root)
    events = json.loads((root / "out" / "benchmarks" / "results" / NAME).read_text())
    assert events == ["opened", "started", "died", "started", "rows"]


def test_a_benchmark_that_hangs_costs_itself(tree, monkeypatch):
    monkeypatch.setitem(gpu.LIMITS, "benchmarks", 2.0)
    root = tree(measures="item == 'a' and time.sleep(600)")
    assert command(root) == 0
    assert "died" in json.loads((root / "out" / "benchmarks" / "results" / NAME).read_text())


# One deadline.


def test_each_stage_has_its_share_and_what_was_left_before_it():
    deadline = gpu.Deadline(560)
    assert [round(deadline.of(stage) - deadline.begun) for stage in gpu.SHARES] == [30, 300, 390, 560]
    assert 389 < deadline.left("benchmarks") <= 390
    deadline.begun -= 400
    assert deadline.left("benchmarks") == 0
    assert 159 < deadline.left("conformance") <= 160


def test_the_deadline_leaves_room_in_ten_minutes():
    assert sum(gpu.SHARES.values()) == gpu.SECONDS <= 10 * 60 - 30
    assert gpu.SHARES["conformance"] >= SECONDS
    assert list(gpu.SHARES) == ["build", "tests", "benchmarks", "conformance"]
    assert all(limit < gpu.SHARES[stage] / 2 for stage, limit in gpu.LIMITS.items()), "one that hangs costs itself"


def test_stages_that_never_end_are_stopped_at_the_deadline(tree, capfd):
    root = tree(test="time.sleep(600)", measures="time.sleep(600)", conformance="time.sleep(600)")
    begun = time.monotonic()
    assert command(root, "--seconds", "14") == 1
    assert time.monotonic() - begun < 14 + 3 * 6
    document = read(root / "out" / "conformance" / "results" / NAME, partial=True)
    assert document["stopped"].startswith("stopped after")
    assert document["tests"] == [
        {"nodeid": "tests/test_it.py::test_one", "outcome": "not-run", "duration": None, "reason": f"not reached: {document['stopped']}"}
    ]
    assert all(how.startswith("stopped after") for how in document["stages"].values())
    assert "benchmarks: stopped after" in capfd.readouterr().out


MAIN = """
import pathlib, sys
from tests.gpu_checkout import FACTS
from tools import gpu
raise SystemExit(gpu.main(["--output", sys.argv[1] + "/out", "--root", sys.argv[1]], lambda: FACTS))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["tests", "benchmarks", "conformance"])
def test_an_interrupt_ends_all_and_leaves_results(tree, stage, number):
    hangs = "open('at', 'w').close(); time.sleep(600)"
    words = {"tests": "test", "benchmarks": "measures", "conformance": "conformance"}
    root = tree(**{words[stage]: hangs})
    runner = subprocess.Popen([sys.executable, "-c", MAIN, str(root)], cwd=PROJECT)
    end = time.monotonic() + 60
    while not (root / "at").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    runner.send_signal(number)
    assert runner.wait(20) == gpu.INTERRUPTED == 130
    document = read(root / "out" / "conformance" / "results" / NAME, partial=True)
    assert ("stopped" in document) == (stage == "tests")
    assert list(root.rglob("out/**/*.jsonl")), "there is something to go on from"
    at = ["tests", "benchmarks", "conformance"].index(stage)
    assert document["stages"] == {
        name: "" if n < at else "interrupted" if n == at else "not reached: interrupted"
        for n, name in ((1, "benchmarks"), (2, "conformance"))
    }


# What the stages get.


def test_libraries_that_were_brought_along_are_found(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", "brought/along")
    given = gpu.variables(tmp_path)
    assert given["PYTHONPATH"].split(os.pathsep) == [str(PROJECT), "brought/along"]
    assert given["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert given["CUDA_DEVICE_MAX_CONNECTIONS"] == "32"
    assert given["INTEROP_GPU_TRACES"] == str(tmp_path.resolve() / "benchmarks" / "results")


def test_make_gpu_keeps_what_was_brought_along(tmp_path):
    """A stand-in for Python says what it was given."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "path $PYTHONPATH"\n')
    python.chmod(0o755)
    said = subprocess.run(
        ["make", "--no-print-directory", "gpu", f"PYTHON={python}"],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": "brought/along"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "path .:brought/along" in said.stdout


def test_only_files_with_gpu_tests_are_collected():
    named = gpu.test_files(PROJECT)
    assert "tests/test_gpu.py" in named
    assert "tests/conformance/test_gpu_adapters.py" in named
    assert "tests/test_policy.py" not in named
    assert all("mark.gpu" in (PROJECT / name).read_text() for name in named)


def test_the_tests_of_this_project_can_be_collected_that_way(tmp_path):
    watched = as_run(PROJECT).watched(
        *gpu.PYTEST, "--record", str(tmp_path / "x.jsonl"), "--collect-only", "-q", "tests/test_gpu_runner.py"
    )
    assert launch(watched, until=time.monotonic() + 120) == "exit status 5"  # none is marked gpu


# What is compiled.


def test_what_is_compiled_is_built_in_its_folder_where_it_is_missing(tmp_path, monkeypatch):
    (tmp_path / "interop").mkdir()
    for path in [PROJECT / "setup.py", *(PROJECT / "interop").glob("*.[ch]")]:
        shutil.copy(path, tmp_path / path.relative_to(PROJECT))
    assert gpu.build(tmp_path, time.monotonic() + 120) == ""
    assert sorted(path.name.partition(".")[0] for path in (tmp_path / "interop").glob("*.so")) == ["_async_pool", "_lend", "_quick"]
    monkeypatch.setattr(gpu, "launch", pytest.fail)  # and not again
    assert gpu.build(tmp_path, time.monotonic() + 120) == ""


def test_what_cannot_be_built_is_named(tmp_path):
    (tmp_path / "setup.py").write_text("raise SystemExit('no compiler')\n")
    assert gpu.build(tmp_path, time.monotonic() + 120) == "interop._quick, interop._lend, interop._async_pool could not be built"


def test_the_list_of_what_is_compiled_is_that_of_the_setup():
    assert sorted(re.findall(r'"(interop\._\w+)"', (PROJECT / "setup.py").read_text())) == sorted(gpu.COMPILED)


def test_the_environment_can_be_named(tree):
    root = tree()
    assert command(root, "--name", "floor") == 0
    assert read(root / "out" / "conformance" / "results" / "gpu-floor.json")["environment"] == FACTS


def test_without_a_device_nothing_is_run_or_written(tmp_path, capsys):
    def probe():
        raise NoDeviceError("torch does not see one")

    assert gpu.main(["--output", str(tmp_path)], probe) == gpu.NO_DEVICE == 3
    assert capsys.readouterr().err.startswith("no CUDA device: torch does not see one. Nothing was run")
    assert list(tmp_path.iterdir()) == []
