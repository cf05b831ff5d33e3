"""Functions of NumPy inside torch's graph: what they are given, what becomes of their gradients, and what is refused."""

import copy
import gc
import inspect
import pickle
import threading
import weakref
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

import interop
from interop import DTypeError, GradError, UnsupportedTypeError
from interop.autograd import Context, Wrapped, wrap
from interop.autograd._arguments import taken
from interop.autograd._torch.functions import TENSORS

FLOATS = ["float16", "bfloat16", "float32", "float64"]
COMPLEX = ["complex64", "complex128"]


def double(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


@wrap(runs_on="numpy")
def sin(x):
    return np.sin(x)


@sin.backward
def _(ctx, grad):
    (x,) = ctx.saved_tensors
    return grad * np.cos(x)


@sin.jvp
def _(ctx, tangent):
    (x,) = ctx.saved_tensors
    return tangent * np.cos(x)


@wrap(runs_on="numpy")
def multiply(x, y):
    return x * y


@multiply.backward
def _(ctx, grad):
    x, y = ctx.saved_tensors
    return grad * np.conj(y), grad * np.conj(x)


@multiply.jvp
def _(ctx, dx, dy):
    x, y = ctx.saved_tensors
    return (0 if dx is None else dx * y) + (0 if dy is None else x * dy)


# What the function is given.


def test_the_function_is_given_the_tensors_memory_and_cannot_write_to_it():
    seen = []
    look = wrap(lambda x: seen.append(x) or np.array(x), runs_on="numpy")
    for x in (torch.ones(3), torch.ones(3, requires_grad=True), torch.nn.Parameter(torch.ones(3))):
        look(x)
        assert interop.shares_memory(seen[-1], x.detach())
        with pytest.raises(ValueError, match="read-only"):
            seen[-1][0] = 2


def test_a_write_is_possible_where_it_is_permitted():
    def clear(x):
        x[...] = 0
        return np.array(x)

    x = torch.ones(3)
    wrap(clear, runs_on="numpy", readonly="share")(x)
    assert x.sum() == 0


def test_a_view_of_an_input_is_copied_for_the_result():
    reverse = wrap(lambda x: x[1:], runs_on="numpy")
    x = torch.arange(3.0)
    assert not interop.shares_memory(reverse(x), x)


@pytest.mark.parametrize("dtype", FLOATS + COMPLEX)
def test_every_dtype_of_floats(dtype):
    x = torch.tensor([0.5, 1.5], dtype=getattr(torch, dtype), requires_grad=True)
    y = torch.tensor([2.0, 3.0], dtype=getattr(torch, dtype), requires_grad=True)
    result = multiply(x, y)
    assert result.dtype == x.dtype
    result.sum().real.backward()
    assert (x.grad == y).all()
    assert (y.grad == x).all()
    assert x.grad.dtype == x.dtype


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_small_floats(dtype):
    """Nobody adds them, so the function and its rule widen and narrow them."""
    wide = wrap(lambda x: x.astype("float32") * 2, lambda ctx, grad: (2 * grad).astype(ctx.saved_tensors[0].dtype), runs_on="numpy")
    x = torch.tensor([0.5, 1.0]).to(getattr(torch, dtype)).requires_grad_()
    wide(x).sum().backward()
    assert x.grad.dtype == x.dtype
    assert x.grad.float().tolist() == [2, 2]


def test_complex_gradients_are_torchs():
    x, y = (torch.randn(3, dtype=torch.complex128, requires_grad=True) for _ in "xy")
    assert gradcheck(multiply, (x, y))
    assert gradcheck(lambda x, y: multiply(x.conj(), y), (x, y))  # pending conjugations, both ways
    modulus = wrap(np.abs, lambda ctx, grad: grad * ctx.saved_tensors[0] / np.abs(ctx.saved_tensors[0]), runs_on="numpy")
    assert gradcheck(modulus, (x,))


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.t(),
        lambda x: x[::2, 1:],
        lambda x: x.expand(2, *x.shape),
        lambda x: x[0, 0],
        lambda x: x[:0],
        lambda x: x.reshape(-1),
        lambda x: torch.flip(x, (0,)),
    ],
)
def test_layouts(make):
    x = double(4, 4)
    given = make(x)
    assert torch.allclose(sin(given), torch.sin(given))
    assert gradcheck(lambda x: sin(make(x)), (x,))


def test_a_scalar_of_numpy_is_a_result_without_axes():
    total = wrap(np.sum, lambda ctx, grad: np.broadcast_to(grad, ctx.saved_tensors[0].shape), runs_on="numpy")
    x = double(3)
    assert total(x).shape == ()
    assert gradcheck(total, (x,))


# Arguments and results.


class Pair(NamedTuple):
    left: object
    right: object


@dataclass
class Weights:
    scale: object
    shifts: list


def test_arguments_of_all_kinds():
    @wrap(runs_on="numpy")
    def affine(x, factor=2.0, /, *shifts, name="f", power=1):
        assert name == "g"
        return (factor * x) ** power + sum(shifts)

    @affine.backward
    def _(ctx, grad):
        return 2 * grad, None, *[grad] * (len(ctx.needs_input_grad) - 2)

    x, one, two = double(2), double(2), double(2)
    result = affine(x, 2.0, one, two, name="g")
    assert torch.allclose(result, 2 * x + one + two)
    result.sum().backward()
    assert x.grad.tolist() == [2, 2]
    assert one.grad.tolist() == two.grad.tolist() == [1, 1]
    by_name = wrap(lambda x, y: x - y, lambda ctx, grad: (grad, -grad), runs_on="numpy")
    by_name(y=x, x=one).sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_a_keyword_after_a_default():
    pick = wrap(lambda x, b=None, c=None: x * c, lambda ctx, g: (g * ctx.saved_tensors[1], None, g * ctx.saved_tensors[0]), runs_on="numpy")
    x, c = double(2), double(2)
    pick(x, c=c).sum().backward()
    assert torch.equal(c.grad, x.detach())


def test_needs_input_grad_is_of_the_rule():
    def early(ctx, x):
        return x * 1 if any(ctx.needs_input_grad) else x

    with pytest.raises(RuntimeError, match="in the backward rule"):
        wrap(early, runs_on="numpy")(double(2))


