"""What the tests share: the rule for those that need a GPU."""

import os

import pytest


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
