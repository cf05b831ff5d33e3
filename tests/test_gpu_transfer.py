"""Transfers that nobody waits for, on CUDA for real. Run by ``make gpu``."""

import gc

import numpy as np
import pytest
import torch

import interop
from interop import TransferError, to_numpy

pytestmark = pytest.mark.gpu

COUNT = 1 << 22


@pytest.fixture(name="cp")
def cupy_module():
    """Return CuPy, with everything done once: compiling a kernel and locking pages may take longer than a delay, or wait for the device."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    for x in (torch.zeros(COUNT, device="cuda").fill_(3), cupy.zeros(COUNT, dtype="float32")):
        kept = [to_numpy(x, device="cpu", blocking=False) for _ in range(2)]
        assert len([one.result() for one in kept]) == 2
    x.fill(3)
    cupy.full(COUNT, 7, dtype="float32")
    torch.cuda.synchronize()
    return cupy


def behind_a_delay():
    """Return a tensor whose values are there after a while."""
    tensor = torch.zeros(COUNT, device="cuda")
    torch.cuda.synchronize()
    torch.cuda._sleep(400_000_000)
    return tensor.fill_(3)


def test_the_call_returns_before_the_data_are_there_and_the_result_after(cp):
    tensor = behind_a_delay()
    transfer = to_numpy(tensor, device="cpu", blocking=False)
    assert not transfer.done()
    del tensor
    torch.full((COUNT,), 7.0, device="cuda")  # would get the memory
    result = transfer.result()
    assert transfer.done()
    assert np.array_equal(result, np.full(COUNT, 3, "float32"))


def test_without_the_wait_the_data_are_not_there(cp):
    """The negative control: the memory as it is before the copy has ended."""
    from interop.backends import load_backend

    departure = load_backend("torch").depart(behind_a_delay(), None, None)
    departure.host.numpy()[:3] = -1
    assert departure.host.numpy()[:3].tolist() == [-1, -1, -1]
    departure.wait()
    assert departure.host.numpy()[:3].tolist() == [3, 3, 3]


def test_from_cupy_too(cp):
    array = cp.zeros(COUNT, dtype="float32")
    cp.cuda.Device().synchronize()
    busy = cp.cuda.Stream(non_blocking=True)
    with busy:
        with torch.cuda.stream(torch.cuda.ExternalStream(busy.ptr)):
            torch.cuda._sleep(400_000_000)
        array.fill(3)
        transfer = to_numpy(array, device="cpu", blocking=False)
        assert not transfer.done()
        del array
        again = cp.full(COUNT, 7, dtype="float32")
        result = transfer.result()
    assert np.array_equal(result, np.full(COUNT, 3, "float32"))
    assert float(again[0]) == 7


def test_one_that_nobody_asks_harms_nobody(cp):
    for make in (behind_a_delay, lambda: interop.to_cupy(behind_a_delay())):
        to_numpy(make(), device="cpu", blocking=False)
        gc.collect()
        others = [to_numpy(torch.full((COUNT,), 5.0, device="cuda"), device="cpu", blocking=False) for _ in range(3)]
        assert all(np.array_equal(one.result(), np.full(COUNT, 5, "float32")) for one in others)


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
    tensor = behind_a_delay()
    x = tensor if library == "torch" else cp.from_dlpack(tensor)
    result = to_numpy(x, device="cpu", blocking=blocking, stream=side)
    assert (result if blocking else result.result())[0] == 3


def test_what_interop_does_before_comes_before_on_another_stream_too(cp):
    x = torch.complex(behind_a_delay(), torch.ones(COUNT, device="cuda")).conj()
    torch.cuda._sleep(400_000_000)
    result = to_numpy(x, device="cpu", stream=torch.cuda.Stream())
    assert result[0] == 3 - 1j


def test_on_a_stream_of_the_callers(cp):
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        tensor = behind_a_delay()
    result = to_numpy(tensor, device="cpu", blocking=False, stream=side).result()
    assert result[0] == 3


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
    data = np.arange(1000.0)
    interop.to_cupy(data, device="cuda")
    with cp.cuda.Stream(non_blocking=True) as stream:
        with torch.cuda.stream(torch.cuda.ExternalStream(stream.ptr)):
            torch.cuda._sleep(400_000_000)
        made = interop.to_cupy(data, device="cuda")
        assert not stream.done
        data[:] = -1
        assert np.array_equal(made.get(), np.arange(1000.0))


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
    torch.cuda.synchronize()
    with torch.cuda.graph(graph), interop.cuda.stream():
        with pytest.raises(interop.StreamError, match="graph is being captured"):
            CROSSINGS[cross](x)
        tensor.add_(1)
    graph.replay()
    torch.cuda.synchronize()
    assert tensor.tolist() == [2] * 8


def test_a_large_crossing_waits_for_the_work_before_it(cp):
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        tensor = torch.zeros(1 << 24, device="cuda")
        side.synchronize()
        torch.cuda._sleep(400_000_000)
        tensor.fill_(3)
        assert (to_numpy(tensor, device="cpu") == 3).all()
        made = interop.to_torch(np.full(1 << 24, 4, "float32"), device="cuda") + tensor
    side.synchronize()
    assert bool((made == 7).all())


# Many small arrays of a tree.


@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_the_small_arrays_of_a_tree_travel_together(cp, library, monkeypatch):
    from interop.backends import load_backend

    backend = load_backend(library)
    fetch, asked = backend.fetch, []
    monkeypatch.setattr(backend, "fetch", lambda arrays, device: asked.append(len(arrays)) or fetch(arrays, device), raising=False)
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
    with torch.cuda.stream(side):
        tree = [torch.zeros(100, device="cuda") for _ in range(50)]
        side.synchronize()
        torch.cuda._sleep(400_000_000)
        for one in tree:
            one.fill_(3)
        made = interop.tree.convert(tree, "numpy", transfer="allow")
    assert all((one == 3).all() for one in made)


def test_a_model_on_the_device_goes_to_the_host_and_keeps_its_graph_there(cp):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)).cuda()
    with pytest.raises(interop.GradError):
        interop.tree.convert(dict(model.named_parameters()), "numpy", transfer="allow")
    made = interop.tree.convert(dict(model.named_parameters()), "numpy", transfer="allow", grad="detach")
    for name, parameter in model.named_parameters():
        assert np.array_equal(made[name], parameter.detach().cpu().numpy())
        assert parameter.requires_grad
