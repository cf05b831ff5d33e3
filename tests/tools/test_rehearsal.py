"""`make gpu-rehearsal`: the real runner on the emulated device, killed three times; and what the rehearsal itself would miss."""

import subprocess
import sys
import time

import pytest

from tests.emulated import building
from tools import gpu, rehearsal
from tools.rehearsal import MARK, Rehearsal, kill
from tools.results import write


@pytest.mark.slow
def test_a_run_that_is_killed_three_times_comes_to_its_end(tmp_path):
    if (reason := building.why_not()) is not None:
        pytest.skip(reason)
    ran = subprocess.run(
        [sys.executable, "-m", "tools.rehearsal", "--output", str(tmp_path), "--seconds", "560"],
        cwd=gpu.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("killed in") == 3
    assert "as it should be" in ran.stdout
    assert ran.stdout.count("the journals know") == 3


@pytest.fixture(name="run")
def a_run(tmp_path):
    """Return a rehearsal whose run has written some results of tests."""
    made = Rehearsal(tmp_path, 10.0, {MARK: "one"})

    def wrote(**outcomes):
        tests = [
            {"nodeid": f"tests/test_x.py::{name}", "outcome": outcome, "duration": 0, "reason": ""} for name, outcome in outcomes.items()
        ]
        write(
            {"schema": 2, "environment": {}, "tests": tests, "stopped": "killed"},
            tmp_path / "conformance" / "results" / "gpu-rehearsal.json",
        )
        return made

    return wrote


@pytest.mark.parametrize(
    ("outcomes", "limit", "wrong"),
    [
        ({"test_a": "passed"}, None, []),
        ({"test_a": "passed", "test_b": "failed"}, None, ["failed: tests/test_x.py::test_b"]),
        ({"test_a": "passed", "test_b": "crash"}, None, ["crash: tests/test_x.py::test_b"]),
        ({"test_a": "passed", "test_b": "failed"}, "test_b", []),
        ({"test_a": "passed", "test_b": "not-run"}, None, ["not reached: tests/test_x.py::test_b"]),
        ({"test_a": "passed"}, "test_a", ["passes, and is listed as what the emulation cannot show: tests/test_x.py::test_a"]),
        ({"test_a": "skipped"}, None, ["no test has passed"]),
    ],
    ids=["well", "fails", "crashes", "fails-as-listed", "not-reached", "healed", "nothing"],
)
def test_what_is_wrong_is_said(run, monkeypatch, outcomes, limit, wrong):
    monkeypatch.setattr(rehearsal, "reason_for", lambda name: "a reason" if limit and name.endswith(limit) else None)
    made = run(**outcomes)
    made.judge(torch_has_cuda=True)
    assert made.wrong == [*wrong, "conformance: there are no results"]


def test_a_file_that_is_not_whole_is_wrong(run):
    made = run(test_a="passed")
    assert made.state() == "tests: 1 passed; benchmarks: nothing yet; conformance: nothing yet"
    assert made.wrong == []
    (made.output / "conformance" / "results" / "gpu-rehearsal.json").write_text('{"schema": 2, "tests": [')
    made.state()
    assert len(made.wrong) == 1
    assert made.wrong[0].startswith("tests: what is written cannot be read")


CHILDREN = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True).wait()"


def test_killing_reaches_all_processes_of_a_run_and_no_others(tmp_path):
    ours, others = (subprocess.Popen([sys.executable, "-c", CHILDREN], env={MARK: name}) for name in ("test-kill-ours", "test-kill-others"))
    end = time.monotonic() + 30
    while marked("test-kill-ours") < 2 or marked("test-kill-others") < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    kill("test-kill-ours")
    assert ours.wait(10) != 0
    assert others.poll() is None
    assert (marked("test-kill-ours"), marked("test-kill-others")) == (0, 2)
    kill("test-kill-others")
    others.wait(10)


def marked(token):
    return len(rehearsal.processes(token))


STARTED, ENDED = ({"event": event, "item": "tests/test_x.py::test_a"} for event in ("started", "ended"))


@pytest.mark.parametrize(
    ("before", "after", "wrong"),
    [
        ([STARTED, ENDED], [], []),
        ([STARTED, ENDED], [STARTED, ENDED], ["tests: run again after it had a result: tests/test_x.py::test_a"]),
        ([STARTED], [STARTED, ENDED], []),
        ([STARTED, STARTED, ENDED], [], []),
    ],
    ids=["not again", "again", "had no result", "had none when it was killed before"],
)
def test_what_had_a_result_must_not_be_run_again(run, before, after, wrong):
    made = run()
    for event in before:
        made.journal("tests").write(**event)
    made.note()
    for event in after:
        made.journal("tests").write(**event)
    made.again()
    assert made.wrong == wrong
