"""The neutral examples' results to be met, as SciPy, scikit-learn and OpenCV find them; slips to be noticed; gradients."""

from functools import cache

import numpy as np

from examples.neutral import _data, gp, kalman, kmeans, nms, pca, welch

# The references, and the data that come with them, are loaded by the tests that need them: together they take three seconds.
iris, digits = cache(_data.iris), cache(_data.digits)

# name: data, first centres; in the last, no point is nearest to two of the centres.
CLUSTERINGS = {
    "iris": lambda: (iris(), iris()[[0, 50, 100]]),
    "digits": lambda: (digits(), digits()[:10]),
    "one empty centre": lambda: (iris(), np.vstack([iris()[[0, 50, 100]], np.full((1, 4), 100.0)])),
    "two empty centres": lambda: (iris(), np.vstack([np.full((2, 4), 100.0), iris()[[0, 50, 100]]])),
}

# The trend of Google's share: a level and a slope, the level seen each day.
MODEL = {"level": 4.0, "slope": 0.1, "noise": 1.0}
PRIOR = ([160.0, 0.0], [[100.0, 0.0], [0.0, 1.0]])


@cache
def principal(name, count):
    """scikit-learn's components of a data set, its coordinates, and its white coordinates."""
    from sklearn.decomposition import PCA

    x = {"iris": iris, "digits": digits}[name]()
    plain, white = (PCA(count, svd_solver="full", whiten=whiten).fit(x) for whiten in (False, True))
    return x, plain, plain.transform(x), white.transform(x)


@cache
def clusters(name):
    from sklearn.cluster import KMeans

    x, centres = CLUSTERINGS[name]()
    return KMeans(len(centres), init=centres, n_init=1, algorithm="lloyd", tol=0).fit(x)


def spectrum(x, length, overlap):
    from scipy import signal

    return signal.welch(x, _data.EEG_RATE, nperseg=length, noverlap=overlap)


def model_matrices():
    """F, H, Q, R of `MODEL`, written out once more."""
    noise = np.diag([MODEL["level"], MODEL["slope"]])
    return np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 0.0]]), noise, np.array([[MODEL["noise"]]])


def steady_covariance():
    """The covariance after an observation that the filter settles at, from the Riccati equation."""
    from scipy import linalg

    F, H, Q, R = model_matrices()
    ahead = linalg.solve_discrete_are(F.T, H.T, Q, R)
    return ahead - ahead @ H.T @ linalg.solve(H @ ahead @ H.T + R, H @ ahead)


def least_squares(y):
    """All states at once, as one weighted least squares problem: their means and covariances."""
    from scipy import linalg

    F, H, Q, R = model_matrices()
    T, n = len(y), len(F)
    root = linalg.block_diag(PRIOR[1], *[Q] * (T - 1), *[R] * T)
    moves = np.eye(T * n) - linalg.block_diag(np.zeros((n, 0)), *[F] * (T - 1), np.zeros((0, n)))
    rows = np.vstack([moves, np.kron(np.eye(T), H)])
    target = np.concatenate([PRIOR[0], np.zeros((T - 1) * n), y[:, 0]])
    weights = np.sqrt(np.diag(root))[:, None]  # the noise of this model is independent: its root is diagonal
    solution, *_ = linalg.lstsq(rows / weights, target / weights[:, 0])
    covariance = linalg.inv((rows / weights).T @ (rows / weights)).reshape(T, n, T, n)
    return solution.reshape(T, n), covariance[np.arange(T), :, np.arange(T), :]


def suppressed(boxes, scores, overlap, least):
    """OpenCV's choice; it wants a corner and the sides."""
    import cv2

    sides = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    return np.asarray(cv2.dnn.NMSBoxes(sides, scores.astype("float32"), least, overlap), dtype=int)


