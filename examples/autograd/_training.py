"""What the trainings have in common: torch's optimizers, and the report of a training when it has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HEAD", "Trained", "Unavailable", "distance", "line", "minimise", "show"]


class Trained(NamedTuple):
    """What a training came to.

    Attributes
    ----------
    before, after : float
        The loss of the first step, and that of the parameters that were learned.
    error_before, error : float
        How far the parameters were from the truth before the first step, and how far they are now, relative to its norm.
    steps : int
        How often the function was run forward and backward.
    """

    before: float
    after: float
    error_before: float
    error: float
    steps: int


class Unavailable(Exception):  # noqa: N818 - no error: the example is left out
    """An example cannot be run on this machine; its text is the reason."""


def minimise(optimizer: torch.optim.Optimizer, loss: Callable[[], Any], rounds: int = 1) -> list[float]:
    """Take steps down a loss; return the loss at each time that it was computed, at last that of the result.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        It holds the parameters.
    loss : callable
        Computes the loss, a tensor without axes, from the parameters as they are.
    rounds : int
        How often the optimizer is asked for a step; LBFGS takes up to its own ``max_iter`` each time.
    """
    losses = []

    def closure() -> Any:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        losses.append(float(value.detach()))
        return value

    for _ in range(rounds):
        optimizer.step(closure)
    with torch.no_grad():
        losses.append(float(loss()))
    return losses


def distance(parameters: Any, truth: Any) -> float:
    """Return how far parameters are from the truth, relative to its norm."""
    with torch.no_grad():
        return float(torch.linalg.vector_norm(parameters - truth) / torch.linalg.vector_norm(truth))


def line(train: Callable[[], Trained]) -> str:
    """Train, and return in one line what came of it."""
    begin = time.perf_counter()
    try:
        done = train()
    except Unavailable as reason:
        return f"left out: {reason}"
    seconds = time.perf_counter() - begin
    return f"{done.steps:5}  {seconds:7.2f}  {done.before:8.2e} -> {done.after:8.2e}  {done.error_before:9.4%} -> {done.error:8.4%}"


def show(title: str, train: Callable[[], Trained]) -> None:
    """Print what a training comes to."""
    print(title.splitlines()[0])
    print(f"{HEAD}\n{line(train)}")


HEAD = "steps  seconds  loss                  error of the parameters"
