"""Run tests that are marked ``gpu`` on the emulated device: ``python -m tests.emulated [pytest's arguments]``.

It takes a torch that was built for CUDA, which has its runtime as a shared library, and so finds the emulated one in its place. What needs
kernels beyond those of kernels.py and operators.py, a graph that is replayed, or the profiler, fails here and says nothing about a GPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.emulated import patch
from tests.emulated.conftest import EMULATED

COMMAND = (
    "pytest",
    "-p",
    "tests.emulated.plugin",
    "-p",
    "no:cacheprovider",
    "-o",
    "addopts=--strict-markers --import-mode=importlib",
    "-m",
    "gpu",
)


def main(arguments: list[str]) -> int:
    """Run the tests in a process that has the emulated runtime before everything else; returns its status."""
    with tempfile.TemporaryDirectory() as folder:
        library = patch.build(Path(folder))
        (library.parent / "libcuda.so.1").symlink_to(library.name)  # for who asks for the driver
        variables = {EMULATED: "1", patch.PRELOADED: str(library), "LD_PRELOAD": str(library), "LD_LIBRARY_PATH": folder}
        return subprocess.run([sys.executable, "-m", *COMMAND, *arguments], check=False, env=os.environ | variables).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
