"""The emulated device itself: graphs, times and memory."""

import time

import cupy as cp
import numpy as np
import pytest

N = 1000


GIB = 1 << 30


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


def test_a_launch_is_ordered_after_its_streams_work(gpu):
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


def test_the_work_of_a_graph_is_freed_with_it(gpu):
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


def test_untouched_memory_costs_nothing(gpu):
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
