"""`interop.testing.gradcheck`: honest functions pass, and each mistake that people make is caught by the check that is for it."""

import contextlib
import contextvars
import itertools
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

import interop
from interop import GradError, LayoutError
from interop.autograd import wrap
from interop.testing import gradcheck
from interop.testing._gradcheck import runs

X = torch.tensor([[0.5, -1.5, 2.0], [1.0, 0.25, -0.75]], dtype=torch.float64)
Y = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
Z = torch.tensor([0.5 - 1.0j, 2.0 + 0.25j, -0.75j], dtype=torch.complex128)
MATRIX = torch.tensor([[3.0, 0.5, 0.0], [-0.5, 2.0, 0.25], [0.0, 1.0, 4.0]], dtype=torch.float64)


def made(forward, backward=None, jvp=None, **words):
    """Return a wrapped function of NumPy."""
    return wrap(forward, backward, runs_on="numpy", jvp=jvp, **words)


# Honest functions.


def square(**words):
    return made(lambda x: x**2, lambda ctx, g: 2 * ctx.saved_tensors[0] * g, lambda ctx, t: 2 * ctx.saved_tensors[0] * t, **words)


def product(**words):
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y if ctx.needs_input_grad[0] else None, g * x if ctx.needs_input_grad[1] else None

    def jvp(ctx, s, t):
        x, y = ctx.saved_tensors
        return (0 if s is None else s * y) + (0 if t is None else x * t)

    return made(lambda x, y: x * y, backward, jvp, **words)


def solve():
    def backward(ctx, g):
        a, x = ctx.saved_tensors
        b = np.linalg.solve(a.T, g)
        return -np.outer(b, x), b

    def setup(ctx, inputs, output):
        ctx.save_for_backward(inputs[0], output)

    return made(np.linalg.solve, backward, setup_context=setup)


def conjugated_product():
    return made(lambda z, w: z * np.conj(w), lambda ctx, g: (g * ctx.saved_tensors[1], np.conj(g) * ctx.saved_tensors[0]))


def holomorphic(sign=1):
    """With a jvp."""
    return made(
        lambda z: z**2,
        lambda ctx, g: 2 * np.conj(ctx.saved_tensors[0]) * g,
        lambda ctx, t: 2 * (ctx.saved_tensors[0].real + sign * 1j * ctx.saved_tensors[0].imag) * t,
    )


def modulus():
    """Complex in, real out."""
    return made(lambda z: np.abs(z) ** 2, lambda ctx, g: 2 * g * ctx.saved_tensors[0])


def extremes():
    """Several results, one of them of integers."""

    def forward(ctx, x):
        at = x.argmax(axis=0)
        ctx.save_for_backward(at)
        ctx.shape = x.shape
        return {"at": at, "max": x.max(axis=0), "sum": x.sum()}

    def backward(ctx, given):
        (at,) = ctx.saved_tensors
        grad = np.zeros(ctx.shape)
        np.put_along_axis(grad, at[None], given["max"][None], axis=0)
        return grad + given["sum"]

    return made(forward, backward)


def layer():
    """A tree, a flag and a tensor of integers."""

    def forward(parameters, rows, *, flip=False):
        out = parameters["w"][rows] + parameters["b"]
        return -out if flip else out

    def backward(ctx, g):
        saved = ctx.saved_tensors  # in optree's order: the keys of a dict are sorted
        rows = saved[-1]
        grad = np.zeros((2, 3))
        np.add.at(grad, rows, g)
        return {"w": grad, "b": g.sum(axis=0)}, None

    return made(forward, backward)


def inverse():
    """Of what has none it raises."""

    def backward(ctx, g):
        inverted = np.linalg.inv(*ctx.saved_tensors)
        return -inverted.T @ g @ inverted.T

    return made(np.linalg.inv, backward)


