"""JAX in torch's graph and torch in JAX: gradients of every order, checked numerically and against the same function in one library."""

import gc
import subprocess
import sys
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.test_util import check_grads
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.gradcheck import GradcheckError
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.utils.checkpoint import checkpoint

import interop
from interop import DTypeError, GradError, NoDataError, UnsupportedTypeError
from interop.autograd import to_jax, wrap
from interop.backends import load_backend

BOTH = pytest.mark.parametrize("compiled", [False, True], ids=["plain", "jit"])


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


def double(*shape, dtype=torch.float64):
    return torch.rand(shape, dtype=dtype).add(0.5).requires_grad_()


def wrapped(function, *, compiled=False, **words):
    return wrap(jax.jit(function) if compiled else function, runs_on="jax", **words)


# JAX in torch: the gradients are right.

FUNCTIONS = {
    "one": (lambda x: jnp.sin(x) * x, [(2,)]),
    "0-d": (jnp.exp, [()]),
    "several": (lambda x, y: (jnp.sin(x) * y, (x * y**2).sum()), [(2,), (2,)]),
    "broadcasting": (lambda x, y: x * y, [(2, 1), (2,)]),
    "matrices": (lambda a, b: jnp.linalg.solve(a @ a.T + 2 * jnp.eye(2), b), [(2, 2), (2,)]),
    "unused": (lambda x, y: x * 2, [(2,), (2,)]),
}
COMPLEX = {
    "holomorphic": lambda z: jnp.exp(z) * z,
    "conjugate": lambda z: jnp.conj(z) * z * z,
    "complex to real": lambda z: jnp.abs(z) ** 2,
    "real part": lambda z: jnp.real(z) * z,
}


@BOTH
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_every_order_and_direction(name, compiled):
    function, shapes = FUNCTIONS[name]
    inputs = [double(*shape) for shape in shapes]
    f = wrapped(function, compiled=compiled)
    assert gradcheck(f, inputs, check_forward_ad=True)
    assert gradgradcheck(f, inputs)


@BOTH
@pytest.mark.parametrize("name", COMPLEX)
def test_complex_gradients_are_in_torchs_convention(name, compiled):
    f, z = wrapped(COMPLEX[name], compiled=compiled), torch.randn(2, dtype=torch.complex128, requires_grad=True)
    assert gradcheck(f, z, check_forward_ad=True)
    assert gradgradcheck(f, z)


@BOTH
def test_a_complex_result_of_real_input(compiled):
    f = wrapped(lambda x, z: (jnp.exp(1j * x) * x, x * z), compiled=compiled)
    inputs = double(1), torch.randn(1, dtype=torch.complex128, requires_grad=True)
    assert gradcheck(f, inputs, check_forward_ad=True)
    assert gradgradcheck(f, inputs)


def test_the_check_finds_a_gradient_in_jaxs_convention():
    """The negative control: the same rule without the two conjugations."""

    def rule(ctx, grad):
        return jax.vjp(COMPLEX["holomorphic"], *ctx.saved_tensors)[1](grad)

    f = wrap(COMPLEX["holomorphic"], rule, runs_on="jax")
    with pytest.raises(GradcheckError):
        gradcheck(f, torch.randn(3, dtype=torch.complex128, requires_grad=True))


# torch's transformations.

F, TORCHS = (lambda x: jnp.sin(x) * x), (lambda x: torch.sin(x) * x)
X = torch.linspace(0.1, 2, 12, dtype=torch.float64).reshape(4, 3)


def summed(f):
    return lambda x: f(x).sum()


TRANSFORMED = {
    "grad": lambda f: grad(summed(f))(X),
    "per-sample grad": lambda f: vmap(grad(summed(f)))(X),
    "third": lambda f: grad(summed(grad(summed(grad(summed(f))))))(X),
    "jacrev": lambda f: jacrev(f)(X),
    "jacfwd": lambda f: jacfwd(f)(X),
    "jacrev of jacrev": lambda f: jacrev(jacrev(f))(X[0]),
    "jacrev of jacfwd": lambda f: jacrev(jacfwd(f))(X[0]),
    "hessian": lambda f: hessian(summed(f))(X[0]),
    "hessian per sample": lambda f: vmap(hessian(summed(f)))(X),
    "jvp": lambda f: jvp(f, (X,), (X + 1,))[1],
    "vmap of vmap": lambda f: vmap(vmap(f), in_dims=1, out_dims=1)(X),
    "vmap of jvp": lambda f: vmap(lambda x: jvp(f, (x,), (x,))[1])(X),
    "vmap in the graph": lambda f: torch.autograd.grad(vmap(f)(leaf := X.clone().requires_grad_()).sum(), leaf)[0],
    "autograd.functional": lambda f: torch.autograd.functional.hessian(summed(f), X[0]),
    "checkpoint": lambda f: torch.autograd.grad(
        checkpoint(f, leaf := X.clone().requires_grad_(), use_reentrant=False).sum(), leaf, create_graph=True
    )[0].detach(),
}


