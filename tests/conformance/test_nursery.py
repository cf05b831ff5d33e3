"""Isolation: a case that dies or hangs kills only itself, is recorded with its last words, and no other case is blamed for it."""

import os
import subprocess
import sys
import time

import pytest
from interop_conformance.results.outcomes import Observed
from interop_conformance.results.records import Case
from interop_conformance.running import nursery
from interop_conformance.running.nursery import Nursery

poisoned = False


def observed_in_child(case, adapters):
    global poisoned
    match case.case:
        case "abort":
            os.write(2, b"terminate called\n  what():  the reason at 0x7f00\n    frame #0\n")
            os.abort()
        case "glog":
            os.write(2, b"F0000 Check failed: no strings\n*** Check failure stack trace: ***\n    @ 0x7f0000000000  raise\n")
            os.abort()
        case "exit":
            os._exit(3)
        case "hang":
            time.sleep(60)
        case "poison":
            poisoned = True
        case "dies of poison" if poisoned:
            os.abort()
        case "pid":
            return Observed("shared", str(os.getpid()))
    return Observed("shared", case.case)


def run(monkeypatch, *names, jobs=2, limit=1.0, batch=100):
    monkeypatch.setattr(nursery, "observe", observed_in_child)
    cases = [Case("handoff", "dlpack", "a", "b", name, state=str(place)) for place, name in enumerate(names)]
    answers = {}

    def answered(index, observed):
        assert index not in answers, "one case, one answer"
        answers[index] = observed

    Nursery({}, cases, answered, jobs, limit, batch).run()
    assert len(answers) == len(cases)
    return [answers[index] for index in range(len(cases))]


def test_all_cases_are_answered_in_their_places(monkeypatch):
    names = [f"n{number}" for number in range(25)]
    assert [observed.reason for observed in run(monkeypatch, *names, jobs=3, batch=4)] == names


def test_a_case_that_aborts_kills_only_itself_and_leaves_its_last_words(monkeypatch):
    before, died, after = run(monkeypatch, "before", "abort", "after", jobs=1)
    assert died == Observed("crash", "SIGABRT: what():  the reason at …")
    assert (before.outcome, after.outcome) == ("shared", "shared")


def test_a_stack_is_not_the_last_words(monkeypatch):
    assert run(monkeypatch, "glog")[0] == Observed("crash", "SIGABRT: F0000 Check failed: no strings")


def test_several_crashes_in_a_row(monkeypatch):
    assert [one.outcome for one in run(monkeypatch, "abort", "abort", "x", "abort", jobs=1)] == ["crash", "crash", "shared", "crash"]


def test_a_case_that_leaves_the_process_is_a_crash(monkeypatch):
    assert run(monkeypatch, "exit")[0] == Observed("crash", "exit status 3")


def test_a_case_that_hangs_is_a_timeout(monkeypatch):
    hung, after = run(monkeypatch, "hang", "after", jobs=1, limit=0.5)
    assert hung == Observed("timeout", "longer than 0.5 s")
    assert after.outcome == "shared"


def test_who_dies_of_what_another_did_is_not_blamed_as_if_it_were_alone(monkeypatch):
    poison, died = run(monkeypatch, "poison", "dies of poison", jobs=1)
    assert died.outcome == "crash"
    assert "not when it is run alone" in died.reason
    assert poison.outcome == "shared"


def test_a_batch_shares_a_process_and_batches_do_not(monkeypatch):
    pids = [one.reason for one in run(monkeypatch, "pid", "pid", "pid", "pid", jobs=1, batch=2)]
    assert len(set(pids)) == 2
    assert str(os.getpid()) not in pids


def test_what_a_case_prints_does_not_reach_the_output(monkeypatch, capfd):
    run(monkeypatch, "abort")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("variable", ["MALLOC_PERTURB_", "OMP_NUM_THREADS"])
def test_the_process_that_runs_the_cases_is_prepared(variable):
    from interop_conformance.running.run import ENVIRONMENT

    assert ENVIRONMENT[variable]


def test_fresh_memory_is_poisoned():
    """What the setting is for: without it, a fresh page is all zeros, and zeros can be right by luck."""
    from interop_conformance.running.run import ENVIRONMENT

    code = "import ctypes; libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p; print(ctypes.string_at(libc.malloc(64), 64).count(0))"

    def zeros(environment):
        return int(
            subprocess.run(
                [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
            ).stdout
        )

    assert zeros(ENVIRONMENT) == 0
