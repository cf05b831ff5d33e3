"""Each function of `examples.autograd` has the gradient that numbers and an independent reference have, in every dtype, and its
training reaches what it promises; with a slip in the gradient the same training does not.
"""

import ctypes
import functools
import inspect
import re
import runpy
import shutil
import subprocess
import sys
import types
import weakref
from contextlib import nullcontext
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from examples.autograd import _training, fft_filter, ode, raw_kernel, sparse_solve
from examples.autograd._training import Trained, distance, minimise

FLOATS = {torch.float32: 2e-4, torch.float64: 1e-11, torch.complex64: 2e-4, torch.complex128: 1e-11}
REAL = {torch.float32: 2e-4, torch.float64: 1e-11}


@pytest.fixture(autouse=True)
def one_thread():
    """torch's matrices are small here, and two threads that wait for each other on a busy machine take a hundred times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random(*shape, dtype=torch.float64, seed=0, grad=True):
    made = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    return made.requires_grad_(grad)


def gradients(function, *inputs):
    """What a function of several tensors returns, and the gradients of one number made of it."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    result = function(*inputs)
    weights = torch.cos(torch.arange(result.numel(), dtype=torch.float64)).reshape(result.shape).to(result.dtype)
    return [result.detach(), *torch.autograd.grad((result * weights).real.sum(), inputs)]


def assert_same(function, reference, *inputs, tolerance):
    for found, expected in zip(gradients(function, *inputs), gradients(reference, *inputs), strict=True):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= tolerance * expected.abs().max()


# SciPy's sparse solve.


def system(size=6, dtype=torch.float64, sides=()):
    """A matrix without symmetry, with two values in one place, as values, rows and columns; and right sides."""
    rows = torch.cat([torch.arange(size), torch.tensor([0, 0, 3, 5, 2, 0])])
    columns = torch.cat([torch.arange(size), torch.tensor([3, 3, 1, 0, 4, 5])])
    values = random(rows.numel(), dtype=dtype, grad=False)
    values[:size] += 4
    return values.requires_grad_(), rows, columns, random(size, *sides, dtype=dtype, seed=1)


def dense_solve(values, rows, columns, b):
    matrix = torch.zeros(len(b), len(b), dtype=values.dtype).index_put((rows, columns), values, accumulate=True)
    return torch.linalg.solve(matrix, b)


@pytest.mark.parametrize("sides", [(), (1,), (3,)], ids=str)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_sparse_solve_is_the_dense_one(dtype, sides):
    values, rows, columns, b = system(dtype=dtype, sides=sides)

    def solve(with_, values, b):
        return with_(values, rows, columns, b)

    assert_same(*(lambda v, b, f=f: solve(f, v, b) for f in (sparse_solve.sparse_solve, dense_solve)), values, b, tolerance=FLOATS[dtype])


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("sides", [(), (2,)], ids=str)
@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)], ids=["both", "matrix", "right side"])
def test_gradcheck_of_the_sparse_solve(dtype, sides, needs):
    values, rows, columns, b = system(dtype=dtype, sides=sides)
    inputs = values.requires_grad_(needs[0]), rows, columns, b.requires_grad_(needs[1])
    assert gradcheck(sparse_solve.sparse_solve, inputs)


def test_a_matrix_is_factorised_once(monkeypatch):
    calls = []
    real = sparse_solve.splu
    monkeypatch.setattr(sparse_solve, "splu", lambda matrix: calls.append(matrix.shape) or real(matrix))
    values, rows, columns, b = system()
    sparse_solve.sparse_solve(values, rows, columns, b).sum().backward()
    assert calls == [(6, 6)]


