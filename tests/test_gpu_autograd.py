"""A CUDA kernel of one's own inside torch's graph, where there is a GPU: values, gradients, order, devices. Written without one at hand."""

import gc

import pytest
import torch
from torch.autograd import gradcheck

from examples.autograd import raw_kernel

pytestmark = pytest.mark.gpu

DTYPES = {torch.float32: 1e-4, torch.float64: 1e-11}
BUSY = 200_000_000  # cycles that a stream is kept busy


def torch_swish(x, slope):
    return x * torch.sigmoid(slope * x)


def on_gpu(*shape, dtype=torch.float64, device="cuda"):
    return torch.randn(shape, dtype=dtype, device=device, requires_grad=True)


def gradients(activation, view, *inputs):
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    y = activation(view(inputs[0]), inputs[1])
    # The gradient of y is a transposed one, and one whose strides are 0.
    return [y.detach(), *torch.autograd.grad((y.mT * torch.ones_like(y.mT).cumsum(-1)).sum() + y.sum(), inputs)]


def test_the_kernels_are_an_operator_that_compile_keeps_whole():
    activation = raw_kernel.wrapped(raw_kernel.Cuda(), "interop_tests::gpu_swish")
    x, slope = on_gpu(4, 6), on_gpu(6)
    compiled = torch.compile(lambda x, slope: activation(x * 2, slope) + 1, fullgraph=True)
    with torch.cuda.stream(torch.cuda.Stream()):
        for found, expected in zip(
            gradients(compiled, lambda x: x, x, slope),
            gradients(lambda x, s: torch_swish(x * 2, s) + 1, lambda x: x, x, slope),
            strict=True,
        ):
            torch.testing.assert_close(found, expected)
    assert torch.library.opcheck(torch.ops.interop_tests.gpu_swish.default, (x, slope), raise_exception=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 4, 6), (3, 1000, 6), (0, 6)], ids=str)
@pytest.mark.parametrize(
    "view", [lambda x: x, lambda x: x[..., ::2], lambda x: x[..., :1].expand(x.shape)], ids=["plain", "strided", "expanded"]
)
def test_the_kernels_are_torchs_swish(dtype, shape, view):
    x = on_gpu(*shape, dtype=dtype)
    slope = on_gpu(view(x).shape[-1], dtype=dtype)
    for found, expected in zip(gradients(raw_kernel.swish, view, x, slope), gradients(torch_swish, view, x, slope), strict=True):
        torch.testing.assert_close(found, expected, rtol=DTYPES[dtype], atol=DTYPES[dtype])


def test_gradcheck_of_the_kernels():
    assert gradcheck(raw_kernel.swish, (on_gpu(2, 5, 3), on_gpu(3)))
    assert gradcheck(raw_kernel.swish, (on_gpu(5), on_gpu()))


def test_the_training_reaches_its_result():
    done = raw_kernel.train()
    assert done.error <= 0.005, done
    assert done.after <= 1e-5 * done.before, done


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match="there for float32 and float64"):
        raw_kernel.swish(on_gpu(3, dtype=dtype), on_gpu(3, dtype=dtype))
    with pytest.raises(TypeError, match="'slope' is read as float32, got float64"):
        raw_kernel.swish(on_gpu(3, dtype=torch.float32), on_gpu(3))


def test_an_input_that_was_changed_in_place_is_noticed():
    x, slope = on_gpu(3, 4), on_gpu(4)
    loss = raw_kernel.swish(x, slope).sum()
    x.detach().add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_kernels_come_after_what_torchs_stream_was_given_before():
    """Forward and backward, on a stream that is no default: what they read is written by it only after a while."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        x, slope, grad = (torch.zeros(n, 4, device="cuda") for n in (1 << 18, 1, 1 << 18))
        # Compiled, and memory taken from the driver: both keep the host busy.
        raw_kernel.swish(x.clone().requires_grad_(), slope[0]).backward(grad)
        slope = slope[0].requires_grad_()
        stream.synchronize()
        torch.cuda._sleep(BUSY)
        x.fill_(3.0)
        x.requires_grad_()
        y = raw_kernel.swish(x, slope)
        torch.cuda._sleep(BUSY)
        grad.fill_(2.0)
        y.backward(grad)
        assert not stream.query(), "something has waited on the host"
        stream.synchronize()
    assert y.unique().tolist() == [1.5]
    assert x.grad.unique().tolist() == [1.0]
    assert slope.grad.tolist() == [2.0 * (1 << 18) * 9 / 4] * 4


def test_on_another_stream_the_values_would_be_wrong():
    """The negative control: the same kernel, launched by CuPy on a stream that nobody has told to wait."""
    import cupy

    kernel = raw_kernel.Kernel(raw_kernel.FORWARD, "float32")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        x, slope, y = (torch.zeros(1 << 18, device="cuda") for _ in range(3))
        arrays = [cupy.from_dlpack(one) for one in (x, slope, y)]
        raw_kernel.Cuda().launch(kernel, 1, (*arrays, 1, 1))  # compiled
        torch.cuda.synchronize()
        torch.cuda._sleep(BUSY)
        x.fill_(3.0)
        with cupy.cuda.Stream(non_blocking=True) as other:
            raw_kernel.Cuda().launch(kernel, x.numel(), (*arrays, x.numel(), 1))
            other.synchronize()
            assert y.unique().tolist() == [0.0]
    torch.cuda.synchronize()


def test_cupys_own_arrays_are_waited_for():
    """Without a tensor the function is called as it is: its arrays come from CuPy's stream, and go there."""
    import cupy

    with torch.cuda.stream(torch.cuda.Stream()), cupy.cuda.Stream(non_blocking=True) as own:
        x, slope = cupy.zeros((1 << 18, 4), "float32"), cupy.zeros(4, "float32")
        own.synchronize()
        with torch.cuda.stream(torch.cuda.ExternalStream(own.ptr)):
            torch.cuda._sleep(BUSY)
        x.fill(3.0)
        y = raw_kernel.swish(x, slope)
        assert type(y) is cupy.ndarray
        assert cupy.unique(y).tolist() == [1.5]


def test_the_current_device_and_streams_are_as_before():
    import cupy

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), cupy.cuda.Stream(non_blocking=True) as own:
        raw_kernel.swish(on_gpu(3, 4), on_gpu(4)).sum().backward()
        assert torch.cuda.current_stream() == stream
        assert cupy.cuda.get_current_stream() == own
    assert torch.cuda.current_device() == cupy.cuda.runtime.getDevice()
    del own
    gc.collect()
    # A stream that CuPy was lent by torch is there still: CuPy did not destroy it.
    with torch.cuda.stream(stream):
        assert float(on_gpu(3).detach().mul(0).sum()) == 0.0


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="it takes two CUDA devices")
def test_arrays_of_another_device_than_the_current_one():
    x, slope = on_gpu(3, 4, device="cuda:1"), on_gpu(4, device="cuda:1")
    y = raw_kernel.swish(x, slope)
    y.sum().backward()
    assert y.device == x.grad.device == torch.device("cuda:1")
    torch.testing.assert_close(y, torch_swish(x, slope))
    with pytest.raises(TypeError, match="'slope' is on"):
        raw_kernel.swish(x, on_gpu(4, device="cuda:0"))