def chain():
    """Its backward is made of wrapped functions, and its own can be differentiated."""
    sin, cos = made(np.sin, once_differentiable=False), made(np.cos, once_differentiable=False)

    @sin.backward
    def _(ctx, g):
        return g * cos(ctx.saved_tensors[0])

    @cos.backward
    def _(ctx, g):
        return -g * sin(ctx.saved_tensors[0])

    return sin


HONEST = {
    "one input": (square, X),
    "no axes": (square, Y[0].clone()),
    "no elements": (square, torch.zeros((0, 3), dtype=torch.float64)),
    "both vmaps": (lambda: square(vmap="leading"), (X,)),
    "broadcast": (product, (X, Y)),
    "broadcast both": (product, (X[:, :1], Y)),
    "one needs a gradient": (product, (X, Y.clone().requires_grad_())),
    "no need looked at": (lambda: made(lambda x, y: x * y, lambda ctx, g: (g * ctx.saved_tensors[1], g * ctx.saved_tensors[0])), (X, Y)),
    "solve": (solve, (MATRIX, Y)),
    "complex": (conjugated_product, (Z, Z.flip(0) + 1)),
    "complex to real": (modulus, Z),
    "complex, forward": (holomorphic, Z),
    "several results": (extremes, X),
    "a tree": (layer, ({"w": X, "b": Y}, torch.tensor([0, 1, 1]))),
    "twice": (chain, Y),
    "twice, of two": (lambda: torch_rule(lambda ctx, g: (g * ctx.saved_tensors[1], g * ctx.saved_tensors[0]), np.multiply), (X, Y)),
    "not for all values": (inverse, MATRIX),
    "torch's own": (lambda: torch.matmul, (X, MATRIX)),
    "torch's, complex": (lambda: torch.fft.ihfft, Y),
    "torch's, with a list": (lambda: torch.cat, ([X, X[:1]], 1 - 1)),
    "no second derivative": (lambda: Once.apply, Y),
}


SINGULAR = r"Not checked: 'a' expanded \(the function does not take these values: LinAlgError: Singular matrix\)"
UNSEEN = {"solve": SINGULAR, "not for all values": SINGULAR}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_function_passes(name):
    make, inputs = HONEST[name]
    with pytest.warns(UserWarning, match=UNSEEN[name]) if name in UNSEEN else contextlib.nullcontext():
        assert gradcheck(make(), inputs) is None


def test_what_could_not_be_seen_is_said():
    def forward(x):
        if np.abs(x - Y.numpy()).max() > 1e-3:  # as far as a numerical derivative has to move
            raise ValueError("values that were not foreseen")
        return x**2

    words = {"layouts": ("strided",)}
    function = made(forward, lambda ctx, g: 2 * ctx.saved_tensors[0] * g)
    with pytest.warns(UserWarning, match="could not be checked") as caught:
        gradcheck(function, Y, **words)
    (text,) = [str(one.message) for one in caught]
    assert text.startswith("gradcheck: forward passes, but some of it could not be checked.\n")
    why = "(the function takes no other values: ValueError: values that were not foreseen)"
    assert re.findall(r"^Not checked: (.*?) \(", text, re.MULTILINE) == [
        "calls that disturb each other",
        "threads that disturb each other",
        "vmap that mixes up its slices",
    ]
    assert text.count(why) == 3
    assert caught[0].filename == __file__
    wrong = made(forward, lambda ctx, g: 3 * ctx.saved_tensors[0] * g)
    with pytest.raises(AssertionError, match=r"\nNot checked: calls that disturb each other \(the function"):
        gradcheck(wrong, Y, **words)


def test_other_values_are_looked_for():
    """What is greater than one stays so, and what adds up to one."""

    def above(x):
        if (x < 1).any():
            raise ValueError("below one")
        return np.arccosh(x)

    def shares(x):
        if abs(x.sum() - 1) > 1e-4:
            raise ValueError("not the whole")
        return -x * np.log(x)

    gradcheck(made(above, lambda ctx, g: g / np.sqrt(ctx.saved_tensors[0] ** 2 - 1)), 1.001 + Y.abs())
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    gradcheck(made(shares, lambda ctx, g: -g * (np.log(ctx.saved_tensors[0]) + 1)), weights, layouts=("strided",))


