"""JAX on a GPU, with torch and CuPy. Written without one at hand: ``make gpu`` runs it, with a JAX for CUDA."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import interop
from interop import convert, describe, shares_memory
from tests.corpus import aligned
from tests.enumeration import values_of

pytestmark = pytest.mark.gpu


@contextlib.contextmanager
def on_cuda():
    devices = [device for device in jax.devices() if device.platform == "gpu"]
    if not devices:
        pytest.skip("this JAX sees no CUDA device")
    with jax.default_device(devices[0]):
        yield


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "bool", "complex64", "float16"])
def test_cuda_arrays_are_shared_with_torch(dtype):
    with on_cuda():
        x = jnp.ones((4, 8), dtype)
        tensor = convert(x, "torch", readonly="share")
        assert tensor.data_ptr() == x.unsafe_buffer_pointer()
        assert tensor.float().sum() == 32
        back = convert(torch.ones(4, 8, dtype=getattr(torch, dtype), device="cuda"), "jax", copy=False)
        assert back.dtype == dtype
        assert str(describe(back).device) == "cuda:0"
        assert float(jnp.sum(back.astype("float32"))) == 32
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


def test_jax_waits_for_torch_and_torch_for_jax():
    with on_cuda():
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            tensor = torch.zeros(1 << 20, device="cuda")
            stream.synchronize()
            torch.cuda._sleep(200_000_000)
            tensor.fill_(3)
            assert float(convert(tensor, "jax").max()) == 3
            pending = jax.jit(lambda x: jax.lax.fori_loop(0, 200, lambda _, c: jnp.sin(c) @ c, x))(jnp.ones((2000, 2000)))
            assert torch.equal(convert(pending, "torch", readonly="share").cpu(), torch.from_numpy(np.array(pending)))


def test_a_copy_on_the_gpu_is_finished_before_the_source_may_be_written_to():
    with on_cuda():
        tensor = torch.ones(1 << 24, device="cuda")
        result = convert(tensor, "jax", copy=True)
        tensor.fill_(2)
        torch.cuda.synchronize()
        assert float(result.max()) == 1