def test_the_pattern_may_be_numpys():
    values, rows, columns, b = system()
    found = gradients(lambda v, b: sparse_solve.sparse_solve(v, rows.numpy(), columns.numpy(), b), values, b)
    for one, other in zip(found, gradients(lambda v, b: sparse_solve.sparse_solve(v, rows, columns, b), values, b), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("changes", [True, False])
def test_a_solution_that_was_changed_in_place_is_noticed(changes):
    values, rows, columns, b = system()
    x = sparse_solve.sparse_solve(values, rows, columns, b)
    loss = x.sum()
    if changes:
        x.detach().mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
    else:
        loss.backward()


@pytest.mark.parametrize("alive", [False, True])
def test_the_factors_go_with_the_graph(monkeypatch, alive):
    class Factors:
        def __init__(self, factors):
            self.solve = factors.solve

    made = []
    real = sparse_solve.splu
    monkeypatch.setattr(sparse_solve, "splu", lambda matrix: made.append(Factors(real(matrix))) or made[0])
    x = sparse_solve.sparse_solve(*system())
    x.sum().backward()
    gone = weakref.ref(made.pop())
    graph = x if alive else None
    del x
    assert (gone() is None) is (graph is None)


def test_transformations_of_the_sparse_solve():
    values, rows, columns, _ = system()
    values, sides = values.detach(), random(4, 6, grad=False)

    def each(solve):
        return torch.func.vmap(torch.func.jacrev(lambda v, b: solve(v, rows, columns, b)), (None, 0))(values, sides)

    torch.testing.assert_close(each(sparse_solve.sparse_solve), each(dense_solve))


def test_the_plates_matrix_loses_no_heat():
    """What goes in goes out through the rim, or is carried off by the wind: each column of the matrix adds up so."""
    side, wind = 5, 3.0
    cells = sparse_solve.plate(side, wind)
    k = torch.linspace(1, 2, side * side, dtype=torch.float64)
    sums = torch.zeros(side * side, dtype=torch.float64).index_add(0, cells.columns, cells.values(k))
    out = torch.zeros(side * side, dtype=torch.float64).index_add(0, cells.rim, 2 * k[cells.rim])
    out[side - 1 :: side] += wind / side
    torch.testing.assert_close(sums, out)


# NumPy's FFT.


def torch_convolve(x, h):
    count = x.shape[-1] + h.shape[-1] - 1
    return torch.fft.irfft(torch.fft.rfft(x, count) * torch.fft.rfft(h, count), count)


def torch_correlate(y, h):
    """By definition: no transform."""
    return (y.unfold(-1, h.shape[-1], 1) * h[..., None, :]).sum(-1)


SHAPES = [((9,), (4,)), ((3, 9), (4,)), ((3, 9), (3, 4)), ((9,), (2, 4)), ((2, 1, 8), (3, 8)), ((5,), (1,))]


@pytest.mark.parametrize(("x", "h"), SHAPES, ids=str)
@pytest.mark.parametrize("dtype", REAL, ids=str)
def test_filters_are_torchs(dtype, x, h):
    x, h = random(*x, dtype=dtype), random(*h, dtype=dtype, seed=1)
    assert_same(fft_filter.convolve, torch_convolve, x, h, tolerance=REAL[dtype])
    assert_same(fft_filter.correlate, torch_correlate, x, h, tolerance=REAL[dtype])


@pytest.mark.parametrize("function", [fft_filter.convolve, fft_filter.correlate], ids=["convolve", "correlate"])
@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)], ids=["both", "signal", "filter"])
def test_gradcheck_of_the_filters_to_the_second_order(function, needs):
    inputs = random(2, 9, grad=needs[0]), random(4, seed=1, grad=needs[1])
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


def test_transformations_of_the_filters():
    x, h = random(4, 6, grad=False), random(3, seed=1, grad=False)

    def each(convolve):
        return torch.func.vmap(torch.func.jacrev(torch.func.jacrev(lambda h, x: convolve(x, h).square().sum())), (None, 0))(h, x)

    torch.testing.assert_close(each(fft_filter.convolve), each(torch_convolve))


