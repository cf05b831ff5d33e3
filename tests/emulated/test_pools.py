"""Where CuPy's memory comes from: another library's pool, and CUDA's own stream-ordered one."""

import contextlib
import gc
import threading

import pytest

import interop
from interop import DeviceUnavailableError, StreamError
from interop.backends import load_backend
from interop.backends.cupy import pool as _cupy_pool
from tests.emulated.test_crossings import zeros

cp = pytest.importorskip("cupy", reason="CuPy is not installed")

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


def test_cupys_memory_comes_from_there_inside_and_from_its_own_after(pool):
    own = cp.get_default_memory_pool()
    before = own.used_bytes()
    with _cupy_pool.drawing(pool.allocate, pool.release) as is_used:
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
    with _cupy_pool.drawing(pool.allocate, pool.release):
        with cp.cuda.Stream(non_blocking=True) as stream:
            cp.empty(8)
        with cp.cuda.Device(1):
            array = cp.empty(8)
        assert [one[1:] for one in pool.log] == [(0, stream.ptr), (1, 0)]
        assert array.device.id == 1
        with cp.cuda.Stream.ptds, pytest.raises(StreamError, match="per-thread"):
            cp.empty(8)


def test_no_elements_are_no_memory(pool):
    with _cupy_pool.drawing(pool.allocate, pool.release):
        assert cp.empty(0).get().shape == (0,)
    assert pool.log == []


def test_out_of_memory_is_cupys_error_after_it_gave_back_what_it_does_not_use(pool):
    own = cp.get_default_memory_pool()
    cp.zeros(N)
    assert own.free_bytes() > 0
    pool.room = 10
    with _cupy_pool.drawing(pool.allocate, pool.release), pytest.raises(cp.cuda.memory.OutOfMemoryError) as caught:
        cp.empty(N)
    assert own.free_bytes() == 0
    assert len(pool.log) == 2
    assert "there is no more of it" in str(caught.value.__notes__)


def test_what_cupy_gave_back_may_be_enough(pool):
    allocate, tries = pool.allocate, []

    def fails_once(*args):
        tries.append(args)
        if len(tries) == 1:
            raise MemoryError
        return allocate(*args)

    with _cupy_pool.drawing(fails_once, pool.release):
        assert cp.zeros(N).get().tolist() == [0] * N
    assert len(tries) == 2


def test_its_memory_is_cupys_own(pool):
    """So that it is known who holds it: see tests/backends/test_cupy_memory.py."""
    with _cupy_pool.drawing(pool.allocate, pool.release):
        array = cp.zeros(8)
    assert not load_backend("cupy").borrows(array)
    view = array[2:]
    assert load_backend("cupy").borrows(view)


def test_inside_of_a_capture_nothing_is_given_back(pool):
    own = cp.get_default_memory_pool()
    cp.zeros(N)
    pool.room = 10
    stream = cp.cuda.Stream(non_blocking=True)
    with stream, _cupy_pool.drawing(pool.allocate, pool.release):
        stream.begin_capture()
        with pytest.raises(cp.cuda.memory.OutOfMemoryError):
            cp.empty(N)
        stream.end_capture()
    assert own.free_bytes() > 0
    own.free_all_blocks()


def test_an_array_in_a_cycle_gives_its_memory_back(pool):
    """CuPy's own class for such memory does not (`PythonFunctionAllocatorMemory`)."""
    with _cupy_pool.drawing(pool.allocate, pool.release):
        cycle = [cp.empty(8)]
        cycle.append(cycle)
    assert len(pool.held) == 1
    del cycle
    gc.collect()
    assert pool.held == {}


def test_scopes_nest_and_are_restored_after_an_error(pool):
    inner, before = Pool(), cp.cuda.get_allocator()
    with contextlib.suppress(ZeroDivisionError), _cupy_pool.drawing(pool.allocate, pool.release) as outer_is_used:
        with _cupy_pool.drawing(inner.allocate, inner.release) as inner_is_used:
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

    with _cupy_pool.drawing(pool.allocate, pool.release):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        work()
    assert seen == [False, True]


def test_results_of_interop_lie_there_too(pool):
    data = zeros((4,)).get()
    with _cupy_pool.drawing(pool.allocate, pool.release):
        made = interop.to_cupy(data, device="cuda")
        assert made.data.ptr in pool.held
        assert interop.to_cupy(made, copy=True).data.ptr in pool.held
        assert interop.to_numpy(made, device="cpu").tolist() == [0] * 4
        taken = cp.from_dlpack(load_backend("cupy").export(made, 1))  # lent
        del made
        assert len(pool.held) >= 1
        del taken
    cp.cuda.runtime.deviceSynchronize()
    from interop.backends.cupy.release import settle

    settle()
    assert pool.held == {}


