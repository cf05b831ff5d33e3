"""Everything that needs a GPU, with the Python that is active: ``python -m tools.gpu [--output DIR] [--seconds N] [--resume]``.

It installs nothing and needs no virtual environment, because the machine with the GPU is often a borrowed one; there
interop may be the folder it is run in, without some of its dependencies. Its compiled parts are built in that folder if they are missing
and there is a compiler; without them its Python twin is measured, and `interop.cuda.cupy_pool` is not tested.

Three stages, each in processes of its own: tests, benchmarks, conformance suite. There is one deadline over all: what a stage leaves of
its time the later ones have. Each writes its results as it goes, with what was not reached as ``not-run``, and a journal beside them. So a
run that is stopped at any moment leaves results, and ``--resume`` goes on where it was. A test or a benchmark that crashes, hangs or leaves
a dead CUDA context costs itself: another process goes on with the next one.

Status 0 if all went well, 1 if something failed, was found, died or was not reached, 3 if there is no device that both torch and CuPy see,
130 if it was interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from interop_conformance.gpu import FINDINGS
from interop_conformance.running.journal import Journal

from benchmarks.environment import NoDeviceError, environment_name
from tools.checkout import build, gpu_test_files, source_of
from tools.results import BAD, OUTCOMES, all_passed, compose, failures, write
from tools.supervise import Watched, how, launch, supervise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["NO_DEVICE", "ROOT", "main", "record_tests"]

NO_DEVICE, INTERRUPTED = 3, 130
ROOT = Path(__file__).resolve().parent.parent

SECONDS = 560
"""The deadline: a borrowed machine gives a command ten minutes."""

SHARES = {"build": 30, "tests": 270, "benchmarks": 90, "conformance": 170}
"""How the stages share the time, in their order."""

WRITE_S = 10.0
"""Seconds for a process that writes results and runs nothing."""

LIMITS = {"tests": 75.0, "benchmarks": 44.0}
"""Seconds after which one test or benchmark is taken to hang."""

PYTEST = (
    "pytest",
    *("-p", "tools.recorder", "-p", "no:cacheprovider"),
    # Instead of pyproject.toml's addopts, which ask for doctests too: none of them needs a GPU, and looking for them
    # would import every module, with libraries that are missing here.
    *("-o", "addopts=--strict-markers --strict-config --import-mode=importlib"),
    # What hangs says where.
    *("-o", f"faulthandler_timeout={LIMITS['tests'] - 10:g}"),
    # A file may need what is missing here. That is recorded, and it must not stop the others.
    "--continue-on-collection-errors",
    *("-m", "gpu", "-ra"),
)


PROBE_S = 60.0
"""Seconds for the question whether there is a device."""

STAGES = ("tests", "benchmarks", "conformance")

NOT_ENDED = "the run has not ended"


class Deadline:
    """One deadline, shared among the stages: each may use its share and what those before it have left."""

    def __init__(self, seconds: float) -> None:
        self.begun, self.seconds = time.monotonic(), seconds

    def of(self, stage: str) -> float:
        """Return the time, as `time.monotonic` has it, at which a stage has to end."""
        names = list(SHARES)
        share = sum(SHARES[name] for name in names[: names.index(stage) + 1]) / sum(SHARES.values())
        return self.begun + share * self.seconds

    def left(self, stage: str) -> float:
        """Return the seconds that a stage has."""
        return max(0.0, self.of(stage) - time.monotonic())


class Run(NamedTuple):
    """What the stages have in common."""

    root: Path
    output: Path
    name: str
    deadline: Deadline
    resume: bool

    def path(self, stage: str) -> Path:
        """Return the file of a stage's results; the tests' lie beside the conformance suite's."""
        folder = "benchmarks" if stage == "benchmarks" else "conformance"
        return (self.output / folder / "results" / f"gpu-{self.name}.json").resolve()

    def watched(self, *module: str) -> Watched:
        """Return how a module is run."""
        return Watched(module, self.root, variables(self.output))


def main(argv: Sequence[str] | None = None, probe: Callable[[], dict[str, Any]] | None = None) -> int:
    """Run all that needs a GPU; returns the exit status. `probe` returns what the results belong to, or raises `NoDeviceError`."""
    given = _arguments(argv)
    deadline = Deadline(given.seconds)
    with _interruptible():
        try:
            print(f"compiled parts: {build(given.root, deadline.of('build'), variables()) or 'there'}", flush=True)
            facts = (probe or functools.partial(probed, given.root))()
        except NoDeviceError as error:
            print(f"no CUDA device: {error}. Nothing was run; this needs one, and torch and CuPy built for it.", file=sys.stderr)
            return NO_DEVICE
        except KeyboardInterrupt:
            return INTERRUPTED
        facts = facts | {"source": source_of(given.root)}
        run = Run(given.root, Path(given.output), given.name or environment_name(facts), deadline, given.resume)
        return run_all(run._replace(resume=given.resume and _same(run, facts)), facts)


