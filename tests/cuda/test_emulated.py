"""CuPy on an emulated CUDA runtime (tests/emulated), each file of tests in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.emulated import building
from tests.emulated.conftest import EMULATED
from tests.emulated.surroundings import environment

FILES = sorted((Path(__file__).parents[1] / "emulated").glob("test_*.py"))
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module", name="variables")
def variables_of_the_emulation(tmp_path_factory):
    if (reason := building.why_not()) is not None:
        pytest.skip(reason)
    return environment(tmp_path_factory.mktemp("emulated")) | {EMULATED: "1"}


def test_there_are_some():
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_on_the_emulated_device(file, variables):
    options = ["-q", "-rs", "-p", "no:cacheprovider", "-o", "addopts=--strict-markers --import-mode=importlib"]
    command = [sys.executable, "-m", "pytest", *options, str(file)]
    ran = subprocess.run(command, check=False, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    skipped = [line for line in ran.stdout.splitlines() if line.startswith("SKIPPED")]
    assert all(line.endswith(("this torch has CUDA", "this torch is a build for the CPU")) for line in skipped), skipped
