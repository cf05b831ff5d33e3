"""Functions of other libraries in torch's graph: `torch.autograd.Function`, without knowing what the function does.

A *task* is what is to be run on tensors, a *trace* what its run leaves for the rules. Two kinds of functions do the same:
one for every day, and one for the transformations of `torch.func`, which set the context up apart from the run, at
several levels, with tensors that have no memory. So the rules are tasks as well wherever something may look at them: torch
brings each down to tensors with memory before it is run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch._C._dynamo import eval_frame
from torch.autograd import Function

from interop.errors import GradError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "TENSORS",
    "Task",
    "Trace",
    "alive",
    "apart",
    "apply",
    "autocast",
    "functions_named",
    "leave_alone",
    "span",
    "tracks",
    "transforms",
]

TENSORS: frozenset[type] = frozenset({torch.Tensor, torch.nn.Parameter})
"""The types of tensors that are met most often."""

Tensors = list[torch.Tensor]
transforms = torch._C._are_functorch_transforms_active
"""Whether a transformation of torch.func is at work."""
_stack = torch._C._functorch.peek_interpreter_stack
_is_of_older_vmap = torch._C._functorch.is_legacy_batchedtensor
alive = torch._C._functorch.unwrap_if_dead  # what is left of a transformation that has ended stands for its tensor
# C's own: that of Function looks at the signature of `forward` each time.
_apply = vars(torch._C._FunctionBase)["apply"]


class Task(ABC):
    """Something to be run on tensors."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called in the graph."""

    @abstractmethod
    def run(self, tensors: Sequence[Any]) -> tuple[Tensors, Any]:
        """Return the results, after them what else is to be saved, and the trace."""

    def leading(self, level: int, size: int) -> Task | None:
        """Return the task for one run on tensors with an axis of vmap's in front; None if each slice needs a run of its own."""
        return None

    def slice(self, level: int, number: int) -> Task:
        """Return the task for one slice of vmap's."""
        return self


class Trace(ABC):
    """What a run leaves.

    Attributes
    ----------
    saved, saved_forward : tuple of int or None
        What is saved for the rules: numbers of inputs, and of what the run returned as ``~n``.
    dead : tuple of int
        The results that have no gradient.
    extras : int
        So many of what the run returned, at its end, are only there to be saved.
    materializes : bool
        Whether the gradient of a result that was not used comes as zeros.
    once : bool
        Whether torch cannot look at the backward rule.
    usual : bool
        Whether all inputs are saved for the backward rule, and nothing else is to be said.
    """

    saved: tuple[int | None, ...] = ()
    saved_forward: tuple[int | None, ...] = ()
    dead: tuple[int, ...] = ()
    extras: int = 0
    materializes: bool = True
    once: bool = True
    usual: bool = False

    @abstractmethod
    def pull(self, saved: Sequence[Any], grads: Sequence[Any], needs: Sequence[bool]) -> list[Any]:
        """Run the backward rule: return a gradient or None for each input."""

    @abstractmethod
    def pulling(self, needs: Sequence[bool], holes: Sequence[bool]) -> Task:
        """Return the backward rule as a task; `holes` says which of saved and gradients are None."""

    @abstractmethod
    def pushing(self, holes: Sequence[bool]) -> Task:
        """Return the forward-mode rule as a task."""


class _Rules(Function):
    """What both kinds have in common."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        trace, needs = ctx.trace, ctx.needs_input_grad[1:]
        saved, grads = ctx.saved_tensors, grads[: ctx.results]
        for grad in grads:
            if grad is not None and _is_of_older_vmap(grad):
                _refuse_older_vmap(ctx)
        if not trace.once or not (torch.is_grad_enabled() or transforms()):
            return None, *trace.pull(saved, grads, needs)
        return None, *_looked_at(trace.pulling(needs, _holes(saved, grads)), saved, grads)

    @staticmethod
    def jvp(ctx: Any, _: Any, *tangents: Any) -> Any:
        trace = ctx.trace
        saved = ctx.saved_tensors if trace.saved_forward else ()
        found = _looked_at(trace.pushing(_holes(saved, tangents)), saved, tangents)
        return *found, *[None] * (trace.extras + 1)


class _Everyday(_Rules):
    """Outside of `torch.func`'s transformations."""

    @staticmethod
    def forward(ctx: Any, task: Task, *tensors: Any) -> Any:
        made, trace = task.run(tensors)
        _set_up(ctx, trace, tensors, made)
        return *made, trace