def test_arguments_left_to_their_defaults():
    scale = wrap(lambda x, factor=3.0: factor * x, lambda ctx, grad: (3 * grad, None), runs_on="numpy")
    x = double(2)
    (scale(x) + scale(x, 3.0) + scale(factor=3.0, x=x)).sum().backward()
    assert x.grad.tolist() == [9, 9]


def test_a_tensor_by_keyword_only_has_no_gradient():
    shift = wrap(lambda x, *, by: x + by, lambda ctx, grad: grad, runs_on="numpy")
    x, by = double(2), double(2)
    with pytest.raises(GradError, match="'by' is given by keyword only"):
        shift(x, by=by)
    with forward_ad.dual_level(), pytest.raises(GradError, match="by keyword only"):
        shift(x.detach(), by=forward_ad.make_dual(by.detach(), by.detach()))
    with pytest.raises(GradError, match="by keyword only"):
        torch.func.grad(lambda by: torch.vmap(lambda by: shift(x.detach(), by=by))(by).sum())(torch.ones(3, 2).double())
    shift(x, by=by.detach()).sum().backward()
    assert x.grad.tolist() == [1, 1]
    with torch.no_grad():
        shift(x, by=by)


def test_trees_in_and_out():
    @wrap(runs_on="numpy")
    def mix(pair, weights, extra):
        assert isinstance(pair, Pair)
        assert isinstance(weights, Weights)
        return {"sum": pair.left + pair.right, "n": 3}, [weights.scale * weights.shifts[0], weights.shifts[1]]

    @mix.backward
    def _(ctx, first, second):
        assert ctx.needs_input_grad[0] == Pair(left=True, right=False)
        assert first["n"] is None
        _, _, scale, shift, _ = ctx.saved_tensors
        return (
            Pair(first["sum"], first["sum"]),
            Weights(scale=second[0] * shift, shifts=[second[0] * scale, None]),
            None,
        )

    left, right, scale, shift, other = double(2), torch.ones(2, dtype=torch.float64), double(2), double(2), double(2)
    first, second = mix(Pair(left, right), Weights(scale, [shift, other]), {"a": "text"})
    assert first["n"] == 3
    assert torch.equal(first["sum"], left + right)
    (first["sum"].sum() + second[0].sum()).backward()
    assert left.grad.tolist() == [1, 1]
    assert torch.equal(scale.grad, shift.detach())
    assert torch.equal(shift.grad, scale.detach())
    assert right.grad is None
    assert other.grad is None


def test_parts_of_a_tree_may_have_no_gradient():
    pick = wrap(lambda tree: tree["a"] * 2 + tree["b"], lambda ctx, grad: ({"a": 2 * grad},), runs_on="numpy")
    a, b = double(2), double(2)
    pick({"a": a, "b": b}).sum().backward()
    assert a.grad.tolist() == [2, 2]
    assert b.grad is None


def test_several_results_and_integers_among_them():
    @wrap(runs_on="numpy")
    def order(x):
        at = np.argsort(x)
        return x[at], at

    @order.backward
    def _(ctx, grad, nothing):
        (x,) = ctx.saved_tensors
        result = np.zeros_like(x)
        result[np.argsort(x)] = grad
        return result

    x = double(5)
    values, at = order(x)
    assert not at.requires_grad
    assert torch.equal(x[at], values)
    assert gradcheck(lambda x: order(x)[0], (x,))


def test_one_tensor_twice():
    x = double(3)
    multiply(x, x).sum().backward()
    assert torch.equal(x.grad, 2 * x.detach())


def test_one_array_as_two_results():
    def push(ctx, tangent):
        return 2 * tangent, 2 * tangent

    twice = wrap(lambda x: (x * 2,) * 2, lambda ctx, one, two: 2 * (one + two), runs_on="numpy", jvp=push)
    x = double(3)
    with forward_ad.dual_level():
        results = twice(forward_ad.make_dual(x.detach(), x.detach()))
        assert all(torch.equal(forward_ad.unpack_dual(result).tangent, 2 * x) for result in results)
    one, two = twice(x)
    (one + 3 * two).sum().backward()
    assert x.grad.tolist() == [8, 8, 8]


@pytest.mark.parametrize("rule", [lambda a: (a, a), lambda a: (a, a[:]), lambda a: (a, a[::-1])], ids=["one", "view", "reversed"])
@pytest.mark.parametrize("saves", [False, True])
def test_gradients_on_the_same_memory_are_taken_apart(rule, saves):
    def backward(ctx, grad):
        return rule(np.array(grad))

    setup = (lambda ctx, inputs, output: None) if saves else None
    x, y = double(3), double(3)
    add = wrap(lambda x, y: x + y, backward, runs_on="numpy", setup_context=setup)
    add(x, y).sum().backward()
    assert not interop.shares_memory(x.grad, y.grad)
    x.grad.zero_()
    assert y.grad.tolist() == [1, 1, 1]


def test_a_gradient_that_is_handed_on_is_not_copied():
    add = wrap(lambda x, y: x + y, lambda ctx, grad: (grad, grad), runs_on="numpy")
    minus = wrap(lambda x, y: x - y, lambda ctx, grad: (grad, -grad), runs_on="numpy", setup_context=lambda *_: None)
    x, y = double(3), double(3)
    with interop.guard(copies="error"):
        (add(x, y) + minus(x, y)).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
    assert y.grad.tolist() == [0, 0, 0]
    given = torch.ones(3, dtype=torch.float64)
    found = torch.autograd.grad(add(x, y), (x, y), given)
    assert [one.data_ptr() for one in found] == [given.data_ptr()] * 2
    x.grad = y.grad = None
    add(x, y).sum().backward()
    x.grad.zero_()
    assert y.grad.tolist() == [1, 1, 1]


def test_a_rule_that_is_given_tensors_returns_tensors():
    mixed = wrap(lambda x: x * 2, lambda ctx, grad: 2 * grad.numpy(), runs_on="numpy", once_differentiable=False)
    with pytest.raises(UnsupportedTypeError, match="is a ndarray, not a tensor") as caught:
        mixed(double(2)).sum().backward()
    assert "once_differentiable=False" in caught.value.hint


