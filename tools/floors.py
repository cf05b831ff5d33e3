"""The oldest versions that the two distributions ask for, as constraints for pip: ``python -m tools.floors``.

They are what `pyproject.toml` and `conformance/pyproject.toml` declare, so an environment made with them shows whether that is true.
"""

from __future__ import annotations

import tomllib
from typing import NamedTuple

from packaging.requirements import Requirement

from tools.count import ROOT

__all__ = ["Floor", "constraint", "floors"]

_EXTRAS = ("torch", "jax", "strict", "cupy12x", "cupy13x", "cli", "testing")
"""The extras of users, in the order of the table in the docs."""


class Floor(NamedTuple):
    """A distribution, the oldest version of it, and which of the two asks for it, with the extra if it is one's."""

    name: str
    version: str
    asked_by: str


def floors() -> list[Floor]:
    """Return the oldest version of each distribution that users of the two may install."""
    core = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    suite = tomllib.loads((ROOT / "conformance" / "pyproject.toml").read_text())["project"]
    extras = core["optional-dependencies"]
    asked = [(core["name"], core["dependencies"]), *((f"{core['name']}[{extra}]", extras[extra]) for extra in _EXTRAS)]
    return [
        Floor(one.name, min(specifier.version for specifier in one.specifier), by)
        for by, listed in (*asked, (suite["name"], suite["dependencies"]))
        for one in map(Requirement, listed)
        if not one.name.startswith(core["name"])
    ]


def constraint(floor: Floor) -> str:
    """Return the line for pip; of three numbers its post-releases too, since tvm-ffi's 0.1.13 exists as those only."""
    return f"{floor.name}=={floor.version}{'.*' if floor.version.count('.') > 1 else ''}"


if __name__ == "__main__":
    print(*(constraint(one) for one in floors() if not one.name.startswith("cupy")), sep="\n")