def probed(root: Path) -> dict[str, Any]:
    """Return `benchmarks.environment.gpu_environment`, asked in a process of its own: what asks may die or hang, and has a context."""
    command = [sys.executable, "-m", "benchmarks.environment"]
    try:
        asked = subprocess.run(command, cwd=root, env=variables(), capture_output=True, text=True, timeout=PROBE_S, check=False)  # noqa: S603 - our own
    except subprocess.TimeoutExpired as error:
        raise NoDeviceError(f"asking for one took longer than {PROBE_S:g} seconds") from error
    if asked.returncode:
        words = asked.stderr.strip().splitlines() or [""]
        raise NoDeviceError(words[-1] if asked.returncode == NO_DEVICE else f"asking for one failed ({how(asked.returncode)}): {words[-1]}")
    return dict(json.loads(asked.stdout.splitlines()[-1]))


def _same(run: Run, facts: dict[str, Any]) -> bool:
    """Return whether the run that is to be gone on with was of the same code, versions and device."""
    before: dict[str, Any] = next((event["facts"] for event in _journal_of(run, "tests").events() if event["event"] == "run"), {})
    # Not the clocks, for one, which are others each time.
    same = bool(before) and all(before.get(name) == facts.get(name) for name in ("source", "gpu", "python", "versions", "quick_path"))
    if not same:
        print("nothing to go on with: there is no journal of this code, these versions and this device. All is run again.", flush=True)
    return same


def run_all(run: Run, facts: dict[str, Any]) -> int:
    """Run the three stages, and say what came of them; returns the exit status."""
    stages = dict.fromkeys(STAGES, "not reached: interrupted")
    work = {
        "tests": lambda: record_tests(run, facts),
        "benchmarks": lambda: run_benchmarks(run),
        "conformance": lambda: run_conformance(run),
    }
    status = 0
    for stage in STAGES:
        stages[stage] = "interrupted"
        try:
            stages[stage] = str(work[stage]())
        except KeyboardInterrupt:
            status = INTERRUPTED
            break
        except Exception as error:  # the runner's own fault, or the disk's, must not cost the other stages
            traceback.print_exc()
            stages[stage] = f"{type(error).__name__}: {error}"
    document = composed(run, facts, stages["tests"]) | {"stages": stages}
    write(document, run.path("tests"))
    print(summary(document), *(f"{stage}: {how or 'done'}" for stage, how in stages.items()), sep="\n")
    _tidy(run, document, stages)
    return status or int(not all_passed(document) or any(stages.values()))


