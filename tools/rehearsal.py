"""Rehearses ``make gpu`` without a GPU: ``make gpu-rehearsal``, or ``python -m tools.rehearsal [--output DIR] [--seconds N]``.

The runner is the real one, on the CUDA device that is emulated on the processor (tests/emulated). With a torch that was built for CUDA all three
stages do their work; with another one the tests are skipped, each with its reason, there is nothing to measure, and the conformance suite runs
with CuPy.

The run is killed three times, as a borrowed machine may be: each time with all of its processes, and without a warning. What is there then is
read, and the run goes on with ``--resume``. At the end everything has a result, nothing took longer than it may, and only
what the emulation cannot show has failed (tests/emulated/limits.toml).

Status 0 if all was so, 1 if not, 3 where nothing can be emulated.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interop_conformance.gpu import NOT_REACHED
from interop_conformance.results import files as conformance_results
from interop_conformance.results.deviations import findings
from interop_conformance.running.journal import Journal

from benchmarks import report
from tests.emulated.building import why_not
from tests.emulated.limits import reason_for
from tests.emulated.surroundings import environment
from tools import gpu, results

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["NAME", "NOTHING", "main"]

NAME, NOTHING = "rehearsal", 3
MARK = "INTEROP_REHEARSAL"
"""An environment variable by which the processes of a run are known, in whatever session they are."""

RUNNER = """
import sys
from benchmarks.environment import NoDeviceError, environment
from tools import gpu

def probe():
    try:
        return gpu.probed(gpu.ROOT)
    except NoDeviceError as error:  # torch was built for the processor
        return {"gpu": "emulated, for CuPy alone", "reason": str(error)} | environment()

