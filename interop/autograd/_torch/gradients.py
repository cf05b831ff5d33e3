"""Functions of torch as a library without torch's graph needs them: the shapes and dtypes of their results without a run, and their gradients.

A gradient is a function of the inputs and of the results' gradients, which torch can differentiate again.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch

from interop._model.scope import block, undone
from interop.errors import DTypeError, GradError, NoDataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Function = Callable[..., list[torch.Tensor]]
    ArraySpec = tuple[tuple[int, ...], str]  # shape, and dtype by name


@block
def by_itself() -> Iterator[None]:
    """Run as a callback's thread does, whatever modes the caller is in: a function may take gradients of its own."""
    # The guard in C, which `torch.inference_mode` enters: it is entered by one call, and torch's own context by several.
    with torch._C._InferenceMode(False), undone(functools.partial(torch._C._set_grad_enabled, torch.is_grad_enabled())):
        torch._C._set_grad_enabled(True)
        yield


def copied(tensor: torch.Tensor) -> torch.Tensor:
    """Return a contiguous copy outside of the graph, in memory of its own."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def specs_of(function: Function, specs: Sequence[ArraySpec], name: str) -> list[ArraySpec]:
    """Return what the results would be for such inputs, from a run on fake tensors."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # on request: it takes long

    with by_itself(), FakeTensorMode(allow_non_fake_inputs=True):
        inputs = [torch.empty(shape, dtype=_dtype(dtype)) for shape, dtype in specs]
        try:
            results = function(*inputs)
        except RuntimeError as error:  # all of torch's own: data-dependent shapes and values, what has no fake implementation
            message = f"{name} cannot be run without data, to see the shapes of its results: {str(error).partition(chr(10))[0]}"
            hint = "Give them: to_jax(..., fake=function), with a function of tensors without data that returns such tensors."
            raise NoDataError(message, hint=hint) from error
    return [(tuple(result.shape), str(result.dtype).removeprefix("torch.")) for result in results]


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise DTypeError(f"torch has no {name}.", hint="Cast it with JAX first, to a dtype that torch has.")
    return found


def vjp(function: Function, needs: Sequence[bool], moved: Sequence[bool], name: str) -> Function:
    """Return the function from inputs and gradients to gradients, in JAX's convention: the conjugate of torch's.

    Parameters
    ----------
    needs : sequence of bool
        Which inputs have gradients.
    moved : sequence of bool
        Which results have them.
    name : str
        Of the function, in messages.
    """

    def vjp(*tensors: torch.Tensor) -> list[torch.Tensor]:
        again = any(tensor.requires_grad for tensor in tensors)
        inputs = [_tracked(one) if need else one for one, need in zip(tensors[: len(needs)], needs, strict=True)]
        # Of a copy the function may do what it likes, also in place.
        given = [one.clone() if need else one for one, need in zip(inputs, needs, strict=True)]
        results = [one for one, moves in zip(function(*given), moved, strict=True) if moves]
        pairs = [(one, grad) for one, grad in zip(results, tensors[len(needs) :], strict=True) if one.requires_grad]
        wanted = [one for one, need in zip(inputs, needs, strict=True) if need]
        if wanted and results and not pairs:
            hint = "Stay in torch, wrap what leaves it (interop.autograd.wrap), or mark it as constant: jax.lax.stop_gradient."
            raise GradError(f"{name}: no result depends on the inputs in torch's graph, so their gradients would be lost.", hint=hint)
        if not pairs or not wanted:
            return list(map(torch.zeros_like, wanted))
        incoming = [grad.conj().to(one.dtype) for one, grad in pairs]
        found = torch.autograd.grad([one for one, _ in pairs], wanted, incoming, create_graph=again, allow_unused=True)
        return [torch.zeros_like(one) if grad is None else grad.conj() for one, grad in zip(wanted, found, strict=True)]

    return vjp


def _tracked(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor where gradients can be asked of it: apart from the others, if it occurs more than once."""
    return tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()
