"""Functions that exist for NumPy only, called with arrays of any library: ``neutral(runs_on="numpy")``.

scipy.ndimage, OpenCV and scikit-learn take NumPy arrays. The decorator shares the caller's memory with them where
NumPy can address it, and converts the results back; the functions below are plain NumPy code.

A result has the same dtype after it is converted back, and a library that lacks it refuses: JAX has no float64 or int64 unless
64 bits are enabled. So these functions return float32 for float32, and small integers where small ones do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from interop import neutral

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.neutral import Array

__all__ = ["DigitReader", "bright_spots", "report", "thumbnail"]


@neutral(runs_on="numpy")
def bright_spots(image: Array, *, sigma: float = 2.0, level: float = 0.4) -> tuple[Array, int]:
    """Find the spots of a picture that stay bright when it is blurred, and number them (scipy.ndimage).

    It permits nothing, so a tensor that autograd tracks, or a picture on a GPU, is refused.

    Parameters
    ----------
    image : array (h, w), floating
        The picture.
    sigma : float
        The blur, in pixels.
    level : float
        What is brighter belongs to a spot.

    Returns
    -------
    array (h, w), int32
        0, or the number of the spot.
    int
        How many there are.
    """
    labels, count = ndimage.label(ndimage.gaussian_filter(image, sigma) > level)
    return labels, count


@neutral(runs_on="numpy", grad="detach", transfer="allow")
def thumbnail(image: Array, width: int) -> Array:
    """Scale a picture down, each pixel the mean of those that it covers (OpenCV).

    It is there to be looked at, so everything is permitted: a gradient ends here, and a GPU's picture visits the host.

    Parameters
    ----------
    image : array (h, w) or (h, w, channels)
        Of any dtype that OpenCV knows.
    width : int
        Of the result; the height follows.

    Returns
    -------
    array
        Of the same dtype.
    """
    height = round(image.shape[0] * width / image.shape[1])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


class DigitReader:
    """Reads handwritten digits by their nearest neighbours among scikit-learn's own (scikit-learn).

    Attributes
    ----------
    estimator : KNeighborsClassifier
        Fitted to the first `learned` images. Its arrays are NumPy's, whatever the caller's library is.
    """

    def __init__(self, learned: int = 1000) -> None:
        images, labels = load_digits(return_X_y=True)
        self.estimator = KNeighborsClassifier(5).fit(images[:learned].astype("float32"), labels[:learned].astype("uint8"))

    @neutral(runs_on="numpy", transfer="allow")
    def read(self, images: Array) -> dict[str, Any]:
        """Return a dict: the "labels" (n, uint8) of images (n, 64), the share of "votes" for each (n), the "method" (str)."""
        shares = self.estimator.predict_proba(images)
        labels = self.estimator.classes_[np.argmax(shares, axis=1)]
        return {"labels": labels, "votes": np.max(shares, axis=1).astype("float32"), "method": "5 nearest neighbours"}


def report(asarray: Callable[[Any], Array]) -> str:
    """Say what the three find."""
    from examples.neutral._data import digits, photograph

    picture = asarray(photograph())
    _, count = bright_spots(picture)
    small = thumbnail(picture, 96)
    labels = DigitReader().read(asarray(digits()[1000:1010]))["labels"]
    read = "".join(str(int(labels[n])) for n in range(labels.shape[0]))
    return f"{count} bright spots; a thumbnail of {small.shape[0]} by {small.shape[1]}; digits read: {read}"


if __name__ == "__main__":
    from examples.neutral._runner import show

    show(__doc__, report)
