"""Inside of a capture no event is queried or waited for, and what is dropped there is released after its end."""

import gc
import threading

import cupy as cp
import pytest

from interop import to_cupy
from interop.backends.cupy import release as _cupy_release
from tests.emulated.with_cupy.work import (
    N,
    exported,
    fast_path,
    two_streams,
)

pytestmark = pytest.mark.usefixtures("implementation")


def test_a_handoff_inside_of_a_capture_leaves_it_whole(gpu):
    """On the stream that captures, and dropped inside: no event is queried or waited for."""
    stream = cp.cuda.Stream(non_blocking=True)
    array = cp.zeros(N)
    with stream:
        stream.begin_capture()
        taken = exported(array, stream.ptr)
        assert fast_path([])(array) is not None
        del taken
        gc.collect()
        _cupy_release.release_completed()
        stream.end_capture()  # an error if the capture was broken


def test_what_waits_from_before_harms_no_capture(gpu):
    """A question to an event, from the thread that captures or from another, would end a capture in the global mode."""
    _, consumer = two_streams()
    capturing = cp.cuda.Stream(non_blocking=True)
    array = cp.full(N, 3, "float32")
    cp.cuda.runtime.deviceSynchronize()
    where = array.data.ptr
    with gpu.held(consumer):
        taken = exported(array, consumer.ptr)
        del array, taken
        assert len(_cupy_release.deferred) == 1
        other = cp.zeros(N)
        with capturing:
            capturing.begin_capture()
            exported(other, capturing.ptr)
            thread = threading.Thread(target=_cupy_release.release_completed)
            thread.start()
            thread.join()
            capturing.end_capture()  # an error if the capture was broken
        _cupy_release.release_completed()
        assert len(_cupy_release.deferred) == 1  # what came back inside is gone
    consumer.synchronize()
    _cupy_release.release_completed()
    assert cp.empty(N, "float32").data.ptr == where


def test_memory_that_is_dropped_while_another_stream_captures_is_released_later(gpu):
    consumer, capturing = two_streams()
    array = cp.full(N, 3, "float32")
    cp.cuda.runtime.deviceSynchronize()
    where = array.data.ptr
    with gpu.held(consumer):
        taken = exported(array, consumer.ptr)
        with capturing:
            capturing.begin_capture()
            del array, taken
            capturing.end_capture()
        assert cp.empty(N, "float32").data.ptr != where
    consumer.synchronize()
    _cupy_release.release_completed()
    assert cp.empty(N, "float32").data.ptr == where


def test_memory_of_the_legacy_stream_is_released_after_a_capture_that_it_waits_for(gpu):
    """Nothing can be recorded on it while a blocking stream is captured."""
    blocking = cp.cuda.Stream()
    array = cp.full(N, 3, "float32")
    cp.cuda.runtime.deviceSynchronize()
    where = array.data.ptr
    taken = exported(array, 1)
    with blocking:
        blocking.begin_capture()
        del array, taken
        _cupy_release.release_completed()
        assert len(_cupy_release.deferred) == 1
        blocking.end_capture()
    _cupy_release.release_completed()
    assert len(_cupy_release.deferred) == 0
    assert cp.empty(N, "float32").data.ptr == where


def test_a_stream_that_is_named_in_a_capture_blocks_no_release_for_good(gpu):
    """An event that was recorded inside is never done, and what comes later would wait behind it."""
    capturing, named = two_streams()
    array = cp.full(N, 3, "float32")
    cp.cuda.runtime.deviceSynchronize()
    with capturing:
        capturing.begin_capture()
        made = to_cupy(array, copy=True, stream=named)
        to_cupy(array, copy=True, stream=named)  # releases what the first has deferred, if it may
        capturing.wait_event(named.record())
        assert len(_cupy_release.deferred) == 2
        capturing.end_capture()  # an error if an event was queried inside
    for _ in range(3):
        to_cupy(array, copy=True, stream=named)
    named.synchronize()
    _cupy_release.release_completed()
    assert len(_cupy_release.deferred) == 0
    assert made.shape == (N,)
