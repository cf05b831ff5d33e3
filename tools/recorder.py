"""A pytest plugin that notes every event at once: ``-p tools.recorder --record FILE``.

On a GPU a test can take the whole interpreter down, or leave a context in which every later call fails. So the record is a journal
(`interop_conformance.running.journal`): what is in it after the end is what happened before the end. `tools.supervise` starts another process, which
skips what has a result already; `tools.results` makes the results from the journal.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from interop_conformance.adapters._cuda import context_fault
from interop_conformance.running.journal import Journal

from tools.supervise import ended

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["POISONED", "Recorder", "anonymous", "line"]

LONGEST, WHOLE = 300, 20_000
"""Characters of a reason, and of the text of a failure."""

POISONED = 70
"""The exit status of a process whose CUDA context has died."""

COMPLETE = frozenset({0, 1, 5})
"""pytest's exit statuses after which every test has been run: all passed, some failed, there was none."""

_FOLDERS = re.compile(r"(?<![\w./])(?!//)(?:[A-Za-z]:)?[/\\](?:[^\s/\\'\":]+[/\\])+")


def anonymous(text: str) -> str:
    """Return a text without the folders of this machine.

    >>> anonymous("FileNotFoundError: '/home/me/data/x.npy', a/b")
    "FileNotFoundError: '.../x.npy', a/b"
    """
    return _FOLDERS.sub(".../", text)


def line(text: str) -> str:
    """Return the first line of a text that says something, anonymous and not too long."""
    first = next((part.strip() for part in text.splitlines() if part.strip()), "")
    return anonymous(first)[:LONGEST]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plugin's options."""
    group = parser.getgroup("recorder")
    group.addoption("--record", metavar="FILE", help="write every event to this file, one JSON object a line")
    group.addoption("--preload", metavar="MODULE", action="append", default=[], help="import this before warnings are errors")


def pytest_configure(config: pytest.Config) -> None:
    """Start recording, and import what shall be there before pytest turns warnings into errors."""
    for name in config.getoption("--preload"):
        # A library's import may warn under a newer NumPy or Python: that is no fault of the tests.
        # One that is missing is the tests' affair.
        with contextlib.suppress(ImportError), warnings.catch_warnings():
            warnings.simplefilter("default")
            importlib.import_module(name)
    if config.getoption("--record"):
        config.pluginmanager.register(Recorder(Journal(Path(config.getoption("--record")))))


class _Deadly(pytest.Module):
    """A file that is not imported."""

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        return []


class Recorder:
    """Notes what pytest reports, and leaves out what the journal has a result for."""

    def __init__(self, journal: Journal, fault: Callable[[], str] = context_fault) -> None:
        self.journal, self.fault = journal, fault
        self.done = ended(journal.events())
        self.deadly = {event["item"] for event in journal.events() if event["event"] == "died"}

    def pytest_pycollect_makemodule(self, module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
        """Leave out a file whose import has ended a process; `pytest_ignore_collect` is not asked of files that were named."""
        found = _Deadly.from_parent(parent, path=module_path)
        return found if found.nodeid in self.deadly else None

    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        if isinstance(collector, pytest.Module):
            self.journal.write(event="started", item=collector.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            text = str(report.longrepr)
            errors = [part.removeprefix("E ").strip() for part in text.splitlines() if part.startswith("E ")]
            self.journal.write(event="broken", item=report.nodeid, reason=line("\n".join(errors) or text), text=whole(report))
        elif report.nodeid.endswith(".py"):
            self.journal.write(event="imported", item=report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Run only what has no result; what takes long comes last, since a stop loses what comes last."""
        left = [item for item in items if item.nodeid not in self.done]
        if len(left) < len(items):
            config.hook.pytest_deselected(items=[item for item in items if item.nodeid in self.done])
        items[:] = sorted(left, key=lambda item: item.get_closest_marker("slow") is not None)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.journal.write(event="collected", tests=[item.nodeid for item in session.items])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.journal.write(event="started", item=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.journal.write(
            event="phase",
            item=report.nodeid,
            when=report.when,
            outcome=report.outcome,
            expected=hasattr(report, "wasxfail"),
            duration=report.duration,
            reason=reason(report),
            figures=dict(report.user_properties),
            # pytest prints it at its end, which a process that dies does not reach.
            **({"text": whole(report)} if report.failed else {}),
        )

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        fault = self.fault()
        if fault:
            # Every later test of this process would fail for what this one did.
            self.journal.write(event="poisoned", item=nodeid, because=f"it left a dead CUDA context: {fault}")
            os._exit(POISONED)
        self.journal.write(event="ended", item=nodeid)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if int(exitstatus) in COMPLETE:
            self.journal.write(event="finished")


def whole(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the traceback and what was captured, without the folders of this machine."""
    sections = [f"{title}\n{text}" for title, text in report.sections]
    return anonymous("\n".join([report.longreprtext, *sections]))[-WHOLE:]


def reason(report: pytest.TestReport) -> str | None:
    """Return why a phase did not pass; None if it did."""
    if hasattr(report, "wasxfail"):
        return line(report.wasxfail) or "xfail"
    if report.passed:
        return None
    if report.skipped and isinstance(report.longrepr, tuple):
        return line(report.longrepr[2].removeprefix("Skipped: "))
    crash = getattr(report.longrepr, "reprcrash", None)
    # A longrepr without a crash's place (a fixture that is not found, say) ends with what is wrong.
    return line(crash.message if crash else "\n".join(reversed(report.longreprtext.splitlines())))
