"""Kernels of CuPy's on the emulated device: NumPy or the host's compiler does the work, in its turn on the stream."""

import cupy as cp
import numpy as np
import pytest

N = 1000


# Kernels.


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "any", "all", "mean"])
@pytest.mark.parametrize("words", [{}, {"axis": 0}, {"axis": 1, "keepdims": True}], ids=str)
def test_reductions_are_numpys(gpu, name, words):
    data = np.arange(1, 13, dtype="float32").reshape(3, 4)
    made = getattr(cp.asarray(data), name)(**words)
    assert made.get().tolist() == getattr(data, name)(**words).tolist()
    assert made.dtype == getattr(data, name)(**words).dtype


def test_a_reduction_waits_for_its_turn(gpu):
    stream, x = cp.cuda.Stream(non_blocking=True), cp.zeros(N)
    cp.cuda.runtime.deviceSynchronize()
    with stream:
        gpu.sleep(stream)
        x.fill(3)
        assert float(x.sum()) == 3 * N


RAW = """
extern "C" __global__ void scaled(const float* x, float* y, double by, long long n)
{
    long long i = (long long)blockDim.x * blockIdx.x + threadIdx.x;
    if (i < n) y[i] = float(x[i] * by) + gridDim.x;
}
"""


def test_a_raw_kernel_is_run_on_the_host_in_its_turn(gpu):
    stream, x, y = cp.cuda.Stream(non_blocking=True), cp.zeros(N, "float32"), cp.zeros(N, "float32")
    cp.cuda.runtime.deviceSynchronize()
    with stream:
        gpu.sleep(stream)
        x.fill(3)
        cp.RawKernel(RAW, "scaled")((8,), (128,), (x, y, 0.5, N))
        assert y.get().tolist() == [9.5] * N


def test_a_kernel_that_is_not_known_is_an_error(gpu):
    unknown = cp.ElementwiseKernel("float32 x", "float32 y", "y = x * 3", "unknown")
    with pytest.raises(NotImplementedError, match="no kernel of CuPy's that is called unknown"):
        unknown(cp.zeros(3, "float32"))
