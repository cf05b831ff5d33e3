"""The tests themselves: each has the same id in every process, so that several processes can share them, and collecting them is quick."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 15
"""Of the processor, with libraries that are in the page cache."""


def collect(*arguments, cwd=ROOT):
    """Return the ids as two processes collect them at the same time, with another order of what is in a set, and the seconds they took."""
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *arguments]
    before = os.times()
    runs = [
        subprocess.Popen(command, cwd=cwd, env=os.environ | {"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, text=True) for seed in "12"
    ]
    ids = [[line for line in run.communicate()[0].splitlines() if "::" in line] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    return *ids, seconds / 2


@pytest.mark.slow
def test_ids_are_the_same_in_every_process_and_collecting_is_quick():
    first, second, seconds = collect()
    assert len(first) > 5000
    assert first == second
    assert len(set(first)) == len(first)
    assert seconds < SECONDS


def test_an_id_that_another_process_does_not_have_is_seen(tmp_path):
    """The negative control."""
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.parametrize('x', {'a', 'b', 'c', 'd', 'e', 'f'})\ndef test_it(x): ...\n"
    )
    first, second, _ = collect(tmp_path, "-p", "no:interop.testing.plugin", cwd=tmp_path)
    assert sorted(first) == sorted(second) != []
    assert first != second
