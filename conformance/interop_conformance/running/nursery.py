"""Runs cases in child processes, so that a crash is contained: one process imports every library, and forks the children.

``python -m interop_conformance.running.nursery`` reads a selection from its standard input, and writes one line for each answer to a pipe that
the selection names: standard output is the libraries'. It never runs a case itself. A child runs a batch of them, one after the other; if it dies, the case it was at is run again alone in a
fresh child, to separate what it does by itself from what an earlier one did to the heap; if it hangs, it is stopped. The libraries are imported once, before the
first fork, and started in none but the children: threads do not survive a fork.

`MALLOC_PERTURB_` is set by `interop_conformance.running.run`: fresh and freed memory is filled with a pattern, so that uninitialised memory is never right by luck.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import os
import resource
import selectors
import signal
import sys
import tempfile
import time
import warnings
from collections import deque
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from interop_conformance.adapters import load_adapters
from interop_conformance.adapters._cuda import started
from interop_conformance.results.outcomes import Observed
from interop_conformance.results.records import Case
from interop_conformance.results.texts import first_sentence
from interop_conformance.running.observe import observe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from interop_conformance.adapters import Adapter

__all__ = ["Nursery", "main"]

_PDEATHSIG = 1  # PR_SET_PDEATHSIG, linux/prctl.h

UNPREPARED = 71
"""The exit status where a library cannot be prepared in a process that forks."""

BATCH = 2000
"""Cases a child runs: a fork and a library's start cost as much as many cases."""


@dataclass
class _Child:
    """A child at work; `at` is the place in `batch` of the case that it is running."""

    pid: int
    pipe: int
    words: IO[bytes]
    batch: Sequence[int]
    deadline: float
    at: int = 0
    rest: bytes = b""