def test_keywords_are_handed_over():
    inputs = ({"w": X, "b": Y}, torch.tensor([0, 1, 1]))
    with pytest.raises(AssertionError, match=r"fails .* gradients"):
        gradcheck(layer(), inputs, {"flip": True})  # its rule forgets the sign


@pytest.mark.slow
def test_jax_differentiates_twice_and_forward():
    import jax
    import jax.numpy as jnp

    def function(x, y):
        return jnp.sin(x) * y

    with jax.enable_x64(True):  # in this thread only
        gradcheck(wrap(function, runs_on="jax"), (Y[:2], Y[2]), threads=0)

    def mistaken(x):
        return jnp.sin(jax.lax.stop_gradient(x)) * x

    with jax.enable_x64(True), pytest.raises(AssertionError, match=r"fails .* gradients, .*double backward, .*forward mode"):
        gradcheck(wrap(mistaken, runs_on="jax"), Y[:2], threads=0, vmap=False, layouts=False)


def test_the_inputs_are_left_alone():
    x = X.clone().requires_grad_()
    before = x._version
    gradcheck(square(), x)
    assert (x.requires_grad, x.grad, x._version, torch.equal(x, X)) == (True, None, before, True)


# Mistakes. Each with the checks that fail, all of them, and some words of the message.


# No attribute of a class: with several threads Python reads an array there that it has freed already (python/cpython#118492).
KEPT = {}


def forgetful():
    """Keeps on a global what belongs on the context."""

    def forward(x):
        KEPT[0] = x
        return x**2

    return made(forward, lambda ctx, g: 2 * KEPT[0] * g)


def scratch():
    """Has one place to work in, for all calls."""
    place = np.empty(X.shape)

    def forward(x):
        place[...] = x
        time.sleep(0.002)
        return place**2

    return made(forward, lambda ctx, g: 2 * ctx.saved_tensors[0] * g)


def of_one_thread():
    def forward(x):
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("only in the main thread")
        return x**2

    return made(forward, lambda ctx, g: 2 * ctx.saved_tensors[0] * g)


def no_none():
    def forward(ctx, x, y):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, y)
        return x * y

    rules = (
        lambda ctx, g: (g * ctx.saved_tensors[1], g * ctx.saved_tensors[0]),
        lambda ctx, s, t: s * ctx.saved_tensors[1] + t * ctx.saved_tensors[0],
    )
    return made(forward, *rules)


def noisy():
    numbers = itertools.count(1)
    return made(lambda x: x**2 + 1e-3 * next(numbers), lambda ctx, g: 2 * ctx.saved_tensors[0] * g)


def noisy_backward():
    numbers = itertools.count(1)
    return made(lambda x: x**2, lambda ctx, g: 2 * ctx.saved_tensors[0] * g * (1 + 1e-6 * next(numbers)))


def in_place(ctx, g):
    g *= 2 * ctx.saved_tensors[0]
    return g


def overwriting(x):
    out = np.asarray(x)
    x[...] = x**2
    return out.copy()


def two(backward, **words):
    return made(lambda x: (x**2, np.sin(x)), backward, **words)


def materialized(ctx, g, h):
    return 2 * ctx.saved_tensors[0] * g + np.cos(ctx.saved_tensors[0]) * h


def lazy():
    """Two results, gradients that may be None, and a rule that forgets one then."""

    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return x**2, np.sin(x)

    def backward(ctx, g, h):
        return materialized(ctx, g, h) if g is not None and h is not None else np.zeros_like(ctx.saved_tensors[0])

    return made(forward, backward)


