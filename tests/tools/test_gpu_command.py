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
from interop_conformance.gpu import FINDINGS, SECONDS

from benchmarks.environment import NoDeviceError
from tests.tools.checkout import FACTS, HEAD, as_run, checkout
from tools import gpu
from tools.checkout import COMPILED, build, gpu_test_files, source_of
from tools.results import read
from tools.supervise import launch

PROJECT = Path(__file__).parent.parent.parent
NAME = "gpu-test-device-9-torch2.11-cupy14.2.json"

# Instead of the project's own: its other modules are found behind it.
PACKAGE = "from pkgutil import extend_path\n__path__ = extend_path(__path__, __name__)\n"

CONFORMANCE = "import sys, time\nprint(sys.argv)\n{}\n"

BENCHMARK = """
import json, os, pathlib, sys, time
from interop_conformance.running.journal import Journal

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
        for name, text in (("interop_conformance", CONFORMANCE.format(conformance)), ("benchmarks", BENCHMARK.format(measures, status))):
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
        ({"conformance": f"raise SystemExit({FINDINGS})"}, 1),
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
    printed = capfd.readouterr().out
    assert (f"conformance: exit status {FINDINGS}" if "conformance" in project else "conformance: done") in printed
    assert ("benchmarks: exit status 1" if "status" in project else "benchmarks: done") in printed
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


def test_a_fault_of_the_runners_own_costs_one_stage(tree, monkeypatch, capfd):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gpu, "supervise", full)
    root = tree()
    assert command(root) == 1
    printed = capfd.readouterr().out
    assert "tests: OSError: [Errno 28] No space left on device" in printed
    assert "conformance: done" in printed


def test_a_suite_that_raises_is_not_one_that_was_done(tree):
    """Python's own status is 1; what there is to go on with stays."""
    root = tree(conformance="raise RuntimeError")
    assert command(root) == 1
    assert len(list((root / "out").rglob("gpu-*.jsonl"))) == 2


def test_what_was_said_of_failures_is_kept(tree):
    root = tree(test="print('on the way')\n    assert 1 == 2, 'so it is'")
    command(root)
    text = (root / "out" / "conformance" / "results" / NAME.replace(".json", ".failures.txt")).read_text()
    assert "==== tests/test_it.py::test_one (call)" in text
    assert "assert 1 == 2, 'so it is'" in text
    assert "on the way" in text
    assert "text" not in (root / "out" / "conformance" / "results" / NAME).read_text()


# What is gone on with.


@pytest.mark.parametrize("changed", ["nothing", "the code", "the versions"])
def test_only_a_run_of_the_same_code_and_versions_is_gone_on_with(tree, capfd, changed):
    root = tree(test="open('ran', 'a').write('x')", conformance="raise RuntimeError")
    assert command(root) == 1
    facts = dict(FACTS)
    if changed == "the code":
        (root / "tests" / "test_it.py").write_text((root / "tests" / "test_it.py").read_text() + "# other\n")
    elif changed == "the versions":
        facts["versions"] = {"torch": "2.12.0"}
    gpu.main(["--output", str(root / "out"), "--root", str(root), "--name", "test-device-9-torch2.11-cupy14.2", "--resume"], lambda: facts)
    assert (root / "ran").read_text() == ("x" if changed == "nothing" else "xx")
    assert ("nothing to go on with" in capfd.readouterr().out) == (changed != "nothing")


# The question whether there is a device.

PROBES = {
    "print('a warning'); print('{\"gpu\": \"Test Device 9\"}')": {"gpu": "Test Device 9"},
    "import sys; sys.exit('torch does not see one')": "asking for one failed (exit status 1): torch does not see one",
    "import sys; print('torch does not see one', file=sys.stderr); sys.exit(3)": "torch does not see one",
    "import os; os.abort()": "asking for one failed (ended by SIGABRT): ",
    "import time; time.sleep(600)": "asking for one took longer than 2 seconds",
}


@pytest.mark.parametrize(("code", "answer"), PROBES.items(), ids=["well", "raises", "none", "dies", "hangs"])
def test_who_is_asked_for_a_device_may_die_of_it(tmp_path, monkeypatch, code, answer):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").write_text(PACKAGE)
    (tmp_path / "benchmarks" / "environment.py").write_text(code)
    monkeypatch.setattr(gpu, "PROBE_S", 2.0)
    if isinstance(answer, dict):
        assert gpu.probed(tmp_path) == answer
    else:
        with pytest.raises(NoDeviceError) as caught:
            gpu.probed(tmp_path)
        assert str(caught.value) == answer


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
from tests.tools.checkout import FACTS
from tools import gpu
from tools.checkout import COMPILED, build, gpu_test_files, source_of
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
    time.sleep(0.3)
    runner.send_signal(number)  # by somebody who is impatient
    assert runner.wait(20) == gpu.INTERRUPTED == 130
    assert not running(root), "nothing is left behind"
    document = read(root / "out" / "conformance" / "results" / NAME, partial=True)
    assert ("stopped" in document) == (stage == "tests")
    assert document.get("stopped", "interrupted") == "interrupted"
    assert list(root.rglob("out/**/*.jsonl")), "there is something to go on from"
    at = ["tests", "benchmarks", "conformance"].index(stage)
    assert document["stages"] == {
        name: "" if n < at else "interrupted" if n == at else "not reached: interrupted" for n, name in enumerate(gpu.STAGES)
    }


