"""Power spectral density by Welch's method: the mean over the spectra of overlapping, windowed pieces of a signal.

The signal is cut into pieces of `length` samples that begin `length - overlap` samples apart. Each loses its mean and is
multiplied by a Hann window ``w``; with ``X`` its Fourier transform and ``rate`` the samples per second, its density is
``|X|**2 / (rate * sum(w**2))``. A real signal has the same power at negative frequencies, which is added to that at the
positive ones; 0 and, for an even length, the Nyquist frequency have no partner. So the sum of the density times the
spacing of the frequencies is the power of the signal.

Follows ``scipy.signal.welch`` with its defaults (periodic Hann window, detrend "constant", scaling "density");
P. D. Welch, "The use of fast Fourier transform for the estimation of power spectra", IEEE Transactions on Audio and
Electroacoustics 15, 1967.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from array_api_compat import array_namespace, device

from interop import neutral

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.neutral import Array

__all__ = ["Spectrum", "report", "welch"]


class Spectrum(NamedTuple):
    """The f frequencies (f), and the power per unit of frequency (..., f)."""

    frequencies: Array
    density: Array


@neutral
def welch(x: Array, rate: float, *, length: int = 256, overlap: int | None = None, xp: Any = None) -> Spectrum:
    """Estimate the power spectral density along the last axis.

    Parameters
    ----------
    x : array (..., n)
        Real signals.
    rate : float
        Samples per unit of time.
    length : int
        Samples in a piece, at most n.
    overlap : int, optional
        Samples that neighbours have in common; default: half of `length`.
    xp : namespace
        Filled in by `neutral`.

    Returns
    -------
    Spectrum
        With ``f = length // 2 + 1``.
    """
    pieces = _pieces(x, length, length // 2 if overlap is None else overlap, xp)
    pieces = pieces - xp.mean(pieces, axis=-1, keepdims=True)
    ticks = xp.arange(length, dtype=x.dtype, device=device(x))
    window = 0.5 - 0.5 * xp.cos(2 * math.pi / length * ticks)
    transform = xp.fft.rfft(pieces * window)
    power = xp.mean(xp.real(transform) ** 2 + xp.imag(transform) ** 2, axis=-2)
    bins = ticks[: length // 2 + 1]
    both = 1 + xp.astype((bins > 0) & (bins < length / 2), x.dtype)
    return Spectrum(bins * (rate / length), both * power / (rate * xp.sum(window**2)))


def _pieces(x: Array, length: int, overlap: int, xp: Any) -> Array:
    """Return the pieces as one array (..., pieces, length); a rest that fills no piece is left out."""
    begins = xp.arange(0, x.shape[-1] - length + 1, length - overlap, device=device(x))
    samples = begins[:, None] + xp.arange(length, device=device(x))
    taken = xp.take(x, xp.reshape(samples, (-1,)), axis=-1)
    return xp.reshape(taken, (*x.shape[:-1], *samples.shape))


def report(asarray: Callable[[Any], Array]) -> str:
    """Say which rhythm of the brain is the strongest in each channel, and how much power the alpha band holds."""
    from examples.neutral._data import EEG_RATE, eeg

    frequencies, density = welch(asarray(eeg()), EEG_RATE)
    xp = array_namespace(density)
    alpha = xp.where((frequencies >= 8) & (frequencies <= 13), density, 0.0)
    peaks = xp.take(frequencies, xp.argmax(density, axis=-1))
    named = ", ".join(f"{float(peaks[n]):.1f}" for n in range(peaks.shape[0]))
    return f"peaks at {named} Hz; {float(xp.sum(alpha) / xp.sum(density)):.0%} of the power between 8 and 13 Hz"


if __name__ == "__main__":
    from examples.neutral._runner import show

    show(__doc__, report)
