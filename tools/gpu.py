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
import importlib.machinery
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.environment import NoDeviceError, environment_name, gpu_environment
from conformance.journal import Journal
from tools.results import BAD, OUTCOMES, all_passed, compose, write
from tools.supervise import Watched, launch, supervise

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

LIMITS = {"tests": 75.0, "benchmarks": 30.0}
"""Seconds after which one test or benchmark is taken to hang."""

COMPILED = ("interop._quick", "interop._lend", "interop._async_pool")
"""What setup.py builds."""

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


_MARK = re.compile(r"\bmark\.gpu\b")


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


def main(argv: Sequence[str] | None = None, probe: Callable[[], dict[str, Any]] = gpu_environment) -> int:
    """Run all that needs a GPU; returns the exit status."""
    given = _arguments(argv)
    deadline = Deadline(given.seconds)
    with _interruptible():
        try:
            print(f"compiled parts: {build(given.root, deadline.of('build')) or 'there'}", flush=True)
            facts = probe()
        except NoDeviceError as error:
            print(f"no CUDA device: {error}. Nothing was run; this needs one, and torch and CuPy built for it.", file=sys.stderr)
            return NO_DEVICE
        except KeyboardInterrupt:
            return INTERRUPTED
        run = Run(given.root, Path(given.output), given.name or environment_name(facts), deadline, given.resume)
        return run_all(run, facts)


def run_all(run: Run, facts: dict[str, Any]) -> int:
    """Run the three stages, and say what came of them; returns the exit status."""
    stages = {"benchmarks": "not reached: interrupted", "conformance": "not reached: interrupted"}
    status = 0
    try:
        record_tests(run, facts)
        for stage, work in (("benchmarks", run_benchmarks), ("conformance", run_conformance)):
            stages[stage] = "interrupted"
            stages[stage] = work(run)
    except KeyboardInterrupt:
        status = INTERRUPTED
    document = json.loads(run.path("tests").read_text(encoding="utf-8")) | {"stages": stages}
    write(document, run.path("tests"))
    ended = stages["conformance"] in {"", "exit status 1"}  # with findings or without
    journals = [Journal(run.path(stage).with_suffix(".jsonl")) for stage in ("tests", "benchmarks")]
    if ended and all(any(event["event"] == "finished" for event in journal.events()) for journal in journals):
        for journal in journals:  # nobody goes on from them
            journal.path.unlink()
    print(summary(document), *(f"{stage}: {how or 'done'}" for stage, how in stages.items()), sep="\n")
    return status or int(not all_passed(document) or any(stages.values()))


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Have SIGTERM interrupt as Ctrl-C does."""
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> None:
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


def build(root: Path, until: float) -> str:
    """Build what is compiled in its folder, where it is missing; returns what is missing still, or nothing."""
    missing = _missing(root)
    if missing:
        launch(Watched(["setup", "--quiet", "build_ext", "--inplace"], root, variables()), until=until)
        missing = _missing(root)
    return f"{', '.join(missing)} could not be built" if missing else ""


def _missing(root: Path) -> list[str]:
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    paths = {name: root.joinpath(*name.split(".")) for name in COMPILED}
    return [name for name, path in paths.items() if not any(path.with_name(path.name + suffix).exists() for suffix in suffixes)]


def record_tests(
    run: Run, facts: dict[str, Any], *, preload: Sequence[str] = ("torch", "cupy"), limit: float = LIMITS["tests"]
) -> dict[str, Any]:
    """Run the tests marked ``gpu``; write and return the results, whatever becomes of the processes."""
    path, journal = run.path("tests"), _journal(run, "tests")

    def written(stopped: str) -> dict[str, Any]:
        document = compose(journal.events(), facts, stopped)
        write(document, path)
        return document

    if any(event["event"] == "finished" for event in journal.events()):  # before the run was stopped
        return written("")
    written("the run has not ended")
    options = ["--record", str(journal.path), *(word for name in preload for word in ("--preload", name))]
    watched = run.watched(*PYTEST, *options, *test_files(run.root))
    try:
        ending = supervise(
            watched, journal, until=run.deadline.of("tests"), limit=limit, meanwhile=lambda: written("the run has not ended")
        )
    except KeyboardInterrupt:
        written("interrupted")
        raise
    return written("" if ending.finished else ending.because)


def _journal(run: Run, stage: str) -> Journal:
    journal = Journal(run.path(stage).with_suffix(".jsonl"))
    if not run.resume:
        journal.path.unlink(missing_ok=True)
    return journal


def test_files(root: Path) -> list[str]:
    """Return the files that have GPU tests: to collect all others takes longer than many of the tests."""
    found = sorted(path for path in (root / "tests").rglob("test_*.py") if _MARK.search(path.read_text(encoding="utf-8")))
    return [path.relative_to(root).as_posix() for path in found]


def run_benchmarks(run: Run) -> str:
    """Measure into a file; returns what went wrong, or nothing."""
    path, journal = run.path("benchmarks"), _journal(run, "benchmarks")
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
    return launch(run.watched("conformance.gpu", *words), until=run.deadline.of("conformance"))


def variables(output: Path | None = None) -> dict[str, str]:
    """Return the environment variables for a stage: a missing GPU is a failure, and a stranger's pytest plugins stay out."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    own = {"INTEROP_REQUIRE_GPU": os.environ.get("INTEROP_REQUIRE_GPU", "1"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": path}
    # JAX would take three quarters of the card when it starts: docs.jax.dev, "GPU memory allocation".
    own["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    # Streams share the queues of the device, 8 unless set: two that share one are in order whoever waits (CUDA C++ Programming Guide).
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
