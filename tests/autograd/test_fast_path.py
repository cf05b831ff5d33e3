"""The fast path of a wrapped function does what the general path does: the same results, gradients, flags and refusals."""

import gc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import interop
from interop import InteropError
from interop._watch.ledger import Log
from interop.autograd import wrap

DTYPES = [torch.float32, torch.float64, torch.complex64, torch.bfloat16, torch.float16, torch.int64]
SHAPES = [(), (3,), (2, 3), (2, 1), (0, 3)]
LAYOUTS = {
    "plain": lambda t: t,
    "transposed": lambda t: t.mT.contiguous().mT if t.dim() > 1 else t,
    "strided": lambda t: torch.stack((t, t), -1)[..., 0],
    "expanded": lambda t: t[:1].expand_as(t) if t.dim() and t.numel() else t,
    "conjugated": lambda t: t.conj(),
    "a parameter": lambda t: torch.nn.Parameter(t, requires_grad=False),
}

KEPT = {}


def stored(name, make):
    """Return an array that has another owner."""
    return KEPT.setdefault(name, make())


FORWARDS = {
    "sum": lambda *xs: np.asarray(sum(x * 2 for x in xs)),
    "the first": lambda *xs: xs[0],
    "a view": lambda *xs: xs[0][..., ::-1] if xs[0].ndim else xs[0],
    "a stored array": lambda *xs: stored("out", lambda: np.ones(3)),
    "a view of a stored array": lambda *xs: stored("out", lambda: np.ones(3))[:2],
    "a scalar": lambda *xs: np.float64(2),
    "a float": lambda *xs: 2.5,
    "two": lambda *xs: (xs[0] * 2, xs[-1] + 1),
    "the same twice": lambda *xs: [one := xs[0] * 3, one],
    "a dict": lambda *xs: {"y": xs[0] + 1, "n": 4},
    "integers": lambda *xs: np.arange(3),
    "no native byte order": lambda *xs: np.ones(3, ">f8"),
    "an object": lambda *xs: object(),
    "an error": lambda *xs: 1 // 0,
}


def ones(x):
    return np.ones(x.shape, x.dtype)


BACKWARDS = {
    "one each": lambda ctx, *g: tuple(ones(x) * 3 for x in ctx.saved_tensors),
    "a list": lambda ctx, *g: [ones(x) for x in ctx.saved_tensors],
    "alone": lambda ctx, *g: ones(ctx.saved_tensors[0]),
    "None": lambda ctx, *g: tuple(None for _ in ctx.saved_tensors),
    "where needed": lambda ctx, *g: tuple(
        ones(x) if need else None for x, need in zip(ctx.saved_tensors, ctx.needs_input_grad, strict=True)
    ),
    "what came in": lambda ctx, *g: (g[0],) * len(ctx.saved_tensors),
    "one array for all": lambda ctx, *g: (np.ones_like(ctx.saved_tensors[0]),) * len(ctx.saved_tensors),
    "what was saved": lambda ctx, *g: ctx.saved_tensors,
    "a stored array": lambda ctx, *g: tuple(stored(f"grad{x.shape}{x.dtype}", lambda x=x: ones(x)) for x in ctx.saved_tensors),
    "a stored tuple": lambda ctx, *g: stored(
        f"all{[(x.shape, x.dtype) for x in ctx.saved_tensors]}", lambda: tuple(map(ones, ctx.saved_tensors))
    ),
    "views of a stored array": lambda ctx, *g: tuple(
        stored(f"view{x.shape}{x.dtype}", lambda x=x: np.ones((2, *x.shape), x.dtype))[1] for x in ctx.saved_tensors
    ),
    "a view and the whole": lambda ctx, *g: [one := ones(ctx.saved_tensors[0]), *[one[...] for _ in ctx.saved_tensors[1:]]],
    "halves of one": lambda ctx, *g: tuple(np.ones((len(ctx.saved_tensors), *ctx.saved_tensors[0].shape), ctx.saved_tensors[0].dtype)),
    "views of one": lambda ctx, *g: tuple(np.ones((2, *x.shape), x.dtype)[1] for x in ctx.saved_tensors),
    "another dtype": lambda ctx, *g: tuple(np.ones(x.shape, "float64") for x in ctx.saved_tensors),
    "another shape": lambda ctx, *g: tuple(np.ones((2, *x.shape), x.dtype) for x in ctx.saved_tensors),
    "a wrong shape": lambda ctx, *g: tuple(np.ones((7,), x.dtype) for x in ctx.saved_tensors),
    "too few": lambda ctx, *g: (),
    "a number": lambda ctx, *g: tuple(1.0 for _ in ctx.saved_tensors),
    "an error": lambda ctx, *g: 1 // 0,
    "none at all": None,
}

SCOPES = {
    "none": torch.enable_grad,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "coerce": lambda: interop.policy("coerce"),
    "strict": lambda: interop.policy("strict"),
    "record": interop.record,
}


def summary(error):
    return type(error).__name__, str(error)


def of(tensor):
    """Return all that a caller can tell about a result."""
    if not isinstance(tensor, torch.Tensor):
        return type(tensor)
    plain = tensor.detach()
    return type(tensor), tensor.dtype, tuple(tensor.shape), tensor.requires_grad, plain.resolve_conj().to(torch.complex128).tolist()


