"""A library that is built in is there as a whole: its folder, its line in the registry, its known issues and its extra."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import interop.backends
from interop.backends import BUILTIN, SOURCES
from interop.doctor.distributions import known_library

FOLDERS = Path(interop.backends.__file__).parent
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def test_every_folder_with_a_backend_has_a_line_and_the_other_way_round():
    assert {path.parent.name for path in FOLDERS.glob("*/backend.py")} == {*BUILTIN, *SOURCES}


@pytest.mark.parametrize("name", BUILTIN)
def test_what_is_to_be_installed_is_a_distribution_of_the_library(name):
    """`interop doctor` shows the command, and looks for the distributions."""
    extra = re.fullmatch(r"pip install 'array-interop\[(\w+)\]'", BUILTIN[name].install)
    needs = PROJECT["optional-dependencies"][extra[1]] if extra else PROJECT["dependencies"]
    assert {Requirement(need).name for need in needs} & set(known_library(name).distributions)


def test_a_library_without_known_issues_needs_none(tmp_path, monkeypatch):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "known_issues.toml").write_text('distributions = ["torch"]\n')
    monkeypatch.setattr(interop.backends, "__file__", str(tmp_path / "__init__.py"))
    known = known_library.__wrapped__("torch")
    assert (known.distributions, known.issues) == (["torch"], ())