@BOTH
@pytest.mark.parametrize("name", TRANSFORMED)
def test_torchs_transformations(name, compiled):
    torch.testing.assert_close(TRANSFORMED[name](wrapped(F, compiled=compiled)), TRANSFORMED[name](TORCHS))


@pytest.mark.parametrize(("inside", "runs"), [(False, 1), (True, 4)])
def test_vmap_runs_the_function_once(inside, runs):
    seen = []

    def f(x, y):
        seen.append(x.shape)
        return x * y

    # The control: a function with a rule of its own is run for each slice.
    f = wrap(f, lambda ctx, grad: (None, None), runs_on="jax") if inside else wrap(f, runs_on="jax")
    y = torch.arange(3, dtype=torch.float64)
    torch.testing.assert_close(vmap(f, in_dims=(0, None))(X, y), X * y)
    assert seen == [(3,)] * runs


def test_gradients_of_what_is_not_batched():
    y = double(3)
    per_sample = vmap(grad(lambda y, x: wrapped(lambda x, y: x * y**2)(x, y).sum()), in_dims=(None, 0))(y, X)
    torch.testing.assert_close(per_sample, 2 * X * y)


# Arguments and results.


@BOTH
def test_trees_numbers_none_and_keywords(compiled):
    def f(tree, scale, nothing=None, *, offset):
        assert nothing is None
        return {"a": tree["x"] * scale + offset, "b": (tree["counts"] + 1, None), "c": [jnp.sin(tree["more"][0])]}

    x, y, offset = double(3), double(2), double(3)
    found = wrapped(f, compiled=compiled)({"x": x, "counts": torch.arange(3), "more": [y]}, 2.0, offset=offset)
    assert found["b"][0].tolist() == [1, 2, 3]
    assert not found["b"][0].requires_grad
    assert found["b"][1] is None
    for _ in range(3):
        dx, dy, doffset = torch.autograd.grad(found["a"].sum() + found["c"][0].sum(), (x, y, offset), create_graph=True)
    torch.testing.assert_close(dx, torch.full_like(x, 2.0))
    torch.testing.assert_close(dy, y.cos())
    torch.testing.assert_close(doffset, torch.ones_like(x))


@BOTH
@pytest.mark.parametrize("dtype", ["int32", "int64", "bool", "uint8"])
def test_inputs_and_results_without_gradients(dtype, compiled):
    f = wrapped(lambda x, n: (x * n, n + n, x > 1), compiled=compiled)
    x, n = double(3), torch.ones(3, dtype=getattr(torch, dtype))
    y, twice, above = f(x, n)
    assert (y.requires_grad, twice.requires_grad, above.requires_grad, above.dtype) == (True, False, False, torch.bool)
    y.sum().backward()
    assert x.grad.tolist() == [1, 1, 1]
    assert n.grad is None
    torch.testing.assert_close(jvp(lambda x: f(x, n)[0], (x.detach(),), (torch.ones(3, dtype=torch.float64),))[1], torch.ones_like(x))


@pytest.mark.parametrize("used", [(0,), (1,), (0, 1)])
def test_results_that_are_not_used(used):
    x = double(3)
    found = wrapped(lambda x: (x * 2, x * 3))(x)
    torch.stack([found[at].sum() for at in used]).sum().backward()
    assert x.grad.tolist() == [sum((2, 3)[at] for at in used)] * 3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
def test_dtypes(dtype):
    x = torch.ones(3, dtype=getattr(torch, dtype), requires_grad=True)
    y = wrapped(lambda x: x * 2, compiled=True)(x)
    y.backward(torch.ones_like(y))
    assert (y.dtype, x.grad.dtype, x.grad.tolist()) == (x.dtype, x.dtype, [2, 2, 2])


