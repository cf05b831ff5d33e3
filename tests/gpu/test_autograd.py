"""A CUDA kernel of one's own inside torch's graph, where there is a GPU: values, gradients, order, devices."""

import gc
import shutil
import sysconfig
from pathlib import Path

import pytest
import torch
from torch.autograd import gradcheck

from examples.autograd import raw_kernel
from tests.gpu.work import busy, rehearsed, shows

pytestmark = pytest.mark.gpu

DTYPES = {torch.float32: 1e-5, torch.float64: 1e-12}
"""And the error that is allowed, as a part of the largest element: where terms cancel, an element may be small and its error not."""

ROWS = 1 << 18


def torch_swish(x, slope):
    return x * torch.sigmoid(slope * x)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def on_gpu(*shape, dtype=torch.float64, device="cuda"):
    return torch.randn(shape, dtype=dtype, device=device, requires_grad=True)


def gradients(activation, view, *inputs):
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    y = activation(view(inputs[0]), inputs[1])
    # The gradient of y is a transposed one, and one whose strides are 0.
    return [y.detach(), *torch.autograd.grad((y.mT * torch.ones_like(y.mT).cumsum(-1)).sum() + y.sum(), inputs)]


@pytest.mark.filterwarnings("default")  # the compilers' own
def test_the_kernels_are_an_operator_that_compile_keeps_whole():
    pytest.importorskip("triton", reason="torch.compile needs triton for CUDA")
    if not any(map(shutil.which, ("cc", "gcc", "clang"))) or not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        pytest.skip("triton needs a C compiler and Python's headers")
    activation = raw_kernel.wrapped(raw_kernel.Cuda(), "interop_tests::gpu_swish")
    x, slope = on_gpu(4, 6), on_gpu(6)
    compiled = torch.compile(lambda x, slope: activation(x * 2, slope) + 1, fullgraph=True)
    torch.cuda.synchronize()  # the inputs were made on another stream
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
        largest = float(expected.detach().abs().max()) if expected.numel() else 0
        torch.testing.assert_close(found, expected, rtol=DTYPES[dtype], atol=DTYPES[dtype] * max(1, largest))


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

    def train(milliseconds):
        with torch.cuda.stream(stream):
            x, slope, grad = (torch.zeros(n, 4, device="cuda") for n in (ROWS, 1, ROWS))
            slope = slope[0].requires_grad_()
            stream.synchronize()
            delay = busy(milliseconds)
            x.fill_(3.0)
            x.requires_grad_()
            y = raw_kernel.swish(x, slope)
            delay.must_run()
            again = busy(milliseconds)
            grad.fill_(2.0)
            y.backward(grad)
            again.must_run()  # nothing has waited on the host
            stream.synchronize()
        return y.unique().tolist(), x.grad.unique().tolist(), slope.grad.tolist()

    stream = torch.cuda.Stream()
    assert rehearsed(train) == ([1.5], [1.0], [2.0 * ROWS * 9 / 4] * 4)


def test_on_another_stream_the_values_would_be_wrong():
    """The negative control: the same kernel, launched by CuPy on a stream that nobody has told to wait."""
    import cupy

    kernel, kept = raw_kernel.Kernel(raw_kernel.FORWARD, "float32"), []

    def launch(milliseconds):
        stream, other = kept[-1]
        with torch.cuda.stream(stream):
            x, slope, y = (torch.full((ROWS,), value, device="cuda") for value in (0.0, 0.0, -1.0))
            arrays = [cupy.from_dlpack(one) for one in (x, slope, y)]
            torch.cuda.synchronize()
            delay = busy(milliseconds)
            x.fill_(3.0)
            with other:
                raw_kernel.Cuda().launch(kernel, ROWS, (*arrays, ROWS, 1))
                delay.must_run()
                other.synchronize()
            stream.synchronize()
            return y.unique().tolist()

    def attempt():
        kept.append((torch.cuda.Stream(), cupy.cuda.Stream(non_blocking=True)))
        return rehearsed(launch) == [0.0]  # in order it were 1.5, and -1 if nothing ran

    assert shows(attempt)


def test_cupys_own_arrays_are_waited_for():
    """Without a tensor the function is called as it is: its arrays come from CuPy's stream, and go there."""
    import cupy

    def read(milliseconds):
        with torch.cuda.stream(torchs), own:
            x, slope = cupy.zeros((ROWS, 4), "float32"), cupy.zeros(4, "float32")
            own.synchronize()
            delay = busy(milliseconds, own)
            x.fill(3.0)
            y = raw_kernel.swish(x, slope)
            delay.must_run()
            assert type(y) is cupy.ndarray
            return set(y.get().ravel().tolist())

    torchs, own = torch.cuda.Stream(), cupy.cuda.Stream(non_blocking=True)
    assert rehearsed(read) == {1.5}


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
