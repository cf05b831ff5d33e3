"""CuPy's arrays handed to another library on the device, and those of another library taken: order, lifetime, and what is called.

The other library is made of CuPy's own memory here, as torch cannot use the emulated device.
"""

import gc
import threading

import numpy as np
import pytest

import interop
from interop import StreamError, to_cupy
from interop._engine.fastpath import guarded
from interop.backends import load_backend
from interop.backends.cupy import release as _cupy_lent
from interop.dlpack import CUDA, Handover
from tests.emulated.test_crossings import slow_values, waited, zeros

cp = pytest.importorskip("cupy", reason="CuPy is not installed")

N = 1000


class Other:
    """An array of another library, on memory of CuPy's, that notes what its DLPack is asked for."""

    def __init__(self, array, current=cp.cuda.Stream.null):
        self.array, self.asked, self._current = array, [], current

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **words):
        self.asked.append(words)
        with self.array.device, self._current:  # its own library's current stream, behind whose work it hands out
            return self.array.__dlpack__(**words)


def handed_over(array, stream):
    """Return what another library makes of an array, for work on a stream of a number."""
    return cp.from_dlpack(load_backend("cupy").export(array, stream))


def two_streams():
    return cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)


# Order: out.


def test_the_consumers_stream_waits_for_cupys(gpu):
    producer, consumer = two_streams()
    array = slow_values(gpu, producer, 3)
    with producer:
        gpu.calls()
        taken = handed_over(array, consumer.ptr)
        said = gpu.calls()
    assert waited(said) == []
    assert any(one.startswith("cudaStreamWaitEvent") and one.endswith(f"{consumer.ptr:#x}") for one in said)
    with consumer:
        copied = taken.copy()
        assert copied.get().tolist() == [3] * N


def test_without_the_wait_the_values_are_wrong(gpu):
    """The negative control: -1 asks for no synchronisation."""
    producer, consumer = two_streams()
    array = zeros((N,))
    with gpu.held(producer):
        with producer:
            array.fill(3)
            taken = handed_over(array, -1)
        with consumer:
            assert taken.copy().get().tolist() == [0] * N


def test_on_cupys_own_stream_nothing_waits(gpu):
    stream, _ = two_streams()
    array = slow_values(gpu, stream, 3)
    with stream:
        gpu.calls()
        taken = handed_over(array, stream.ptr)
        assert not any("Wait" in one or "Synchronize" in one for one in gpu.calls())
        assert taken.copy().get().tolist() == [3] * N


@pytest.mark.parametrize("name", ["null", "ptds"])
def test_the_default_streams_wait_too(gpu, name):
    producer, _ = two_streams()
    consumer = getattr(cp.cuda.Stream, name)
    array = slow_values(gpu, producer, 3)
    with producer:
        taken = handed_over(array, 1 if name == "null" else 2)
    with consumer:
        copied = taken.copy()
        consumer.synchronize()
    assert gpu.see(copied).tolist() == [3] * N


# Order: in.


@pytest.mark.parametrize("given", ["none", "int", "stream", "protocol"])
def test_a_foreign_producer_is_asked_for_the_stream_that_will_work(gpu, given):
    producer, consumer = two_streams()

    class Protocol:
        def __cuda_stream__(self):
            return 0, consumer.ptr

    words = {"none": {}, "int": {"stream": consumer.ptr}, "stream": {"stream": consumer}, "protocol": {"stream": Protocol()}}[given]
    other = Other(slow_values(gpu, producer, 3), producer)
    with consumer if given == "none" else producer:
        made = to_cupy(other, **words)
    assert [asked["stream"] for asked in other.asked] == [consumer.ptr]
    assert made.data.ptr == other.array.data.ptr
    with consumer:
        assert made.copy().get().tolist() == [3] * N


@pytest.mark.parametrize("number", [1, 2, -1])
def test_numbers_with_a_meaning_reach_the_producer(gpu, number):
    other = Other(cp.zeros(3))
    to_cupy(other, stream=number)
    assert [asked["stream"] for asked in other.asked] == [number]


@pytest.mark.parametrize("stream", [0, -2, "one"])
def test_streams_that_are_none(gpu, stream):
    with pytest.raises(StreamError):
        to_cupy(Other(cp.zeros(3)), stream=stream)


