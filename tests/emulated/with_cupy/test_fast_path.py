"""The fast path from CuPy to another library: on one stream nothing waits, and releases are deferred as off the fast path."""

import gc

import cupy as cp
import pytest

from interop._engine.fastpath import guarded
from interop.backends import load_backend
from tests.emulated.with_cupy.work import (
    N,
    dropped_while_working,
    fast_path,
    slow_values,
    two_streams,
    waited,
)

pytestmark = pytest.mark.usefixtures("implementation")


@pytest.mark.parametrize("on", ["default", "own"])
def test_on_one_stream_the_fast_path_shares_and_nothing_waits(gpu, on):
    stream = cp.cuda.Stream.null if on == "default" else cp.cuda.Stream(non_blocking=True)
    log = []
    attempt = fast_path(log)
    with stream:
        array = cp.full((4, 5), 3, "float32")
        gpu.calls()
        made = attempt(array.T)
        calls = gpu.calls()
    assert not any("Wait" in one or "Synchronize" in one or "Malloc" in one or "Event" in one for one in calls)
    assert (made.data.ptr, made.shape, made.strides) == (array.data.ptr, (5, 4), array.T.strides)
    assert log == [0]


def test_the_fast_path_defers_the_release_too(gpu):
    """Allocated on one stream, exported on another that is current for both, dropped while that works."""
    attempt = fast_path([])
    allocated, working = two_streams()
    with allocated:
        array = cp.full(N, 3, "float32")
        allocated.synchronize()
        with gpu.held(working):
            with working:
                taken = attempt(array)
                result = taken.copy()
            del array, taken
            gc.collect()
            cp.full(N, 7, "float32")
            allocated.synchronize()
        working.synchronize()
    assert gpu.see(result).tolist() == [3] * N


@pytest.mark.parametrize(
    "view",
    [lambda x: x[::2, ::2], lambda x: x[::-1], lambda x: x[:0], lambda x: cp.ndarray((3,), "float32", memptr=x.data + 1)],
    ids=["gaps", "reversed", "empty", "askew"],
)
def test_what_has_to_be_examined_is_off_the_fast_path(gpu, view):
    log = []
    assert fast_path(log)(view(cp.zeros((4, 8), "float32"))) is None
    assert log == []


@pytest.mark.parametrize("to", ["another", "default"])
def test_on_the_fast_path_another_stream_is_ordered_after_the_producers(gpu, to):
    producer, other = two_streams()
    consumer = other if to == "another" else cp.cuda.Stream.null
    cupy_there = load_backend("cupy").as_consumer()._replace(stream_pointer=lambda index: consumer.ptr)
    attempt = guarded(load_backend("cupy").export_to(cupy_there)[cp.ndarray])
    array = slow_values(gpu, producer, 3)
    with producer:
        gpu.calls()
        taken = attempt(array)
        assert waited(gpu.calls()) == []
    with consumer:
        copied = taken.copy()
        consumer.synchronize()
    assert gpu.see(copied).tolist() == [3] * N


def test_the_fast_path_defers_the_release_for_another_stream(gpu):
    def take(array, consumer):
        cupy_there = load_backend("cupy").as_consumer()._replace(stream_pointer=lambda index: consumer.ptr)
        return guarded(load_backend("cupy").export_to(cupy_there)[cp.ndarray])(array)

    assert dropped_while_working(gpu, take).tolist() == [3] * N


def test_managed_memory_is_off_the_fast_path(gpu):
    with cp.cuda.using_allocator(cp.cuda.malloc_managed):
        managed = cp.zeros(4)
    assert fast_path([])(managed) is None


def test_another_device_is_off_the_fast_path(gpu):
    with cp.cuda.Device(1):
        array = cp.zeros(3)
    assert fast_path([])(array) is None