def test_strides_do_not_matter():
    x, h = random(9, 2).T, random(8, seed=1)[::2]
    assert not x.is_contiguous()
    assert_same(lambda x, h: fft_filter.convolve(x.T.contiguous().T, h), torch_convolve, x, h, tolerance=1e-11)


# JAX's ODE.


def torch_populations(rates, start):
    """RK4 once more, without JAX and without a wrapper."""
    alpha, beta, gamma, delta = rates
    size = 1 / ode.STEPS_A_YEAR

    def slope(state):
        return torch.stack([(alpha - beta * state[1]) * state[0], (delta * state[0] - gamma) * state[1]])

    states = [start]
    for _ in range(20 * ode.STEPS_A_YEAR):
        at = states[-1]
        a = slope(at)
        b = slope(at + size / 2 * a)
        c = slope(at + size / 2 * b)
        d = slope(at + size * c)
        states.append(at + size / 6 * (a + 2 * b + 2 * c + d))
    return torch.stack(states[:: ode.STEPS_A_YEAR])


def fitted(dtype):
    values = torch.tensor([*ode.FITTED.values()], dtype=dtype)
    return values[:4], values[4:]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-3), (torch.float64, 1e-10)], ids=str)
def test_jaxs_runge_kutta_is_torchs(dtype, tolerance):
    with jax.enable_x64(dtype is torch.float64):
        assert_same(ode.torch_populations, torch_populations, *fitted(dtype), tolerance=tolerance)


def test_gradcheck_of_the_ode():
    inputs = [x.requires_grad_() for x in fitted(torch.float64)]
    with jax.enable_x64(True):
        assert gradcheck(ode.torch_populations, inputs, fast_mode=True)  # one direction, not all: it takes seconds


def test_the_steps_are_small_enough_and_the_truth_is_what_scipy_finds():
    """Another integrator, another optimizer, and no gradient of anybody's."""
    from scipy.integrate import solve_ivp
    from scipy.optimize import least_squares

    seen = np.log([ode.HARES, ode.LYNXES])

    def off(logarithms):
        alpha, beta, gamma, delta, *start = np.exp(logarithms)
        slope = lambda _, z: [(alpha - beta * z[1]) * z[0], (delta * z[0] - gamma) * z[1]]  # noqa: E731 - as short as the equation
        states = solve_ivp(slope, (0, 20), start, method="DOP853", t_eval=np.arange(21), rtol=1e-9, atol=1e-9).y
        return (np.log(states) - seen).ravel()

    truth = np.array([*ode.FITTED.values()])
    found = least_squares(off, np.log([0.5, 0.02, 1.0, 0.02, 30.0, 4.0]))
    np.testing.assert_allclose(np.exp(found.x), truth, rtol=1e-4)
    states = torch_populations(*fitted(torch.float64)).log().T.numpy()
    np.testing.assert_allclose((states - seen).ravel(), off(np.log(truth)), atol=1e-4)


# The CUDA kernels: compiled for the CPU, where they are the same arithmetic.

SHIM = """
#include <cmath>
using std::exp;
#define __global__
static struct {{ unsigned x; }} blockIdx, blockDim, threadIdx;
{source}
extern "C" void run(unsigned blocks, unsigned threads, void** a)
{{
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x)
            {name}({arguments});
}}
"""


