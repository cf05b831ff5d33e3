"""On a stream that is named, what is done for the result is done there; and what an interrupt leaves."""

import gc

import cupy as cp
import numpy as np
import pytest

import interop
from interop import StreamError, to_cupy, to_numpy
from interop.backends import load_backend
from interop.backends.cupy import copies as _cupy_copies
from tests.emulated.with_cupy.work import Other, slow_values, zeros


@pytest.mark.parametrize("words", [{}, {"copy": True}, {"dtype": "float64", "casting": "same_kind"}], ids=["shared", "copied", "cast"])
@pytest.mark.parametrize("source", ["another library's", "CuPy's"])
def test_the_result_is_ready_for_work_on_the_stream_that_is_named(gpu, source, words):
    producer, named, current = (cp.cuda.Stream(non_blocking=True) for _ in range(3))
    if source == "CuPy's":
        with current:
            made = to_cupy(slow_values(gpu, current, 3), stream=named, **words)
    else:
        with current:
            made = to_cupy(Other(slow_values(gpu, producer, 3), producer), stream=named, **words)
    with named:
        assert (made + made).get().tolist() == [6] * 1000


def test_the_source_is_kept_for_what_is_done_on_the_stream_that_is_named(gpu):
    named = cp.cuda.Stream(non_blocking=True)
    array = cp.full(1000, 3, "float32")
    with gpu.held(named):
        made = to_cupy(array, stream=named, copy=True)
        del array
        cp.full(1000, 7, "float32")
        cp.cuda.Stream.null.synchronize()
    with named:
        assert made.get().tolist() == [3] * 1000


@pytest.mark.parametrize("words", [{}, {"dtype": "float64", "casting": "same_kind"}], ids=["packed", "cast"])
def test_what_a_pending_copy_was_made_of_is_kept_too(gpu, words):
    array = cp.full((1000, 2), 3, "float32")
    cp.cuda.Stream.null.synchronize()
    with cp.cuda.Stream(non_blocking=True) as stream, gpu.held(stream):
        transfer = to_numpy(array[:, ::2], device="cpu", blocking=False, **words)
        del array
        with cp.cuda.Stream.null:
            cp.full((1000, 2), 7, "float32")
            cp.cuda.Stream.null.synchronize()
    assert (transfer.result() == 3).all()


@pytest.mark.parametrize(
    "cross", [lambda x, s: to_numpy(x, device="cpu", stream=s), lambda x, s: to_cupy(np.ones(3), device="cuda:0", stream=s)]
)
def test_a_stream_of_another_device_is_refused(gpu, cross):
    with cp.cuda.Device(1):
        stream = cp.cuda.Stream(non_blocking=True)
    with pytest.raises(StreamError, match="the stream is on cuda:1, and the data are on cuda:0"):
        cross(cp.ones(3), stream)


@pytest.mark.parametrize("make", [cp.cuda.Event, lambda: cp.ones(3).data])
def test_what_has_a_pointer_and_is_no_stream_is_refused(gpu, make):
    with pytest.raises(StreamError, match="is not a stream"):
        to_cupy(np.ones(3), device="cuda", stream=make())


# When something comes in between.


@pytest.mark.parametrize("way", ["to the host", "copying to the host", "to the device"])
def test_an_interrupt_leaves_no_copy_under_way_on_memory_that_goes_back(gpu, small_chunks, monkeypatch, way):
    stream = cp.cuda.Stream(non_blocking=True)
    array = zeros((5000,))

    class Interrupted(cp.cuda.Event):
        def record(self, *_):
            raise KeyboardInterrupt

    monkeypatch.setattr(cp.cuda, "Event", Interrupted)
    cross = {
        "to the host": lambda: to_numpy(array, device="cpu"),
        "copying to the host": lambda: load_backend("cupy").start_copy_to_host(array, None, None),
        "to the device": lambda: to_cupy(np.ones(5000), device="cuda"),
    }[way]
    with stream:
        gpu.sleep(stream)
        with pytest.raises(KeyboardInterrupt):
            cross()
        assert stream.done


@pytest.fixture
def room_for_one(gpu):
    """Return a number of bytes for which CuPy's pool has room once, and not twice."""
    own, size = cp.get_default_memory_pool(), 1 << 20
    gc.collect()
    own.free_all_blocks()
    own.set_limit(size=own.total_bytes() + size * 3 // 2)
    yield size
    own.set_limit(size=0)


def copied_after_a_deferred_release(gpu, size):
    """Copy to the device when the memory for it is that of an array whose release was deferred, and could happen by now."""
    consumer = cp.cuda.Stream(non_blocking=True)
    array = cp.empty(size, "uint8")
    taken = cp.from_dlpack(load_backend("cupy").export(array, consumer.ptr))
    with gpu.held(consumer):
        del array, taken
    consumer.synchronize()
    return to_cupy(np.ones(size, "uint8"), device="cuda")


def test_completed_releases_come_before_an_allocation(gpu, room_for_one):
    assert copied_after_a_deferred_release(gpu, room_for_one).shape == (room_for_one,)


def test_without_them_there_is_no_memory(gpu, room_for_one, monkeypatch):
    """The negative control."""
    monkeypatch.setattr(_cupy_copies, "release_completed", lambda: None)
    with pytest.raises(cp.cuda.memory.OutOfMemoryError):
        copied_after_a_deferred_release(gpu, room_for_one)


def test_the_leaves_of_a_tree_are_refused_as_alone(gpu):
    array = cp.zeros(3, np.dtype([("a", "f4"), ("b", "i4")]))
    for convert in (to_numpy, lambda x, **words: interop.tree.convert([x], "numpy", **words)):
        with pytest.raises(interop.DTypeError):
            convert(array, device="cpu")