def outcome(function, tensors, scope, later="none"):
    """Return results, gradients and what was recorded of one call in a scope and its backward pass in another; or how it is refused."""
    log = None
    try:
        with SCOPES[scope]() as log:
            made = function(*tensors)
    except REFUSALS as error:
        return "forward", summary(error)
    flat = made if isinstance(made, (tuple, list)) else made.values() if isinstance(made, dict) else [made]
    results = [one for one in flat if isinstance(one, torch.Tensor)]
    found = [type(made), recorded(log), *map(of, flat), *map(is_apart, results)]
    alive = [one for one in results if one.requires_grad]
    sources = [one for one in tensors if one.requires_grad]
    if alive and sources:
        incoming = [torch.ones_like(one) for one in alive]
        try:
            with SCOPES[later]() as log:
                grads = torch.autograd.grad(alive, sources, incoming, allow_unused=True)
        except REFUSALS as error:
            return found, summary(error)
        found += [recorded(log), *(None if grad is None else (of(grad), is_apart(grad)) for grad in grads)]
    return found


REFUSALS = (InteropError, TypeError, ZeroDivisionError, RuntimeError, ValueError)


def recorded(log):
    if not isinstance(log, Log):
        return None
    return [(one.source.dtype, one.source.shape, one.target, one.bytes, one.shared, one.why, one.path) for one in log.crossings]


def is_apart(tensor):
    arrays = [array for one in KEPT.values() for array in (one if isinstance(one, tuple) else (one,))]
    return not any(interop.shares_memory(tensor.detach(), array) for array in arrays)


def both(forward, backward):
    """Return the function as it is, and without its fast path."""
    fast = wrap(FORWARDS[forward], BACKWARDS[backward], runs_on="numpy")
    general = wrap(FORWARDS[forward], BACKWARDS[backward], runs_on="numpy")
    assert fast._has_fast_path
    general._has_fast_path = False
    return fast, general


def made(kinds):
    generator = torch.Generator().manual_seed(0)
    tensors = []
    for shape, dtype, layout, needs in kinds:
        values = torch.randint(1, 5, shape, generator=generator).to(dtype)
        tensor = LAYOUTS[layout](values)
        tensors.append(tensor.requires_grad_() if needs and tensor.dtype != torch.int64 and tensor.is_leaf else tensor)
    return tensors


KINDS = st.lists(
    st.tuples(st.sampled_from(SHAPES), st.sampled_from(DTYPES), st.sampled_from(list(LAYOUTS)), st.booleans()), min_size=1, max_size=3
)


@settings(max_examples=400, deadline=None)
@given(
    kinds=KINDS,
    forward=st.sampled_from(list(FORWARDS)),
    backward=st.sampled_from(list(BACKWARDS)),
    scope=st.sampled_from(list(SCOPES)),
    later=st.sampled_from(list(SCOPES)),
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:Casting complex values")
def test_both_ways_agree(kinds, forward, backward, scope, later):
    KEPT.clear()
    fast, general = both(forward, backward)
    first = outcome(fast, made(kinds), scope, later)
    KEPT.clear()
    assert first == outcome(general, made(kinds), scope, later)


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("forward", ["sum", "the first", "a stored array", "the same twice"])
def test_both_ways_agree_on_every_rule(forward, backward):
    """What is drawn above may miss a rule; each of them, on what the fast path is for."""
    for kinds in ([((2, 3), torch.float64, "plain", True)] * 2, [((3,), torch.float32, "plain", True)]):
        for scope, later in (("none", "none"), ("none", "strict"), ("none", "record"), ("strict", "none"), ("record", "none")):
            KEPT.clear()
            fast, general = both(forward, backward)
            first = outcome(fast, made(kinds), scope, later)
            KEPT.clear()
            assert first == outcome(general, made(kinds), scope, later)


def test_the_quick_path_is_taken(monkeypatch):
    """The comparison is not of the general path with itself."""
    from interop.autograd import _operation, _residuals

    def refuse(*_):
        raise AssertionError("the general path")

    monkeypatch.setattr(_operation.ForwardTask, "run", refuse)
    monkeypatch.setattr(_operation.ForwardTask, "finish", refuse)
    monkeypatch.setattr(_residuals.ForwardResiduals, "finish_vjp", refuse)
    monkeypatch.setattr(_residuals.ForwardResiduals, "vjp", refuse)
    gc.collect()
    fast, general = both("sum", "one each")
    x = torch.ones(3, requires_grad=True)
    (grad,) = torch.autograd.grad(fast(x), x, torch.ones(3))
    assert grad.tolist() == [3, 3, 3]
    with pytest.raises(AssertionError, match="the general path"):
        general(x)


@pytest.mark.parametrize("method", ["to_tensors", "to_saved_tensors"])
@pytest.mark.parametrize(("device", "shared"), [("cpu", True), ("meta", False)])
def test_results_go_to_the_device_that_the_inputs_are_on(method, device, shared):
    """torch's meta device stands for a GPU here: the fast path between NumPy and torch knows the host only."""
    from interop.autograd._border import Border

    border, where = Border("numpy", "its autograd.wrap(...)", {"transfer": "allow"}), torch.device(device)
    array = np.ones(3)
    address, keywords = array.ctypes.data, {"beside": []} if method == "to_tensors" else {}
    arrays = [array]
    del array
    (made,) = getattr(border, method)(arrays, where, "the result", lambda: ["result"], **keywords)
    assert made.device == where
    assert (made.device.type == "cpu" and made.data_ptr() == address) == shared
