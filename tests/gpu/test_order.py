"""Order between streams on CUDA for real: the consumer's stream comes behind the producer's, and the host waits for neither. Run by ``make gpu``."""

import pytest
import torch

import interop
from interop import StreamError, to_cupy, to_numpy, to_torch
from interop._engine.fastpath import table
from tests.gpu.work import COUNT, as_torchs, busy, late, late_array, rehearsed, shows

pytestmark = pytest.mark.gpu


@pytest.fixture(name="cp")
def cupy_module():
    return pytest.importorskip("cupy", reason="CuPy is not installed")


class OfCudaCore:
    """A stream in the words of cuda.core's protocol, and no others."""

    def __init__(self, pointer):
        self.pointer = pointer

    def __cuda_stream__(self):
        return 0, self.pointer


def read_by_cupy(producer, consumer, hand_over, milliseconds):
    """Return the first elements of what CuPy reads on its stream, of a tensor that is filled late on another."""
    with torch.cuda.stream(producer):
        tensor, delay = late(milliseconds)
        with consumer:
            array = hand_over(tensor)
            copied = array.copy()
            delay.must_run()
            consumer.synchronize()
            read = copied[:3].get().tolist()
    torch.cuda.synchronize()
    return read


def read_by_torch(producer, consumer, hand_over, milliseconds):
    """The same the other way."""
    with producer:
        array, delay = late_array(producer, milliseconds)
        with torch.cuda.stream(consumer):
            copied = hand_over(array).clone()
            delay.must_run()
            consumer.synchronize()
            read = copied[:3].tolist()
    torch.cuda.synchronize()
    return read


def streams(cp):
    return torch.cuda.Stream(), cp.cuda.Stream(non_blocking=True)


@pytest.mark.parametrize("given", ["nothing", "None", "int", "torch", "cupy", "cuda.core"])
def test_cupys_stream_waits_for_torchs(cp, given):
    producer, consumer = streams(cp)
    number = consumer.ptr
    stream = {"None": None, "int": number, "torch": as_torchs(consumer), "cupy": consumer, "cuda.core": OfCudaCore(number)}
    words = {} if given == "nothing" else {"stream": stream[given]}
    assert rehearsed(lambda delay: read_by_cupy(producer, consumer, lambda x: to_cupy(x, **words), delay)) == [3, 3, 3]


@pytest.mark.parametrize("given", ["nothing", "None", "int", "torch", "cuda.core"])
def test_torchs_stream_waits_for_cupys(cp, given):
    consumer, producer = streams(cp)
    number = consumer.cuda_stream
    stream = {"None": None, "int": number, "torch": consumer, "cuda.core": OfCudaCore(number)}
    words = {} if given == "nothing" else {"stream": stream[given]}
    assert rehearsed(lambda delay: read_by_torch(producer, consumer, lambda x: to_torch(x, **words), delay)) == [3, 3, 3]


def test_without_the_wait_cupy_reads_too_early(cp):
    """The negative control: the same with ``stream=-1``, which asks for no synchronisation."""
    kept = []

    def attempt():
        kept.append(streams(cp))  # or the next ones would be the same
        return rehearsed(lambda delay: read_by_cupy(*kept[-1], lambda x: to_cupy(x, stream=-1), delay)) == [0, 0, 0]

    assert shows(attempt)


def test_without_the_wait_torch_reads_too_early(cp):
    kept = []

    def attempt():
        kept.append(streams(cp)[::-1])
        return rehearsed(lambda delay: read_by_torch(*kept[-1], lambda x: to_torch(x, stream=-1), delay)) == [0, 0, 0]

    assert shows(attempt)


@pytest.mark.parametrize("number", [1, 2], ids=["legacy", "per thread"])
def test_the_default_streams_wait_too(cp, number):
    """torch's streams do not block the legacy one, which therefore waits for nobody by itself."""
    producer, consumer = torch.cuda.Stream(), {1: cp.cuda.Stream.null, 2: cp.cuda.Stream.ptds}[number]
    assert rehearsed(lambda delay: read_by_cupy(producer, consumer, lambda x: to_cupy(x, stream=number), delay)) == [3, 3, 3]


def test_the_fast_path_waits_where_streams_differ(cp):
    tensor, array = torch.ones(6, device="cuda"), cp.ones(6, "float32")
    to_cupy(tensor), to_torch(array)
    of_torch, of_cupy = table("cupy")[torch.Tensor], table("torch")[cp.ndarray]
    assert of_torch(tensor).data.ptr == tensor.data_ptr()
    assert of_cupy(array).data_ptr() == array.data.ptr
    torchs, cupys = streams(cp)
    assert rehearsed(lambda delay: read_by_cupy(torchs, cupys, of_torch, delay)) == [3, 3, 3]
    assert rehearsed(lambda delay: read_by_torch(cupys, torchs, of_cupy, delay)) == [3, 3, 3]


def test_what_is_done_for_the_result_comes_behind_too(cp):
    """A copy, a cast, and strides that torch lacks: done on the consumer's stream."""
    torchs, cupys = streams(cp)
    for words in ({"copy": True}, {"dtype": "float64"}):
        assert rehearsed(lambda delay, words=words: read_by_cupy(torchs, cupys, lambda x: to_cupy(x, **words), delay)) == [3, 3, 3]
        assert rehearsed(lambda delay, words=words: read_by_torch(cupys, torchs, lambda x: to_torch(x, **words), delay)) == [3, 3, 3]
    assert rehearsed(lambda delay: read_by_torch(cupys, torchs, lambda x: to_torch(x[::-1]), delay)) == [3, 3, 3]


