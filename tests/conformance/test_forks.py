"""CUDA does not survive a fork: the process that forks for the cases must not start it, on a CUDA runtime that is emulated (tests/emulated)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from interop_conformance.running.nursery import BATCH, UNPREPARED
from interop_conformance.running.run import ENVIRONMENT

from tests.emulated import building, surroundings

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(name="variables", scope="module")
def emulated(tmp_path_factory):
    """Return the environment of a process with the emulated device."""
    if (reason := building.why_not()) is not None:
        pytest.skip(reason)
    variables = surroundings.environment(tmp_path_factory.mktemp("emulated"))
    return variables | ENVIRONMENT


def python(variables, code, *, given=""):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=variables, input=given, capture_output=True, text=True, check=False)


ASKS = """
import ctypes
from interop_conformance.adapters._cuda import started
before = started()
ctypes.CDLL("libcuda.so.1").cuInit(0)
print(before, started())
"""


def test_whether_cuda_was_started_is_known_without_starting_it(variables):
    done = python(variables, ASKS)
    assert done.stdout.split() == ["False", "True"], done.stderr


ADAPTER = """
import ctypes
from interop_conformance.adapters.cupy import CuPy

class Starts(CuPy):
    name = "starts"

    def prepare(self):
        super().prepare()
        ctypes.CDLL("libcuda.so.1").cuInit(0)
"""


def nursery(variables, asked):
    """Return the answers and the exit status of the process that forks."""
    done = subprocess.run(
        [sys.executable, "-m", "interop_conformance.running.nursery"],
        cwd=ROOT,
        env=variables,
        input=json.dumps(asked).encode(),
        capture_output=True,
        check=False,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def asking(library, count, extra=()):
    case = ["handoff", "dlpack", library, library, "", "float32", "compact", "plain"]
    return {"adapters": list(extra), "libraries": [library], "cases": [case] * count, "jobs": 1, "limit": 20.0}


def test_a_library_that_starts_cuda_when_it_is_prepared_is_named(variables, tmp_path):
    (tmp_path / "starting.py").write_text(ADAPTER)
    path = f"{variables['PYTHONPATH']}:{tmp_path}"
    answers, status = nursery(variables | {"PYTHONPATH": path}, asking("starts", 1, ["starting:Starts"]))
    fault = "starts CUDA when it is prepared, and CUDA does not survive a fork"
    assert answers == [["preparing", "starts"], ["fault", "starts", fault]]
    assert status == UNPREPARED


@pytest.mark.parametrize("count", [1, BATCH + 1], ids=["few", "more than a batch"])
def test_the_cases_of_a_cuda_library_run_however_many_they_are(variables, count):
    """More than a batch of them has the adapters import in advance what they import on first use."""
    answers, status = nursery(variables, asking("cupy", count))
    assert status == 0
    assert (answers.pop(0), answers.pop(0), answers.pop()) == (["preparing", "cupy"], ["prepared"], [])
    assert {outcome for _, outcome, _ in answers} == {"shared"}
    assert len(answers) == count


TORCHS = """
import numpy, torch
from interop_conformance.adapters import load_adapters
from interop_conformance.adapters._cuda import started
torch.cuda._device_count_nvml = lambda: -1  # as where NVML does not answer
adapters = load_adapters()
for name in ("torch", "torch-cuda", "cupy", "tvm-ffi", "jax"):
    if not adapters[name].available():
        adapters[name].prepare()
        assert not started(), name
        adapters[name].warm_up()
        assert not started(), name
if torch.version.cuda:  # the negative control: what warmed up before, and what tvm-ffi asks
    {control}
    assert started()
"""


@pytest.mark.parametrize(
    "control", ["adapters['torch-cuda'].make(numpy.zeros(2, 'float32'))", "torch.cuda.is_available()"], ids=["an array", "a question"]
)
def test_nothing_that_is_prepared_or_warmed_up_starts_cuda(variables, control):
    """Where NVML does not answer, as in some containers, torch's question whether there is a device would start CUDA."""
    done = python(variables, TORCHS.format(control=control))
    assert done.returncode == 0, done.stderr
