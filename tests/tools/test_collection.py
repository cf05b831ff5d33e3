"""The tests themselves: each has the same id in every process, so that several processes can share them, and collecting them is quick."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 15
"""Of the processor, with libraries that are in the page cache."""

SEEDS = ("1", "4", "5")
"""Two processes may agree by chance: a set of two has two orders."""


def collect(*arguments, cwd=ROOT):
    """Return the ids as several processes collect them, each with another order of what is in a set, and the seconds that one took.

    The first may have to write the bytecode, so it is the quickest that counts.
    """
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *arguments]
    ids, seconds = [], []
    for seed in SEEDS:
        before = os.times()
        ran = subprocess.run(command, cwd=cwd, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
        after = os.times()
        ids.append([line for line in ran.stdout.splitlines() if "::" in line])
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return ids, min(seconds)


@pytest.mark.slow
def test_ids_are_the_same_in_every_process_and_collecting_is_quick():
    (first, *others), seconds = collect()
    assert len(first) > 5000
    assert all(other == first for other in others)
    assert len(set(first)) == len(first)
    assert seconds < SECONDS


def test_an_id_that_another_process_does_not_have_is_seen(tmp_path):
    """The negative control."""
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.parametrize('x', {'a', 'b', 'c', 'd', 'e', 'f'})\ndef test_it(x): ...\n"
    )
    (first, *others), _ = collect(tmp_path, "-p", "no:interop.testing.plugin", cwd=tmp_path)
    assert all(sorted(other) == sorted(first) != [] for other in others)
    assert any(other != first for other in others)