class Host:
    """Where kernels are run here: on the CPU, on NumPy's arrays, block after block."""

    runs_on = "numpy"

    def __init__(self, compiler, folder):
        self.compiler, self.folder, self.built, self.launches = compiler, folder, {}, []

    def beside_torch(self, array):
        return nullcontext()

    def launch(self, kernel, count, arguments):
        self.launches.append(kernel.name)
        held = [x.ctypes.data_as(ctypes.c_void_p) if hasattr(x, "ctypes") else ctypes.c_longlong(x) for x in arguments]
        pointers = [ctypes.cast(ctypes.byref(one), ctypes.c_void_p) for one in held]
        self._library(kernel).run(-(-count // raw_kernel.THREADS), raw_kernel.THREADS, (ctypes.c_void_p * len(held))(*pointers))

    def _library(self, kernel):
        if kernel.source not in self.built:
            types = ["long long" if one.dtype is None else "real*" for one in kernel.parameters]
            arguments = ", ".join(f"*({kind}*)a[{n}]" for n, kind in enumerate(types))
            path = self.folder / f"{kernel.name}{len(self.built)}.cpp"
            path.write_text(SHIM.format(source=kernel.source, name=kernel.name, arguments=arguments))
            subprocess.run([self.compiler, "-O1", "-shared", "-fPIC", "-o", path.with_suffix(".so"), path], check=True)
            self.built[kernel.source] = ctypes.CDLL(str(path.with_suffix(".so")))
        return self.built[kernel.source]


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no C++ compiler here, which the kernels are compiled with for the CPU")
    return Host(compiler, tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def swish(host):
    return raw_kernel.wrapped(host)


def torch_swish(x, slope):
    return x * torch.sigmoid(slope * x)


@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 4), (2, 129, 3), (0, 3), (1,)], ids=str)
@pytest.mark.parametrize("dtype", REAL, ids=str)
@pytest.mark.parametrize("slopes", ["each", "one", "number"])
def test_the_kernels_are_torchs_swish(swish, shape, dtype, slopes):
    slope = random(*{"each": shape[-1:], "one": (1,), "number": ()}[slopes], dtype=dtype, seed=1)
    x = random(*shape, dtype=dtype)
    for found, expected in zip(gradients(swish, x, slope), gradients(torch_swish, x, slope), strict=True):
        torch.testing.assert_close(found, expected, rtol=REAL[dtype], atol=REAL[dtype])


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)], ids=["both", "x", "slope"])
def test_gradcheck_of_the_kernels(swish, needs):
    assert gradcheck(swish, (random(2, 5, 3, grad=needs[0]), random(3, seed=1, grad=needs[1])))
    assert gradcheck(swish, (random(grad=needs[0]), random(seed=1, grad=needs[1])))


@pytest.mark.parametrize("view", [lambda x: x.mT, lambda x: x[:, ::2], lambda x: x[:, :1].expand(4, 6), lambda x: x[1:, 2:]])
def test_inputs_and_gradients_of_any_strides(swish, view):
    def function(activation):
        def run(x, slope):
            y = activation(view(x), slope)
            return y.mT.reshape(-1) + y.sum()  # the gradient of y is transposed, and one of strides 0

        return run

    assert_same(function(swish), function(torch_swish), random(4, 6), random(seed=1), tolerance=1e-11)


def test_the_gradient_of_a_sum_is_copied_for_the_kernel_not_misread(swish, host):
    x, slope = random(3, 4), random(4, seed=1)
    del host.launches[:]
    swish(x, slope).sum().backward()  # all of its elements are one in memory
    expected = torch.autograd.grad(torch_swish(x, slope).sum(), (x, slope))
    torch.testing.assert_close([x.grad, slope.grad], list(expected))
    assert host.launches == ["swish", "swish_backward"]


@pytest.mark.parametrize("which", ["x", "slope", "neither"])
def test_an_input_that_was_changed_in_place_is_noticed(swish, which):
    x, slope = random(3, 4), random(4, seed=1)
    loss = swish(x, slope).sum()
    if which == "neither":
        loss.backward()
        return
    {"x": x, "slope": slope}[which].detach().add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


ARRAYS = np.zeros((2, 3), "float32"), np.zeros(3, "float32"), np.zeros((2, 3), "float32")


class Elsewhere:
    dtype, flags, device = np.dtype("float32"), ARRAYS[0].flags, "another"


