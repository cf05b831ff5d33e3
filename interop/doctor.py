"""What is installed here, what is wrong with it, and which known trouble these versions have: `examine`.

It must get through on exactly those machines where nothing else does. So it imports no array library at its
top, keeps what a library prints out of the answer, and turns whatever a library raises into a finding. What is
known about one library lives in that library's files (`interop.backends`), also what is asked before its
import, because a broken library cannot be asked anything; here is only what is asked of all of them.
"""

from __future__ import annotations

import contextlib
import platform
import sys
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from interop._installed import Installed, knowledge
from interop._version import __version__
from interop.backends import backend_names, load_backend
from interop.description import CPU, Device
from interop.dlpack import VERSION, Capsule
from interop.errors import BackendNotInstalledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from interop.backends._base import Backend, KnownTrouble

__all__ = ["BROKEN", "SCHEMA", "Visit", "examine", "load"]

SCHEMA = 1
"""The version of the structure that `examine` returns; goes up when a key changes its meaning or goes away."""

# Broad, because half an installation raises anything: ImportError (a missing symbol), OSError (a missing .so),
# RuntimeError (CUDA), AttributeError, NameError, LookupError and SyntaxError (mixed files), ValueError ("dtype
# size changed"), AssertionError ("not compiled with CUDA"), TypeError and BufferError (the probes). Named, and not
# Exception, so that a bug of ours (a ZeroDivisionError, say) is not told as somebody else's broken installation.
BROKEN = (
    ImportError,
    OSError,
    RuntimeError,
    AttributeError,
    NameError,
    LookupError,
    SyntaxError,
    ValueError,
    AssertionError,
    TypeError,
    BufferError,
)


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
    installed = Installed()
    # All of them first: some trouble is between two libraries.
    visits = [load(name) for name in backend_names()]
    for visit in visits:
        _look_for_findings(visit, installed)
    return {
        "schema": SCHEMA,
        "interop": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "backends": [_facts(visit, installed) for visit in visits],
        "findings": [{"backend": visit.name, "text": text} for visit in visits for text in dict.fromkeys(visit.findings)],
        "known_trouble": [row for visit in visits for trouble in _troubles(visit) if (row := _row(trouble, installed))],
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
    visit.repair = f"Run python -c 'import {visit.name}' to see where; most often it helps to uninstall it and install it again"


@contextlib.contextmanager
def _quiet(visit: Visit) -> Iterator[None]:
    """Keep warnings for the answer, and what a library prints out of it (the answer may be JSON)."""
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("default")
        yield
    visit.warnings += [_sentence(one.message) for one in caught if not issubclass(one.category, DeprecationWarning)]


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


def _look_for_findings(visit: Visit, installed: Installed) -> None:
    known, found = knowledge(visit.name), visit.findings
    if visit.problem:
        found.append(f"{visit.name} is installed, but {visit.problem}. {visit.repair}.")
    found += installed.contradictions(visit.name, broken=bool(visit.problem))
    if hasattr(known, "conflicts"):
        found += known.conflicts(installed.versions)
    if visit.backend is not None:
        found += _ask(visit, "a check of the installation", visit.backend.findings, [])
        found += _ask(visit, "a check of the installation", known.findings, []) if known else []


def _troubles(visit: Visit) -> tuple[KnownTrouble, ...]:
    # From the file, where there is one: a library that cannot be imported has its trouble all the same.
    known = knowledge(visit.name)
    if known is not None:
        return tuple(known.TROUBLES)
    return visit.backend.troubles if visit.backend is not None else ()


def _row(trouble: KnownTrouble, installed: Installed) -> dict[str, Any] | None:
    versions = installed.matching(trouble)
    told = {"happens": trouble.happens, "advice": trouble.advice, "link": trouble.link}
    return {"id": trouble.id, "versions": versions, **told} if versions else None


# What a library that loads says of itself, and what is measured.


def _facts(visit: Visit, installed: Installed) -> dict[str, Any]:
    backend, found = visit.backend, installed.find(visit.name)
    facts: dict[str, Any] = {
        "name": visit.name,
        "status": "ok" if backend is not None else "broken" if visit.problem else "missing",
        "distribution": found[0] if found else None,
        "version": found[1] if found else None,
        "install": visit.repair if backend is None and not visit.problem else None,
    }
    if backend is None:
        return facts
    said: dict[str, Any] = _ask(visit, "its report", backend.report, {})
    return facts | {
        "version": said.get("version", facts["version"]),
        "devices": said.get("devices", []),
        "unavailable": _ask(visit, "asking for its devices", lambda: _unavailable(backend), {}),
        "cuda_build": said.get("cuda_build"),
        "dlpack": _ask(visit, "a DLPack export", lambda: _dlpack(backend, said), {}),
    }


def _unavailable(backend: Backend) -> dict[str, str]:
    kinds = sorted(backend.capabilities.devices - {"cpu", "meta"})
    return {kind: why for kind in kinds if (why := backend.why_unavailable(Device(kind)))}


def _dlpack(backend: Backend, said: dict[str, Any]) -> dict[str, Any]:
    """Return which DLPack a library speaks: measured where it has an array to measure on, else what its backend knows."""
    words = {"exports": said.get("dlpack_exports"), "imports": said.get("dlpack_imports")}
    array, measured = _tiny(backend), {}
    if array is not None:
        measured["exports"] = _exported(array)
        measured["exchange_api"] = hasattr(type(array), "__dlpack_c_exchange_api__")
        if "cpu" in backend.capabilities.devices and (asked := _asked(backend.name)):
            measured["imports"] = asked
    return {"exchange_api": said.get("dlpack_exchange_api"), **words, **measured, "measured": sorted(measured)}


def _zeros() -> Any:
    # Every backend needs NumPy, so it is loaded by now; looked up, because only backends import array libraries.
    return sys.modules["numpy"].zeros(1, "float32")


def _tiny(backend: Backend) -> Any:
    if "cpu" in backend.capabilities.devices:
        return backend.from_host(_zeros())
    home = backend.home()
    return backend.arrive(_zeros(), home, None) if home != CPU and backend.why_unavailable(home) is None else None


def _exported(array: Any) -> str:
    try:
        capsule = array.__dlpack__(max_version=VERSION)
    except TypeError:  # from before the keyword: then it speaks the legacy form only
        return "legacy"
    return _words(Capsule(capsule).version)


def _words(version: tuple[int, ...] | None) -> str:
    return ".".join(map(str, version)) if version else "legacy"


class _Producer:
    """A NumPy array that takes down which version a consumer asks for."""

    def __init__(self) -> None:
        self.array, self.version = _zeros(), "legacy"

    def __dlpack__(self, **asked: Any) -> Any:
        """Export the array as asked."""
        self.version = _words(asked.get("max_version"))
        return self.array.__dlpack__(**asked)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return the CPU."""
        return (1, 0)


def _asked(name: str) -> str | None:
    consume = getattr(sys.modules.get(name), "from_dlpack", None)
    if consume is None:
        return None
    producer = _Producer()
    consume(producer)
    return producer.version
