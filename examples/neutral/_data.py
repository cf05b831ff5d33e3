"""The data of the examples: what scikit-learn, scikit-image and Matplotlib ship, as NumPy arrays; nothing is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["EEG_RATE", "Coins", "Patients", "coins", "diabetes", "digits", "eeg", "google", "iris", "photograph"]

# Matplotlib's gallery (mri_with_eeg) plots the 800 samples over ten seconds.
EEG_RATE = 80.0


class Coins(NamedTuple):
    """Boxes around what may be a coin, ``(x0, y0, x1, y1)``, and how well each is filled by a disc."""

    boxes: Floats
    scores: Floats


class Patients(NamedTuple):
    """Features and standardised disease progression of the patients to learn from, and of those to predict."""

    x: Floats
    y: Floats
    x_new: Floats
    y_new: Floats


def iris() -> Floats:
    """Return the iris flowers, 150 by 4 lengths in centimetres."""
    from sklearn.datasets import load_iris

    return np.asarray(load_iris().data, dtype="float64")


def digits() -> Floats:
    """Return the handwritten digits, 1797 by 64 pixels from 0 to 16."""
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().data, dtype="float64")


def eeg() -> Floats:
    """Return four channels of an electroencephalogram, 4 by 800 samples at `EEG_RATE` per second."""
    from matplotlib.cbook import get_sample_data

    path = get_sample_data("eeg.dat", asfileobj=False)
    return np.ascontiguousarray(np.fromfile(path).reshape(800, 4).T)


def google(days: int = 120) -> Floats:
    """Return what Google's share gained since its first day, in log-percent, on its last trading days: days by 1."""
    from matplotlib.cbook import get_sample_data

    price: Floats = np.load(get_sample_data("goog.npz", asfileobj=False))["price_data"]["adj_close"]
    return np.asarray(100 * np.log(price[-days:, None] / price[0]))


def coins() -> Coins:
    """Return the box of every bright region in the photograph of 24 coins, found at 13 thresholds."""
    from skimage.data import coins as picture
    from skimage.measure import label, regionprops

    image = picture()
    regions = [region for level in range(70, 200, 10) for region in regionprops(label(image > level)) if 400 <= region.area_bbox <= 8000]
    corners = np.array([region.bbox for region in regions], dtype="float64")
    size = np.max(corners[:, 2:] - corners[:, :2], axis=1)
    area = np.array([region.area for region in regions])
    # Equal scores have to be equal in single precision too, which OpenCV compares in.
    scores = (area / (np.pi / 4 * size**2)).astype("float32").astype("float64")
    return Coins(corners[:, [1, 0, 3, 2]], scores)


def diabetes(learned: int = 300) -> Patients:
    """Return 442 patients, ten features each; the target is standardised by those that are learned from."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    y = (y - y[:learned].mean()) / y[:learned].std()
    return Patients(x[:learned], y[:learned], x[learned:], y[learned:])


def photograph() -> Floats:
    """Return the photograph of the coins, 303 by 384, from 0 to 1."""
    from skimage.data import coins as picture

    return np.asarray(picture()) / 255
