"""Transfers without waiting, on CUDA for real. Run by ``make gpu``."""

import gc

import numpy as np
import pytest
import torch

import interop
from interop import TransferError, to_numpy
from tests.gpu.work import COUNT, busy, late, late_array, rehearsed, shows

pytestmark = pytest.mark.gpu

THREES = np.full(COUNT, 3, "float32")


@pytest.fixture(name="cp")
def cupy_module():
    """Return CuPy, with page-locked memory in both pools: to lock more may wait for the device, and a delay would be over by then."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    locked = [torch.empty(COUNT, pin_memory=True) for _ in range(6)]
    locked += [cupy.cuda.alloc_pinned_memory(4 * COUNT) for _ in range(4)]
    del locked
    torch.cuda.synchronize()
    return cupy


def test_the_call_returns_before_the_data_are_there_and_the_result_after(cp):
    def leave(milliseconds):
        tensor, delay = late(milliseconds)
        transfer = to_numpy(tensor, device="cpu", blocking=False)
        assert not milliseconds or not transfer.done()
        del tensor
        torch.full((COUNT,), 7.0, device="cuda")  # would get the memory
        delay.must_run()
        result = transfer.result()
        assert transfer.done()
        assert not delay.running()
        return result

    assert np.array_equal(rehearsed(leave), THREES)


def test_without_the_wait_the_data_are_not_there(cp):
    """The negative control: the memory as it is before the copy has ended."""
    from interop.backends import load_backend

    def leave(milliseconds):
        tensor, delay = late(milliseconds)
        pending = load_backend("torch").start_copy_to_host(tensor, None, None)
        pending.host.numpy()[:3] = -1
        assert not milliseconds or not pending.is_ready()
        delay.must_run()
        early = pending.host.numpy()[:3].tolist()
        pending.wait()
        return early, pending.host.numpy()[:3].tolist()

    assert rehearsed(leave) == ([-1, -1, -1], [3, 3, 3])


def test_from_cupy_too(cp):
    stream = cp.cuda.Stream(non_blocking=True)

    def leave(milliseconds):
        with stream:
            array, delay = late_array(stream, milliseconds)
            transfer = to_numpy(array, device="cpu", blocking=False)
            assert not milliseconds or not transfer.done()
            del array
            again = cp.full(COUNT, 7, dtype="float32")
            delay.must_run()
            return transfer.result(), float(again[0])

    result, written = rehearsed(leave)
    assert np.array_equal(result, THREES)
    assert written == 7


def test_one_that_nobody_asks_harms_nobody(cp):
    def leave(milliseconds, make):
        tensor, delay = late(milliseconds)
        to_numpy(make(tensor), device="cpu", blocking=False)
        del tensor
        gc.collect(1)  # of what was made here: a look at everything may take as long as the delay
        others = [to_numpy(torch.full((COUNT,), 5.0, device="cuda"), device="cpu", blocking=False) for _ in range(3)]
        delay.must_run()
        return [one.result() for one in others]

    for make in (lambda x: x, interop.to_cupy):
        found = rehearsed(lambda delay, make=make: leave(delay, make))
        assert all(np.array_equal(one, np.full(COUNT, 5, "float32")) for one in found)


@pytest.mark.parametrize("view", ["x.T", "x[:, ::2]", "x[1:, 1:]", "x[0, 0]", "x[:0]", "x[None]"])
@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_layouts(cp, library, view):
    grid = np.arange(6.0).reshape(2, 3)
    x = torch.from_numpy(grid).cuda() if library == "torch" else cp.asarray(grid)
    x = eval(view)
    expected = eval(view, {"x": grid})
    assert np.array_equal(to_numpy(x, device="cpu", blocking=False).result(), expected)


@pytest.mark.parametrize("dtype", ["bool", "float16", "bfloat16", "int64", "complex64"])
def test_dtypes(cp, dtype):
    x = torch.arange(6).to(getattr(torch, dtype)).cuda()
    result = to_numpy(x, device="cpu", blocking=False).result()
    assert result.dtype.name == dtype
    assert result.astype("complex64").tolist() == x.cpu().to(torch.complex64).tolist()


def test_permission_is_needed_as_ever(cp):
    with pytest.raises(TransferError, match="blocking=False"):
        to_numpy(torch.ones(3, device="cuda"), blocking=False)


def test_the_memory_is_page_locked_and_writable(cp):
    result = to_numpy(torch.ones(3, device="cuda"), device="cpu", blocking=False).result()
    assert torch.from_numpy(result).is_pinned()
    result[0] = 2


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_another_stream_comes_behind_the_work_before(cp, library, blocking):
    side = torch.cuda.Stream()

    def leave(milliseconds):
        tensor, delay = late(milliseconds)
        x = tensor if library == "torch" else cp.from_dlpack(tensor)
        delay.must_run()
        result = to_numpy(x, device="cpu", blocking=blocking, stream=side)
        if not blocking:
            delay.must_run()
            result = result.result()
        return result

    assert np.array_equal(rehearsed(leave), THREES)


def test_without_the_order_another_stream_reads_too_early(cp):
    """The negative control: ``stream=-1`` leaves the order to the caller, and the copy is made on a stream that does not wait."""
    kept = []

    def leave(milliseconds):
        tensor, delay = late(milliseconds)
        with kept[-1]:
            array = interop.to_cupy(tensor, stream=-1)
            result = to_numpy(array, device="cpu", blocking=False)
            delay.must_run()
            return result.result()[:3].tolist()

    def attempt():
        kept.append(cp.cuda.Stream(non_blocking=True))
        return rehearsed(leave) == [0, 0, 0]

    assert shows(attempt)


def test_what_interop_does_before_comes_before_on_another_stream_too(cp):
    side = torch.cuda.Stream()

    def leave(milliseconds):
        tensor, delay = late(milliseconds)
        x = torch.complex(tensor, torch.ones(COUNT, device="cuda")).conj()
        busy(milliseconds)
        delay.must_run()
        return to_numpy(x, device="cpu", stream=side)

    assert rehearsed(leave)[0] == 3 - 1j


def test_on_a_stream_of_the_callers(cp):
    side = torch.cuda.Stream()

    def leave(milliseconds):
        with torch.cuda.stream(side):
            tensor, delay = late(milliseconds)
        transfer = to_numpy(tensor, device="cpu", blocking=False, stream=side)
        delay.must_run()
        return transfer.result()

    assert np.array_equal(rehearsed(leave), THREES)


# Large crossings, in chunks.

LARGE = (1 << 22) + 12345  # float64: 32 MiB and a rest, three chunks


@pytest.mark.parametrize("view", ["x", "x.T", "x[:, ::2]", "x[5:]"])
@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_large_arrays_reach_the_host_whole(cp, library, view):
    grid = np.random.default_rng(0).random((5, LARGE // 5 * 2))
    x = torch.from_numpy(grid).cuda() if library == "torch" else cp.asarray(grid)
    x = eval(view)
    expected = eval(view, {"x": grid})
    made = to_numpy(x, device="cpu")
    assert np.array_equal(made, expected)
    assert not torch.from_numpy(made).is_pinned()


@pytest.mark.parametrize("view", ["x", "x.T", "x[:, ::2]", "x[5:]"])
@pytest.mark.parametrize("library", ["torch", "cupy"])
@pytest.mark.parametrize("pinned", [False, True], ids=["pageable", "page-locked"])
def test_large_arrays_reach_the_device_whole(cp, library, view, pinned):
    grid = np.random.default_rng(0).random((5, LARGE // 5 * 2))
    if pinned:
        grid = torch.from_numpy(grid).pin_memory().numpy()
    expected = eval(view, {"x": grid}).copy()
    made = interop.convert(eval(view, {"x": grid}), library, device="cuda")
    grid[...] = -1  # it was read
    assert np.array_equal(to_numpy(made, device="cpu"), expected)


def test_an_upload_of_cupys_does_not_wait_for_the_stream(cp):
    stream = cp.cuda.Stream(non_blocking=True)

    def upload(milliseconds):
        data = np.arange(1000.0)
        with stream:
            delay = busy(milliseconds, stream)
            made = interop.to_cupy(data, device="cuda")
            delay.must_run()
            data[:] = -1
            return made.get()

    assert np.array_equal(rehearsed(upload), np.arange(1000.0))


CROSSINGS = {
    "to the host": lambda x: to_numpy(x, device="cpu"),
    "not blocking": lambda x: to_numpy(x, device="cpu", blocking=False),
    "tree": lambda x: interop.tree.convert([x, x[1:]], "numpy", transfer="allow"),
    "to torch": lambda x: interop.to_torch(np.ones(3), device="cuda"),
    "to cupy": lambda x: interop.to_cupy(np.ones(3), device="cuda"),
}


@pytest.mark.parametrize("cross", CROSSINGS)
@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_nothing_crosses_inside_of_a_capture_and_the_capture_goes_on(cp, library, cross):
    tensor = torch.ones(8, device="cuda")
    x = tensor if library == "torch" else interop.to_cupy(tensor)
    graph = torch.cuda.CUDAGraph()
    tensor.add_(0)  # loaded before
    torch.cuda.synchronize()
    with torch.cuda.graph(graph), interop.cuda.stream():
        with pytest.raises(interop.StreamError, match="graph is being captured"):
            CROSSINGS[cross](x)
        tensor.add_(1)
    graph.replay()
    torch.cuda.synchronize()
    assert tensor.tolist() == [2] * 8


def test_a_large_crossing_waits_for_the_work_before_it(cp):
    side, host = torch.cuda.Stream(), np.full(4 * COUNT, 4, "float32")

    def cross(milliseconds):
        with torch.cuda.stream(side):
            tensor, delay = late(milliseconds, 4 * COUNT)
            delay.must_run()
            down = to_numpy(tensor, device="cpu")
            delay = busy(milliseconds)
            made = interop.to_torch(host, device="cuda") + tensor
            side.synchronize()
        return bool((down == 3).all()), bool((made == 7).all())

    assert rehearsed(cross) == (True, True)


# Many small arrays of a tree.


@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_the_small_arrays_of_a_tree_travel_together(cp, library, monkeypatch):
    from interop.backends import load_backend

    backend = load_backend(library)
    copy_many, asked = backend.copy_many_to_host, []
    monkeypatch.setattr(
        backend, "copy_many_to_host", lambda arrays, device: asked.append(len(arrays)) or copy_many(arrays, device), raising=False
    )
    host = [np.arange(n % 5 + 1).astype(("float32", "int64", "bool", "complex64")[n % 4]) for n in range(100)]
    tree = {"a": [torch.from_numpy(x).cuda() if library == "torch" else cp.asarray(x) for x in host], "b": np.ones(3)}
    made = interop.tree.convert(tree, "numpy", device="cpu")
    assert asked == [100]
    assert made["b"] is tree["b"]
    for was, now in zip(host, made["a"], strict=True):
        assert was.dtype == now.dtype
        assert np.array_equal(was, now)


def test_the_tree_waits_for_the_work_before_it(cp):
    side = torch.cuda.Stream()

    def cross(milliseconds):
        with torch.cuda.stream(side):
            tree = [torch.zeros(100, device="cuda") for _ in range(50)]
            delay = busy(milliseconds)
            for one in tree:
                one.fill_(3 if milliseconds else -3)  # what the rehearsal leaves in page-locked memory must not be right
            delay.must_run()
            return interop.tree.convert(tree, "numpy", transfer="allow")

    assert all((one == 3).all() for one in rehearsed(cross))


def test_a_model_on_the_device_goes_to_the_host_and_keeps_its_graph_there(cp):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)).cuda()
    with pytest.raises(interop.GradError):
        interop.tree.convert(dict(model.named_parameters()), "numpy", transfer="allow")
    made = interop.tree.convert(dict(model.named_parameters()), "numpy", transfer="allow", grad="detach")
    for name, parameter in model.named_parameters():
        assert np.array_equal(made[name], parameter.detach().cpu().numpy())
        assert parameter.requires_grad
