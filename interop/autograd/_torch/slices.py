"""Tasks under `torch.vmap`: run at once for all slices, or once for each.

What such runs leave belongs to a level of vmap. A rule of it may be wanted inside of other levels, so it is a task as well, which
torch brings to the level that it belongs to before anything is run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from interop.autograd._torch.tasks import Task
from interop.errors import GradError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Apply = Callable[[Task, Sequence[Any]], tuple[list[torch.Tensor], Any]]
    Rule = Callable[[Any, Sequence[bool]], Task]

_stack = torch._C._functorch.peek_interpreter_stack


def vmapped(apply: Apply, size: int, dims: Sequence[int | None], task: Task, tensors: Sequence[Any]) -> Any:
    """Run a task on batched tensors, as a function's vmap returns it: at once, if it can be, else slice by slice."""
    lower = _stack()
    level = (lower.level() if lower else 0) + 1
    whole = task.leading(level, size)
    if whole is not None:
        made, residuals = apply(whole, [fronted(tensor, dim, size) for tensor, dim in zip(tensors, dims, strict=True)])
        own = len(made) - residuals.anchors  # those of other levels have no axis of this one
        return _returned(_BatchedResiduals(level, residuals, dims, own), list(made), size, [0] * own + [None] * residuals.anchors)
    runs = [
        apply(task.slice(level, number), [cut(tensor, dim, number) for tensor, dim in zip(tensors, dims, strict=True)])
        for number in slices_of(size, task.name)
    ]
    every = [residuals for _, residuals in runs]
    if any(residuals.fixed() != every[0].fixed() for residuals in every):
        raise ValueError(
            f"{task.name} under vmap: what it returns besides arrays differs from slice to slice, and there is one place for it."
        )
    columns = stacked([made for made, _ in runs])
    return _returned(_SlicedResiduals(level, every, dims, len(columns)), columns, size, [0] * len(columns))


def _returned(residuals: _LevelResiduals, made: list[torch.Tensor], size: int, out_dims: list[int | None]) -> Any:
    if residuals.is_anchored:
        made.append(torch.zeros(size))
        out_dims.append(0)
        residuals.anchor(~(len(made) - 1))
    return (*made, residuals), (*out_dims, None)


# What a batched tensor is for all slices, and for one; `dim` is its batched axis, None if it is the same for all.


def fronted(tensor: Any, dim: int | None, size: int) -> Any:
    """Return a tensor with the batched axis in front."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def cut(tensor: Any, dim: int | None, number: int) -> Any:
    """Return one slice of a tensor."""
    return tensor if dim is None else tensor.select(dim, number)


def slices_of(size: int, name: str) -> range:
    """Return the numbers of the slices; ValueError if there is none."""
    if not size:
        raise ValueError(f"vmap over no slices: {name} cannot be run once to see what it returns.")
    return range(size)


def stacked(runs: Sequence[Sequence[torch.Tensor]]) -> list[torch.Tensor]:
    """Return the results of runs for each slice as batched tensors, the axis in front."""
    return [torch.stack(column) for column in zip(*runs, strict=True)]


class _LevelResiduals:
    """What vectorised runs leave: but for the rules, it is as what the first of them leaves.

    A rule is brought to its level by what is saved there. Where that is nothing with an axis of the level, an anchor is saved besides.
    """

    def __init__(self, level: int, first: Any, dims: Sequence[int | None], results: int) -> None:
        self.level, self.first = level, first
        self.saved, self.saved_forward, self.extras, self.anchors = first.saved, first.saved_forward, first.extras, first.anchors

        def is_batched(n: int | None) -> bool:
            return n is not None and (dims[n] is not None if n >= 0 else ~n < results)

        self.lacks = [not first.ends and not any(map(is_batched, saved)) for saved in (first.saved, first.saved_forward)]

    @property
    def is_anchored(self) -> bool:
        """Whether it needs an anchor."""
        return any(self.lacks)

    def anchor(self, number: int) -> None:
        """Save an anchor, the number `number` of what was returned, where it is needed."""
        self.extras += 1
        self.anchors += 1
        if self.lacks[0]:
            self.saved = (*self.saved, number)
        if self.lacks[1]:
            self.saved_forward = (*self.saved_forward, number)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.first, name)

    def vjp(self, saved: Sequence[Any], grads: Sequence[Any], needs: Sequence[bool]) -> list[Any]:
        """Run a rule that is given tensors, whatever their levels: there is one run of it for all slices."""
        if self.first.has_state:
            message = "its rule is given tensors under vmap, all slices at once, and the attributes of ctx are of one slice."
            raise GradError(f"{self.first.name}: {message}", hint="Save arrays instead, with ctx.save_for_backward.")
        found: list[Any] = self.first.vjp(saved[: len(self.first.saved)], grads, needs)
        return found

    def vjp_task(self, needs: Sequence[bool], holes: Sequence[bool]) -> Task:
        """Return the backward rule as a task."""
        return self._task(lambda residuals, left: residuals.vjp_task(needs, left), holes, len(self.first.saved), anchored=self.lacks[0])

    def jvp_task(self, holes: Sequence[bool]) -> Task:
        """Return the forward-mode rule as a task."""
        return self._task(lambda residuals, left: residuals.jvp_task(left), holes, len(self.first.saved_forward), anchored=self.lacks[1])

    def _task(self, rule: Rule, holes: Sequence[bool], saved: int, *, anchored: bool) -> Task:
        """Return a rule as a task; `rule` returns that of the given residuals. The anchor comes after what is saved."""
        if not anchored:
            return self.made(lambda residuals: rule(residuals, holes))
        at = sum(not hole for hole in holes[:saved])
        return self.made(lambda residuals: _Unanchored(rule(residuals, [*holes[:saved], *holes[saved + 1 :]]), at))

    def made(self, rule: Callable[[Any], Task]) -> Task:
        """Return a rule of all slices as a task."""
        raise NotImplementedError


class _BatchedResiduals(_LevelResiduals):
    """The residuals of one run for all slices."""

    def made(self, rule: Callable[[Any], Task]) -> Task:
        return _BatchedTask(self.level, rule(self.first))


class _SlicedResiduals(_LevelResiduals):
    """The residuals of a run for each slice."""

    def __init__(self, level: int, every: list[Any], dims: Sequence[int | None], results: int) -> None:
        super().__init__(level, every[0], dims, results)
        self.every = every

    def made(self, rule: Callable[[Any], Task]) -> Task:
        return _SlicedTask(self.level, [rule(residuals) for residuals in self.every])


class _Unanchored(Task):
    """A task without the anchor among its tensors."""

    def __init__(self, task: Task, at: int) -> None:
        self.task, self.at = task, at

    @property
    def name(self) -> str:
        return self.task.name

    def run(self, tensors: Sequence[Any]) -> Any:
        return self.task.run([*tensors[: self.at], *tensors[self.at + 1 :]])

    def leading(self, level: int, size: int) -> Task | None:
        found = self.task.leading(level, size)
        return None if found is None else _Unanchored(found, self.at)

    def slice(self, level: int, number: int) -> Task:
        return _Unanchored(self.task.slice(level, number), self.at)


class _NeedsLevel(Task):
    """A rule of a vectorised run: torch brings it to the level at which that was, before anything is run."""

    def __init__(self, level: int, like: Task) -> None:
        self.level, self._name = level, like.name

    @property
    def name(self) -> str:
        return self._name

    def run(self, tensors: Sequence[Any]) -> Any:
        raise AssertionError(f"{self.name} was run outside of the vmap that it belongs to, on {len(tensors)} tensors")


class _BatchedTask(_NeedsLevel):
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