@pytest.mark.parametrize("change", [lambda x: x[::2], lambda x: x.T, lambda x: x[:0], lambda x: x[0].expand(4, 3), lambda x: x.flip(0)])
def test_inputs_of_every_layout(change):
    x = X.clone().requires_grad_()
    torch.testing.assert_close(
        *(torch.autograd.grad((f(change(x)) ** 2).sum(), x)[0] for f in (wrapped(F), TORCHS)), rtol=1e-12, atol=1e-12
    )


def test_static_arguments_and_others():
    f = wrap(jax.jit(lambda x, axis, table: x.sum(axis) * table.sum(), static_argnums=1), runs_on="jax")
    x, table = double(2, 3), np.arange(3.0)  # which cannot be compared, so nothing is stored for it
    for axis in (0, 1, 0):
        assert torch.autograd.grad(f(x, axis, table).sum(), x)[0].tolist() == [[3.0] * 3] * 2
    assert not f.operation.derivatives._compiled


def test_keyword_tensors_of_a_function_with_a_rule_are_refused():
    """The control of `test_trees_numbers_none_and_keywords`: a rule returns gradients for arguments by position."""
    f = wrap(lambda x, *, y: x * y, lambda ctx, grad: grad, runs_on="jax")
    with pytest.raises(GradError, match="by keyword only"):
        f(double(3), y=double(3))


# Rules are compiled where the function is, and once.


def counted(f):
    seen = []

    def function(*args):
        seen.append(args)
        return f(*args)

    return function, seen


@pytest.mark.parametrize(("compiled", "more"), [(True, 0), (False, 10)])
def test_rules_are_compiled_once(compiled, more):
    function, seen = counted(F)
    f, x = wrapped(function, compiled=compiled), double(3)
    f(x).sum().backward()
    before = len(seen)
    for _ in range(5):
        f(x).sum().backward()
    assert len(seen) - before == more


def test_a_number_that_changes_with_each_call_compiles_nothing(monkeypatch):
    monkeypatch.setattr("interop.autograd._jax.derivatives.LIMIT", 8)
    f, x = wrapped(lambda x, t: jnp.sin(x) * t, compiled=True), double(3)
    rules = f.operation.derivatives._compiled
    for step in range(12):
        f(x, step / 8).sum().backward()
    assert not any(rules.values())
    assert len(rules) == 8
    for _ in range(3):  # the control
        f(x, 0.5).sum().backward()
    assert [bool(rule) for rule in rules.values()].count(True) == 1


def test_numbers_that_are_equal_and_not_the_same():
    f, x = wrapped(jnp.copysign, compiled=True), double(3)
    for sign in (0.0, -0.0, 0.0, -0.0, 0.0, -0.0):
        assert torch.autograd.grad(f(x, sign).sum(), x)[0].tolist() == [np.copysign(1, sign)] * 3
    g = wrapped(lambda x, n: x * (2 if n is True else 3), compiled=False)
    assert [torch.autograd.grad(g(x, n).sum(), x)[0][0].item() for n in (True, 1, True, 1)] == [2, 3, 2, 3]


@pytest.mark.parametrize("known", [True, False])
def test_an_object_that_jax_takes_apart_may_change(known):
    """Although it has a hash. The control: one that JAX does not know is fixed, as `jax.jit` itself demands of static arguments."""

    class Weights:
        def __init__(self, by):
            self.by = by

    if known:
        jax.tree_util.register_pytree_node(Weights, lambda w: ((w.by,), None), lambda _, parts: Weights(*parts))
    f = wrap(jax.jit(lambda x, w: x * w.by, static_argnums=() if known else 1), runs_on="jax")
    w, x = Weights(jnp.asarray(2.0)), double(3)
    for by in (2.0, 3.0, 4.0):
        w.by = jnp.asarray(by)
        y = f(x, w)
        expected = by if known else 2.0
        assert y.tolist() == pytest.approx((x * expected).tolist())
        assert torch.autograd.grad(y.sum(), x)[0].tolist() == [expected] * 3


def test_a_method():
    class Scale:
        by = 2.0

        def __init__(self, by):
            self.by = by

        @wrap(runs_on="jax")
        def apply(self, x):
            return x * self.by

    x = double(3)
    assert [torch.autograd.grad(Scale(by).apply(x).sum(), x)[0][0].item() for by in (2.0, 3.0)] == [2, 3]


# Memory.


