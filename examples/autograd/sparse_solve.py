"""What conducts heat below a surface, learned from temperatures: a sparse solve of SciPy's, differentiated implicitly.

The solution ``x`` of ``A x = b`` moves with ``A`` and ``b`` by ``A dx = db - dA x``. So for a loss with the gradient ``g`` for
``x``, one more solve, with the adjoint matrix, gives both gradients; that for the matrix is wanted only where it has values::

    A* y = g        gradient of b: y        gradient of A[i, j]: -y[i] conj(x[j])

The LU factors of the forward pass solve that one too: they are stored on ``ctx``, and ``A`` is factorised once for both passes.

The training: a wind blows through a square whose rim is cold, and six heaters are switched on one after the other.
Their warmth spreads by ``-div(k grad u) + w du/dx = f``, a balance of flows between the cells of a grid (finite volumes: between
two cells flows the harmonic mean of their conductivities, the wind takes along what comes from upwind). LBFGS finds ``k``
from every temperature, with noise of one part in a thousand.

M. B. Giles, N. A. Pierce, "An introduction to the adjoint approach to design", Flow, Turbulence and Combustion 65, 2000;
S. V. Patankar, *Numerical Heat Transfer and Fluid Flow*, 1980, chapters 4 and 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.linalg import splu

from examples.autograd._training import Trained, distance, minimise, show
from interop.autograd import wrap

if TYPE_CHECKING:
    from examples.autograd import Tensor

__all__ = ["Plate", "plate", "sparse_solve", "train"]


@wrap(runs_on="numpy")
def sparse_solve(ctx: Any, values: Any, rows: Any, columns: Any, b: Any) -> Any:
    """Solve ``A x = b`` for a square sparse matrix.

    Parameters
    ----------
    ctx : Context
        Filled in by `wrap`.
    values : tensor (m)
        The values of the matrix, float32 or float64, real or complex; gradients flow to them.
    rows, columns : tensor (m) of integers
        Where they are. Values in one place are added up.
    b : tensor (n) or (n, k)
        One right side or several, of the same dtype; gradients flow to them.

    Returns
    -------
    tensor
        The solution, of the shape of `b`.
    """
    size = b.shape[0]
    ctx.factors = splu(coo_array((values, (rows, columns)), shape=(size, size)).tocsc())
    x = ctx.factors.solve(b)
    ctx.save_for_backward(rows, columns, x)
    return x


@sparse_solve.backward
def _(ctx: Any, grad: Any) -> tuple[Any, ...]:
    rows, columns, x = ctx.saved_tensors
    y = ctx.factors.solve(grad, trans="H")
    products = -y[rows] * np.conj(x[columns])
    return products if products.ndim == 1 else products.sum(axis=1), None, None, y


# The training.


class Plate(NamedTuple):
    """Where the values of a plate's matrix are, and between which cells its flows go.

    Attributes
    ----------
    rows, columns : tensor (m)
        As `sparse_solve` takes them.
    here, there : tensor (p)
        Pairs of neighbouring cells.
    rim : tensor (q)
        The cells along the rim, those in a corner twice.
    wind : tensor (r)
        What the wind contributes to the matrix.
    """

    rows: Tensor
    columns: Tensor
    here: Tensor
    there: Tensor
    rim: Tensor
    wind: Tensor

    def values(self, conductivity: Tensor) -> Tensor:
        """Return the values of the matrix for the conductivities of all cells."""
        here, there = conductivity[self.here], conductivity[self.there]
        flow = 2 * here * there / (here + there)
        return torch.cat([flow, flow, -flow, -flow, 2 * conductivity[self.rim], self.wind])


def plate(side: int, wind: float) -> Plate:
    """Return a plate of side by side cells; the wind blows along the second axis."""
    cells = torch.arange(side * side).reshape(side, side)
    left, right = cells[:, :-1].flatten(), cells[:, 1:].flatten()
    here, there = torch.cat([left, cells[:-1].flatten()]), torch.cat([right, cells[1:].flatten()])
    rim = torch.cat([cells[0], cells[-1], cells[:, 0], cells[:, -1]])
    everywhere = cells.flatten()
    carried = torch.full((left.numel() + side * side,), wind / side, dtype=torch.float64)
    carried[: left.numel()] *= -1  # what comes in from the left; all of it goes out again
    return Plate(
        torch.cat([here, there, here, there, rim, right, everywhere]),
        torch.cat([here, there, there, here, rim, left, everywhere]),
        here,
        there,
        rim,
        carried,
    )


def train(*, side: int = 20, wind: float = 20.0, steps: int = 80) -> Trained:
    """Learn the conductivity of each cell; what is compared with the truth is its logarithm."""
    generator = torch.Generator().manual_seed(0)
    cells, heat, truth = plate(side, wind), _heaters(side), _buried(side)

    def temperatures(log_conductivity: Tensor) -> Tensor:
        return sparse_solve(cells.values(log_conductivity.exp()), cells.rows, cells.columns, heat)

    seen = temperatures(truth)
    seen = seen * (1 + 1e-3 * torch.randn(seen.shape, generator=generator, dtype=seen.dtype))
    learned = torch.zeros(side * side, dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        misfit = (temperatures(learned) / seen - 1).square().mean()
        return misfit / 1e-6 + 0.02 * (learned[cells.here] - learned[cells.there]).square().mean() * side**2

    begin = distance(learned, truth)
    losses = minimise(torch.optim.LBFGS([learned], max_iter=steps, line_search_fn="strong_wolfe"), loss)
    return Trained(losses[0], losses[-1], begin, distance(learned, truth), len(losses) - 1)


def _heaters(side: int) -> Tensor:
    """Return the heat given to each cell by each of six heaters (side * side, 6)."""
    heat = torch.zeros(6, side, side, dtype=torch.float64)
    for number in range(6):
        heat[number, side * (1 + 2 * (number // 3)) // 4, side * (1 + 2 * (number % 3)) // 6] = 1.0
    return heat.reshape(6, -1).T.contiguous()


def _buried(side: int) -> Tensor:
    """Return the logarithm of the true conductivity (side * side): something that conducts well, and something that insulates."""
    at = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    y, x = torch.meshgrid(at, at, indexing="ij")
    metal = torch.exp(-40 * ((x - 0.3) ** 2 + (y - 0.35) ** 2))
    foam = torch.exp(-20 * ((x - 0.65) ** 2 + 3 * (y - 0.7) ** 2))
    return (1.5 * metal - 1.2 * foam).flatten()


if __name__ == "__main__":
    show(__doc__, train)