def test_a_foreign_array_on_a_device_that_is_not_current(gpu):
    with cp.cuda.Device(1):
        own = cp.cuda.Stream(non_blocking=True)
        other = Other(cp.zeros(3))
        with own, cp.cuda.Device(0):
            made = to_cupy(other)
            assert cp.cuda.runtime.getDevice() == 0
            assert cp.cuda.get_current_stream(1).ptr == own.ptr
    assert made.device.id == 1
    assert [asked["stream"] for asked in other.asked] == [own.ptr]


def test_managed_memory_is_taken_as_it_is(gpu):
    with cp.cuda.using_allocator(cp.cuda.malloc_managed):
        array = cp.zeros(4)
    assert interop.describe(array).memory == "managed"
    assert to_cupy(array) is array
    made = to_cupy(Other(array))
    assert made.data.ptr == array.data.ptr
    assert handed_over(array, 1).data.ptr == array.data.ptr


# Lifetime.


@pytest.fixture(params=["compiled", "python"], autouse=True)
def implementation(request, monkeypatch):
    """Lend in both ways."""
    if request.param == "python":
        monkeypatch.setattr(_cupy_lent, "lend", None)
    else:
        assert _cupy_lent.lend is not None


def dropped_while_working(gpu, take=lambda array, consumer: handed_over(array, consumer.ptr), drop=list.clear):
    """Have the consumer work slowly on memory that everybody has dropped; returns what it read, after the owner's next array."""
    producer, consumer = two_streams()
    with producer:
        array = cp.full(N, 3, "float32")
        producer.synchronize()
        held = [take(array, consumer)]
        del array
        result = cp.empty(N, "float32")
        with gpu.held(consumer):
            with consumer:
                result[...] = held[0]
            drop(held)
            gc.collect()
            cp.full(N, 7, "float32")  # the memory, if nobody keeps it: at once, as this stream has nothing to do
            producer.synchronize()
        consumer.synchronize()
    return gpu.see(result)


def test_memory_is_not_handed_out_before_the_consumers_work_is_done(gpu):
    assert dropped_while_working(gpu).tolist() == [3] * N


def test_without_being_lent_it_is_handed_out(gpu, monkeypatch):
    monkeypatch.setattr("interop.backends.cupy.release.lent", lambda x, stream, asked: x.__dlpack__(stream=asked, max_version=(1, 0)))
    assert dropped_while_working(gpu).tolist() == [7] * N


def test_lent_memory_comes_back_when_the_work_is_done(gpu):
    _, consumer = two_streams()
    array = cp.full(N, 3, "float32")
    cp.cuda.runtime.deviceSynchronize()
    where = array.data.ptr
    taken = handed_over(array, consumer.ptr)
    with gpu.held(consumer):
        del array, taken
        assert cp.empty(N, "float32").data.ptr != where
    consumer.synchronize()
    _cupy_lent.settle()
    assert cp.empty(N, "float32").data.ptr == where


@pytest.mark.parametrize("who", ["owner", "consumer"])
def test_either_may_go_first(gpu, who):
    _, consumer = two_streams()
    array = cp.full(N, 3, "float32")
    taken = handed_over(array, consumer.ptr)
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


def test_many_threads_hand_over_and_drop(gpu):
    """Each with streams of its own, on memory of one pool: nobody reads what is another's."""
    wrong = []

    def work(value):
        producer, consumer = two_streams()
        for _ in range(30):
            with producer:
                taken = handed_over(cp.full(64, value, "int32"), consumer.ptr)
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


def test_what_was_lent_twice_is_free_when_both_are_done(gpu):
    first, second = two_streams()
    array = cp.full(N, 3, "float32")
    cp.cuda.runtime.deviceSynchronize()
    where = array.data.ptr
    one, other = handed_over(array, first.ptr), handed_over(array, second.ptr)
    with gpu.held(second):
        with gpu.held(first):
            del array, one, other
        first.synchronize()
        _cupy_lent.settle()
        assert cp.empty(N, "float32").data.ptr != where
    second.synchronize()
    _cupy_lent.settle()
    assert cp.empty(N, "float32").data.ptr == where


def test_what_is_done_already_is_not_kept(gpu):
    _, consumer = two_streams()
    array = cp.full(N, 3, "float32")
    cp.cuda.runtime.deviceSynchronize()
    where = array.data.ptr
    taken = handed_over(array, consumer.ptr)
    consumer.synchronize()
    del array, taken
    assert cp.empty(N, "float32").data.ptr == where