gpu.LIMITS["benchmarks"] = 120.0  # the processor copies the 2 GiB that a device copies
raise SystemExit(gpu.main(sys.argv[1:], probe))
"""


@dataclass
class Rehearsal:
    """A run into a folder, with what was found to be wrong with it."""

    output: Path
    seconds: float
    variables: Mapping[str, str]
    wrong: list[str] = field(default_factory=list)
    done: dict[str, dict[str, int]] = field(default_factory=dict)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start the runner."""
        command = [sys.executable, "-c", RUNNER, "--output", str(self.output), "--name", NAME, "--seconds", f"{self.seconds:g}", *words]
        return subprocess.Popen(command, cwd=gpu.ROOT, env=dict(self.variables), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - our own

    def journal(self, stage: str) -> Journal:
        """Return the journal of a stage."""
        if stage == "conformance":
            found = sorted((self.output / "conformance" / "results").glob("cuda-*.jsonl"))
            return Journal(found[0] if found else self.output / "none.jsonl")
        folder = "benchmarks" if stage == "benchmarks" else "conformance"
        return Journal(self.output / folder / "results" / f"gpu-{NAME}.jsonl")

    def kill_at(self, stage: str, count: int, *words: str, alone: bool) -> None:
        """Start the runner, and kill it when a stage has so many results: `alone`, which its processes must not outlive, or with all of them."""
        runner, begun = self.start(*words), time.monotonic()
        while runner.poll() is None and len(_done(self.journal(stage).events())) < count:
            time.sleep(0.1)
        line = f"killed in {stage} after {time.monotonic() - begun:.0f} s"
        if runner.poll() is not None:
            self.wrong.append(f"the run ended with status {runner.returncode} before {stage} had {count} results")
        runner.kill()
        runner.wait()
        if alone and (left := _left(self.variables[MARK])):
            self.wrong.append(f"{left} processes have outlived the runner that was killed in {stage}")
        kill(self.variables[MARK])
        self.again()
        self.note()
        known = ", ".join(f"{len(items)} of {name}" for name, items in self.done.items() if items)
        print(f"{line}; the journals know {known}. Written: {self.state()}", flush=True)

    def note(self) -> None:
        """Note what has a result now, and how often it was begun: once more than that is once too often."""
        for stage in gpu.STAGES:
            events = self.journal(stage).events()
            begun = _begun(events)
            self.done[stage] = {item: begun[item] for item in _done(events)}

    def again(self) -> None:
        """Look that what had a result when the run was killed last has it still, and was not run again."""
        for stage, items in self.done.items():
            events = self.journal(stage).events()
            begun = _begun(events)
            # A file of tests is imported again by each process.
            twice = sorted(item for item, times in items.items() if begun[item] > times and not item.endswith(".py"))
            lost = sorted(items.keys() - _done(events)) if events else []
            self.wrong += [f"{stage}: run again after it had a result: {item}" for item in twice] + [
                f"{stage}: lost: {item}" for item in lost
            ]

    def state(self) -> str:
        """Read all that is written, which must be whole, and say what is in it; what is not whole is wrong."""
        found = []
        for stage, read in (("tests", self.tests), ("benchmarks", self.rows), ("conformance", self.cases)):
            try:
                outcomes = read()
            except (ValueError, OSError) as error:
                self.wrong.append(f"{stage}: what is written cannot be read: {error}")
            else:
                counted = ", ".join(f"{count} {outcome}" for outcome, count in sorted(Counter(outcomes.values()).items()))
                found.append(f"{stage}: {counted or 'nothing yet'}")
        return "; ".join(found)

    def tests(self) -> dict[str, str]:
        """Return the outcomes of the tests, by their ids."""
        path = self.output / "conformance" / "results" / f"gpu-{NAME}.json"
        return {record["nodeid"]: record["outcome"] for record in results.read(path, partial=True)["tests"]} if path.exists() else {}

    def rows(self) -> dict[str, str]:
        """Return the states of the benchmarks, by their ids."""
        path = self.output / "benchmarks" / "results" / f"gpu-{NAME}.json"
        return {f"{row['id']}: {row['reference']}": row["status"] for row in report.read(path)["rows"]} if path.exists() else {}

    def records(self) -> conformance_results.Results | None:
        """Return the conformance suite's results."""
        found = sorted((self.output / "conformance" / "results").glob("cuda-*.json.gz"))
        return conformance_results.read(found[0]) if found else None

    def cases(self) -> dict[str, str]:
        """Return the outcomes of the cases, by their ids."""
        found = self.records()
        return {record.case.id: record.outcome for record in found.records} if found else {}

    def finish(self, *words: str) -> float:
        """Let the run come to its end; returns how many seconds that took."""
        begun = time.monotonic()
        runner = self.start(*words)
        try:
            status = runner.wait(self.seconds + 60)
        except subprocess.TimeoutExpired:
            self.wrong.append(f"the run did not end {60} s after its deadline")
            kill(self.variables[MARK])
            status = runner.wait()
        if status not in {0, 1}:
            self.wrong.append(f"the run ended with status {status}")
        return time.monotonic() - begun

    def judge(self, *, torch_has_cuda: bool) -> None:
        """Look that everything has a result, and that what failed is what the emulation cannot show."""
        tests, rows, records = self.tests(), self.rows(), self.records()
        failed = {name for name, outcome in tests.items() if outcome in results.BAD}
        self.wrong += [f"{tests[name]}: {name}" for name in sorted(failed) if not reason_for(name)]
        self.wrong += [f"not reached: {name}" for name, outcome in tests.items() if outcome == "not-run"]
        if torch_has_cuda:
            passed = {name for name, outcome in tests.items() if outcome == "passed"}
            self.wrong += [
                f"passes, and is listed as what the emulation cannot show: {name}" for name in sorted(passed) if reason_for(name)
            ]
            self.wrong += [f"{rows[name]}: {name}" for name in rows if rows[name] in {"failed", "not-run"} and not reason_for(name)]
            self.wrong += [] if passed else ["no test has passed"]
        if records is None:
            self.wrong.append("conformance: there are no results")
            return
        left = sum(record.outcome == "not-run" and record.reason.startswith(NOT_REACHED) for record in records.records)
        self.wrong += [f"conformance: {left} cases were not reached"] if left else []
        self.wrong += [f"{one.kind}: {one.about}: {one.text}" for one in findings(records) if not reason_for(one.about)]


def _done(events: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return what a journal has results for."""
    ends = {"ended", "died", "poisoned", "rows"}
    return {event.get("item", event.get("case", "")) for event in events if "case" in event or event.get("event") in ends}


def _begun(events: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Return how often each item was begun, or each case answered."""
    return Counter(event.get("item", event.get("case", "")) for event in events if event.get("event") == "started" or "case" in event)


def kill(token: str) -> None:
    """Kill every process of a run, until there is none."""
    while found := processes(token):
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)
        time.sleep(0.05)


def _left(token: str, seconds: float = 15.0) -> int:
    """Return how many processes of a run are there still, after some time to end by themselves."""
    end = time.monotonic() + seconds
    while (left := processes(token)) and time.monotonic() < end:
        time.sleep(0.1)
    return len(left)


def processes(token: str) -> list[Path]:
    """Return the folders in /proc of a run's processes."""
    wanted = f"{MARK}={token}".encode()
    return [process for process in Path("/proc").iterdir() if process.name.isdigit() and wanted in _variables_of(process)]


def _variables_of(process: Path) -> Sequence[bytes]:
    try:
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return ()


def _torch_has_cuda(variables: Mapping[str, str]) -> bool:
    code = "import torch; raise SystemExit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], env=dict(variables), check=False, capture_output=True).returncode == 0  # noqa: S603 - our own


def rehearse(output: Path, seconds: float, variables: Mapping[str, str], *, tell: Callable[[str], object] = print) -> list[str]:
    """Run all, killed three times; returns what was wrong."""
    begun = time.monotonic()
    torch_has_cuda = _torch_has_cuda(variables)
    # Without a device for torch nothing is measured, and pytest's skips are no failures.
    moments = (
        (("tests", 40), ("benchmarks", 4), ("conformance", 200))
        if torch_has_cuda
        else (("tests", 40), ("conformance", 50), ("conformance", 300))
    )
    # Two cores that do other things too are slower than a host with a GPU.
    own = {MARK: uuid.uuid4().hex, "INTEROP_GPU_DELAY_MS": "800"} | ({} if torch_has_cuda else {"INTEROP_REQUIRE_GPU": "0"})
    rehearsal = Rehearsal(output, seconds, {**variables, **own})
    words: tuple[str, ...] = ()
    for stage, count in moments:
        rehearsal.kill_at(stage, count, *words, alone=stage != "benchmarks")
        words = ("--resume",)
    took = rehearsal.finish(*words)
    rehearsal.judge(torch_has_cuda=torch_has_cuda)
    tell(f"ended after {took:.0f} s, {time.monotonic() - begun:.0f} s in all: {rehearsal.state()}")
    return rehearsal.wrong


def main(argv: Sequence[str] | None = None) -> int:
    """Rehearse; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.rehearsal", description="Rehearse `make gpu` on an emulated CUDA device.")
    parser.add_argument("--output", metavar="DIR", type=Path, help="keep the results here; default: nowhere")
    parser.add_argument("--seconds", type=float, default=2 * gpu.SECONDS, help="the deadline of each run; default: %(default)s")
    given = parser.parse_args(argv)
    if reason := why_not():
        print(f"nothing can be emulated here: {reason}", file=sys.stderr)
        return NOTHING
    with tempfile.TemporaryDirectory() as folder:
        wrong = rehearse(given.output or Path(folder) / "out", given.seconds, environment(Path(folder)))
    print(*wrong, f"{len(wrong)} things were wrong" if wrong else "as it should be", sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