def test_a_rule_of_tensors_under_vmap():
    product = wrap(
        lambda x, y: x * y,
        lambda ctx, grad: (grad * ctx.saved_tensors[1], grad * ctx.saved_tensors[0]),
        runs_on="numpy",
        once_differentiable=False,
    )
    x, y = double(3), double(3)
    result = product(x, y)
    rows = torch.vmap(lambda v: torch.autograd.grad(result, (x, y), v, retain_graph=True)[0])(torch.eye(3, dtype=torch.float64))
    assert torch.equal(rows, torch.diag(y.detach()))


def test_results_on_the_same_memory_are_taken_apart():
    @wrap(runs_on="numpy")
    def parts(x):
        result = 2 * x
        return result, result[1:], result[:1]

    whole, tail, head = parts(double(3))
    for one, other in ((whole, tail), (whole, head), (tail, head)):
        assert not interop.shares_memory(one.detach(), other.detach())


def test_gradients_of_broadcast_inputs_are_summed():
    x, y = double(3, 1), double(2, 1, 4)
    assert gradcheck(multiply, (x, y))
    assert gradcheck(multiply, (double(), y))


@pytest.mark.parametrize(("returned", "kind"), [(lambda x: float(x.sum()), "float"), (lambda x: complex(x.sum()), "complex")])
def test_python_numbers_cannot_carry_a_gradient(returned, kind):
    with pytest.raises(UnsupportedTypeError, match=rf"returned a Python {kind}") as caught:
        wrap(returned, runs_on="numpy")(double(2))
    assert "numpy.asarray" in caught.value.hint


def test_results_that_are_no_arrays():
    with pytest.raises(UnsupportedTypeError, match=r"returned a interop\.autograd\._context\.Context, not arrays"):
        wrap(lambda x: Context(), runs_on="numpy")(double(2))
    assert wrap(lambda x: (None, "a", 3), runs_on="numpy")(torch.ones(2)) == (None, "a", 3)


# Gradients that are none.


@pytest.mark.parametrize(
    ("rule", "error", "match"),
    [
        (lambda ctx, grad: (grad,), TypeError, r"the backward of multiply returned 1 gradients, .* got 2 arguments"),
        (lambda ctx, grad: (grad, grad, grad), TypeError, "returned 3 gradients"),
        (lambda ctx, grad: (grad[:1], grad), GradError, r"the gradient of 'x' has shape \(1,\), the input \(3,\)"),
        (lambda ctx, grad: (grad, grad[:, None][:2]), GradError, r"the gradient of 'y' has shape \(2, 1\)"),
        (lambda ctx, grad: (grad, grad.astype("float32")), DTypeError, "the gradient of 'y' is float32, the input float64"),
        (lambda ctx, grad: (grad.astype("complex128"), grad), DTypeError, "the gradient of 'x' is complex128"),
        (lambda ctx, grad: (grad, "y"), UnsupportedTypeError, "the gradient of 'y' is a str, not an array"),
        (lambda ctx, grad: (grad, 0.0), UnsupportedTypeError, "the gradient of 'y' is a float"),
    ],
)
def test_gradients_are_checked(rule, error, match):
    def multiply(x, y):
        return x * y

    x, y = double(3), double(3)
    with pytest.raises(error, match=match):
        wrap(multiply, rule, runs_on="numpy")(x, y).sum().backward()
    assert x.grad is None


def test_a_gradient_for_what_is_no_tensor():
    scale = wrap(lambda x, factor: x * factor, lambda ctx, grad: (grad, grad), runs_on="numpy")
    with pytest.raises(TypeError, match="a gradient for 'factor', which is no tensor"):
        scale(double(2), 3.0).sum().backward()
    nested = wrap(lambda tree: tree["a"], lambda ctx, grad: ({"b": grad},), runs_on="numpy")
    with pytest.raises(TypeError, match=r"a gradient at tree\['b'\]"):
        nested({"a": double(2), "b": 3}).sum().backward()


def test_the_permission_of_a_refused_dtype_makes_it_pass():
    def widen(x):
        return x.astype("float64")

    x = torch.ones(2, requires_grad=True)
    with pytest.raises(DTypeError, match="is float64, the input float32") as caught:
        wrap(widen, lambda ctx, grad: grad, runs_on="numpy")(x).sum().backward()
    assert caught.value.permissions == {"casting": "same_kind"}
    wrap(widen, lambda ctx, grad: grad, runs_on="numpy", **caught.value.permissions)(x).sum().backward()
    assert x.grad.dtype == torch.float32


def test_gradients_that_are_not_needed_are_not_looked_at():
    needed = []

    def rule(ctx, grad):
        needed.append(ctx.needs_input_grad)
        return grad, "nonsense"

    wrap(lambda x, y: x + y, rule, runs_on="numpy")(double(2), torch.ones(2)).sum().backward()
    assert needed == [(True, False)]


def test_without_a_backward():
    @wrap(runs_on="numpy")
    def opaque(x):
        return x + 1

    x = double(2)
    result = opaque(x)
    assert result.tolist() == (x + 1).tolist()
    with pytest.raises(GradError, match="opaque has no backward") as caught:
        result.sum().backward()
    assert "@opaque.backward" in caught.value.hint
    late = wrap(lambda x: x * 2, runs_on="numpy")
    result = late(x)
    with pytest.raises(GradError, match="has no backward") as nameless:
        result.sum().backward()
    assert "@f.backward" in nameless.value.hint
    result = late(x)
    late.backward(lambda ctx, grad: 2 * grad)
    with pytest.raises(GradError, match="was given its backward after this call"):
        result.sum().backward()


# What is saved.


def test_what_was_saved_and_is_changed_in_place_is_an_error():
    x = double(3)
    leaf = x * 1
    result = sin(leaf)
    leaf.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()


def exp_setup(ctx, inputs, output):
    ctx.save_for_backward(output)
    ctx.name = "exp"


def exp_backward(ctx, grad):
    assert ctx.name == "exp"
    return grad * ctx.saved_tensors[0]


def test_setup_context_saves_results():
    exp = wrap(np.exp, exp_backward, runs_on="numpy", setup_context=exp_setup)
    x = double(3)
    assert gradcheck(exp, (x,))
    result = exp(x)
    result.detach().add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()


