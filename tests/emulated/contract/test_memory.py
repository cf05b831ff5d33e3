"""Memory that is allocated in no order with any stream: on the device, managed, and of the host."""

import ctypes
import itertools
from ctypes import byref, c_size_t, c_ubyte, c_void_p

import pytest

from tests.emulated.contract.cuda import (
    ALREADY_REGISTERED,
    DEVICE_TO_DEVICE,
    INVALID_VALUE,
    NOT_REGISTERED,
    OUT_OF_MEMORY,
    SIZE,
    of,
    on_a_device,
)

pytestmark = on_a_device

UNREGISTERED, HOST, DEVICE, MANAGED = 0, 1, 2, 3  # cudaMemoryType


class Attributes(ctypes.Structure):
    """A cudaPointerAttributes; with room for what later versions add."""

    _fields_ = (("type", ctypes.c_int), ("device", ctypes.c_int), ("on_device", c_void_p), ("on_host", c_void_p), ("more", c_ubyte * 256))


def kind(cuda, address):
    return cuda.get(Attributes, "cudaPointerGetAttributes", address).type


@of("cudaMalloc", "cuMemAlloc_v2")
def test_memory_of_the_device_is_aligned_and_its_own(cuda, function):
    pointers = [cuda.get(c_void_p, function, c_size_t(100)) for _ in range(3)]
    assert all(one.value % 256 == 0 for one in pointers)
    places = sorted(one.value for one in pointers)
    assert all(later - earlier >= 100 for earlier, later in itertools.pairwise(places))
    assert kind(cuda, pointers[0]) == DEVICE
    for one in pointers:
        cuda("cudaFree", one)
    assert cuda.status(function, byref(c_void_p()), c_size_t(1 << 50)) == OUT_OF_MEMORY


@of("cudaFree")
def test_only_what_was_allocated_can_be_freed(cuda, function):
    cuda(function, None)
    cuda(function, cuda.get(c_void_p, "cudaMalloc", c_size_t(SIZE)))
    assert cuda.status(function, (c_ubyte * SIZE)()) == INVALID_VALUE


@of("cuMemFree_v2")
def test_memory_is_free_after_it(cuda, function):
    cuda(function, cuda.get(c_void_p, "cuMemAlloc_v2", c_size_t(SIZE)))
    assert cuda.status(function, (c_ubyte * SIZE)()) == INVALID_VALUE


@of("cudaMallocManaged")
def test_managed_memory_is_the_hosts_and_the_devices(cuda, function, memory):
    made = cuda.get(c_void_p, function, c_size_t(SIZE), 1)
    assert kind(cuda, made) == MANAGED
    ctypes.memset(made, 3, SIZE)
    cuda("cudaMemcpy", memory, made, c_size_t(SIZE), DEVICE_TO_DEVICE)
    assert cuda.read(memory) == b"\3" * SIZE
    cuda("cudaMemset", made, 4, c_size_t(SIZE))
    cuda("cudaDeviceSynchronize")
    assert ctypes.string_at(made, SIZE) == b"\4" * SIZE
    cuda("cudaFree", made)


@of("cudaHostAlloc", "cudaMallocHost")
def test_page_locked_memory_is_the_hosts(cuda, function):
    made = cuda.get(c_void_p, function, c_size_t(SIZE), *([0] if function == "cudaHostAlloc" else []))
    assert kind(cuda, made) == HOST
    ctypes.memset(made, 3, SIZE)
    assert ctypes.string_at(made, SIZE) == b"\3" * SIZE
    cuda("cudaFreeHost", made)


@of("cudaFreeHost")
def test_only_what_was_page_locked_by_it_can_be_freed(cuda, function):
    assert cuda.status(function, (c_ubyte * SIZE)()) == INVALID_VALUE
    cuda(function, cuda.get(c_void_p, "cudaMallocHost", c_size_t(SIZE)))


@pytest.fixture(name="pages")
def pages_of_the_host():
    """Return a page of the host's own, at its beginning."""
    room = ctypes.create_string_buffer(2 * 4096)
    start = -(-ctypes.addressof(room) // 4096) * 4096
    return c_void_p(start), room


@of("cudaHostRegister", "cudaHostUnregister")
def test_the_callers_memory_is_page_locked_for_a_time(cuda, function, pages):
    start, _ = pages
    assert kind(cuda, start) == UNREGISTERED
    cuda("cudaHostRegister", start, c_size_t(4096), 0)
    assert kind(cuda, start) == HOST
    assert cuda.status("cudaHostRegister", start, c_size_t(4096), 0) == ALREADY_REGISTERED
    cuda("cudaHostUnregister", start)
    assert kind(cuda, start) == UNREGISTERED
    assert cuda.status("cudaHostUnregister", start) in {INVALID_VALUE, NOT_REGISTERED}


@of("cudaMemGetInfo", "cuMemGetInfo_v2")
def test_how_much_is_free(cuda, function):
    free, total = c_size_t(), c_size_t()
    cuda(function, byref(free), byref(total))
    assert 0 < free.value <= total.value


@of("cudaPointerGetAttributes")
def test_whose_memory_an_address_is(cuda, function, memory, page_locked):
    inside = cuda.get(Attributes, function, c_void_p(memory.value + 100))
    assert (inside.type, inside.device, inside.on_device, inside.on_host) == (DEVICE, 0, memory.value + 100, None)
    locked = cuda.get(Attributes, function, page_locked)
    assert (locked.type, locked.on_host) == (HOST, page_locked.value)
    assert cuda.get(Attributes, function, ctypes.create_string_buffer(SIZE)).type == UNREGISTERED


CONTEXT_OF, MEMORY_TYPE, IS_MANAGED, ORDINAL, START, LENGTH = 1, 2, 8, 9, 11, 12  # CUpointer_attribute


@of("cuPointerGetAttribute")
def test_what_the_driver_knows_of_an_address(cuda, function, memory, page_locked):
    def ask(which, address, kind=ctypes.c_uint):
        return cuda.get(kind, function, which, address).value

    assert ask(CONTEXT_OF, memory, c_void_p) == cuda.get(c_void_p, "cuCtxGetCurrent").value
    assert (ask(MEMORY_TYPE, memory), ask(MEMORY_TYPE, page_locked)) == (2, 1)
    assert ask(IS_MANAGED, memory) == 0
    assert ask(ORDINAL, memory) == 0
    inside = c_void_p(memory.value + 100)
    assert ask(START, inside, c_void_p) == memory.value
    assert ask(LENGTH, inside, c_size_t) >= SIZE
    assert cuda.status(function, byref(c_void_p()), MEMORY_TYPE, ctypes.create_string_buffer(SIZE)) == INVALID_VALUE
