"""Captures: what is noted, what joins, and what invalidates them."""

from ctypes import byref, c_int, c_size_t, c_ulonglong, c_void_p

import pytest

from tests.emulated.contract.cuda import (
    CAPTURE_IMPLICIT,
    CAPTURE_INVALIDATED,
    CAPTURE_UNJOINED,
    CAPTURE_UNMATCHED,
    CAPTURE_UNSUPPORTED,
    GLOBAL,
    ILLEGAL_STATE,
    LEGACY,
    RELAXED,
    SIZE,
    THREAD_LOCAL,
    of,
    on_a_device,
)

pytestmark = on_a_device

NONE, ACTIVE, INVALIDATED = 0, 1, 2  # cudaStreamCaptureStatus


def state(cuda, stream, function="cudaStreamIsCapturing"):
    found = c_int(-1)
    cuda(function, stream, byref(found))
    return found.value


@of("cudaStreamBeginCapture")
def test_what_a_capture_is_given_is_not_executed(cuda, function, stream, memory):
    cuda(function, stream, THREAD_LOCAL)
    cuda("cudaMemsetAsync", memory, 3, c_size_t(SIZE), stream)
    assert cuda.status(function, stream, THREAD_LOCAL) != 0  # it captures already
    graph = c_void_p()
    cuda("cudaStreamEndCapture", stream, byref(graph))
    cuda("cudaGraphDestroy", graph)
    assert cuda.read(memory, stream) == bytes(SIZE)


@of("cudaStreamBeginCapture")
def test_the_legacy_stream_cannot_be_captured(cuda, function):
    assert cuda.status(function, LEGACY, THREAD_LOCAL) != 0


@of("cudaStreamEndCapture")
def test_a_stream_that_does_not_capture_has_nothing_to_end(cuda, function, stream):
    assert cuda.status(function, stream, byref(c_void_p())) == ILLEGAL_STATE


@of("cudaStreamEndCapture")
def test_a_stream_that_joined_has_to_be_waited_for(cuda, function, stream, other, event):
    graph = c_void_p()
    cuda("cudaStreamBeginCapture", stream, THREAD_LOCAL)
    cuda("cudaEventRecord", event, stream)
    cuda("cudaStreamWaitEvent", other, event, 0)
    assert (state(cuda, stream), state(cuda, other)) == (ACTIVE, ACTIVE)
    cuda("cudaEventRecord", event, other)
    assert cuda.status(function, stream, byref(graph)) == CAPTURE_UNJOINED
    assert graph.value is None
    assert (state(cuda, stream), state(cuda, other)) == (NONE, NONE)


@of("cudaStreamEndCapture")
def test_a_capture_is_ended_where_it_began(cuda, function, stream, other, event):
    graph = c_void_p()
    cuda("cudaStreamBeginCapture", stream, THREAD_LOCAL)
    cuda("cudaEventRecord", event, stream)
    cuda("cudaStreamWaitEvent", other, event, 0)
    assert cuda.status(function, other, byref(graph)) == CAPTURE_UNMATCHED
    assert cuda.status(function, stream, byref(graph)) == CAPTURE_INVALIDATED
    assert (state(cuda, stream), state(cuda, other)) == (NONE, NONE)


@of("cudaStreamEndCapture")
def test_waiting_invalidates_a_capture(cuda, function, stream):
    graph = c_void_p()
    cuda("cudaStreamBeginCapture", stream, THREAD_LOCAL)
    assert cuda.status("cudaStreamSynchronize", stream) == CAPTURE_UNSUPPORTED
    assert state(cuda, stream) == INVALIDATED
    assert cuda.status(function, stream, byref(graph)) == CAPTURE_INVALIDATED
    assert graph.value is None
    cuda("cudaStreamSynchronize", stream)


@of("cudaStreamIsCapturing", "cuStreamIsCapturing")
def test_whether_a_stream_captures(cuda, function, stream, other):
    assert state(cuda, stream, function) == NONE
    with cuda.capturing(stream):
        assert state(cuda, stream, function) == ACTIVE
        assert state(cuda, other, function) == NONE
        assert state(cuda, LEGACY, function) == NONE
    assert state(cuda, stream, function) == NONE


@of("cudaStreamIsCapturing", "cuStreamIsCapturing")
def test_the_legacy_stream_may_not_be_asked_while_a_blocking_one_captures(cuda, function):
    blocking = cuda.get(c_void_p, "cudaStreamCreate")
    with cuda.capturing(blocking):
        assert cuda.status(function, LEGACY, byref(c_int())) == CAPTURE_IMPLICIT
        assert state(cuda, blocking) == ACTIVE  # the question invalidates nothing
    cuda("cudaStreamDestroy", blocking)


@of("cudaStreamGetCaptureInfo")
def test_each_capture_has_a_number_of_its_own(cuda, function, stream):
    numbers = []
    for _ in range(2):
        with cuda.capturing(stream):
            status, number = c_int(-1), c_ulonglong(0)
            cuda(function, stream, byref(status), byref(number), None, None, None, None)
            assert status.value == ACTIVE
            numbers.append(number.value)
    assert len(set(numbers)) == 2
    status = c_int(-1)
    cuda(function, stream, byref(status), None, None, None, None, None)
    assert status.value == NONE


@pytest.mark.parametrize("mode", [GLOBAL, THREAD_LOCAL, RELAXED])
@of("cudaThreadExchangeStreamCaptureMode", "cuThreadExchangeStreamCaptureMode")
def test_the_threads_mode_is_swapped(cuda, function, mode):
    given = c_int(mode)
    cuda(function, byref(given))
    assert given.value == GLOBAL  # what a thread has from the start
    cuda(function, byref(given))
    assert given.value == mode


@of("cudaThreadExchangeStreamCaptureMode", "cuThreadExchangeStreamCaptureMode")
def test_a_relaxed_thread_may_allocate_and_ask_inside_of_a_capture(cuda, function, stream, event):
    with cuda.capturing(stream, GLOBAL):
        mode = c_int(RELAXED)
        cuda(function, byref(mode))
        made = cuda.get(c_void_p, "cudaMalloc", c_size_t(SIZE))
        assert cuda.status("cudaEventQuery", event) == 0
        cuda(function, byref(mode))
        assert state(cuda, stream) == ACTIVE
    cuda("cudaFree", made)


@of("cudaEventQuery", "cuEventQuery")
def test_a_question_invalidates_a_capture_in_the_global_mode(cuda, function, stream, other, event):
    """From any thread (pytorch#104555)."""
    cuda("cudaEventRecord", event, other)
    cuda("cudaStreamSynchronize", other)
    with cuda.capturing(stream, GLOBAL):
        assert cuda.status(function, event) == CAPTURE_UNSUPPORTED
        assert state(cuda, stream) == INVALIDATED