@pytest.mark.parametrize(
    ("at", "argument", "message"),
    [
        (0, np.zeros((2, 3)), "'x' is read as float32, got float64"),
        (1, np.zeros(3, "float16"), "'slope' is read as float32, got float16"),
        (2, np.zeros((3, 2), "float32").T, r"'y' is not contiguous, its strides are \(4, 8\) bytes"),
        (1, Elsewhere(), "'slope' is on another, the first on cpu"),
        (3, 6.0, "'count' is a number, got float"),
        (3, np.int32(6), "'count' is a number, got int32"),  # CuPy would pass four bytes for eight
    ],
    ids=["dtype", "half", "strides", "device", "float", "int32"],
)
def test_arguments_are_held_to_the_kernels_signature(at, argument, message):
    kernel = raw_kernel.Kernel(raw_kernel.FORWARD, "float32")
    right = [*ARRAYS, 6, 3]
    kernel.check(tuple(right))
    right[at] = argument
    with pytest.raises(TypeError, match=message):
        kernel.check(tuple(right))
    with pytest.raises(TypeError, match="takes 5 arguments, got 4"):
        kernel.check(tuple(right[:-1]))


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_the_kernels_are_an_operator_that_compile_keeps_whole(host):
    activation = raw_kernel.wrapped(host, "interop_tests::swish")
    x, slope = random(4, 3), random(3, seed=1)
    compiled = torch.compile(lambda x, slope: activation((x * 2).mT.mT, slope) + 1, fullgraph=True)
    for found, expected in zip(gradients(compiled, x, slope), gradients(lambda x, s: torch_swish(x * 2, s) + 1, x, slope), strict=True):
        torch.testing.assert_close(found, expected)
    assert torch.library.opcheck(torch.ops.interop_tests.swish.default, (x, slope), raise_exception=True)
    with pytest.raises(TypeError, match="'slope' is read as float64, got float32"):
        torch.compile(activation, fullgraph=True)(x, slope.detach().float())


def test_a_signature_is_read_from_the_source():
    kernel = raw_kernel.Kernel(raw_kernel.BACKWARD, "float64")
    assert kernel.name == "swish_backward"
    assert kernel.source.startswith("typedef double real;")
    expected = [*((name, "float64") for name in ("x", "slope", "grad", "grad_x", "grad_slope")), ("count", None), ("channels", None)]
    assert kernel.parameters == expected


def test_what_the_kernel_is_not_for_is_refused(swish, host):
    del host.launches[:]
    with pytest.raises(TypeError, match="there for float32 and float64, got float16"):
        swish(random(3, dtype=torch.float16), random(3, dtype=torch.float16))
    with pytest.raises(TypeError, match="'slope' is read as float32, got float64"):
        swish(random(3, dtype=torch.float32), random(3))
    with pytest.raises(ValueError, match=r"there are \(3,\) channels, and slopes of the shape \(2,\)"):
        swish(random(3), random(2))
    with pytest.raises(ValueError, match=r"there are \(\) channels, and slopes of the shape \(1,\)"):
        swish(random(), random(1))
    assert host.launches == []


class Stream:
    """A stand-in for CuPy's streams; what is done is written down."""

    def __init__(self, ptr, made, log):
        self.ptr, self.made, self.log = ptr, made, log

    def __eq__(self, other):
        return self.ptr == other.ptr

    __hash__ = None

    def record(self):
        self.log.append(f"event on {self.ptr}")
        return self.ptr

    def wait_event(self, event):
        self.log.append(f"{self.ptr} waits for {event}")

    def __enter__(self):
        self.log.append(f"to {self.ptr}")

    def __exit__(self, *_):
        self.log.append(f"from {self.ptr}")