def regression(x, y, new, amplitude, length, noise):
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    kernel = ConstantKernel(amplitude) * RBF(length)
    fitted = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None).fit(x, y)
    return *fitted.predict(new, return_std=True), fitted.log_marginal_likelihood_value_


# One slip each: which check has to notice it, what stands in the source, and what would be wrong there.
SLIPS = [
    ("pca-iris", "svd(x - mean,", "svd(x,"),
    ("pca-iris", "directions * signs", "directions"),
    ("pca-iris", "(x.shape[0] - 1)", "x.shape[0]"),
    ("pca-iris", "xp.sqrt(components.variances)", "components.variances"),
    ("kmeans-iris", "xp.argmin(_distances", "xp.argmax(_distances"),
    ("kmeans-iris", "rounds: int = 50", "rounds: int = 2"),
    ("kmeans-one empty centre", "taken = empty &", "taken = ~empty & empty &"),
    ("kmeans-one empty centre", "descending=True", "descending=False"),
    ("welch-halves", " - xp.mean(pieces, axis=-1, keepdims=True)", ""),
    ("welch-halves", "2 * math.pi / length", "2 * math.pi / (length - 1)"),
    ("welch-halves", "(bins < length / 2)", "(bins < length)"),
    ("welch-odd length, one channel", "(bins < length / 2)", "(bins < length // 2)"),
    ("welch-halves", "length - overlap, device", "length, device"),
    ("kalman", "rest.mT + gain @ noise @ gain.mT", "rest.mT"),
    ("kalman", " + model.process_noise", ""),
    ("kalman", "(later_covariance - spread)", "later_covariance"),
    ("kalman", "if t > 0:", "if True:"),
    ("nms-0.3", "descending=True", "descending=False"),
    ("nms-0.5", "keep[n] & rivals", "rivals"),
    ("nms-0.3", "scores > least", "scores > 0"),
    ("nms-0.5", " - common", ""),
    ("gp-smooth", "+ noise)", ")"),
    ("gp-smooth", "-0.5 / kernel.length", "-1 / kernel.length"),
    ("gp-smooth", "kernel.amplitude - xp.sum", "kernel.amplitude + kernel.noise - xp.sum"),
    ("gp-smooth", "count / 2 *", "count *"),
]


# Gradients: of a number made of everything that an algorithm returns, for one of its arguments.


def cubes(*arrays):
    """A number that depends on every entry; the mean square of white coordinates, for instance, would be constant."""
    return sum((array**3).mean() for array in arrays)


def through_pca(asarray, x):
    components = pca.fit(x, 3)
    return cubes(*components, pca.transform(x, components, whiten=True))


def through_kmeans(asarray, x):
    clusters = kmeans.kmeans(x, asarray(iris()[[0, 50, 100]]))
    return cubes(clusters.centres, clusters.inertia)


def through_welch(asarray, x):
    return cubes(welch.welch(x, _data.EEG_RATE).density)


def through_kalman(asarray, x):
    model = kalman.local_trend(x, **MODEL)
    forward = kalman.filtered(x, model, *map(asarray, map(np.asarray, PRIOR)))
    return cubes(kalman.smoothed(forward, model).means)


def through_nms(asarray, x):
    kept = nms.nms(x[:, :4], x[:, 4], overlap=0.3, least=0.6)
    return cubes(kept.boxes, kept.scores)


def through_gp(asarray, x):
    _, y, new, _ = _data.diabetes()
    return cubes(*gp.predict(x, asarray(y[: x.shape[0]]), asarray(new[:20]), gp.Kernel(1.0, 0.2, 0.5)))


GRADIENTS = {
    "pca": (through_pca, iris),
    "kmeans": (through_kmeans, iris),
    "welch": (through_welch, lambda: _data.eeg()[0]),
    "kalman": (through_kalman, lambda: _data.google(8)),
    "nms": (through_nms, lambda: np.column_stack(_data.coins())),
    "gp": (through_gp, lambda: _data.diabetes().x[:40]),
}
