"""Functions of other libraries in torch's graph: `torch.autograd.Function`, without knowing what the function does.

Two kinds of functions do the same: one for every day, and one for the transformations of `torch.func`, which set the context
up apart from the run, at several levels, with tensors that have no memory. So the rules are tasks as well wherever something may
look at them: torch brings each down to tensors with memory before it is run.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch.autograd.function import Function, _SingleLevelFunction

from interop.autograd._torch.slices import vmapped
from interop.backends.torch.modes import transforms
from interop.errors import GradError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interop.autograd._torch.tasks import Residuals, Task, Tensors

TENSORS: frozenset[int] = frozenset(map(id, (torch.Tensor, torch.nn.Parameter)))
"""The types of tensors that are met most often."""

_is_of_older_vmap = torch._C._functorch.is_legacy_batchedtensor
alive = torch._C._functorch.unwrap_if_dead
"""Returns for what is left of a transformation that has ended the tensor that it stood for."""
# C's own: that of Function looks at the signature of `forward` each time.
_apply = vars(torch._C._FunctionBase)["apply"]


class _Rules:
    """What all kinds have in common."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        residuals, needs = ctx.residuals, ctx.needs_input_grad[1:]
        saved, grads = ctx.saved_tensors, grads[: ctx.results]
        for grad in grads:
            if grad is not None and _is_of_older_vmap(grad):
                _refuse_older_vmap(ctx)
        if not residuals.once or not (torch.is_grad_enabled() or transforms()):
            return None, *residuals.vjp(saved, grads, needs)
        return None, *_looked_at(residuals.vjp_task(needs, _holes(saved, grads)), saved, grads)

    @staticmethod
    def jvp(ctx: Any, _: Any, *tangents: Any) -> Any:
        residuals = ctx.residuals
        saved = ctx.saved_tensors if residuals.saved_forward else ()
        found = _looked_at(residuals.jvp_task(_holes(saved, tangents)), saved, tangents)
        return found[0] if residuals.single else (*found, *[None] * (residuals.extras + 1))


class _Run(_Rules):
    """Sets the context up as it runs."""

    @staticmethod
    def forward(ctx: Any, task: Task, *tensors: Any) -> Any:
        made, residuals = task.run(tensors)
        _set_up(ctx, residuals, tensors, made)
        # Each value that comes out has a place in the graph, which costs something in every backward pass.
        return made[0] if residuals.single else (*made, residuals)


class _Everyday(_Run, Function):
    """Outside of `torch.func`'s transformations."""


class _OneLevel(_Run, _SingleLevelFunction):
    """Inside of them, at the level that torch is at: as what torch makes of a `Function` there (torch/_functorch/autograd_function.py).

    From torch 2.14 on a `Function` that sets its context up as it runs is refused there, whatever is enabled.
    """


class _Transformed(_Rules, Function):
    """Inside of them."""

    @staticmethod
    def forward(task: Task, *tensors: Any) -> Any:
        made, residuals = task.run(tensors)
        return *made, residuals

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _set_up(ctx, output[-1], inputs[1:], output[:-1])

    @staticmethod
    def vmap(info: Any, in_dims: Any, task: Task, *tensors: Any) -> Any:
        return vmapped(apply, info.batch_size, in_dims[1:], task, tensors)


def apply(task: Task, tensors: Sequence[Any]) -> tuple[Tensors, Any]:
    """Run a task in torch's graph: return its results, and the residuals."""
    everyday, _, transformed = functions_named(task.name)
    if transforms():
        *made, residuals = transformed.apply(task, *tensors)
    else:
        *made, residuals = everyday(task, *map(alive, tensors))  # the residuals of such a task are not `single`
    return made, residuals


@lru_cache(maxsize=1024)
def functions_named(name: str) -> tuple[Any, Any, Any]:
    """Return the functions whose nodes in the graph have this name: for every day and for one level the call of C's, else the class."""
    everyday, one_level, transformed = (type(name, (kind,), {}) for kind in (_Everyday, _OneLevel, _Transformed))
    return _apply.__get__(None, everyday), _apply.__get__(None, one_level), transformed


def _set_up(ctx: Any, residuals: Residuals, tensors: Sequence[Any], made: Sequence[Any]) -> None:
    ctx.residuals = residuals
    if residuals.usual:
        ctx.results = 1
        ctx.save_for_backward(*tensors)
        return

    def named(numbers: Sequence[int | None]) -> list[Any]:
        return [None if n is None else tensors[n] if n >= 0 else made[~n] for n in numbers]

    ctx.results = len(made) - residuals.extras
    ctx.save_for_backward(*named(residuals.saved))
    if residuals.saved_forward:
        ctx.save_for_forward(*named(residuals.saved_forward))
    if residuals.dead or residuals.extras:
        ctx.mark_non_differentiable(*(made[n] for n in residuals.dead), *made[ctx.results :])
    if not residuals.materializes:
        ctx.set_materialize_grads(False)


def _refuse_older_vmap(ctx: Any) -> NoReturn:
    name = type(ctx).__name__.removesuffix("Backward")
    hint = "Use torch.func.vmap over torch.func.vjp, or torch.func.jacrev; in gradcheck, check_batched_grad=False."
    raise GradError(f"torch's older vmap (is_grads_batched=True) cannot run the backward of {name}, which it cannot look into.", hint=hint)


def _holes(*groups: Sequence[Any]) -> list[bool]:
    return [one is None for group in groups for one in group]


def _looked_at(task: Task, *groups: Sequence[Any]) -> list[Any]:
    """Run a rule where torch may differentiate or vectorise it."""
    made, residuals = apply(task, [one for group in groups for one in group if one is not None])
    spread: list[Any] = residuals.spread(made)
    return spread
