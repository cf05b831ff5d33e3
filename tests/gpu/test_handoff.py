"""CUDA for real: torch and CuPy, both directions, devices, crossings. Run by ``make gpu``."""

import contextlib

import ml_dtypes
import numpy as np
import pytest
import torch

import interop
from interop import (
    CopyError,
    DeviceUnavailableError,
    DTypeError,
    GradError,
    TransferError,
    convert,
    describe,
    explain,
    shares_memory,
    to_cupy,
    to_numpy,
    to_torch,
)

pytestmark = pytest.mark.gpu

GRID = np.arange(6.0).reshape(2, 3)
DTYPES = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
DTYPES += ["float16", "float32", "float64", "complex64", "complex128"]


@pytest.fixture(name="cp")
def cupy_module():
    return pytest.importorskip("cupy", reason="CuPy is not installed")


def on_gpu(dtype="float32"):
    return torch.from_numpy(GRID).to(getattr(torch, dtype)).to("cuda")


@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16"])
def test_torch_to_cupy_shares(cp, dtype):
    tensor = on_gpu(dtype)
    array = to_cupy(tensor)
    assert isinstance(array, cp.ndarray)
    assert array.data.ptr == tensor.data_ptr()
    assert array.dtype.name == dtype
    assert shares_memory(array, tensor)
    expected = GRID.astype(getattr(ml_dtypes, dtype, dtype)).astype("complex128")
    assert cp.asnumpy(array).astype("complex128").tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16"])
def test_cupy_to_torch_shares(cp, dtype):
    array = cp.asarray(GRID).astype(getattr(ml_dtypes, dtype, dtype))
    tensor = to_torch(array)
    assert tensor.device.type == "cuda"
    assert tensor.dtype is getattr(torch, dtype)
    assert tensor.data_ptr() == array.data.ptr
    # On the host: CUDA's copy kernels may lack a cast from the unsigned dtypes.
    assert tensor.cpu().to(torch.complex128).tolist() == GRID.astype(getattr(ml_dtypes, dtype, dtype)).astype("complex128").tolist()


@pytest.mark.parametrize("view", ["x.T", "x[:, ::2]", "x[1:, 1:]", "x[0, 0]", "x[:0]", "x[None]"])
def test_layouts_are_shared(cp, view):
    tensor = eval(view, {"x": on_gpu()})
    array = to_cupy(tensor)
    assert cp.asnumpy(array).tolist() == eval(view, {"x": GRID}).tolist()
    back = to_torch(array)
    assert tuple(back.shape) == tuple(tensor.shape)
    assert not tensor.numel() or back.data_ptr() == tensor.data_ptr()


def test_negative_strides_are_copied_for_torch(cp):
    array = cp.asarray(GRID)[::-1]
    tensor = to_torch(array)
    assert tensor.tolist() == GRID[::-1].tolist()
    assert not shares_memory(tensor, array)
    with pytest.raises(CopyError, match="negative strides"):
        to_torch(array, copy=False)


def test_pending_operations_are_carried_out(cp):
    z = torch.tensor([1 + 2j, 3 - 1j], device="cuda")
    assert to_cupy(z.conj()).tolist() == [1 - 2j, 3 + 1j]
    assert to_cupy(z.conj().imag).tolist() == [-2, 1]
    with pytest.raises(CopyError):
        to_cupy(z.conj(), copy=False)


def test_a_tracked_tensor_is_refused_as_on_the_cpu(cp):
    parameter = torch.nn.Parameter(on_gpu())
    for scope in (contextlib.nullcontext, torch.no_grad, torch.inference_mode):
        with scope(), pytest.raises(GradError):
            to_cupy(parameter)
    assert to_cupy(parameter, grad="detach").data.ptr == parameter.data_ptr()


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")  # torch's own, on the first one
@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "complex32"])
def test_dtypes_that_cupy_lacks(cp, dtype):
    with pytest.raises(DTypeError) as caught:
        to_cupy(on_gpu(dtype))
    array = to_cupy(on_gpu(dtype), **caught.value.permissions)
    assert cp.asnumpy(array).astype("complex128").tolist() == GRID.tolist()


def test_crossings_to_the_host_need_permission(cp):
    for source in (on_gpu(), cp.asarray(GRID)):
        with pytest.raises(TransferError) as caught:
            to_numpy(source)
        assert caught.value.permissions == {"transfer": "allow"}
        assert to_numpy(source, **caught.value.permissions).tolist() == GRID.tolist()
        assert to_numpy(source, device="cpu").tolist() == GRID.tolist()
        assert to_numpy(source, policy="coerce").flags.writeable


def test_crossings_to_the_device_need_permission(cp):
    with pytest.raises(TransferError):
        to_cupy(GRID)
    assert to_cupy(GRID, transfer="allow").get().tolist() == GRID.tolist()
    assert to_cupy(GRID[::-1, ::-1], device="cuda:0").get().tolist() == GRID[::-1, ::-1].tolist()
    assert to_torch(GRID, device="cuda").device == torch.device("cuda:0")
    assert to_cupy(torch.from_numpy(GRID), device="cuda").get().tolist() == GRID.tolist()
    assert to_torch(cp.asarray(GRID), device="cpu").device.type == "cpu"
    read_only = GRID.copy()
    read_only.flags.writeable = False
    assert to_torch(read_only, device="cuda").tolist() == GRID.tolist()


def test_like_takes_the_device_and_not_the_permission(cp):
    with pytest.raises(TransferError):
        convert(GRID, like=on_gpu())
    assert convert(GRID, like=on_gpu(), transfer="allow").device.type == "cuda"
    assert isinstance(convert(on_gpu(), like=cp.ones(1)), cp.ndarray)


