"""The distributions that are installed here, and the known issues of their versions.

For `interop.doctor.examination`: read from the metadata on disk, so it also works where a library cannot be imported, and
imports none. A backend's name may stand for many distributions (``cupy``), which its `known_issues.toml` lists.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from interop import backends
from interop.backends import BUILTIN
from interop.backends.base import KnownIssue

if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["Distributions", "known_library"]

_REINSTALL = "Uninstall it until pip says that it is not installed, then install it again"


class KnownLibrary(NamedTuple):
    """What is known of a library: the distributions that install it, what is broken in which versions, and why only one may be there."""

    distributions: list[str]
    issues: tuple[KnownIssue, ...]
    conflict: str = ""


@functools.cache
def known_library(name: str) -> KnownLibrary | None:
    """Return what is known of a built-in backend's library, from a file that is there also where the library cannot be imported; else None."""
    if name not in BUILTIN:
        return None
    read = tomllib.loads(Path(backends.__file__).with_name(name).joinpath("known_issues.toml").read_text(encoding="utf-8"))
    return KnownLibrary(read["distributions"], tuple(KnownIssue(**issue) for issue in read.get("issue", ())), read.get("conflict", ""))


class Distributions:
    """What is installed: `versions` by canonical name, first the one that imports find, then its doubles in that folder; `folders` of each."""

    def __init__(self) -> None:
        found: dict[str, dict[str, list[str]]] = {}
        for one in metadata.distributions():
            # A damaged entry names nothing: no file of metadata, or no name or version in it.
            with contextlib.suppress(OSError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
                folders = found.setdefault(canonicalize_name(one.metadata["Name"]), {})
                folders.setdefault(str(one.locate_file("")), []).append(str(one.version))
        # Only within one folder: further down sys.path another version is hidden, not mixed.
        self.versions = {name: next(iter(folders.values())) for name, folders in found.items()}
        self.folders = {name: list(folders) for name, folders in found.items()}

    def find_version(self, distribution: str) -> str | None:
        """Return the version of one distribution, by its canonical name; None if it is not installed."""
        return self.versions.get(distribution, [None])[0]

    def same_folder(self, one: str, other: str) -> bool:
        """Return whether two distributions share a folder, so that files of one may lie over the other's."""
        return not set(self.folders[one]).isdisjoint(self.folders[other])

    def find(self, name: str) -> tuple[str, str] | None:
        """Return the distribution and the version that is there under a name; None if there is none."""
        for one in _names(name):
            if one in self.versions:
                return one, self.versions[one][0]
        loaded = getattr(sys.modules.get(name), "__version__", None)  # a build of one's own may have no metadata
        return (name, str(loaded)) if loaded else None

    def contradictions(self, name: str, *, broken: bool) -> Iterator[str]:
        """Return where the installation of a library contradicts itself, in sentences; it has been loaded by now if it can be."""
        for one in _names(name):
            versions = sorted(set(self.versions.get(one, ())))
            if len(versions) > 1:
                yield f"{one} is installed twice in one folder, as {' and '.join(versions)}, so files may be mixed. {_REINSTALL}."
        found, module = self.find(name), sys.modules.get(name)
        if found and module is None and not broken:
            yield f"{found[0]} {found[1]} is listed as installed, but there is no module {name}. {_REINSTALL}."
        listed, loaded = _version(found[1]) if found else None, _version(getattr(module, "__version__", None))
        # Public parts: the local one (+cu130) may be in one of the two only.
        if found and listed and loaded and listed.public != loaded.public:
            yield f"{found[0]} is listed as {listed.public}, but the module that is imported says {loaded.public}. {_REINSTALL}."
        there, known = [one for one in _names(name) if one in self.versions], known_library(name)
        if known and known.conflict and len(there) > 1:
            repair = f"Run pip uninstall -y {' '.join(there)}, then pip install the one that fits your machine, such as {there[-1]}"
            yield f"{' and '.join(there)} are both installed into one folder, so which files won is chance. {repair} ({known.conflict})."

    def unfit(self) -> Iterator[str]:
        """Return which distributions are not of the versions that the project asks for, in sentences: pip does not look at extras again."""
        for project, wanted in _wanted():
            found = self.find_version(canonicalize_name(wanted.name))
            version = _version(found)
            # The base version: a development build has what the release has that it is named after.
            if version and not wanted.specifier.contains(version.base_version):
                asked = f"{wanted.name}{wanted.specifier}"
                yield f"{wanted.name} {found} is installed, and {project} needs {asked}. Run pip install '{asked}'."

    def affected(self, issue: KnownIssue) -> dict[str, str] | None:
        """Return the versions that have this issue, by distribution; None if what is installed does not."""
        versions = {}
        for name, specifier in issue.requires.items():
            found = self.find(name)
            version = _version(found[1]) if found else None
            # The base version: a local or development build has the issues of the release that it is named after.
            if found is None or version is None or not SpecifierSet(specifier).contains(version.base_version):
                return None
            versions[found[0]] = found[1]
        return versions


_ASIDE = ("demo", "dev", "docs", "test")
"""The extras of those who work on interop itself."""


def _wanted() -> Iterator[tuple[str, Requirement]]:
    """Yield what the project's distributions ask for, each with its name; nothing in a checkout that is not installed."""
    for project in ("array-interop", "array-interop-conformance"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            for one in map(Requirement, metadata.requires(project) or ()):
                if not any(f'"{extra}"' in str(one.marker) for extra in _ASIDE):
                    yield project, one


def _names(name: str) -> list[str]:
    known = known_library(name)
    return [canonicalize_name(name)] if known is None else known.distributions


def _version(text: object) -> Version | None:
    try:
        return Version(str(text))
    except InvalidVersion:
        return None
