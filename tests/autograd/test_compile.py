"""Wrapped functions as operators: `torch.compile`, `torch.export`, opcheck, and what is refused."""

import copy
import gc
import itertools
import pickle
import shutil
import weakref

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad

import interop
from interop.autograd import wrap
from interop.errors import GradError, NoDataError, TransferError, UnsupportedTypeError

# torch's own, as it makes a fake tensor of one that is no leaf: from 2.14 on it hides the warning, but not from those who made it an
# error (torch/_subclasses/meta_utils.py, safe_grad).
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
NUMBERS = itertools.count()
like = torch.empty_like


def fresh():
    """Return a name that no operator has."""
    return f"interop_tests::op_{next(NUMBERS)}"


def normal(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)), requires_grad=True)


# One function of each kind, and arguments for it.


def sine():
    wrapped = wrap(
        np.sin,
        lambda ctx, grad: grad * np.cos(ctx.saved_tensors[0]),
        runs_on="numpy",
        name=fresh(),
        fake=like,
        schema="(Tensor x) -> Tensor",
    )
    return wrapped, (normal(4),)


def strided():
    return sine()[0], (normal(3, 4).mT.detach().requires_grad_(),)


def weighted():
    """Broadcasts, and has a number among its arguments."""

    @wrap(runs_on="numpy", name=fresh(), fake=lambda x, y, alpha: torch.broadcast_tensors(x, y)[0] * 1)
    def weighted(x, y, alpha: float = 2.0):
        return alpha * x * y

    @weighted.setup_context
    def _(ctx, inputs, output):
        x, y, ctx.alpha = inputs
        ctx.save_for_backward(x, y)

    @weighted.backward
    def _(ctx, grad):
        x, y = ctx.saved_tensors
        return ctx.alpha * grad * y, ctx.alpha * grad * x, None

    return weighted, (normal(3, 1), normal(4), 3.0)


def polar():
    """Several outputs, one of which is saved with what is neither argument nor result."""

    @wrap(runs_on="numpy", name=fresh(), fake=lambda x: (like(x), like(x)))
    def polar(x) -> tuple[np.ndarray, np.ndarray]:
        return np.exp(x), np.sin(x)

    @polar.setup_context
    def _(ctx, inputs, output):
        ctx.save_for_backward(output[0], np.cos(inputs[0]))

    @polar.backward
    def _(ctx, first, second):
        exp, cos = ctx.saved_tensors
        return first * exp + second * cos

    return polar, (normal(5),)


def ordered():
    """An output of integers."""

    @wrap(runs_on="numpy", name=fresh(), fake=lambda x: (like(x), like(x, dtype=torch.int64)))
    def ordered(x) -> "tuple[np.ndarray, np.ndarray]":
        return np.sort(x), np.argsort(x)

    @ordered.setup_context
    def _(ctx, inputs, output):
        ctx.save_for_backward(output[1])

    @ordered.backward
    def _(ctx, grad, _):
        made = np.empty_like(grad)
        made[ctx.saved_tensors[0]] = grad
        return made

    return ordered, (normal(6),)


def blended():
    """Lists of arrays and of numbers."""

    @wrap(runs_on="numpy", name=fresh(), fake=lambda xs, weights: like(xs[0]))
    def blended(xs: list[np.ndarray], weights: list[float]):
        return sum(w * x for x, w in zip(xs, weights, strict=True))

    @blended.setup_context
    def _(ctx, inputs, output):
        ctx.weights = inputs[1]

    @blended.backward
    def _(ctx, grad):
        return [grad * w for w in ctx.weights], None

    return blended, ([normal(3), normal(3)], [0.5, 2.0])


def shifted():
    """An array that may be None, and an argument by keyword only."""

    @wrap(runs_on="numpy", name=fresh(), fake=lambda x, bias, *, scale: like(x))
    def shifted(x, bias=None, *, scale: float = 1.0):
        return scale * x if bias is None else scale * x + bias

    @shifted.setup_context
    def _(ctx, inputs, output):
        ctx.none = inputs[1] is None

    @shifted.backward
    def _(ctx, grad):
        return grad, None if ctx.none else grad  # the same array twice: an operator has to part them

    return shifted, (normal(3), normal(3))


