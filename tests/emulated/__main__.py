"""Run tests that are marked ``gpu`` on the emulated device: ``python -m tests.emulated [pytest's arguments]``.

It takes a torch that was built for CUDA, which has its runtime as a shared library, and so finds the emulated one in its place. What the
device cannot show is in limits.toml; it fails here and says nothing about a GPU.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.emulated.surroundings import environment

COMMAND = ("pytest", "-p", "no:cacheprovider", "-o", "addopts=--strict-markers --import-mode=importlib", "-m", "gpu")


def main(arguments: list[str]) -> int:
    """Run the tests in a process that has the emulated device, as its children have it; returns its status."""
    with tempfile.TemporaryDirectory() as folder:
        variables = environment(Path(folder))
        return subprocess.run([sys.executable, "-m", *COMMAND, *arguments], check=False, env=variables).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
