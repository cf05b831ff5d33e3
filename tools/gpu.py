"""Everything that needs a GPU, with the Python that is active: ``python -m tools.gpu [--output DIR] [--name NAME]``.

It installs nothing and needs no virtual environment, because the machine with the GPU is often a borrowed one; there
interop may be the folder it is run in, without some of its dependencies. Its compiled parts are built in that folder if they are missing
and there is a compiler; without them its Python twin is measured, and `interop.cuda.cupy_pool` is not tested. The tests, the
conformance suite and the benchmarks run in processes of their own: one that takes its process down must leave a result that says so.

Status 0 if all went well, 1 if something failed, was found or died, 3 if there is no device that both torch and CuPy see.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.environment import NoDeviceError, environment_name, gpu_environment
from tools.results import BAD, all_passed, compose, events, opened, write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["NO_DEVICE", "ROOT", "main", "record_tests"]

NO_DEVICE = 3
ROOT = Path(__file__).resolve().parent.parent

BUILD_S, TESTS_S, CONFORMANCE_S, BENCHMARKS_S = 40, 180, 240, 120
"""Seconds after which each is stopped: together below the ten minutes that a borrowed machine gives a command."""

COMPILED = ("interop._quick", "interop._lend", "interop._async_pool")
"""What setup.py builds."""

PYTEST = (
    "pytest",
    *("-p", "tools.recorder", "-p", "no:cacheprovider"),
    # Instead of pyproject.toml's addopts, which ask for doctests too: none of them needs a GPU, and looking for them
    # would import every module, with libraries that are missing here.
    *("-o", "addopts=--strict-markers --strict-config --import-mode=importlib"),
    # A file without GPU tests may need what is missing here. It is recorded, and it must not stop the others.
    "--continue-on-collection-errors",
    *("-m", "gpu", "-ra"),
)


def main(argv: Sequence[str] | None = None, probe: Callable[[], dict[str, Any]] = gpu_environment) -> int:
    """Run all that needs a GPU; returns the exit status."""
    given = _arguments(argv)
    print(f"compiled parts: {build(given.root) or 'there'}", flush=True)
    try:
        facts = probe()
    except NoDeviceError as error:
        print(f"no CUDA device: {error}. Nothing was run; this needs a machine with one, and torch and CuPy built for it.", file=sys.stderr)
        return NO_DEVICE
    name = f"gpu-{given.name or environment_name(facts)}.json"
    tests, benchmarks = (Path(given.output) / folder / "results" / name for folder in ("conformance", "benchmarks"))
    document = record_tests(tests.resolve(), facts, root=given.root, seconds=given.seconds, preload=("torch", "cupy"))
    conforms = run_conformance(tests.resolve().parent, root=given.root)
    measured = run_benchmarks(benchmarks.resolve(), root=given.root)
    print(summary(document), f"conformance: {conforms or 'done'}", f"benchmarks: {measured or 'done'}", sep="\n")
    return 0 if all_passed(document) and not conforms and not measured else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.gpu", description="Run all that needs a GPU: tests, conformance suite, benchmarks."
    )
    parser.add_argument(
        "--output", metavar="DIR", default=ROOT, help="write under DIR/conformance and DIR/benchmarks; default: the checkout"
    )
    parser.add_argument("--name", help="name of the environment in the files' names; default: from the device and the versions")
    parser.add_argument("--root", metavar="DIR", type=Path, default=ROOT, help="the checkout; default: the one that this file is in")
    parser.add_argument("--seconds", type=float, default=TESTS_S, help="stop the tests after so long; default: %(default)s")
    return parser.parse_args(argv)


def build(root: Path) -> str:
    """Build what is compiled in its folder, where it is missing; returns what is missing still, or nothing."""
    missing = _missing(root)
    if missing:
        launch(["setup", "--quiet", "build_ext", "--inplace"], root=root, seconds=BUILD_S)
        missing = _missing(root)
    return f"{', '.join(missing)} could not be built" if missing else ""


def _missing(root: Path) -> list[str]:
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    paths = {name: root.joinpath(*name.split(".")) for name in COMPILED}
    return [name for name, path in paths.items() if not any(path.with_name(path.name + suffix).exists() for suffix in suffixes)]


def record_tests(path: Path, facts: dict[str, Any], *, root: Path, seconds: float, preload: Sequence[str] = ()) -> dict[str, Any]:
    """Run the tests marked ``gpu`` under `root`; write and return the results, whatever becomes of the process."""
    write(opened(facts), path)
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "events.jsonl"
        options = ["--record", str(record), *(word for name in preload for word in ("--preload", name))]
        ended = launch([*PYTEST, *options, "tests"], root=root, seconds=seconds)
        document = compose(events(record), facts, because=ended or "it ended without telling")
    write(document, path)
    return document


def run_conformance(folder: Path, *, root: Path) -> str:
    """Run the conformance suite's cases with a GPU, results into a folder; returns what went wrong, or nothing."""
    return launch(["conformance.gpu", "--output", str(folder)], root=root, seconds=CONFORMANCE_S)


def run_benchmarks(path: Path, *, root: Path) -> str:
    """Measure into a file; returns what went wrong, or nothing."""
    path.unlink(missing_ok=True)
    return launch(["benchmarks.gpu", "--output", str(path)], root=root, seconds=BENCHMARKS_S)


def launch(module: Sequence[str], *, root: Path, seconds: float) -> str:
    """Run ``python -m`` in a session of its own; returns how it ended, or nothing if its status was 0.

    When its time is over, what it started is ended with it.
    """
    command = [sys.executable, "-m", *module]
    process = subprocess.Popen(command, cwd=root, env=_variables(), start_new_session=True)  # noqa: S603 - our own modules
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"stopped after {seconds:g} seconds"
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"exit status {status}" if status else ""


def _variables() -> dict[str, str]:
    """Return the environment variables for a run: a missing GPU is a failure, and a stranger's pytest plugins stay out."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return os.environ | {"INTEROP_REQUIRE_GPU": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": path}


def summary(document: dict[str, Any]) -> str:
    """Return the outcome in a few lines: what did not pass, then the counts or how the run died."""
    notable = [record for record in document["tests"] if record["outcome"] in BAD or record["outcome"] in {"skipped", "not-run"}]
    lines = [f"{record['outcome']}: {record['nodeid']}: {record['reason']}" for record in notable]
    if "footer" in document:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in document["footer"].items() if count)
        return "\n".join([*lines, f"tests: {counts or 'none'}"])
    died = document["died"]
    during = f", during {died['during']}" if died["during"] else ""
    return "\n".join([*lines, f"tests: the run died ({died['because']}){during}; {died['missing']} of its tests have no result"])


if __name__ == "__main__":
    raise SystemExit(main())
