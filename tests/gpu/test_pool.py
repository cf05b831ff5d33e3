"""One pool for torch and CuPy, on CUDA for real. Run by ``make gpu``."""

import contextlib
import threading

import pytest
import torch

from interop import DeviceUnavailableError
from interop.backends import load_backend
from interop.cuda import cupy_pool, memory_report, torch_pool
from tests.gpu.work import COUNT, as_torchs, busy, quiet, rehearsed

pytestmark = pytest.mark.gpu


@pytest.fixture(name="cp")
def cupy_module():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    torch.cuda.init()
    quiet()
    return cupy


@contextlib.contextmanager
def in_cudas_pool():
    """Enter `cupy_pool`, or skip where it could not be built: it needs a C compiler."""
    with contextlib.ExitStack() as stack:
        try:
            pool = stack.enter_context(cupy_pool())
        except DeviceUnavailableError as error:
            if "was not built" in str(error):
                pytest.skip(str(error).splitlines()[0])
            raise
        yield pool


def test_cupys_memory_is_torchs_inside_and_its_own_after(cp):
    own = cp.get_default_memory_pool()
    before = torch.cuda.memory_allocated(), own.used_bytes()
    with torch_pool() as pool:
        assert pool.is_active()
        array = cp.full(COUNT, 3, dtype="float32")
        assert torch.cuda.memory_allocated() - before[0] >= array.nbytes
        assert own.used_bytes() == before[1]
    assert not pool.is_active()
    other = cp.full(COUNT, 4, dtype="float32")
    assert own.used_bytes() - before[1] >= other.nbytes
    assert float(array.sum()) == 3 * COUNT  # it lives on after the scope
    del array
    assert torch.cuda.memory_allocated() == before[0]


def test_memory_that_cupy_frees_is_there_for_torch_on_the_same_stream(cp):
    with torch_pool():
        array = cp.ones(COUNT, dtype="float32")
        pointer = array.data.ptr
        del array
        assert torch.empty(COUNT, device="cuda").data_ptr() == pointer


def test_memory_of_one_stream_is_not_given_to_another(cp):
    work = cp.cuda.Stream(non_blocking=True)

    def read(milliseconds):
        quiet()
        torch.empty(2 * COUNT, device="cuda")  # held unused: taking memory from the driver may wait for the device
        with torch_pool():
            with work:
                cp.empty(2 * COUNT, dtype="float32")
                array = cp.ones(COUNT, dtype="float32")
                address = array.data.ptr
                delay = busy(milliseconds, work)
                copied = array.copy()
                del array
            again = torch.full((COUNT,), 2.0, device="cuda")
            delay.must_run()
            with torch.cuda.stream(as_torchs(work)):  # the negative control: its own stream gets it
                own = torch.empty(COUNT, device="cuda")
        torch.cuda.synchronize()
        return again.data_ptr() == address, own.data_ptr() == address, float(copied[0])

    assert rehearsed(read) == (False, True, 1)


def test_out_of_memory_is_cupys_error(cp):
    with torch_pool(), pytest.raises(cp.cuda.memory.OutOfMemoryError):
        cp.zeros(1 << 50, dtype="uint8")


def test_no_elements_are_no_memory(cp):
    with torch_pool():
        assert cp.zeros(0).sum() == 0


def test_torchs_memory_is_cudas_inside_of_cupys_pool(cp):
    def used():
        torch.cuda.synchronize()
        return memory_report().pools["cuda"][0]

    with in_cudas_pool() as pool:
        assert pool.is_active()
        before = used()
        tensor = torch.full((COUNT * 7,), 3.0, device="cuda")  # more than another test left in torch's pool
        held = used()
        assert held - before >= tensor.nbytes
        array = cp.full(COUNT, 4, dtype="float32")
        assert used() - held >= array.nbytes
    assert not pool.is_active()
    assert float(tensor.sum()) == 3 * COUNT * 7  # it lives on after the scope
    assert float(array.sum()) == 4 * COUNT
    pointer = tensor.data_ptr()
    del tensor, array
    with in_cudas_pool():  # torch kept it for the next scope
        assert torch.empty(COUNT * 7, device="cuda").data_ptr() == pointer


