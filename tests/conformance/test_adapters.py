"""A library from outside: the tutorial's toy, its adapter, and the message about an adapter that is none."""

import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from interop_conformance.adapters import GROUP, load_adapters
from interop_conformance.results import deviations

from interop.cli import cli

PAGE = (Path(__file__).parents[2] / "docs" / "conformance-adapter.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = {name: text for language, name, text in BLOCKS if name and language != "diff"}
(FIX,) = [text for language, _, text in BLOCKS if language == "diff"]
CASE = "protocol/dlpack/toyarray/capsule/producer.flag-readonly/float32/compact/read-only"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The tutorial's files before the fix, where Python finds them, here and in the suite's own process."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(deviations, "_FILES", deviations._FILES[:1])
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)
    deviations.deviations.cache_clear()
    deviations._here.cache_clear()


def interop(line):
    return CliRunner().invoke(cli, shlex.split(line)[1:], prog_name="interop")


def fix(folder):
    old, new = (line[1:] for line in FIX.splitlines())
    text = (folder / "toyarray.py").read_text(encoding="utf-8")
    assert text.count(old) == 1
    (folder / "toyarray.py").write_text(text.replace(old, new), encoding="utf-8")


# The tutorial.


def steps():
    """The commands in the tutorial's order, each with what it prints, and None for the fix."""
    for language, _, text in BLOCKS:
        if language == "diff":
            yield None, ""
        elif language == "console":
            yield from re.findall(r"^\$ (.*)\n((?:[^$].*\n|\n)*)", text, re.MULTILINE)


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(folder):
    done = 0
    for command, shown in steps():
        if command is None:
            fix(folder)
            continue
        ran = interop(command)
        assert ran.exit_code == (0 if "No findings" in shown else 1), ran.output
        prints(ran.stdout, shown)
        done += 1
    assert done == 7


def prints(found, shown):
    """Hold what is printed to what is shown: ``…`` stands for any lines, and a number for any."""
    patterns = ("(?:.*\n)*" if line == "…" else re.escape(plain(line)) + "\n" for line in shown.rstrip().splitlines())
    text = "".join(plain(line) + "\n" for line in found.strip().splitlines())
    assert re.fullmatch("".join(patterns), text), f"{shown}\nis not what is printed:\n{found}"


def plain(line):
    return re.sub(r"\d+", "0", " ".join(line.split()))


def test_a_page_that_says_something_else_is_seen():
    """The negative control."""
    prints("first\nsecond 12\n\nthird\n", "…\nsecond   13\n\nthird\n")
    for shown in ("second 12\n\nthird\n", "…\nsecond 12\n", "first\n\nsecond 12\n\nthird\n"):
        with pytest.raises(AssertionError):
            prints("first\nsecond 12\n\nthird\n", shown)


def test_a_known_deviation_is_no_finding_until_it_heals(folder):
    line = f"interop conformance run --adapter toyarray_adapter:ToyAdapter --deviations toyarray-deviations.toml --case {CASE}"
    ran = interop(line)
    assert (ran.exit_code, "Known: toyarray-readonly-flag" in ran.stdout) == (0, True), ran.output
    fix(folder)
    ran = interop(f"{line} --json")
    assert ran.exit_code == 1
    assert [finding["kind"] for finding in json.loads(ran.stdout)["findings"]] == ["healed"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("[[deviation]", "bad.toml: "),
        ("[[deviation]]\nid = 'x'", "bad.toml: 'versions'"),
        (FILES["toyarray-deviations.toml"].replace("unsafe", "unsave"), "'unsave' is not an outcome"),
        (FILES["toyarray-deviations.toml"].replace("state =", "sate ="), "cases have no sate"),
        (FILES["toyarray-deviations.toml"] * 2, "bad.toml has one id twice"),
        (FILES["toyarray-deviations.toml"].replace("<0.2", "below 0.2"), "bad.toml: "),
    ],
)
def test_a_wrong_file_of_deviations_is_wrong_use(folder, text, answer):
    (folder / "bad.toml").write_text(text)
    ran = interop("interop conformance list --deviations bad.toml")
    assert ran.exit_code == 2
    assert answer in ran.output


# The entry point.


def install(folder):
    """Do what pip does with the tutorial's pyproject.toml."""
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    info = folder / "toyarray-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = [f"{name} = {value}\n" for name, value in project["entry-points"][GROUP].items()]
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{''.join(points)}")


@pytest.mark.slow
def test_an_entry_point_makes_an_adapter(folder):
    install(folder)
    command = [sys.executable, "-m", "interop_conformance", "run", "--case", CASE, "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=here(folder))
    assert ran.returncode == 1, ran.stderr
    printed = json.loads(ran.stdout)
    assert printed["environment"]["libraries"]["toyarray"] == {"distribution": "toyarray", "version": "0.1", "unavailable": ""}
    assert [finding["about"] for finding in printed["findings"]] == [CASE]


def here(folder):
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(Path(__file__).parents[2])))}


def test_without_the_entry_point_it_is_unknown(folder):
    """The negative control."""
    assert "toyarray" not in load_adapters()
    ran = interop("interop conformance run --producer toyarray")
    assert ran.exit_code == 2
    assert "'toyarray' is not a library here" in ran.output
    install(folder)
    assert importlib.metadata.version("toyarray") == "0.1"
    assert "toyarray" in load_adapters()


