"""Between CuPy and the host: the values, the order, what is called for it, and what is kept alive for how long."""

import gc
import weakref

import numpy as np
import pytest

import interop
from interop import StreamError, to_cupy, to_numpy
from interop.backends import load_backend
from interop.backends.cuda import copies as _departure
from interop.backends.cuda import staging as _staging
from interop.backends.cupy import copies as _cupy_copies

cp = pytest.importorskip("cupy", reason="CuPy is not installed")

GRID = np.arange(6.0).reshape(2, 3)
LAYOUTS = {
    "C": lambda x: x,
    "F": lambda x: x.T,
    "gaps": lambda x: x[:, ::2],
    "reversed": lambda x: x[::-1],
    "repeated": lambda x: x[:1].repeat(3, 0) if isinstance(x, np.ndarray) else cp.broadcast_to(x[:1], (3, 3)),
    "no axes": lambda x: x[1, 2],
    "empty": lambda x: x[:0],
}
DTYPES = ["bool", "int8", "uint64", "float16", "float32", "complex128", "bfloat16"]


def on_device(data):
    made = cp.empty(data.shape, data.dtype)
    made.set(data)
    return made


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(_staging, "CHUNK", 1024)
    monkeypatch.setattr(_staging, "WORTH", 2048)


def slow_values(gpu, stream, value, shape=(1000,), dtype="float32"):
    """Return an array that has a value when the stream is done, and zeros until then."""
    array = zeros(shape, dtype)
    with stream:
        gpu.sleep(stream)
        array.fill(value)
    return array


def zeros(shape=(1000,), dtype="float32"):
    """Return zeros that are there."""
    array = cp.zeros(shape, dtype)
    cp.cuda.runtime.deviceSynchronize()
    return array


def waited(calls):
    return [one for one in calls if "Synchronize" in one]


@pytest.mark.parametrize("status", [1, 719])
def test_what_the_runtime_does_not_know_is_plain_memory(gpu, monkeypatch, status):
    """HIP before ROCm 6 says so by an error (ROCm/hip#3057); others are none of this."""

    def ask(pointer):
        raise cp.cuda.runtime.CUDARuntimeError(status)

    monkeypatch.setattr(cp.cuda.runtime, "pointerGetAttributes", ask)
    if status == 1:
        assert to_cupy(GRID, device="cuda").get().tolist() == GRID.tolist()
    else:
        with pytest.raises(cp.cuda.runtime.CUDARuntimeError):
            _cupy_copies.to_device(GRID)


# To the host.


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_arrive(gpu, layout, blocking):
    view = LAYOUTS[layout](on_device(GRID))
    made = to_numpy(view, device="cpu") if blocking else to_numpy(view, device="cpu", blocking=False).result()
    assert np.array_equal(made, LAYOUTS[layout](GRID))
    assert made.dtype == GRID.dtype
    assert made.flags.writeable


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_arrive_both_ways(gpu, dtype):
    from interop.backends.numpy.backend import native_dtype

    data = np.arange(5).astype(native_dtype(dtype))
    array = to_cupy(data, device="cuda")
    assert array.dtype.name == dtype
    for made in (to_numpy(array, device="cpu"), to_numpy(array, device="cpu", blocking=False).result()):
        assert made.dtype == data.dtype
        assert made.tobytes() == data.tobytes()


def test_a_departure_waits_for_nothing_and_its_result_for_one_event(gpu):
    stream = cp.cuda.Stream(non_blocking=True)
    array = zeros()
    with stream:
        with gpu.held(stream):
            array.fill(3)
            gpu.calls()
            transfer = to_numpy(array, device="cpu", blocking=False)
            assert waited(gpu.calls()) == []
            assert not transfer.done()
        assert transfer.result().tolist() == [3] * 1000
        assert transfer.done()
        assert waited(gpu.calls()) == ["cudaEventSynchronize"]


