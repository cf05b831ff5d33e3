"""Order between streams when CuPy's arrays are exported on the device, and those of another library imported.

The other library is made of CuPy's own memory here, as torch cannot use the emulated device.
"""

import cupy as cp
import pytest

import interop
from interop import StreamError, to_cupy
from tests.emulated.with_cupy.work import N, Other, exported, slow_values, two_streams, waited, zeros

pytestmark = pytest.mark.usefixtures("implementation")


def test_the_consumers_stream_waits_for_cupys(gpu):
    producer, consumer = two_streams()
    array = slow_values(gpu, producer, 3)
    with producer:
        gpu.calls()
        taken = exported(array, consumer.ptr)
        calls = gpu.calls()
    assert waited(calls) == []
    assert any(one.startswith("cudaStreamWaitEvent") and one.endswith(f"{consumer.ptr:#x}") for one in calls)
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
            taken = exported(array, -1)
        with consumer:
            assert taken.copy().get().tolist() == [0] * N


def test_on_cupys_own_stream_nothing_waits(gpu):
    stream, _ = two_streams()
    array = slow_values(gpu, stream, 3)
    with stream:
        gpu.calls()
        taken = exported(array, stream.ptr)
        assert not any("Wait" in one or "Synchronize" in one for one in gpu.calls())
        assert taken.copy().get().tolist() == [3] * N


@pytest.mark.parametrize("name", ["null", "ptds"])
def test_the_default_streams_wait_too(gpu, name):
    producer, _ = two_streams()
    consumer = getattr(cp.cuda.Stream, name)
    array = slow_values(gpu, producer, 3)
    with producer:
        taken = exported(array, 1 if name == "null" else 2)
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
    assert exported(array, 1).data.ptr == array.data.ptr
