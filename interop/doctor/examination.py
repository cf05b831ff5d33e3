"""What is installed here, what is wrong with it, and which known issues these versions have: `examine`.

It has to work on broken installations most of all. So it imports no array library at its top, captures what a
library prints, and turns whatever a library raises into a finding. What is known about one library lives in its
backend's package, also what is checked before its import, because a broken library cannot be called; here is only
what is checked for all of them.
"""

from __future__ import annotations

import contextlib
import io
import platform
import sys
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from interop._model.description import Device
from interop._version import __version__
from interop.backends import BROKEN, backend_names, load_backend
from interop.doctor.compiled import compiled_half
from interop.doctor.cuda import EMPTY, cuda_state, disagreements
from interop.doctor.distributions import Distributions, known_library
from interop.doctor.dlpack_support import UNKNOWN, dlpack_support
from interop.doctor.name_clash import name_clash
from interop.errors import BackendNotInstalledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from interop.backends.base import Backend, KnownIssue

__all__ = ["SCHEMA", "Visit", "examine", "load"]

SCHEMA = 1
"""The version of the structure that `examine` returns; goes up when a key changes its meaning or goes away."""


@dataclass
class Visit:
    """One library: its backend if it loads, else what to do; `problem` says why it is broken, empty if it is just not there."""

    name: str
    backend: Backend | None = None
    problem: str = ""
    repair: str = ""
    warnings: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


def examine() -> dict[str, Any]:
    """Return the state of this installation as plain data; ``docs/doctor.md`` says what each key means."""
    distributions = Distributions()
    # All of them first: some issues are between two libraries.
    visits = [load(name) for name in backend_names()]
    numpy = next(visit for visit in visits if visit.name == "numpy")
    for visit in visits:
        if visit.problem and numpy.backend is None and visit is not numpy:
            visit.repair = "Repair numpy first, which every library here needs"
        _look_for_findings(visit, distributions)
    # Before the findings are listed: they may add some.
    backends = [_facts(visit, distributions) for visit in visits]
    cuda = _cuda(visits)
    ours = [*name_clash(distributions), *distributions.unfit()]
    if numpy.backend is not None:  # the extension needs it, and its absence is another finding
        ours += compiled_half()
    findings = [("interop", ours), *((visit.name, visit.findings) for visit in visits)]
    return {
        "schema": SCHEMA,
        "interop": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "backends": backends,
        "cuda": cuda,
        "findings": [{"backend": name, "text": text} for name, texts in findings for text in dict.fromkeys(texts)],
        "known_trouble": [row for visit in visits for issue in _known_issues(visit) if (row := _row(issue, distributions))],
        "warnings": [{"backend": visit.name, "text": text} for visit in visits for text in dict.fromkeys(visit.warnings)],
    }


def load(name: str) -> Visit:
    """Import a library through its backend, whatever that raises."""
    visit = Visit(name)
    with _quiet(visit):
        try:
            visit.backend = load_backend(name)
        except BackendNotInstalledError as error:
            cause = error.__cause__ or error
            if isinstance(cause, ModuleNotFoundError) and cause.name == name:
                visit.repair = error.hint
            else:
                _note_broken(visit, cause)
        except BROKEN as error:
            _note_broken(visit, error)
    return visit


def _note_broken(visit: Visit, error: BaseException) -> None:
    visit.problem = f"its import fails with {type(error).__name__}: {_sentence(error)}"
    missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if missing not in ("", visit.name):
        visit.repair = f"Run pip install {missing}, or reinstall {visit.name} with what it depends on"
    else:
        visit.repair = f"Run python -c 'import {visit.name}' to see where; most often it helps to uninstall it and install it again"


class _Captured(io.StringIO):
    """Captures what a library prints; still has a file descriptor, for those that ask at import."""

    def fileno(self) -> int:
        return sys.__stderr__.fileno() if sys.__stderr__ else super().fileno()


