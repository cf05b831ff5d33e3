"""Has a process work off a list, whatever becomes of the process: a crash, a hang or a dead device costs one item and not the rest.

The process notes in a journal (`interop_conformance.running.journal`) which item it begins (``started``), what came of it, and that it has come to
the end of its list (``finished``). It skips what the journal has already. Here it is watched: where it dies or hangs, the item that
it was at gets the blame (``died``), and another process goes on with the next one. Stopping the watcher stops all, and blames no test.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from interop_conformance.running.journal import Journal

__all__ = ["GRACE_S", "Ending", "Watched", "end", "ended", "how", "launch", "started", "supervise"]

GRACE_S = 5.0
"""Seconds that a process has for its last words when its time is over."""

SILENT = "it ended without a word"
"""Why a process has no result that ended with status 0 before the end of its list."""

END_S = 10.0
"""Seconds that a process has to end once its list is at its end: what libraries do then may hang, and is no test's result."""

POLL_S = 0.1
"""Seconds between two looks at the journal."""

EVERY_S = 1.0
"""Seconds between two calls of what is done meanwhile."""


@dataclass(frozen=True)
class Watched:
    """How a process is run.

    Attributes
    ----------
    module : sequence of str
        What follows ``python -m``.
    root : Path
        The folder that it runs in.
    variables : mapping
        Its environment.
    """

    module: Sequence[str]
    root: Path
    variables: Mapping[str, str]


class Ending(NamedTuple):
    """How a list was worked off: whether to its end, and the last words of its process; why not, if it was not."""

    finished: bool
    because: str


@contextlib.contextmanager
def started(watched: Watched) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process in a session of its own, and end it with all that it started; it does not outlive this process either."""
    command = [sys.executable, "-m", *watched.module]
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _DIES_WITH_PARENT, str(os.getpid()), *command]
    process = None
    try:
        process = subprocess.Popen(command, cwd=watched.root, env=dict(watched.variables), start_new_session=True)  # noqa: S603 - our own modules
        yield process
    finally:
        if process is not None:
            end(process)


# No `preexec_fn`: with one, `subprocess` forks and calls what libraries have registered with `os.register_at_fork` (JAX warns there).
# PR_SET_PDEATHSIG (1 in linux/prctl.h) survives execve; a parent that ended before the call sends no signal, so it is looked for.
_DIES_WITH_PARENT = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, {int(signal.SIGKILL)})
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def end(process: subprocess.Popen[bytes], *, grace: float = GRACE_S) -> None:
    """End a process and all of its session; it is asked first, and has so many seconds to answer."""
    try:
        if grace and process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that is stuck in a driver must not hold this one too
            process.wait(GRACE_S)


def launch(watched: Watched, *, until: float) -> str:
    """Run a process until it ends or a time of `time.monotonic` has come; returns how it ended, or nothing if its status was 0."""
    begun = time.monotonic()
    with started(watched) as process:
        try:
            return how(process.wait(max(0.0, until - begun)))
        except subprocess.TimeoutExpired:
            return f"stopped after {until - begun:.0f} seconds"


def how(status: int) -> str:
    """Return how a process ended, in words; nothing for status 0."""
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    return f"exit status {status}" if status else ""


def supervise(watched: Watched, journal: Journal, *, until: float, limit: float, meanwhile: Callable[[], object] = lambda: None) -> Ending:
    """Run a process, and another one whenever it dies or hangs, until the list is at its end or the time is over.

    Parameters
    ----------
    watched, journal
        The process, and where it notes what it does.
    until
        A time of `time.monotonic` at which all is ended.
    limit
        Seconds that one item may take, and the start before the first.
    meanwhile
        Is called now and then.
    """
    begun, failures = time.monotonic(), 0
    while True:
        known = journal.events()
        before = ended(known)
        because = _run(watched, journal, len(known), until=until, limit=limit, meanwhile=meanwhile)
        events = journal.events()
        if any(event["event"] == "finished" for event in events):
            return Ending(finished=True, because=because)
        if events and events[-1]["event"] == "stopped":  # by itself, before its time was over
            return Ending(finished=False, because=events[-1]["because"])
        if time.monotonic() >= until:
            return Ending(finished=False, because=f"stopped after {until - begun:.0f} seconds")
        item = _at(events[len(known) :])
        if item is not None:
            journal.write(event="died", item=item, because=because or SILENT)
        failures = 0 if ended(journal.events()) > before else failures + 1
        if failures == 2:  # before its first item, or at one that it should have skipped
            return Ending(finished=False, because=because or SILENT)


def _run(watched: Watched, journal: Journal, known: int, *, until: float, limit: float, meanwhile: Callable[[], object]) -> str:
    """Run one process, of which the journal has all but the `known` events; returns how it ended."""
    size, since, last = -1, time.monotonic(), time.monotonic()
    finished = False
    with started(watched) as process:
        while process.poll() is None:
            time.sleep(POLL_S)
            now, before, size = time.monotonic(), size, _size(journal)
            if size != before:  # something has happened
                finished, since = any(event["event"] == "finished" for event in journal.events()[known:]), now
            if now >= until:
                return "its time was over"
            if now - since > (END_S if finished else limit):
                end(process, grace=0)  # it does not listen
                return "" if finished else f"no end after {limit:g} seconds"
            if now - last > EVERY_S:
                last = now
                with contextlib.suppress(OSError):  # a full disk now may have room later
                    meanwhile()
        return how(process.returncode)


def _size(journal: Journal) -> int:
    return journal.path.stat().st_size if journal.path.exists() else 0


_GO_ON = frozenset({"started", "phase"})
"""The events of an item that is not at its end yet."""


def ended(events: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the items that have come to their end, in one way or another."""
    return {event["item"] for event in events if "item" in event and event["event"] not in _GO_ON}


def _at(events: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the item that was begun last and has not ended."""
    at = None
    for event in events:
        if event["event"] == "started":
            at = event["item"]
        elif event.get("item") == at and event["event"] not in _GO_ON:
            at = None
    return at
