"""Copies and fills: their order, and when the host goes on."""

import ctypes
from ctypes import c_size_t, c_ubyte, c_void_p

from tests.emulated.contract.cuda import ANY, DEVICE_TO_DEVICE, DEVICE_TO_HOST, HOST_TO_DEVICE, LEGACY, NOT_READY, SIZE, of, on_a_device

pytestmark = on_a_device

COUNT = c_size_t(SIZE)


def copy(cuda, function, to, source, kind, stream=None):
    """Copy `SIZE` bytes by a function of the runtime or the driver."""
    peers = "Peer" in function
    arguments = [to, 0, source, 0, COUNT] if peers else [to, source, COUNT]
    arguments += [kind] if function in {"cudaMemcpy", "cudaMemcpyAsync"} else []
    cuda(function, *arguments, *([stream] if stream is not None else []))


def fill(cuda, function, to, value, stream=None):
    cuda(function, to, c_ubyte(value) if function.startswith("cuMem") else value, COUNT, *([stream] if stream is not None else []))


@of("cudaMemcpy", "cuMemcpyHtoD_v2")
def test_the_source_may_be_changed_when_the_copy_returns(cuda, function, memory):
    source = (c_ubyte * SIZE)(*[3] * SIZE)
    copy(cuda, function, memory, source, HOST_TO_DEVICE)
    ctypes.memset(source, 7, SIZE)
    assert cuda.read(memory) == b"\3" * SIZE


@of("cudaMemcpy", "cuMemcpyDtoH_v2")
def test_the_bytes_are_there_when_the_copy_returns(cuda, function, memory):
    blocking = cuda.get(c_void_p, "cudaStreamCreate")  # the legacy stream, on which the copy is, comes behind it
    cuda("cudaMemsetAsync", memory, 3, COUNT, blocking)
    target = (c_ubyte * SIZE)()
    copy(cuda, function, target, memory, DEVICE_TO_HOST)
    assert bytes(target) == b"\3" * SIZE
    cuda("cudaStreamDestroy", blocking)


@of("cudaMemcpy", "cuMemcpyDtoD_v2", "cudaMemcpyPeer")
def test_a_copy_within_devices_is_on_the_legacy_stream(cuda, function, memory, target):
    fill(cuda, "cudaMemset", memory, 3)
    copy(cuda, function, target, memory, DEVICE_TO_DEVICE)
    fill(cuda, "cudaMemset", memory, 7)
    assert cuda.read(target, LEGACY) == b"\3" * SIZE


TO_DEVICE = ("cudaMemcpyAsync", "cuMemcpyHtoDAsync_v2", "cuMemcpyAsync")
TO_HOST = ("cudaMemcpyAsync", "cuMemcpyDtoHAsync_v2", "cuMemcpyAsync")
WITHIN = ("cudaMemcpyAsync", "cuMemcpyDtoDAsync_v2", "cuMemcpyAsync", "cudaMemcpyPeerAsync")


@of(*TO_DEVICE)
def test_page_locked_memory_is_read_in_the_streams_turn(cuda, function, stream, memory, page_locked):
    ctypes.memset(page_locked, 3, SIZE)
    with cuda.held(stream):
        copy(cuda, function, memory, page_locked, HOST_TO_DEVICE, stream)
        assert cuda.status("cudaStreamQuery", stream) == NOT_READY
        ctypes.memset(page_locked, 7, SIZE)
    assert cuda.read(memory, stream) == b"\7" * SIZE


@of(*TO_HOST)
def test_page_locked_memory_is_written_in_the_streams_turn(cuda, function, stream, memory, page_locked):
    ctypes.memset(page_locked, 1, SIZE)
    with cuda.held(stream):
        fill(cuda, "cudaMemsetAsync", memory, 3, stream)
        copy(cuda, function, page_locked, memory, DEVICE_TO_HOST, stream)
        assert ctypes.string_at(page_locked, SIZE) == b"\1" * SIZE
    assert ctypes.string_at(page_locked, SIZE) == b"\3" * SIZE


@of(*TO_DEVICE)
def test_pageable_memory_is_read_before_the_call_returns(cuda, function, stream, memory):
    source = (c_ubyte * SIZE)(*[3] * SIZE)
    copy(cuda, function, memory, source, HOST_TO_DEVICE, stream)
    ctypes.memset(source, 7, SIZE)
    assert cuda.read(memory, stream) == b"\3" * SIZE


@of(*WITHIN)
def test_copies_of_a_stream_are_in_order(cuda, function, stream, memory, target):
    with cuda.held(stream):
        fill(cuda, "cudaMemsetAsync", memory, 3, stream)
        copy(cuda, function, target, memory, DEVICE_TO_DEVICE, stream)
        fill(cuda, "cudaMemsetAsync", memory, 7, stream)
        assert cuda.status("cudaStreamQuery", stream) == NOT_READY
    assert cuda.read(target, stream) == b"\3" * SIZE
    assert cuda.read(memory, stream) == b"\7" * SIZE


@of("cudaMemcpyAsync")
def test_the_direction_may_be_left_to_the_addresses(cuda, function, stream, memory, page_locked):
    ctypes.memset(page_locked, 3, SIZE)
    copy(cuda, function, memory, page_locked, ANY, stream)
    assert cuda.read(memory, stream) == b"\3" * SIZE


@of("cudaMemset", "cuMemsetD8_v2")
def test_a_fill_is_in_order_with_the_legacy_stream(cuda, function, memory):
    fill(cuda, function, memory, 3)
    assert cuda.read(memory, LEGACY) == b"\3" * SIZE


@of("cudaMemsetAsync", "cuMemsetD8Async")
def test_a_fill_is_in_the_streams_turn(cuda, function, stream, memory):
    with cuda.held(stream):
        fill(cuda, function, memory, 3, stream)
        assert cuda.status("cudaStreamQuery", stream) == NOT_READY
    assert cuda.read(memory, stream) == b"\3" * SIZE


@of("cudaMemcpy")
def test_nothing_is_copied_to_or_from_the_null_address(cuda, function, memory):
    room = (c_ubyte * SIZE)()
    assert cuda.status(function, None, memory, COUNT, DEVICE_TO_HOST) == 1
    assert cuda.status(function, room, None, COUNT, DEVICE_TO_HOST) == 1
    assert bytes(room) == bytes(SIZE)