def _tidy(run: Run, document: dict[str, Any], stages: dict[str, str]) -> None:
    """Write the texts of failures; remove the journals that no run goes on from."""
    tests, benchmarks = (_journal_of(run, stage) for stage in ("tests", "benchmarks"))
    if texts := failures(tests.events()):
        run.path("tests").with_suffix(".failures.txt").write_text(texts, encoding="utf-8")
    measured = any(event["event"] == "finished" for event in benchmarks.events())
    if "footer" in document and measured and stages["conformance"] in {"", f"exit status {FINDINGS}"}:
        for journal in (tests, benchmarks):
            journal.path.unlink()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Have SIGTERM interrupt as Ctrl-C does."""
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is _interrupt:  # after an interrupt the process ends, and another one would spoil its status
                signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):  # once: a second one would leave processes behind
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.gpu", description="Run all that needs a GPU: tests, benchmarks, conformance suite."
    )
    parser.add_argument(
        "--output", metavar="DIR", default=ROOT, help="write under DIR/conformance and DIR/benchmarks; default: the checkout"
    )
    parser.add_argument("--name", help="name of the environment in the files' names; default: from the device and the versions")
    parser.add_argument("--root", metavar="DIR", type=Path, default=ROOT, help="the checkout; default: the one that this file is in")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="stop everything after so long; default: %(default)s")
    parser.add_argument("--resume", action="store_true", help="go on where a run into the same DIR was stopped")
    return parser.parse_args(argv)


def record_tests(run: Run, facts: dict[str, Any], *, preload: Sequence[str] = ("torch", "cupy"), limit: float = LIMITS["tests"]) -> str:
    """Run the tests marked ``gpu``, and write the results whatever becomes of the processes; returns why some were not reached, or nothing."""
    journal = _begun(run, "tests")
    if not journal.path.exists():
        journal.write(event="run", facts=facts)
    if any(event["event"] == "finished" for event in journal.events()):  # before the run was stopped
        return ""

    def written() -> None:
        write(composed(run, facts, NOT_ENDED), run.path("tests"))

    written()
    options = ["--record", str(journal.path), *(word for name in preload for word in ("--preload", name))]
    watched = run.watched(*PYTEST, *options, *gpu_test_files(run.root))
    ending = supervise(watched, journal, until=run.deadline.of("tests"), limit=limit, meanwhile=written)
    return "" if ending.finished else ending.because


def composed(run: Run, facts: dict[str, Any], stopped: str) -> dict[str, Any]:
    """Return the results of the tests as they stand; `stopped` says why some were not reached."""
    return compose(_journal_of(run, "tests").events(), facts, stopped)


def _journal_of(run: Run, stage: str) -> Journal:
    return Journal(run.path(stage).with_suffix(".jsonl"))


def _begun(run: Run, stage: str) -> Journal:
    """Return the journal of a stage, empty unless the run goes on with an earlier one."""
    journal = _journal_of(run, stage)
    if not run.resume:
        journal.path.unlink(missing_ok=True)
    return journal


def run_benchmarks(run: Run) -> str:
    """Measure into a file; returns what went wrong, or nothing."""
    path, journal = run.path("benchmarks"), _begun(run, "benchmarks")
    journal.write(event="opened")  # it is removed here, and not by the process
    words = ["benchmarks.gpu", "--output", str(path), "--resume", "--seconds"]
    # Its own end comes first, so that it writes why the rest was not reached.
    seconds = max(1, int(run.deadline.left("benchmarks")) - 5)
    ending = supervise(run.watched(*words, str(seconds)), journal, until=run.deadline.of("benchmarks"), limit=LIMITS["benchmarks"])
    if not ending.finished:
        # What took the last process down is in the journal only; this measures nothing and writes the file.
        launch(run.watched(*words, "0"), until=time.monotonic() + WRITE_S)
    return ending.because


def run_conformance(run: Run) -> str:
    """Run the conformance suite's cases with a GPU; returns what went wrong, or nothing."""
    seconds = max(1, int(run.deadline.left("conformance")) - 8)
    words = ["--output", str(run.path("conformance").parent), "--seconds", str(seconds), *(["--resume"] if run.resume else [])]
    return launch(run.watched("interop_conformance.gpu", *words), until=run.deadline.of("conformance"))


def variables(output: Path | None = None) -> dict[str, str]:
    """Return the environment variables for a stage: a missing GPU is a failure, and a stranger's pytest plugins stay out."""
    path = os.pathsep.join(filter(None, (str(ROOT), str(ROOT / "conformance"), os.environ.get("PYTHONPATH"))))
    own = {"INTEROP_REQUIRE_GPU": os.environ.get("INTEROP_REQUIRE_GPU", "1"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": path}
    # JAX would take three quarters of the card when it starts: docs.jax.dev, "GPU memory allocation".
    own["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    own["PYTHONUNBUFFERED"] = "1"  # what a process printed before it died
    # Streams share the queues of the device, 8 unless set: two that share one are in order without a wait (CUDA C++ Programming Guide).
    own["CUDA_DEVICE_MAX_CONNECTIONS"] = "32"
    if output is not None:
        own["INTEROP_GPU_TRACES"] = str((output / "benchmarks" / "results").resolve())
    return os.environ | own


def summary(document: dict[str, Any]) -> str:
    """Return the outcome in a few lines: what did not pass, then the counts, or why the run was stopped."""
    notable = [record for record in document["tests"] if record["outcome"] in BAD or record["outcome"] in {"skipped", "not-run"}]
    lines = [f"{record['outcome']}: {record['nodeid']}: {record['reason']}" for record in notable]
    found = Counter(record["outcome"] for record in document["tests"])
    counted = ", ".join(f"{found[outcome]} {outcome}" for outcome in OUTCOMES if found[outcome]) or "none"
    stopped = f"; {document['stopped']}" if "stopped" in document else ""
    return "\n".join([*lines, f"tests: {counted}{stopped}"])


if __name__ == "__main__":
    raise SystemExit(main())
