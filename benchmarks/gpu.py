"""The benchmarks on a CUDA device: ``python -m benchmarks.gpu [--output FILE [--resume]] [--seconds N] [--quick] [--only ID]``.

A device can take the process down, hang, or refuse everything after one error. So the results are written after every case
(`benchmarks.record`), and whoever starts this can start it again, with ``--resume``, to have the other cases measured.

======  ==================================================================================================
status
======  ==================================================================================================
0       all was measured, and every budget holds
1       a budget does not hold, a case failed, or the run was stopped by SIGTERM or the end of its time
3       there is no device that both torch and CuPy can use
70      the last case left a CUDA context in which nothing works; the others need a new process
130     stopped by SIGINT
======  ==================================================================================================
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from interop_conformance.adapters._cuda import context_fault

from benchmarks.environment import NoDeviceError, gpu_environment
from benchmarks.gpu_cases import CASES, DEVICE
from benchmarks.interrupts import Interrupts, StoppedError
from benchmarks.record import Record
from benchmarks.run import arguments, chosen, conclude, tell
from benchmarks.runner import rows_of
from benchmarks.timing import FULL, QUICK, Settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.case import Case

__all__ = ["CASES", "DEVICE", "NO_DEVICE", "POISONED", "SETTINGS", "main"]

NO_DEVICE, POISONED = 3, 70
"""The exit statuses where there is no device, and where the CUDA context is dead."""

SETTINGS = FULL._replace(seconds=3)
"""All of the cases take about 75 s; `benchmarks.gpu_cases` has the sum."""


def main(
    argv: Sequence[str] | None = None,
    probe: Callable[[], dict[str, Any]] = gpu_environment,
    *,
    cases: Sequence[Case] = CASES,
    makers: Mapping[str, Callable[[], Any]] = DEVICE,
    settings: Settings = SETTINGS,
    fault: Callable[[], str] = context_fault,
) -> int:
    """Measure everything on the device; returns the exit status. The other parameters are for tests.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; default: the command line's.
    probe : callable
        Returns what the numbers belong to, or raises `NoDeviceError`.
    cases, makers, settings
        What is measured, and how much.
    fault : callable
        Returns what has ended the CUDA context; empty for nothing.
    """
    given = _arguments(argv)
    record = Record(chosen(cases, given.only), given.output, resume=given.resume)
    with Interrupts(given.seconds) as interrupts:
        if not record.facts:
            try:
                with interrupts.allowed():
                    record.facts = probe()
            except NoDeviceError as error:
                print(f"no CUDA device: {error}", file=sys.stderr)
                return NO_DEVICE
            except StoppedError as stop:
                print(f"{stop.reason}, before the device was found", file=sys.stderr)
                return stop.status
        record.begin()
        stopped = _measure(record, makers, QUICK if given.quick else settings, fault, interrupts)
        report = record.stop(stopped.reason) if stopped else record.finish()
    held = conclude(report)
    return stopped.status if stopped else held


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--resume", action="store_true", help="go on where an earlier run into the same FILE ended")
        parser.add_argument("--seconds", type=float, metavar="N", help="stop after so long, with what was measured by then")

    given = arguments(argv, "python -m benchmarks.gpu", add)
    if given.resume and not given.output:
        raise SystemExit("--resume needs --output: the journal of the earlier run lies beside that file.")
    return given


def _measure(
    record: Record, makers: Mapping[str, Callable[[], Any]], settings: Settings, fault: Callable[[], str], interrupts: Interrupts
) -> StoppedError | None:
    """Measure what has no rows yet; return what stopped it, if anything did."""
    for case in record.missing:
        tell(case.title)
        record.start(case)
        try:
            with interrupts.allowed():
                rows = rows_of(case, makers, settings)
        except StoppedError as stop:
            return stop
        if because := fault():
            record.poison(case, f"the CUDA context died: {because}")
            _leave()
        record.keep(case, rows)
        gc.collect()  # `timeit` turns the collector off, and the next case needs the memory
    return None


def _leave() -> NoReturn:
    """End the process at once: with a dead context the libraries' own clearing up may fail or hang."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(POISONED)


if __name__ == "__main__":
    raise SystemExit(main())
