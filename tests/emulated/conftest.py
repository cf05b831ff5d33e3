"""The emulated device, in the process that was made for it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

EMULATED = "INTEROP_EMULATED_CUDA"

collect_ignore_glob = [] if os.environ.get(EMULATED) == "1" else ["test_*.py"]


@pytest.fixture(scope="session", name="emulated")
def emulated_device():
    from tests.emulated.device import Emulated
    from tests.emulated.kernels import install
    from tests.emulated.patch import emulate

    with tempfile.TemporaryDirectory() as folder:
        made = Emulated(emulate(Path(folder)))
        install(made)
        yield made


@pytest.fixture
def gpu(emulated):
    """Return the emulated device with nothing to do and nothing written down, and look that the current device is as it was."""
    import cupy

    yield _quiet(cupy, emulated)
    assert cupy.cuda.runtime.getDevice() == 0
    assert cupy.cuda.get_current_stream().ptr == 0
    _quiet(cupy, emulated)


def _quiet(cupy, emulated):
    from interop.backends._cupy_lent import settle

    for n in range(cupy.cuda.runtime.getDeviceCount()):
        with cupy.cuda.Device(n):
            cupy.cuda.runtime.deviceSynchronize()
    settle()
    emulated.calls()
    return emulated
