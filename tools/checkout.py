"""A checkout on a machine that installs nothing: what is compiled is built in its folder, and results belong to its files."""

from __future__ import annotations

import hashlib
import importlib.machinery
import re
from typing import TYPE_CHECKING

from tools.supervise import Watched, launch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["COMPILED", "build", "gpu_test_files", "source_of"]

COMPILED = ("interop.native.fastpath", "interop.native.lend", "interop.native.async_pool")
"""What setup.py builds."""

SOURCES = ("interop", "conformance", "benchmarks", "tests", "tools")
"""The folders that results depend on."""

_MARK = re.compile(r"\bmark\.gpu\b|\bon_a_device\b")


def build(root: Path, until: float, variables: Mapping[str, str]) -> str:
    """Build what is compiled in its folder, where it is missing; returns what is missing still, or nothing."""
    missing = _missing(root)
    if missing:
        launch(Watched(["setup", "--quiet", "build_ext", "--inplace"], root, variables), until=until)
        missing = _missing(root)
    return f"{', '.join(missing)} could not be built" if missing else ""


def _missing(root: Path) -> list[str]:
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    paths = {name: root.joinpath(*name.split(".")) for name in COMPILED}
    newest = max((path.stat().st_mtime for path in (root / "interop" / "native").glob("*.[ch]")), default=0.0)

    def is_there(path: Path) -> bool:
        built = (path.with_name(path.name + suffix) for suffix in suffixes)
        return any(one.exists() and one.stat().st_mtime >= newest for one in built)

    return [name for name, path in paths.items() if not is_there(path)]


def source_of(root: Path) -> str:
    """Return a digest of the code and the tests: results of others are not gone on with."""
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in {".py", ".c", ".h", ".toml"}:
                digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def gpu_test_files(root: Path) -> list[str]:
    """Return the files that have GPU tests: to collect all others takes longer than many of the tests."""
    found = sorted(path for path in (root / "tests").rglob("test_*.py") if _MARK.search(path.read_text(encoding="utf-8")))
    return [path.relative_to(root).as_posix() for path in found]