def test_a_function_with_ctx_saves_what_it_likes():
    @wrap(runs_on="numpy")
    def tanh(ctx, x):
        y = np.tanh(x)
        slope = 1 - y * y
        ctx.save_for_backward(slope, None, x, y)
        ctx.size = x.size
        return y

    @tanh.backward
    def _(ctx, grad):
        slope, none, x, y = ctx.saved_tensors
        assert none is None
        assert ctx.size == x.size
        assert np.array_equal(np.tanh(x), y)
        return grad * slope

    x = double(3)
    assert gradcheck(tanh, (x,))
    assert isinstance(tanh(x), torch.Tensor)
    assert torch.allclose(torch.func.grad(lambda x: tanh(x).sum())(x.detach()), 1 - torch.tanh(x.detach()) ** 2)
    assert isinstance(tanh(np.ones(2)), np.ndarray)


def test_only_arrays_are_saved():
    def store(ctx, x):
        ctx.save_for_backward({"a": x})
        return x * 1

    with pytest.raises(UnsupportedTypeError, match="save_for_backward got a dict") as caught:
        wrap(store, runs_on="numpy")(double(2))
    assert "ctx.name = value" in caught.value.hint


def test_the_context_says_when_it_is_asked_too_early():
    def early(ctx, x):
        return ctx.saved_tensors

    with pytest.raises(RuntimeError, match="in the rules"):
        wrap(early, runs_on="numpy")(double(2))
    with pytest.raises(TypeError, match="cannot modify its inputs in place"):
        wrap(lambda ctx, x: ctx.mark_dirty(x), runs_on="numpy")(double(2))


def test_results_may_be_marked_as_not_differentiable():
    def split(ctx, x):
        rest = x % 1
        whole = x - rest
        ctx.mark_non_differentiable(whole)
        return whole, rest

    seen = []

    def rule(ctx, whole, rest):
        seen.append(whole)
        return rest

    x = double(3)
    whole, rest = wrap(split, rule, runs_on="numpy")(x)
    assert not whole.requires_grad
    rest.sum().backward()
    assert x.grad.tolist() == [1, 1, 1]
    assert not seen[0].any()


@pytest.mark.parametrize("materializes", [True, False])
def test_gradients_of_results_that_were_not_used(materializes):
    def split(ctx, x):
        ctx.set_materialize_grads(materializes)
        return x * 1, x * 2

    seen = []

    def rule(ctx, one, two):
        seen.append(one)
        return 2 * two

    x = double(3)
    wrap(split, rule, runs_on="numpy")(x)[1].sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
    assert (seen[0] is None) != materializes
    assert not materializes or seen[0].tolist() == [0, 0, 0]


def test_what_is_saved_cannot_be_written_to():
    def rule(ctx, grad):
        for array in (*ctx.saved_tensors, grad):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0
        return grad

    wrap(np.copy, rule, runs_on="numpy")(double(3)).sum().backward()


# More than one derivative.


@wrap(runs_on="numpy")
def cos(x):
    return np.cos(x)


@cos.backward
def _(ctx, grad):
    (x,) = ctx.saved_tensors
    return -grad * np.sin(x)


twice = wrap(np.sin, lambda ctx, grad: grad * cos(ctx.saved_tensors[0]), runs_on="numpy", once_differentiable=False)


def test_a_backward_made_of_wrapped_functions_is_differentiable():
    x = double(3)
    assert gradcheck(twice, (x,))
    assert gradgradcheck(twice, (x,))
    hessian = torch.func.jacrev(torch.func.grad(lambda x: twice(x).sum()))(x.detach())
    assert torch.allclose(hessian, torch.diag(-torch.sin(x.detach())))


def test_any_other_says_so():
    x = double(3)
    (grad,) = torch.autograd.grad(sin(x).sum(), x, create_graph=True)
    assert torch.allclose(grad, torch.cos(x))
    with pytest.raises(GradError, match="the backward of sin is not differentiable") as caught:
        grad.sum().backward()
    assert "once_differentiable=False" in caught.value.hint
    with pytest.raises(GradError, match="the backward of sin is not differentiable"):
        torch.func.grad(lambda x: torch.func.grad(lambda x: sin(x).sum())(x).sum())(x.detach())


def test_gradients_of_such_rules_are_checked_too():
    wrong = wrap(lambda x: x * 2, lambda ctx, grad: grad[:2], runs_on="numpy", once_differentiable=False)
    with pytest.raises(GradError, match="has shape"):
        wrong(double(3)).sum().backward()


# Memory that has another owner.


@pytest.mark.parametrize("setup", [None, lambda *_: None], ids=["fast", "general"])
def test_a_gradient_that_somebody_holds_stays_theirs(setup):
    jacobian = np.array([1.0, 2.0, 3.0])
    dot = wrap(lambda x: np.asarray(jacobian @ x), lambda ctx, grad: jacobian, runs_on="numpy", setup_context=setup)
    x = double(3)
    for _ in range(3):
        dot(x).backward()
    x.grad.mul_(7)
    assert jacobian.tolist() == [1, 2, 3]
    assert x.grad.tolist() == [21, 42, 63]


def test_a_gradient_in_a_buffer_that_is_used_again():
    buffer = np.zeros(2)
    triple = wrap(lambda x: 3 * x, lambda ctx, grad: np.multiply(grad, 3, out=buffer)[:], runs_on="numpy")
    x, y = double(2), double(2)
    (triple(x).sum() + 2 * triple(y).sum()).backward()
    assert (x.grad.tolist(), y.grad.tolist()) == ([3, 3], [6, 6])


def test_results_and_tangents_that_are_kept_on_ctx():
    def exp(ctx, x):
        ctx.result = np.exp(x)
        return ctx.result

    stored = wrap(exp, lambda ctx, grad: grad * ctx.result, runs_on="numpy", jvp=lambda ctx, tangent: ctx.result)
    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    stored(x).mul_(100).sum().backward()
    assert x.grad.tolist() == [100, 100]
    with forward_ad.dual_level():
        dual = stored(forward_ad.make_dual(x.detach(), torch.ones(2, dtype=torch.float64)))
        forward_ad.unpack_dual(dual).tangent.mul_(5)
        assert dual.tolist() == [1, 1]


