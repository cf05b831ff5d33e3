"""Runs a selection in processes of its own, and puts the answers into results."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from interop_conformance.results.files import Results
from interop_conformance.results.outcomes import Observed
from interop_conformance.results.records import Record
from interop_conformance.running.environment import environment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from interop_conformance.adapters import Adapter
    from interop_conformance.results.records import Case

__all__ = ["LIMIT", "Stop", "results_of", "run"]

LIMIT = 20.0
"""Seconds that a case may take; the first one in a process starts the library."""

ENVIRONMENT = {
    # glibc fills what is allocated with one pattern and what is freed with its complement: uninitialised memory is never right by luck.
    "MALLOC_PERTURB_": "165",
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",  # its cache of small blocks would reuse them as they were left
    # One thread each: as many children as cores are at work already.
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # JAX would take the GPU as its default, and its adapter is about the CPU.
    "JAX_PLATFORMS": "cpu",
    # torch asks the driver whether there is a GPU, which no fork survives, unless it is set to ask NVML.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    "PYTHONFAULTHANDLER": "",
}


class Stop(Exception):  # noqa: N818 - not an error: the run was stopped from outside
    """Ends a run from a signal handler: what has no answer by then is ``not-run``, and the message is the reason."""


def run(
    cases: Sequence[Case],
    adapters: Mapping[str, Adapter],
    *,
    selection: Mapping[str, Any] | None = None,
    extra: Sequence[str] = (),
    jobs: int | None = None,
    limit: float = LIMIT,
    on_result: Callable[[Case, Observed], None] = lambda _case, _observed: None,
    known: Mapping[str, Observed] | None = None,
) -> Results:
    """Run the cases and return the results, in the order of the cases.

    `Stop`, raised by a signal handler, ends the run early, with results all the same.

    Parameters
    ----------
    cases, adapters
        What to run, and the libraries by name.
    selection
        What stands in the header about the choice of cases; empty for all.
    extra
        The adapters besides the built-in and installed ones, as ``module:object``: the process that runs the cases loads them too.
    jobs
        Processes at a time; default: one for each core.
    limit
        Seconds that a case may take.
    on_result
        Is called with each case and what was observed, in the order in which they end.
    known
        Answers of an earlier run by the cases' ids; these cases are not run again.
    """
    answers = dict(known or {})

    def answered(case: Case, observed: Observed) -> None:
        answers[case.id] = observed
        on_result(case, observed)

    reason = ""
    try:
        while left := [case for case in cases if case.id not in answers]:
            asked = {
                "adapters": list(extra),
                "libraries": _needed(left, adapters),
                "cases": [list(case) for case in left],
                "jobs": jobs or os.cpu_count() or 1,
                "limit": limit,
            }
            reason, culprit = _answers(asked, left, answered)
            if not culprit:
                break
            for case in left:  # the others run in another process, without that library
                if culprit in (case.producer, case.consumer):
                    answered(case, Observed("not-run", reason))
        return results_of(cases, answers, reason, adapters, selection or {})
    except Stop as stop:  # once: its handler raises no other
        return results_of(cases, answers, str(stop), adapters, selection or {})


def results_of(
    cases: Sequence[Case], answers: Mapping[str, Observed], reason: str, adapters: Mapping[str, Adapter], selection: Mapping[str, Any]
) -> Results:
    """Return the results of cases, some of which may have no answer, and why they have none."""
    lost = Observed("not-run", reason)
    records = tuple(_record(case, answers.get(case.id, lost)) for case in cases)
    return Results(environment_of(adapters, selection), records)


def _answers(asked: Mapping[str, Any], cases: Sequence[Case], answered: Callable[[Case, Observed], None]) -> tuple[str, str]:
    """Have the nursery run the cases; returns why some of them have no answer, and which library is to blame, if one is."""
    culprit = fault = ""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as lines, _nursery(writing) as nursery:
        os.close(writing)
        assert nursery.stdin
        try:
            with contextlib.suppress(BrokenPipeError), nursery.stdin:  # it may be dead, and its status says how
                nursery.stdin.write(json.dumps({**asked, "answers": writing}).encode())
            for line in lines:
                match json.loads(line):
                    case []:
                        break
                    case ["preparing", name]:
                        culprit = name
                    case ["prepared"]:
                        culprit = ""
                    case ["fault", name, text]:
                        fault = f"{name} {text}"
                    case [index, *answer]:
                        answered(cases[index], Observed(*answer))
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(nursery.pid, signal.SIGKILL)  # its children too: an interrupted run leaves none behind
            raise
    ended = f"ended with status {nursery.returncode}"
    return fault or (f"the process that prepared {culprit} {ended}" if culprit else f"the process that runs the cases {ended}"), culprit


def _needed(cases: Sequence[Case], adapters: Mapping[str, Adapter]) -> list[str]:
    """Return the libraries that the cases are about: importing them all takes longer than most single cases."""
    named = {name for case in cases for name in (case.producer, case.consumer)}
    return [name for name, adapter in adapters.items() if name in named and not adapter.available()]


def _nursery(answers: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "interop_conformance.running.nursery"],
        stdin=subprocess.PIPE,
        stdout=2,  # what a library prints is no part of the run's output
        pass_fds=[answers],
        env={**os.environ, **ENVIRONMENT},
        start_new_session=True,
    )


def _record(case: Case, observed: Observed) -> Record:
    return Record(case, observed.outcome, observed.reason, (case.case,) if case.layer == "protocol" else ())