# CUDA's own pool.


@pytest.fixture
def cudas(gpu, monkeypatch):
    """Let the pool be there without the driver's library, which is emulated no further than the runtime."""
    monkeypatch.setattr(_cupy_pool, "_driver_pool", lambda: "library")
    return gpu


def threshold(device=0):
    runtime = cp.cuda.runtime
    return runtime.memPoolGetAttribute(runtime.deviceGetMemPool(device), runtime.cudaMemPoolAttrReleaseThreshold)


def test_cupy_allocates_in_cudas_pool_and_its_threshold_is_set_back(cudas):
    assert threshold() == 0
    with _cupy_pool.lending() as source:
        assert source.is_used()
        assert source.library == "library"
        assert threshold() == (1 << 64) - 1
        with _cupy_pool.lending():
            assert threshold() == (1 << 64) - 1
        assert threshold() == (1 << 64) - 1
        cudas.calls()
        stream = cp.cuda.Stream(non_blocking=True)
        with stream:
            array = cp.zeros(N)
            assert f"cudaMallocAsync {array.nbytes} {stream.ptr:#x}" in cudas.calls()
            assert interop.cuda.memory_report().pools["cuda"][0] == array.nbytes
            del array
            assert any(one.startswith(f"cudaFreeAsync {stream.ptr:#x}") for one in cudas.calls())
    assert threshold() == 0
    assert not source.is_used()


def test_the_threshold_is_that_of_the_device_that_was_current(cudas):
    with cp.cuda.Device(1), _cupy_pool.lending(), cp.cuda.Device(0):
        assert (threshold(0), threshold(1)) == (0, (1 << 64) - 1)
    assert (threshold(0), threshold(1)) == (0, 0)


def test_threads_that_come_and_go_set_it_back_together(cudas):
    def work():
        for _ in range(50):
            with _cupy_pool.lending():
                cp.zeros(8)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert threshold() == 0


def test_scopes_of_threads_that_end_in_another_order_set_it_back_together(cudas):
    entered, leave = threading.Event(), threading.Event()

    def work():
        with _cupy_pool.lending():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait()
    with _cupy_pool.lending():
        leave.set()
        thread.join()
        assert threshold() == (1 << 64) - 1
    assert threshold() == 0


def test_stream_ordered_memory_is_lent_and_freed_in_order(cudas):
    """Handed over to another stream and dropped while that works: it goes back when that is done, and by then nobody writes to it."""
    from interop.backends.cupy.release import settle

    with _cupy_pool.lending():
        consumer = cp.cuda.Stream(non_blocking=True)
        array = cp.full(N, 3, "float32")
        result = cp.empty(N, "float32")
        cp.cuda.Stream.null.synchronize()
        taken = cp.from_dlpack(load_backend("cupy").export(array, consumer.ptr))
        with cudas.held(consumer):
            with consumer:
                result[...] = taken
            cudas.calls()
            del array, taken
            settle()
            assert not any(one.startswith("cudaFreeAsync") for one in cudas.calls())
        consumer.synchronize()
        settle()
        assert any(one.startswith("cudaFreeAsync") for one in cudas.calls())
        assert cudas.see(result).tolist() == [3] * N


# What is said of it.


def test_a_report_asks_and_changes_nothing(gpu):
    array = cp.zeros(N)
    cp.cuda.runtime.deviceSynchronize()
    gpu.calls()
    report = interop.cuda.memory_report()
    assert gpu.calls() == []
    assert report.total == 24 << 30
    assert report.free <= report.total - array.nbytes
    assert report.pools["cupy"][0] >= array.nbytes
    assert str(report).startswith("cuda:0: ")
    assert interop.cuda.memory_report("cuda:1").device == interop.Device("cuda", 1)
    assert cp.cuda.runtime.getDevice() == 0


def test_a_pool_with_a_torch_that_has_no_cuda_is_said_to_be_none(gpu):
    import torch

    if torch.version.cuda is not None:
        pytest.skip("this torch has CUDA")
    for make in (interop.cuda.torch_pool, interop.cuda.cupy_pool):
        before = cp.cuda.get_allocator()
        with (
            pytest.raises(
                DeviceUnavailableError,
                match=r"there is no pool on cuda:0: this torch is a build for the CPU only",
            ),
            make(),
        ):
            pass
        assert cp.cuda.get_allocator() == before
        assert not make().is_active()