def test_what_nobody_holds_is_shared():
    """The other side: results, gradients and what is saved are not copied without need."""
    tree = wrap(
        lambda x: {"a": x * 2, "b": [(x + 1).reshape(-1)]}, lambda ctx, grad: (grad["a"] * 2 + grad["b"][0]).reshape(3), runs_on="numpy"
    )
    pair = wrap(lambda x, y: (x * 2, y * 3), lambda ctx, one, two: (one * 2, two * 3), runs_on="numpy", setup_context=lambda *_: None)
    saving = wrap(np.exp, exp_backward, runs_on="numpy", setup_context=exp_setup)
    x = double(3)
    with interop.guard(copies="error"):
        found = tree(x)
        (found["a"].sum() + found["b"][0].sum()).backward()
        one, two = pair(x, x)
        (one.sum() + two.sum()).backward()
        saving(x).sum().backward()
        multiply(x, x).sum().backward()


@pytest.mark.parametrize("scoped", [False, True])
def test_views_of_inputs_and_gradients_are_copied_also_where_read_only_memory_is_shared(scoped):
    words = {} if scoped else {"readonly": "share"}
    flat = wrap(lambda x: x.reshape(-1), lambda ctx, grad: grad.reshape(-1), runs_on="numpy", **words)
    with interop.policy(readonly="share" if scoped else "copy"):
        w = double(3) * 1
        square, result = w**2, flat(w)
        with torch.no_grad():
            result.mul_(5)
        assert torch.equal(torch.autograd.grad(square.sum(), w)[0], 2 * w)
        x, given = double(3), torch.ones(3, dtype=torch.float64)
        flat(x).backward(given)
        flat(x).backward(given)
        assert given.tolist() == [1, 1, 1]


def test_a_strict_scope_refuses_what_somebody_holds():
    held = np.ones(2)
    with interop.policy("strict"), pytest.raises(interop.CopyError, match="which has another owner"):
        wrap(lambda x: held, runs_on="numpy")(double(2))


# Forward mode.


def test_forward_mode():
    x, y = double(3), double(3)
    assert gradcheck(multiply, (x, y), check_forward_ad=True)
    with forward_ad.dual_level():
        result = multiply(forward_ad.make_dual(x, torch.ones_like(x)), y)
        assert torch.equal(forward_ad.unpack_dual(result).tangent, y)


def test_forward_mode_needs_a_rule():
    plain = wrap(np.cos, lambda ctx, grad: -grad, runs_on="numpy")
    with forward_ad.dual_level(), pytest.raises(GradError, match="has no jvp") as caught:
        plain(forward_ad.make_dual(torch.ones(2), torch.ones(2)))
    assert "jvp" in caught.value.hint
    assert plain(torch.ones(2)).shape == (2,)


def test_what_forward_mode_finds_saved():
    def setup(ctx, inputs, output):
        ctx.save_for_backward(output)
        ctx.save_for_forward(*inputs, output)

    def push(ctx, tangent):
        x, y = ctx.saved_tensors
        assert np.array_equal(np.exp(x), y)
        return tangent * y

    exp = wrap(np.exp, exp_backward, runs_on="numpy", setup_context=lambda *a: (exp_setup(*a), setup(*a)), jvp=push)
    assert gradcheck(exp, (double(3),), check_forward_ad=True)


def test_tangents_are_checked():
    def of(rule):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(torch.ones(2), torch.ones(2))
            result = wrap(lambda x: x * 2, runs_on="numpy", jvp=rule)(dual)
            return forward_ad.unpack_dual(result).tangent

    assert of(lambda ctx, tangent: 2 * tangent).tolist() == [2, 2]
    with pytest.raises(DTypeError, match="the tangent of the result is complex64, the result float32"):
        of(lambda ctx, tangent: tangent * 1j)
    with pytest.raises(GradError, match=r"the tangent of the result has shape \(1,\), the result \(2,\)"):
        of(lambda ctx, tangent: 2 * tangent[:1])
    with pytest.raises(UnsupportedTypeError, match="is a str, not an array"):
        of(lambda ctx, tangent: "2")


@pytest.mark.parametrize("second", [None, 0])
def test_integer_results_have_no_tangent(second):
    def rule(ctx, tangent):
        return 2 * tangent, None if second is None else np.zeros(2, "int64")

    both_kinds = wrap(lambda x: (2 * x, x.astype("int64")), runs_on="numpy", jvp=rule)
    with forward_ad.dual_level():
        result, _ = both_kinds(forward_ad.make_dual(torch.ones(2), torch.ones(2)))
        assert forward_ad.unpack_dual(result).tangent.tolist() == [2, 2]


def test_the_number_of_tangents_is_checked():
    pair = wrap(lambda x: (x * 1, x * 2), runs_on="numpy", jvp=lambda ctx, tangent: tangent)
    with forward_ad.dual_level(), pytest.raises(GradError, match="returned 1 tangents for 2 outputs"):
        pair(forward_ad.make_dual(torch.ones(2), torch.ones(2)))


# torch.func.

leading = wrap(
    lambda x, y: x * y, lambda ctx, grad: (grad * ctx.saved_tensors[1], grad * ctx.saved_tensors[0]), runs_on="numpy", vmap="leading"
)
BOTH = pytest.mark.parametrize("function", [multiply, leading], ids=["loop", "leading"])


def both(function, reference, *tensors):
    got, wanted = function(*tensors), reference(*tensors)
    assert torch.allclose(got, wanted), f"{got}\n{wanted}"
    assert got.shape == wanted.shape


@BOTH
def test_vmap(function):
    x, y = torch.randn(4, 3), torch.randn(3)
    both(torch.vmap(function, (0, None)), torch.vmap(torch.mul, (0, None)), x, y)
    both(torch.vmap(function, (1, 0), 1), torch.vmap(torch.mul, (1, 0), 1), x, torch.randn(3, 4))
    both(
        torch.vmap(torch.vmap(function, (0, None)), (None, 0)),
        torch.vmap(torch.vmap(torch.mul, (0, None)), (None, 0)),
        x,
        torch.randn(5, 3),
    )


@BOTH
def test_transformations_one_inside_of_another(function):
    x, y = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    func = torch.func

    def total(f):
        return lambda x, y: f(x, y).sum()

    for make in (
        lambda f: func.grad(total(f)),
        lambda f: func.grad(total(f), argnums=1),
        lambda f: func.vmap(func.grad(total(f))),
        lambda f: lambda x, y: func.vmap(func.grad(total(f)), (0, None))(x, y[0]),
        lambda f: func.grad(total(func.vmap(f))),
        func.jacrev,
        lambda f: func.vmap(func.jacrev(f)),
        lambda f: lambda x, y: func.vmap(func.jacrev(f, argnums=1), (0, None))(x, y[0]),
        lambda f: func.jacrev(func.vmap(f)),
        lambda f: func.vmap(func.vmap(func.grad(total(f)))),
        lambda f: lambda x, y: func.vjp(func.vmap(f), x, y)[1](x)[0],
        lambda f: lambda x, y: torch.stack(func.vmap(lambda x, y: func.vjp(f, x, y)[1](y))(x, y)),
    ):
        both(make(function), make(torch.mul), x, y)


