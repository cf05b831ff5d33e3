"""Trees, records, guards and neutral functions where data really lie on a GPU."""

import array_api_compat
import numpy as np
import pytest

import interop
from interop import guard, neutral, record
from interop.errors import MixedBackendsError, TransferError

pytestmark = pytest.mark.gpu


def cuda(library):
    if library == "torch":
        import torch

        return torch.arange(4.0, device="cuda")
    import cupy

    return cupy.arange(4, dtype="float32")


LIBRARIES = pytest.mark.parametrize("library", ["torch", "cupy"])


@LIBRARIES
def test_a_function_for_numpy_brings_its_results_back_to_the_gpu(library):
    @neutral(runs_on="numpy", transfer="allow")
    def statistics(x):
        assert type(x) is np.ndarray
        return {"sum": np.sum(x), "twice": [x * 2], "n": 4}

    x = cuda(library)
    with record() as log:
        found = statistics(x)
    assert [type(found["sum"]), type(found["twice"][0])] == [type(x)] * 2
    assert array_api_compat.device(found["twice"][0]) == array_api_compat.device(x)
    assert (float(found["sum"]), float(found["twice"][0][3]), found["n"]) == (6.0, 6.0, 4)
    assert {crossing.path for crossing in log.transfers} == {"x", "result['sum']", "result['twice'][0]"}
    with pytest.raises(TransferError, match="at a"):  # as NumPy calls it
        neutral(runs_on="numpy")(np.sum)(x)


@LIBRARIES
def test_a_function_for_cupy_takes_tensors_without_a_copy(library):
    @neutral(runs_on="cupy")
    def double(x):
        import cupy

        assert type(x) is cupy.ndarray
        return x * 2

    x = cuda(library)
    with record() as log:
        found = double(x)
    assert type(found) is type(x)
    assert float(found[3]) == 6.0
    assert log.bytes_copied == 0


def test_libraries_and_devices_are_told_apart():
    import torch

    @neutral
    def add(x, y, *, xp=None):
        return xp.add(x, y)

    with pytest.raises(MixedBackendsError, match="several devices"):
        add(torch.ones(4), cuda("torch"))
    with pytest.raises(MixedBackendsError, match="several libraries"):
        add(cuda("cupy"), cuda("torch"))
    follow = neutral(like="first")(lambda x, y: x + y)
    assert type(follow(cuda("cupy"), cuda("torch"))) is type(cuda("cupy"))


@LIBRARIES
def test_a_tree_goes_to_the_host_and_back(library):
    x = cuda(library)
    source = {"a": x, "b": [x, np.ones(2)]}
    with pytest.raises(TransferError) as caught:
        interop.tree.convert(source, "numpy")
    assert [refusal.path for refusal in caught.value.refusals] == ["tree['a']", "tree['b'][0]"]
    there = interop.tree.convert(source, "numpy", **caught.value.permissions)
    assert there["a"] is there["b"][0]
    back = interop.tree.convert({"a": there["a"]}, like=x, transfer="allow")
    assert float(back["a"][3]) == 3.0


@LIBRARIES
def test_explicit_crossings_are_recorded_and_guarded(library):
    x = cuda(library)
    with record() as log:
        interop.to_numpy(x, device="cpu")
    assert [crossing.bytes for crossing in log.transfers] == [16]
    with guard(transfers="error"), pytest.raises(TransferError, match="a guard forbids transfers"):
        interop.to_numpy(x, device="cpu")


def test_handing_over_on_the_gpu_is_neither_copy_nor_transfer():
    with guard(), record() as log:
        interop.to_torch(cuda("cupy"))
        interop.to_cupy(cuda("torch"))
    assert [crossing.shared for crossing in log.crossings] == [True, True]


def test_a_native_guard_sees_torch_leave_the_gpu():
    x = cuda("torch")
    with guard(transfers="error", native=True):
        x * 2
        for leave in (x.cpu, x.tolist, x.sum().item, lambda: x.to("cpu")):
            with pytest.raises(TransferError):
                leave()
    assert x.cpu().sum() == 6
