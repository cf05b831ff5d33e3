"""The driver's functions that the conformance suite calls, on the emulated device."""

import ctypes
import time

import cupy as cp
import numpy as np
import pytest
from interop_conformance.adapters._cuda import Device


@pytest.fixture
def driver(gpu):
    cp.zeros(1)  # makes the context
    return Device()


# The driver.


def test_a_stream_spins_for_as_long_as_it_was_told(driver):
    stream = driver.streams[0]
    began = time.monotonic()
    driver.spin(50_000_000, stream)
    assert time.monotonic() - began < 0.04
    driver.synchronise()
    assert time.monotonic() - began >= 0.05


def test_other_kernels_are_refused(driver):
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    other = b".version 7.0\n.visible .entry adds(.param .u64 x) { ret; }"
    assert driver._cuda.cuModuleLoadData(ctypes.byref(module), other) == 0
    assert driver._cuda.cuModuleGetFunction(ctypes.byref(function), module, b"spin") == 500
    assert driver._cuda.cuModuleGetFunction(ctypes.byref(function), module, b"adds") == 0
    one = ctypes.c_uint(1)
    assert driver._cuda.cuLaunchKernel(function, one, one, one, one, one, one, one, None, None, None) == 209


def test_what_a_stream_writes_late_is_read_late(driver):
    address = driver.keep(cp.zeros(8, "uint8").data.ptr, 8)
    other = driver.keep(address, 8)
    driver.upload(other, b"the word")
    driver.fill(address, 8, 0xA5)
    driver.spin(50_000_000, driver.streams[0])
    driver.copy(address, other, 8, driver.streams[0])
    assert driver.read(address, 8, driver.streams[-1]) == b"\xa5" * 8
    assert driver.read(address, 8, driver.streams[0]) == b"the word"
    for one in (address, other):
        driver.release(one)


def test_whose_memory_an_address_is(driver):
    assert driver.holds(cp.zeros(8).data.ptr)
    assert driver.holds(cp.cuda.malloc_managed(8).ptr)
    assert not driver.holds(cp.cuda.alloc_pinned_memory(8).ptr)
    assert not driver.holds(np.zeros(8).ctypes.data)
    assert driver.fault() == ""


def test_a_thread_has_no_context_before_it_uses_one(driver):
    import threading

    seen = []

    def work():
        context = ctypes.c_void_p()
        seen.append((driver._cuda.cuCtxGetCurrent(ctypes.byref(context)), context.value, driver._cuda.cuCtxSynchronize()))
        cp.cuda.runtime.deviceSynchronize()
        seen.append((driver._cuda.cuCtxGetCurrent(ctypes.byref(context)), context.value, driver._cuda.cuCtxSynchronize()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(0, None, 201), (0, 1, 0)]


def test_names_of_errors(driver):
    name = ctypes.c_char_p()
    assert driver._cuda.cuGetErrorName(716, ctypes.byref(name)) == 0
    assert name.value == b"CUDA_ERROR_MISALIGNED_ADDRESS"
    assert driver._cuda.cuGetErrorName(12345, ctypes.byref(name)) == 1