def test_the_same_adapter_by_both_ways_is_one(folder):
    install(folder)
    assert load_adapters(["toyarray_adapter:ToyAdapter"]).keys() == load_adapters().keys()


def test_the_projects_files_are_those_of_the_tutorial():
    project = tomllib.loads(FILES["pyproject.toml"])
    assert {f"{name}.py" for name in project["tool"]["setuptools"]["py-modules"]} == {name for name in FILES if name.endswith(".py")}


# What is no adapter.

ODD = """
from interop_conformance.adapters import Adapter
from toyarray_adapter import ToyAdapter

class Half(Adapter):
    name = "half"
    def available(self): return ""

class Nameless(ToyAdapter):
    name = None

class Suite(ToyAdapter):
    name = "capsule"

class Shouting(ToyAdapter):
    name = "Toy/Array"

class Taken(ToyAdapter):
    name = "numpy"

adapter = ToyAdapter()
"""


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        ("nowhere:Toy", "nowhere:Toy: No module named 'nowhere'; an adapter is named as module:object"),
        ("toyarray_adapter:Toy", "module 'toyarray_adapter' has no attribute 'Toy'"),
        ("toyarray_adapter", "module 'toyarray_adapter' has no attribute 'ADAPTER'"),
        (":ToyAdapter", "an adapter is named as module:object"),
        ("toyarray:from_dlpack", "toyarray:from_dlpack is a function, and no interop_conformance.adapters.Adapter"),
        ("toyarray:Array", "toyarray:Array: "),
        ("broken:Toy", "broken:Toy: its import raises ZeroDivisionError: division by zero"),
        ("leaving:Toy", "leaving:Toy: its import raises SystemExit: 3"),
        ("odd:Half", "Can't instantiate abstract class Half with abstract methods from_dlpack, make, pointer, values, version, writeable"),
        ("odd:Nameless", "odd:Nameless: its name must be of lower-case letters, digits and dashes"),
        ("odd:Suite", "not 'capsule', which is the suite itself"),
        ("odd:Shouting", "got 'Toy/Array'"),
        ("odd:Taken", "odd:Taken: an adapter called 'numpy' is there already"),
    ],
)
@pytest.mark.parametrize("command", ["run", "list"])
def test_what_is_no_adapter_is_wrong_use(folder, command, spec, answer):
    (folder / "odd.py").write_text(ODD)
    (folder / "broken.py").write_text("1 / 0")
    (folder / "leaving.py").write_text("raise SystemExit(3)")
    ran = interop(f"interop conformance {command} --adapter {spec}")
    sys.modules.pop("odd", None)
    assert ran.exit_code == 2
    assert re.sub(r"\s+", " ", answer) in re.sub(r"\s+", " ", ran.output)


def test_an_adapter_may_be_an_object(folder):
    (folder / "odd.py").write_text(ODD)
    assert load_adapters(["odd:adapter"])["toyarray"].version() == "0.1"
    sys.modules.pop("odd")


# An adapter's fault is reported as its own, and not a library's.

FAULTY = """
from interop_conformance.adapters import Unsupported
from toyarray_adapter import ToyAdapter

class Unindexed(ToyAdapter):
    def lay(self, x, layout):
        return layout.view(x)

class Unsure(ToyAdapter):
    def available(self):
        raise OSError("libtoy.so: cannot open\\x1b[31m")

class Gone(ToyAdapter):
    def available(self):
        return "toyarray needs a coprocessor"

class Other(ToyAdapter):
    def make(self, values):
        return super().make(values + 1)
"""


@pytest.mark.parametrize(
    ("adapter", "layout", "reason"),
    [
        (
            "Unindexed",
            "reversed",
            "the suite's own fault: the adapter toyarray could not make the array: TypeError: 'Array' object is not subscriptable",
        ),
        ("Other", "1d", "the suite's own fault: the adapter toyarray made a wrong array: other values"),
    ],
)
def test_an_adapters_fault_is_a_finding_of_its_own_kind(folder, adapter, layout, reason):
    (folder / "faulty.py").write_text(FAULTY)
    ran = interop(f"interop conformance run --adapter faulty:{adapter} --case handoff/dlpack/toyarray/numpy/float32/{layout}/plain --json")
    sys.modules.pop("faulty")
    assert ran.exit_code == 1
    assert [(one["kind"], one["text"]) for one in json.loads(ran.stdout)["findings"]] == [("not-run", reason)]


def test_a_library_that_is_not_there_says_why(folder):
    (folder / "faulty.py").write_text(FAULTY)
    ran = interop("interop conformance run --adapter faulty:Gone --producer toyarray")
    sys.modules.pop("faulty")
    assert ran.exit_code == 2
    assert "no case fits. toyarray: toyarray needs a coprocessor." in ran.output


@pytest.mark.parametrize("command", ["run", "list"])
def test_an_adapter_that_cannot_say_whether_its_library_is_there_is_wrong_use(folder, command):
    (folder / "faulty.py").write_text(FAULTY)
    ran = interop(f"interop conformance {command} --adapter faulty:Unsure")
    sys.modules.pop("faulty")
    assert ran.exit_code == 2
    assert "toyarray does not say whether it is there: OSError: libtoy.so: cannot open\\x1b[31m" in " ".join(ran.output.split())