def test_the_memory_of_a_departure_is_nobodys_until_the_copy_has_ended(gpu):
    stream = cp.cuda.Stream(non_blocking=True)
    array = zeros()
    where = array.data.ptr
    with stream, gpu.held(stream):
        array.fill(3)
        transfer = to_numpy(array, device="cpu", blocking=False)
        del array
        with cp.cuda.Stream.null:  # the stream that allocated it, and does not wait
            other = cp.full(1000, 7, "float32")
        assert other.data.ptr != where
    assert transfer.result().tolist() == [3] * 1000


def test_one_that_nobody_asks_for_keeps_its_memory_on_both_sides(gpu):
    from interop.backends.cupy.release import settle

    stream = cp.cuda.Stream(non_blocking=True)
    array = zeros()
    with stream, gpu.held(stream):
        departure = load_backend("cupy").depart(array, None, None)
        kept = weakref.ref(array), weakref.ref(departure.host)
        del array, departure
        settle()
        assert all(one() is not None for one in kept)
    stream.synchronize()
    settle()
    gc.collect()
    assert all(one() is None for one in kept)


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("number", ["another", "none"])
def test_a_named_stream_comes_behind_the_work_of_the_current_one(gpu, blocking, number):
    stream, other = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)
    array = slow_values(gpu, stream, 3)
    with stream:
        made = to_numpy(array, device="cpu", stream=other if number == "another" else -1, blocking=blocking)
    assert (made if blocking else made.result()).tolist() == [3] * 1000


def test_without_the_wait_they_would_be_of_before(gpu):
    """The negative control for the one above: another stream that is current waits for nothing."""
    stream, other = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)
    array = zeros()
    with gpu.held(stream):
        with stream:
            array.fill(3)
        with other:
            assert to_numpy(array, device="cpu").tolist() == [0] * 1000


@pytest.mark.parametrize("layout", ["C", "F", "gaps", "reversed"])
@pytest.mark.parametrize("dtype", ["float64", "int8", "complex64"])
def test_large_arrays_go_through_two_buffers(gpu, small_chunks, layout, dtype):
    data = np.arange(61 * 67).reshape(61, 67).astype(dtype)
    array = LAYOUTS[layout](on_device(data))
    gpu.calls()
    made = to_numpy(array, device="cpu")
    said = [one for one in gpu.calls() if one.startswith("cudaMemcpy")]
    assert np.array_equal(made, LAYOUTS[layout](data))
    if layout in "CF":
        assert made.strides == LAYOUTS[layout](data).strides
        assert len(said) == -(-data.nbytes // 1024)
        assert all("device0 pinned" in one for one in said)
    else:
        assert len(said) == 1


def test_large_arrays_wait_for_the_work_before_and_for_no_device(gpu, small_chunks):
    stream = cp.cuda.Stream(non_blocking=True)
    array = slow_values(gpu, stream, 3, (5000,))
    with stream:
        gpu.calls()
        assert to_numpy(array, device="cpu").tolist() == [3] * 5000
    assert set(waited(gpu.calls())) == {"cudaEventSynchronize"}


def test_the_small_arrays_of_a_tree_travel_together(gpu):
    tree = {"a": [on_device(GRID), on_device(GRID)[:, ::2]], "b": on_device(np.array(True)), "c": on_device(np.arange(3, dtype="int16"))}
    gpu.calls()
    made = interop.tree.convert(tree, "numpy", transfer="allow")
    copies = [one for one in gpu.calls() if one.startswith("cudaMemcpy")]
    assert len(copies) == 2  # the one with gaps goes alone
    assert np.array_equal(made["a"][0], GRID)
    assert np.array_equal(made["a"][1], GRID[:, ::2])
    assert made["b"].item() is True
    assert made["c"].tolist() == [0, 1, 2]
    assert made["c"].dtype == "int16"


def test_a_tree_waits_for_the_work_before_it(gpu):
    stream = cp.cuda.Stream(non_blocking=True)
    tree = [slow_values(gpu, stream, n, (4,)) for n in range(3)]
    with stream:
        made = interop.tree.convert(tree, "numpy", transfer="allow")
    assert [one.tolist() for one in made] == [[n] * 4 for n in range(3)]


def test_large_trees_travel_in_packs(gpu, monkeypatch):
    monkeypatch.setattr(_departure, "PACK", 100)
    tree = [on_device(np.full(n % 7 + 1, float(n))) for n in range(20)]
    gpu.calls()
    made = interop.tree.convert(tree, "numpy", transfer="allow")
    copies = [one for one in gpu.calls() if one.startswith("cudaMemcpy")]
    assert 5 < len(copies) < 20
    assert all((one == n).all() for n, one in enumerate(made))


# To the device.


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "repeated"])
@pytest.mark.parametrize("size", ["small", "large"])
def test_layouts_reach_the_device(gpu, small_chunks, layout, size):
    data = GRID if size == "small" else np.arange(61 * 67.0).reshape(61, 67)
    made = to_cupy(LAYOUTS[layout](data), device="cuda")
    assert np.array_equal(made.get(), LAYOUTS[layout](data))
    assert made.shape == np.shape(LAYOUTS[layout](data))


