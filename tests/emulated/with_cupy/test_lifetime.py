"""Memory of CuPy's is not reused while a consumer's stream still works on it."""

import gc
import threading

import cupy as cp
import pytest

from interop.backends.cupy import release as _cupy_release
from tests.emulated.with_cupy.work import (
    N,
    dropped_while_working,
    exported,
    two_streams,
)

pytestmark = pytest.mark.usefixtures("implementation")


def test_memory_is_not_reused_before_the_consumers_work_is_done(gpu):
    assert dropped_while_working(gpu).tolist() == [3] * N


def test_without_deferred_release_it_is_reused(gpu, monkeypatch):
    monkeypatch.setattr(
        "interop.backends.cupy.release.defer_release", lambda x, stream, asked: x.__dlpack__(stream=asked, max_version=(1, 0))
    )
    assert dropped_while_working(gpu).tolist() == [7] * N


def test_exported_memory_is_released_when_the_work_is_done(gpu):
    _, consumer = two_streams()
    array = cp.full(N, 3, "float32")
    cp.cuda.runtime.deviceSynchronize()
    where = array.data.ptr
    taken = exported(array, consumer.ptr)
    with gpu.held(consumer):
        del array, taken
        assert cp.empty(N, "float32").data.ptr != where
    consumer.synchronize()
    _cupy_release.release_completed()
    assert cp.empty(N, "float32").data.ptr == where


@pytest.mark.parametrize("who", ["owner", "consumer"])
def test_either_may_go_first(gpu, who):
    _, consumer = two_streams()
    array = cp.full(N, 3, "float32")
    taken = exported(array, consumer.ptr)
    if who == "owner":
        del array
        gc.collect()
        cp.full(N, 7, "float32")
        with consumer:
            assert taken.copy().get().tolist() == [3] * N
    else:
        del taken
        gc.collect()
        assert array.get().tolist() == [3] * N


def test_it_may_be_dropped_in_another_thread(gpu):
    def drop(held):
        thread = threading.Thread(target=held.clear)
        thread.start()
        thread.join()

    assert dropped_while_working(gpu, drop=drop).tolist() == [3] * N


def test_many_threads_export_and_drop(gpu):
    """Each with streams of its own, on memory of one pool: none reads what is another's."""
    wrong = []

    def work(value):
        producer, consumer = two_streams()
        for _ in range(30):
            with producer:
                taken = exported(cp.full(64, value, "int32"), consumer.ptr)
            result = None
            with consumer:
                gpu.sleep(consumer, 1)
                result = taken.copy()
                del taken
                if not (result.get() == value).all():
                    wrong.append(value)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_was_exported_twice_is_released_when_both_are_done(gpu):
    first, second = two_streams()
    array = cp.full(N, 3, "float32")
    cp.cuda.runtime.deviceSynchronize()
    where = array.data.ptr
    one, other = exported(array, first.ptr), exported(array, second.ptr)
    with gpu.held(second):
        with gpu.held(first):
            del array, one, other
        first.synchronize()
        _cupy_release.release_completed()
        assert cp.empty(N, "float32").data.ptr != where
    second.synchronize()
    _cupy_release.release_completed()
    assert cp.empty(N, "float32").data.ptr == where


def test_what_is_done_already_is_released_at_once(gpu):
    _, consumer = two_streams()
    array = cp.full(N, 3, "float32")
    cp.cuda.runtime.deviceSynchronize()
    where = array.data.ptr
    taken = exported(array, consumer.ptr)
    consumer.synchronize()
    del array, taken
    assert cp.empty(N, "float32").data.ptr == where


@pytest.mark.parametrize(("stream", "is_deferred"), [(None, False), (-1, False), (1, True), (2, True)])
def test_release_is_deferred_for_every_stream_unless_no_order_was_asked_for(gpu, monkeypatch, stream, is_deferred):
    """Also to the current one: the memory may have been allocated on another. ``-1`` asked for no order."""
    asked, original = [], _cupy_release.defer_release
    monkeypatch.setattr(
        "interop.backends.cupy.release.defer_release", lambda x, number, order: asked.append(number) or original(x, number, order)
    )
    taken = exported(cp.zeros(3), stream)
    assert taken.get().tolist() == [0, 0, 0]
    assert asked == ([stream] if is_deferred else [])


def test_an_alias_of_a_stream_is_the_same_object_each_time(gpu):
    """Memory of CuPy's stream-ordered allocator refers to it weakly."""
    from interop.backends.cupy.streams import native_stream

    stream = cp.cuda.Stream(non_blocking=True)
    assert native_stream(stream.ptr) is native_stream(stream.ptr)
    assert native_stream(1) is cp.cuda.Stream.null
    assert native_stream(2) is cp.cuda.Stream.ptds
    with cp.cuda.Device(1):
        assert native_stream(stream.ptr) is not native_stream(1)