def torch_rule(backward, forward=lambda x: x**3):
    return made(forward, backward, once_differentiable=False)


def dropped_with_others(ctx, g):
    x, y = ctx.saved_tensors
    return (g * y).detach(), g * x


def in_order_of_memory(x):
    return np.ravel(x, order="A").reshape(x.shape) ** 2


def only_needed(ctx, g):
    """Right when all is asked for."""
    x, y = ctx.saved_tensors
    return (g * y, g * x) if all(ctx.needs_input_grad) else (g * x if ctx.needs_input_grad[0] else None, g * y)


def leading(x):
    return x - x.mean(axis=0)


class Leaves(torch.autograd.Function):
    """A function of torch whose gradient leaves the graph."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        return 3 * ctx.saved_tensors[0].detach() ** 2 * g


class Once(Leaves):
    """The same, declared to be so."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 3 * ctx.saved_tensors[0] ** 2 * g


class Remembers(torch.autograd.Function):
    """A function of torch, without vmap, that stores its gradients, and returns that memory."""

    known: ClassVar = {}

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        key = repr(g.tolist())
        if key not in Remembers.known:
            Remembers.known[key] = 2 * g.numpy()
        return torch.from_numpy(Remembers.known[key])


ADDED, GRADIENT, DOUBLE, FORWARD, CALLS = "accumulated gradients", "gradients", "double backward", "forward mode", "interleaved calls"
INPUTS, INCOMING, THREADS, VMAP = "layouts of inputs", "layouts of incoming gradients", "threads", "vmap"
EVERYTHING = {GRADIENT, ADDED, CALLS, "patterns", INPUTS, INCOMING, THREADS, VMAP}

