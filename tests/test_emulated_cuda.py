"""CuPy on an emulated CUDA runtime (tests/emulated), each file of tests in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.emulated import patch
from tests.emulated.conftest import EMULATED

FILES = sorted(Path(__file__).with_name("emulated").glob("test_*.py"))
ROOT = Path(__file__).parent.parent


def test_there_are_some():
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_on_the_emulated_device(file):
    if (reason := patch.why_not()) is not None:
        pytest.skip(reason)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=--strict-markers --import-mode=importlib",
        # A torch that was built for CUDA finds the driver's name and no driver behind it.
        "-W",
        "ignore:CUDA initialization:UserWarning",
        str(file),
    ]
    ran = subprocess.run(command, check=False, cwd=ROOT, env=os.environ | {EMULATED: "1"}, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    skipped = [line for line in ran.stdout.splitlines() if line.startswith("SKIPPED")]
    assert all(line.endswith("this torch has CUDA") for line in skipped), skipped