def test_cudas_pool_within_itself(cp):
    with in_cudas_pool() as outer:
        with in_cudas_pool() as inner:
            x = torch.full((COUNT,), 3.0, device="cuda")
            assert outer.is_active()
            assert inner.is_active()
        y = torch.full((COUNT,), 4.0, device="cuda")
    assert float((x + y)[0]) == 7


def test_torchs_pool_within_cudas_serves_the_stream_that_asks(cp):
    busy = cp.cuda.Stream(non_blocking=True)
    with in_cudas_pool(), torch_pool(), busy:
        array = cp.full(COUNT, 3, dtype="float32")
        assert float(array.sum()) == 3 * COUNT


def test_an_array_in_a_cycle_gives_its_memory_back(cp):
    import gc

    before = torch.cuda.memory_allocated()
    with torch_pool():
        cycle = {"array": cp.ones(COUNT, dtype="float32")}
    cycle["self"] = cycle
    assert torch.cuda.memory_allocated() > before
    del cycle
    gc.collect()
    assert torch.cuda.memory_allocated() == before


def test_a_report_leaves_cudas_pool_as_it_is(cp):
    runtime = cp.cuda.runtime
    pool = runtime.deviceGetMemPool(0)
    before = runtime.memPoolGetAttribute(pool, runtime.cudaMemPoolAttrReleaseThreshold)
    memory_report()
    with in_cudas_pool():
        memory_report()
    assert runtime.deviceGetMemPool(0) == pool
    assert runtime.memPoolGetAttribute(pool, runtime.cudaMemPoolAttrReleaseThreshold) == before


def test_they_nest_and_are_restored_after_an_error(cp):
    before = cp.cuda.get_allocator()
    with contextlib.suppress(ZeroDivisionError), torch_pool() as outer, in_cudas_pool() as inner:
        assert (outer.is_active(), inner.is_active()) == (False, True)
        raise ZeroDivisionError
    assert cp.cuda.get_allocator() == before
    assert not outer.is_active()
    assert not inner.is_active()


def test_threads_that_allocate_and_free_do_not_wait_for_each_other_for_ever(cp):
    """A callback that needs the interpreter under the lock of torch's allocator would (pytorch#97833)."""

    def work():
        with in_cudas_pool():
            for n in range(300):
                tensors = [torch.empty(1000 * (n % 7 + 1), device="cuda") for _ in range(5)]
                arrays = [cp.empty(1000 * (n % 5 + 1)) for _ in range(5)]
                del tensors, arrays

    with in_cudas_pool():
        pass
    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("make", [torch_pool, in_cudas_pool])
def test_a_graph_is_captured_inside(cp, make):
    with make():
        x = torch.ones(COUNT, device="cuda")
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            (x * 2).sum()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = x * 2
        x.fill_(5)
        graph.replay()
        torch.cuda.synchronize()
        assert float(y[0]) == 10


def test_the_report(cp):
    keep = cp.ones(COUNT), torch.ones(COUNT, device="cuda")
    report = memory_report()
    assert 0 < report.free < report.total
    assert report.pools["torch"][0] >= keep[1].nbytes
    assert report.pools["cupy"][0] >= keep[0].nbytes
    assert {"torch", "cupy"} <= set(report.pools)
    assert str(report).startswith("cuda:0: ")


def test_the_doctor_says_what_is_on_the_device(cp):
    from interop.doctor.examination import examine

    cuda = examine()["cuda"]
    assert cuda["driver"]
    assert [one["library"] for one in cuda["runtimes"]] == ["torch", "cupy"]
    assert len(cuda["devices"]) == torch.cuda.device_count()
    card = cuda["devices"][torch.cuda.current_device()]
    assert 0 < card["free"] <= card["total"]
    assert {"torch", "cupy"} <= {pool["name"] for pool in card["pools"]}
    views = {name: load_backend(name).cuda() for name in ("torch", "cupy")}
    assert views["torch"].cards == views["cupy"].cards
