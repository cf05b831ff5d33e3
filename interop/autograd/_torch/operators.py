"""Operators of torch's dispatcher for functions that it cannot look into, for `torch.compile` and `torch.export`.

Each is two operators, the function and its backward rule, so that a compiled backward pass does not look into the rule
either. They are registered with `torch.library.Library`, the floor of `torch.library.custom_op`: the autograd of the latter
refuses `torch.func` (pytorch/pytorch#170834), and leaves the tangents of forward mode out without a word. Here autograd is
that of `interop.autograd._torch.functions`, with the operator below it in the place of the function.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad
from torch.library import Library, register_autocast, register_fake, register_vmap
from torch.utils._pytree import tree_map_only

from interop.autograd._torch.functions import alive, functions_named
from interop.autograd._torch.slices import cut, fronted, slices_of, stacked
from interop.backends.torch.memory import span
from interop.backends.torch.modes import AUTOCASTS, autocast, tracks, transforms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from interop.autograd._torch.schemas import OperatorSchema
    from interop.autograd._torch.tasks import Task

    Kernel = Callable[..., Any]

_registered: dict[str, _Registered] = {}
"""The operators by name. They are there for good: what torch has of one that is taken back points nowhere."""


class Kernels(ABC):
    """What an operator does. `args` are always all of its arguments; what is returned are lists of tensors.

    Attributes
    ----------
    schema : OperatorSchema
        The name and schema of the operator.
    leading : bool
        Whether it takes tensors with one more axis in front.
    superseded : bool
        Whether the operator does something else by now.
    """

    schema: OperatorSchema
    leading: bool
    superseded: bool = False

    @abstractmethod
    def run(self, args: list[Any]) -> list[torch.Tensor]:
        """Run the function on tensors that have memory."""

    @abstractmethod
    def fake(self, args: list[Any]) -> list[torch.Tensor]:
        """Return what `run` would return, without data."""

    @abstractmethod
    def task(self, args: list[Any]) -> tuple[Task, Sequence[Any]]:
        """Return the operator as a node of the graph, and the tensors that go in."""

    @abstractmethod
    def run_backward(self, grads: list[Any], results: list[Any], needs: list[bool], args: list[Any]) -> list[torch.Tensor]:
        """Run the rule: return the gradient of each tensor that needs one."""

    @abstractmethod
    def task_backward(self, args: list[Any]) -> tuple[Task, Sequence[Any]]:
        """Return the rule as a node of the graph, and the tensors that go in; `args` are those of its operator."""


@dataclass
class _Registered:
    """An operator: what it does now, whose it is, and how it can be called."""

    kernels: Kernels
    owner: str
    cast: str | None
    library: Library
    operators: tuple[Any, Any] = (None, None)

    def takes(self, kernels: Kernels, owner: str, cast: str | None) -> bool:
        """Whether other kernels may replace the registered ones: those of its function, redefined with the same schema."""
        same = (self.owner, self.cast, self.kernels.schema.text) == (owner, cast, kernels.schema.text)
        return same and "<locals>" not in owner


def register(kernels: Kernels, *, owner: str, cast: str | None) -> tuple[Any, Any]:
    """Register an operator and its rule under the names in its schema; return both.

    Parameters
    ----------
    kernels : Kernels
        What they do.
    owner : str
        The full name of the function. One that is redefined with the same schema, as in a notebook, replaces the
        old one, also in graphs that are compiled already.
    cast : str, optional
        The dtype that floats are cast to inside of `torch.autocast`.

    Raises
    ------
    ValueError
        If there is an operator of that name, and of another owner, or with another schema.
    """
    schema = kernels.schema
    name, rule = schema.operator, f"{schema.operator}_backward"
    there = _registered.get(name)
    if there is not None and there.takes(kernels, owner, cast):
        there.kernels.superseded, there.kernels = True, kernels
        return there.operators
    for taken in filter(_find, (name, rule)):
        raise ValueError(f"there is an operator {taken!r} already, and a name is given once: choose another for {name!r}.")
    space, _, short = name.partition("::")
    library = Library(space, "FRAGMENT")
    made = _registered[name] = _Registered(kernels, owner, cast, library)
    operator = _define(library, short, schema.text)
    backward = _define(library, f"{short}_backward", schema.backward())
    _forward_kernels(short, made)
    _backward_kernels(f"{short}_backward", made)
    made.operators = operator, backward
    if cast:
        _cast_inside_of_autocast(name, operator, cast, library)
    return made.operators


def _cast_inside_of_autocast(name: str, operator: Any, dtype: str, library: Library) -> None:
    devices = AUTOCASTS if _AUTOCASTS_ALL else ("cpu", "cuda")
    for device in devices:
        register_autocast(name, device, getattr(torch, dtype), lib=library)
    if _AUTOCASTS_ALL:
        return
    # Where a graph is traced, the device that was registered last stands for both (torch 2.11's torch/library.py, `_autocast_py_impl`).
    keys = [getattr(torch._C.DispatchKey, f"Autocast{device.upper()}") for device in devices]

    def traced(*args: Any) -> Any:
        # Asked before the guard, inside of which no autocast is enabled. Tensors in lists too.
        cast = tree_map_only(torch.Tensor, lambda tensor: autocast([tensor], dtype)[0], args)
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(keys[0]) | torch._C.DispatchKeySet(keys[1])):
            return operator(*cast)

    for key in keys:
        operator.py_kernels.pop(key, None)
        operator.py_impl(key)(traced)


# torch 2.11 takes "cpu" and "cuda", and raises for any other; 2.13 asks itself which devices have autocast.
_AUTOCASTS_ALL = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 13)


def _find(name: str) -> Any:
    space, _, short = name.partition("::")
    return getattr(getattr(torch.ops, space), short, None)


def _define(library: Library, short: str, schema: str) -> Any:
    library.define(f"{short}{schema}", tags=(torch.Tag.pt2_compliant_tag,))
    return getattr(getattr(torch.ops, library.ns), short).default


def _forward_kernels(short: str, made: _Registered) -> None:
    schema = made.kernels.schema

    def single(results: list[torch.Tensor]) -> Any:
        return results[0] if schema.count == 1 else tuple(results)

    def run(*args: Any) -> Any:
        return single(_own(made.kernels.run(schema.filled(args)), args))

    def fake(*args: Any) -> Any:
        return single([one.contiguous() for one in made.kernels.fake(schema.filled(args))])

    def autograd(*args: Any) -> Any:
        return single(_one_level(*made.kernels.task(schema.filled(args))))

    _kernels(made, short, run, fake, autograd)


def _backward_kernels(short: str, made: _Registered) -> None:
    count = made.kernels.schema.count

    def run(*args: Any) -> Any:
        grads, results, needs, given = list(args[:count]), list(args[count : 2 * count]), args[2 * count], list(args[2 * count + 1 :])
        return _own(made.kernels.run_backward(grads, results, needs, given), args)

    def fake(*args: Any) -> Any:
        tensors = _tensors(args[2 * count + 1 :])
        needed = [tensor for tensor, need in zip(tensors, args[2 * count], strict=True) if need]
        return [torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device) for tensor in needed]

    def autograd(*args: Any) -> Any:
        return _one_level(*made.kernels.task_backward(list(args)))

    _kernels(made, short, run, fake, autograd)


def _kernels(made: _Registered, short: str, run: Kernel, fake: Kernel, autograd: Kernel) -> None:
    library = made.library
    name, operator = f"{library.ns}::{short}", getattr(getattr(torch.ops, library.ns), short).default

    def vmap(info: Any, dims: Sequence[Any], *args: Any) -> Any:
        return _vmapped(operator, info.batch_size, dims, args, leading=made.kernels.leading)

    library.impl(short, run, "CompositeExplicitAutograd")
    library.impl(short, autograd, "Autograd")
    register_fake(name, fake, lib=library)
    register_vmap(name, vmap, lib=library)


def _one_level(task: Task, tensors: Sequence[Any]) -> list[torch.Tensor]:
    """Run a task in the graph of the level that the dispatcher is at: it is what goes through the levels of `torch.func` here."""
    everyday, one_level, _ = functions_named(task.name)
    if transforms():
        with enable_single_level_autograd_function():
            *made, _ = one_level(task, *map(alive, tensors))
    elif forward_ad._current_level >= 0 or any(map(tracks, tensors)):
        *made, _ = everyday(task, *tensors)
    else:
        made, _ = task.run(tensors)
    return list(made)


def _vmapped(operator: Any, size: int, dims: Sequence[Any], args: Sequence[Any], *, leading: bool) -> tuple[Any, Any]:
    """Call an operator on batched tensors: once, if it takes them with the axis in front, else once for each slice."""

    def each(change: Callable[[Any, int | None, int], Any], number: int) -> Any:
        return operator(*(_each(arg, dim, lambda one, at: change(one, at, number)) for arg, dim in zip(args, dims, strict=True)))

    if leading:
        made = each(fronted, size)
        return made, 0 if isinstance(made, torch.Tensor) else type(made)([0] * len(made))
    runs = [each(cut, number) for number in slices_of(size, str(operator))]
    if isinstance(runs[0], torch.Tensor):
        return torch.stack(runs), 0
    columns = stacked(runs)
    return type(runs[0])(columns), type(runs[0])([0] * len(columns))


def _each(arg: Any, dim: Any, change: Callable[[Any, int | None], Any]) -> Any:
    """Change a tensor, or those in a list, each with its batched axis."""
    if isinstance(arg, list | tuple):
        return [_each(one, at, change) for one, at in zip(arg, dim or [None] * len(arg), strict=True)]
    return change(arg, dim) if isinstance(arg, torch.Tensor) else arg


def below(operator: Any, *args: Any) -> list[torch.Tensor]:
    """Call an operator without its autograd; return its results as a list."""
    with torch._C._AutoDispatchBelowAutograd():
        made = operator(*args)
    return [made] if isinstance(made, torch.Tensor) else list(made)


def holds_tensor(args: Sequence[Any]) -> bool:
    """Whether there is a tensor among arguments, or in a list among them. `torch.compile` looks into this."""
    for arg in args:
        if isinstance(arg, torch.Tensor):
            return True
        if isinstance(arg, list | tuple) and any(isinstance(one, torch.Tensor) for one in arg):
            return True
    return False


def is_live(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether derivatives may be asked of a run on tensors that have memory: not inside of a compiled graph, nor while it is traced."""
    if torch._C._len_torch_dispatch_stack():
        return False
    return bool(transforms()) or forward_ad._current_level >= 0 or any(map(tracks, tensors))


