"""From the host to CuPy: pageable memory through staging buffers, page-locked memory straight; and no copy inside of a capture."""

import cupy as cp
import numpy as np
import pytest

import interop
from interop import StreamError, to_cupy, to_numpy
from tests.emulated.with_cupy.work import GRID, LAYOUTS


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "repeated"])
@pytest.mark.parametrize("size", ["small", "large"])
def test_layouts_reach_the_device(gpu, small_chunks, layout, size):
    data = GRID if size == "small" else np.arange(61 * 67.0).reshape(61, 67)
    made = to_cupy(LAYOUTS[layout](data), device="cuda")
    assert np.array_equal(made.get(), LAYOUTS[layout](data))
    assert made.shape == np.shape(LAYOUTS[layout](data))


@pytest.mark.parametrize("count", [10, 5000])
def test_pageable_memory_is_read_and_the_host_does_not_wait_for_the_stream(gpu, small_chunks, count):
    stream = cp.cuda.Stream(non_blocking=True)
    data = np.arange(count, dtype="float32")
    with stream:
        to_cupy(data, device="cuda")  # the buffers
        stream.synchronize()
        if count == 10:
            with gpu.held(stream):
                gpu.calls()
                made = to_cupy(data, device="cuda")  # would wait for ever if it waited
                data[:] = -1
        else:
            gpu.sleep(stream)
            gpu.calls()
            made = to_cupy(data, device="cuda")  # waits for its buffers, which are two
            data[:] = -1
        assert not any("pageable" in one for one in gpu.calls())
        assert made.get().tolist() == list(range(count))


def test_large_pageable_memory_goes_through_two_buffers_that_are_used_again(gpu, small_chunks):
    cp.get_default_pinned_memory_pool().free_all_blocks()
    data = np.arange(5000, dtype="float32")
    for _ in range(3):
        assert to_cupy(data, device="cuda").get().tolist() == data.tolist()
        gpu_calls = gpu.calls()
        assert sum("pinned device0" in one for one in gpu_calls) == -(-data.nbytes // 1024)
        cp.cuda.runtime.deviceSynchronize()
    assert not any(one.startswith("cudaHostAlloc") for one in gpu_calls)


def test_an_array_that_is_dropped_during_the_copy_is_not_reused(gpu, small_chunks):
    """CuPy's memory belongs to its stream: what comes next on it is ordered after the copy."""
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        gpu.sleep(stream)
        to_cupy(np.full(5000, 5, "float32"), device="cuda")
        made = cp.zeros(5000, "float32")
        assert made.get().tolist() == [0] * 5000


@pytest.mark.parametrize("count", [10, 5000])
def test_page_locked_memory_goes_straight_and_is_read_when_the_call_returns(gpu, small_chunks, count):
    data = np.frombuffer(cp.cuda.alloc_pinned_memory(4 * count), "float32", count)
    data[:] = np.arange(count)
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        gpu.sleep(stream)
        gpu.calls()
        made = to_cupy(data, device="cuda")
        data[:] = -1
        copies = [one for one in gpu.calls() if one.startswith("cudaMemcpy")]
        assert len(copies) == 1
        assert f"{4 * count} pinned device0" in copies[0]
        assert made.get().tolist() == list(range(count))


def test_bytes_in_another_order_reach_the_device_in_this_machines(gpu):
    data = np.arange(3, dtype=">f4")
    assert to_cupy(data, device="cuda", copy=True, casting="same_kind").get().tolist() == [0, 1, 2]


# Inside of a capture.


CROSSINGS = {
    "to the host": lambda x, stream: to_numpy(x, device="cpu"),
    "not blocking": lambda x, stream: to_numpy(x, device="cpu", blocking=False),
    "to the device": lambda x, stream: to_cupy(np.ones(3), device="cuda"),
    "tree": lambda x, stream: interop.tree.convert([x, x[1:]], "numpy", transfer="allow"),
    "on another stream": lambda x, stream: to_numpy(x, device="cpu", stream=stream),
    "not blocking, on another stream": lambda x, stream: to_numpy(x, device="cpu", stream=stream, blocking=False),
}


@pytest.mark.parametrize("cross", CROSSINGS)
def test_nothing_crosses_inside_of_a_capture_and_the_capture_goes_on(gpu, cross):
    array = cp.zeros(4)
    stream, other = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        try:
            with pytest.raises(StreamError, match="graph is being captured"):
                CROSSINGS[cross](array, other)
        finally:
            stream.end_capture()  # an error if the capture was broken