def test_native_device_objects(cp):
    assert to_torch(GRID, device=torch.device("cuda", 0)).device.index == 0
    assert to_cupy(GRID, device=cp.cuda.Device(0)).device.id == 0
    with pytest.raises(DeviceUnavailableError):
        to_torch(GRID, device="cuda:99")


def test_within_one_library(cp):
    tensor, array = on_gpu(), cp.asarray(GRID)
    assert to_torch(tensor) is tensor
    assert to_cupy(array) is array
    leaf = on_gpu().requires_grad_()
    to_torch(leaf, device="cpu").sum().backward()
    assert leaf.grad is not None
    assert not shares_memory(to_cupy(array, copy=True), array)
    assert to_cupy(array, dtype="float32").dtype == "float32"


def test_a_handoff_inside_of_a_capture_is_part_of_the_graph(cp):
    """On torch's stream, which is CuPy's too there; replayed with other values."""
    from interop.cuda import stream

    x = torch.ones(1 << 10, device="cuda")
    out = torch.empty_like(x)
    cp.multiply(to_cupy(x), 2, out=to_cupy(out))  # compiled before
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), stream():
        cp.multiply(to_cupy(x), 2, out=to_cupy(out))
    x.fill_(5)
    graph.replay()
    torch.cuda.synchronize()
    assert out[:3].tolist() == [10, 10, 10]


def test_on_a_device_that_is_not_current(cp):
    if torch.cuda.device_count() < 2:
        pytest.skip("it takes two CUDA devices")
    before = torch.cuda.current_device(), cp.cuda.runtime.getDevice()
    x = torch.full((1 << 20,), 3.0, device="cuda:1")
    array = to_cupy(x)
    assert array.device.id == 1
    back = to_torch(array)
    assert back.device.index == 1
    assert back.data_ptr() == x.data_ptr()
    moved = to_torch(array, device="cuda:0")
    assert moved.device.index == 0
    assert moved[:3].tolist() == [3, 3, 3]
    assert (torch.cuda.current_device(), cp.cuda.runtime.getDevice()) == before


def test_the_fast_path_gives_what_the_general_way_gives(cp):
    for dtype in [*DTYPES, "bfloat16"]:
        tensor = on_gpu(dtype)
        for x in (tensor, tensor.T, tensor[:, ::2], tensor[0, 0], tensor[:0]):
            short, long = to_cupy(x), to_cupy(x, copy=None, policy=interop.DEFAULT)
            assert (short.shape, short.dtype, short.strides, short.data.ptr) == (long.shape, long.dtype, long.strides, long.data.ptr)
            back, again = to_torch(long), to_torch(long, policy=interop.DEFAULT)
            assert (back.shape, back.dtype, back.stride(), back.data_ptr()) == (again.shape, again.dtype, again.stride(), again.data_ptr())


def test_descriptions_of_device_arrays(cp):
    described = describe(on_gpu().T)
    assert str(described.device) == "cuda:0"
    assert described.strides == (1, 3)
    assert describe(cp.asarray(GRID).T).strides == (1, 3)
    assert describe(torch.ones(2).pin_memory()).pinned
    assert explain(on_gpu(), "cupy").shares_memory


def test_pinned_memory_is_host_memory(cp):
    pinned = torch.from_numpy(GRID).pin_memory()
    assert shares_memory(to_numpy(pinned), pinned)
    assert to_cupy(pinned, transfer="allow").get().tolist() == GRID.tolist()


def test_managed_memory_is_device_memory(cp):
    previous = cp.cuda.get_allocator()
    cp.cuda.set_allocator(cp.cuda.MemoryPool(cp.cuda.malloc_managed).malloc)
    try:
        array = cp.asarray(GRID)
    finally:
        cp.cuda.set_allocator(previous)
    assert describe(array).memory == "managed"
    tensor = to_torch(array)
    assert tensor.data_ptr() == array.data.ptr
    assert tensor.tolist() == GRID.tolist()


@pytest.mark.parametrize("shape", [(), (0, 3), (1, 1)])
def test_no_axes_and_no_elements_cross(cp, shape):
    array = np.ones(shape)
    assert to_cupy(array, device="cuda").shape == shape
    assert to_numpy(to_cupy(array, device="cuda"), device="cpu").shape == shape
    assert tuple(to_torch(to_cupy(array, device="cuda")).shape) == shape


def test_two_arrays_on_the_device_that_interleave(cp):
    array = cp.asarray(GRID)
    assert not shares_memory(array[:, 0], to_torch(array)[:, 1])
    assert shares_memory(array[:, 1], to_torch(array)[0])


def test_the_plan_says_what_happens(cp):
    sources = [on_gpu(), on_gpu().T, on_gpu("bfloat16"), cp.asarray(GRID), cp.asarray(GRID)[::-1], torch.from_numpy(GRID), GRID]
    for source in sources:
        for target in ("numpy", "torch", "cupy"):
            plan = explain(source, target, policy="coerce")
            result = convert(source, target, policy="coerce")
            assert describe(result).device == plan.device
            assert describe(result).dtype == plan.dtype
            assert shares_memory(source, result) == plan.shares_memory, plan


def test_no_gradient_crosses_unasked_in_any_direction():
    parameter = torch.nn.Parameter(on_gpu())
    with pytest.raises(GradError) as caught:
        to_numpy(parameter)
    assert caught.value.permissions == {"grad": "detach", "transfer": "allow"}
    assert interop.to_numpy(parameter, **caught.value.permissions).tolist() == GRID.tolist()