class _Transformed(_Rules):
    """Inside of them."""

    @staticmethod
    def forward(task: Task, *tensors: Any) -> Any:
        made, trace = task.run(tensors)
        return *made, trace

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _set_up(ctx, output[-1], inputs[1:], output[:-1])

    @staticmethod
    def vmap(info: Any, in_dims: Any, task: Task, *tensors: Any) -> Any:
        return _vmapped(info.batch_size, in_dims[1:], task, tensors)


def apply(task: Task, tensors: Sequence[Any]) -> tuple[Tensors, Any]:
    """Run a task in torch's graph: return its results, and the trace."""
    everyday, transformed = functions_named(task.name)
    if transforms():
        *made, trace = transformed.apply(task, *tensors)
    else:
        *made, trace = everyday(task, *map(alive, tensors))
    return made, trace


def leave_alone(function: Any) -> Any:
    """Let `torch.compile` call a function as it is, and not trace it: a decorator.

    What `torch.compiler.disable` does, without importing the compiler.
    """
    function._torchdynamo_disable = True
    function._torchdynamo_disable_msg = "a function of another library: interop.autograd.wrap(..., name=, fake=) makes it an operator"
    skip = eval_frame._FrameAction.SKIP
    eval_frame.set_code_exec_strategy(function.__code__, eval_frame._FrameExecStrategy(skip, skip))
    return function


def apart(tensors: list[Any], *, same: bool) -> list[Any]:
    """Return tensors of which no two share memory, unless they are one and may be the `same`: torch would not know of it.

    It may take a gradient as it is for ``x.grad``, to which it then adds in place.
    """
    seen: dict[int, tuple[int, int]] = {}
    results = []
    for tensor in tensors:
        at = None if tensor is None or (same and id(tensor) in seen) else span(tensor)
        if at is None:
            results.append(tensor)
        elif any(at[0] < end and start < at[1] for start, end in seen.values()):
            results.append(tensor.clone())
        else:
            seen[id(tensor)] = at
            results.append(tensor)
    return results


def span(tensor: torch.Tensor) -> tuple[int, int] | None:
    """Return the addresses between which a tensor's elements are; None without any.

    Not its storage: each crossing makes a new one, for the same memory.
    """
    if tensor.layout is not torch.strided or not tensor.numel():
        return None
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()


def tracks(tensor: torch.Tensor) -> bool:
    """Whether a graph that is being made now goes through a tensor."""
    return torch.is_grad_enabled() and tensor.requires_grad


def autocast(tensors: Sequence[Any], dtype: str) -> list[Any]:
    """Return the tensors as they arrive inside of `torch.autocast`, those of floats cast; differentiably."""
    wanted = getattr(torch, dtype)

    def casts(tensor: Any) -> bool:
        return tensor.is_floating_point() and tensor.dtype is not torch.float64 and torch.is_autocast_enabled(tensor.device.type)

    return [tensor.to(wanted) if casts(tensor) else tensor for tensor in tensors]


@lru_cache(maxsize=1024)
def functions_named(name: str) -> tuple[Any, Any]:
    """Return the functions whose nodes in the graph have this name: for every day the call of C's, else the class."""
    return _apply.__get__(None, type(name, (_Everyday,), {})), type(name, (_Transformed,), {})


def _set_up(ctx: Any, trace: Trace, tensors: Sequence[Any], made: Sequence[Any]) -> None:
    ctx.trace = trace
    if trace.usual:
        ctx.results = 1
        ctx.save_for_backward(*tensors)
        return

    def named(numbers: Sequence[int | None]) -> list[Any]:
        return [None if n is None else tensors[n] if n >= 0 else made[~n] for n in numbers]

    ctx.results = len(made) - trace.extras
    ctx.save_for_backward(*named(trace.saved))
    if trace.saved_forward:
        ctx.save_for_forward(*named(trace.saved_forward))
    if trace.dead or trace.extras:
        ctx.mark_non_differentiable(*(made[n] for n in trace.dead), *made[ctx.results :])
    if not trace.materializes:
        ctx.set_materialize_grads(False)


