"""Tasks under `torch.vmap`: run at once for all slices, or once for each.

What such runs leave belongs to a level of vmap. A rule of it may be wanted inside of other levels, so it is a task as well, which
torch brings to the level that it belongs to before anything is run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from interop.backends._torch_tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Apply = Callable[[Task, Sequence[Any]], tuple[list[torch.Tensor], Any]]

__all__ = ["vmapped"]

_stack = torch._C._functorch.peek_interpreter_stack


def vmapped(apply: Apply, size: int, dims: Sequence[int | None], task: Task, tensors: Sequence[Any]) -> Any:
    """Run a task on batched tensors, as a function's vmap returns it: at once, if it can be, else slice by slice."""
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