# One stream for both.


@pytest.mark.parametrize("given", ["none", "int", "torch", "cupy"])
def test_both_libraries_work_on_one_stream(cp, given):
    own, other = streams(cp)
    before = torch.cuda.current_stream().cuda_stream, cp.cuda.get_current_stream().ptr

    def read(milliseconds):
        with torch.cuda.stream(own):
            with interop.cuda.stream({"none": None, "int": own.cuda_stream, "torch": own, "cupy": other}[given]) as found:
                assert torch.cuda.current_stream().cuda_stream == cp.cuda.get_current_stream().ptr == found.pointer
                assert found.pointer == (other.ptr if given == "cupy" else own.cuda_stream)
                assert found.libraries == ("torch", "cupy")
                tensor, delay = late(milliseconds)
                copied = to_cupy(tensor).copy()  # behind the fill, as it is the same stream
                delay.must_run()
            assert torch.cuda.current_stream().cuda_stream == own.cuda_stream
        assert (torch.cuda.current_stream().cuda_stream, cp.cuda.get_current_stream().ptr) == before
        torch.cuda.synchronize()
        return copied[:3].get().tolist()

    assert rehearsed(read) == [3, 3, 3]


def test_the_streams_are_restored_after_an_error(cp):
    before = torch.cuda.current_stream().cuda_stream, cp.cuda.get_current_stream().ptr
    with pytest.raises(ZeroDivisionError), interop.cuda.stream(torch.cuda.Stream()):
        raise ZeroDivisionError
    assert (torch.cuda.current_stream().cuda_stream, cp.cuda.get_current_stream().ptr) == before


def test_the_current_device_and_stream_are_restored(cp):
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        to_cupy(torch.ones(6, device="cuda"))
        to_torch(cp.ones(6))
        to_numpy(torch.ones(6, device="cuda"), transfer="allow")
        assert torch.cuda.current_stream() == stream
    before = cp.cuda.get_current_stream().ptr
    to_cupy(torch.ones(6).numpy(), device="cuda:0", stream=torch.cuda.Stream())
    assert cp.cuda.get_current_stream().ptr == before
    assert torch.cuda.current_device() == cp.cuda.runtime.getDevice() == 0


def test_a_stream_of_cupys_that_is_used_and_not_entered_stays_current(cp):
    """CuPy's own `with stream:` forgets it (cupy#8377)."""
    used, other = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)
    used.use()
    try:
        to_cupy(torch.ones(6, device="cuda"), stream=other)
        to_numpy(cp.ones(6), transfer="allow", stream=other)
        with interop.cuda.stream(other):
            pass
        assert cp.cuda.get_current_stream().ptr == used.ptr
    finally:
        cp.cuda.Stream.null.use()


@pytest.mark.parametrize("stream", [0, -2, "one"])
def test_streams_that_are_none(cp, stream):
    with pytest.raises(StreamError):
        to_cupy(torch.ones(6, device="cuda"), stream=stream)


# Two devices.


def test_a_copy_to_another_device_comes_behind_the_work_there(cp):
    if torch.cuda.device_count() < 2:
        pytest.skip("it takes two CUDA devices")
    producer = cp.cuda.Stream(non_blocking=True)

    def read(milliseconds):
        with producer:
            array, delay = late_array(producer, milliseconds)
            delay.must_run()
            moved = to_cupy(array, device="cuda:1")
        with cp.cuda.Device(1):
            return moved.get()[:3].tolist()

    assert rehearsed(read) == [3, 3, 3]


# The helper itself: a test that leans on it is worth as much.


def test_a_delay_runs_for_its_time_and_not_longer():
    import time

    busy(1)  # measured
    torch.cuda.synchronize()
    for milliseconds in (50, 200):
        begin, delay = time.perf_counter(), busy(milliseconds)
        assert delay.running()
        delay.must_run()
        torch.cuda.synchronize()
        assert 0.9 * milliseconds < (time.perf_counter() - begin) * 1000 < 8 * milliseconds
        assert not delay.running()
        with pytest.raises(AssertionError, match="this shows nothing"):
            delay.must_run()


def test_a_delay_is_one_of_its_stream_alone(cp):
    kept = []

    def attempt():
        kept.append(streams(cp))
        torchs, cupys = kept[-1]
        with torch.cuda.stream(torchs):
            torch.zeros(COUNT, device="cuda").fill_(1)
        torch.cuda.synchronize()
        delay = busy(stream=cupys)
        with torch.cuda.stream(torchs):
            torch.zeros(COUNT, device="cuda").fill_(1)
            torchs.synchronize()
        shown = delay.running()  # the other stream is done, and waited for nothing
        torch.cuda.synchronize()
        return shown

    assert shows(attempt)


def test_a_rehearsal_has_no_delay_and_demands_none():
    given = []

    def work(milliseconds):
        delay = busy(milliseconds)
        torch.cuda.synchronize()
        given.append(milliseconds)
        if not milliseconds:
            delay.must_run()
        return milliseconds

    assert rehearsed(work, 20) == 20
    assert given == [0, 20]