def _refuse_older_vmap(ctx: Any) -> NoReturn:
    name = type(ctx).__name__.removesuffix("Backward")
    hint = "Use torch.func.vmap over torch.func.vjp, or torch.func.jacrev; in gradcheck, check_batched_grad=False."
    raise GradError(f"torch's older vmap (is_grads_batched=True) cannot run the backward of {name}, which it cannot look into.", hint=hint)


def _holes(*groups: Sequence[Any]) -> list[bool]:
    return [one is None for group in groups for one in group]


def _looked_at(task: Task, *groups: Sequence[Any]) -> list[Any]:
    """Run a rule where torch may differentiate or vectorise it."""
    made, trace = apply(task, [one for group in groups for one in group if one is not None])
    spread: list[Any] = trace.spread(made)
    return spread


# vmap.


def _vmapped(size: int, dims: Sequence[int | None], task: Task, tensors: Sequence[Any]) -> Any:
    """Run a task on batched tensors: at once, if it can be, else slice by slice."""
    lower = _stack()
    level = (lower.level() if lower else 0) + 1
    whole = task.leading(level, size)
    if whole is not None:
        fronted = [_fronted(tensor, dim, size) for tensor, dim in zip(tensors, dims, strict=True)]
        made, trace = apply(whole, fronted)
        return (*made, _Whole(level, trace)), (*[0] * len(made), None)
    if not size:
        raise ValueError(f"vmap over no slices: {task.name} cannot be run once to see what it returns.")
    runs = [
        apply(task.slice(level, number), [t if dim is None else t.select(dim, number) for t, dim in zip(tensors, dims, strict=True)])
        for number in range(size)
    ]
    made = [torch.stack(column) for column in zip(*(made for made, _ in runs), strict=True)]
    return (*made, _Slices(level, [trace for _, trace in runs])), (*[0] * len(made), None)


def _fronted(tensor: Any, dim: int | None, size: int) -> Any:
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


class _OfLevel:
    """What vectorised runs leave: but for the rules, it is as what the first of them leaves."""

    def __init__(self, level: int, first: Any) -> None:
        self.level, self.first = level, first

    def __getattr__(self, name: str) -> Any:
        return getattr(self.first, name)


class _Whole(_OfLevel):
    """The trace of one run for all slices."""

    def __init__(self, level: int, trace: Any) -> None:
        super().__init__(level, trace)
        self.trace = trace

    def pulling(self, needs: Sequence[bool], holes: Sequence[bool]) -> Task:
        return _WholeTask(self.level, self.trace.pulling(needs, holes))

    def pushing(self, holes: Sequence[bool]) -> Task:
        return _WholeTask(self.level, self.trace.pushing(holes))


class _Slices(_OfLevel):
    """The traces of a run for each slice."""

    def __init__(self, level: int, traces: list[Any]) -> None:
        super().__init__(level, traces[0])
        self.traces = traces

    def pulling(self, needs: Sequence[bool], holes: Sequence[bool]) -> Task:
        return _SlicedTask(self.level, [trace.pulling(needs, holes) for trace in self.traces])

    def pushing(self, holes: Sequence[bool]) -> Task:
        return _SlicedTask(self.level, [trace.pushing(holes) for trace in self.traces])


class _NeedsLevel(Task):
    """A rule of a vectorised run: torch brings it to the level at which that was, before anything is run."""

    def __init__(self, level: int, like: Task) -> None:
        self.level, self._name = level, like.name

    @property
    def name(self) -> str:
        return self._name

    def run(self, tensors: Sequence[Any]) -> Any:
        raise AssertionError(f"{self.name} was run outside of the vmap that it belongs to, on {len(tensors)} tensors")


class _WholeTask(_NeedsLevel):
    def __init__(self, level: int, task: Task) -> None:
        super().__init__(level, task)
        self.task = task

    def leading(self, level: int, size: int) -> Task | None:
        return self.task if level == self.level else None


class _SlicedTask(_NeedsLevel):
    def __init__(self, level: int, tasks: list[Task]) -> None:
        super().__init__(level, tasks[0])
        self.tasks = tasks

    def slice(self, level: int, number: int) -> Task:
        return self.tasks[number] if level == self.level else self
