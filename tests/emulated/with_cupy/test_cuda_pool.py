"""CuPy's memory from CUDA's own stream-ordered pool, and the reports of pools."""

import threading

import cupy as cp
import pytest

import interop
from interop import DeviceUnavailableError
from interop.backends import load_backend
from interop.backends.cupy import pool as _cupy_pool

N = 1 << 12


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
    with _cupy_pool.memory_source() as source:
        assert source.is_used()
        assert source.library == "library"
        assert threshold() == (1 << 64) - 1
        with _cupy_pool.memory_source():
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
    with cp.cuda.Device(1), _cupy_pool.memory_source(), cp.cuda.Device(0):
        assert (threshold(0), threshold(1)) == (0, (1 << 64) - 1)
    assert (threshold(0), threshold(1)) == (0, 0)


def test_threads_that_come_and_go_set_it_back_together(cudas):
    def work():
        for _ in range(50):
            with _cupy_pool.memory_source():
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
        with _cupy_pool.memory_source():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait()
    with _cupy_pool.memory_source():
        leave.set()
        thread.join()
        assert threshold() == (1 << 64) - 1
    assert threshold() == 0


def test_the_release_of_stream_ordered_memory_is_deferred_and_in_order(cudas):
    """Exported to another stream and dropped while that works: it is released when that is done, and not reused before."""
    from interop.backends.cupy.release import release_completed

    with _cupy_pool.memory_source():
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
            release_completed()
            assert not any(one.startswith("cudaFreeAsync") for one in cudas.calls())
        consumer.synchronize()
        release_completed()
        assert any(one.startswith("cudaFreeAsync") for one in cudas.calls())
        assert cudas.see(result).tolist() == [3] * N


# Reports.


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


def test_with_a_torch_without_cuda_there_is_no_pool(gpu):
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
