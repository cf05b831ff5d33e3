"""CuPy on an emulated CUDA runtime (tests/emulated): the tests there run in processes of their own, since everything in them sees the device.

Two processes for all files, side by side: starting one costs several seconds, mostly the imports of torch and CuPy.
"""

import platform
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.emulated import building
from tests.emulated.conftest import EMULATED
from tests.emulated.surroundings import environment

ROOT = Path(__file__).parent.parent.parent
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests/emulated").rglob("test_*.py"))
THAT_START_PROCESSES = {"tests/emulated/test_processes.py", "tests/emulated/test_torch.py"}
"""They wait most of the time, and so run beside the others."""

OPTIONS = [
    "-q",
    "--continue-on-collection-errors",
    "-p",
    "no:cacheprovider",
    "-o",
    "addopts=--strict-markers --import-mode=importlib",
    "-o",
    "junit_family=xunit1",
]
MAY_SKIP = ("this torch has CUDA", "this torch is a build for the CPU")


class Process:
    """pytest in a process that has the emulated device."""

    def __init__(self, files, variables, folder):
        self.report = folder / "report.xml"
        command = [sys.executable, "-m", "pytest", *OPTIONS, f"--junitxml={self.report}", *files]
        self.running = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def results(self):
        """Return for each file its tests with how they ended, and the whole output; a process that crashed has no results."""
        try:
            output, _ = self.running.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            self.running.kill()
            output, _ = self.running.communicate()
        cases = ET.parse(self.report).iter("testcase") if self.report.exists() else ()
        return [(case.get("file"), case.get("name"), *outcome(case)) for case in cases], output


def outcome(case):
    """Return what became of a test, and why: the reason of a skip, the traceback of a failure."""
    ended = next((one for one in case if one.tag in {"failure", "error", "skipped"}), None)
    if ended is None:
        return "passed", ""
    return ended.tag, ended.get("message", "") if ended.tag == "skipped" else ended.text


@pytest.fixture(scope="module", name="variables")
def variables_of_the_emulation(tmp_path_factory):
    if (reason := building.why_not()) is not None:
        pytest.skip(reason)
    return environment(tmp_path_factory.mktemp("emulated")) | {EMULATED: "1"}


@pytest.fixture(scope="module", name="results")
def results_of_all_files(request, variables, tmp_path_factory):
    """Run the files whose tests are selected; returns the results by file, with the output of their process."""
    items = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    wanted = {item.callspec.params["file"] for item in items if "file" in item.callspec.params}
    groups = [sorted(group) for group in (wanted - THAT_START_PROCESSES, wanted & THAT_START_PROCESSES) if group]
    processes = [Process(group, variables, tmp_path_factory.mktemp("process")) for group in groups]
    found = {}
    for group, process in zip(groups, processes, strict=True):
        cases, output = process.results()
        found |= {file: ([case[1:] for case in cases if case[0] == file], output) for file in group}
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.removeprefix("tests/emulated/").removesuffix(".py"))
def test_on_the_emulated_device(file, results):
    cases, output = results[file]
    failed = [f"{name}: {kind}\n{why}" for name, kind, why in cases if kind in {"failure", "error"}]
    assert not failed, "\n\n".join(failed)
    assert cases, output  # the process crashed, or the file could not be imported
    skipped = [(name, reason) for name, kind, reason in cases if kind == "skipped"]
    assert all(reason in MAY_SKIP for _, reason in skipped), skipped


def test_the_files_that_start_processes_are_there():
    assert set(FILES) >= THAT_START_PROCESSES


# Where there is no emulation.


def test_another_platform_is_a_reason(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert building.why_not() == "the jump is written in the machine language of x86-64, for Linux"


def test_a_python_without_cupy_is_a_reason(monkeypatch):
    find = building.importlib.util.find_spec
    monkeypatch.setattr(building.importlib.util, "find_spec", lambda name: None if name == "cupy" else find(name))
    assert building.why_not() in {"CuPy is not installed", "the jump is written in the machine language of x86-64, for Linux"}


def test_a_wheel_whose_functions_are_not_found_is_an_error(variables, monkeypatch):
    """A skip would hide that nothing is tested any more."""
    monkeypatch.setattr(building, "positions", lambda: {"file": "runtime.so", "functions": {}})
    with pytest.raises(building.EmulationError, match="does not name the functions of its CUDA runtime"):
        building.why_not()


def test_sources_that_do_not_compile_are_an_error(variables, monkeypatch, tmp_path):
    (tmp_path / "broken.cpp").write_text("no C++")
    monkeypatch.setattr(building, "SOURCES", tmp_path)
    with pytest.raises(subprocess.CalledProcessError):
        building.build(tmp_path)
