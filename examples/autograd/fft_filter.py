"""An echo, learned from a passage that is known, and taken out of all the rest: NumPy's FFT, differentiated by itself.

The convolution ``y[n] = sum_k h[k] x[n - k]`` of a signal with a filter is a product of their Fourier transforms, if both
are padded with zeros to the length of the result. It is linear in either, so its gradients are adjoints: for a gradient
``g`` of ``y`` they are the correlation of ``g`` with the other one, ``sum_n g[n] h[n - k]``, a product with the complex
conjugate. The adjoint of a correlation is a convolution again: each of the two wrapped functions below has a backward
rule that is made of both, so they can be differentiated as often as one likes.

The training: four channels of an electroencephalogram come through an amplifier with an unknown echo, and noise of
a hundredth. The first quarter is known as it was. LBFGS learns the filter and the other three quarters together, so
gradients flow to both arguments. This is semi-blind deconvolution.

A. V. Oppenheim, R. W. Schafer, *Discrete-Time Signal Processing*, 3rd edition, 2010, section 8.7; E. de Carvalho,
D. T. M. Slock, "Blind and semi-blind FIR multichannel estimation: (global) identifiability conditions", IEEE Transactions on
Signal Processing 52, 2004.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.fft import next_fast_len

from examples.autograd._training import Trained, distance, minimise, show
from interop.autograd import wrap

if TYPE_CHECKING:
    from examples.autograd import Tensor

__all__ = ["convolve", "correlate", "train"]


@wrap(runs_on="numpy", once_differentiable=False)
def convolve(x: Any, h: Any) -> Any:
    """Filter a signal.

    Parameters
    ----------
    x : tensor (..., n), real
        The signal.
    h : tensor (..., m), real
        The filter, of the same dtype. Axes in front are broadcast.

    Returns
    -------
    tensor (..., n + m - 1)
        Everything that comes out, with the filter's echo after the end of the signal.
    """
    count = x.shape[-1] + h.shape[-1] - 1
    size = next_fast_len(count, real=True)
    return np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(h, size), size)[..., :count]


@wrap(runs_on="numpy", once_differentiable=False)
def correlate(y: Any, h: Any) -> Any:
    """Find a filter in a signal: the adjoint of `convolve`.

    Parameters
    ----------
    y : tensor (..., n), real
        The signal.
    h : tensor (..., m), real, m <= n
        The filter, of the same dtype. Axes in front are broadcast.

    Returns
    -------
    tensor (..., n - m + 1)
        The sum of products with the filter, where it lies in the signal as a whole.
    """
    size = next_fast_len(y.shape[-1], real=True)
    found = np.fft.irfft(np.fft.rfft(y, size) * np.conj(np.fft.rfft(h, size)), size)
    return found[..., : y.shape[-1] - h.shape[-1] + 1]


@convolve.backward
def _(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, h = ctx.saved_tensors
    for_x, for_h = ctx.needs_input_grad
    return correlate(grad, h) if for_x else None, correlate(grad, x) if for_h else None


@correlate.backward
def _(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    y, h = ctx.saved_tensors
    for_y, for_h = ctx.needs_input_grad
    return convolve(grad, h) if for_y else None, correlate(y, grad) if for_h else None


# The training.

ECHO = (1.0, 0.25, 0.0, -0.4, 0.0, 0.2, 0.0, 0.0, 0.15, 0.0, 0.0, -0.1)


def train(*, known: int = 200, steps: int = 120) -> Trained:
    """Learn the echo and what was not known of the signal; the error is the greater one of the two."""
    from examples.neutral._data import eeg

    generator = torch.Generator().manual_seed(0)
    signal = torch.from_numpy(eeg())
    signal = (signal - signal.mean(-1, keepdim=True)) / signal.std(-1, keepdim=True)
    echo = torch.tensor(ECHO, dtype=signal.dtype)
    heard = convolve(signal, echo)
    heard = heard + 0.01 * torch.randn(heard.shape, generator=generator, dtype=heard.dtype)
    # To begin with: no echo, and the signal is what was heard.
    taps = torch.zeros_like(echo)
    taps[0] = 1.0
    rest = heard[:, known : signal.shape[-1]].clone()

    def loss() -> Tensor:
        return (convolve(torch.cat([signal[:, :known], rest], dim=-1), taps) - heard).square().mean()

    def error() -> float:
        return max(distance(taps, echo), distance(rest, signal[:, known:]))

    begin = error()
    optimizer = torch.optim.LBFGS([taps.requires_grad_(), rest.requires_grad_()], max_iter=steps, line_search_fn="strong_wolfe")
    losses = minimise(optimizer, loss)
    return Trained(losses[0], losses[-1], begin, error(), len(losses) - 1)


if __name__ == "__main__":
    show(__doc__, train)