@pytest.mark.parametrize(("stream", "is_lent"), [(None, False), (-1, False), (1, True), (2, True)])
def test_memory_is_lent_to_every_stream_unless_nothing_was_asked_for(gpu, monkeypatch, stream, is_lent):
    """Also to the current one: the memory may have been allocated on another. ``-1`` asked for no order."""
    asked, original = [], _cupy_lent.lent
    monkeypatch.setattr("interop.backends.cupy.release.lent", lambda x, number, order: asked.append(number) or original(x, number, order))
    taken = handed_over(cp.zeros(3), stream)
    assert taken.get().tolist() == [0, 0, 0]
    assert asked == ([stream] if is_lent else [])


def test_an_alias_of_a_stream_is_the_same_object_each_time(gpu):
    """Memory of CuPy's stream-ordered allocator refers to it weakly."""
    from interop.backends.cupy.streams import native_stream

    stream = cp.cuda.Stream(non_blocking=True)
    assert native_stream(stream.ptr) is native_stream(stream.ptr)
    assert native_stream(1) is cp.cuda.Stream.null
    assert native_stream(2) is cp.cuda.Stream.ptds
    with cp.cuda.Device(1):
        assert native_stream(stream.ptr) is not native_stream(1)


# The short cut.


def short_cut(log):
    backend = load_backend("cupy")
    consumer = backend.as_consumer()

    def take(capsule, index):
        log.append(index)
        return consumer.from_capsule(capsule, index)

    return guarded(backend.export_to(consumer._replace(from_capsule=take))[cp.ndarray])


@pytest.mark.parametrize("on", ["default", "own"])
def test_on_one_stream_the_short_cut_shares_and_nothing_waits(gpu, on):
    stream = cp.cuda.Stream.null if on == "default" else cp.cuda.Stream(non_blocking=True)
    log = []
    attempt = short_cut(log)
    with stream:
        array = cp.full((4, 5), 3, "float32")
        gpu.calls()
        made = attempt(array.T)
        said = gpu.calls()
    assert not any("Wait" in one or "Synchronize" in one or "Malloc" in one or "Event" in one for one in said)
    assert (made.data.ptr, made.shape, made.strides) == (array.data.ptr, (5, 4), array.T.strides)
    assert log == [0]


def test_the_short_cut_keeps_memory_for_the_stream_too(gpu):
    """Allocated on one stream, handed over on another that is current for both, dropped while that works."""
    attempt = short_cut([])
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
def test_what_needs_a_look_goes_the_long_way(gpu, view):
    log = []
    assert short_cut(log)(view(cp.zeros((4, 8), "float32"))) is None
    assert log == []


@pytest.mark.parametrize("to", ["another", "default"])
def test_the_short_cut_waits_for_another_stream(gpu, to):
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


def test_the_short_cut_keeps_memory_for_another_stream(gpu):
    def take(array, consumer):
        cupy_there = load_backend("cupy").as_consumer()._replace(stream_pointer=lambda index: consumer.ptr)
        return guarded(load_backend("cupy").export_to(cupy_there)[cp.ndarray])(array)

    assert dropped_while_working(gpu, take).tolist() == [3] * N


def test_managed_memory_goes_the_long_way(gpu):
    with cp.cuda.using_allocator(cp.cuda.malloc_managed):
        managed = cp.zeros(4)
    assert short_cut([])(managed) is None


def test_another_device_goes_the_long_way(gpu):
    with cp.cuda.Device(1):
        array = cp.zeros(3)
    assert short_cut([])(array) is None


# Inside of a capture.


def test_a_handoff_inside_of_a_capture_leaves_it_whole(gpu):
    """On the stream that captures, and dropped inside: no event is asked, nothing is waited for."""
    stream = cp.cuda.Stream(non_blocking=True)
    array = cp.zeros(N)
    with stream:
        stream.begin_capture()
        taken = handed_over(array, stream.ptr)
        assert short_cut([])(array) is not None
        del taken
        gc.collect()
        _cupy_lent.settle()
        stream.end_capture()  # an error if the capture was broken


