"""How the command ends: a full disk, a pipe without a reader and Ctrl-C have their own status, and leave neither half files nor processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from interop_conformance.results.files import Results, write
from interop_conformance.results.records import Case, Record
from interop_conformance.running import journal

from tests.conformance.synthetic import environment

ROOT = Path(__file__).parents[2]
ONE = "handoff/dlpack/numpy/numpy/float32/compact/plain"
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="the device of a full disk is Linux's")


def command(*words, program="interop"):
    return [sys.executable, "-m", program, *(["conformance"] if program == "interop" else []), *map(str, words)]


@pytest.fixture
def results(tmp_path):
    """A whole file without findings."""
    path = tmp_path / "results.json"
    record = Record(Case("handoff", "dlpack", "numpy", "torch", "", "float32", "compact", "plain"), "shared", "")
    write(Results(environment(selection={"case": ["x"]}), (record,)), path)
    return path


# A full disk.


@needs_full
@pytest.mark.parametrize(
    "words", [["list"], ["list", "--json"], ["--help"], ["run", "--case", ONE], ["run", "--case", ONE, "--json"]], ids=" ".join
)
def test_output_that_cannot_be_written_is_status_2_and_one_line(words):
    with FULL.open("w") as out:
        done = subprocess.run(command(*words), stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "Error: the output cannot be written: No space left on device\n")


@needs_full
@pytest.mark.parametrize("verb", ["report", "diff"])
def test_output_about_results_that_cannot_be_written(results, verb):
    with FULL.open("w") as out:
        done = subprocess.run(
            command(verb, *[results] * (2 if verb == "diff" else 1)), stdout=out, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (2, "Error: the output cannot be written: No space left on device\n")


@needs_full
def test_a_full_disk_under_both_outputs_is_status_2():
    with FULL.open("w") as out:
        assert subprocess.run(command("list"), stdout=out, stderr=out, check=False).returncode == 2


# Not preexec_fn, with which Python forks: JAX, once another test has loaded it, warns of that.
LIMITED = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)); os.execv(sys.executable, sys.argv[1:])"


def with_small_files(*words):
    """Run a command whose files may have 64 bytes; it writes no bytecode, which would be cut as well."""
    return subprocess.run(
        [sys.executable, "-c", LIMITED, *command(*words)],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("kind", ["html", "markdown", "junit"])
@pytest.mark.parametrize("before", [None, "the page of yesterday"])
def test_a_report_that_cannot_be_written_leaves_what_was_there(results, tmp_path, kind, before):
    path = tmp_path / "made" / "page"
    if before:
        path.parent.mkdir()
        path.write_text(before)
    done = with_small_files("report", results, f"--{kind}", path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"Error: {path} cannot be written: File too large\n")
    assert [file.read_text() for file in path.parent.iterdir()] == ([before] if before else [])


@needs_full
def test_a_report_onto_a_full_device_leaves_the_device(results):
    done = subprocess.run(command("report", results, "--html", FULL), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert FULL.is_char_device()


def test_results_that_cannot_be_written_are_shown_all_the_same(tmp_path):
    folder = tmp_path / "results"
    done = with_small_files("run", "--case", ONE, "--output", folder, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["summary"]["total"] == 1
    assert done.stderr.endswith("cannot be written: File too large\n")
    assert "Traceback" not in done.stderr
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_status_2_before_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    done = subprocess.run(command("run", "--case", ONE, "--output", tmp_path / "file" / "x"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"old")
    link.symlink_to(path)
    journal.write_whole(link, b"new")
    assert (path.read_bytes(), link.is_symlink()) == (b"new", True)

    def interrupted(self, data):
        with self.open("wb") as file:
            file.write(data[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        journal.write_whole(link, b"newest")
    assert (path.read_bytes(), sorted(file.name for file in tmp_path.iterdir())) == (b"new", ["file", "link"])


# A reader that goes away.


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["--help"], ["run", "--case", ONE]], ids=" ".join)
@pytest.mark.parametrize("program", ["interop", "interop_conformance"])
def test_a_pipe_without_a_reader_is_no_finding(words, program):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command(*words, program=program), stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_results_are_written_though_nobody_reads(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command("run", "--case", ONE, "--output", tmp_path / "results"), stdout=writing, stderr=writing, check=False)
    os.close(writing)
    assert done.returncode == 0
    assert len(list((tmp_path / "results").iterdir())) == 1


# Ctrl-C.

HANGS = """
import os, time
from tests.conformance.strangers.bare import Array, Bare

class Hanging(Array):
    def __dlpack__(self):
        with open(os.environ["HANGS"], "a") as file:
            file.write(f"{os.getpid()} {os.getppid()}\\n")
        time.sleep(600)

class Adapter(Bare):
    array = Hanging
"""


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_is_status_130_and_leaves_no_process(tmp_path, jobs, times):
    (tmp_path / "hangs.py").write_text(HANGS)
    at_work = tmp_path / "pids"
    variables = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "HANGS": str(at_work)}
    words = [
        "run",
        "--adapter",
        "hangs:Adapter",
        "--case",
        "handoff/dlpack/bare/numpy/*/1d/plain",
        "--jobs",
        jobs,
        "--output",
        tmp_path / "out",
    ]
    child = subprocess.Popen(
        command(*words), env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 120
        while not at_work.exists() or len(at_work.read_text().splitlines()) < jobs:
            assert time.monotonic() < deadline
            assert child.poll() is None
            time.sleep(0.05)
        for _ in range(times):
            os.killpg(child.pid, signal.SIGINT)
        out, error = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode in ({130} if times == 1 else {130, -signal.SIGINT})
    assert out == ""
    if times == 1:
        assert "Traceback" not in error
    assert list((tmp_path / "out").iterdir()) == []
    for pid in {int(number) for line in at_work.read_text().splitlines() for number in line.split()}:
        assert gone(pid)


def gone(pid):
    """Return whether a process ends soon; one that nobody has waited for is as good as gone."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_process_that_lives_is_not_gone():
    """The negative control."""
    assert not gone(os.getpid())
