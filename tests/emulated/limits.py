"""What the emulated device cannot show: the tests of limits.toml, each with its reason."""

from __future__ import annotations

import functools
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

__all__ = ["FILE", "reason_for"]

FILE = Path(__file__).with_name("limits.toml")


def reason_for(nodeid: str) -> str | None:
    """Return why a test fails on the emulated device and says nothing about a GPU, or None where it must pass.

    Parameters
    ----------
    nodeid : str
        pytest's name of the test, from the root of the checkout on.
    """
    name = _escaped(nodeid)
    return next((reason for pattern, reason in _limits() if fnmatchcase(name, _escaped(pattern))), None)


def _escaped(text: str) -> str:
    """Return a name without brackets, which are a set of characters in a pattern and the parameters in a name."""
    return text.replace("[", "<").replace("]", ">")


@functools.cache
def _limits() -> tuple[tuple[str, str], ...]:
    read = tomllib.loads(FILE.read_text())
    return tuple((pattern, limit["reason"]) for limit in read.get("limit", ()) for pattern in limit["tests"])