@pytest.fixture
def standin(monkeypatch):
    """CuPy and torch.cuda, without a device: the log, and a function that sets their current streams."""
    log = []

    def use(own, torchs, version=14):
        namespace = types.ModuleType("cupy.cuda")
        namespace.Stream = types.SimpleNamespace(null=Stream(0, "null", log))
        if version >= 14:
            namespace.Stream.from_external = lambda stream: Stream(stream.cuda_stream, "protocol", log)
        namespace.ExternalStream = lambda ptr, device: Stream(ptr, f"pointer on {device}", log)
        namespace.get_current_stream = lambda: Stream(own, "own", log)
        namespace.Device = lambda number: log.append(f"device {number}") or nullcontext()
        cupy = types.ModuleType("cupy")
        cupy.cuda = namespace
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        monkeypatch.setitem(sys.modules, "cupy.cuda", namespace)
        stream = types.SimpleNamespace(cuda_stream=torchs, device_index=1)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream if device == 1 else None)
        return stream

    return log, use


ON_DEVICE_1 = types.SimpleNamespace(device=types.SimpleNamespace(id=1))
ALL = ["device 1", "event on 0", "7 waits for 0", "to 7", "launch", "from 7", "event on 7", "0 waits for 7"]


@pytest.mark.parametrize(("own", "torchs", "expected"), [(0, 7, ALL), (7, 7, ["device 1", "launch"]), (0, 0, ["device 1", "launch"])])
def test_a_kernel_is_launched_on_torchs_stream_of_the_arrays_device(standin, own, torchs, expected):
    log, use = standin
    use(own, torchs)
    with raw_kernel.Cuda().beside_torch(ON_DEVICE_1):
        log.append("launch")
    assert log == expected


@pytest.mark.parametrize(("torchs", "version", "made"), [(7, 14, "protocol"), (7, 13, "pointer on 1"), (0, 14, "null"), (0, 13, "null")])
def test_torchs_stream_in_every_cupy(standin, torchs, version, made):
    _, use = standin
    assert raw_kernel._in_cupy(use(0, torchs, version)).made == made