@pytest.mark.parametrize("count", [10, 5000])
def test_pageable_memory_is_read_and_nobody_waits_for_the_stream(gpu, small_chunks, count):
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


def test_an_array_that_is_dropped_under_way_is_not_handed_out(gpu, small_chunks):
    """CuPy's memory belongs to its stream: what comes next on it comes behind the copy."""
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


# On a stream that is named: what is done for the result is done there.


class Foreign:
    """An array of another library, whose current stream works on it."""

    def __init__(self, array, current):
        self.array, self._current = array, current

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **words):
        with self.array.device, self._current:
            return self.array.__dlpack__(**words)


@pytest.mark.parametrize("words", [{}, {"copy": True}, {"dtype": "float64", "casting": "same_kind"}], ids=["shared", "copied", "cast"])
@pytest.mark.parametrize("source", ["another library's", "CuPy's"])
def test_the_result_is_ready_for_work_on_the_stream_that_is_named(gpu, source, words):
    producer, named, current = (cp.cuda.Stream(non_blocking=True) for _ in range(3))
    if source == "CuPy's":
        with current:
            made = to_cupy(slow_values(gpu, current, 3), stream=named, **words)
    else:
        with current:
            made = to_cupy(Foreign(slow_values(gpu, producer, 3), producer), stream=named, **words)
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
def test_what_a_departure_was_made_of_is_kept_too(gpu, words):
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


@pytest.mark.parametrize("way", ["to the host", "departing", "to the device"])
def test_an_interrupt_leaves_no_copy_under_way_on_memory_that_goes_back(gpu, small_chunks, monkeypatch, way):
    stream = cp.cuda.Stream(non_blocking=True)
    array = zeros((5000,))

    class Interrupted(cp.cuda.Event):
        def record(self, *_):
            raise KeyboardInterrupt

    monkeypatch.setattr(cp.cuda, "Event", Interrupted)
    cross = {
        "to the host": lambda: to_numpy(array, device="cpu"),
        "departing": lambda: load_backend("cupy").depart(array, None, None),
        "to the device": lambda: to_cupy(np.ones(5000), device="cuda"),
    }[way]
    with stream:
        gpu.sleep(stream)
        with pytest.raises(KeyboardInterrupt):
            cross()
        assert stream.done


def test_finished_loans_are_given_back_before_memory_is_asked_for(gpu):
    consumer = cp.cuda.Stream(non_blocking=True)
    half = 600 << 20
    array = cp.empty(half, "uint8")
    taken = cp.from_dlpack(load_backend("cupy").export(array, consumer.ptr))
    with gpu.held(consumer):
        del array, taken
    consumer.synchronize()
    made = to_cupy(np.ones(half, "uint8"), device="cuda")
    assert made.shape == (half,)
    del made
    cp.get_default_memory_pool().free_all_blocks()


def test_the_leaves_of_a_tree_are_refused_as_alone(gpu):
    array = cp.zeros(3, np.dtype([("a", "f4"), ("b", "i4")]))
    for convert in (to_numpy, lambda x, **words: interop.tree.convert([x], "numpy", **words)):
        with pytest.raises(interop.DTypeError):
            convert(array, device="cpu")