MUTANTS = {
    "a wrong factor": (lambda: made(lambda x: x**2, lambda ctx, g: ctx.saved_tensors[0] * g), X, {GRADIENT}, r"6 of 36 derivatives by 'x' differ, the greatest by 2 from x\[0, 2\] to the result\[0, 2\]: analytical 2, numerical 4"),
    "no gradient": (lambda: made(lambda x, y: x * y, lambda ctx, g: (g * ctx.saved_tensors[1], None)), (X, Y), {GRADIENT}, r"derivatives by 'y' differ"),
    "no conjugate": (lambda: made(lambda z: z**2, lambda ctx, g: 2 * ctx.saved_tensors[0] * g), Z, {GRADIENT}, r"by 'z' differ, the greatest by 4 from z\[0\]\.(real|imag) to the result\[0\]\.(imag|real)"),
    "summed over the wrong axes": (lambda: made(lambda x, y: x * y, lambda ctx, g: (g * ctx.saved_tensors[1], (g * ctx.saved_tensors[0])[0])), (X, Y), {GRADIENT}, r"3 of 18 derivatives by 'y' differ"),
    "the mean for the sum": (lambda: made(lambda x, y: x * y, lambda ctx, g: (g * ctx.saved_tensors[1], (g * ctx.saved_tensors[0]).mean(axis=0))), (X, Y), {GRADIENT}, r"6 of 18 derivatives by 'y' differ"),
    "a raveled gradient": (lambda: made(lambda x: x**2, lambda ctx, g: (2 * ctx.saved_tensors[0] * g).ravel()), X, {GRADIENT}, r"raised GradError: .* gradient of 'x' has shape \(6,\), the input \(2, 3\)"),
    "raveled in the order of memory": (lambda: made(lambda x: x + 0, lambda ctx, g: np.ravel(g, order="K").reshape(g.shape)), X, {INCOMING}, r"the gradient of the result transposed, strides \(1, 2\): the gradient of 'x': greatest difference"),
    "not linear": (lambda: made(lambda x: x + 0, lambda ctx, g: g**2), X, {GRADIENT}, "not linear in the incoming gradient: the gradient of 'x'"),
    "not linear, of one number": (lambda: made(lambda x: x + 0, lambda ctx, g: g**2), Y[0], {GRADIENT}, "not linear in the incoming gradient"),
    "state on a global": (forgetful, X, {CALLS, THREADS, VMAP}, r"in thread \d of 4: the gradient of 'x': greatest difference"),
    "one place to work in": (scratch, X, {THREADS}, r"in thread \d of 4: the result: greatest difference"),
    "refuses other threads": (of_one_thread, X, {THREADS}, r"in thread \d of 4: raised RuntimeError: only in the main thread"),
    "writes into the gradient": (lambda: made(lambda x: x**2, in_place), X, {GRADIENT}, "raised ValueError: output array is read-only"),
    "writes into a gradient that is shared": (lambda: made(lambda x: x**2, in_place, readonly="share"), X, {"untouched gradients", INCOMING, VMAP}, r"\['the gradient of the result'\]"),
    "writes into its input": (lambda: made(overwriting, lambda ctx, g: 2 * ctx.saved_tensors[0] * g, readonly="share"), X, {"untouched inputs"}, r"\['x'\], torch.Tensor float64\[2, 3\] on cpu, requires grad:\n    values: 5 of 6 elements"),
    "reads in the order of memory": (lambda: made(in_order_of_memory, lambda ctx, g: 2 * ctx.saved_tensors[0] * g), X, {INPUTS}, r"'x' transposed, strides \(1, 2\): the result: greatest difference"),
    "drops a term of the second derivative": (lambda: torch_rule(lambda ctx, g: 3 * ctx.saved_tensors[0].detach() ** 2 * g), X, {DOUBLE}, r"derivatives by 'x' differ, .* to the gradient of 'x'\["),
    "drops one gradient's graph": (lambda: torch_rule(dropped_with_others, lambda x, y: x * y), (Y, Y + 1), {DOUBLE}, r"to the gradient of 'x'\["),
    "leaves the graph in its backward": (lambda: Leaves.apply, X, {DOUBLE}, "differ"),
    "declared to be differentiable twice": (square, X, {DOUBLE}, "raised GradError: the backward of .* is not differentiable"),
    "a jvp with the wrong sign": (lambda: made(lambda x: x**2, lambda ctx, g: 2 * ctx.saved_tensors[0] * g, lambda ctx, t: -2 * ctx.saved_tensors[0] * t), X, {FORWARD}, r"from x\[0, 2\] to the result\[0, 2\]: analytical -4, numerical 4"),
    "a jvp with a conjugate": (lambda: holomorphic(-1), Z, {FORWARD}, r"derivatives by 'z' differ, the greatest by 4 from z\[0\]"),
    "a jvp that knows no None": (no_none, (X, Y), {"unused results", FORWARD}, "raised TypeError: .*NoneType"),
    "not the same twice": (noisy, X, {"determinism"}, r"the result: greatest difference 0.00"),
    "a gradient that is not the same twice": (noisy_backward, X, EVERYTHING, "Backward is not reentrant"),
    "returns memory that it stores": (lambda: Remembers.apply, X, {ADDED, "patterns", INPUTS, VMAP}, r"after gradients were added up in place: the gradient of 'args\[0\]'"),
    "right only for all": (lambda: made(lambda x, y: x * y, only_needed), (Y, Y + 1), {"patterns"}, r"with a gradient for 'x' only: the gradient of 'x': greatest difference"),
    "forgets a result that goes alone": (lazy, X, {GRADIENT, "unused results"}, r"without the result\[1\]: the gradient of 'x'"),
    "declared to take leading axes": (lambda: made(leading, lambda ctx, g: g - g.mean(axis=0), vmap="leading"), X, {"vmap"}, "over the first axis of all: the result: greatest difference"),
}  # fmt: skip


