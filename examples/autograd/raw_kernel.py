"""An activation with a slope to be learned, as a CUDA kernel of one's own: CuPy's RawKernel inside torch's graph.

Swish is ``y = x s`` with ``s = 1 / (1 + exp(-b x))``, and a slope ``b`` for each channel. Its derivatives are ``s + b x t`` for
``x`` and ``x**2 t`` for ``b``, with ``t = s (1 - s)``; those for one slope are added up over its channel.

A RawKernel gets bare pointers, and a kernel that misreads them returns wrong numbers. So here is all that has to be taken
care of around it (the recipe of https://github.com/cupy/cupy/issues/5833 leaves it to the reader):

- the arguments are held to the kernel's own signature: dtypes, contiguous memory, one device;
- arrays are not raveled; those that are not contiguous (the gradient of a sum has strides of 0) are copied before;
- the inputs are saved with `save_for_backward`, so torch notices if they are changed before the backward pass;
- memory is taken and kernels are launched on the arrays' device, whichever is current, and on torch's current stream of it:
  CuPy's pool gives memory that torch has released to the next one on the same stream, which comes later on it.

The training: a layer of eight swishes is seen through a mixer that is known. Adam learns the weights in front of it and the slopes.

P. Ramachandran, B. Zoph, Q. V. Le, "Searching for activation functions", 2017 (arXiv:1710.05941).
"""

from __future__ import annotations

import contextlib
import functools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from array_api_compat import array_namespace

from examples.autograd._training import Trained, Unavailable, distance, minimise, show
from interop.autograd import wrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.autograd import Tensor

__all__ = ["Cuda", "Kernel", "swish", "train", "why_not", "wrapped"]

FORWARD = """
extern "C" __global__ void swish(const real* x, const real* slope, real* y, long long count, long long channels)
{
    long long i = (long long)blockDim.x * blockIdx.x + threadIdx.x;
    if (i >= count) return;
    y[i] = x[i] / (1 + exp(-slope[i % channels] * x[i]));
}
"""
BACKWARD = """
extern "C" __global__ void swish_backward(const real* x, const real* slope, const real* grad,
                                          real* grad_x, real* grad_slope, long long count, long long channels)
{
    long long i = (long long)blockDim.x * blockIdx.x + threadIdx.x;
    if (i >= count) return;
    real b = slope[i % channels];
    real s = 1 / (1 + exp(-b * x[i]));
    real t = s * (1 - s);
    grad_x[i] = grad[i] * (s + b * x[i] * t);
    grad_slope[i] = grad[i] * x[i] * x[i] * t;
}
"""
REAL = {"float32": "float", "float64": "double"}
THREADS = 256


class Parameter(NamedTuple):
    """One parameter of a kernel; without a dtype it is a ``long long``, which CuPy makes of a Python int."""

    name: str
    dtype: str | None


class Kernel:
    """A CUDA kernel for one dtype, and its arguments, read from its signature.

    Parameters
    ----------
    code : str
        The source of one kernel, in which the dtype is called ``real``; it takes pointers, as in ``real* x`` or
        ``const real* x``, and numbers, as in ``long long n``.
    dtype : str
        "float32" or "float64".

    Attributes
    ----------
    name : str
        Of the kernel.
    source : str
        What is compiled.
    parameters : list of Parameter
        Read from the source, so that the two cannot differ.
    """

    def __init__(self, code: str, dtype: str) -> None:
        if dtype not in REAL:
            raise TypeError(f"the kernel is there for {' and '.join(REAL)}, got {dtype}.")
        self.source = f"typedef {REAL[dtype]} real;\n{code}"
        found = re.search(r"__global__ void (\w+)\(([^)]*)\)", code)
        assert found is not None
        self.name = found[1]
        types = {"real*": dtype, "long long": None}
        split = [text.split() for text in found[2].split(",")]
        self.parameters = [Parameter(words[-1], types[" ".join(words[:-1]).removeprefix("const ")]) for words in split]

    def check(self, arguments: tuple[Any, ...]) -> None:
        """Raise TypeError unless the arguments are what the kernel reads and writes them as."""
        if len(arguments) != len(self.parameters):
            raise TypeError(f"{self.name} takes {len(self.parameters)} arguments, got {len(arguments)}.")
        for (name, dtype), argument in zip(self.parameters, arguments, strict=True):
            if dtype is None:
                if type(argument) is not int:
                    raise TypeError(f"{self.name}: {name!r} is a number, got {type(argument).__name__}.")
            elif argument.dtype != dtype:
                raise TypeError(f"{self.name}: {name!r} is read as {dtype}, got {argument.dtype}.")
            elif not argument.flags.c_contiguous:
                raise TypeError(f"{self.name}: {name!r} is not contiguous, its strides are {argument.strides} bytes.")
            elif argument.device != arguments[0].device:
                raise TypeError(f"{self.name}: {name!r} is on {argument.device}, the first on {arguments[0].device}.")

    @functools.cached_property
    def compiled(self) -> Any:
        """CuPy's kernel; it compiles for each device when it is first launched there."""
        import cupy

        return cupy.RawKernel(self.source, self.name)


_kernel = functools.cache(Kernel)