def test_what_waits_from_before_harms_no_capture(gpu):
    """A question to an event, from the thread that captures or from another, would end a capture in the global mode."""
    _, consumer = two_streams()
    capturing = cp.cuda.Stream(non_blocking=True)
    array = cp.full(N, 3, "float32")
    cp.cuda.runtime.deviceSynchronize()
    where = array.data.ptr
    with gpu.held(consumer):
        taken = handed_over(array, consumer.ptr)
        del array, taken
        assert len(_cupy_lent._waiting) == 1
        other = cp.zeros(N)
        with capturing:
            capturing.begin_capture()
            handed_over(other, capturing.ptr)
            thread = threading.Thread(target=_cupy_lent.settle)
            thread.start()
            thread.join()
            capturing.end_capture()  # an error if the capture was broken
        _cupy_lent.settle()
        assert len(_cupy_lent._waiting) == 1  # what came back inside is gone
    consumer.synchronize()
    _cupy_lent.settle()
    assert cp.empty(N, "float32").data.ptr == where


def test_memory_that_comes_back_while_another_stream_captures_is_kept(gpu):
    consumer, capturing = two_streams()
    array = cp.full(N, 3, "float32")
    cp.cuda.runtime.deviceSynchronize()
    where = array.data.ptr
    with gpu.held(consumer):
        taken = handed_over(array, consumer.ptr)
        with capturing:
            capturing.begin_capture()
            del array, taken
            capturing.end_capture()
        assert cp.empty(N, "float32").data.ptr != where
    consumer.synchronize()
    _cupy_lent.settle()
    assert cp.empty(N, "float32").data.ptr == where


def test_memory_of_the_legacy_stream_comes_back_after_a_capture_that_it_waits_for(gpu):
    """Nothing can be recorded on it while a blocking stream is captured."""
    blocking = cp.cuda.Stream()
    array = cp.full(N, 3, "float32")
    cp.cuda.runtime.deviceSynchronize()
    where = array.data.ptr
    taken = handed_over(array, 1)
    with blocking:
        blocking.begin_capture()
        del array, taken
        _cupy_lent.settle()
        assert len(_cupy_lent._waiting) == 1
        blocking.end_capture()
    _cupy_lent.settle()
    assert len(_cupy_lent._waiting) == 0
    assert cp.empty(N, "float32").data.ptr == where


def test_a_stream_that_is_named_in_a_capture_keeps_nothing_for_good(gpu):
    """An event that was recorded inside is never done, and what comes later would wait behind it."""
    capturing, named = two_streams()
    array = cp.full(N, 3, "float32")
    cp.cuda.runtime.deviceSynchronize()
    with capturing:
        capturing.begin_capture()
        made = to_cupy(array, copy=True, stream=named)
        to_cupy(array, copy=True, stream=named)  # looks after what the first has kept
        capturing.wait_event(named.record())
        assert len(_cupy_lent._waiting) == 2
        capturing.end_capture()  # an error if something was asked that must not be
    for _ in range(3):
        to_cupy(array, copy=True, stream=named)
    named.synchronize()
    _cupy_lent.settle()
    assert len(_cupy_lent._waiting) == 0
    assert made.shape == (N,)


@pytest.mark.parametrize("where", ["here", "another thread"])
def test_memory_of_the_per_thread_stream_is_kept_wherever_it_is_dropped(gpu, where):
    stream = cp.cuda.Stream.ptds
    held = [handed_over(cp.full(N, 3, "float32"), 2)]
    result = cp.empty(N, "float32")
    cp.cuda.runtime.deviceSynchronize()
    with gpu.held(stream):
        with stream:
            result[...] = held[0]
        if where == "here":
            held.clear()
        else:
            thread = threading.Thread(target=held.clear)
            thread.start()
            thread.join()
        assert len(_cupy_lent._waiting) == 1
    cp.cuda.runtime.deviceSynchronize()
    _cupy_lent.settle()
    assert len(_cupy_lent._waiting) == 0
    assert gpu.see(result).tolist() == [3] * N


def test_a_slow_stream_keeps_no_memory_of_another(gpu):
    slow, quick = two_streams()
    first, second = cp.full(N, 3, "float32"), cp.full(2 * N, 4, "float32")
    cp.cuda.runtime.deviceSynchronize()
    where = second.data.ptr
    one, other = handed_over(first, slow.ptr), handed_over(second, quick.ptr)
    with gpu.held(slow):
        with gpu.held(quick):
            del first, one
            del second, other
        quick.synchronize()
        _cupy_lent.settle()
        assert len(_cupy_lent._waiting) == 1
        assert cp.empty(2 * N, "float32").data.ptr == where