def is_transformed() -> bool:
    """Whether a transformation of `torch.func` is at work on tensors that have memory."""
    return not torch.compiler.is_compiling() and bool(transforms()) and not torch._C._len_torch_dispatch_stack()


def zeros(tensor: torch.Tensor) -> torch.Tensor:
    """Return zeros like a tensor."""
    return torch.zeros(tensor.shape, dtype=tensor.dtype, device=tensor.device)


def _tensors(args: Sequence[Any]) -> list[torch.Tensor]:
    """Return the tensors among arguments, in order."""
    return [one for arg in args for one in (arg if isinstance(arg, list | tuple) else (arg,)) if isinstance(one, torch.Tensor)]


# Memory: an operator returns memory of its own, laid out as its fake returns it, or a compiled graph would be wrong.


def _own(made: Sequence[torch.Tensor], args: Sequence[Any]) -> list[torch.Tensor]:
    """Return contiguous tensors, copies of those that overlap with a tensor of the arguments or one before them."""
    spans = [at for tensor in _tensors(args) if (at := span(tensor))]
    results = []
    for one in made:
        result, at = one.contiguous(), span(one)
        if at and result is one and any(at[0] < end and start < at[1] for start, end in spans):
            result = one.clone()
        elif at and result is one:
            spans.append(at)
        results.append(result)
    return results
