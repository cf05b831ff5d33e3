"""`python -m benchmarks.gpu` where something goes wrong: crashes, kills, hangs and dead contexts, each for real and without a GPU."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from interop_conformance.running.journal import Journal

from benchmarks import gpu
from benchmarks.case import Case, Reference
from benchmarks.interrupts import Interrupts, StoppedError
from benchmarks.report import document, read
from benchmarks.timing import Settings

ROOT = Path(__file__).parent.parent.parent
ONCE = Settings(rounds=2, turn=0.0, launches=0)
FACTS = {"quick_path": "compiled", "gpu": "Test Device 9"}

PROGRAM = """
import os, pathlib, signal, sys, time
from benchmarks import gpu
from benchmarks.case import Case, Reference
from benchmarks.timing import Settings

folder, what, *arguments = sys.argv[1:]

def hang():
    while True:
        time.sleep(0.01)

def raises():
    raise RuntimeError("CUDA error: an illegal memory access was encountered")

WHAT = {"passes": int, "aborts": os.abort, "hangs": hang, "raises": raises, "poisons": int, "dies": lambda: os.kill(os.getpid(), signal.SIGKILL)}
last = None

def ran(name):
    global last
    if last != name:
        with open(f"{folder}/ran", "a") as file:
            file.write(f"{name}\\n")
    last = name
    return WHAT[what]() if name == "two" else None