@dataclass
class Nursery:
    """Runs every case and calls `answered(index, observed)` with each answer."""

    adapters: Mapping[str, Adapter]
    cases: Sequence[Case]
    answered: Any
    jobs: int = 1
    limit: float = 20.0
    batch: int = BATCH
    children: dict[int, _Child] = field(default_factory=dict)
    _died: dict[int, Observed] = field(default_factory=dict)

    def run(self) -> None:
        """Run all, as many children at a time as there are jobs."""
        size = max(1, min(self.batch, -(-len(self.cases) // max(self.jobs, 1))))
        indices = range(len(self.cases))
        self.waiting: deque[Sequence[int]] = deque(indices[start : start + size] for start in range(0, len(indices), size))
        self.selector = selectors.DefaultSelector()
        while self.waiting or self.children:
            while self.waiting and len(self.children) < self.jobs:
                self._start(self.waiting.popleft())
            self._listen()

    def _start(self, batch: Sequence[int]) -> None:
        reading, writing = os.pipe()
        words = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the child is reaped
        sys.stdout.flush()  # what a library printed before must not be among the last words of a case
        with warnings.catch_warnings():
            # JAX, and Python from 3.12 on, warn of forks where there are threads. Nothing was started here before: see `Adapter.prepare`.
            warnings.simplefilter("ignore")
            pid = os.fork()
        if pid == 0:
            os.close(reading)
            self._be_a_child(batch, writing, words)
        os.close(writing)
        self.children[reading] = _Child(pid, reading, words, batch, time.monotonic() + self.limit)
        self.selector.register(reading, selectors.EVENT_READ)

    def _be_a_child(self, batch: Sequence[int], pipe: int, words: IO[bytes]) -> None:
        status = 70  # the suite itself failed: never an answer's
        try:
            _die_quietly()
            _die_with_parent()
            os.dup2(words.fileno(), 1)
            os.dup2(words.fileno(), 2)
            own = os.getpid()
            gc.disable()
            for index in batch:
                observed = observe(self.cases[index], self.adapters)
                # What dies with the arrays, dies in this case. All that the case made is in the youngest generation, since nothing
                # else collects; the older ones hold what the libraries keep, and looking through it takes longer than the case.
                gc.collect(0)
                if os.getpid() != own:  # the case forked, and this is what it made
                    break
                os.write(pipe, json.dumps(observed).encode() + b"\n")
            status = 0
        finally:
            os._exit(status)  # no interpreter's end: what libraries do there is no handoff

    def _listen(self) -> None:
        nearest = min(child.deadline for child in self.children.values())
        for key, _ in self.selector.select(max(0.0, nearest - time.monotonic())):
            child = self.children[key.fd]
            data = os.read(child.pipe, 1 << 16)
            self._heard(child, data) if data else self._ended(child)
        now = time.monotonic()
        for child in [child for child in self.children.values() if child.deadline < now]:
            os.kill(child.pid, signal.SIGKILL)
            self._ended(child, timed_out=True)

    def _heard(self, child: _Child, data: bytes) -> None:
        *lines, child.rest = (child.rest + data).split(b"\n")
        for line in lines:
            self._settle(child, Observed(*json.loads(line)))
        child.deadline = time.monotonic() + self.limit
        if child.at == len(child.batch):  # what it may have forked holds the pipe open, and is not waited for
            self._ended(child)

    def _settle(self, child: _Child, observed: Observed) -> None:
        index = child.batch[child.at]
        child.at += 1
        if index in self._died and observed.outcome != "crash":
            # It died in company and lives alone: something before it in the batch did that, or it is not the same each time.
            died = self._died.pop(index)
            observed = Observed(died.outcome, f"{died.reason} (not when it is run alone)")
        self.answered(index, observed)

    def _ended(self, child: _Child, *, timed_out: bool = False) -> None:
        self.selector.unregister(child.pipe)
        os.close(child.pipe)
        del self.children[child.pipe]
        _, status = os.waitpid(child.pid, 0)
        if child.at < len(child.batch):
            self._post_mortem(
                child,
                Observed("timeout", f"longer than {self.limit:g} s") if timed_out else Observed("crash", _last_words(status, child.words)),
            )
        child.words.close()

    def _post_mortem(self, child: _Child, observed: Observed) -> None:
        index, after = child.batch[child.at], child.batch[child.at + 1 :]
        if after:
            self.waiting.appendleft(after)
        if child.at == 0 or index in self._died or observed.outcome == "timeout":  # at 0 it was alone until then
            self._died.pop(index, None)
            self.answered(index, observed)
        else:
            self._died[index] = observed
            self.waiting.appendleft([index])


def _die_with_parent() -> None:
    """End this process when its parent is killed; where the system has no such thing, it ends by itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)


def _die_quietly() -> None:
    """Take out the handlers that print a trace: it takes seconds, and would be the last words, other ones each time."""
    faulthandler.disable()
    for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL):
        signal.signal(number, signal.SIG_DFL)


def _last_words(status: int, words: IO[bytes]) -> str:
    """Return how a process died, and the last message that it wrote."""
    how = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit status {os.waitstatus_to_exitcode(status)}"
    words.seek(max(0, words.seek(0, os.SEEK_END) - (1 << 16)))  # the last ones; a case may have written much
    # glog, and TensorFlow with it, writes the stack after the message: a line of stars, then one with @ for each frame.
    lines = [
        line for line in words.read().decode(errors="replace").splitlines() if not line.strip().startswith(("@", "***")) and line.strip()
    ]
    # A C++ exception names itself in the line before the stack.
    last = next((line for line in reversed(lines) if "what():" in line), lines[-1] if lines else "")
    return f"{how}: {first_sentence(last)}" if last else how


def main() -> None:
    """Read the selection, run it, and write the answers."""
    _die_with_parent()
    asked = json.load(sys.stdin)
    answers = os.fdopen(_own_descriptor(asked), "w")
    warnings.simplefilter("ignore")  # what a library only warns of is what the suite is there to see for itself
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump for each crash would take longer than the case

    def write(*event: Any) -> None:
        answers.write(json.dumps(event) + "\n")
        answers.flush()

    adapters = load_adapters(asked["adapters"])
    for name in asked["libraries"]:
        write("preparing", name)
        fault = _fault_of(adapters[name], warm=len(asked["cases"]) > BATCH)
        if fault:
            write("fault", name, fault)
            sys.exit(UNPREPARED)
    write("prepared")
    cases = [Case(*case) for case in asked["cases"]]
    gc.collect()
    gc.freeze()  # the children's collections then look at their own objects only, and the pages stay shared
    Nursery(adapters, cases, lambda index, observed: write(index, *observed), asked["jobs"], asked["limit"]).run()
    write()  # an explicit end: a grandchild may hold the pipe open


def _own_descriptor(asked: Mapping[str, Any]) -> int:
    """Return where the answers go, by default to what was standard output; neither libraries nor children have any business there."""
    own: int = asked.get("answers") or os.dup(1)
    os.set_inheritable(own, False)
    os.dup2(2, 1)
    return own


def _fault_of(adapter: Adapter, *, warm: bool) -> str:
    """Prepare a library; return what makes its cases impossible here, empty if nothing does."""
    try:
        adapter.prepare()
        if warm:
            adapter.warm_up()
    except (Exception, SystemExit) as error:  # whatever a library does when it is imported, the others' cases run
        return f"cannot be prepared: {type(error).__name__}: {first_sentence(str(error))}"
    # Every child would fail, and each for a reason that hides this one.
    return "starts CUDA when it is prepared, and CUDA does not survive a fork" if started() else ""


if __name__ == "__main__":
    main()
