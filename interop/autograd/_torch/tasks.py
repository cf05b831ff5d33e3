"""What `interop.autograd._torch.functions` puts into torch's graph: a *task* is what is to be run, *residuals* are what its run leaves for the rules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

Tensors = list["torch.Tensor"]


class Task(ABC):
    """Something to be run on tensors."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called in the graph."""

    @abstractmethod
    def run(self, tensors: Sequence[Any]) -> tuple[Tensors, Any]:
        """Return the results, after them what else is to be saved, and the residuals."""

    def leading(self, level: int, size: int) -> Task | None:
        """Return the task for one run on tensors with an axis of vmap's in front; None if each slice needs a run of its own."""
        return None

    def slice(self, level: int, number: int) -> Task:
        """Return the task for one slice of vmap's."""
        return self


class Residuals(ABC):
    """What a run leaves for its rules.

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
        Whether all inputs are saved for the backward rule, and torch has no more to know of the run.
    single : bool
        Whether a call outside of `torch.func` returns one tensor, and not the residuals besides.
    ends : bool
        Whether there are no rules.
    anchors : int
        So many of the extras are there for vmap's sake.
    present : sequence of bool
        Of a rule: for which inputs or outputs it returned something.
    """

    saved: tuple[int | None, ...] = ()
    saved_forward: tuple[int | None, ...] = ()
    dead: tuple[int, ...] = ()
    extras: int = 0
    materializes: bool = True
    once: bool = True
    usual: bool = False
    single: bool = False
    ends: bool = False
    anchors: int = 0
    present: Sequence[bool] = ()

    @property
    def has_state(self) -> bool:
        """Whether the rules look at more than what is saved."""
        return False

    def fixed(self) -> list[Any]:
        """Return what the run returned besides tensors."""
        return []

    def spread(self, made: Sequence[Any]) -> list[Any]:
        """Return what a rule found, with None where there is nothing."""
        left = iter(made)
        return [next(left) if present else None for present in self.present]

    @abstractmethod
    def vjp(self, saved: Sequence[Any], grads: Sequence[Any], needs: Sequence[bool]) -> list[Any]:
        """Run the backward rule: return a gradient or None for each input."""

    @abstractmethod
    def vjp_task(self, needs: Sequence[bool], holes: Sequence[bool]) -> Task:
        """Return the backward rule as a task; `holes`: which of the saved and the gradients are None."""

    @abstractmethod
    def jvp_task(self, holes: Sequence[bool]) -> Task:
        """Return the forward-mode rule as a task."""