@pytest.mark.parametrize("changed", [True, False])
def test_a_saved_tensor_that_was_changed_is_noticed(changed):
    x = double(3)
    y = x * 1
    z = wrapped(F, compiled=True)(y)
    if changed:
        y.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            z.sum().backward()
    else:
        z.sum().backward()
        torch.testing.assert_close(x.grad, x.cos() * x + x.sin())


@pytest.mark.parametrize(("words", "copies"), [({}, 2), ({"readonly": "share"}, 0)])
def test_tensors_and_results_are_copied_unless_asked_not_to_be(words, copies):
    """What JAX computed has no other owner; an identity returns the very array that it was given, which is copied all the same."""
    x = torch.ones(64, dtype=torch.float64)
    with interop.record() as log:
        wrapped(lambda x: x + 1, **words)(x)
    assert len(log.copies) == copies
    assert not interop.shares_memory(x, wrapped(lambda x: x, **words)(x))


@BOTH
@pytest.mark.parametrize("in_tree", [False, True])
def test_nothing_is_kept(compiled, in_tree):
    f = wrapped((lambda tree: jnp.sin(tree["x"])) if in_tree else jnp.sin, compiled=compiled)
    x = double(3)
    gone = weakref.ref(x)
    gc.disable()
    try:
        for _ in range(3):
            y = f({"x": x} if in_tree else x)
            y.sum().backward()
        assert gone() is not None
        del x, y
        assert gone() is None  # without the garbage collector: there is no cycle
    finally:
        gc.enable()


# What is refused.


def test_64_bits_without_x64_are_refused_with_the_recipe():
    f, x = wrapped(F), double(3)
    with jax.enable_x64(False):
        with pytest.raises(DTypeError) as caught:
            f(x)
        assert "jax_enable_x64 is off: jax.config.update('jax_enable_x64', True)" in str(caught.value)
        assert "at x" in str(caught.value)
        assert caught.value.permissions == {"casting": "same_kind"}
        permitted = wrapped(F, **caught.value.permissions)
        permitted(x).sum().backward()
    assert x.grad.dtype == torch.float64
    torch.testing.assert_close(x.grad, (x.cos() * x + x.sin()).detach(), rtol=1e-6, atol=1e-6)


def test_a_rule_of_ones_own_comes_first():
    f, x = wrapped(F), double(3)

    @f.backward
    def _(ctx, grad):
        return grad * 7

    f(x).sum().backward()
    assert x.grad.tolist() == [7, 7, 7]


def test_other_libraries_have_no_derivatives_of_their_own():
    assert load_backend("numpy").derivatives(np.sin) is None
    with pytest.raises(GradError, match="has no backward"):
        wrap(np.sin, runs_on="numpy")(double(3)).sum().backward()


def test_without_a_tensor_it_is_jaxs_function():
    assert jax.grad(lambda x: wrapped(F)(x).sum())(jnp.zeros(2)).tolist() == [0, 0]


def test_a_function_that_asks_for_the_context_has_no_derivatives_made():
    @wrap(runs_on="jax")
    def f(ctx, x):
        return x * 2

    with pytest.raises(GradError, match="has no backward"):
        f(double(3)).sum().backward()


