"""The emulated device itself: graphs, times, memory, kernels, and the driver's functions that the conformance suite calls."""

import ctypes
import time

import numpy as np
import pytest
from interop_conformance.adapters._cuda import Device

cp = pytest.importorskip("cupy", reason="CuPy is not installed")

N = 1000
GIB = 1 << 30


@pytest.fixture
def driver(gpu):
    cp.zeros(1)  # makes the context
    return Device()


def captured(stream, work):
    stream.begin_capture()
    with stream:
        work()
    return stream.end_capture()


# Graphs.


def test_a_graph_does_nothing_before_it_is_launched_and_its_work_each_time(gpu):
    stream = cp.cuda.Stream(non_blocking=True)
    x, y = cp.full(N, 1.0), cp.zeros(N)
    cp.cuda.runtime.deviceSynchronize()
    graph = captured(stream, lambda: cp.multiply(x, 2, out=y))
    stream.synchronize()
    assert gpu.see(y).tolist() == [0] * N
    for value in (3, 5):
        x.fill(value)
        cp.cuda.runtime.deviceSynchronize()
        graph.launch(stream)
        stream.synchronize()
        assert gpu.see(y).tolist() == [2 * value] * N


def test_its_work_is_in_order_across_the_streams_of_the_capture(gpu):
    first, second = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)
    x, y = cp.zeros(N), cp.zeros(N)
    cp.cuda.runtime.deviceSynchronize()

    def work():
        gpu.sleep(first, 20)
        x.fill(3)
        second.wait_event(first.record())
        with second:
            y[...] = x
        first.wait_event(second.record())
        with first:
            x.fill(7)

    graph = captured(first, work)
    graph.launch(first)
    first.synchronize()
    assert (gpu.see(x)[0], gpu.see(y)[0]) == (7, 3)


def test_a_launch_comes_behind_what_its_stream_was_given(gpu):
    stream = cp.cuda.Stream(non_blocking=True)
    x, y = cp.zeros(N), cp.zeros(N)
    cp.cuda.runtime.deviceSynchronize()
    graph = captured(stream, lambda: cp.copyto(y, x))
    with gpu.held(stream):
        with stream:
            x.fill(3)
        graph.launch(stream)
        assert not stream.done
    stream.synchronize()
    assert gpu.see(y)[0] == 3


def test_what_a_graph_was_given_is_let_go_of_with_it(gpu):
    import gc
    import weakref

    class Kept:
        pass

    kept, stream = Kept(), cp.cuda.Stream(non_blocking=True)
    gone = weakref.ref(kept)
    graph = captured(stream, lambda kept=kept: gpu.launch(stream, lambda: kept))
    del kept
    assert gone() is not None
    del graph
    gc.collect()
    gpu.launch(stream, lambda: None)
    assert gone() is None


# Events.


def test_the_time_between_two_events_is_that_of_the_work_between_them(gpu):
    stream = cp.cuda.Stream(non_blocking=True)
    begin, end = cp.cuda.Event(), cp.cuda.Event()
    begin.record(stream)
    gpu.sleep(stream, 30)
    end.record(stream)
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="NotReady"):
        cp.cuda.get_elapsed_time(begin, end)
    end.synchronize()
    assert cp.cuda.get_elapsed_time(begin, end) >= 30


def test_events_without_a_time_have_none(gpu):
    events = [cp.cuda.Event(disable_timing=True) for _ in range(2)]
    for event in events:
        event.record()
        event.synchronize()
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="InvalidResourceHandle"):
        cp.cuda.get_elapsed_time(*events)


# Memory.


def test_memory_that_nobody_touches_costs_nothing(gpu):
    free, total = cp.cuda.runtime.memGetInfo()
    assert total == 24 * GIB
    began = time.monotonic()
    pointer = cp.cuda.runtime.malloc(8 * GIB)
    assert cp.cuda.runtime.memGetInfo()[0] == free - 8 * GIB
    cp.cuda.runtime.free(pointer)
    assert cp.cuda.runtime.memGetInfo()[0] == free
    assert time.monotonic() - began < 2
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="MemoryAllocation"):
        cp.cuda.runtime.malloc(25 * GIB)


def test_freed_memory_does_not_keep_its_values(gpu):
    pointer = cp.cuda.runtime.malloc(N)
    gpu.bytes_at(pointer, N)[:] = 1
    cp.cuda.runtime.free(pointer)
    assert set(gpu.bytes_at(pointer, N)) == {0xDD}


def test_a_copy_of_what_is_not_there_is_an_error(gpu):
    there, room, runtime = cp.cuda.runtime.malloc(512), np.zeros(1024, "uint8"), cp.cuda.runtime
    to_host, to_device = runtime.memcpyDeviceToHost, runtime.memcpyHostToDevice
    runtime.memcpy(room.ctypes.data, there, 512, to_host)
    for call in (
        (0, there, 512, to_host),
        (room.ctypes.data, 0, 8, to_host),
        (room.ctypes.data, there, 1024, to_host),
        (0, 0, 8, to_device),
    ):
        with pytest.raises(runtime.CUDARuntimeError, match="InvalidValue"):
            runtime.memcpy(*call)
    runtime.free(there)


# Kernels.


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "any", "all", "mean"])
@pytest.mark.parametrize("words", [{}, {"axis": 0}, {"axis": 1, "keepdims": True}], ids=str)
def test_reductions_are_numpys(gpu, name, words):
    data = np.arange(1, 13, dtype="float32").reshape(3, 4)
    made = getattr(cp.asarray(data), name)(**words)
    assert made.get().tolist() == getattr(data, name)(**words).tolist()
    assert made.dtype == getattr(data, name)(**words).dtype


def test_a_reduction_waits_for_its_turn(gpu):
    stream, x = cp.cuda.Stream(non_blocking=True), cp.zeros(N)
    cp.cuda.runtime.deviceSynchronize()
    with stream:
        gpu.sleep(stream)
        x.fill(3)
        assert float(x.sum()) == 3 * N


RAW = """
extern "C" __global__ void scaled(const float* x, float* y, double by, long long n)
{
    long long i = (long long)blockDim.x * blockIdx.x + threadIdx.x;
    if (i < n) y[i] = float(x[i] * by) + gridDim.x;
}
"""


def test_a_raw_kernel_is_run_on_the_host_in_its_turn(gpu):
    stream, x, y = cp.cuda.Stream(non_blocking=True), cp.zeros(N, "float32"), cp.zeros(N, "float32")
    cp.cuda.runtime.deviceSynchronize()
    with stream:
        gpu.sleep(stream)
        x.fill(3)
        cp.RawKernel(RAW, "scaled")((8,), (128,), (x, y, 0.5, N))
        assert y.get().tolist() == [9.5] * N


def test_a_kernel_that_is_not_known_is_an_error(gpu):
    unknown = cp.ElementwiseKernel("float32 x", "float32 y", "y = x * 3", "unknown")
    with pytest.raises(NotImplementedError, match="no kernel of CuPy's that is called unknown"):
        unknown(cp.zeros(3, "float32"))


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