def test_forward_mode_of_torch_func():
    x, y = torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    func = torch.func
    for make in (
        lambda f: lambda x, y: func.jvp(f, (x, y), (y, x))[1],
        func.jacfwd,
        lambda f: func.vmap(func.jacfwd(f)),
        lambda f: func.jacfwd(func.vmap(f)),
    ):
        both(make(multiply), make(torch.mul), x, y)


def test_a_rule_that_was_used_after_its_transformation():
    x = torch.randn(3, dtype=torch.float64)
    _, pull = torch.func.vjp(sin, x)
    assert torch.allclose(pull(torch.ones_like(x))[0], torch.cos(x))


@pytest.mark.parametrize("mode", ["loop", "leading"])
def test_rules_that_saved_nothing_are_brought_to_their_slices(mode):
    func, ones = torch.func, torch.ones(3)
    linear = wrap(
        lambda x: 3 * x, lambda ctx, g: 3 * g, runs_on="numpy", setup_context=lambda *_: None, jvp=lambda ctx, t: 3 * t, vmap=mode
    )
    for make, shape in (
        (lambda f: func.vmap(lambda v: func.vjp(f, v)[1](ones)[0]), (4, 3)),
        (lambda f: func.vmap(lambda v: func.jvp(f, (v,), (ones,))[1]), (4, 3)),
        (lambda f: func.vmap(func.vmap(lambda v: func.vjp(f, v)[1](ones)[0])), (2, 2, 3)),
        (lambda f: func.jacrev(func.vmap(f)), (2, 3)),
        (lambda f: func.vmap(func.jacrev(f)), (2, 3)),
    ):
        both(make(linear), make(lambda x: 3 * x), torch.randn(shape))


def test_what_a_slice_keeps_on_ctx_is_its_own():
    def scaled(ctx, x):
        ctx.top = float(x.max())
        return ctx.top * x

    stores = wrap(scaled, lambda ctx, g: ctx.top * g, runs_on="numpy")
    rows = torch.arange(6.0).reshape(2, 3)
    found = torch.func.vmap(lambda v: torch.func.vjp(stores, v)[1](torch.ones(3))[0])(rows)
    assert found.tolist() == [[2, 2, 2], [5, 5, 5]]
    tensors = wrap(scaled, lambda ctx, g: ctx.top * g, runs_on="numpy", once_differentiable=False)
    with pytest.raises(GradError, match="of one slice"):
        torch.func.vmap(torch.func.grad(lambda v: tensors(v).sum()))(rows)


def test_what_is_no_array_may_not_differ_between_slices():
    count = wrap(lambda x: (x * 2, int(x.sum())), runs_on="numpy")
    with pytest.raises(ValueError, match="differs from slice to slice"):
        torch.vmap(count)(torch.arange(4.0).reshape(2, 2))
    assert torch.vmap(lambda x: torch.mul(*count(x)))(torch.ones(2, 2)).tolist() == [[4, 4]] * 2


def test_the_older_vmap_is_refused():
    x = double(3)
    result = sin(x)
    with pytest.raises(GradError, match="is_grads_batched") as caught:
        torch.autograd.grad(result, x, torch.eye(3, dtype=torch.float64), is_grads_batched=True)
    assert "torch.func.jacrev" in caught.value.hint


def test_vmap_over_nothing():
    with pytest.raises(ValueError, match="no slices"):
        torch.vmap(sin)(torch.ones(0, 3))
    assert torch.vmap(leading)(torch.ones(0, 3), torch.ones(0, 3)).shape == (0, 3)


# torch's modes.


def test_without_grad_and_in_inference_mode():
    x = double(3)
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert not sin(x).requires_grad
            assert torch.allclose(sin(x), torch.sin(x))
    with torch.inference_mode():
        y = torch.ones(3)
    assert y.is_inference()
    assert torch.allclose(sin(y), torch.sin(y))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoint(reentrant):
    x = double(3)
    checkpoint(lambda x: sin(sin(x)), x, use_reentrant=reentrant).sum().backward()
    grad, x.grad = x.grad, None
    torch.sin(torch.sin(x)).sum().backward()
    assert torch.allclose(grad, x.grad)


def test_hooks():
    x, seen = double(3), []
    x.register_hook(lambda grad: seen.append("leaf"))
    result = sin(x)
    result.register_hook(lambda grad: 2 * grad)
    result.grad_fn.register_hook(lambda *_: seen.append("node"))
    result.sum().backward()
    assert torch.allclose(x.grad, 2 * torch.cos(x))
    assert seen == ["node", "leaf"]
    assert result.grad_fn.name() == "sinBackward"


def test_hooks_on_what_is_saved():
    packed = []
    x = double(3)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t.clone(), lambda t: t * 1):
        result = sin(x)
    result.sum().backward()
    assert len(packed) == 1
    assert torch.allclose(x.grad, torch.cos(x))


