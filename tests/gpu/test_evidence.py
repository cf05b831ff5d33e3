"""What a handoff on CUDA costs: host time, memory, and what is shared. The figures are recorded with the results. Run by ``make gpu``."""

import contextlib
import gc
import statistics
import time

import numpy as np
import pytest
import torch

import interop
from interop import to_cupy, to_torch
from tests.gpu.work import busy, drain, form, numpy_dtype, pointer, quiet, size_of_test, values

pytestmark = pytest.mark.gpu

DTYPES = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "bfloat16"]
DTYPES += ["float32", "float64", "complex64", "complex128"]

LAYOUTS = {
    "whole": lambda x: x,
    "transposed": lambda x: permuted(x, 1, 0, 2),
    "every second": lambda x: x[:, ::2],
    "inner part": lambda x: x[1:, 1:, 2:],
    "axes in another order": lambda x: permuted(x, 1, 2, 0),
    "one element": lambda x: x[1, 2, 3],
}


def permuted(x, *axes):
    return x.permute(*axes) if isinstance(x, torch.Tensor) else x.transpose(*axes)


@pytest.fixture(name="cp")
def cupy_module():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    quiet()
    return cupy


# Host time.

BATCH, BATCHES, BUSY = 250, 4, 500
"""Handoffs behind one delay, as a stream takes about a thousand calls before the host waits for it; how often; and its milliseconds."""


