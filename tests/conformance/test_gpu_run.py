"""The conformance suite's part of `make gpu`: written as the answers come, stopped at any moment, and gone on with."""

import os
import signal
import time

import pytest
from interop_conformance import gpu
from interop_conformance.adapters import _cuda, load_adapters
from interop_conformance.adapters.torch_cuda import TorchCUDA
from interop_conformance.results.files import read, write
from interop_conformance.results.outcomes import Observed
from interop_conformance.running.environment import environment_of
from interop_conformance.running.journal import Journal
from interop_conformance.running.run import Stop, results_of


@pytest.fixture(name="a_gpu")
def pretended(monkeypatch):
    """Pretend that torch has a device, and have signals as they were after the test."""
    adapters = {name: adapter for name, adapter in load_adapters().items() if name in {"numpy", "torch-cuda"}}
    monkeypatch.setattr(TorchCUDA, "available", lambda self: "")
    monkeypatch.setattr(_cuda, "ask", lambda module: ("Test Device 9", ""))
    monkeypatch.setattr(gpu, "load_adapters", lambda: adapters)
    monkeypatch.setattr(gpu, "findings", lambda results: [])
    before = {number: signal.getsignal(number) for number in gpu._SIGNALS}
    yield
    signal.alarm(0)
    for number, handler in before.items():
        signal.signal(number, handler)


def answering(count, *, then=lambda: None, outcome="shared", asked=None):
    """Return what stands for `interop_conformance.running.run.run`: so many answers, and then something that may stop it."""

    def run(cases, adapters, *, selection, jobs, on_result, known):
        answers, reason = dict(known), "it just ended"
        left = [case for case in cases if case.id not in answers]
        if asked is not None:
            asked.append({"jobs": jobs, "selection": selection, "cases": cases, "left": len(left)})
        try:
            for case in left[:count]:
                answers[case.id] = Observed(outcome, "")
                on_result(case, answers[case.id])
            then()
        except Stop as stop:
            reason = str(stop)
        return results_of(cases, answers, reason, adapters, selection)

    return run


def results(folder):
    (path,) = folder.glob("*.json.gz")
    return path, read(path)


def test_the_run_writes_its_results(monkeypatch, tmp_path, capsys, a_gpu):
    asked = []
    monkeypatch.setattr(gpu, "run", answering(10**6, asked=asked))
    assert gpu.main(["--output", str(tmp_path), "--jobs", "2"]) == 0
    (words,) = asked
    assert words["jobs"] == 2
    assert words["selection"] == {"layer": ("protocol", "handoff"), "device": ("cuda",), "quick": True}
    assert {one.layer for one in words["cases"]} == {"protocol", "handoff"}
    assert all("torch-cuda" in (one.producer, one.consumer) for one in words["cases"])
    path, found = results(tmp_path)
    assert path.name.startswith("cuda-python")
    assert found.summary["outcomes"]["shared"] == len(words["cases"])
    assert list(tmp_path.iterdir()) == [path], "the journal is gone"
    assert f"conformance: {len(words['cases'])} shared; 0 findings" in capsys.readouterr().out


def test_findings_are_the_exit_status(monkeypatch, tmp_path, a_gpu):
    monkeypatch.setattr(gpu, "run", answering(10**6))
    monkeypatch.setattr(gpu, "findings", lambda found: [type("Finding", (), {"kind": "new", "about": "a case", "text": "wrong"})])
    assert gpu.main(["--output", str(tmp_path)]) == gpu.FINDINGS == 5


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        (lambda: time.sleep(60), "not reached: stopped after 1 seconds"),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "not reached: stopped by SIGTERM"),
        (lambda: os.kill(os.getpid(), signal.SIGINT), "not reached: stopped by SIGINT"),
    ],
    ids=["time", "SIGTERM", "SIGINT"],
)
def test_a_run_that_is_stopped_has_results_and_is_gone_on_with(monkeypatch, tmp_path, capsys, a_gpu, stop, reason):
    asked = []
    monkeypatch.setattr(gpu, "run", answering(7, then=stop, asked=asked))
    assert gpu.main(["--output", str(tmp_path), "--seconds", "1"]) == gpu.NOT_ALL == 4
    _, found = results(tmp_path)
    assert [record.outcome for record in found.records].count("shared") == 7
    assert {record.reason for record in found.records if record.outcome == "not-run"} == {reason}
    assert f"; {len(found.records) - 7} not reached" in capsys.readouterr().out
    monkeypatch.setattr(gpu, "run", answering(10**6, asked=asked))
    assert gpu.main(["--output", str(tmp_path), "--resume"]) == 0
    assert asked[1]["left"] == len(found.records) - 7
    assert {record.outcome for record in results(tmp_path)[1].records} == {"shared"}


def test_a_run_that_begins_anew_forgets_the_old_one(monkeypatch, tmp_path, a_gpu):
    asked = []
    monkeypatch.setattr(gpu, "run", answering(7, asked=asked))
    assert gpu.main(["--output", str(tmp_path)]) == gpu.NOT_ALL
    assert gpu.main(["--output", str(tmp_path)]) == gpu.NOT_ALL
    assert asked[1]["left"] == len(asked[1]["cases"])


def test_a_run_that_was_complete_is_not_run_again_when_it_is_gone_on_with(monkeypatch, tmp_path, a_gpu):
    asked = []
    monkeypatch.setattr(gpu, "run", answering(10**6, asked=asked))
    for _ in range(2):
        assert gpu.main(["--output", str(tmp_path), "--resume"]) == 0
    assert asked[0]["left"] == len(asked[0]["cases"])
    assert asked[1]["left"] == 0


def test_answers_of_other_versions_are_not_taken_over(monkeypatch, tmp_path, a_gpu):
    asked = []
    monkeypatch.setattr(gpu, "run", answering(10**6, asked=asked))
    gpu.main(["--output", str(tmp_path)])
    path, found = results(tmp_path)
    write(found._replace(environment={**found.environment, "interop": "0.0"}), path)
    gpu.main(["--output", str(tmp_path), "--resume"])
    assert asked[1]["left"] == len(asked[1]["cases"])


def test_the_file_is_whole_while_answers_come(monkeypatch, tmp_path, a_gpu):
    """What is there if the process is killed now."""
    seen = []
    monkeypatch.setattr(gpu, "EVERY", 0.0)

    def look():
        path, found = results(tmp_path)
        journal = Journal(path.with_name(path.name.replace(".json.gz", ".jsonl")))
        seen.append(([record.outcome for record in found.records].count("shared"), len(journal.events())))

    monkeypatch.setattr(gpu, "run", answering(5, then=look))
    gpu.main(["--output", str(tmp_path)])
    assert seen == [(5, 1 + 5)]  # the first says to what they belong


def test_without_a_device_nothing_is_run(monkeypatch, tmp_path, capsys, a_gpu):
    monkeypatch.undo()
    monkeypatch.setattr(_cuda, "ask", lambda module: ("", "there is no CUDA driver"))
    assert gpu.main(["--output", str(tmp_path)]) == gpu.NO_DEVICE
    assert "torch sees no CUDA device: there is no CUDA driver" in capsys.readouterr().err


def test_the_header_names_the_device(a_gpu):
    assert environment_of({"torch-cuda": TorchCUDA()}, {})["hardware"]["gpu"] == "Test Device 9"
