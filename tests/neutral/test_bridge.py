"""`neutral(runs_on=..., grad="bridge")`: gradients cross with the arrays; what torch does not follow goes the usual way."""

import asyncio
import dataclasses
import functools
import inspect
import pickle
import subprocess
import sys
from typing import Any

import array_api_compat
import array_api_strict
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.autograd import forward_ad, gradcheck

import interop
from interop import neutral
from interop._engine.call import Permissions, Ungraded
from interop.autograd import wrap
from interop.errors import DTypeError, GradError, MixedBackendsError, TransferError, UnsupportedTypeError

_stack = torch._C._functorch.peek_interpreter_stack
bridge = functools.partial(neutral, runs_on="numpy", grad="bridge")


def leaf(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def without_rules():
    @bridge()
    def scaled(x, k=2.0):
        """Scale."""
        assert not isinstance(x, torch.Tensor)
        return x * k

    return scaled


scaled = without_rules()


@scaled.setup_context
def keep(ctx, inputs, output):
    ctx.k = inputs[1] if len(inputs) > 1 else 2.0


@scaled.backward
def pull(ctx, grad):
    return grad * ctx.k, None


@scaled.jvp
def push(ctx, tangent, *_):
    return tangent * ctx.k


@bridge()
def product(x, y):
    assert type(x) is type(y) is np.ndarray
    return x * y


@product.backward
def _(ctx, grad):
    x, y = ctx.saved_tensors
    return grad * y, grad * x


@product.jvp
def _(ctx, dx, dy):
    x, y = ctx.saved_tensors
    return dx * y + (x * dy if dy is not None else 0)


@bridge()
def at_the_top(x):
    return x + 1


# Gradients cross.


@pytest.mark.parametrize(
    "call",
    [
        product,
        lambda x, y: product(y=y, x=x),
        lambda x, y: product(x, y=torch.arange(3.0, dtype=torch.float64)) + y,
        lambda x, y: product(product(x, y), scaled(y.sin(), 3.0)),
        lambda x, y: scaled(x) + scaled(k=0.5, x=y),
    ],
)
def test_gradients_and_tangents_are_right(call):
    assert gradcheck(call, (leaf(3), leaf(3)), check_forward_ad=True)


def test_trees_go_in_and_come_out_with_their_gradients():
    @dataclasses.dataclass
    class Options:
        weights: Any
        name: str = "w"

    @bridge()
    def both(pair, options, n=2, *, word="w"):
        return {"sum": pair["a"] + options.weights, "parts": [pair["a"] * n], "n": n, "word": word, "none": None, "count": np.arange(2)}

    @both.backward
    def _(ctx, grads):
        return {"a": grads["sum"] + 2 * grads["parts"][0]}, Options(grads["sum"], None)

    a, weights = leaf(2), leaf(2)
    found = both({"a": a}, options=Options(weights), word="v")
    assert (found["n"], found["word"], found["none"]) == (2, "v", None)
    assert found["count"].tolist() == [0, 1]
    assert not found["count"].requires_grad
    (found["sum"].sum() + 10 * found["parts"][0].sum()).backward()
    assert a.grad.tolist() == [21, 21]
    assert weights.grad.tolist() == [1, 1]


def test_the_namespace_is_given_and_is_the_one_of_the_arrays():
    def by_keyword(x, *, xp=None):
        assert xp is array_api_compat.numpy
        return xp.sum(x)

    def by_position(x, xp=None, k=2.0):
        assert xp is array_api_compat.numpy
        return xp.sum(x) * k

    for function in (by_keyword, by_position):
        summed = bridge()(function)
        summed.backward(lambda ctx, grad: (grad * np.ones(2), None, None))
        x = leaf(2)
        summed(x.detach())
        summed(x, xp=None)
        summed(x).backward()
        assert x.grad.tolist() == [1, 1]
    assert float(bridge()(by_position)(x.detach(), None, 1.0)) == float(x.detach().sum())
    found = summed(x, None, 3.0)
    assert torch.equal(found, x.detach().sum() * 3)


def test_rules_may_be_registered_late_and_anew():
    late = without_rules()
    x = leaf(2)
    with pytest.raises(GradError):
        late(x)
    assert late.backward(pull) is pull
    late.setup_context(keep)
    late(x).sum().backward()
    late.backward(lambda ctx, grad: (grad * 7, None))
    late(x).sum().backward()
    assert x.grad.tolist() == [9, 9]


def test_without_gradients_nothing_is_asked_of_the_rules():
    x = leaf(2)
    plain = without_rules()
    with torch.no_grad():
        assert not plain(x).requires_grad
    with torch.inference_mode():
        assert plain(x).is_inference()
    with pytest.raises(GradError):  # the negative control
        plain(x)
    with torch.no_grad():
        assert not scaled(x).requires_grad
    assert scaled(x).requires_grad


# JAX differentiates its functions itself.


class Ode:
    rate = 2.0

    @neutral(runs_on="jax", grad="bridge")
    def step(self, state, *, dt=0.5, xp=None):
        return {"state": state["x"] + dt * self.rate * xp.sin(state["x"]), "n": 1}


def test_a_function_of_jax_needs_no_rules():
    ode, x = Ode(), torch.tensor([0.5, 1.5], requires_grad=True)
    found = ode.step({"x": x}, dt=1.0)
    assert found["n"] == 1
    found["state"].sum().backward()
    assert torch.allclose(x.grad, 1 + 2 * torch.cos(x))
    ode.rate = 3.0
    assert torch.allclose(torch.func.jacfwd(lambda x: ode.step({"x": x})["state"])(x.detach()).diagonal(), 1 + 1.5 * torch.cos(x))
    second = torch.func.hessian(lambda x: ode.step({"x": x})["state"].sum())(x.detach())
    assert torch.allclose(second.diagonal(), -1.5 * torch.sin(x))
    assert type(ode.step({"x": jnp.ones(2)})["state"]) is type(jnp.ones(2))
    assert type(ode.step({"x": np.ones(2, "float32")})["state"]) is np.ndarray


def test_a_rule_that_is_registered_comes_before_jaxs_own():
    double = neutral(runs_on="jax", grad="bridge")(lambda x: x * 2)
    x = torch.ones(2, requires_grad=True)
    double(x).sum().backward()
    double.backward(lambda ctx, grad: grad * 7)
    double(x).sum().backward()
    assert x.grad.tolist() == [9, 9]


# torch.func.


def test_transformations():
    x, y = torch.randn(3, 2, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)

    def loss(x, y):
        return product(x, y).sum()

    assert torch.equal(torch.func.grad(loss)(x, y), y)
    assert torch.equal(torch.func.vmap(torch.func.grad(loss))(x, y), y)
    assert torch.equal(torch.func.grad(lambda x: torch.func.vmap(product)(x, y).sum())(x), y)
    assert torch.equal(torch.func.jvp(product, (x, y), (x, y))[1], 2 * x * y)
    assert torch.equal(torch.func.jvp(lambda x: torch.func.vmap(product)(x, y), (x,), (x,))[1], x * y)
    assert torch.equal(torch.func.jacrev(scaled)(x[0]), 2 * torch.eye(2, dtype=torch.float64))
    assert torch.equal(torch.func.jacfwd(scaled)(x[0]), 2 * torch.eye(2, dtype=torch.float64))
    assert torch.equal(torch.func.vmap(without_rules())(x), 2 * x)  # no gradient is lost


@pytest.mark.parametrize(
    ("transformed", "rule"),
    [
        (lambda f, x: torch.func.grad(lambda x: f(x).sum())(x), "backward"),
        (lambda f, x: torch.func.vmap(torch.func.grad(lambda x: f(x).sum()))(x), "backward"),
        (lambda f, x: torch.func.grad(lambda x: torch.func.vmap(f)(x).sum())(x), "backward"),
        (lambda f, x: torch.func.vmap(f)(x.requires_grad_()), "backward"),
        (lambda f, x: torch.func.jvp(f, (x,), (x,)), "jvp"),
        (lambda f, x: torch.func.jvp(torch.func.vmap(f), (x,), (x,)), "jvp"),
        (lambda f, x: torch.func.vmap(lambda x: torch.func.jvp(f, (x,), (x,)))(x), "jvp"),
        (lambda f, x: torch.func.jacfwd(f)(x[0]), "jvp"),
    ],
)
def test_what_a_transformation_follows_is_refused_without_a_rule_before_the_function_is_run(transformed, rule):
    runs = []

    @bridge()
    def counted(x):
        runs.append(1)
        return x * 1

    with pytest.raises(GradError, match=rf"counted\(\.\.\.\): autograd tracks x, .* counted has no {rule}: "):
        transformed(counted, torch.ones(2, 2))
    assert not runs
    getattr(counted, rule)(lambda ctx, grad: grad)
    transformed(counted, torch.ones(2, 2))
    assert runs


def test_what_is_only_inside_of_a_transformation_needs_no_rule():
    plain = without_rules()
    constant = torch.ones(2)

    def around(x):
        assert plain(constant * 2).tolist() == [4, 4]
        assert plain(x.detach()).tolist() == [2, 2]
        with torch.no_grad():
            plain(x.detach() + constant)
        return x.sum()

    torch.func.grad(around)(torch.ones(2))
    torch.func.jvp(around, (torch.ones(2),), (torch.ones(2),))
    assert _stack() is None


def test_a_tangent_is_refused_without_its_rule():
    plain = without_rules()
    plain.backward(pull)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(torch.ones(2), torch.ones(2))
        with pytest.raises(GradError) as caught:
            plain(dual)
        assert str(caught.value) == (
            "scaled(...): autograd tracks x, NumPy is outside its graph and scaled has no jvp: the tangent would be lost.\n\n"
            "Hint: Register one: @scaled.jvp, above a function (ctx, *tangents) that returns the tangent of each result. "
            "Or drop it: grad='detach' in its @neutral(...), in the place of 'bridge'."
        )
        plain(torch.ones(2))  # one without
        plain.setup_context(keep)
        plain.jvp(push)
        assert forward_ad.unpack_dual(plain(dual)).tangent.tolist() == [2, 2]


# What is not followed.

ARRAYS = {
    "numpy": lambda: np.asarray([1.0, 3.0], dtype="float32"),
    "torch": lambda: torch.tensor([1.0, 3.0]),
    "jax": lambda: jnp.asarray([1.0, 3.0]),
    "array_api_strict": lambda: array_api_strict.asarray([1.0, 3.0], dtype=array_api_strict.float32),
}


@pytest.mark.parametrize("make", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("rules", [False, True])
def test_a_call_that_autograd_does_not_track_is_as_without_a_bridge(make, rules):
    def function(x, log=(), *, xp=None):
        return {"x": x, "writes": getattr(x, "flags", None) and x.flags.writeable, "xp": xp, "float": float(xp.sum(x)), "log": log}

    plain, bridged = neutral(runs_on="numpy")(function), bridge()(function)
    if rules:
        bridged.backward(lambda ctx, grad: grad)
    x = make()
    one, other = plain(x, [x, 3]), bridged(x, log=[x, 3])
    assert type(one["x"]) is type(other["x"]) is type(x)
    assert interop.shares_memory(other["x"], x) == interop.shares_memory(one["x"], x)
    assert [other[key] for key in ("writes", "xp", "float")] == [one[key] for key in ("writes", "xp", "float")]
    assert type(other["log"][0]) is type(x)
    assert bridged(3.0, xp=np)["x"] == 3.0  # no array at all


def test_what_torch_follows_arrives_read_only():
    """The negative control of the test above: there are two ways."""

    @bridge()
    def written(x):
        x += 1
        return x

    assert written(torch.ones(2)).tolist() == [2, 2]
    written.backward(lambda ctx, grad: grad)
    with pytest.raises(ValueError, match="read-only"):
        written(leaf(2))


def test_a_scope_does_not_take_the_bridge_away():
    x = leaf(2)
    with interop.policy(grad="detach"):
        assert scaled(x).requires_grad
        with pytest.raises(GradError):
            without_rules()(x)


# What is refused, and that its hint works.


def test_without_a_rule_it_is_refused_in_words_that_work():
    plain = without_rules()
    x = leaf(2)
    with pytest.raises(GradError) as caught:
        plain([x.detach(), x])
    assert str(caught.value) == (
        "scaled(...): autograd tracks x[1], NumPy is outside its graph and scaled has no backward: the gradient would be lost.\n\n"
        "Hint: Register one: @scaled.backward, above a function (ctx, *grads) that returns the gradient, or None, of each argument (x, k). "
        "Or drop it: grad='detach' in its @neutral(...), in the place of 'bridge'."
    )
    assert caught.value.permissions == {}
    assert not neutral(runs_on="numpy", grad="detach")(lambda x, k=2.0: x * k)(x).requires_grad
    plain.backward(lambda ctx, *grads: (*grads, None))
    assert plain(x).requires_grad
    with pytest.raises(GradError, match=r"@f\.backward, above .* of each argument\. Or"):
        bridge()(lambda *xs: xs[0])(x)


@pytest.mark.parametrize(
    ("words", "title"),
    [({"like": "first"}, "NumPy"), ({"like": "x"}, "NumPy"), ({"to": "numpy"}, "NumPy"), ({"to": "jax"}, "JAX")],
    ids=str,
)
def test_results_that_leave_torch_are_refused_in_words_that_work(words, title):
    def times(x, y):
        return x * y

    x, y = np.ones(2, "float32"), torch.ones(2, requires_grad=True)
    with pytest.raises(GradError) as caught:
        bridge(**words)(times)(x, y)
    ((name, value),) = words.items()
    assert str(caught.value) == (
        f"times(...): autograd tracks y, and {name}={value!r} takes the results to {title}, outside its graph: the gradient would be lost.\n\n"
        f"Hint: Let everything follow torch, to='torch' in the place of {name}={value!r}; or pass y.detach(); or drop it: grad='detach' in its @neutral(...), "
        "in the place of 'bridge'."
    )
    bridge(**words)(times)(x, y.detach())
    neutral(runs_on="numpy", **words, grad="detach")(times)(x, y)
    followed = bridge(to="torch")(times)
    followed.backward(lambda ctx, grad: (None, grad * ctx.saved_tensors[0]))
    assert followed(x, y).requires_grad


@pytest.mark.parametrize("words", [{"like": "first"}, {"like": "x"}, {"to": "torch"}], ids=str)
@pytest.mark.parametrize("make", ARRAYS.values(), ids=ARRAYS)
def test_what_is_mixed_goes_along(make, words):
    @bridge(**words)
    def times(x, others, *, xp=None):
        assert type(x) is type(others[0]) is np.ndarray
        assert xp is array_api_compat.numpy
        return x * others[0]

    @times.setup_context
    def _(ctx, inputs, output):
        ctx.by = inputs[1][0]

    @times.backward
    def _(ctx, grad):
        return grad * ctx.by, None

    x = torch.ones(2, requires_grad=True)
    found = times(x, others=[make(), "word"])
    assert type(found) is torch.Tensor
    found.sum().backward()
    assert x.grad.tolist() == [1, 3]


def test_mixed_arguments_are_refused_as_always():
    with pytest.raises(MixedBackendsError, match=r"product\(\.\.\.\) got arrays of several libraries:\n  - x: torch on cpu\n  - y: numpy"):
        product(leaf(2), np.ones(2))
    with pytest.raises(MixedBackendsError, match="let the function do it: to='torch' in its @neutral"):
        product(np.ones(2), leaf(2))


@pytest.mark.parametrize(
    ("words", "kind", "text"),
    [
        ({"grad": "bridge"}, TypeError, r"say which, as in neutral\(runs_on='numpy', grad='bridge'\)"),
        ({"grad": "bridge", "to": "torch"}, TypeError, "say which"),
        ({"grad": "brigde", "runs_on": "numpy"}, ValueError, "did you mean 'bridge'. Values: 'error', 'detach', 'bridge'"),
        ({"grad": "detatch", "runs_on": "numpy"}, ValueError, "did you mean 'detach'"),
        ({"grad": "bridge", "runs_on": "numpi"}, ValueError, "did you mean 'numpy'"),
        ({"grad": "bridge", "runs_on": "torch"}, ValueError, "through one of torch's own, gradients flow without it"),
        ({"grad": "bridge", "runs_on": "numpy", "like": "fist"}, ValueError, "did you mean 'first'"),
        ({"grad": "bridge", "runs_on": "numpy", "castin": "safe"}, TypeError, "did you mean 'casting'"),
        ({"grad": "bridge", "runs_on": "numpy", "casting": "save"}, ValueError, "did you mean 'safe'"),
    ],
)
def test_wrong_keywords_are_refused_when_the_function_is_decorated(words, kind, text):
    with pytest.raises(kind, match=text):
        neutral(**words)(lambda x: x)


def test_a_bridge_is_no_permission():
    for wrong in (lambda: interop.Policy(grad="bridge"), lambda: interop.to_numpy(leaf(1), grad="bridge")):
        with pytest.raises(ValueError, match="grad='bridge' is not a value of this permission"):
            wrong()
    with pytest.raises(ValueError, match="grad='bridge' is not"), interop.policy(grad="bridge"):
        pass


def test_what_cannot_be_bridged_is_refused():
    async def later(x):
        return x

    def generator(x):
        yield x

    def with_context(ctx, x):
        return x

    for wrong, text in (
        (later, "later is a coroutine function: .* await around its call"),
        (generator, "generator is a generator"),
        (with_context, r"takes ctx, which its callers do not have: .* under @with_context\.setup_context"),
        (3, "neutral decorates a function"),
        (staticmethod(len), "neutral decorates a function"),
    ):
        with pytest.raises(TypeError, match=text):
            bridge()(wrong)
    assert asyncio.run(neutral(runs_on="numpy")(later)(torch.ones(1))) == 1  # the negative control
    with pytest.raises(TypeError, match=r"@scaled\.backward decorates a function, got 3"):
        scaled.backward(3)


def test_a_python_float_carries_no_gradient():
    total = bridge()(lambda x: float(x.sum()))
    total.backward(lambda ctx, grad: grad)
    assert total(torch.ones(2)) == 2.0
    with pytest.raises(UnsupportedTypeError, match="which no gradient can flow through"):
        total(leaf(2))


# What is wrapped already.


def wrapped_sine(**words):
    @wrap(runs_on="numpy", **words)
    def sine(ctx, x):
        ctx.save_for_backward(x)
        return np.sin(x)

    @sine.backward
    def _(ctx, grad):
        return grad * np.cos(ctx.saved_tensors[0])

    return sine


def test_a_wrapped_function_is_used_as_it_is():
    wrapped = wrapped_sine()
    sine = bridge()(wrapped)
    x = leaf(3)
    assert gradcheck(sine, x)
    for make in ARRAYS.values():
        assert type(sine(make())) is type(make())
    assert str(inspect.signature(sine)) == "(x)"
    assert not hasattr(sine, "operation")
    sine.backward(lambda ctx, grad: grad * 5)  # registered here or there, it is one function
    wrapped(x).sum().backward()
    assert x.grad.tolist() == [5, 5, 5]
    with pytest.raises(MixedBackendsError, match=r"\n  - x\[0\]: torch"):
        sine([torch.ones(1), np.ones(1)])


def test_a_function_that_is_wrapped_for_another_library_is_refused():
    with pytest.raises(ValueError, match=r"sine is wrapped for 'numpy', so it runs there: write runs_on='numpy'\."):
        neutral(runs_on="jax", grad="bridge")(wrapped_sine())


def test_the_permissions_of_a_wrapped_function_are_its_own():
    with pytest.raises(TypeError, match=r"write casting='same_kind' into its autograd\.wrap\(\.\.\.\)\."):
        bridge(casting="same_kind")(wrapped_sine())

    def widened(x):
        return np.asarray(x, dtype="float64")

    x = jnp.ones(2)  # JAX without 64 bits
    with pytest.raises(DTypeError, match=r"the result of widened(?s:.*)casting='same_kind' into its autograd\.wrap\(\.\.\.\)"):
        bridge()(wrap(widened, runs_on="numpy"))(x)
    assert bridge()(wrap(widened, runs_on="numpy", casting="same_kind"))(x).dtype == "float32"


# Permissions.


def test_casting_is_permitted_where_the_function_was_made_neutral():
    def widening(**words):
        made = bridge(**words)(lambda x: x * 1)
        made.backward(lambda ctx, grad: grad.astype("float64"))
        return made

    x = torch.ones(2, requires_grad=True)
    with pytest.raises(DTypeError) as caught:
        widening()(x).sum().backward()
    assert "casting='same_kind' into its @neutral(...)" in caught.value.hint
    widening(**caught.value.permissions)(x).sum().backward()
    assert x.grad.dtype is torch.float32


def test_a_dtype_that_the_library_lacks_needs_its_permission():
    def strict(**words):
        made = neutral(runs_on="array_api_strict", grad="bridge", **words)(lambda x: x * 2)
        made.backward(lambda ctx, grad: grad * 2)
        return made

    x = torch.ones(2, dtype=torch.float16, requires_grad=True)
    with pytest.raises(DTypeError, match="at x") as caught:
        strict()(x)
    assert caught.value.hint.startswith("write casting='safe' into its @neutral(...)")
    assert strict(**caught.value.permissions)(x).dtype is torch.float32
    strict(casting="same_kind")(x).sum().backward()  # the gradient comes back narrower than it was
    assert x.grad.dtype is torch.float16
    assert x.grad.tolist() == [2, 2]


@pytest.mark.gpu
def test_a_transfer_needs_its_permission_and_gradients_come_back_to_the_gpu():
    def summed(**words):
        made = bridge(**words)(lambda x, y: x * y)
        made.backward(lambda ctx, grad: (grad * ctx.saved_tensors[1], grad * ctx.saved_tensors[0]))
        return made

    x = torch.ones(3, device="cuda", requires_grad=True)
    with pytest.raises(TransferError, match="at x"):
        summed()(x, x)
    found = summed(transfer="allow")(x, x)
    assert found.is_cuda
    found.sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
    y = torch.ones(3, requires_grad=True)
    with pytest.raises(MixedBackendsError):
        summed(transfer="allow")(x, y)
    both = summed(transfer="allow", like="first")
    assert both(x, y).is_cuda
    found = both(y=y, x=x)  # the first of the signature, whatever the order of the call
    assert found.is_cuda
    found.sum().backward()
    assert not y.grad.is_cuda


# Guards and records.


def test_nothing_is_lost_so_no_guard_minds():
    x = leaf(2)
    with interop.guard():
        scaled(x).sum().backward()
    with interop.guard(native=True):
        scaled(x).sum().backward()
    assert x.grad.tolist() == [4, 4]
    with interop.guard(grads="error"), pytest.raises(GradError):  # the negative control
        neutral(runs_on="numpy", grad="detach")(lambda x: x)(x)


def test_a_record_shows_the_crossings():
    x = leaf(2)
    with interop.record() as log:
        found = scaled([x][0])
    assert [(one.source.backend, one.target, one.path, one.shared) for one in log.crossings] == [
        ("torch", "numpy", "x", True),
        ("numpy", "torch", "the result", True),
    ]
    assert all(one.site.startswith(__file__) for one in log.crossings)
    with interop.record() as log:
        found.sum().backward()
    assert log.crossings
    assert log.transfers == []


# The function stays what it was.


class Model:
    def __init__(self):
        self.k = 3.0

    @bridge()
    def method(self, x, xp=None):
        assert xp is array_api_compat.numpy
        return x * self.k

    @method.backward
    def _(ctx, grad):
        return grad * 3, None

    @classmethod
    @bridge()
    def of_class(cls, x):
        assert cls is Model
        return x * 2

    of_class.__func__.backward(lambda ctx, grad: grad * 2)

    @staticmethod
    @bridge()
    def static(x):
        return x * 2

    static.__wrapped__.backward(lambda ctx, grad: grad * 2)

    wrapped = bridge()(wrap(lambda self, x: x * self.k, lambda ctx, grad: grad * 3, runs_on="numpy"))


@pytest.mark.parametrize("name", ["method", "of_class", "static", "wrapped"])
def test_methods(name):
    model = Model()
    x = leaf(2)
    getattr(model, name)(x).sum().backward()
    assert x.grad.tolist() == [3, 3] if name in ("method", "wrapped") else [2, 2]
    for make in ARRAYS.values():
        assert type(getattr(model, name)(make())) is type(make())


def test_methods_name_their_rules_as_the_class_body_does():
    class Other:
        @bridge()
        def method(self, x):
            return x

    with pytest.raises(GradError, match=r"Other\.method\(\.\.\.\): autograd tracks x, (?s:.*)@method\.backward, above .* \(x\)\."):
        Other().method(leaf(1))
    Other.method.backward(lambda ctx, grad: grad)
    assert Other().method(leaf(1)).requires_grad


def test_signature_docstring_and_name_stay():
    assert str(inspect.signature(scaled)) == "(x, k=2.0)"
    assert (scaled.__name__, scaled.__doc__, scaled.__module__) == ("scaled", "Scale.", __name__)
    assert pickle.loads(pickle.dumps(at_the_top)) is at_the_top


def test_functions_written_in_c_are_taken():
    import cv2

    blur = bridge()(cv2.blur)
    with pytest.raises(GradError, match=r"autograd tracks args\[0\]"):
        blur(torch.ones(5, 5, requires_grad=True), (3, 3))
    blur.backward(lambda ctx, grad: (cv2.blur(grad, (3, 3), borderType=cv2.BORDER_CONSTANT), None))
    x = torch.ones(5, 5, requires_grad=True)
    blur(x, (3, 3))[2, 2].backward()
    assert abs(float(x.grad.sum()) - 1) < 1e-6
    assert x.grad[0].tolist() == [0] * 5


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the compiler's own, after every call that it leaves alone
def test_compiled_code_leaves_the_call_alone():
    x, graphs = leaf(3), []

    def backend(graph, _):
        graphs.append([node.target.__name__ for node in graph.graph.nodes if node.op == "call_function"])
        return graph.forward

    torch.compile(lambda x: scaled(x * 2) + 1, backend=backend)(x).sum().backward()
    assert x.grad.tolist() == [4, 4, 4]
    assert graphs == [["mul"], ["add"]]  # before and after


def test_nothing_is_loaded_before_it_is_needed():
    code = (
        "import sys, interop\n@interop.neutral(runs_on='numpy', grad='bridge')\ndef f(x): return x * 2\n"
        "f.backward(lambda ctx, grad: grad * 2)\n"
        "assert not {'torch', 'jax', 'array_api_compat', 'interop.autograd'} & sys.modules.keys()\n"
        "import numpy\nassert f(numpy.ones(2))[0] == 2\nassert 'torch' not in sys.modules\n"
        "import torch\nx = torch.ones(2)\nf(x)\nassert 'interop.autograd' not in sys.modules\n"
        "f(x.requires_grad_()).sum().backward()\nassert 'interop.autograd' in sys.modules\nassert x.grad.tolist() == [2, 2]"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


# Types.


def test_the_permissions_are_all_but_the_one_that_it_replaces():
    def spelled(words):
        return {name: annotation.__forward_arg__ for name, annotation in words.__annotations__.items()}

    assert {**spelled(Ungraded), "grad": "Grad | None"} == spelled(Permissions)
