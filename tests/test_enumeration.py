"""The enumeration of source x target x permission: no crash, no silent loss, no unexplained exception.

Each target runs in a process of its own, so that an abort is a failed test with the source's name, not a
dead test run. The twins at the end show that the enumeration sees what it looks for.
"""

import json
import subprocess
import sys

import pytest
import torch

from tests.corpus import SOURCES
from tests.permissions import POLICIES


def enumerate_all(*arguments):
    ran = subprocess.run([sys.executable, "-m", "tests.enumeration", *arguments], capture_output=True, text=True, check=False, timeout=540)
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    assert ran.returncode == 0, f"died at {lines[-1:]} with {ran.returncode}: {ran.stderr[-2000:]}"
    return lines


@pytest.mark.matrix
@pytest.mark.parametrize("target", ["numpy", "torch", "jax", "array_api_strict"])
def test_every_source_under_every_permission(target):
    lines = enumerate_all(target)
    assert [line["at"] for line in lines[:-1]] == [source.name for source in SOURCES]
    found = lines[-1]
    assert found["first"] == []
    assert sum(found["counts"].values()) == len(SOURCES) * len(POLICIES)
    assert all(count > 1000 for count in found["counts"].values()), found


@pytest.mark.matrix
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_every_source_to_a_library_that_has_no_device_here():
    found = enumerate_all("cupy")[-1]
    assert found["first"] == []
    assert found["counts"] == {"shared": 0, "copied": 0, "refused": len(SOURCES) * len(POLICIES)}


@pytest.mark.parametrize(
    ("sabotage", "source", "seen"),
    [
        ("resolve the wrong way", "torch-neg", "wrong values"),
        ("forget grad", "torch-grad-under-no_grad", "lost silently: grad"),
        ("forget mask", "numpy-masked", "lost silently: mask"),
        ("forget read-only", "numpy-readonly", "read-only memory became writable"),
        ("forget protection", "torch-parameter", "bypass the version counter"),
        ("touch the source", "torch-grad-leaf", "the source was touched"),
        ("always copy", "torch-float32", "the plan said shares_memory=True"),
        ("raise something else", "torch-float32", "unexplained KeyError"),
        ("a recipe that does not help", "torch-sparse-coo", "did not help"),
        ("abort", "torch-float32", None),
    ],
)
def test_the_enumeration_catches(sabotage, source, seen):
    """Each sabotage of interop is seen by the enumeration as what it is."""
    if seen is None:
        with pytest.raises(AssertionError, match=f"died at .*{source}"):
            enumerate_all("numpy", "--only", source, "--sabotage", sabotage)
        return
    target = "torch" if source.startswith("numpy") else "numpy"
    found = enumerate_all(target, "--only", source, "--sabotage", sabotage)[-1]
    assert any(seen in fault for fault, _ in found["first"]), found
