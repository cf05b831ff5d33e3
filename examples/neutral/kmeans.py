"""k-means clustering by Lloyd's algorithm.

It looks for k centres that make the inertia small: the sum over all points of the squared distance to the nearest
centre. Two steps alternate: every point takes the label of its nearest centre; every centre moves to the mean of the
points with its label. Neither step can raise the inertia, so the labels settle after a finite number of rounds, and
more rounds then change nothing. Therefore the number of rounds is fixed here: asking after each one whether the labels
have settled would make the host wait for the device each time.

A centre that no point is nearest to has no mean. As in scikit-learn it takes over the point that is farthest from its
own centre (two such centres: the two farthest points, and so on); a centre that loses its only point that way goes
where the centre with the most points is.

Follows ``sklearn.cluster.KMeans(init=centres, n_init=1, algorithm="lloyd", tol=0)``; S. Lloyd, "Least squares
quantization in PCM", IEEE Transactions on Information Theory 28, 1982.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from array_api_compat import array_namespace, device

from interop import neutral

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.neutral import Array

__all__ = ["Clusters", "kmeans", "report"]


class Clusters(NamedTuple):
    """The centres (k, p), for each of n points the label of its centre (n, integers), and the inertia (0-d)."""

    centres: Array
    labels: Array
    inertia: Array


@neutral
def kmeans(x: Array, centres: Array, *, rounds: int = 50, xp: Any = None) -> Clusters:
    """Group points around centres.

    Gradients reach the points, and through the means the centres; the labels have none.

    Parameters
    ----------
    x : array (n, p)
        The points.
    centres : array (k, p)
        Where to begin.
    rounds : int
        How often the centres move.
    xp : namespace
        Filled in by `neutral`.

    Returns
    -------
    Clusters
    """
    for _ in range(rounds):
        centres = _moved(x, centres, xp)
    labels = xp.argmin(_distances(x, centres, xp), axis=1)
    return Clusters(centres, labels, xp.sum((x - xp.take(centres, labels, axis=0)) ** 2))


def _distances(x: Array, centres: Array, xp: Any) -> Array:
    """Return the squared distances (n, k), multiplied out: the differences themselves would be n by k by p numbers."""
    return xp.sum(x**2, axis=1)[:, None] - 2 * (x @ centres.mT) + xp.sum(centres**2, axis=1)


def _moved(x: Array, centres: Array, xp: Any) -> Array:
    """Return the means of the points that belong to each centre."""
    members = xp.astype(_members(_distances(x, centres, xp), xp), x.dtype)
    counts = xp.sum(members, axis=0)[:, None]
    means = (members.mT @ x) / xp.clip(counts, min=1)
    return xp.where(counts > 0, means, xp.take(means, xp.argmax(counts, axis=0), axis=0))


def _members(distances: Array, xp: Any) -> Array:
    """Return which point belongs to which centre (n, k, boolean), after empty centres have taken over a point each."""
    points, ranks = (xp.arange(size, device=device(distances)) for size in distances.shape)
    members = xp.argmin(distances, axis=1)[:, None] == ranks
    empty = ~xp.any(members, axis=0)
    nth = xp.cumulative_sum(xp.astype(empty, ranks.dtype)) - 1
    farthest_first = xp.argsort(xp.min(distances, axis=1), descending=True)
    wanted = xp.take(farthest_first, xp.clip(nth, min=0))
    taken = empty & (points[:, None] == wanted)
    return xp.where(xp.any(taken, axis=1)[:, None], taken, members)


def report(asarray: Callable[[Any], Array]) -> str:
    """Say how the digits fall into ten groups, beginning with the first ten images (0 to 9, as it happens)."""
    from examples.neutral._data import digits

    x = asarray(digits())
    found = kmeans(x, x[:10, :])
    sizes = array_namespace(x).unique_counts(found.labels).counts
    largest = max(int(sizes[n]) for n in range(sizes.shape[0]))
    return f"{x.shape[0]} digits in {sizes.shape[0]} groups, the largest of {largest}; inertia {float(found.inertia) / 1000:.0f} thousand"


if __name__ == "__main__":
    from examples.neutral._runner import show

    show(__doc__, report)
