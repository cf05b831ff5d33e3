"""Processes and what they were forked from: who has the device, who may start it, and what stays broken."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.emulated.device import ILLEGAL_ADDRESS

SITE = Path(__file__).with_name("site")
STARTS = {
    "cupy": "import cupy; cupy.zeros(3)",
    "the count of devices": "import cupy; cupy.cuda.runtime.getDeviceCount()",
    "the driver": "import ctypes; driver = ctypes.CDLL('libcuda.so.1'); assert not driver.cuInit(0)",
}
STARTS_NOTHING = {
    "an import": "import cupy, torch",
    "a version": "import cupy; cupy.cuda.runtime.driverGetVersion()",
    "the driver's count": "import ctypes; n = ctypes.c_int(); assert ctypes.CDLL('libcuda.so.1').cuDeviceGetCount(ctypes.byref(n)) == 3",
    "NVML": "import ctypes; ml = ctypes.CDLL('libnvidia-ml.so.1'); n = ctypes.c_uint()\n"
    "assert (ml.nvmlInit(), ml.nvmlDeviceGetCount_v2(ctypes.byref(n)), n.value) == (0, 0, 2)",
}


def run(code, **variables):
    """Run code in a process of its own, with the variables of this one; return its status and its output."""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env=os.environ | variables
    )
    return ended.returncode, ended.stdout + ended.stderr


def in_a_fork(before, inside):
    """Run code in a process and then in its child; an error of the child's is the status of both."""
    return run(f"""
import os
{before}
child = os.fork()
if not child:
    try:
        {inside}
    except BaseException as error:
        print(type(error).__name__, error, flush=True)
        os._exit(1)
    os._exit(0)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")


WORKS = "import cupy; assert float((cupy.arange(4.0) * 2).sum()) == 12"


def test_a_process_of_its_own_has_the_device():
    assert run(WORKS) == (0, "")


def test_without_the_library_it_has_none():
    """The negative control."""
    status, output = run("import cupy; cupy.zeros(3)", LD_PRELOAD="", LD_LIBRARY_PATH="", INTEROP_EMULATED_LIBRARY="")
    assert status == 1
    assert "CUDARuntimeError" in output


@pytest.mark.parametrize("start", STARTS)
def test_what_was_started_does_not_survive_a_fork(start):
    status, output = in_a_fork(STARTS[start], "import cupy; cupy.zeros(3)")
    assert status == 1
    assert "initialization error" in output


def test_the_drivers_functions_do_not_survive_a_fork_either():
    ask = "n = ctypes.c_int(); raise SystemExit(driver.cuInit(0) * 10 + driver.cuDeviceGetCount(ctypes.byref(n)))"
    status, output = in_a_fork(STARTS["the driver"], ask)
    assert (status, output) == (1, "SystemExit 33\n")


@pytest.mark.parametrize("start", STARTS_NOTHING)
def test_what_was_only_loaded_can_be_started_by_a_child(start):
    assert in_a_fork(STARTS_NOTHING[start], WORKS) == (0, "")


def test_a_child_of_a_child_has_none_either():
    inside = (
        "import os; child = os.fork(); child or cupy.zeros(3); os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else 0)"
    )
    status, output = in_a_fork(STARTS["cupy"], inside)
    assert status == 1
    assert "initialization error" in output


# A context that is broken.

BROKEN = """
import cupy, ctypes
from tests.emulated.installing import device
x = cupy.zeros(3)
stream = cupy.cuda.Stream(non_blocking=True)
device().break_({arguments})
allocates, computes = lambda: cupy.cuda.runtime.malloc(8), lambda: x + 1
for call in (stream.synchronize, lambda: cupy.zeros(3), allocates, computes, lambda: cupy.cuda.Event().record()):
    try:
        call()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        print(error.status)
driver = ctypes.CDLL("libcuda.so.1")
print(driver.cuCtxSynchronize(), driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int())))
"""


@pytest.mark.parametrize(("arguments", "status"), [("", ILLEGAL_ADDRESS), ("716", 716), ("stream=stream", ILLEGAL_ADDRESS)])
def test_a_broken_context_stays_broken(arguments, status):
    assert run(BROKEN.format(arguments=arguments)) == (0, f"{status}\n" * 5 + f"{status} 0\n")


def test_a_kernel_that_fails_breaks_it():
    status, output = run("""
import cupy
from tests.emulated.installing import device
def fails():
    raise IndexError("past the end")
cupy.zeros(3)
device().launch(0, fails)
cupy.cuda.runtime.deviceSynchronize()
""")
    assert status == 1
    assert "past the end" in output
    assert "cudaErrorAssert" in output


def test_the_host_cannot_reach_the_devices_memory():
    status, _ = run("import ctypes, cupy; ctypes.string_at(cupy.zeros(3).data.ptr, 8)")
    assert status == -signal.SIGSEGV


# sitecustomize.


def test_a_process_that_imports_neither_library_imports_nothing_else():
    code = "import sys; print(sorted(set(sys.modules) - {'sitecustomize'}))"
    with_it = run(code)
    assert with_it[0] == 0
    assert with_it == run(code, PYTHONPATH=without_site())


def without_site():
    return os.pathsep.join(path for path in os.environ["PYTHONPATH"].split(os.pathsep) if Path(path) != SITE)


def test_another_sitecustomize_is_run_too(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.another = __name__, __file__")
    path = os.pathsep.join((str(SITE), str(tmp_path), os.environ["PYTHONPATH"]))
    code = f"import sys; print(*sys.another, sys.modules['sitecustomize'].__file__); {WORKS}"
    where = tmp_path / "sitecustomize.py"
    assert run(code, PYTHONPATH=path) == (0, f"sitecustomize {where} {where}\n")


def test_a_package_that_is_called_tests_does_not_interfere(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").write_text("raise ImportError('not this one')")
    path = os.pathsep.join((str(tmp_path), os.environ["PYTHONPATH"]))
    assert run(WORKS, PYTHONPATH=path) == (0, "")


def test_a_slow_device_takes_its_time():
    code = """
import cupy, time
from tests.emulated.installing import device
stream = cupy.cuda.Stream()
begin = time.monotonic()
device().sleep(stream, 20)
stream.synchronize()
print(time.monotonic() - begin >= 0.4)
"""
    assert run(code) == (0, "False\n")
    assert run(code, INTEROP_EMULATED_SLOWNESS="20") == (0, "True\n")