@contextlib.contextmanager
def _quiet(visit: Visit) -> Iterator[None]:
    """Capture what a library warns about and prints: the answer may be JSON, and some print the traceback of an import."""
    printed = _Captured()
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        warnings.simplefilter("default")
        yield
    visit.warnings += [_sentence(one.message) for one in caught if not issubclass(one.category, DeprecationWarning)]
    if text := printed.getvalue().strip():
        words, _, frames = text.partition("Traceback (most recent call last)")
        visit.warnings.append(_sentence(words or frames.splitlines()[-1]))


def _sentence(error: object) -> str:
    """Return a message on one line, without its full stop and the rules that some libraries draw around theirs."""
    return " ".join(word for word in str(error).split() if word.strip("=-*")).rstrip(".") or "no message"


def _ask(visit: Visit, what: str, question: Callable[[], Any], otherwise: Any) -> Any:
    """Return the answer of a library; if it raises, that is a finding."""
    with _quiet(visit):
        try:
            return question()
        except BROKEN as error:
            visit.findings.append(f"{what} fails with {type(error).__name__}: {_sentence(error)}. Update {visit.name}, or reinstall it.")
            return otherwise


def _look_for_findings(visit: Visit, distributions: Distributions) -> None:
    found = visit.findings
    if visit.name == "numpy" and visit.backend is None and not visit.problem:
        found.append(f"numpy is not installed, and interop does not work without it. Run {visit.repair}.")
    if visit.problem:
        found.append(f"{visit.name} is installed, but {visit.problem}. {visit.repair}.")
    found += distributions.contradictions(visit.name, broken=bool(visit.problem))
    if visit.backend is not None:
        found += _ask(visit, "a check of the installation", visit.backend.findings, [])


def _cuda(visits: list[Visit]) -> dict[str, Any]:
    """Return the libraries' views of CUDA together; where they contradict each other, that is a finding."""
    asked = {visit.name: visit for visit in visits if visit.backend is not None and visit.backend.has_streams}
    backends = {name: visit.backend for name, visit in asked.items() if visit.backend is not None}
    views = {name: view for name, visit in asked.items() if (view := _ask(visit, "asking about CUDA", backends[name].cuda, None))}
    for text in disagreements(views):
        asked[next(iter(views))].findings.append(f"{text}.")
    if not views:
        return EMPTY
    return dict(_ask(asked[next(iter(views))], "asking for the memory of its device", lambda: cuda_state(views, backends), EMPTY))


def _known_issues(visit: Visit) -> tuple[KnownIssue, ...]:
    # From the file, where there is one: a library that cannot be imported has its issues all the same.
    known = known_library(visit.name)
    if known is not None:
        return known.issues
    return visit.backend.known_issues if visit.backend is not None else ()


def _row(issue: KnownIssue, distributions: Distributions) -> dict[str, Any] | None:
    versions = distributions.affected(issue)
    texts = {"happens": issue.happens, "advice": issue.advice, "link": issue.link}
    return {"id": issue.id, "versions": versions, **texts} if versions else None


def _facts(visit: Visit, distributions: Distributions) -> dict[str, Any]:
    """Return what a backend reports of its library, and what is measured; the same keys for one that does not load."""
    backend, found = visit.backend, distributions.find(visit.name)
    report: dict[str, Any] = _ask(visit, "its report", backend.report, {}) if backend else {}
    return {
        "name": visit.name,
        "status": "ok" if backend else "broken" if visit.problem else "missing",
        "distribution": found[0] if found else None,
        "version": report.get("version", found[1] if found else None),
        "install": None if backend or visit.problem else visit.repair,
        "devices": report.get("devices", []),
        "unavailable": _ask(visit, "asking for its devices", lambda: _unavailable(backend), {}) if backend else {},
        "cuda_build": report.get("cuda_build"),
        "dlpack": UNKNOWN | (_ask(visit, "a DLPack exchange", lambda: dlpack_support(backend, report), {}) if backend else {}),
    }


def _unavailable(backend: Backend) -> dict[str, str]:
    there = {backend.parse_device(name).type for name in backend.devices()}
    kinds = sorted(backend.capabilities.devices - {"cpu", "meta"} - there)
    return {kind: why for kind in kinds if (why := backend.why_unavailable(Device(kind)))}