def test_autocast():
    x = torch.randn(3, requires_grad=True)
    seen = []

    def look(a):
        seen.append(a.dtype.name)
        return np.array(a)

    as_is = wrap(look, lambda ctx, grad: grad, runs_on="numpy")
    declared = wrap(look, lambda ctx, grad: grad, runs_on="numpy", cast_inputs=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        half = torch.nn.functional.linear(x, torch.eye(3))
        assert half.dtype == torch.bfloat16
        as_is(half)
        declared(half).sum().backward()
        declared(x.double())
    declared(half.detach())
    assert seen == ["bfloat16", "float32", "float64", "bfloat16"]
    assert x.grad.dtype == torch.float32
    assert x.grad.tolist() == [1, 1, 1]


@pytest.mark.parametrize("once", [True, False])
def test_function_and_rule_run_outside_of_autocast_if_their_dtype_is_declared(once):
    """As under `torch.amp.custom_fwd(cast_inputs=...)` and `custom_bwd`: a product inside would be of bfloat16 else."""
    seen = []

    def probe(where):
        seen.append((where, torch.is_autocast_enabled("cpu"), (torch.ones(2, 2) @ torch.ones(2, 2)).dtype))

    def forward(a):
        probe("forward")
        return a * 2

    def rule(ctx, grad):
        probe("backward")
        return grad * 2

    function = wrap(forward, rule, runs_on="numpy", cast_inputs=torch.float32, once_differentiable=once)
    x = torch.randn(3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        function(x).sum().backward()
        assert torch.is_autocast_enabled("cpu")
    assert seen == [("forward", False, torch.float32), ("backward", False, torch.float32)]
    assert x.grad.tolist() == [2, 2, 2]


def test_what_is_no_result_cannot_be_marked():
    for wrong in (lambda x, y: x, lambda x, y: y[...], lambda x, y: np.ones(2)):

        def forward(ctx, x, wrong=wrong):
            y = x * 2
            ctx.mark_non_differentiable(wrong(x, y))
            return y

        with pytest.raises(GradError, match="mark_non_differentiable got a ndarray that is none of its results") as caught:
            wrap(forward, runs_on="numpy")(double(2))
        assert "the very array that is returned" in caught.value.hint


def test_an_input_that_is_returned_can_be_marked():
    def forward(ctx, x):
        ctx.mark_non_differentiable(x)
        return x

    assert not wrap(forward, lambda ctx, g: g, runs_on="numpy")(double(2)).requires_grad


def test_a_gradient_on_another_device_is_refused_or_moved():
    """There is one device with memory here, so the input's is declared to be another one."""
    from interop.autograd._residuals import TensorSpec

    asked = []
    for permissions in ({}, {"transfer": "allow"}):
        x = double(2)
        function = wrap(lambda x: x * 2, lambda ctx, g: g, runs_on="numpy", once_differentiable=False, **permissions)
        task = function.operation.task(taken(function._signature, (x,), {}, TENSORS))
        _, run = task.run([x.detach()])
        elsewhere = TensorSpec(x.shape, x.dtype, torch.device("cuda", 1))
        if not permissions:
            with pytest.raises(interop.TransferError, match=r"gradient of 'x' is on cpu, the input on cuda:1\.") as caught:
                run._on_input_device(x, elsewhere, 0)
            assert caught.value.permissions == {"transfer": "allow"}
            assert "transfer='allow'" in caught.value.hint
        else:
            run.operation.border.torch = SimpleNamespace(
                transfer=lambda *args: asked.append(args) or "moved", parse_device=run.operation.border.torch.parse_device
            )
            assert run._on_input_device(x, elsewhere, 0) == "moved"
    ((moved, device, stream),) = asked
    assert moved is x
    assert (str(device), stream) == ("cuda:1", None)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the compiler's own, after every call that it leaves alone
def test_compiled_code_leaves_the_call_alone():
    x = double(3)
    compiled = torch.compile(lambda x: sin(x * 2) + 1, backend="eager")
    assert torch.allclose(compiled(x), torch.sin(x * 2) + 1)
    compiled(x).sum().backward()
    assert torch.allclose(x.grad, 2 * torch.cos(2 * x))


def test_threads():
    inputs = [double(50) for _ in range(8)]

    def work(x):
        for _ in range(50):
            x.grad = None
            sin(multiply(x, x)).sum().backward()

    threads = [threading.Thread(target=work, args=(x,)) for x in inputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for x in inputs:
        assert torch.allclose(x.grad, 2 * x * torch.cos(x * x))


# Nothing is stored.


def test_nothing_is_left_after_ten_thousand_calls():
    x = double(3)

    def call():
        sin(multiply(x, x)).sum().backward()

    for _ in range(100):
        call()
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(10_000):
            call()
        after = len(gc.get_objects())
    finally:
        gc.enable()
    assert after - before < 100


class Kept(np.ndarray):
    """An array that a weak reference may point to."""


@pytest.mark.parametrize("wraps", [lambda x: x, lambda x: {"a": [x]}], ids=["flat", "tree"])
def test_what_is_not_saved_is_let_go(wraps):
    double_it = wrap(lambda x: 2 * np.asarray(_leaf(x)), lambda ctx, grad: grad, runs_on="numpy", setup_context=lambda *_: None)
    x = double(3) * 1
    alive = weakref.ref(x)
    result = double_it(wraps(x))
    del x
    assert alive() is None
    assert result.requires_grad


def _leaf(x):
    return x["a"][0] if isinstance(x, dict) else x


def test_no_cycle_keeps_results_alive():
    made = []

    def make(ctx, x):
        result = np.exp(x).view(Kept)
        ctx.save_for_backward(result)
        made.append(weakref.ref(result))
        return result

    exp = wrap(make, lambda ctx, grad: grad * ctx.saved_tensors[0], runs_on="numpy")
    x = double(3)
    gc.collect()
    gc.disable()
    try:
        exp(x).sum().backward()
        exp(x)
        assert [ref() for ref in made] == [None, None]
    finally:
        gc.enable()
    assert torch.allclose(x.grad, torch.exp(x))


# Records, guards, policies.


def test_guards_and_records():
    x = double(3)
    with interop.guard(grads="error", copies="error", transfers="error"):
        result = sin(x)
        result.sum().backward()
    assert torch.allclose(x.grad, torch.cos(x))
    with interop.record() as log:
        sin(x).sum().backward()
    assert [(one.source.backend, one.target) for one in log.crossings] == [
        ("torch", "numpy"),
        ("numpy", "torch"),
        ("torch", "numpy"),
        ("torch", "numpy"),
        ("numpy", "torch"),
    ]
    assert log.bytes_copied == 0
    with interop.guard(copies="error"), pytest.raises(interop.CopyError, match="the result of"):
        wrap(lambda x: x[::-1], runs_on="numpy")(x)


@pytest.mark.parametrize("words", [{"copy": True}, {"policy": interop.Policy(copy=True)}])
def test_the_permissions_of_wrap_hold(words):
    seen = []
    look = wrap(lambda x: seen.append(x) or x * 2, lambda ctx, grad: seen.append(grad) or 2 * grad, runs_on="numpy", **words)
    x = double(2)
    look(x).sum().backward()
    assert len(seen) == 2
    assert not interop.shares_memory(seen[0], x.detach())
    with interop.policy(copy=True):
        sin(x)


def test_the_scopes_policy_holds():
    with interop.policy("strict"), pytest.raises(interop.CopyError) as caught:
        wrap(lambda x: x[1:], runs_on="numpy")(double(3))
    assert "its autograd.wrap(...)" in caught.value.hint


def test_a_refusal_names_the_argument():
    with pytest.raises(interop.LayoutError) as caught:
        multiply(torch.ones(3), torch.eye(3).to_sparse())
    assert "multiply(...)" in str(caught.value)
    assert "at y" in str(caught.value)
    assert "layout='dense' into its autograd.wrap(...)" in caught.value.hint
    assert wrap(lambda x, y: x @ y, runs_on="numpy", layout="dense")(torch.ones(3), torch.eye(3).to_sparse()).tolist() == [1, 1, 1]


# Made and used.


def test_called_without_tensors_it_is_the_function():
    a = np.ones(3)
    assert isinstance(sin(a), np.ndarray)
    assert sin(0.0) == 0
    assert multiply(2, y=3) == 6


def test_methods():
    class Filter:
        def __init__(self, gain):
            self.gain = gain

        @wrap(runs_on="numpy")
        def apply(self, x):
            return self.gain * x

        @apply.backward
        def _(ctx, grad):
            return 3 * grad

    x = double(2)
    Filter(3.0).apply(x).sum().backward()
    assert x.grad.tolist() == [3, 3]
    assert isinstance(Filter.apply, Wrapped)


def test_methods_with_a_context():
    class Doubler:
        @wrap(runs_on="numpy")
        def double(self, ctx, x):
            ctx.save_for_backward(x)
            return x * 2

        @double.backward
        def _(ctx, grad):
            assert len(ctx.saved_tensors) == 1
            return 2 * grad

    x = double(2)
    Doubler().double(x).sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_a_method_is_copied_with_its_object():
    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = 1.0
            self.act = self.scaled

        @wrap(runs_on="numpy")
        def scaled(self, x):
            return self.gain * x

        sine = wrap(np.sin, runs_on="numpy")

    layer = Layer()
    twin = copy.deepcopy(layer)
    twin.gain = 10.0
    assert (layer.act(torch.ones(1)).item(), twin.act(torch.ones(1)).item()) == (1, 10)
    assert layer.sine(torch.zeros(1)).item() == 0


def test_the_attributes_of_a_function_are_not_taken_over():
    def function(x):
        return 2 * x

    function.operation = function._has_fast_path = function.backward = "its own"
    f = wrap(function, runs_on="numpy")
    f.backward(lambda ctx, grad: 2 * grad)
    x = double(2)
    f(x).sum().backward()
    assert x.grad.tolist() == [2, 2]
    with pytest.raises(TypeError, match="is wrapped already"):
        wrap(f, runs_on="numpy")


def test_it_is_copied_and_pickled_like_a_function():
    module = torch.nn.Module()
    module.f = sin
    assert copy.deepcopy(module).f is sin
    assert pickle.loads(pickle.dumps(sin)) is sin


def test_fake_tensors_have_no_data():
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(torch.ones(2))
        with pytest.raises(interop.NoDataError):
            sin(fake)


def test_it_looks_like_the_function():
    assert sin.__name__ == "sin"
    assert sin.__module__ == __name__
    assert repr(sin) == "<sin of numpy, wrapped for torch>"
    assert str(inspect.signature(multiply)) == "(x, y)"
    assert str(inspect.signature(wrap(lambda ctx, x, power=2: x, runs_on="numpy"))) == "(x, power=2)"


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        ({"runs_on": "torch"}, ValueError, "needs no wrapping"),
        ({"runs_on": "nmupy"}, ValueError, "did you mean 'numpy'"),
        ({"runs_on": "numpy", "castnig": "safe"}, TypeError, "did you mean 'casting'"),
        ({"runs_on": "numpy", "casting": "sfae"}, ValueError, "did you mean 'safe'"),
        ({"runs_on": "numpy", "grad": "detach"}, TypeError, "'grad' is not a keyword of wrap"),
        ({"runs_on": "numpy", "vmap": "lop"}, ValueError, "did you mean 'loop'"),
        ({"runs_on": "numpy", "cast_inputs": "flaot32"}, ValueError, "flaot32"),
        ({"backend": "numpy"}, TypeError, "^'backend' is not a keyword of wrap; write runs_on="),
        ({"backend": "numpy", "runs_on": "numpy"}, TypeError, "^'backend' is not a keyword of wrap; write runs_on="),
    ],
)
def test_wrong_words(words, error, match):
    with pytest.raises(error, match=match):
        wrap(np.sin, **words)


def test_what_is_no_function():
    with pytest.raises(TypeError, match="wrap takes a function"):
        wrap(3, runs_on="numpy")
    with pytest.raises(TypeError, match=r"@sin\.backward decorates a function"):
        sin.backward(3)


def test_it_is_found_on_request():
    assert interop.autograd.wrap is wrap


# On a GPU.


@pytest.mark.gpu
def test_cuda_tensors_cross_where_it_is_permitted():
    x = torch.randn(3, dtype=torch.float64, device="cuda", requires_grad=True)
    with pytest.raises(interop.TransferError, match="at x"):
        sin(x)
    crossing = wrap(np.sin, lambda ctx, grad: grad * np.cos(ctx.saved_tensors[0]), runs_on="numpy", transfer="allow")
    result = crossing(x)
    assert result.device == x.device
    result.sum().backward()
    assert x.grad.device == x.device
    assert torch.allclose(x.grad, torch.cos(x))


@pytest.mark.gpu
def test_functions_of_cupy():
    cp = pytest.importorskip("cupy", reason="CuPy is not installed")
    seen = []

    @wrap(runs_on="cupy")
    def cube(x):
        seen.append(x.data.ptr)
        return x**3

    @cube.backward
    def _(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * grad * x**2

    x = torch.randn(4, 5, dtype=torch.float64, device="cuda", requires_grad=True)
    assert gradcheck(cube, (x,))
    assert gradcheck(lambda x: cube(x.t()), (x,))
    cube(x)
    assert seen[-1] == x.data_ptr()
    assert isinstance(cube(cp.ones(2)), cp.ndarray)
    with pytest.raises(interop.TransferError):
        cube(torch.ones(2))