def failed(error):
    """Return the checks that an error of gradcheck names."""
    return set(str(error).splitlines()[0].partition(" checks: ")[2].split(", "))


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_is_caught_by_its_check(name):
    make, inputs, checks, text = MUTANTS[name]
    with pytest.raises(AssertionError, match=text) as caught:
        gradcheck(make(), inputs, double=True if "differentiable twice" in name else None)
    assert failed(caught.value) == checks, caught.value


def test_every_check_catches_something():
    caught = set().union(*(checks for _, _, checks, _ in MUTANTS.values()))
    with pytest.raises(AssertionError, match=r"fails 1 of .* checks") as error:
        gradcheck(MUTANTS["a wrong factor"][0](), X)
    assert len(caught) == int(re.search(r"of (\d+) checks", str(error.value))[1])


def test_the_docs_list_the_checks():
    page = (Path(interop.__file__).parent.parent / "docs/testing.md").read_text()
    table = re.findall(r"^\| ([\w ]+?) \| (?:`\w+=`)? ?\|", page, re.MULTILINE)
    assert set(table) == set().union(*(checks for _, _, checks, _ in MUTANTS.values()))


SWITCHES = {
    "declared to be differentiable twice": {"double": False},
    "drops a term of the second derivative": {"double": False},
    "a jvp with the wrong sign": {"forward_mode": False},
    "right only for all": {"patterns": False},
    "reads in the order of memory": {"layouts": ["strided", "expanded", "negated"]},
    "raveled in the order of memory": {"layouts": False},
    "one place to work in": {"threads": 1},
    "declared to take leading axes": {"vmap": False},
}


@pytest.mark.parametrize("name", SWITCHES)
def test_a_check_that_is_left_out_finds_nothing(name):
    make, inputs, *_ = MUTANTS[name]
    gradcheck(make(), inputs, **SWITCHES[name])


@pytest.mark.parametrize(
    ("words", "text"),
    [({"double": True}, "double backward .*raised GradError"), ({"forward_mode": True}, "forward mode .*raised GradError: .* has no jvp")],
)
def test_what_must_be_there_is_missed(words, text):
    function = made(lambda x: x**2, lambda ctx, g: 2 * ctx.saved_tensors[0] * g)
    with pytest.raises(AssertionError, match=re.compile(text, re.DOTALL)) as caught:
        gradcheck(function, X, **words)
    assert isinstance(caught.value.__cause__, GradError)
    gradcheck(function, X)


def test_torchs_own_check_passes_a_gradient_that_lost_its_graph():
    """Why double backward is not checked by gradgradcheck."""
    make, inputs, *_ = MUTANTS["drops one gradient's graph"]
    tensors = [one.clone().requires_grad_() for one in inputs]
    assert torch.autograd.gradgradcheck(make(), tensors)
    assert torch.autograd.gradcheck(MUTANTS["not linear"][0](), X.clone().requires_grad_())


