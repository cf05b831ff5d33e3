"""`make gpu` that is stopped, without a GPU: what was not reached says so, and another run goes on with it and nothing else."""

import functools
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from interop_conformance.running.journal import Journal

from tests.tools.checkout import FACTS, HEAD, as_run, checkout, outcomes, reasons, run
from tools.results import IncompleteError, all_passed, compose, read, write


@pytest.fixture(name="tree")
def a_checkout(tmp_path):
    """Return a function that makes a checkout of files of tests, and returns its root."""
    return functools.partial(checkout, tmp_path / "checkout")


SLOW = """
import pathlib, time

@pytest.mark.parametrize("n", range(20))
def test_n(n):
    with pathlib.Path("ran").open("a") as file:
        file.write(f"{n} ")
    time.sleep(0.3)
"""


def check_the_rest(root, document, path):
    """Look that what was not reached says so, and that it is what a further run does, and nothing else."""
    found = outcomes(document)
    done = [name for name, outcome in found.items() if outcome == "passed"]
    assert set(found.values()) == {"passed", "not-run"}
    assert len(found) == 20
    with pytest.raises(IncompleteError):
        read(path)
    assert read(path, partial=True) == document
    (root / "ran").unlink()
    again, _ = run(root, resume=True)
    assert set(outcomes(again).values()) == {"passed"}
    assert all_passed(again)
    ran = (root / "ran").read_text().split()
    assert len(ran) == 20 - len(done)
    assert not {f"test_n[{n}]" for n in ran} & set(done)
    (root / "ran").unlink()
    assert run(root, resume=True)[0] == again
    assert not (root / "ran").exists(), "nothing was left to run"


def test_the_deadline_stops_the_tests_and_a_further_run_goes_on(tree):
    root = tree(test_it=HEAD + SLOW)
    document, path = run(root, seconds=4.0)
    assert document["stopped"].startswith("stopped after 4 s")
    assert reasons(document)["test_n[19]"] == "not reached: stopped after 4 seconds"
    check_the_rest(root, document, path)


RUN = """
import pathlib, sys
from tests.tools.checkout import run
run(pathlib.Path(sys.argv[1]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_runner_that_is_ended_leaves_what_it_has(tree, number):
    """Killed, it has written nothing more: the file is as old as the last writing, and the journal has the rest."""
    root = tree(test_it=HEAD + SLOW)
    project = Path(__file__).parent.parent.parent
    runner = subprocess.Popen([sys.executable, "-c", RUN, str(root)], cwd=project, stderr=subprocess.DEVNULL)
    path = as_run(root).path("tests")
    wait_for(lambda: (root / "ran").exists() and len((root / "ran").read_text().split()) > 3)
    runner.send_signal(number)
    runner.wait(20)
    wait_for(lambda: not alive(path), 10.0)
    with pytest.raises(IncompleteError, match="not ended"):
        read(path)
    document = compose(Journal(path.with_suffix(".jsonl")).events(), FACTS, "killed")
    write(document, path)
    check_the_rest(root, document, path)


HOOKED = """
import os, pathlib, sys, time
os.register_at_fork(before=lambda: sys.exit("a hook was called"))  # printed and ignored where it is called
from tools.supervise import Watched, launch
sys.exit(launch(Watched(["platform"], pathlib.Path.cwd(), os.environ), until=time.monotonic() + 30) or 0)
"""


def test_the_hooks_of_a_fork_are_not_called():
    """JAX warns in one, of threads; with `-W error` that is an exception, in whatever process started the runner."""
    ran = subprocess.run(
        [sys.executable, "-c", HOOKED], cwd=Path(__file__).parent.parent.parent, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(path):
    """Return whether a process writes the journal still, after its runner has gone."""
    return any(entry.name.isdigit() and str(path.with_suffix(".jsonl")) in words_of(entry) for entry in Path("/proc").iterdir())


def words_of(process):
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""