@contextlib.contextmanager
def no_collection():
    """Have Python's garbage collector not run in the middle of what is timed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("direction", ["torch_to_cupy", "cupy_to_torch"])
def test_the_host_does_not_wait_for_a_busy_producer(cp, direction, streams, record_property):
    torchs, cupys = torch.cuda.Stream(), cp.cuda.Stream(non_blocking=True)
    tensor, array = torch.ones(1 << 20, device="cuda"), cp.ones(1 << 20, "float32")
    hand_over = (lambda: to_cupy(tensor)) if direction == "torch_to_cupy" else (lambda: to_torch(array))

    def timed(count):
        clock, found = time.perf_counter_ns, []
        for _ in range(count):
            begin = clock()
            hand_over()
            found.append(clock() - begin)
        return found

    def on(stream):
        return interop.cuda.stream(torchs) if stream == 1 else contextlib.ExitStack()

    found = []
    with torch.cuda.stream(torchs), cupys, on(streams):
        # As many as end in half of the delay, however slow one is.
        slowest = max(sum(timed(20)) / 20 for _ in range(5))
        count = max(10, min(BATCH, int(BUSY / 2 * 1e6 / slowest)))
        for _ in range(BATCHES):
            drain()
            delay = busy(BUSY, cupys if streams == 2 and direction == "cupy_to_torch" else None)
            with no_collection():
                found += timed(count)
            assert delay.running(), f"{delay} is over after {count} handoffs"
    drain()
    found.sort()
    median, high = int(statistics.median(found)), found[int(len(found) * 0.99)]
    record_property("handoffs_count", len(found))
    record_property("delay_ns", BUSY * 1_000_000)
    record_property("host_time_median_ns", median)
    record_property("host_time_99_percent_ns", high)
    assert high < BUSY * 1e6 / 20


def test_a_copy_to_the_host_does_wait_for_it(cp):
    """The negative control: what waits takes as long as the producer is busy."""
    tensor = torch.ones(1 << 20, device="cuda")
    interop.to_numpy(tensor, device="cpu")
    torch.cuda.synchronize()
    begin, delay = time.perf_counter(), busy(200)
    interop.to_numpy(tensor, device="cpu")
    assert time.perf_counter() - begin > 0.1
    assert not delay.running()


# Memory.


def used():
    """Return the bytes of the device that are not free, when everything is done."""
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return total - free


def test_a_handoff_takes_no_memory(cp, record_property):
    to_torch(to_cupy(torch.ones(1, device="cuda")))
    quiet()
    size = size_of_test()
    tensor = torch.empty(size, dtype=torch.uint8, device="cuda")
    before = used(), torch.cuda.memory_reserved(), cp.get_default_memory_pool().total_bytes()
    array = to_cupy(tensor)
    back = to_torch(array)
    after = used(), torch.cuda.memory_reserved(), cp.get_default_memory_pool().total_bytes()
    assert pointer(back) == pointer(array) == pointer(tensor)
    record_property("handed_over_bytes", size)
    record_property("device_memory_more_bytes", after[0] - before[0])
    assert after[0] - before[0] < size // 1000  # the driver may take some for itself
    assert after[1:] == before[1:]
    del tensor, array, back
    quiet()
    # The negative control.
    tensor = torch.empty(size // 8, dtype=torch.uint8, device="cuda")
    begin = used()
    copied = to_cupy(tensor, copy=True)
    record_property("device_memory_of_copy_bytes", used() - begin)
    assert used() - begin >= copied.nbytes == size // 8


def test_cupy_takes_memory_that_torch_holds_unused(cp, record_property):
    size = size_of_test()
    torch.empty(size, dtype=torch.uint8, device="cuda")  # and freed: torch's pool keeps it
    assert torch.cuda.memory_reserved() - torch.cuda.memory_allocated() >= size

    def more(scope):
        begin = used()
        with scope:
            array = cp.empty(size, "uint8")
            taken = used() - begin
        assert array.nbytes == size
        del array
        drain()
        cp.get_default_memory_pool().free_all_blocks()
        return taken

    cp.empty(1, "uint8")
    inside, outside = more(interop.cuda.torch_pool()), more(contextlib.nullcontext())
    record_property("held_unused_by_torch_bytes", size)
    record_property("device_memory_more_in_torch_pool_bytes", inside)
    record_property("device_memory_more_without_bytes", outside)
    assert inside < size // 1000
    assert outside >= size
    torch.cuda.empty_cache()


# Sharing.


def source(library, dtype):
    """Return a grid with values, and the same as a NumPy array; no kernel makes it."""
    import cupy

    host = np.arange(4 * 5 * 6).reshape(4, 5, 6).astype(numpy_dtype(dtype))
    tensor = torch.from_numpy(host.view("uint8").copy()).cuda().view(getattr(torch, dtype))
    if library == "torch":
        return tensor, host
    array = cupy.empty(host.shape, host.dtype)
    cupy.cuda.runtime.memcpy(array.data.ptr, tensor.data_ptr(), host.nbytes, cupy.cuda.runtime.memcpyDeviceToDevice)
    torch.cuda.synchronize()
    return array, host


@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_every_dtype_in_every_layout_is_shared(cp, library, record_property):
    there, back = (to_cupy, to_torch) if library == "torch" else (to_torch, to_cupy)
    wrong, shared = [], 0
    for dtype in DTYPES:
        whole, host = source(library, dtype)
        for name, view in LAYOUTS.items():
            x, expected = view(whole), view(host)
            made = there(x)
            again = back(made)
            same = form(x) == form(made) == form(again)
            equal = all(np.array_equal(values(one), expected) for one in (x, made, again))
            shared += same and equal
            if not (same and equal):
                wrong.append((dtype, name, form(x), form(made), form(again), equal))
    record_property("dtypes_count", len(DTYPES))
    record_property("layouts_count", len(LAYOUTS))
    record_property("shared_both_ways_count", shared)
    assert wrong == []
    assert shared == 15 * 6
    copied = there(x, copy=True)
    assert form(copied)[3] != form(x)[3]  # the negative control


# A graph.

REPLAYS = 1000


def captured(cp, x, z, words):
    """Return a graph in which torch and CuPy work in turn, each on its own stream: ``z = (2 x + 1) * 3``."""
    y, between = torch.zeros_like(x), torch.zeros_like(x)
    cupys, graph = cp.cuda.Stream(non_blocking=True), torch.cuda.CUDAGraph()
    given, made = to_cupy(y), to_cupy(between)

    def work():
        torch.mul(x, 2, out=y)
        with cupys:
            cp.add(to_cupy(y, **words), 1, out=made)
            came = to_torch(made, **words)
        torch.mul(came, 3, out=z)
        return came

    kept = [work(), given]  # compiled and loaded
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        kept.append(work())
    kept += [y, between, made, cupys]  # a graph works on its memory whenever it is replayed
    return graph, kept


def replayed(cp, words, count):
    """Return what each replay left in its result, all at once: nothing waits in between."""
    x, z = torch.zeros(1 << 10, device="cuda"), torch.zeros(1 << 10, device="cuda")
    results = torch.zeros(count, 1 << 10, device="cuda")
    graph, kept = captured(cp, x, z, words)
    for n in range(count):
        x.fill_(n)
        graph.replay()
        results[n].copy_(z)
    torch.cuda.synchronize()
    del kept
    return results.cpu().numpy()


def test_a_graph_across_two_streams_is_joined_by_the_handoffs(cp, record_property):
    begin = time.perf_counter()
    found = replayed(cp, {}, REPLAYS)
    record_property("replays_count", REPLAYS)
    record_property("capture_and_replays_ns", int((time.perf_counter() - begin) * 1e9))
    expected = (np.arange(REPLAYS, dtype="float32") * 2 + 1) * 3
    assert np.array_equal(found, np.repeat(expected[:, None], 1 << 10, axis=1))


def test_without_the_wait_cupys_work_is_not_in_the_graph(cp):
    """The negative control: with ``stream=-1`` CuPy's stream joins nothing, and what it did was done once, before the replays."""
    found = replayed(cp, {"stream": -1}, 10)
    assert len(set(found[:, 0].tolist())) == 1
