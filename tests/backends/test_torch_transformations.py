"""Inside torch's transformations, modes and traces: wrappers have no data, and plain tensors keep theirs."""

import warnings

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from interop import GradError, NoDataError, describe, shares_memory, to_numpy, to_torch

X = torch.arange(6.0).reshape(2, 3)
CLOSED_OVER = torch.arange(4.0)
ARRAY = np.arange(4.0)


def refusal(x):
    with pytest.raises(NoDataError) as caught:
        to_numpy(x)
    assert caught.value.permissions == {}
    for policy in ("strict", "coerce"):
        with pytest.raises(NoDataError):
            to_numpy(x, policy=policy)
    return describe(x).no_data


def inside(transform, *arguments):
    """Return what a function saw when called by a transformation."""
    seen = {}

    def function(x):
        seen["wrapper"] = refusal(x)
        seen["plain"] = shares_memory(to_numpy(CLOSED_OVER), CLOSED_OVER)
        made = to_torch(ARRAY)
        seen["made"] = type(made) is torch.Tensor and describe(made).no_data is None and shares_memory(made, ARRAY)
        return (x * 2).sum()

    transform(function)(*arguments)
    return seen


def jvp(function):
    return lambda x: torch.func.jvp(function, (x,), (torch.ones_like(x),))


@pytest.mark.parametrize(
    ("transform", "name"),
    [
        (torch.func.vmap, "vmap"),
        (torch.func.grad, "grad"),
        (jvp, "jvp"),
        (torch.func.functionalize, "functional"),
        (lambda f: torch.func.vmap(torch.func.grad(f)), "grad"),
        (lambda f: torch.func.grad(lambda x: torch.func.vmap(f)(x).sum()), "vmap"),
    ],
)
def test_transformations(transform, name):
    assert inside(transform, X.clone()) == {"wrapper": name, "plain": True, "made": True}


def test_fake_tensors_have_no_data_and_real_ones_under_the_mode_do():
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert refusal(torch.ones(2)) == "fake"
        assert refusal(mode.from_tensor(X)) == "fake"
        assert to_numpy(X).tolist() == X.tolist()
        made = to_torch(ARRAY)
    assert type(made) is torch.Tensor
    assert shares_memory(made, ARRAY)


def test_a_mode_is_not_asked_about_a_real_tensor():
    class Nosy(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            raise AssertionError(func)

    with Nosy():
        with pytest.raises(AssertionError):  # the negative control: torch's own way goes through the mode
            X.numpy()
        assert shares_memory(to_numpy(X), X)
        assert to_torch(ARRAY).tolist() == ARRAY.tolist()


def test_a_traced_tensor_would_become_a_constant():
    seen = []

    def function(x):
        seen.append(refusal(x))
        return x * 2

    make_fx(function)(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.trace announces its deprecation
        torch.jit.trace(function, (X,), check_trace=False)
    assert set(seen) == {"traced"}


def test_a_dual_tensor_keeps_its_tangent():
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(X.clone(), torch.ones_like(X))
        with pytest.raises(GradError, match="tangent"):
            to_numpy(dual)
        assert np.array_equal(to_numpy(dual, grad="detach"), X.numpy())
        assert forward_ad.unpack_dual(dual).tangent is not None
        assert shares_memory(to_numpy(X), X)


@pytest.mark.parametrize("scope", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_a_tracked_tensor_is_refused_whatever_the_grad_mode(scope):
    parameter = torch.nn.Parameter(X.clone())
    with scope():
        with pytest.raises(GradError):
            to_numpy(parameter)
        view = to_numpy(parameter, grad="detach")
        assert not view.flags.writeable
        assert shares_memory(view, parameter)
        assert to_numpy(parameter, grad="detach", readonly="share").flags.writeable
        assert to_numpy(parameter, grad="detach", copy=True).flags.writeable


def test_within_torch_the_graph_is_kept():
    leaf = X.clone().requires_grad_()
    assert to_torch(leaf) is leaf
    copy = to_torch(leaf, copy=True, dtype="float64")
    copy.sum().backward()
    assert torch.equal(leaf.grad, torch.ones_like(X))
    assert to_torch(leaf, copy=True).grad_fn is not None
    assert type(to_torch(torch.nn.Parameter(X))) is torch.nn.Parameter


def test_conversions_in_threads_see_only_their_own_mode():
    from concurrent.futures import ThreadPoolExecutor

    with FakeTensorMode(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: type(to_torch(ARRAY))).result() is torch.Tensor