class Cuda:
    """Where the kernels are run: on CUDA devices, by CuPy, in torch's order."""

    runs_on = "cupy"

    @contextlib.contextmanager
    def beside_torch(self, array: Any) -> Iterator[None]:
        """Let CuPy work on the device of an array and on torch's current stream of it.

        `wrap` imports the arrays on CuPy's current stream, and exports the results from there. Where that is another one than
        torch's, each waits for the other, by an event; nothing waits on the host.
        """
        import cupy

        with cupy.cuda.Device(array.device.id):
            own, torchs = cupy.cuda.get_current_stream(), _in_cupy(torch.cuda.current_stream(array.device.id))
            if own == torchs:
                yield
                return
            torchs.wait_event(own.record())
            with torchs:
                yield
            own.wait_event(torchs.record())

    def launch(self, kernel: Kernel, count: int, arguments: tuple[Any, ...]) -> None:
        """Launch a kernel, a thread for each of `count` elements."""
        kernel.compiled((-(-count // THREADS),), (THREADS,), arguments)


def _in_cupy(stream: torch.cuda.Stream) -> Any:
    from cupy.cuda import ExternalStream, Stream

    if stream.cuda_stream == 0:
        return Stream.null
    # from_external is there since CuPy 14, which deprecates the other.
    return Stream.from_external(stream) if hasattr(Stream, "from_external") else ExternalStream(stream.cuda_stream, stream.device_index)


def wrapped(place: Any, name: str | None = None) -> Any:
    """Return swish in torch's graph, with kernels that are run at a place; with a name it is an operator, which `torch.compile` takes as it is."""

    def run(code: str, x: Any, arrays: tuple[Any, ...], outputs: int) -> list[Any]:
        """Run a kernel on arrays; return so many of the shape and dtype of `x`."""
        kernel, xp = _kernel(code, str(x.dtype)), array_namespace(x)
        with place.beside_torch(x):
            made = [xp.empty(x.shape, dtype=x.dtype) for _ in range(outputs)]
            arguments = (*map(_contiguous, arrays), *made, x.size, arrays[1].size)
            kernel.check(arguments)
            if x.size:
                place.launch(kernel, x.size, arguments)
        return made

    def swish(x: Any, slope: Any) -> Any:
        channels = x.shape[-1:]
        if slope.shape not in ((), channels and (1,), channels):
            raise ValueError(f"swish: there are {channels} channels, and slopes of the shape {slope.shape}.")
        (y,) = run(FORWARD, x, (x, slope), 1)
        return y

    def save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001 - as in torch
        ctx.save_for_backward(*inputs)

    def backward(ctx: Any, grad: Any) -> tuple[Any, ...]:
        x, slope = ctx.saved_tensors
        # Those for the slopes are of the shape of x: `wrap` adds them up.
        return tuple(run(BACKWARD, x, (x, slope, grad), 2))

    words: dict[str, Any] = {"name": name, "fake": _like, "schema": "(Tensor x, Tensor slope) -> Tensor"} if name else {}
    return wrap(swish, backward, setup_context=save, runs_on=place.runs_on, cast_inputs="float32", **words)


def _like(x: Tensor, slope: Tensor) -> Tensor:  # noqa: ARG001 - it is given the operator's arguments
    """Return what the operator returns, without its data."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _contiguous(x: Any) -> Any:
    return x if x.flags.c_contiguous else x.copy(order="C")


@functools.cache
def _on_cuda() -> Any:
    return wrapped(Cuda())


def swish(x: Tensor, slope: Tensor) -> Tensor:
    """Return the swish of a tensor on a CUDA device.

    Parameters
    ----------
    x : tensor (..., channels), float32 or float64
        Of any shape and strides.
    slope : tensor (channels), or without axes
        Of the same dtype, on the same device.

    Returns
    -------
    tensor (..., channels)
    """
    return _on_cuda()(x, slope)


# The training.


def why_not() -> str | None:
    """Return why the kernels cannot be run on this machine, or None if they can."""
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    try:
        import cupy
    except ImportError as error:
        return f"CuPy cannot be imported: {error}"
    return None if cupy.cuda.is_available() else "CuPy sees no CUDA device"


def train(*, steps: int = 400, activation: Any = None, device: str = "cuda") -> Trained:
    """Learn weights and slopes from what they made of random inputs; both are compared with the truth, as one.

    Parameters
    ----------
    steps : int
        Of Adam.
    activation : callable, optional
        Another one than `swish`, for another device.
    device : str
        Where to train.

    Raises
    ------
    Unavailable
        Without a CUDA device, or without CuPy.
    """
    reason = why_not() if activation is None else None
    if reason is not None:
        raise Unavailable(reason)
    activation = activation or swish
    generator = torch.Generator().manual_seed(0)
    inputs, weights, noise, mixer = (torch.randn(n, 8, generator=generator).to(device) for n in (512, 8, 8, 8))
    slopes = torch.linspace(0.3, 2.4, 8, device=device)
    truth = torch.cat([weights.flatten(), slopes])
    learned = torch.cat([(weights + 0.3 * noise).flatten(), torch.ones_like(slopes)])

    def outputs(parameters: Tensor) -> Tensor:
        return activation(inputs @ parameters[:64].reshape(8, 8), parameters[64:]) @ mixer

    seen = outputs(truth)
    begin = distance(learned, truth)
    optimizer = torch.optim.Adam([learned.requires_grad_()], lr=0.02)
    losses = minimise(optimizer, lambda: (outputs(learned) - seen).square().mean(), rounds=steps)
    return Trained(losses[0], losses[-1], begin, distance(learned, truth), steps)


if __name__ == "__main__":
    show(__doc__, train)
