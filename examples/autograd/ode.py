"""Why there were many lynxes in 1904: a predator and its prey, an ODE in JAX, fitted by torch.

The prey ``u`` multiplies, and is eaten by the predator ``v``, which starves without it (Lotka and Volterra)::

    du/dt = (alpha - beta v) u        dv/dt = (delta u - gamma) v

The classical Runge-Kutta method (RK4) goes through the years in steps of a twentieth. It is a pure function of JAX, compiled by
`jax.jit`, so no rule is written: with ``runs_on="jax"`` the gradient is JAX's own, from `jax.vjp`.

The training: the Hudson's Bay Company wrote down how many pelts of snowshoe hares and Canada lynxes it bought from 1900 to 1920.
The error of a population is a share of it, so the loss is the mean square of the logarithms' differences. Four rates
and the two populations of 1900 are learned, as logarithms, with LBFGS. The truth that they are compared with is what
`scipy.optimize.least_squares` finds with another integrator (DOP853) and differences in the place of gradients.

P. Howard, *Modeling Basics*, Texas A&M University, for the data; B. Carpenter, "Predator-prey population dynamics: the
Lotka-Volterra model in Stan", 2018, for the model, and for a Bayesian fit that agrees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import torch

from examples.autograd._training import Trained, distance, minimise, show
from interop.autograd import wrap

if TYPE_CHECKING:
    from examples.autograd import Tensor

__all__ = ["FITTED", "HARES", "LYNXES", "populations", "train"]

# Pelts in thousands, from 1900 to 1920.
HARES = (30, 47.2, 70.2, 77.4, 36.3, 20.6, 18.1, 21.4, 22, 25.4, 27.1, 40.3, 57, 76.6, 52.3, 19.5, 11.2, 7.6, 14.6, 16.2, 24.7)
LYNXES = (4, 6.1, 9.8, 35.2, 59.4, 41.7, 19, 13, 8.3, 9.1, 7.4, 8, 12.3, 19.5, 45.7, 51.1, 29.7, 15.8, 9.7, 10.1, 8.6)
STEPS_A_YEAR = 20

FITTED = {"alpha": 0.540159, "beta": 0.0271654, "gamma": 0.796386, "delta": 0.0236946, "hares": 34.6024, "lynxes": 5.84451}


@jax.jit
def populations(rates: Any, start: Any) -> Any:
    """Return what becomes of hares and lynxes in 20 years (21, 2).

    Parameters
    ----------
    rates : array (4)
        ``alpha``, ``beta``, ``gamma`` and ``delta`` of the text above, a year.
    start : array (2)
        How many there are at first.

    Returns
    -------
    array (21, 2)
        How many there are at first, and at the end of each year.
    """
    alpha, beta, gamma, delta = rates

    def slope(state: Any) -> Any:
        hares, lynxes = state
        return jnp.stack([(alpha - beta * lynxes) * hares, (delta * hares - gamma) * lynxes])

    def step(state: Any, _: Any) -> Any:
        size = 1 / STEPS_A_YEAR
        first = slope(state)
        second = slope(state + size / 2 * first)
        third = slope(state + size / 2 * second)
        fourth = slope(state + size * third)
        return state + size / 6 * (first + 2 * second + 2 * third + fourth), None

    def year(state: Any, _: Any) -> Any:
        after, _ = jax.lax.scan(step, state, length=STEPS_A_YEAR)
        return after, after

    _, later = jax.lax.scan(year, start, length=len(HARES) - 1)
    return jnp.concatenate([start[None], later])


# The one line: the same function, for tensors.
torch_populations = wrap(populations, runs_on="jax")


def train(*, steps: int = 60) -> Trained:
    """Learn the rates and the populations of 1900; what is compared with the truth is their logarithms."""
    seen = torch.tensor([HARES, LYNXES]).T.log()
    truth = torch.tensor([*FITTED.values()]).log()
    learned = torch.tensor([0.5, 0.05, 0.5, 0.05, 30.0, 4.0]).log()
    begin = distance(learned, truth)

    def loss() -> Tensor:
        values = learned.exp()
        return (torch_populations(values[:4], values[4:]).log() - seen).square().mean()

    losses = minimise(torch.optim.LBFGS([learned.requires_grad_()], max_iter=steps, line_search_fn="strong_wolfe"), loss)
    return Trained(losses[0], losses[-1], begin, distance(learned, truth), len(losses) - 1)


if __name__ == "__main__":
    show(__doc__, train)
