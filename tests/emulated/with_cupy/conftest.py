"""Fixtures of the tests of CuPy on the emulated device."""

import pytest

from interop.backends.cuda import staging as _staging
from interop.backends.cupy import release as _cupy_release


@pytest.fixture(params=["compiled", "python"])
def implementation(request, monkeypatch):
    """Defer the release of exported memory in compiled code and in Python."""
    if request.param == "python":
        monkeypatch.setattr(_cupy_release, "compiled", None)
    else:
        assert _cupy_release.compiled is not None


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(_staging, "CHUNK", 1024)
    monkeypatch.setattr(_staging, "WORTH", 2048)