def test_tolerances_are_those_of_torch():
    rough = made(lambda x: x**2, lambda ctx, g: 2.001 * ctx.saved_tensors[0] * g)
    gradcheck(rough, X)
    with pytest.raises(AssertionError, match="gradients"):
        gradcheck(rough, X, rtol=1e-5)
    gradcheck(noisy_backward(), X, nondet_tol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(
    ("inputs", "words", "error", "text"),
    [
        (X.float(), {}, TypeError, r"x is torch.float32, .* pass x.double\(\)"),
        (torch.arange(3), {}, TypeError, "no tensor of floats among the inputs"),
        (X.to_sparse(), {}, LayoutError, "x is torch.sparse_coo"),
        (X, {"layouts": "strided"}, ValueError, "layouts: 'strided' is none of a collection of 'strided', 'transposed'"),
        (X, {"layouts": ["stridden"]}, ValueError, "layouts: 'stridden' is none of"),
        ((X, X), {}, TypeError, "takes 1 positional argument but 2 were given"),
    ],
)
def test_wrong_use_is_no_finding(inputs, words, error, text):
    with pytest.raises(error, match=text):
        gradcheck(square(), inputs, **words)


def test_what_the_function_raises_when_it_is_called_is_raised():
    with pytest.raises(ZeroDivisionError):
        gradcheck(made(lambda x: 1 / 0), X)


def test_a_result_without_a_gradient_is_a_finding():
    with pytest.raises(AssertionError, match="no result requires a gradient"):
        gradcheck(made(lambda x: x.astype(int)), X)


def test_results_have_to_be_double_too():
    with pytest.raises(TypeError, match=r"the result is torch.float32, and numerical derivatives need float64 or complex128 throughout"):
        gradcheck(lambda x: x.float() ** 2, X)


def test_threads_are_in_the_scopes_of_the_caller():
    scope = contextvars.ContextVar("scope", default=0)

    def forward(x):
        assert scope.get() == 1
        return x**2

    function = made(forward, lambda ctx, g: 2 * ctx.saved_tensors[0] * g)
    with pytest.raises(AssertionError):
        gradcheck(function, X)
    scope.set(1)
    gradcheck(function, X)


@pytest.mark.parametrize(("count", "patterns"), [(1, 2), (3, 8), (5, 32), (6, 14), (7, 16)])
def test_every_pattern_up_to_five_inputs(count, patterns):
    found = runs._subsets(list(range(count)))
    assert len(found) == len(set(found)) == patterns
    assert {(), tuple(range(count)), (0,), tuple(range(1, count))} <= set(found)


@pytest.mark.parametrize("kind", runs.LAYOUTS)
@pytest.mark.parametrize("value", [X, Z, Y[0], torch.arange(6).reshape(2, 3), X[:0]], ids=["real", "complex", "0-d", "int", "no elements"])
def test_a_layout_has_the_same_values(kind, value):
    laid = runs.LAYOUTS[kind](value.clone())
    if laid is None:
        assert (kind, value.dtype.is_complex) not in {("negated", False), ("conjugated", True)} or value.dtype is torch.int64
        return
    assert laid.shape == value.shape
    assert (kind == "expanded") == (0 in laid.stride())
    assert laid.is_conj() == (kind == "conjugated")
    assert laid.is_neg() == (kind == "negated")
    if kind != "expanded":
        assert torch.equal(laid, value)
        assert value.dim() < 2 or not value.numel() or kind == "conjugated" or not laid.is_contiguous()


def test_it_loads_torch_on_request():
    code = "import sys, interop.testing; print('torch' in sys.modules, callable(interop.testing.gradcheck))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False True\n"


_UNDER_ERROR = """
import warnings, torch
from torch.autograd import forward_ad
script = torch.jit.script
def warns(*args, **words):
    warnings.warn("`torch.jit.script` is deprecated. Please switch to `torch.compile` or `torch.export`.", {kind}, stacklevel=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return script(*args, **words)
torch.jit.script = warns
warnings.simplefilter("error")
{code}
"""


@pytest.mark.parametrize("kind", ["DeprecationWarning", "FutureWarning"], ids=["torch-2.13", "torch-2.14"])
@pytest.mark.parametrize(
    ("code", "ends"),
    [
        ("from interop.testing import gradcheck\ngradcheck(torch.sin, torch.ones(2, dtype=torch.float64), forward_mode=True)", ""),
        ("with forward_ad.dual_level(): forward_ad.make_dual(torch.ones(2), torch.ones(2))", "`torch.jit.script` is deprecated"),
    ],
    ids=["gradcheck", "torch"],  # the second is the negative control
)
def test_torchs_own_deprecation_ends_no_gradcheck(kind, code, ends):
    done = subprocess.run([sys.executable, "-c", _UNDER_ERROR.format(kind=kind, code=code)], capture_output=True, text=True, check=False)
    assert (done.returncode == 0, ends in done.stderr) == (not ends, True), done.stderr
