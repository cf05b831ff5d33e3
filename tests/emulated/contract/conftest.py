"""The device for the tests of what CUDA promises, with streams, events and memory that are given back."""

from __future__ import annotations

import functools
from ctypes import c_size_t, c_void_p

import pytest

from tests.emulated.contract.cuda import IS_EMULATED, NON_BLOCKING, ONLY_12, ONLY_EMULATED, SINCE_13, SIZE, WITHOUT_TIME, Cuda

_cuda = functools.cache(Cuda)


@pytest.fixture(name="cuda")
def cuda_of_the_test(request):
    """Return CUDA, with device 0 current; look that the function was called that the test is of, and leave no error behind."""
    cuda, function = _cuda(), request.node.callspec.params["function"]
    if not IS_EMULATED and function in ONLY_EMULATED:
        pytest.skip(f"only on the emulated device: {ONLY_EMULATED[function]}")
    cuda("cudaSetDevice", 0)
    if function in SINCE_13 and cuda.version() < 13000:
        pytest.skip(f"the emulation has CUDA 13's {function}, and this runtime is version {cuda.version()}")
    if function in ONLY_12 and not cuda.has(function):
        pytest.skip(f"CUDA 12.8 has {function}, and this runtime is version {cuda.version()}")
    cuda.called.clear()
    yield cuda
    called = set(cuda.called)
    cuda("cudaSetDevice", 0)
    cuda("cudaDeviceSynchronize")
    cuda.status("cudaGetLastError")
    assert function in called


@pytest.fixture
def stream(cuda):
    """Return a stream that does not synchronize with the legacy one."""
    made = cuda.get(c_void_p, "cudaStreamCreateWithFlags", NON_BLOCKING)
    yield made
    cuda("cudaStreamDestroy", made)


other = stream
"""Another such stream."""


@pytest.fixture
def event(cuda):
    """Return an event without a time."""
    made = cuda.get(c_void_p, "cudaEventCreateWithFlags", WITHOUT_TIME)
    yield made
    cuda("cudaEventDestroy", made)


@pytest.fixture
def memory(cuda):
    """Return `SIZE` bytes on the device, all zero."""
    made = cuda.get(c_void_p, "cudaMalloc", c_size_t(SIZE))
    cuda("cudaMemset", made, 0, c_size_t(SIZE))
    cuda("cudaDeviceSynchronize")
    yield made
    cuda("cudaFree", made)


target = memory
"""Other bytes on the device."""


@pytest.fixture
def page_locked(cuda):
    """Return `SIZE` bytes of the host that copies read and write in their turn."""
    made = cuda.get(c_void_p, "cudaMallocHost", c_size_t(SIZE))
    yield made
    cuda("cudaFreeHost", made)
