"""Gaussian process regression with a fixed squared-exponential kernel.

Two function values at points a distance ``d`` apart have covariance ``k(d) = amplitude * exp(-d**2 / (2 length**2))``,
and observations add independent noise. With ``L L' = k(x, x) + noise I`` (Cholesky) and ``a = (L L')**-1 y``, what is
known of the function at new points is Gaussian, with

    mean      k(new, x) a
    variance  k(0) - |L**-1 k(x, new)|**2          and the data have the log likelihood
              -y' a / 2 - sum(log(diag(L))) - n log(2 pi) / 2

The array API standard has no solver for triangular systems, so the general one is used for ``L``.

Follows ``sklearn.gaussian_process.GaussianProcessRegressor(optimizer=None)``; C. E. Rasmussen, C. K. I. Williams,
*Gaussian Processes for Machine Learning*, 2006, algorithm 2.1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from array_api_compat import array_namespace, device

from interop import neutral

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.neutral import Array

__all__ = ["Kernel", "Prediction", "predict", "report"]


class Kernel(NamedTuple):
    """The amplitude and length of the text above, and the variance of the noise."""

    amplitude: float
    length: float
    noise: float


class Prediction(NamedTuple):
    """What is known at m new points: mean (m) and standard deviation (m), without noise; the log likelihood (0-d)."""

    mean: Array
    std: Array
    log_likelihood: Array


@neutral
def predict(x: Array, y: Array, new: Array, kernel: Kernel, *, xp: Any = None) -> Prediction:
    """Return the posterior of a function at new points, given observations.

    Parameters
    ----------
    x : array (n, p)
        Where it was observed.
    y : array (n)
        The observations; their mean is taken to be zero.
    new : array (m, p)
        Where it is asked for.
    kernel : Kernel
        How smooth the function is, and how noisy the observations.
    xp : namespace
        Filled in by `neutral`.

    Returns
    -------
    Prediction
    """
    count = x.shape[0]
    noise = kernel.noise * xp.eye(count, dtype=x.dtype, device=device(x))
    root = xp.linalg.cholesky(_covariance(x, x, kernel, xp) + noise)
    white = xp.linalg.solve(root, y[:, None])
    across = xp.linalg.solve(root, _covariance(x, new, kernel, xp))
    variance = kernel.amplitude - xp.sum(across**2, axis=0)
    fit = -0.5 * xp.sum(white**2) - xp.sum(xp.log(xp.linalg.diagonal(root))) - count / 2 * math.log(2 * math.pi)
    return Prediction((across.mT @ white)[:, 0], xp.sqrt(xp.clip(variance, min=0)), fit)


def _covariance(a: Array, b: Array, kernel: Kernel, xp: Any) -> Array:
    """Return the kernel for all pairs of rows (n, m)."""
    squares = xp.sum((a[:, None, :] - b[None, :, :]) ** 2, axis=-1)
    return kernel.amplitude * xp.exp(-0.5 / kernel.length**2 * squares)


def report(asarray: Callable[[Any], Array]) -> str:
    """Say how well the disease of patients is predicted that were not learned from."""
    from examples.neutral._data import diabetes

    x, y, x_new, y_new = map(asarray, diabetes())
    found = predict(x, y, x_new, Kernel(amplitude=1.0, length=0.2, noise=0.5))
    xp = array_namespace(x)
    explained = 1 - xp.mean((found.mean - y_new) ** 2) / xp.var(y_new)
    return f"R2 {float(explained):.2f} on {x_new.shape[0]} patients, log likelihood {float(found.log_likelihood):.1f} of {x.shape[0]}"


if __name__ == "__main__":
    from examples.neutral._runner import show

    show(__doc__, report)
