"""Streams: their order, and what waits for them."""

import ctypes
import time
from ctypes import byref, c_int, c_size_t, c_uint, c_void_p

from tests.emulated.contract.cuda import LEGACY, NON_BLOCKING, NOT_READY, SIZE, of, on_a_device

pytestmark = on_a_device


def created(cuda, function, flags):
    more = {"cudaStreamCreate": (), "cudaStreamCreateWithPriority": (flags, 0)}.get(function, (flags,))
    return cuda.get(c_void_p, function, *more)


@of("cudaStreamCreate", "cudaStreamCreateWithFlags", "cudaStreamCreateWithPriority", "cuStreamCreate")
def test_a_blocking_stream_synchronizes_with_the_legacy_one(cuda, function, memory):
    stream = created(cuda, function, 0)
    with cuda.held(stream):
        cuda("cudaMemsetAsync", memory, 3, c_size_t(SIZE), stream)
        cuda("cudaMemsetAsync", memory, 7, c_size_t(SIZE), LEGACY)
        assert cuda.status("cudaStreamQuery", LEGACY) == NOT_READY
    assert cuda.read(memory, LEGACY) == b"\7" * SIZE
    cuda("cudaStreamDestroy", stream)


@of("cudaStreamCreateWithFlags", "cudaStreamCreateWithPriority", "cuStreamCreate")
def test_a_stream_that_does_not_block_is_in_no_order_with_the_legacy_one(cuda, function, memory):
    stream = created(cuda, function, NON_BLOCKING)
    with cuda.held(stream):
        cuda("cudaMemsetAsync", memory, 7, c_size_t(SIZE), LEGACY)
        cuda("cudaStreamSynchronize", LEGACY)  # would wait for ever if it waited for the stream
        assert cuda.status("cudaStreamQuery", stream) == NOT_READY
    cuda("cudaStreamDestroy", stream)


@of("cudaStreamDestroy", "cuStreamDestroy_v2")
def test_a_destroyed_stream_does_what_it_was_given(cuda, function, stream, memory, event):
    doomed = created(cuda, "cudaStreamCreateWithFlags", NON_BLOCKING)
    seen = []
    held = cuda.call_in(doomed, lambda: (time.sleep(0.01), seen.append(1)))
    cuda("cudaMemsetAsync", memory, 3, c_size_t(SIZE), doomed)
    cuda("cudaEventRecord", event, doomed)
    cuda(function, doomed)
    cuda("cudaEventSynchronize", event)
    assert (seen, cuda.read(memory, stream)) == ([1], b"\3" * SIZE)
    del held


@of("cudaStreamGetFlags")
def test_flags_are_those_of_its_creation(cuda, function, stream):
    blocking, flags = cuda.get(c_void_p, "cudaStreamCreate"), c_uint(99)
    cuda(function, blocking, byref(flags))
    assert flags.value == 0
    cuda(function, stream, byref(flags))
    assert flags.value == NON_BLOCKING
    cuda("cudaStreamDestroy", blocking)


@of("cudaStreamGetPriority")
def test_the_priority_is_0_where_none_was_asked_for(cuda, function, stream):
    priority = c_int(99)
    cuda(function, stream, byref(priority))
    assert priority.value == 0


@of("cudaStreamSynchronize", "cuStreamSynchronize")
def test_the_host_waits_for_one_stream(cuda, function, stream, other, memory):
    with cuda.held(other):
        cuda("cudaMemsetAsync", memory, 3, c_size_t(SIZE), stream)
        cuda(function, stream)
        assert cuda.status("cudaStreamQuery", stream) == 0
        assert cuda.status("cudaStreamQuery", other) == NOT_READY
    seen = []
    held = cuda.call_in(stream, lambda: (time.sleep(0.01), seen.append(1)))
    cuda(function, stream)
    assert seen == [1]
    del held


@of("cudaStreamQuery", "cuStreamQuery")
def test_a_query_waits_for_nothing(cuda, function, stream):
    assert cuda.status(function, stream) == 0
    with cuda.held(stream):
        assert cuda.status(function, stream) == NOT_READY
    assert cuda.status(function, stream) == 0


@of("cudaLaunchHostFunc")
def test_a_host_function_is_called_in_its_turn(cuda, function, stream, memory, page_locked):
    ctypes.memset(page_locked, 0, SIZE)
    seen = []
    cuda("cudaMemsetAsync", memory, 3, c_size_t(SIZE), stream)
    cuda("cudaMemcpyAsync", page_locked, memory, c_size_t(SIZE), 2, stream)
    held = cuda.call_in(stream, lambda: seen.append(ctypes.string_at(page_locked, SIZE)))
    cuda("cudaMemsetAsync", memory, 7, c_size_t(SIZE), stream)
    cuda("cudaMemcpyAsync", page_locked, memory, c_size_t(SIZE), 2, stream)
    cuda("cudaStreamSynchronize", stream)
    assert seen == [b"\3" * SIZE]
    assert ctypes.string_at(page_locked, SIZE) == b"\7" * SIZE
    del held
