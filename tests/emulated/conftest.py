"""The emulated device, in a process that was made for it: see tests/cuda/test_emulated.py."""

from __future__ import annotations

import os

import pytest

EMULATED = "INTEROP_EMULATED_TESTS"
"""Has the tests in this folder collected, which need a process of their own; those in contract/ run on a GPU too."""

collect_ignore_glob = [] if os.environ.get(EMULATED) == "1" else ["test_*.py", "with_cupy/test_*.py"]


@pytest.fixture(scope="session", name="emulated")
def emulated_device():
    from tests.emulated.installing import device

    return device()


@pytest.fixture
def gpu(emulated):
    """Return the emulated device with nothing to do and nothing written down, and look that the current device is as it was."""
    import cupy

    yield _quiet(cupy, emulated)
    assert cupy.cuda.runtime.getDevice() == 0
    assert cupy.cuda.get_current_stream().ptr == 0
    _quiet(cupy, emulated)


def _quiet(cupy, emulated):
    from interop.backends.cupy.release import release_completed

    for n in range(cupy.cuda.runtime.getDeviceCount()):
        with cupy.cuda.Device(n):
            cupy.cuda.runtime.deviceSynchronize()
    release_completed()
    emulated.calls()
    return emulated
