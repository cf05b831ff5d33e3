"""CuPy's memory from another library's pool."""

import contextlib
import gc
import threading

import cupy as cp
import pytest

import interop
from interop import StreamError
from interop.backends import load_backend
from interop.backends.cupy import pool as _cupy_pool
from tests.emulated.with_cupy.work import (
    zeros,
)

N = 1 << 12


class Pool:
    """Another library's pool, on memory of CUDA's: it notes what it is asked for."""

    def __init__(self, room=1 << 28):
        self.log, self.held, self.room = [], {}, room

    def allocate(self, size, device, stream):
        self.log.append((size, device, stream))
        if size > self.room:
            raise MemoryError("there is no more of it")
        with cp.cuda.Device(device):
            pointer = cp.cuda.runtime.malloc(size)
        self.held[pointer] = size
        return pointer

    def release(self, pointer):
        del self.held[pointer]
        cp.cuda.runtime.free(pointer)


@pytest.fixture
def pool(gpu):
    return Pool()


def emptied():
    """Return CuPy's own pool with nothing in it to give back, and the bytes that remain: of blocks that other tests' arrays share."""
    own = cp.get_default_memory_pool()
    gc.collect()
    own.free_all_blocks()
    return own, own.free_bytes()


def test_cupys_memory_comes_from_there_inside_and_from_its_own_after(pool):
    own = cp.get_default_memory_pool()
    before = own.used_bytes()
    with _cupy_pool.allocate_from(pool.allocate, pool.release) as is_used:
        assert is_used()
        array = cp.full(N, 3, "float32")
        assert own.used_bytes() == before
        assert pool.held == {array.data.ptr: 4 * N}
    assert not is_used()
    other = cp.full(N, 4, "float32")
    assert own.used_bytes() == before + other.nbytes
    assert array.get().tolist() == [3] * N  # it lives on after the scope
    part = array[5:]
    del array
    assert len(pool.held) == 1
    del part
    assert pool.held == {}


def test_the_stream_that_is_current_and_the_device_are_named(pool):
    with _cupy_pool.allocate_from(pool.allocate, pool.release):
        with cp.cuda.Stream(non_blocking=True) as stream:
            cp.empty(8)
        with cp.cuda.Device(1):
            array = cp.empty(8)
        assert [one[1:] for one in pool.log] == [(0, stream.ptr), (1, 0)]
        assert array.device.id == 1
        with cp.cuda.Stream.ptds, pytest.raises(StreamError, match="per-thread"):
            cp.empty(8)


def test_no_elements_are_no_memory(pool):
    with _cupy_pool.allocate_from(pool.allocate, pool.release):
        assert cp.empty(0).get().shape == (0,)
    assert pool.log == []


def test_out_of_memory_is_cupys_error_after_it_gave_back_what_it_does_not_use(pool):
    own, left = emptied()
    cp.zeros(N)
    assert own.free_bytes() > left
    pool.room = 10
    with _cupy_pool.allocate_from(pool.allocate, pool.release), pytest.raises(cp.cuda.memory.OutOfMemoryError) as caught:
        cp.empty(N)
    assert own.free_bytes() == left
    assert len(pool.log) == 2
    assert "there is no more of it" in str(caught.value.__notes__)


def test_what_cupy_gave_back_may_be_enough(pool):
    allocate, tries = pool.allocate, []

    def fails_once(*args):
        tries.append(args)
        if len(tries) == 1:
            raise MemoryError
        return allocate(*args)

    with _cupy_pool.allocate_from(fails_once, pool.release):
        assert cp.zeros(N).get().tolist() == [0] * N
    assert len(tries) == 2


def test_its_memory_is_cupys_own(pool):
    """So that it is known who holds it: see tests/backends/test_cupy_memory.py."""
    with _cupy_pool.allocate_from(pool.allocate, pool.release):
        array = cp.zeros(8)
    assert not load_backend("cupy").may_be_aliased(array)
    view = array[2:]
    assert load_backend("cupy").may_be_aliased(view)


def test_inside_of_a_capture_nothing_is_given_back(pool):
    own, left = emptied()
    cp.zeros(N)
    pool.room = 10
    stream = cp.cuda.Stream(non_blocking=True)
    with stream, _cupy_pool.allocate_from(pool.allocate, pool.release):
        stream.begin_capture()
        with pytest.raises(cp.cuda.memory.OutOfMemoryError):
            cp.empty(N)
        stream.end_capture()
    assert own.free_bytes() > left
    own.free_all_blocks()


def test_an_array_in_a_cycle_gives_its_memory_back(pool):
    """CuPy's own class for such memory does not (`PythonFunctionAllocatorMemory`)."""
    with _cupy_pool.allocate_from(pool.allocate, pool.release):
        cycle = [cp.empty(8)]
        cycle.append(cycle)
    assert len(pool.held) == 1
    del cycle
    gc.collect()
    assert pool.held == {}


def test_scopes_nest_and_are_restored_after_an_error(pool):
    inner, before = Pool(), cp.cuda.get_allocator()
    with contextlib.suppress(ZeroDivisionError), _cupy_pool.allocate_from(pool.allocate, pool.release) as outer_is_used:
        with _cupy_pool.allocate_from(inner.allocate, inner.release) as inner_is_used:
            first = cp.empty(8)
            assert (outer_is_used(), inner_is_used()) == (False, True)
        second = cp.empty(8)
        assert (outer_is_used(), inner_is_used()) == (True, False)
        raise ZeroDivisionError
    assert first.data.ptr in inner.held
    assert second.data.ptr in pool.held
    assert type(cp.cuda.get_allocator()) is type(before)
    assert cp.cuda.get_allocator() == before


def test_each_thread_has_its_own(pool):
    seen = []

    def work():
        array = cp.empty(8)
        seen.append(array.data.ptr in pool.held)

    with _cupy_pool.allocate_from(pool.allocate, pool.release):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        work()
    assert seen == [False, True]


def test_results_of_interop_lie_there_too(pool):
    data = zeros((4,)).get()
    with _cupy_pool.allocate_from(pool.allocate, pool.release):
        made = interop.to_cupy(data, device="cuda")
        assert made.data.ptr in pool.held
        assert interop.to_cupy(made, copy=True).data.ptr in pool.held
        assert interop.to_numpy(made, device="cpu").tolist() == [0] * 4
        taken = cp.from_dlpack(load_backend("cupy").export(made, 1))  # its release is deferred
        del made
        assert len(pool.held) >= 1
        del taken
    cp.cuda.runtime.deviceSynchronize()
    from interop.backends.cupy.release import release_completed

    release_completed()
    assert pool.held == {}
