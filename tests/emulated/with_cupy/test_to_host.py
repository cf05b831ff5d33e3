"""From CuPy to the host: the values, the order, the CUDA calls, and the lifetimes."""

import gc
import weakref

import cupy as cp
import numpy as np
import pytest

import interop
from interop import to_cupy, to_numpy
from interop.backends import load_backend
from interop.backends.cuda import copies as _copies
from interop.backends.cupy import copies as _cupy_copies
from tests.emulated.with_cupy.work import (
    GRID,
    LAYOUTS,
    on_device,
    slow_values,
    waited,
    zeros,
)

DTYPES = ["bool", "int8", "uint64", "float16", "float32", "complex128", "bfloat16"]


@pytest.mark.parametrize("status", [1, 719])
def test_what_the_runtime_does_not_know_is_plain_memory(gpu, monkeypatch, status):
    """HIP before ROCm 6 returns an error for it (ROCm/hip#3057); other errors are raised."""

    def ask(pointer):
        raise cp.cuda.runtime.CUDARuntimeError(status)

    monkeypatch.setattr(cp.cuda.runtime, "pointerGetAttributes", ask)
    if status == 1:
        assert to_cupy(GRID, device="cuda").get().tolist() == GRID.tolist()
    else:
        with pytest.raises(cp.cuda.runtime.CUDARuntimeError):
            _cupy_copies.to_device(GRID)


# To the host.


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_arrive(gpu, layout, blocking):
    view = LAYOUTS[layout](on_device(GRID))
    made = to_numpy(view, device="cpu") if blocking else to_numpy(view, device="cpu", blocking=False).result()
    assert np.array_equal(made, LAYOUTS[layout](GRID))
    assert made.dtype == GRID.dtype
    assert made.flags.writeable


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_arrive_both_ways(gpu, dtype):
    from interop.backends.numpy.backend import native_dtype

    data = np.arange(5).astype(native_dtype(dtype))
    array = to_cupy(data, device="cuda")
    assert array.dtype.name == dtype
    for made in (to_numpy(array, device="cpu"), to_numpy(array, device="cpu", blocking=False).result()):
        assert made.dtype == data.dtype
        assert made.tobytes() == data.tobytes()


def test_a_pending_copy_waits_for_nothing_and_its_result_for_one_event(gpu):
    stream = cp.cuda.Stream(non_blocking=True)
    array = zeros()
    with stream:
        with gpu.held(stream):
            array.fill(3)
            gpu.calls()
            transfer = to_numpy(array, device="cpu", blocking=False)
            assert waited(gpu.calls()) == []
            assert not transfer.done()
        assert transfer.result().tolist() == [3] * 1000
        assert transfer.done()
        assert waited(gpu.calls()) == ["cudaEventSynchronize"]


def test_the_memory_of_a_pending_copy_is_not_reused_until_it_has_ended(gpu):
    stream = cp.cuda.Stream(non_blocking=True)
    array = zeros()
    where = array.data.ptr
    with stream, gpu.held(stream):
        array.fill(3)
        transfer = to_numpy(array, device="cpu", blocking=False)
        del array
        with cp.cuda.Stream.null:  # the stream that allocated it, and does not wait
            other = cp.full(1000, 7, "float32")
        assert other.data.ptr != where
    assert transfer.result().tolist() == [3] * 1000


def test_a_pending_copy_that_is_dropped_keeps_its_memory_on_both_sides(gpu):
    from interop.backends.cupy.release import release_completed

    stream = cp.cuda.Stream(non_blocking=True)
    array = zeros()
    with stream, gpu.held(stream):
        pending = load_backend("cupy").start_copy_to_host(array, None, None)
        kept = weakref.ref(array), weakref.ref(pending.host)
        del array, pending
        release_completed()
        assert all(one() is not None for one in kept)
    stream.synchronize()
    release_completed()
    gc.collect()
    assert all(one() is None for one in kept)


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("number", ["another", "none"])
def test_a_named_stream_is_ordered_after_the_current_one(gpu, blocking, number):
    stream, other = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)
    array = slow_values(gpu, stream, 3)
    with stream:
        made = to_numpy(array, device="cpu", stream=other if number == "another" else -1, blocking=blocking)
    assert (made if blocking else made.result()).tolist() == [3] * 1000


def test_without_the_wait_they_would_be_of_before(gpu):
    """The negative control for the one above: another stream that is current waits for nothing."""
    stream, other = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)
    array = zeros()
    with gpu.held(stream):
        with stream:
            array.fill(3)
        with other:
            assert to_numpy(array, device="cpu").tolist() == [0] * 1000


@pytest.mark.parametrize("layout", ["C", "F", "gaps", "reversed"])
@pytest.mark.parametrize("dtype", ["float64", "int8", "complex64"])
def test_large_arrays_go_through_two_buffers(gpu, small_chunks, layout, dtype):
    data = np.arange(61 * 67).reshape(61, 67).astype(dtype)
    array = LAYOUTS[layout](on_device(data))
    gpu.calls()
    made = to_numpy(array, device="cpu")
    calls = [one for one in gpu.calls() if one.startswith("cudaMemcpy")]
    assert np.array_equal(made, LAYOUTS[layout](data))
    if layout in "CF":
        assert made.strides == LAYOUTS[layout](data).strides
        assert len(calls) == -(-data.nbytes // 1024)
        assert all("device0 pinned" in one for one in calls)
    else:
        assert len(calls) == 1


def test_large_arrays_wait_for_the_work_before_and_for_no_device(gpu, small_chunks):
    stream = cp.cuda.Stream(non_blocking=True)
    array = slow_values(gpu, stream, 3, (5000,))
    with stream:
        gpu.calls()
        assert to_numpy(array, device="cpu").tolist() == [3] * 5000
    assert set(waited(gpu.calls())) == {"cudaEventSynchronize"}


def test_the_small_arrays_of_a_tree_travel_together(gpu):
    tree = {"a": [on_device(GRID), on_device(GRID)[:, ::2]], "b": on_device(np.array(True)), "c": on_device(np.arange(3, dtype="int16"))}
    gpu.calls()
    made = interop.tree.convert(tree, "numpy", transfer="allow")
    copies = [one for one in gpu.calls() if one.startswith("cudaMemcpy")]
    assert len(copies) == 2  # the one with gaps goes alone
    assert np.array_equal(made["a"][0], GRID)
    assert np.array_equal(made["a"][1], GRID[:, ::2])
    assert made["b"].item() is True
    assert made["c"].tolist() == [0, 1, 2]
    assert made["c"].dtype == "int16"


def test_a_tree_waits_for_the_work_before_it(gpu):
    stream = cp.cuda.Stream(non_blocking=True)
    tree = [slow_values(gpu, stream, n, (4,)) for n in range(3)]
    with stream:
        made = interop.tree.convert(tree, "numpy", transfer="allow")
    assert [one.tolist() for one in made] == [[n] * 4 for n in range(3)]


def test_large_trees_travel_in_packs(gpu, monkeypatch):
    monkeypatch.setattr(_copies, "PACK", 100)
    tree = [on_device(np.full(n % 7 + 1, float(n))) for n in range(20)]
    gpu.calls()
    made = interop.tree.convert(tree, "numpy", transfer="allow")
    copies = [one for one in gpu.calls() if one.startswith("cudaMemcpy")]
    assert 5 < len(copies) < 20
    assert all((one == n).all() for n, one in enumerate(made))
