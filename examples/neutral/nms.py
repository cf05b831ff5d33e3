"""Non-maximum suppression: of boxes that overlap, keep the best.

A detector proposes many boxes for one thing. Going through them from the best score to the worst, a box is kept unless
it overlaps with a better one that was kept. Overlap is measured by the intersection over the union of their areas.

The greedy rule goes through all the boxes in order, and asks the arrays nothing on the way: what is kept is a boolean
array, and each round takes from it the rivals of one box. Only at the end do the values decide a length, that of the
result; there a device and its host wait for each other, once.

Follows ``cv2.dnn.NMSBoxes`` (also ``torchvision.ops.nms``); A. Neubeck, L. Van Gool, "Efficient non-maximum
suppression", ICPR 2006.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from array_api_compat import device

from interop import neutral

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.neutral import Array

__all__ = ["Kept", "nms", "report"]


class Kept(NamedTuple):
    """The k boxes that are kept, best first: which they are (k, integers), the boxes (k, 4), their scores (k)."""

    indices: Array
    boxes: Array
    scores: Array


@neutral
def nms(boxes: Array, scores: Array, *, overlap: float = 0.5, least: float = 0.0, xp: Any = None) -> Kept:
    """Keep the best of the boxes that overlap.

    Gradients reach the boxes and scores that are kept; the choice itself has none.

    Parameters
    ----------
    boxes : array (n, 4)
        The corners of each, ``(x0, y0, x1, y1)``, with ``x0 <= x1`` and ``y0 <= y1``.
    scores : array (n)
        The higher the better; of equal ones the earlier is the better.
    overlap : float
        Two boxes may both be kept if their intersection over union is not larger.
    least : float
        Boxes are kept only if their score is larger.
    xp : namespace
        Filled in by `neutral`.

    Returns
    -------
    Kept
    """
    order = xp.argsort(scores, descending=True, stable=True)
    boxes, scores = xp.take(boxes, order, axis=0), xp.take(scores, order)
    rivals = _intersection_over_union(boxes, xp) > overlap
    ranks = xp.arange(order.shape[0], device=device(boxes))
    keep = scores > least
    for n in range(order.shape[0]):
        keep = keep & ~(keep[n] & rivals[n, :] & (ranks > n))
    chosen = xp.nonzero(keep)[0]
    return Kept(xp.take(order, chosen), xp.take(boxes, chosen, axis=0), xp.take(scores, chosen))


def _intersection_over_union(boxes: Array, xp: Any) -> Array:
    """Return it for all pairs of boxes (n, n); boxes without area overlap with nothing."""
    low, high = boxes[:, :2], boxes[:, 2:]
    sides = xp.minimum(high[:, None, :], high[None, :, :]) - xp.maximum(low[:, None, :], low[None, :, :])
    common = xp.prod(xp.clip(sides, min=0), axis=-1)
    areas = xp.prod(high - low, axis=-1)
    union = areas[:, None] + areas[None, :] - common
    return common / xp.where(union > 0, union, 1.0)


def report(asarray: Callable[[Any], Array]) -> str:
    """Say how many coins lie on the photograph of 24."""
    from examples.neutral._data import coins

    boxes, scores = map(asarray, coins())
    kept = nms(boxes, scores, overlap=0.3, least=0.6)
    return f"{kept.indices.shape[0]} coins in {boxes.shape[0]} boxes; the best has score {float(kept.scores[0]):.3f}"


if __name__ == "__main__":
    from examples.neutral._runner import show

    show(__doc__, report)
