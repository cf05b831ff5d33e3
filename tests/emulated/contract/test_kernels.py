"""Kernels: modules of PTX, and launches."""

import ctypes
import time
from ctypes import byref, c_uint, c_uint64, c_void_p

import pytest

from tests.emulated.contract.cuda import DELAY, NOT_FOUND, NOT_READY, of, on_a_device

pytestmark = on_a_device


class Extent(ctypes.Structure):
    """A dim3."""

    _fields_ = (("x", c_uint), ("y", c_uint), ("z", c_uint))


class Configuration(ctypes.Structure):
    """A cudaLaunchConfig_t."""

    _fields_ = (
        ("grid", Extent),
        ("block", Extent),
        ("shared", ctypes.c_size_t),
        ("stream", c_void_p),
        ("attributes", c_void_p),
        ("count", c_uint),
    )


ONE = Extent(1, 1, 1)


def launch_nothing(cuda, function):
    """Launch the kernel of no address; returns the status."""
    if function == "cudaLaunchKernelExC":
        return cuda.status(function, byref(Configuration(ONE, ONE)), None, None)
    return cuda.status(function, None, ONE, ONE, None, ctypes.c_size_t(0), None)


@of("cudaLaunchKernel", "cudaLaunchKernelExC", "cudaLaunchCooperativeKernel", "__cudaLaunchKernel")
def test_a_kernel_that_there_is_not_is_an_error(cuda, function):
    assert launch_nothing(cuda, function) != 0
    assert cuda.status("cudaDeviceSynchronize") == 0  # and the context is as it was


@pytest.fixture(name="module")
def module_of_a_delay(cuda):
    made = cuda.get(c_void_p, "cuModuleLoadData", DELAY)
    yield made
    if "cuModuleUnload" not in cuda.called:
        cuda("cuModuleUnload", made)


@of("cuModuleLoadData", "cuModuleLoadDataEx")
def test_an_image_that_is_none_is_not_loaded(cuda, function):
    more = (0, None, None) if function.endswith("Ex") else ()
    assert cuda.status(function, byref(c_void_p()), b"no image at all" + bytes(64), *more) != 0
    made = cuda.get(c_void_p, function, DELAY, *more)
    assert made.value
    cuda("cuModuleUnload", made)


@of("cuModuleUnload")
def test_a_module_is_unloaded(cuda, function, module):
    cuda(function, module)


@of("cuModuleGetFunction")
def test_a_kernel_is_found_by_its_name(cuda, function, module):
    assert cuda.get(c_void_p, function, module, b"delay").value
    assert cuda.status(function, byref(c_void_p()), module, b"another") == NOT_FOUND


@of("cuLaunchKernel")
def test_a_launch_returns_before_the_kernel_is_done(cuda, function, module, stream):
    kernel = cuda.get(c_void_p, "cuModuleGetFunction", module, b"delay")
    duration = c_uint64(20_000_000)
    parameters = (c_void_p * 1)(ctypes.addressof(duration))
    begun = time.monotonic()
    cuda(function, kernel, 1, 1, 1, 1, 1, 1, 0, stream, parameters, None)
    duration.value = 0  # they were copied
    if time.monotonic() - begun < 0.015:  # or this thread was not run for so long that nothing is shown
        assert cuda.status("cuStreamQuery", stream) == NOT_READY
    cuda("cuStreamSynchronize", stream)
    assert time.monotonic() - begun >= 0.02