@pytest.mark.parametrize("enabled", [True, False])
def test_under_autocast_the_kernels_work_in_float32(swish, host, enabled):
    x, weights, slope = random(2, 3, dtype=torch.float32), random(3, 3, dtype=torch.float32), random(3, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        between = x @ weights
        y = swish(between, slope)
    assert between.dtype == (torch.bfloat16 if enabled else torch.float32)
    assert y.dtype == torch.float32
    y.sum().backward()
    assert weights.grad.dtype == torch.float32


# The trainings.

# What each comes to: the error of its parameters at the end, and how far the loss goes down.
RESULTS = {"sparse_solve": (0.03, 1e-5), "fft_filter": (0.02, 0.01), "ode": (1e-4, 0.05), "raw_kernel": (0.005, 1e-5)}
MODULES = {module.__name__.rpartition(".")[2]: module for module in (sparse_solve, fft_filter, ode, raw_kernel)}


def run(module, host, **words):
    """Train; the kernels on the CPU."""
    on = {"activation": module.wrapped(host), "device": "cpu"} if hasattr(module, "wrapped") else {}
    return module.train(**on, **words)


def reaches(done, name):
    error, ratio = RESULTS[name]
    return done.error <= error and done.after <= ratio * done.before


@pytest.mark.parametrize("name", RESULTS)
def test_a_training_reaches_its_result(name, host):
    done = run(MODULES[name], host)
    assert reaches(done, name), done
    assert done.error_before >= 5 * done.error
    assert done.steps > 0


def test_the_results_are_those_that_are_promised():
    promised = (Path(ode.__file__).parents[1] / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)\.py` .* below (\S+) % \|$", promised, re.MULTILINE))
    assert {name: float(percent) / 100 for name, percent in rows.items()} == {name: error for name, (error, _) in RESULTS.items()}


SLIPS = {
    "sparse_solve: the matrix for its adjoint": ('trans="H"', 'trans="N"'),
    "sparse_solve: a sign": ("-y[rows]", "y[rows]"),
    "sparse_solve: one right side only": ("products.sum(axis=1)", "products[:, 0]"),
    "fft_filter: no conjugate": ("np.conj(np.fft.rfft(h, size))", "np.fft.rfft(h, size)"),
    "fft_filter: a sign": ("correlate(grad, h) if for_x", "-correlate(grad, h) if for_x"),
    "fft_filter: nothing for the filter": ("correlate(grad, x) if for_h else None", "None"),
    "ode: a term": ("alpha - beta * lynxes", "alpha - beta * jax.lax.stop_gradient(lynxes)"),
    "ode: a sign": (
        "return jnp.concatenate([start[None], later])",
        "x = jnp.concatenate([start[None], later])\n    return 2 * jax.lax.stop_gradient(x) - x",
    ),
    "raw_kernel: a term": ("(s + b * x[i] * t)", "(b * x[i] * t)"),
    "raw_kernel: a sign": ("grad_slope[i] = grad[i]", "grad_slope[i] = -grad[i]"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_with_a_slip_in_the_gradient_it_does_not(slip, host):
    """The negative control. The loss at the beginning is as before: the function itself is untouched."""
    name = slip.partition(":")[0]
    right, wrong = SLIPS[slip]
    module = slipped(MODULES[name], right, wrong)
    np.testing.assert_allclose(run(module, host, steps=1).before, loss_at_first(name, host), rtol=1e-5)
    done = whatever_comes_of(module, host)
    assert done is None or not reaches(done, name), done


@functools.cache
def loss_at_first(name, host):
    return run(MODULES[name], host, steps=1).before


def whatever_comes_of(module, host):
    """Train; None if a line search that goes the wrong way went on until its step could not be written any more."""
    try:
        return run(module, host)
    except RuntimeError as error:
        if "value cannot be converted to type float without overflow" not in str(error):
            raise
        return None


def slipped(module, right, wrong):
    """Return a module made of the source with `wrong` in the place of `right`."""
    source = inspect.getsource(module)
    assert source.count(right) == 1, "a slip must change exactly one place"
    copy = types.ModuleType(module.__name__)
    exec(compile(source.replace(right, wrong), module.__file__, "exec"), copy.__dict__)
    return copy


# What the trainings have in common, and the programs.


def test_the_last_loss_is_that_of_the_result():
    x = torch.tensor(3.0, requires_grad=True)
    losses = minimise(torch.optim.SGD([x], lr=0.25), lambda: x**2, rounds=2)
    assert losses == [9.0, 2.25, 0.5625]
    assert x.grad == 3.0  # of the second step: the last loss asked for no gradient


def test_the_distance_is_relative_to_the_truth():
    assert distance(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 4.0])) == 0.75


def test_a_line_reports_what_a_training_came_to():
    line = _training.line(lambda: Trained(4.0, 0.5, 1.0, 0.125, 7))
    assert re.fullmatch(r" +7 +0\.00  4\.00e\+00 -> 5\.00e-01  100\.0000% -> 12\.5000%", line)


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="it is for machines without a CUDA device; tests/gpu/test_autograd.py is for the others"
)
def test_without_a_gpu_the_kernel_says_why_it_is_left_out():
    assert _training.line(raw_kernel.train) == f"left out: {raw_kernel.why_not()}"
    assert raw_kernel.why_not() == "torch sees no CUDA device"


@pytest.mark.parametrize("name", RESULTS)
def test_each_example_is_a_program(name, capsys):
    runpy.run_path(MODULES[name].__file__, run_name="__main__")
    title, head, line = capsys.readouterr().out.splitlines()
    assert title == MODULES[name].__doc__.splitlines()[0]
    assert head == _training.HEAD
    assert re.fullmatch(r"left out: torch sees no CUDA device| +\d+ +\d+\.\d\d  \S+ -> \S+ +\S+% -> +\S+%", line)


@pytest.mark.slow
def test_all_of_them_make_one_table(capsys):
    runpy.run_path(str(Path(ode.__file__).parent / "__main__.py"), run_name="__main__")
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.endswith(_training.HEAD)
    assert [line.split()[0] for line in lines] == list(RESULTS)