def viewed():
    """A result that is the argument's memory."""

    @wrap(runs_on="numpy", readonly="share", name=fresh(), fake=lambda x: x.mT.clone())
    def viewed(x):
        return x.T

    @viewed.backward
    def _(ctx, grad):
        return grad.T

    return viewed, (normal(3, 2),)


def halved():
    """Only one of the inputs has a gradient."""

    @wrap(runs_on="numpy", name=fresh(), fake=lambda x, y: like(x))
    def halved(x, y):
        return x / 2 + np.floor(y)

    @halved.backward
    def _(ctx, grad):
        assert ctx.needs_input_grad == (True, False)
        return grad / 2, None

    return halved, (normal(3), normal(3).detach())


def norm():
    """A result of no axes."""

    @wrap(runs_on="numpy", name=fresh(), fake=lambda x: x.new_empty(()))
    def norm(x):
        return np.sqrt((x * x).sum())[()] * np.ones(())

    @norm.setup_context
    def _(ctx, inputs, output):
        ctx.save_for_backward(*inputs, output)

    @norm.backward
    def _(ctx, grad):
        x, length = ctx.saved_tensors
        return grad * x / length

    return norm, (normal(3),)


def squared():
    """A complex one."""

    @wrap(runs_on="numpy", name=fresh(), fake=like)
    def squared(z):
        return z * z

    @squared.backward
    def _(ctx, grad):
        return grad * (2 * ctx.saved_tensors[0]).conj()

    return squared, (normal(3, dtype=torch.complex128),)


CASES = [sine, strided, weighted, polar, ordered, blended, shifted, viewed, halved, norm, squared]
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)


def operator(function):
    """Return the operator by its public name."""
    space, _, name = function._operator.schema.operator.partition("::")
    return getattr(getattr(torch.ops, space), name)


def tensors(args):
    return [one for arg in args for one in (arg if isinstance(arg, list) else [arg]) if isinstance(one, torch.Tensor)]


def outcome(function, args):
    """Return results and gradients."""
    torch.compiler.reset()
    made = function(*args)
    results = [one for one in (made if isinstance(made, tuple) else (made,)) if one.requires_grad]
    wanted = [one for one in tensors(args) if one.requires_grad]
    grads = torch.autograd.grad([(one * one.detach().cos()).sum().abs() for one in results], wanted)
    return made, grads


@each
def test_opcheck_passes_with_all_its_tests(case):
    function, args = case()
    found = torch.library.opcheck(operator(function).default, args)
    assert set(found.values()) == {"SUCCESS"}
    assert len(found) == 4


@each
def test_compiled_is_eager(case):
    function, args = case()
    expected = outcome(function, args)
    found = outcome(torch.compile(function, fullgraph=True, backend="aot_eager"), args)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@each
def test_gradcheck(case):
    function, args = case()
    if isinstance(args[0], list):
        flat = args[0]
        assert torch.autograd.gradcheck(lambda *xs: function(list(xs), args[1]), flat)
    else:
        assert torch.autograd.gradcheck(function, args)


@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor compiles C++ for the CPU, and there is no g++")
def test_inductor_compiles_around_it():
    function, args = polar()

    def model(*args):
        first, second = function(*(arg.tanh() * 2 for arg in args))
        return first.sin() * 2 + second

    expected = outcome(model, args)
    torch.testing.assert_close(outcome(torch.compile(model, fullgraph=True), args), expected)


WRONG = {
    "shape": lambda x: x.new_empty((*x.shape, 1)),
    "dtype": lambda x: like(x, dtype=torch.float32),
    "number": lambda x: (like(x), like(x)),
}


@pytest.mark.parametrize("fake", WRONG.values(), ids=WRONG)
def test_a_wrong_fake_does_not_pass(fake):
    function = wrap(np.sin, runs_on="numpy", name=fresh(), fake=fake, schema="(Tensor x) -> Tensor")
    from torch.testing._internal.optests.generate_tests import OpCheckError  # here: it imports torch's compiler

    with pytest.raises((OpCheckError, UnsupportedTypeError)):
        torch.library.opcheck(operator(function).default, (normal(3),))


