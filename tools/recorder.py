"""A pytest plugin that writes down every event at once: ``-p tools.recorder --record FILE``.

On a GPU a test can take the whole interpreter down, so the record is a file of lines, each flushed as it is written;
what is in it after the end is what happened before the end. `tools.results` makes the results from it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

__all__ = ["Recorder", "anonymous", "line"]

LONGEST = 300
"""Characters of a reason; the whole traceback is on the screen."""

_FOLDERS = re.compile(r"(?<![\w./])(?!//)(?:[A-Za-z]:)?[/\\](?:[^\s/\\'\":]+[/\\])+")
_GPU_MARK = re.compile(r"\bmark\.gpu\b")
_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([^']+)'")


def anonymous(text: str) -> str:
    """Return a text without the folders of this machine.

    >>> anonymous("FileNotFoundError: '/home/me/data/x.npy', a/b")
    "FileNotFoundError: '.../x.npy', a/b"
    """
    return _FOLDERS.sub(".../", text)


def line(text: str) -> str:
    """Return the first line of a text that says something, anonymous and not too long."""
    said = next((part.strip() for part in text.splitlines() if part.strip()), "")
    return anonymous(said)[:LONGEST]


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
        config.pluginmanager.register(Recorder(Path(config.getoption("--record")), config.rootpath))


class Recorder:
    """Writes what pytest tells."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path, self.root = path, root

    def write(self, **event: Any) -> None:
        """Append one event, and let go of the file."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.failed:
            return
        text = str(report.longrepr)
        errors = [part.removeprefix("E ").strip() for part in text.splitlines() if part.startswith("E ")]
        found = _NO_MODULE.search(text)
        if found and not self.has_gpu_tests(report.nodeid):
            self.write(event="not-run", nodeid=report.nodeid, reason=f"no GPU tests in it, and it needs {found.group(1).partition('.')[0]}")
        else:
            self.write(event="broken", nodeid=report.nodeid, reason=line("\n".join(errors) or text))

    def has_gpu_tests(self, nodeid: str) -> bool:
        """Return whether a file that could not be imported may hold GPU tests: its text says so, or cannot be read."""
        try:
            return bool(_GPU_MARK.search((self.root / nodeid).read_text(encoding="utf-8")))
        except OSError:
            return True

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.write(event="collected", count=len(session.items))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.write(event="started", nodeid=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.write(
            event="phase",
            nodeid=report.nodeid,
            when=report.when,
            outcome=report.outcome,
            expected=hasattr(report, "wasxfail"),
            duration=report.duration,
            reason=reason(report),
        )

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.write(event="finished", status=int(exitstatus))


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