def running(root):
    """Return the processes that were started in a folder."""
    return [process for process in Path("/proc").iterdir() if process.name.isdigit() and folder_of(process) == str(root)]


def folder_of(process):
    try:
        return str((process / "cwd").readlink())
    except OSError:
        return ""


# What the stages get.


def test_libraries_that_were_brought_along_are_found(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", "brought/along")
    given = gpu.variables(tmp_path)
    assert given["PYTHONPATH"].split(os.pathsep) == [str(PROJECT), str(PROJECT / "conformance"), "brought/along"]
    assert given["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert given["CUDA_DEVICE_MAX_CONNECTIONS"] == "32"
    assert given["INTEROP_GPU_TRACES"] == str(tmp_path.resolve() / "benchmarks" / "results")


def test_make_gpu_keeps_what_was_brought_along(tmp_path):
    """A stand-in for Python says what it was given."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "path $PYTHONPATH"\n')
    python.chmod(0o755)
    printed = subprocess.run(
        ["make", "--no-print-directory", "gpu", f"PYTHON={python}"],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": "brought/along"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "path .:brought/along" in printed.stdout


def test_only_files_with_gpu_tests_are_collected():
    named = gpu_test_files(PROJECT)
    assert "tests/gpu/test_handoff.py" in named
    assert "tests/conformance/test_gpu_adapters.py" in named
    assert "tests/emulated/contract/test_streams.py" in named
    assert "tests/model/test_policy.py" not in named
    assert all("mark.gpu" in text or "on_a_device" in text for text in ((PROJECT / name).read_text() for name in named))


def test_the_tests_of_this_project_can_be_collected_that_way(tmp_path):
    watched = as_run(PROJECT).watched(
        *gpu.PYTEST, "--record", str(tmp_path / "x.jsonl"), "--collect-only", "-q", "tests/tools/test_gpu_runner.py"
    )
    assert launch(watched, until=time.monotonic() + 120) == "exit status 5"  # none is marked gpu


# What is compiled.


def test_what_is_compiled_is_built_in_its_folder_where_it_is_missing(tmp_path, monkeypatch):
    (tmp_path / "interop" / "native").mkdir(parents=True)
    for path in [PROJECT / "setup.py", *(PROJECT / "interop" / "native").glob("*.[ch]")]:
        shutil.copy(path, tmp_path / path.relative_to(PROJECT))
    assert build(tmp_path, time.monotonic() + 120, gpu.variables()) == ""
    assert sorted(path.name.partition(".")[0] for path in (tmp_path / "interop" / "native").glob("*.so")) == [
        "async_pool",
        "fastpath",
        "lend",
    ]
    monkeypatch.setattr("tools.checkout.launch", pytest.fail)  # and not again
    assert build(tmp_path, time.monotonic() + 120, gpu.variables()) == ""


def test_what_cannot_be_built_is_named(tmp_path):
    (tmp_path / "setup.py").write_text("raise SystemExit('no compiler')\n")
    assert (
        build(tmp_path, time.monotonic() + 120, gpu.variables())
        == "interop.native.fastpath, interop.native.lend, interop.native.async_pool could not be built"
    )


def test_the_list_of_what_is_compiled_is_that_of_the_setup():
    assert sorted(re.findall(r'"(interop\.native\.\w+)"', (PROJECT / "setup.py").read_text())) == sorted(COMPILED)


def test_the_environment_can_be_named(tree):
    root = tree()
    assert command(root, "--name", "floor") == 0
    assert read(root / "out" / "conformance" / "results" / "gpu-floor.json")["environment"] == FACTS | {"source": source_of(root)}


def test_without_a_device_nothing_is_run_or_written(tmp_path, capsys):
    def probe():
        raise NoDeviceError("torch does not see one")

    assert gpu.main(["--output", str(tmp_path)], probe) == gpu.NO_DEVICE == 3
    assert capsys.readouterr().err.startswith("no CUDA device: torch does not see one. Nothing was run")
    assert list(tmp_path.iterdir()) == []
