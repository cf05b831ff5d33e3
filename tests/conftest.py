"""What the tests share: the rule for those that need a GPU, and what makes a run of thousands of them quick."""

import gc
import os
import sys

import pytest

collect_ignore = ["typing"]  # programs for mypy (`make typing`): imported, they would run

# Images of Docker often set it. Without bytecode pytest rewrites the assertions of every file anew, which is half of the time of collecting, and
# each process that a test starts compiles the whole package.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before NumPy and torch are there, and for the processes that a test starts. The pools of threads of several workers spin for each
    # other's cores.
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@pytest.fixture(scope="module", autouse=True)
def _garbage_is_looked_for_in_what_is_new() -> None:
    """With every library loaded half a million objects are tracked, and each test that collects garbage would look at all of them."""
    gc.collect()
    gc.freeze()


def no_gpu() -> str | None:
    """Return why there is no GPU to test on, or None if there is one that both libraries see."""
    import torch

    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    try:
        import cupy
    except ImportError as error:
        return f"CuPy cannot be imported: {error}"
    return None if cupy.cuda.is_available() else "CuPy sees no CUDA device"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None:
        return
    reason = no_gpu()
    if reason and os.environ.get("INTEROP_REQUIRE_GPU") == "1":
        pytest.fail(f"INTEROP_REQUIRE_GPU=1, but {reason}", pytrace=False)
    if reason:
        pytest.skip(f"{reason}; run `make gpu` on a machine with a CUDA GPU")
