"""Every message in full: ``python -m tests.messages`` writes what the calls below raise or print into ``messages.txt``.

A call is source text, so that the file shows what was written beside what it answers. `tests/test_messages.py` compares the
file. Tests elsewhere match a few words of a message, so that its wording can be changed in one place. The calls need no GPU,
and what they say must not depend on the machine.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import sys
import types
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import array_api_strict
import numpy as np
import torch

import interop
from interop import autograd, backends, errors, neutral, notation, testing

FILE = Path(__file__).with_suffix(".txt")
ADDRESS = re.compile(r"0x[0-9a-f]+")
HEAD = "What interop says, in full. Written by `python -m tests.messages`, from the calls in tests/messages.py.\n"

# By what is wrong; for a refusal this is its code.
CALLS: dict[str, tuple[str, ...]] = {
    "grad": (
        "interop.to_numpy(parameter)",
        "interop.to_numpy(parameter, copy=True)",
        "interop.convert(parameter, 'numpy', readonly='share')",
        "with interop.guard(grads='error'): interop.to_numpy(parameter, grad='detach')",
        "with interop.guard(native=True): parameter.detach().numpy()",
        "planned('torch:float32[2]+tangent', 'numpy')",
        "careless(torch.ones(3, requires_grad=True)).sum().backward()",
        "unruly(torch.ones(3, requires_grad=True)).backward()",
        "bridged(torch.ones(3, requires_grad=True))",
        "torch.func.jvp(careless, (torch.ones(3),), (torch.ones(3),))",
        "torch.autograd.functional.hessian(lambda x: squared(x).sum(), torch.ones(3))",
        "by_keyword(x=torch.ones(3, requires_grad=True))",
    ),
    "transfer": (
        "interop.to_numpy(elsewhere)",
        "interop.convert(elsewhere, like=vector)",
        "planned('torch:float32[2]@cuda:0', 'numpy')",
        "planned('torch:float32[2]@cuda:0+grad', 'numpy', copy=False)",
        "with interop.guard(transfers='error'): interop.to_numpy(elsewhere, transfer='allow')",
    ),
    "copy": (
        "interop.to_torch(vector[::-1], copy=False)",
        "interop.to_torch(vector.astype('>f4'), copy=False)",
        "interop.to_numpy(torch.ones(2, dtype=torch.complex64).conj(), copy=False)",
        "interop.to_numpy(conjugated, copy=False)",
        "interop.to_torch(vector, dtype='float64', copy=False)",
        "interop.to_numpy(vector, dtype='float64', copy=False)",
        "interop.to_torch(np.float32(3), copy=False)",
        "with interop.guard(copies='error'): interop.to_torch(vector, copy=True)",
        "interop.tree.convert({'a': vector[::-1], 'b': vector}, 'torch', copy=False)",
        "given_away(torch.ones(3))",
        "planned('torch:float32[2]@cuda:0', 'numpy', device='cpu', copy=False)",
        "planned('torch:bfloat16[2]', 'numpy', extension='widen', copy=False)",
    ),
    "readonly": (
        "interop.to_torch(fixed, copy=False)",
        "interop.to_torch(fixed, readonly='error')",
        "interop.to_torch(fixed, policy='strict')",
        "with interop.guard(copies='error'): interop.to_torch(fixed)",
        "planned('numpy:float32[2]', 'jax', copy=False)",
        "planned('numpy:float32[2]+writable_base', 'jax', readonly='error')",
        "planned('dlpack:float32[2]+unknown_readonly', 'torch', policy='strict')",
    ),
    "dtype": (
        "interop.to_torch(np.ones(2, 'longdouble'))",
        "interop.to_torch(np.ones(2, 'longdouble'), dtype='longdouble')",
        "interop.to_torch(np.array(['a', 'b']))",
        "interop.to_torch(np.array([object()]))",
        "interop.to_torch(np.array(['2026'], 'datetime64[Y]'))",
        "interop.to_torch(np.zeros(2, [('a', 'f4')]))",
        "interop.to_torch(np.zeros(2, 'V2'))",
        "interop.to_torch(np.zeros(2, 'V1'))",
        "interop.to_numpy(torch.empty(2, dtype=torch.int4))",
        "interop.to_numpy(torch.empty(2, dtype=torch.int4), dtype='int8')",
        "interop.convert(torch.ones(2, dtype=torch.bfloat16), 'array_api_strict')",
        "interop.convert(torch.ones(2, dtype=torch.float64), 'jax')",
        "wide(torch.ones(3, requires_grad=True)).sum().backward()",
    ),
    "layout": (
        "interop.to_numpy(torch.eye(2).to_sparse())",
        "interop.to_numpy(torch.eye(2, dtype=torch.complex64).to_sparse().requires_grad_(), copy=False)",
        "planned('torch:float32[2,?]+nested', 'numpy')",
        "planned('jax:float32[2]+sharded', 'numpy')",
        "planned('dlpack:float32[2]@cuda:0+strides=-1', 'torch')",
        "interop.to_numpy(torch.ones([1] * 65))",
    ),
    "mask": (
        "interop.to_torch(np.ma.masked_array([1.0, 2.0], [True, False]))",
        "assert_equal(np.ma.masked_array([1.0, 2.0], [True, False]), vector)",
    ),
    "no-data": (
        "interop.to_numpy(torch.ones(2, device='meta'))",
        "interop.convert(vector, like=torch.ones(2, device='meta'))",
        "torch.vmap(interop.to_numpy)(torch.ones(2, 3))",
        "planned('torch:float32[2]+fake', 'numpy')",
        "planned('torch:float32[2]+vmap', 'numpy')",
        "planned('torch:float32[2]+func_grad', 'numpy')",
        "planned('torch:float32[2]+jvp', 'numpy')",
        "planned('torch:float32[2]+functional', 'numpy')",
        "planned('torch:float32[2]+traced', 'numpy')",
        "planned('jax:float32[2]+deleted', 'numpy')",
        "planned('torch:float32[2]+uninitialized', 'numpy')",
        "planned('torch:float32[2]+no_storage', 'numpy')",
        "planned('dlpack:float32[2]+null', 'numpy')",
        "assert_shares_memory(torch.ones(2, device='meta'), vector)",
    ),
    "unsupported-type": (
        "interop.to_torch([1.0, 2.0])",
        "interop.to_torch(None)",
        "interop.to_torch('photo.png')",
        "interop.to_torch({'a': vector})",
        "interop.to_torch([vector, vector], copy=False)",
        "interop.to_torch([2**53 + 1, 0.5])",
        "interop.to_torch(memoryview(vector))",
        "interop.to_torch(b'bytes')",
        "interop.to_torch(number for number in range(3))",
        "interop.to_torch(vector.__dlpack__())",
        "interop.to_numpy(torch.nn.Linear(1, 1))",
        "interop.to_numpy(torch.ones(1).untyped_storage())",
        "interop.to_torch(np)",
        "interop.to_torch(np.ndarray)",
        "interop.describe(3)",
        "interop.shares_memory(vector, [1.0])",
        "interop.convert(vector, like=Producer())",
        "interop.to_numpy(interop.describe(vector))",
        "interop.tree.convert([interop.describe(vector)], 'torch')",
        "np.asarray(interop.to_numpy(vector, blocking=False))",
        "interop.tree.convert({'a': vector, 'b': 'caption'}, 'torch', others='error')",
        "interop.tree.convert([frozenset([torch.ones(2)])], 'numpy')",
        "interop.tree.convert([vector, {'a': vector}.values()], 'torch')",
        "interop.tree.convert([vector, memoryview(vector)], 'torch', objects='open')",
        "interop.tree.convert({'a': vector, 'b': np.str_('caption')}, 'torch', others='error')",
        "without_arrays(3)",
    ),
    "backend-not-installed": ("with missing('cupy'): interop.to_cupy(vector)",),
    "device-unavailable": (
        "interop.to_numpy(vector, device='cuda:0')",
        "planned('numpy:float32[2]', 'cupy', device='cpu')",
    ),
    "mixed-backends": ("columns([torch.eye(3), np.eye(3)])",),
    "stream": (
        "interop.to_torch(vector, stream=1)",
        "planned('torch:float32[2]@cuda:0', 'cupy', stream=0)",
        "planned('torch:float32[2]@cuda:0', 'cupy', stream='main')",
    ),
    "units": (
        "interop.to_torch(vector.view(Measured))",
        "interop.to_torch(vector[::-1].view(Measured), copy=False)",
    ),
    "producer": ("interop.to_numpy(Producer())",),
    "a wrong word": (
        "interop.to_numpy(vector, gard='detach')",
        "interop.to_numpy(vector, None)",
        "interop.to_numpy(vector, grad='drop')",
        "interop.to_numpy(vector, grad=True)",
        "interop.to_numpy(vector, copy=0)",
        "interop.to_numpy(vector, copy='yes')",
        "interop.to_numpy(vector, policy='strickt')",
        "interop.to_numpy(vector, policy=3)",
        "interop.to_numpy(vector, detach=True)",
        "interop.to_numpy(vector, force=True)",
        "interop.to_torch(vector, blocking=False)",
        "interop.to_torch(vector, requires_grad=True)",
        "interop.tree.convert([vector], 'torch', detach=True)",
        "interop.convert(vector, 'jnp')",
        "interop.convert(vector, 'cuda')",
        "interop.convert(vector, torch.Tensor)",
        "interop.convert(vector, like='torch')",
        "interop.convert(vector, like=[vector])",
        "interop.guard(copy='error')",
        "interop.record(kep=1)",
        "interop.to_torch(vector, device=0)",
        "interop.to_numpy(vector, dtype='flaot32')",
        "interop.to_numpy(vector, dtype='>f4')",
        "interop.to_numpy(vector, device='gpu')",
        "interop.to_numpy(vector, device='cuda:first')",
        "interop.to_numpy(vector, blocking='no')",
        "interop.convert(vector)",
        "interop.convert(vector, 'torch', like=vector)",
        "interop.convert(vector, 'torsh')",
        "interop.convert(vector, vector)",
        "interop.Policy(graad='detach')",
        "interop.Policy(grad='loose')",
        "interop.DEFAULT.replace(grad='loose')",
        "interop.guard(copies='never').__enter__()",
        "interop.tree.convert([vector], 'torch', others='drop')",
        "interop.tree.convert([vector], 'torch', is_leef=None)",
    ),
    "a name from elsewhere": (
        "interop.from_numpy(vector)",
        "interop.asarray(vector)",
        "interop.from_dlpack(vector)",
        "interop.to_nump(vector)",
        "interop.tree.convrt(vector)",
        "interop.cuda.torchpool()",
        "interop.backends.Backends",
    ),
    "a tree that contains itself": ("interop.tree.convert(endless(), 'torch')",),
    "a wrong decorator": (
        "neutral(3)",
        "neutral(grad='detach')(len)",
        "neutral(runs_on='numpy', grad='brigde')(len)",
        "neutral(grad='bridge')(columns)",
        "neutral(runs_on='torch', grad='bridge')(columns)",
        "neutral(like='frist')(columns)",
        "neutral(like='torch')(columns)",
        "neutral(like='first', to='torch')(columns)",
        "neutral(like='self')(columns)",
        "neutral(like=3)(columns)",
        "neutral(mixed='first')(columns)",
        "neutral(backend='numpy')(columns)",
        "neutral(runs_on='numpy')(yielding)",
        "neutral(lambda xp, x: x)",
        "interop.policy(grad='detach')(yielding)",
    ),
    "a wrong rule": (
        "autograd.wrap(3, runs_on='numpy')",
        "autograd.wrap(len, runs_on=len)",
        "neutral(runs_on=len)(columns)",
        "autograd.wrap(len, runs_on='torch')",
        "autograd.wrap(len, runs_on='numpy', vmap='lead')",
        "autograd.wrap(len, runs_on='numpy', grad='detach')",
        "autograd.wrap(len, runs_on='numpy', fake=len)",
        "autograd.wrap(len, runs_on='numpy', name='scaled')",
        "autograd.wrap(len, backend='numpy')",
        "autograd.wrap(len, library='numpy')",
        "autograd.wrap(careless, runs_on='numpy')",
        "autograd.wrap(takes_ctx, runs_on='numpy', name='messages::takes_ctx')",
        "autograd.wrap(yielding, runs_on='numpy', name='messages::one', schema='(Tensor(a!) x) -> Tensor')",
        "autograd.wrap(yielding, runs_on='numpy', name='messages::one', schema='(*, Tensor x) -> Tensor')",
        "autograd.wrap(yielding, runs_on='numpy', name='messages::one', schema='(Tensor x) -> int')",
        "autograd.to_jax(len, vmap_method='lead')",
        "neutral(runs_on='numpy', grad='bridge')(takes_ctx)",
        "careless.backward(3)",
        "a_number(torch.ones(3, requires_grad=True))",
        "marks(torch.ones(3))",
        "looks_early(torch.ones(3))",
        "for_a_number(torch.ones(3, requires_grad=True), 2).sum().backward()",
        "forgetful(torch.ones(3, requires_grad=True), torch.ones(3)).sum().backward()",
    ),
    "a wrong notation": (
        "notation.parse('float32[2]')",
        "notation.parse('numpi:float32[2]')",
        "notation.parse('numpy:float32[2,x]')",
        "notation.parse('numpy:float32[2]@cuda:0')",
        "notation.parse('torch:float32[2]+gard')",
        "notation.parse('numpy:float32[2]+grad')",
        "notation.parse('torch:int32[2]+grad')",
        "notation.parse('torch:float32[2]+strides=1,2')",
    ),
    "a failed assertion": (
        "assert_equal(vector, vector + 1)",
        "assert_close(vector, torch.ones(2))",
        "assert_shares_memory(vector, vector.copy())",
        "with assert_source_untouched(vector): vector[0] += 1",
        "with assert_source_untouched(3): pass",
        "gradcheck(mistaken, (torch.ones(2, dtype=torch.float64),))",
        "list_rows(['numpyy'])",
    ),
}


class Measured(np.ndarray):
    """Numbers that mean something only with their unit."""

    __module__ = "library"  # the same by whatever name this file is run
    unit = "m"


class Producer:
    """An array of a library that interop does not know, which refuses its export."""

    __module__ = "library"  # the same by whatever name this file is run

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("the array is in use")


@contextlib.contextmanager
def missing(name: str) -> Any:
    """Return a context in which a library is not installed."""
    own = {module: None for module in sys.modules if module.startswith(f"interop.backends.{name}.")}
    with mock.patch.dict(backends._loaded), mock.patch.dict(sys.modules):
        backends._loaded.pop(name, None)
        for module in own:
            del sys.modules[module]
        sys.modules[name] = None  # what Python's import takes for a module that is not there
        yield


def planned(spec: str, to: str, **keywords: Any) -> Any:
    """Return the plan for an array that is described only."""
    return interop.explain(notation.parse(spec), to, **keywords)


def endless() -> Any:
    """Return an object that contains itself, as `neutral` and trees meet it."""
    whole = types.SimpleNamespace(vector=np.ones(2, "float32"))
    whole.whole = whole
    return whole


def in_torch(backward: Any = None, **permissions: Any) -> Any:
    """Return a decorator that wraps a function of NumPy, with a rule or without."""
    return lambda forward: autograd.wrap(forward, backward, runs_on="numpy", **permissions)


@neutral
def columns(x, *, xp=None):
    return xp.mean(x[0], axis=0)


@neutral
def without_arrays(n, *, xp=None):
    return xp.ones(n)


@neutral(runs_on="numpy", grad="bridge")
def bridged(x):
    return x * 2


def yielding(x):
    yield x


@in_torch()
def careless(x):
    return x * 2


@in_torch(lambda ctx, grad: 2 * grad * ctx.saved_tensors[0])
def squared(x):
    return x * x


@in_torch(lambda ctx, grad: 3 * grad * ctx.saved_tensors[0])
def mistaken(x):
    return x * x


@in_torch(lambda ctx, grad: np.ones((2, 2), "float32"))
def unruly(x):
    return x.sum()


@in_torch(lambda ctx, grad: grad.astype("float64"))
def wide(x):
    return x * 2


@in_torch()
def a_number(x):
    return float(x.sum())


@in_torch()
def marks(ctx, x):
    ctx.mark_dirty(x)
    return x * 2


@in_torch()
def looks_early(ctx, x):
    return ctx.saved_tensors


@in_torch(lambda ctx, grad: (grad, grad))
def for_a_number(x, n):
    return x * n


def takes_ctx(ctx, x):
    ctx.factor = 2
    return x * 2


@in_torch(lambda ctx, grad: grad)
def forgetful(x, y):
    return x + y


@in_torch(lambda ctx, grad: ())
def by_keyword(*, x):
    return x * 2


HELD = np.ones(3, "float32")


@in_torch(copy=False)
def given_away(x):
    return HELD


def namespace() -> dict[str, Any]:
    """Return what the calls use; the arrays are new ones each time."""
    vector, fixed = np.ones(2, "float32"), np.ones(2, "float32")
    fixed.flags.writeable = False
    return {
        **globals(),
        **{name: getattr(testing, name) for name in testing.__all__},
        "vector": vector,
        "fixed": fixed,
        "parameter": torch.nn.Parameter(torch.ones(3)),
        "conjugated": (torch.ones(2, 2) * (1 + 2j)).requires_grad_().conj(),
        "elsewhere": array_api_strict.ones(2, device=array_api_strict.Device("device1")),
    }


def answer(call: str) -> str:
    """Return what a call raises or returns, as a user reads it."""
    names = namespace()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                code = compile(call, "<call>", "eval")
            except SyntaxError:
                exec(call, names)
                return "nothing is raised"
            return str(eval(code, names))
    except NameError:
        raise  # a mistake here or in interop, and no message
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, errors.InteropError):
            text += f"\nerror.permissions == {error.permissions}"
        return ADDRESS.sub("0x...", text)


def render() -> str:
    """Return the whole file."""
    parts = [HEAD]
    for title, calls in CALLS.items():
        parts.append(f"== {title}\n")
        parts += [f">>> {call}\n{answer(call)}\n" for call in calls]
    return "\n".join(parts)


def difference(there: str, made: str) -> str:
    """Return how the file differs from what is said now; empty if it does not."""
    return "".join(difflib.unified_diff(there.splitlines(keepends=True), made.splitlines(keepends=True), FILE.name, "what is said now"))


def main() -> None:
    """Write the file."""
    FILE.write_text(render())


if __name__ == "__main__":
    main()