def test_no_torch_for_the_device_is_said_and_nothing_else(gpu):
    """A build of torch for the CPU beside CuPy with a device: also the second time, when the short cuts are known."""
    import torch

    if torch.backends.cuda.is_built():
        pytest.skip("this torch has CUDA")
    array = cp.zeros(3)
    for _ in range(2):
        with pytest.raises(interop.DeviceUnavailableError, match="this torch is a build for the CPU only"):
            interop.to_torch(array)
        assert interop.to_torch(array, device="cpu").tolist() == [0, 0, 0]


def test_a_capsule_that_is_never_taken_gives_its_memory_back(gpu):
    array = cp.full(N, 3, "float32")
    cp.cuda.runtime.deviceSynchronize()
    where = array.data.ptr
    producer = load_backend("cupy").export(array, 1)
    del array
    gc.collect()
    assert cp.empty(N, "float32").data.ptr != where
    del producer
    gc.collect()
    cp.cuda.runtime.deviceSynchronize()
    _cupy_lent.settle()
    assert cp.empty(N, "float32").data.ptr == where


def test_the_plain_protocol_gives_the_same(gpu):
    array = to_cupy(np.arange(6.0).reshape(2, 3), device="cuda")
    made = cp.from_dlpack(Handover(array.__dlpack__(max_version=(1, 0)), (CUDA, 0)))
    assert made.data.ptr == handed_over(array, 1).data.ptr


# A stream that its owner drops.


def dropped_stream(gpu, hand_over):
    """Hand memory over to work on a stream of which nobody but its object knows, drop that, and then the memory."""
    array = cp.full(N, 3, "float32")
    cp.cuda.runtime.deviceSynchronize()
    result = cp.empty(N, "float32")
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        taken = hand_over(array, stream)
        gpu.sleep(stream)
        result[...] = taken
    del stream
    gc.collect()
    del array, taken
    gc.collect()
    cp.full(N, 7, "float32")
    for n in range(2):
        with cp.cuda.Device(n):
            cp.cuda.runtime.deviceSynchronize()
    return gpu.see(result)


HANDOVERS = {
    "its number": lambda array, stream: handed_over(array, stream.ptr),
    "current": lambda array, stream: handed_over(array, load_backend("cupy").stream_pointer(None, interop.Device("cuda", 0))),
    "named": lambda array, stream: handed_over(array, load_backend("cupy").stream_pointer(stream, interop.Device("cuda", 0))),
    "short cut": lambda array, stream: short_cut([])(array),
}


@pytest.mark.parametrize("how", HANDOVERS)
def test_a_stream_that_is_dropped_early_costs_nobody_their_data(gpu, how):
    assert dropped_stream(gpu, HANDOVERS[how]).tolist() == [3] * N
    said = [one for one in gpu.calls() if one.startswith("cudaDeviceSynchronize")]
    # Three are the test's. Of a number nobody knows whose it is: with the stream gone, only the device can be waited for.
    assert len(said) == (4 if how == "its number" else 3)


def test_the_object_of_a_stream_lives_as_long_as_memory_that_was_lent_to_it(gpu):
    import weakref

    from interop.backends.cuda.streams import holders_of

    stream = cp.cuda.Stream(non_blocking=True)
    number, gone = stream.ptr, weakref.ref(stream)
    with stream:
        taken = short_cut([])(cp.zeros(3))
    del stream
    gc.collect()
    assert holders_of(number) == (gone(),)
    del taken
    gc.collect()
    assert gone() is None
    assert holders_of(number) == ()


def test_an_alias_is_not_taken_for_the_owner(gpu):
    from interop.backends.cuda.streams import holders_of

    stream = cp.cuda.Stream(non_blocking=True)
    backend = load_backend("cupy")
    with backend.on_stream(stream.ptr, interop.Device("cuda", 0)):
        assert backend.stream_pointer(None, interop.Device("cuda", 0)) == stream.ptr
        assert holders_of(stream.ptr) == ()
    with interop.cuda.stream(stream):
        assert stream in holders_of(stream.ptr)
