"""JAX on a GPU, with torch and CuPy. ``make gpu`` runs it, with a JAX for CUDA."""

import contextlib
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import interop
from interop import convert, describe, shares_memory
from tests.corpus import aligned
from tests.enumeration import values_of
from tests.gpu.work import COUNT, busy, late, numpy_dtype, rehearsed, shows

pytestmark = pytest.mark.gpu


@contextlib.contextmanager
def on_cuda():
    if os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE") != "false":
        pytest.skip("JAX would take 75 % of the device's memory from the other tests: set XLA_PYTHON_CLIENT_PREALLOCATE=false")
    devices = [device for device in jax.devices() if device.platform == "gpu"]
    if not devices:
        pytest.skip("this JAX sees no CUDA device")
    with jax.default_device(devices[0]):
        yield


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "bool", "complex64", "float16"])
def test_cuda_arrays_are_shared_with_torch(dtype):
    ones = np.ones((4, 8), numpy_dtype(dtype)).tolist()
    with on_cuda():
        x = jnp.ones((4, 8), dtype)
        tensor = convert(x, "torch", readonly="share")
        assert tensor.data_ptr() == x.unsafe_buffer_pointer()
        assert tensor.cpu().tolist() == ones
        back = convert(torch.ones(4, 8, dtype=getattr(torch, dtype), device="cuda"), "jax", copy=False)
        assert back.dtype == dtype
        assert str(describe(back).device) == "cuda:0"
        assert np.asarray(back).tolist() == ones
        assert not shares_memory(convert(x, "torch"), x)


def test_cuda_arrays_are_shared_with_cupy():
    cp = pytest.importorskip("cupy", reason="CuPy is not installed")
    with on_cuda():
        x = jnp.arange(8.0)
        assert convert(x, "cupy", readonly="share").data.ptr == x.unsafe_buffer_pointer()
        a = cp.arange(8, dtype="float32")
        assert shares_memory(convert(a, "jax", copy=False), a)
        assert convert(a[::-1], "jax").tolist() == a[::-1].tolist()
        assert convert(a[::2], "jax").tolist() == a[::2].tolist()


def test_memory_that_xla_cannot_use_is_not_shared_with_it():
    """XLA refuses parameters that do not start at a multiple of 16, only when it computes with them."""
    with on_cuda():
        tensor = torch.arange(9.0, device="cuda")[1:]
        assert float(jnp.sum(convert(tensor, "jax"))) == 36


def test_crossings_to_and_from_the_gpu():
    with on_cuda():
        a = aligned(8)
        with pytest.raises(interop.TransferError):
            convert(jnp.arange(8.0), "numpy")
        assert convert(jnp.arange(8.0), "numpy", transfer="allow").tolist() == list(range(8))
        for x in (a, a[1:], a[::2], convert(a, "torch")):
            assert str(describe(convert(x, "jax", device="cuda:0")).device) == "cuda:0"
            assert values_of(convert(x, "jax", device="cuda")).tolist() == x.tolist()
        assert convert(torch.ones(3, device="cuda"), "jax", device="cpu").devices() == {jax.devices("cpu")[0]}


class Careless:
    """A tensor that is handed over without an order, whatever it is asked for."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack__(self, **_):
        return self.tensor.__dlpack__(stream=-1)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


def largest(stream, hand_over, milliseconds):
    """Return the largest number that JAX reads in a tensor of a stream that is filled late."""
    with torch.cuda.stream(stream):
        tensor, delay = late(milliseconds)
        delay.must_run()
        read = float(hand_over(tensor).max())
        stream.synchronize()
    return read


def test_jax_waits_for_torch():
    with on_cuda():
        stream = torch.cuda.Stream()
        assert rehearsed(lambda delay: largest(stream, lambda x: convert(x, "jax"), delay)) == 3


def test_without_the_order_jax_reads_too_early():
    """The negative control; where JAX waits for the device by itself there is none."""
    with on_cuda():
        made = [torch.cuda.Stream() for _ in range(4)]
        early = iter(made)
        if not shows(lambda: rehearsed(functools.partial(largest, next(early), lambda x: jax.dlpack.from_dlpack(Careless(x)))) == 0, 4):
            pytest.skip("JAX read the right values without an order too: the test before this one shows nothing")


def test_torch_waits_for_jax():
    """An array that JAX has yet to compute. Each step writes other values, none of them NaN, which would equal nothing."""
    with on_cuda():
        steps = 500
        work = jax.jit(lambda x, w: jax.lax.fori_loop(0, steps, lambda n, c: jnp.sin(c @ w) * 0.001 + n, x))
        x, w = jnp.ones((2048, 2048)), jnp.eye(2048)
        before = work(x, w).block_until_ready()  # kept: its memory holds the right values
        convert(before, "torch", readonly="share").cpu()
        pending = work(x, w)
        assert not pending.is_ready(), "the work was too short to show anything"
        read = convert(pending, "torch", readonly="share").cpu()
        assert (read.round() == steps - 1).all()


def test_a_copy_on_the_gpu_is_finished_before_the_source_may_be_written_to():
    """The copy of 1 GiB takes about as long as the write that comes at once, so a part of it would be of after."""

    def read(milliseconds):
        with torch.cuda.stream(stream):
            delay = busy(milliseconds)
            tensor.fill_(1)
            delay.must_run()
            result = convert(tensor, "jax", copy=True)
            tensor.fill_(2)
        extremes = float(result.min()), float(result.max())
        torch.cuda.synchronize()
        return extremes

    with on_cuda():
        stream, tensor = torch.cuda.Stream(), torch.zeros(COUNT << 6, device="cuda")
        torch.cuda.synchronize()
        assert rehearsed(read) == (1, 1)
