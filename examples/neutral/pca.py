"""Principal components, and whitening, by the singular value decomposition.

With the rows of `x` centred, ``x - mean = U diag(s) Vt``. The rows of ``Vt`` are the directions of largest variance,
``s**2 / (n - 1)`` are those variances, and ``(x - mean) @ Vt.T`` are the coordinates of the rows along them; divided
by the square roots of the variances the coordinates are white: uncorrelated, with variance one.

A direction and its negative are equally good, so a decomposition may return either. As in scikit-learn
(``sklearn.utils.extmath.svd_flip``) the sign is chosen that makes the largest entry of each direction positive.

Follows ``sklearn.decomposition.PCA(svd_solver="full")``; I. T. Jolliffe, *Principal Component Analysis*, 2002.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from array_api_compat import array_namespace

from interop import neutral

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.neutral import Array

__all__ = ["Components", "fit", "report", "transform"]


class Components(NamedTuple):
    """What `fit` learns of n rows with p features: their mean (p), k directions (k, p) and their variances (k)."""

    mean: Array
    directions: Array
    variances: Array


@neutral
def fit(x: Array, count: int, *, xp: Any = None) -> Components:
    """Find the directions of largest variance.

    The gradient is infinite where two singular values of `x` are equal, because the directions are then arbitrary.

    Parameters
    ----------
    x : array (n, p)
        One row for each observation.
    count : int
        How many directions to keep, at most ``min(n, p)``.
    xp : namespace
        Filled in by `neutral`.

    Returns
    -------
    Components
    """
    mean = xp.mean(x, axis=0)
    _, scales, directions = xp.linalg.svd(x - mean, full_matrices=False)
    scales, directions = scales[:count], directions[:count, :]
    largest = xp.argmax(xp.abs(directions), axis=1, keepdims=True)
    signs = xp.sign(xp.take_along_axis(directions, largest, axis=1))
    return Components(mean, directions * signs, scales**2 / (x.shape[0] - 1))


@neutral
def transform(x: Array, components: Components, *, whiten: bool = False, xp: Any = None) -> Array:
    """Return the coordinates of the rows of `x` along the directions.

    Parameters
    ----------
    x : array (n, p)
        The rows that `fit` saw, or others.
    components : Components
        From `fit`, of the same library as `x`.
    whiten : bool
        Scale each coordinate to variance one.
    xp : namespace
        Filled in by `neutral`.

    Returns
    -------
    array (n, k)
    """
    coordinates = (x - components.mean) @ components.directions.mT
    return coordinates / xp.sqrt(components.variances) if whiten else coordinates


def report(asarray: Callable[[Any], Array]) -> str:
    """Say how much of the digits a few components hold."""
    from examples.neutral._data import digits

    x = asarray(digits())
    variances = fit(x, x.shape[1]).variances
    xp = array_namespace(x)
    share = xp.sum(variances[:10]) / xp.sum(variances)
    return f"10 of 64 components hold {float(share):.1%} of the variance of {x.shape[0]} digits"


if __name__ == "__main__":
    from examples.neutral._runner import show

    show(__doc__, report)
