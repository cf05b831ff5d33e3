"""The Kalman filter, and the Rauch-Tung-Striebel smoother.

A hidden state ``s`` moves linearly and is seen through a linear observation, both with Gaussian noise::

    s[t + 1] = F s[t] + noise of covariance Q        y[t] = H s[t] + noise of covariance R

The filter goes forward: it holds the mean ``m`` and covariance ``P`` of ``s[t]`` given ``y[0], ..., y[t]``. With the
gain ``K = P H' (H P H' + R)**-1`` an observation moves them to

    m + K (y - H m)        (I - K H) P (I - K H)' + K R K'

(Joseph's form of the covariance, which rounding cannot make indefinite), and time to ``F m`` and ``F P F' + Q``.
The smoother goes back, and gives each state what was observed after it. Both are the exact solution of one weighted
least squares problem over all the states.

R. E. Kalman, "A new approach to linear filtering and prediction problems", Journal of Basic Engineering 82, 1960;
H. E. Rauch, F. Tung, C. T. Striebel, "Maximum likelihood estimates of linear dynamic systems", AIAA Journal 3, 1965.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from array_api_compat import device

from interop import neutral

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.neutral import Array

__all__ = ["Beliefs", "Model", "filtered", "local_trend", "report", "smoothed"]


class Model(NamedTuple):
    """F (n, n), H (m, n), Q (n, n) and R (m, m) of the text above, for n states and m observations."""

    transition: Array
    observation: Array
    process_noise: Array
    observation_noise: Array


class Beliefs(NamedTuple):
    """What is known of the states at T times: their means (T, n) and covariances (T, n, n)."""

    means: Array
    covariances: Array


@neutral
def filtered(y: Array, model: Model, mean: Array, covariance: Array, *, xp: Any = None) -> Beliefs:
    """Return what is known of each state from the observations up to its time.

    Parameters
    ----------
    y : array (T, m)
        The observations.
    model : Model
        How the state moves, and how it is seen.
    mean, covariance : array (n), array (n, n)
        What is known of the first state before its observation.
    xp : namespace
        Filled in by `neutral`.

    Returns
    -------
    Beliefs
    """
    means, covariances = [], []
    for t in range(y.shape[0]):
        if t > 0:
            mean, covariance = _predicted(mean, covariance, model)
        mean, covariance = _updated(mean, covariance, y[t, :], model, xp)
        means.append(mean)
        covariances.append(covariance)
    return Beliefs(xp.stack(means), xp.stack(covariances))


@neutral
def smoothed(beliefs: Beliefs, model: Model, *, xp: Any = None) -> Beliefs:
    """Return what is known of each state from all the observations, given what `filtered` returned."""
    steps = [(beliefs.means[t, :], beliefs.covariances[t, :, :]) for t in range(beliefs.means.shape[0])]
    known = [steps[-1]]
    for mean, covariance in reversed(steps[:-1]):
        later_mean, later_covariance = known[-1]
        ahead, spread = _predicted(mean, covariance, model)
        gain = xp.linalg.solve(spread, model.transition @ covariance).mT
        known.append((mean + gain @ (later_mean - ahead), covariance + gain @ (later_covariance - spread) @ gain.mT))
    means, covariances = zip(*reversed(known), strict=True)
    return Beliefs(xp.stack(list(means)), xp.stack(list(covariances)))


def _predicted(mean: Array, covariance: Array, model: Model) -> tuple[Array, Array]:
    step = model.transition
    return step @ mean, step @ covariance @ step.mT + model.process_noise


def _updated(mean: Array, covariance: Array, y: Array, model: Model, xp: Any) -> tuple[Array, Array]:
    view, noise = model.observation, model.observation_noise
    gain = xp.linalg.solve(view @ covariance @ view.mT + noise, view @ covariance).mT
    rest = xp.eye(mean.shape[0], dtype=mean.dtype, device=device(mean)) - gain @ view
    return mean + gain @ (y - view @ mean), rest @ covariance @ rest.mT + gain @ noise @ gain.mT


@neutral
def local_trend(y: Array, *, level: float, slope: float, noise: float, xp: Any = None) -> Model:
    """Return a model for the series `y` (T, 1): a level that is seen, moved by a slope that is not.

    Parameters
    ----------
    y : array (T, 1)
        Only its library, device and precision matter.
    level, slope, noise : float
        The variances of the noise that moves the level and the slope in one step, and of that in an observation.
    xp : namespace
        Filled in by `neutral`.

    Returns
    -------
    Model
    """
    values = [[1.0, 1.0], [0.0, 1.0]], [[1.0, 0.0]], [[level, 0.0], [0.0, slope]], [[noise]]
    return Model(*(xp.asarray(rows, dtype=y.dtype, device=device(y)) for rows in values))


def report(asarray: Callable[[Any], Array]) -> str:
    """Say where Google's share stands, and which way it goes, on its last day in the data."""
    from examples.neutral._data import google

    y = asarray(google())
    model = local_trend(y, level=4.0, slope=0.1, noise=1.0)
    known = filtered(y, model, asarray([160.0, 0.0]), asarray([[100.0, 0.0], [0.0, 1.0]]))
    level, slope = (float(known.means[-1, n]) for n in range(2))
    earlier = smoothed(known, model).means[y.shape[0] // 2, 1]
    return f"last of {y.shape[0]} days: {level:.1f} log-percent above the first price, moving by {slope:+.2f} a day (half way: {float(earlier):+.2f})"


if __name__ == "__main__":
    from examples.neutral._runner import show

    show(__doc__, report)
