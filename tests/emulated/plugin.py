"""The tests that are marked ``gpu``, on the emulated device: ``python -m tests.emulated tests/test_gpu.py`` with a torch that was built for CUDA."""

from __future__ import annotations

import os
from pathlib import Path

from tests.emulated import patch
from tests.emulated.device import Emulated


def pytest_configure(config):
    from tests.emulated import kernels, operators

    device = Emulated(patch.emulate(Path(os.environ[patch.PRELOADED]).parent))
    kernels.install(device)
    operators.install(device)
