"""The page "Your own library as a backend": its files are written, its commands are run, and they print what the page shows."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from interop.backends import Backend
from tests.conformance.test_adapters import prints

PAGE = (Path(__file__).parents[2] / "docs" / "backend.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = {name: text for _, name, text in BLOCKS if name}
COMMANDS = [
    step
    for language, _, text in BLOCKS
    if language == "console"
    for step in re.findall(r"^\$ (.*)\n((?:[^$].*\n|\n)*)", text, re.MULTILINE)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write the files as if they were installed: their entry points are found."""
    made = tmp_path_factory.mktemp("page")
    for name, text in FILES.items():
        (made / name).write_text(text, encoding="utf-8")
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    info = made / "shelf-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
            for group, points in project["entry-points"].items()
        )
    )
    return made


def run(folder, line, **more):
    command = shlex.split(line)
    start = {"python": [sys.executable], "interop": [sys.executable, "-m", "interop"]}[command[0]]
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "COLUMNS": "120"} | more
    return subprocess.run([*start, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("line", "shown"), COMMANDS, ids=[line.partition(" --case")[0] for line, _ in COMMANDS])
def test_the_page_does_what_it_says(folder, line, shown):
    ran = run(folder, line)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    prints(ran.stdout, shown)


def test_the_doctor_finds_nothing_wrong_with_a_library_without_dlpack(folder):
    ran = run(folder, "interop doctor --json")
    answer = json.loads(ran.stdout)
    (shelf,) = [one for one in answer["backends"] if one["name"] == "shelf"]
    assert (shelf["status"], shelf["dlpack"]["exports"]) == ("ok", None)
    assert "shelf" not in {finding["backend"] for finding in answer["findings"]}


def test_what_the_page_installs_are_the_libraries_and_their_backends():
    project = tomllib.loads(FILES["pyproject.toml"])
    backends = {value.partition(":")[0] for value in project["project"]["entry-points"]["interop.backends"].values()}
    modules = {word for name in backends for word in (name, name.removesuffix("_interop"))} | {"rack_adapter"}
    assert set(project["tool"]["setuptools"]["py-modules"]) == modules


def test_every_file_of_the_page_is_used():
    imported = set(re.findall(r"^(?:import|from) (\w+)|\"(\w+)_interop:", "".join(FILES.values()), re.MULTILINE))
    names = {word for pair in imported for word in pair if word} | {"shelf_interop", "rack_interop"}
    called = " ".join(line for line, _ in COMMANDS)
    left = {
        name for name in FILES if name.removesuffix(".py") not in names and name not in called and name.removesuffix(".py") not in called
    }
    assert left == {"pyproject.toml"}


def test_the_page_names_every_concern_and_every_method():
    for concern in Backend.__bases__:
        assert f"`{concern.__name__}`" in PAGE
        for name in vars(concern):
            if not name.startswith("_") and name not in ABOUT_DEVICES:
                assert re.search(rf"`{name}`|def {name}\(|^    {name} = ", PAGE, re.MULTILINE), f"{concern.__name__}.{name}"


ABOUT_DEVICES = {"name", "import_producer", "inside", "current_index", "default_device", "copy_from_host"}
"""What a library has no need to write, as the others are enough."""


def test_without_its_entry_points_they_are_unknown(folder, tmp_path):
    """The negative control."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    ran = run(tmp_path, "python first.py")
    assert ran.returncode != 0
    assert "'shelf' is not a backend" in ran.stderr
