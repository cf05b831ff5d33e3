"""Devices and their attributes."""

import ctypes
import threading
import time
from ctypes import byref, c_char, c_int, c_size_t, c_void_p

from tests.emulated.contract.cuda import INVALID_DEVICE, PEER_ALREADY_ENABLED, of, on_a_device

pytestmark = on_a_device

NONE = 4096
"""The number of no device."""

WARP_SIZE, MAJOR, MINOR = 10, 75, 76  # cudaDeviceAttr


@of("cudaDriverGetVersion", "cudaRuntimeGetVersion", "cuDriverGetVersion")
def test_versions_are_numbers_of_cuda(cuda, function):
    assert 11000 <= cuda.number(function) < 100000
    assert cuda.number("cudaDriverGetVersion") >= cuda.version() // 1000 * 1000


@of("cudaGetDeviceCount", "cuDeviceGetCount", "nvmlDeviceGetCount_v2")
def test_there_is_a_device(cuda, function):
    if function.startswith("nvml"):
        cuda("nvmlInit_v2")
    assert cuda.number(function) >= 1
    if function.startswith("nvml"):
        cuda("nvmlShutdown")


@of("cudaGetDevice", "cuCtxGetDevice")
def test_the_current_device_is_the_one_that_was_set(cuda, function):
    for device in range(cuda.number("cudaGetDeviceCount")):
        cuda("cudaSetDevice", device)
        assert cuda.number(function) == device


@of("cudaSetDevice")
def test_a_device_of_none_cannot_be_set(cuda, function):
    assert cuda.status(function, NONE) == INVALID_DEVICE
    assert cuda.number("cudaGetDevice") == 0
    assert cuda.get(c_void_p, "cuCtxGetCurrent").value  # setting one has created its context


@of("cuDeviceGet")
def test_the_handle_of_a_device_of_none(cuda, function):
    assert cuda.number(function, 0) == 0
    assert cuda.status(function, byref(c_int()), NONE) == INVALID_DEVICE


@of("cudaDeviceGetAttribute", "cuDeviceGetAttribute")
def test_attributes_have_cudas_numbers(cuda, function):
    assert cuda.number(function, WARP_SIZE, 0) == 32
    assert cuda.number(function, MAJOR, 0) >= 7
    assert cuda.status(function, byref(c_int()), WARP_SIZE, NONE) == INVALID_DEVICE


@of("cudaGetDeviceProperties")
def test_properties_are_at_their_places(cuda, function):
    """In the layout of CUDA 13; they agree with the attributes."""
    room = (c_char * 4096)()
    cuda(function, room, 0)
    name = room.raw[:256].split(b"\0")[0]
    told = ctypes.create_string_buffer(256)
    cuda("cuDeviceGetName", told, 256, 0)
    assert name == told.value

    def at(place, kind=c_int):
        return kind.from_buffer(room, place).value

    assert at(288, c_size_t) == cuda.get(c_size_t, "cuDeviceTotalMem_v2", 0).value
    assert at(308) == 32
    assert (at(360), at(364)) == (cuda.number("cudaDeviceGetAttribute", MAJOR, 0), cuda.number("cudaDeviceGetAttribute", MINOR, 0))


@of("cuDeviceGetName")
def test_a_name_is_cut_to_its_room(cuda, function):
    room = ctypes.create_string_buffer(b"\xff" * 64)
    cuda(function, room, 8, 0)
    assert 0 < len(room.value) < 8
    assert room.raw[8:16] == b"\xff" * 8


@of("cuDeviceTotalMem_v2")
def test_a_device_has_memory(cuda, function):
    free, total = c_size_t(), c_size_t()
    cuda("cudaMemGetInfo", byref(free), byref(total))
    assert cuda.get(c_size_t, function, 0).value >= total.value > 0


@of("cudaDeviceGetStreamPriorityRange")
def test_lower_numbers_are_greater_priorities(cuda, function):
    least, greatest = c_int(), c_int()
    cuda(function, byref(least), byref(greatest))
    assert least.value == 0
    assert greatest.value <= 0


@of("cudaDeviceCanAccessPeer")
def test_only_devices_can_be_peers(cuda, function):
    assert cuda.status(function, byref(c_int()), 0, NONE) == INVALID_DEVICE
    assert {cuda.number(function, 0, other) for other in range(cuda.number("cudaGetDeviceCount"))} <= {0, 1}


@of("cudaDeviceEnablePeerAccess")
def test_access_is_enabled_to_peers_alone(cuda, function):
    for other in range(cuda.number("cudaGetDeviceCount")):
        is_peer = cuda.number("cudaDeviceCanAccessPeer", 0, other)
        assert cuda.status(function, other, 0) in ({0, PEER_ALREADY_ENABLED} if is_peer else {INVALID_DEVICE})
    assert cuda.status(function, 0, 1) != 0  # there are no flags


@of("cudaDeviceSynchronize", "cuCtxSynchronize")
def test_it_waits_for_all_streams(cuda, function, stream):
    seen = []

    def late():
        time.sleep(0.005)
        seen.append(threading.get_ident())

    functions = [cuda.call_in(one, late) for one in (stream, None)]
    cuda(function)
    assert len(seen) == len(functions)
    assert threading.get_ident() not in seen
    assert cuda.status("cudaStreamQuery", stream) == 0