class Net(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.first, self.second = torch.nn.Linear(3, 8), torch.nn.Linear(8, 1)

    def forward(self, x):
        return self.second(self.function(self.first(x)))


def trained(compiled):
    torch.manual_seed(0)
    net = Net(sine()[0])
    model = torch.compile(net, fullgraph=True, backend="aot_eager") if compiled else net
    steps = torch.optim.SGD(net.parameters(), lr=0.1)
    x = torch.randn(32, 3)
    losses = []
    for _ in range(10):
        steps.zero_grad()
        loss = (model(x).squeeze() - x.prod(1)).square().mean()
        loss.backward()
        steps.step()
        losses.append(loss.item())
    return losses


def test_training_compiled_is_training_eager():
    losses = trained(compiled=True)
    assert losses == trained(compiled=False)
    assert losses[-1] < losses[0]


def test_dynamic_shapes_are_compiled_once():
    function, _ = weighted()
    torch.compiler.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(function, fullgraph=True, backend=backend)
    for size in (3, 5, 7):
        x, y = normal(size, 2).detach(), normal(2).detach()
        torch._dynamo.mark_dynamic(x, 0)
        torch.testing.assert_close(compiled(x, y), 2 * x * y)
    assert len(graphs) == 1


def test_dynamic_shapes_with_gradients():
    function, _ = weighted()
    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in (3, 5):
        x, y = normal(size, 2), normal(2)
        compiled(x, y).sum().backward()
        torch.testing.assert_close(x.grad, 2 * y.detach().expand(size, 2))


def test_export_keeps_the_operator():
    function, _ = sine()
    net = Net(function)
    program = torch.export.export(net, (torch.randn(2, 3),))
    assert any(node.target == operator(function).default for node in program.graph.nodes)
    y = torch.randn(2, 3)
    torch.testing.assert_close(program.module()(y), net(y))


# What the eager path does as well.


@pytest.mark.parametrize("case", [sine, polar, ordered, shifted, viewed, norm, squared], ids=lambda case: case.__name__)
def test_vmap_is_slice_by_slice(case):
    function, args = case()
    both = [torch.stack([arg.detach(), 2 * arg.detach()]) for arg in args]
    expected = [function(*(arg[at] for arg in both)) for at in range(2)]
    for found in (torch.vmap(function)(*both), torch.vmap(operator(function))(*both)):
        one = isinstance(found, torch.Tensor)
        for at in range(2):
            torch.testing.assert_close(found[at] if one else tuple(part[at] for part in found), expected[at])


@pytest.mark.parametrize("vmap", ["loop", "leading"])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("public", [False, True])
def test_transformations(vmap, compiled, public):
    runs = []

    @wrap(runs_on="numpy", name=fresh(), fake=lambda x, y: like(x), vmap=vmap)
    def product(x, y):
        runs.append(x.shape)
        return x * y

    @product.backward
    def _(ctx, grad):
        x, y = ctx.saved_tensors
        return grad * y, grad * x

    called = operator(product) if public else product
    function = torch.vmap(torch.func.grad(lambda x, y: called(x, y).sum()), in_dims=(0, None))
    torch.compiler.reset()
    x, y = normal(4, 3).detach(), normal(3).detach()
    found = (torch.compile(function, fullgraph=True, backend="aot_eager") if compiled else function)(x, y)
    torch.testing.assert_close(found, y.expand(4, 3))
    assert runs == ([(4, 3)] if vmap == "leading" else [(3,)] * 4)


def test_vmap_over_no_slices_is_refused():
    function, _ = sine()
    with pytest.raises(ValueError, match="no slices"):
        torch.vmap(operator(function))(torch.ones(0, 3))


def cube(**words):
    @wrap(runs_on="numpy", name=fresh(), fake=like, **words)
    def cube(x):
        return x**3

    return cube


def test_a_rule_is_taken_later():
    function = cube()
    x = normal(3)
    made = function(x)
    with pytest.raises(GradError, match="cube has no backward"):
        made.sum().backward()
    function.backward(lambda ctx, grad: 3 * grad * ctx.saved_tensors[0] ** 2)
    function(x).sum().backward()
    torch.testing.assert_close(x.grad, 3 * x.detach() ** 2)


def test_without_a_rule_compiled_works_until_backward():
    torch.compiler.reset()
    x = normal(3)
    made = torch.compile(cube(), fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(made, x**3)
    with pytest.raises(GradError, match="cube has no backward"):
        made.sum().backward()


def test_a_second_derivative_is_refused():
    function = cube()
    function.backward(lambda ctx, grad: 3 * grad * ctx.saved_tensors[0] ** 2)
    x = normal(3)
    for called in (function, operator(function)):
        (grad,) = torch.autograd.grad(called(x).sum(), x, create_graph=True)
        with pytest.raises(GradError, match="the backward of cube is not differentiable"):
            grad.sum().backward()
        with pytest.raises(GradError, match="the backward of cube is not differentiable"):
            torch.func.jacrev(torch.func.jacrev(lambda x, called=called: called(x).sum()))(x.detach())


def test_a_rule_of_tensors_is_differentiated_and_compiled():
    function = cube(once_differentiable=False)

    @function.setup_context
    def _(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @function.backward
    def _(ctx, grad):
        (x,) = ctx.saved_tensors
        assert isinstance(x, torch.Tensor)
        return 3 * grad * x * x

    assert torch.autograd.gradgradcheck(function, normal(3))
    x = normal(3)
    expected = outcome(function, (x,))
    torch.testing.assert_close(outcome(torch.compile(function, fullgraph=True, backend="aot_eager"), (x,)), expected)
    assert set(torch.library.opcheck(operator(function).default, (x,)).values()) == {"SUCCESS"}


def test_forward_mode():
    function = cube()
    x, dx = normal(3).detach(), torch.ones(3, dtype=torch.float64)
    with pytest.raises(GradError, match="cube has no jvp"):
        torch.func.jvp(function, (x,), (dx,))
    with forward_ad.dual_level(), pytest.raises(GradError, match="cube has no jvp"):
        function(forward_ad.make_dual(x, dx))
    with pytest.raises(GradError, match="Call cube itself"):
        torch.func.jvp(operator(function), (x,), (dx,))
    function.jvp(lambda ctx, dx: 3 * ctx.saved_tensors[0] ** 2 * dx)
    torch.testing.assert_close(torch.func.jvp(function, (x,), (dx,))[1], 3 * x**2)
    with forward_ad.dual_level():
        made = forward_ad.unpack_dual(function(forward_ad.make_dual(x, dx)))
        torch.testing.assert_close(made.tangent, 3 * x**2)


def test_forward_mode_finds_what_is_saved_for_it():
    function = cube()

    @function.setup_context
    def _(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(output, inputs[0] ** 2)

    @function.jvp
    def _(ctx, dx):
        third, second = ctx.saved_tensors
        return dx * 3 * second + 0 * third

    x = normal(3).detach()
    with forward_ad.dual_level():
        made = forward_ad.unpack_dual(function(forward_ad.make_dual(x, torch.ones_like(x))))
    torch.testing.assert_close(made.tangent, 3 * x**2)


@pytest.mark.parametrize("old", [False, True], ids=["this torch", "as torch 2.11"])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("public", [False, True])
def test_autocast(monkeypatch, compiled, public, old):
    """torch 2.11 registers it for two devices only, and where a graph is traced for the last of them only."""
    from interop.autograd._torch import operators as _torch_operators

    if old:
        monkeypatch.setattr(_torch_operators, "_AUTOCASTS_ALL", False)
    kinds = []

    @wrap(runs_on="numpy", name=fresh(), fake=like, cast_inputs=torch.float32, casting="same_kind")
    def copied(x):
        kinds.append(x.dtype)
        return x + 0

    @copied.backward
    def _(ctx, grad):
        return grad

    torch.compiler.reset()
    called = operator(copied) if public else copied
    x = normal(3, dtype=torch.float16)

    def model(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return called(x)

    made = (torch.compile(model, fullgraph=True, backend="aot_eager") if compiled else model)(x)
    made.sum().backward()
    assert (made.dtype, x.grad.dtype, kinds) == (torch.float32, torch.float16, [np.float32])
    assert called(x).dtype == torch.float16  # not outside of it


@pytest.mark.parametrize("old", [False, True], ids=["this torch", "as torch 2.11"])
@pytest.mark.parametrize("compiled", [False, True])
def test_autocast_of_tensors_in_a_list(monkeypatch, compiled, old):
    from interop.autograd._torch import operators as _torch_operators

    if old:
        monkeypatch.setattr(_torch_operators, "_AUTOCASTS_ALL", False)

    @wrap(
        runs_on="numpy",
        name=fresh(),
        schema="(Tensor[] xs, float factor=2.0) -> Tensor",
        fake=lambda xs, factor=2.0: torch.empty_like(xs[0]),
        cast_inputs=torch.float32,
        casting="same_kind",
    )
    def scaled(xs, factor=2.0):
        return xs[0] * factor

    @scaled.backward
    def _(ctx, grad):
        return [grad * 2, None]

    torch.compiler.reset()
    xs = [normal(3, dtype=torch.float16), normal(3, dtype=torch.float16)]

    def model(xs):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return scaled(xs)

    made = (torch.compile(model, fullgraph=True, backend="aot_eager") if compiled else model)(xs)
    assert made.dtype == torch.float32


@pytest.mark.parametrize("compiled", [False, True])
def test_a_gradient_is_checked(compiled):
    torch.compiler.reset()
    function = cube()
    function.backward(lambda ctx, grad: grad[:-1])
    model = torch.compile(function, fullgraph=True, backend="aot_eager") if compiled else function
    with pytest.raises(GradError, match=r"the gradient of 'x' has shape \(2,\), the input \(3,\)"):
        model(normal(3)).sum().backward()


def test_a_gradient_of_none_is_zeros():
    function = cube()
    function.backward(lambda ctx, grad: None)
    x = normal(3)
    function(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.zeros_like(x))


@pytest.mark.parametrize("materializes", [False, True])
def test_results_without_a_gradient(materializes):
    seen = []

    @wrap(runs_on="numpy", name=fresh(), fake=lambda x: (like(x), like(x), like(x)))
    def three(x) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return x + 1, x + 2, x + 3

    @three.setup_context
    def _(ctx, inputs, output):
        ctx.set_materialize_grads(materializes)
        ctx.mark_non_differentiable(output[2])

    @three.backward
    def _(ctx, *grads):
        seen.extend(None if grad is None else grad.tolist() for grad in grads)
        return grads[0]

    x = normal(2)
    first, _, third = three(x)
    (first + third).sum().backward()
    assert seen == ([[1, 1], [0, 0], [0, 0]] if materializes else [[1, 1], None, None])


def test_what_is_changed_in_place_is_noticed():
    function, (x,) = sine()
    y = x * 1
    made = function(y)
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        made.sum().backward()


@pytest.mark.parametrize("share", [False, True])
def test_an_operator_returns_memory_of_its_own(share):
    words = {"readonly": "share"} if share else {}
    stored = wrap(lambda x: x, runs_on="numpy", name=fresh(), fake=like, schema="(Tensor x) -> Tensor", **words)
    pair = wrap(lambda x: (x, x[1:]), runs_on="numpy", name=fresh(), schema="(Tensor x) -> (Tensor, Tensor)", **words)
    x = torch.ones(3)
    assert stored(x).data_ptr() != x.data_ptr()
    first, second = pair(x)
    assert len({x.data_ptr(), first.data_ptr(), second.data_ptr(), first.data_ptr() + 4}) == 4


def test_a_setup_context_that_comes_after_compiling_is_noticed():
    function = cube()
    function.backward(lambda ctx, grad: 3 * grad * ctx.saved_tensors[0] ** 2)
    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    compiled(normal(3)).sum().backward()
    function.setup_context(lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]))
    with pytest.raises(GradError, match="cube was given its setup_context after it was compiled"):
        compiled(normal(3)).sum().backward()
    torch.compiler.reset()
    compiled(normal(3)).sum().backward()


@each
def test_nothing_is_kept(case):
    function, args = case()
    stored = [weakref.ref(one) for one in tensors(args)]
    made = function(*args)
    one = made[0] if isinstance(made, tuple) else made
    (one * one.detach().conj()).abs().sum().backward()
    assert None not in [ref() for ref in stored]
    gc.disable()
    try:
        del args, made, one
        assert [ref() for ref in stored] == [None] * len(stored)
    finally:
        gc.enable()


HELD = wrap(np.sin, runs_on="numpy", name=fresh(), fake=like, schema="(Tensor x) -> Tensor")
HELD.__module__, HELD.__qualname__ = __name__, "HELD"


def test_it_is_copied_and_pickled_as_a_function_is():
    net = Net(HELD)
    assert copy.deepcopy(net).function is HELD
    assert pickle.loads(pickle.dumps(HELD)) is HELD


def test_without_tensors_it_is_the_function():
    function, _ = weighted()
    made = function(np.ones(2), np.ones(2), alpha=3.0)
    assert isinstance(made, np.ndarray)
    np.testing.assert_array_equal(made, [3, 3])


@pytest.mark.parametrize("compiled", [False, True])
def test_arguments_by_name_and_by_default(compiled):
    wrapped, (x, y, _) = weighted()
    torch.compiler.reset()
    function = torch.compile(wrapped, fullgraph=True, backend="aot_eager") if compiled else wrapped
    torch.testing.assert_close(function(y=y, x=x), 2 * x * y)
    torch.testing.assert_close(function(x, alpha=2.0, y=y), 2 * x * y)
    torch.testing.assert_close(torch.func.grad(lambda x: wrapped(x, y=y).sum())(x.detach()), 2 * y.sum().expand(3, 1).detach())


def test_a_tensor_without_data_is_described():
    function, _ = polar()
    first, second = function(torch.empty(3, device="meta"))
    assert first.shape == second.shape == (3,)
    assert first.device.type == "meta"


def test_functions_of_jax_keep_all_derivatives():
    pytest.importorskip("jax")
    import jax.numpy as jnp

    function = wrap(jnp.sin, runs_on="jax", name=fresh(), fake=like, schema="(Tensor x) -> Tensor")
    x = normal(3, dtype=torch.float32)
    expected = outcome(function, (x,))
    torch.testing.assert_close(outcome(torch.compile(function, fullgraph=True, backend="aot_eager"), (x,)), expected)
    (grad,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(grad.sum(), x)
    torch.testing.assert_close(second, -x.detach().sin())
    assert set(torch.library.opcheck(operator(function).default, (x,)).values()) == {"SUCCESS"}


# What is refused.


def test_compiling_without_a_fake_says_what_to_write():
    @wrap(runs_on="numpy", name=fresh())
    def plain(x):
        return x + 1

    assert plain(torch.ones(2)).tolist() == [2, 2]
    torch.compiler.reset()
    with pytest.raises(Exception, match=r"plain has no fake(.|\n)*fake=lambda x: torch.empty_like\(x\)"):
        torch.compile(plain, fullgraph=True, backend="aot_eager")(torch.ones(2))
    with pytest.raises(NoDataError):
        plain(torch.ones(2, device="meta"))


def test_a_name_is_given_once():
    name = fresh()
    wrap(np.sin, runs_on="numpy", name=name, schema="(Tensor x) -> Tensor")
    for taken in (name, f"{name}_backward"):
        with pytest.raises(ValueError, match=f"there is an operator '{taken}' already"):
            wrap(np.cos, runs_on="numpy", name=taken, schema="(Tensor x) -> Tensor")


def test_a_function_that_is_redefined_takes_its_name_along():
    """As in a notebook, where a cell is run again."""
    name, made = fresh(), []
    cell = """
@wrap(runs_on="numpy", name=name, fake=torch.empty_like)
def scaled(x):
    return factor * x

@scaled.backward
def _(ctx, grad):
    return factor * grad
"""
    for factor in (2, 3):
        torch.compiler.reset()
        names = {"wrap": wrap, "torch": torch, "name": name, "factor": factor}
        exec(cell, names)
        made.append(names["scaled"])
        x = torch.ones(2, requires_grad=True)
        torch.compile(made[-1], fullgraph=True, backend="aot_eager")(x).sum().backward()
        assert x.grad.tolist() == [factor, factor]
    with pytest.raises(RuntimeError, match="scaled was redefined"):
        made[0](torch.ones(2))
    assert made[1](torch.ones(2)).tolist() == [3, 3]
    with pytest.raises(ValueError, match="already"):  # with another schema
        exec(cell.replace("(x)", "(x, y)", 1), {"wrap": wrap, "torch": torch, "name": name, "factor": 4})


def test_closures_are_never_the_same_function():
    name = fresh()

    def make(factor):
        @wrap(runs_on="numpy", name=name, fake=torch.empty_like)
        def scaled(x):
            return factor * x

        return scaled

    two = make(2)
    with pytest.raises(ValueError, match="already"):
        make(5)
    assert two(torch.ones(1)).tolist() == [2]


def test_functions_without_a_name_are_never_the_same():
    name = fresh()
    wrap(lambda x: x + 1, runs_on="numpy", name=name)
    with pytest.raises(ValueError, match="already"):
        wrap(lambda x: x + 1, runs_on="numpy", name=name)


def test_a_method_is_no_operator():
    class Holder:
        held = cube()

        @staticmethod
        def apart(x):
            return Holder.held(x)

    assert Holder.apart(torch.ones(2)).tolist() == [1, 1]
    with pytest.raises(TypeError, match="not a method"):
        Holder().held(torch.ones(2))


@pytest.mark.gpu
def test_the_other_device_is_refused_as_without_a_name():
    with pytest.raises(TransferError):
        cube()(torch.ones(2, device="cuda"))
    assert cube(transfer="allow")(torch.ones(2, device="cuda")).device.type == "cuda"


REFUSED = {
    "no library": ({"name": "op"}, ValueError, "not the name of an operator"),
    "schema": ({"schema": "(Tensor x -> Tensor"}, ValueError, "no schema of torch's"),
    "written to": ({"schema": "(Tensor(a!) x) -> Tensor"}, ValueError, "written to"),
    "view": ({"schema": "(Tensor(a) x) -> Tensor(a)"}, ValueError, "part of a result"),
    "number": ({"schema": "(Tensor x) -> float"}, ValueError, "has to return tensors"),
    "other argument": ({"schema": "(Tensor y) -> Tensor"}, ValueError, "cannot be called"),
    "star": ({"schema": "(*, Tensor x) -> Tensor"}, ValueError, r"leave the \* out"),
    "no type": ({"schema": "(Generator x) -> Tensor"}, ValueError, "no type for an argument"),
}


@pytest.mark.parametrize(("words", "kind", "text"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_operator(words, kind, text):
    with pytest.raises(kind, match=text):
        wrap(lambda x: x, runs_on="numpy", **{"name": fresh()} | words)


def test_fake_and_schema_need_a_name():
    for words in ({"fake": like}, {"schema": "(Tensor x) -> Tensor"}):
        with pytest.raises(TypeError, match="give it a name"):
            wrap(lambda x: x, runs_on="numpy", **words)


RETURNED = {
    "two": lambda x: (x, x),
    "a tuple of one": lambda x: (x,),
    "a tree": lambda x: {"a": x},
    "a number too": lambda x: (x, 1),
}


@pytest.mark.parametrize("forward", RETURNED.values(), ids=RETURNED)
def test_results_that_are_not_those_of_the_schema(forward):
    function = wrap(forward, runs_on="numpy", name=fresh(), schema="(Tensor x) -> Tensor")
    with pytest.raises(UnsupportedTypeError, match="returned"):
        function(torch.ones(2))


def test_a_number_is_no_tensor():
    scaled = wrap(lambda x, factor: x * factor, runs_on="numpy", name=fresh(), schema="(Tensor x, float factor) -> Tensor")
    for call in (lambda: scaled(torch.ones(2), torch.tensor(3.0)), lambda: scaled(torch.ones(2), factor=torch.tensor(3.0))):
        with pytest.raises(TypeError, match=r"'factor' is a number .* pass factor\.item\(\)"):
            call()
    assert scaled(torch.ones(2), 3.0).tolist() == [3, 3]


def test_what_nobody_holds_is_shared_while_a_compiler_looks_on():
    """It evaluates frames itself then, and each call holds its arguments once more."""
    plain = wrap(lambda x: x * 2, lambda ctx, grad: grad * 2, runs_on="numpy", setup_context=lambda *_: None)
    x = torch.ones(3, requires_grad=True)
    torch.compile(lambda x: x + 1, backend="eager")(x)
    with interop.guard(copies="error"):
        plain(x).sum().backward()