def test_an_optimizer_of_torchs_trains_through_jax():
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 1).double()
    x = torch.randn(64, 3, dtype=torch.float64)
    target = torch.tanh(x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    f = wrapped(jnp.tanh, compiled=True)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        loss = (f(layer(x)[:, 0]) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3


# torch in JAX.

Y = np.linspace(0.3, 2.0, 6).reshape(2, 3)
PAIRS = {
    "one": (lambda x: torch.sin(x) * x, lambda x: jnp.sin(x) * x),
    "matrices": (lambda x: torch.tanh(x @ x.T), lambda x: jnp.tanh(x @ x.T)),
    "0-d": (lambda x: (x**3).sum(), lambda x: (x**3).sum()),
    "reduced": (lambda x: torch.logsumexp(x, -1), lambda x: jax.nn.logsumexp(x, -1)),
}
CONJUGATED = {
    "holomorphic": (lambda z: torch.exp(z) * z, lambda z: jnp.exp(z) * z),
    "conjugate": (lambda z: z.conj() * z * z, lambda z: z.conj() * z * z),
    "lazily conjugated": (lambda z: z.conj(), jnp.conj),
    "complex to real": (lambda z: z.abs() ** 2, lambda z: jnp.abs(z) ** 2),
    "imaginary part": (lambda z: z.imag * 2, lambda z: z.imag * 2),
}
MODES = {
    "value": lambda f: f,
    "jit": jax.jit,
    "vjp": lambda f: lambda x: jax.vjp(f, x)[1](weights(jax.eval_shape(f, x))),
    "jit of vjp": lambda f: jax.jit(lambda x: jax.vjp(f, x)[1](weights(jax.eval_shape(f, x)))),
    "second": lambda f: jax.grad(lambda x: size(jax.vjp(f, x)[1](weights(jax.eval_shape(f, x))))),
    "jit of second": lambda f: jax.jit(jax.grad(lambda x: size(jax.vjp(f, x)[1](weights(jax.eval_shape(f, x)))))),
    "third": lambda f: jax.grad(lambda x: size(jax.grad(lambda x: size(jax.grad(lambda x: size(f(x)))(x)))(x))),
}


def weights(like):
    made = jnp.arange(1.0, like.size + 1).reshape(like.shape)
    return (made * (1 + 2j) if jnp.issubdtype(like.dtype, complex) else made).astype(like.dtype)


def size(tree):
    return sum((jnp.abs(leaf * weights(leaf) + 1) ** 2).sum() for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PAIRS)
def test_derivatives_in_jax(name, mode):
    ours, jaxs = PAIRS[name]
    jax.tree.map(np.testing.assert_allclose, MODES[mode](to_jax(ours))(Y), MODES[mode](jaxs)(Y))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CONJUGATED)
def test_complex_derivatives_are_in_jaxs_convention(name, mode):
    (ours, jaxs), z = CONJUGATED[name], Y + 0.5j * Y[::-1]
    jax.tree.map(np.testing.assert_allclose, MODES[mode](to_jax(ours))(z), MODES[mode](jaxs)(z))


@pytest.mark.parametrize("name", CONJUGATED)
def test_derivatives_in_jax_against_numbers(name):
    z = Y + 0.5j * Y[::-1]
    check_grads(to_jax(CONJUGATED[name][0]), (z,), order=2, modes=["rev"])
    check_grads(jax.jit(to_jax(CONJUGATED[name][0])), (z,), order=2, modes=["rev"])


def test_the_check_finds_a_wrong_gradient():
    """The negative control."""

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 3

    with pytest.raises(AssertionError):
        check_grads(to_jax(Wrong.apply), (Y,), order=1, modes=["rev"])


def test_jacobians_and_their_jacobians():
    ours, jaxs = PAIRS["reduced"]
    np.testing.assert_allclose(jax.jacrev(to_jax(ours))(Y), jax.jacrev(jaxs)(Y))
    np.testing.assert_allclose(jax.jacrev(jax.jacrev(to_jax(ours)))(Y), jax.hessian(jaxs)(Y), atol=1e-12)


@BOTH
def test_trees_integers_and_others_in_jax(compiled):
    def f(tree, n, scale=2, *, offset):
        return {"a": tree["x"] * n * scale + offset, "more": (n + 1, None)}

    def total(tree, n, offset):
        return to_jax(f)(tree, n, offset=offset)["a"].sum()

    call = jax.jit if compiled else lambda f: f
    n = jnp.arange(3)
    found = call(lambda x, n: to_jax(f)({"x": x}, n, offset=x))(Y[0], n)
    assert found["more"][0].tolist() == [1, 2, 3]
    assert found["more"][1] is None
    dtree, dn, doffset = call(jax.grad(total, (0, 1, 2), allow_int=True))({"x": Y[0]}, n, Y[0])
    assert dtree["x"].tolist() == [0, 2, 4]
    assert doffset.tolist() == [1, 1, 1]
    assert dn.dtype == jax.dtypes.float0


@pytest.mark.parametrize(("method", "runs"), [("sequential", 4), ("sequential_unrolled", 4), ("broadcast_all", 1)])
def test_vmap_in_jax(method, runs):
    seen = []

    def f(x, y):
        seen.append(tuple(x.shape))
        return torch.sin(x) * y

    def fake(x, y):
        return x * y

    g = to_jax(f, vmap_method=method, fake=fake)
    x = jnp.linspace(0, 1, 12).reshape(4, 3)
    np.testing.assert_allclose(jax.vmap(g, in_axes=(0, None))(x, Y[0]), jnp.sin(x) * Y[0])
    assert len(seen) == runs
    derived = jax.vmap(jax.grad(lambda x, y: g(x, y).sum(), (0, 1)), in_axes=(0, None))(x, Y[0])
    np.testing.assert_allclose(derived[0], jnp.cos(x) * Y[0])
    np.testing.assert_allclose(derived[1], jnp.sin(x))


def test_inside_loops_of_jax():
    step = to_jax(lambda x: x + 0.1 * torch.cos(x))

    def many(step):
        return lambda x: jax.lax.scan(lambda x, _: (step(x), None), x, length=5)[0].sum()

    ours, jaxs = many(step), many(lambda x: x + 0.1 * jnp.cos(x))
    np.testing.assert_allclose(jax.jit(jax.grad(ours))(Y), jax.grad(jaxs)(Y))


# What a function is run on, and when.


def test_compiled_code_is_shown_no_data():
    seen = []

    def f(x):
        seen.append(type(x).__name__)
        return x * 2

    jax.block_until_ready(jax.jit(to_jax(f))(Y))
    assert seen == ["FakeTensor", "Tensor"]
    to_jax(f)(Y)
    assert seen[2:] == ["Tensor"]


LOOKING = {
    "values": lambda x: x * (2 if x.sum().item() > 0 else 3),
    "shapes": lambda x: x[x > 1e9].sum() + x.sum(),
    "leaving torch": lambda x: torch.from_numpy(x.detach().numpy() * 2),
}


@pytest.mark.parametrize("name", LOOKING)
def test_functions_that_need_data(name):
    x = Y[0]
    with pytest.raises(NoDataError, match=r"fake=function"):
        jax.jit(to_jax(LOOKING["leaving torch"] if name == "leaving torch" else LOOKING[name]))(x).block_until_ready()
    fake = (lambda x: x.new_empty(())) if name == "shapes" else torch.empty_like
    compiled = jax.jit(to_jax(LOOKING[name], fake=fake))(x)
    np.testing.assert_allclose(compiled, to_jax(LOOKING[name])(x))


def test_a_fake_that_lies_is_found_out():
    with pytest.raises(jax.errors.JaxRuntimeError, match="Incorrect output shape"):
        jax.jit(to_jax(torch.sin, fake=lambda x: x.new_empty(7)))(Y).block_until_ready()


@pytest.mark.parametrize("call", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_results_that_jax_does_not_have_are_refused(call):
    with jax.enable_x64(False):
        x = jnp.ones(3)
        with pytest.raises(DTypeError, match=r"float64.*jax_enable_x64 is off"):
            call(to_jax(lambda x: x.double()))(x)
        assert call(to_jax(lambda x: x.double().float()))(x).tolist() == [1, 1, 1]


def test_the_arrays_of_jax_are_not_written_to():
    x = jnp.ones(64)
    assert to_jax(lambda x: x.add_(1))(x).tolist() == [2] * 64
    assert x.tolist() == [1] * 64
    seen = []
    to_jax(lambda x: seen.append(x.data_ptr()) or x * 2, readonly="share")(x)  # the control: this one has the memory itself
    to_jax(lambda x: seen.append(x.data_ptr()) or x * 2)(x)
    assert [pointer == x.unsafe_buffer_pointer() for pointer in seen] == [True, False]


def test_what_a_function_keeps_and_writes_to_does_not_change_a_result():
    stored = torch.zeros(64)
    result = to_jax(lambda x: stored)(Y)
    stored.add_(1)
    assert result.tolist() == [0] * 64
    shared = interop.convert(stored, "jax", readonly="share")  # the control: this one shares
    stored.add_(1)
    assert shared.tolist() == [2] * 64


def test_no_gradient_flows_to_what_is_captured_but_to_arguments():
    layer = torch.nn.Linear(3, 2).double()
    result = jax.jit(jax.grad(lambda x: to_jax(layer)(x).sum()))(Y)
    np.testing.assert_allclose(result, layer.weight.detach().sum(0).expand(2, 3))
    assert layer.weight.grad is None
    parameters = {name: jnp.asarray(value.detach().numpy()) for name, value in layer.named_parameters()}
    apply = to_jax(lambda parameters, x: functional_call(layer, parameters, x))
    grads = jax.grad(lambda parameters: apply(parameters, Y).sum())(parameters)
    np.testing.assert_allclose(grads["weight"], jnp.stack([Y.sum(0)] * 2))
    assert grads["bias"].tolist() == [2, 2]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_of_torch_around_it_change_nothing(mode):
    with mode():
        np.testing.assert_allclose(jax.grad(lambda x: to_jax(torch.sin)(x).sum())(Y), jnp.cos(Y))


def test_a_function_that_takes_gradients_itself():
    def force(x):
        with torch.enable_grad():
            leaf = x if x.requires_grad else x.detach().requires_grad_()
            return torch.autograd.grad(torch.sin(leaf).sum(), leaf, create_graph=True)[0]

    np.testing.assert_allclose(jax.grad(lambda x: to_jax(force)(x).sum())(Y), -jnp.sin(Y))


# What is refused in JAX.


def test_forward_mode_is_jaxs_own_error():
    with pytest.raises(TypeError, match=r"forward-mode .* custom_vjp"):
        jax.jvp(to_jax(torch.sin), (Y,), (Y,))


@pytest.mark.parametrize("call", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_what_torch_cannot_differentiate_twice(call):
    once = wrap(np.sin, lambda ctx, grad: grad * np.cos(ctx.saved_tensors[0]), runs_on="numpy")
    f = to_jax(once, fake=torch.sin)
    np.testing.assert_allclose(call(jax.grad(lambda x: f(x).sum()))(Y), jnp.cos(Y))
    with pytest.raises((GradError, jax.errors.JaxRuntimeError), match="not differentiable"):
        jax.block_until_ready(call(jax.grad(lambda x: jax.grad(lambda x: f(x).sum())(x).sum()))(Y))


@pytest.mark.parametrize("result", [lambda x: x.numpy(), lambda x: object(), lambda x: 1.5])
def test_results_that_are_no_tensors(result):
    with pytest.raises(UnsupportedTypeError, match="returned a"):
        to_jax(result)(Y)


def test_errors_arrive_as_they_are():
    def f(x):
        raise LookupError("its own")

    with pytest.raises(LookupError, match="its own"):
        to_jax(f)(Y)


@pytest.mark.parametrize(
    ("words", "error", "text"),
    [
        ({"vmap_method": "sequental"}, ValueError, "did you mean"),
        ({"vmap_method": "expand_dims"}, ValueError, "is not a value"),
        ({"readonyl": "share"}, TypeError, "readonly"),
        ({"copy": False}, TypeError, "copy"),
        ({"readonly": "maybe"}, ValueError, "maybe"),
    ],
)
def test_wrong_words(words, error, text):
    with pytest.raises(error, match=text):
        to_jax(torch.sin, **words)
    with pytest.raises(TypeError, match="takes a function"):
        to_jax(3)


def test_numpys_arrays_are_jaxs_here():
    assert to_jax(lambda x, n: x * n)(np.ones(3), 2).tolist() == [2, 2, 2]


# While XLA waits for a callback its threads are taken. A subprocess, since a test that hangs reports nothing.

MANY = """
import jax, jax.numpy as jnp, torch
from interop.autograd import to_jax
f = to_jax(lambda x: torch.tanh(x @ x / 400))
g = jax.jit(lambda x: f(f(x) @ x) + f(2 * x))
h = jax.jit(jax.grad(lambda x: g(x).sum()))
x = jnp.ones((400, 400))
for _ in range(10):
    y, z = g(x), h(x)  # not waited for: many are under way
print(jax.block_until_ready((y, z))[1].shape)
"""


def test_callbacks_do_not_wait_for_each_other():
    found = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, timeout=240, check=True)
    assert found.stdout.strip() == "(400, 400)"


@pytest.mark.parametrize(
    "function", [lambda x: torch.ones(3, dtype=x.dtype), lambda x: torch.from_numpy(np.exp(x.detach().numpy())), torch.no_grad()(torch.exp)]
)
def test_gradients_that_torch_does_not_know_are_not_zero(function):
    """A constant and a graph that was left look alike: torch refuses both."""
    x = jnp.ones(3)
    assert to_jax(function)(x).shape == (3,)
    with pytest.raises(GradError, match="no result depends on the inputs"):
        jax.vjp(to_jax(function), x)[1](x)


def test_functions_that_write_to_their_argument():
    relu = to_jax(torch.relu_)
    x = jnp.asarray([-1.0, 2.0])
    assert relu(x).tolist() == [0, 2]
    assert jax.grad(lambda x: relu(x).sum())(x).tolist() == [0, 1]
    assert x.tolist() == [-1, 2]