cases = [Case(name, name.title(), f"ran('{name}')", (Reference("int()"), Reference("bool()"))) for name in ("one", "two", "three")]
raise SystemExit(
    gpu.main(
        ["--output", f"{folder}/x.json", *arguments],
        lambda: {"quick_path": "compiled", "gpu": "Test Device 9"},
        cases=cases,
        makers={"ran": lambda: ran, "int": lambda: int, "bool": lambda: bool},
        settings=Settings(rounds=2, turn=0.0, launches=0),
        fault=lambda: "CUDA_ERROR_ILLEGAL_ADDRESS" if (what, last) == ("poisons", "two") else "",
    )
)
"""


class Run:
    """Runs of the program above in one folder."""

    def __init__(self, folder):
        self.folder, self.journal = folder, Journal(folder / "x.jsonl")
        (folder / "program.py").write_text(textwrap.dedent(PROGRAM))

    def start(self, what, *arguments):
        command = [sys.executable, str(self.folder / "program.py"), str(self.folder), what, *arguments]
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
        return subprocess.Popen(command, cwd=self.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __call__(self, what, *arguments):
        """Return the exit status of a run that ends by itself."""
        process = self.start(what, *arguments)
        self.said, self.warned = process.communicate(timeout=60)
        return process.returncode

    def until_two(self, process):
        """Wait until the second case is being measured."""
        for _ in range(3000):
            if "two" in self.ran:
                return
            time.sleep(0.01)
        process.kill()
        raise AssertionError(process.communicate()[1])

    @property
    def ran(self):
        path = self.folder / "ran"
        return path.read_text().split() if path.exists() else []

    @property
    def rows(self):
        """Of each case the statuses and the reasons of its two rows, which are the same."""
        found = {}
        for row in read(self.folder / "x.json")["rows"]:
            found.setdefault(row["id"], set()).add((row["status"], row["reason"]))
        assert list(found) == ["one", "two", "three"]
        return [one for (one,) in found.values()]

    @property
    def events(self):
        return [(event["event"], event.get("item")) for event in self.journal.events()]


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


DONE = ("information", None)
UNREACHED = ("not-run", "not reached")
BEGUN = [("environment", None), ("started", "one"), ("rows", "one"), ("started", "two")]


def test_a_run_that_goes_well_leaves_its_results_only(run):
    assert run("passes") == 0
    assert run.rows == [DONE] * 3
    assert {path.name for path in run.folder.iterdir()} == {"program.py", "ran", "x.json"}
    assert "6 information" in run.said


def test_a_statement_that_raises_costs_its_case(run):
    assert run("raises") == 1
    assert run.rows == [DONE, ("failed", "RuntimeError: CUDA error: an illegal memory access was encountered"), DONE]
    assert "in raises" in run.warned
    assert not run.journal.path.exists()


def test_a_crash_leaves_what_was_measured_and_the_run_goes_on(run):
    assert run("aborts") == -signal.SIGABRT
    assert run.rows == [DONE, UNREACHED, UNREACHED]
    assert run.events == BEGUN
    run.journal.write(event="died", item="two", because="ended by SIGABRT")
    assert run("passes", "--resume") == 1
    assert run.rows == [DONE, ("failed", "ended by SIGABRT"), DONE]
    assert run.ran == ["one", "two", "three"], "what was measured or died must not run again"
    assert not run.journal.path.exists()


def test_a_run_that_was_killed_measures_the_case_again(run):
    assert run("dies") == -signal.SIGKILL
    assert run.rows == [DONE, UNREACHED, UNREACHED]
    assert run("passes", "--resume") == 0
    assert run.rows == [DONE] * 3
    assert run.ran == ["one", "two", "two", "three"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 1), (signal.SIGINT, 130)])
def test_a_signal_stops_the_run_with_its_results(run, number, status):
    process = run.start("hangs")
    run.until_two(process)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    reason = ("not-run", f"stopped by {number.name}")
    assert process.returncode == status
    assert run.rows == [DONE, reason, reason]
    assert "4 not run" in said
    assert run.journal.events()[-1] == {"event": "stopped", "because": reason[1]}
    assert run.events[:-1] == BEGUN


def test_a_case_that_hangs_is_stopped_when_the_time_is_over_and_can_be_measured_later(run):
    assert run("hangs", "--seconds", "1.5") == 1
    assert run.rows == [DONE, *[("not-run", "stopped after 1.5 seconds")] * 2]
    assert run("passes", "--resume", "--seconds", "60") == 0
    assert run.rows == [DONE] * 3


def test_without_time_only_what_is_known_is_written(run):
    """So that whoever started a run that died can have the file made without going on."""
    run("aborts")
    run.journal.write(event="died", item="two", because="ended by SIGABRT")
    assert run("passes", "--resume", "--seconds", "0") == 1
    assert run.rows == [DONE, ("failed", "ended by SIGABRT"), ("not-run", "stopped after 0 seconds")]
    assert run.ran == ["one", "two"]


def test_a_dead_context_ends_the_process_and_the_next_one_goes_on(run):
    assert run("poisons") == gpu.POISONED == 70
    reason = ("failed", "the CUDA context died: CUDA_ERROR_ILLEGAL_ADDRESS")
    assert run.rows == [DONE, reason, UNREACHED]
    assert run.events == [*BEGUN, ("poisoned", "two"), ("rows", "two")]
    assert run("poisons", "--resume") == 1
    assert run.rows == [DONE, reason, DONE]
    assert run.ran == ["one", "two", "three"]


# The same in this process, where it can be looked at.


def main(tmp_path, *arguments, fault=lambda: "", probe=lambda: FACTS, call=int):
    cases = [Case("one", "One", "f()", (Reference("int()", budget=1e9),)), Case("two", "Two", "int()", (Reference("int()"),))]
    argv = ["--output", str(tmp_path / "x.json"), *arguments]
    return gpu.main(argv, probe, cases=cases, makers={"int": lambda: int, "f": lambda: call}, settings=ONCE, fault=fault)


def test_the_file_is_complete_from_the_beginning(tmp_path):
    seen = []
    assert main(tmp_path, call=lambda: seen.append(read(tmp_path / "x.json"))) == 0
    assert [(row["status"], row["reason"]) for row in seen[0]["rows"]] == [UNREACHED] * 2
    assert seen[0]["environment"] == FACTS
    assert seen[0] == document(seen[0]["rows"], FACTS)


def test_files_of_an_earlier_run_are_removed_first(tmp_path):
    for name in ("x.json", "x.jsonl"):
        (tmp_path / name).write_text(json.dumps({"event": "rows", "item": "two", "rows": []}) + "\n")
    seen = []

    def probe():
        seen.extend(path.name for path in tmp_path.iterdir())
        return FACTS

    assert main(tmp_path, probe=probe) == 0
    assert seen == []


def test_a_journal_that_another_has_opened_is_left_to_it(tmp_path):
    (tmp_path / "x.json").write_text("of an earlier run")
    seen = []

    def probe():
        seen.append((tmp_path / "x.json").exists())
        return FACTS

    journal = Journal(tmp_path / "x.jsonl")
    journal.write(event="opened")
    assert main(tmp_path, "--resume", probe=probe) == 0
    assert seen == [False]
    kinds = [event["event"] for event in journal.events()]
    assert kinds == ["opened", "environment", "started", "rows", "started", "rows", "finished"]


def test_a_run_that_goes_on_keeps_what_the_numbers_belong_to(tmp_path):
    Journal(tmp_path / "x.jsonl").write(event="environment", facts=FACTS | {"gpu": "Another"})

    def probe():
        raise AssertionError("asked for again")

    assert main(tmp_path, "--resume", probe=probe) == 0
    assert read(tmp_path / "x.json")["environment"]["gpu"] == "Another"


def test_a_context_that_died_without_a_word_in_the_rows_counts_all_the_same(tmp_path):
    Journal(tmp_path / "x.jsonl").write(event="poisoned", item="one", because="the CUDA context died: X")
    Journal(tmp_path / "x.jsonl").write(event="died", item="one", because="ended by SIGSEGV")
    Journal(tmp_path / "x.jsonl").write(event="died", item="of another table", because="ended by SIGSEGV")
    assert main(tmp_path, "--resume") == 1
    assert [row["reason"] for row in read(tmp_path / "x.json")["rows"]] == ["the CUDA context died: X", None]


def test_a_case_that_was_done_stays_done_when_the_process_dies_after_it(tmp_path):
    rows = [{"id": "one", "title": "One", "note": "", "call": "f()", "reference": "int()", "measure": "ratio", "status": "information"}]
    numbers = dict.fromkeys(("value", "low", "high", "call_ns", "reference_ns", "budget", "or_ns", "reason"))
    Journal(tmp_path / "x.jsonl").write(event="rows", item="one", rows=[rows[0] | numbers])
    Journal(tmp_path / "x.jsonl").write(event="died", item="one", because="ended by SIGSEGV")
    assert main(tmp_path, "--resume") == 0


def test_signals_are_as_before_after_a_run(tmp_path):
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    main(tmp_path, "--seconds", "60")
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_stop_while_the_device_is_looked_for(tmp_path, capsys):
    def probe():
        time.sleep(60)

    assert main(tmp_path, "--seconds", "0.05", probe=probe) == 1
    assert capsys.readouterr().err == "stopped after 0.05 seconds, before the device was found\n"


def test_a_signal_between_two_cases_waits_for_the_next():
    with Interrupts(None) as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)  # nothing is raised here: the file may be half written
        with pytest.raises(StoppedError, match=r"stopped by SIGTERM$"), interrupts.allowed():
            raise AssertionError("not reached")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stop_that_a_finalizer_swallows_comes_again():
    class Finalized:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    made = [Finalized()]
    with Interrupts(None) as interrupts, pytest.raises(StoppedError), interrupts.allowed():
        time.sleep(made.clear() or 30)


def test_resume_needs_a_file(capsys):
    with pytest.raises(SystemExit, match="--resume needs --output"):
        gpu.main(["--resume"], lambda: FACTS)


def test_a_part_of_the_table_is_measured_without_a_file(capsys):
    cases = [Case("one", "One", "int()", (Reference("int()"),)), Case("two", "Two", "int()", (Reference("int()"),))]
    assert gpu.main(["--only", "tw"], lambda: FACTS, cases=cases, makers={"int": lambda: int}, settings=ONCE, fault=str) == 0
    said = capsys.readouterr()
    assert re.findall(r"One|Two", said.out) == ["Two"]
    assert said.err == "Two\n"
