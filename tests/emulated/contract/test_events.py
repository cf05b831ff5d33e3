"""Events: what they stand for, and what waits for them."""

import ctypes
from ctypes import byref, c_float, c_size_t, c_void_p

from tests.emulated.contract.cuda import INVALID_HANDLE, NOT_READY, SIZE, WITHOUT_TIME, of, on_a_device

pytestmark = on_a_device

RECORD = ("cudaEventRecord", "cudaEventRecordWithFlags", "cuEventRecord")


def recorded(cuda, function, event, stream):
    cuda(function, event, stream, *([0] if function.endswith("Flags") else []))


def has_time(cuda, event, stream):
    cuda("cudaEventRecord", event, stream)
    cuda("cudaStreamSynchronize", stream)
    return cuda.status("cudaEventElapsedTime", byref(c_float()), event, event) == 0


@of("cudaEventCreate", "cudaEventCreateWithFlags", "cuEventCreate")
def test_an_event_has_a_time_unless_it_was_created_without(cuda, function, stream):
    event = cuda.get(c_void_p, function, *([] if function == "cudaEventCreate" else [0]))
    assert cuda.status("cudaEventQuery", event) == 0  # it stands for nothing yet
    assert has_time(cuda, event, stream)
    cuda("cudaEventDestroy", event)
    if function != "cudaEventCreate":
        event = cuda.get(c_void_p, function, WITHOUT_TIME)
        assert not has_time(cuda, event, stream)
        cuda("cudaEventDestroy", event)


@of("cudaEventDestroy", "cuEventDestroy_v2")
def test_what_waits_for_a_destroyed_event_waits_on(cuda, function, stream, other, memory, target):
    event = cuda.get(c_void_p, "cudaEventCreateWithFlags", WITHOUT_TIME)
    with cuda.held(stream):
        cuda("cudaMemsetAsync", memory, 3, c_size_t(SIZE), stream)
        cuda("cudaEventRecord", event, stream)
        cuda("cudaStreamWaitEvent", other, event, 0)
        cuda(function, event)
        cuda("cudaMemcpyAsync", target, memory, c_size_t(SIZE), 3, other)
        assert cuda.status("cudaStreamQuery", other) == NOT_READY
    assert cuda.read(target, other) == b"\3" * SIZE


@of(*RECORD)
def test_an_event_stands_for_what_came_before_it(cuda, function, stream, event):
    with cuda.held(stream):
        recorded(cuda, function, event, stream)
        assert cuda.status("cudaEventQuery", event) == NOT_READY
    assert cuda.status("cudaEventQuery", event) == 0
    with cuda.held(stream):  # what comes later is none of it
        assert cuda.status("cudaEventQuery", event) == 0


@of(*RECORD)
def test_it_stands_for_what_it_was_recorded_for_last(cuda, function, stream, other, event):
    with cuda.held(stream):
        recorded(cuda, function, event, stream)
        recorded(cuda, function, event, other)
        cuda("cudaEventSynchronize", event)
        assert cuda.status("cudaStreamQuery", stream) == NOT_READY


@of("cudaEventQuery", "cuEventQuery")
def test_a_query_waits_for_nothing(cuda, function, stream, event):
    assert cuda.status(function, event) == 0  # it was not recorded
    with cuda.held(stream):
        cuda("cudaEventRecord", event, stream)
        assert cuda.status(function, event) == NOT_READY
    assert cuda.status(function, event) == 0


@of("cudaEventSynchronize", "cuEventSynchronize")
def test_the_host_waits_for_an_event(cuda, function, stream, event, memory, page_locked):
    ctypes.memset(page_locked, 0, SIZE)
    cuda("cudaMemsetAsync", memory, 3, c_size_t(SIZE), stream)
    cuda("cudaMemcpyAsync", page_locked, memory, c_size_t(SIZE), 2, stream)
    cuda("cudaEventRecord", event, stream)
    with cuda.held(stream):  # what comes behind the event is not waited for
        cuda(function, event)
        assert ctypes.string_at(page_locked, SIZE) == b"\3" * SIZE
        assert cuda.status("cudaStreamQuery", stream) == NOT_READY


@of("cudaStreamWaitEvent", "cuStreamWaitEvent")
def test_a_stream_waits_and_the_host_does_not(cuda, function, stream, other, event, memory, target):
    with cuda.held(stream):
        cuda("cudaMemsetAsync", memory, 3, c_size_t(SIZE), stream)
        cuda("cudaEventRecord", event, stream)
        cuda(function, other, event, 0)
        cuda("cudaMemcpyAsync", target, memory, c_size_t(SIZE), 3, other)
        assert cuda.status("cudaStreamQuery", other) == NOT_READY
    assert cuda.read(target, other) == b"\3" * SIZE


@of("cudaStreamWaitEvent", "cuStreamWaitEvent")
def test_it_waits_for_what_the_event_stood_for_at_the_call(cuda, function, stream, other, event):
    cuda("cudaEventRecord", event, stream)
    cuda(function, other, event, 0)
    with cuda.held(stream):
        cuda("cudaEventRecord", event, stream)
        cuda("cudaStreamSynchronize", other)  # would wait for ever if it waited for the later record
        assert cuda.status("cudaEventQuery", event) == NOT_READY


@of("cudaEventElapsedTime", "cudaEventElapsedTime_v2")
def test_the_time_between_two_events(cuda, function, stream, event):
    begin, end = (cuda.get(c_void_p, "cudaEventCreate") for _ in range(2))
    passed = c_float(-1)
    assert cuda.status(function, byref(passed), begin, end) == INVALID_HANDLE  # they were not recorded
    cuda("cudaEventRecord", begin, stream)
    with cuda.held(stream):
        cuda("cudaEventRecord", end, stream)
        assert cuda.status(function, byref(passed), begin, end) == NOT_READY
    cuda(function, byref(passed), begin, end)
    assert 0 <= passed.value < 60_000
    cuda("cudaEventRecord", event, stream)
    assert cuda.status(function, byref(passed), begin, event) == INVALID_HANDLE  # it has no time
    for one in (begin, end):
        cuda("cudaEventDestroy", one)
