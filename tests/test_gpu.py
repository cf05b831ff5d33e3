"""CUDA for real: torch and CuPy, both directions, streams, devices, crossings. Run by ``make gpu``."""

import contextlib
import subprocess
import sys

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
    StreamError,
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
    assert tensor.to(torch.complex128).tolist() == GRID.astype(getattr(ml_dtypes, dtype, dtype)).astype("complex128").tolist()


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


def test_memory_lives_as_long_as_the_result(cp):
    array = to_cupy(torch.full((1 << 20,), 7.0, device="cuda"))
    noise = [torch.zeros(1 << 20, device="cuda") for _ in range(8)]
    assert float(array.sum()) == 7.0 * (1 << 20)
    tensor = to_torch(cp.full(1 << 20, 7.0, dtype="float32"))
    noise += [cp.zeros(1 << 20, dtype="float32") for _ in range(8)]
    assert float(tensor.sum()) == 7.0 * (1 << 20)


def test_the_current_device_and_stream_are_restored(cp):
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        to_cupy(on_gpu())
        to_torch(cp.asarray(GRID))
        to_numpy(on_gpu(), transfer="allow")
        assert torch.cuda.current_stream() == stream
    before = cp.cuda.get_current_stream().ptr
    to_cupy(GRID, device="cuda:0", stream=torch.cuda.Stream())
    assert cp.cuda.get_current_stream().ptr == before
    assert torch.cuda.current_device() == cp.cuda.runtime.getDevice() == 0


def test_a_stream_of_cupys_that_is_used_and_not_entered_stays_current(cp):
    """CuPy's own `with stream:` forgets it (cupy#8377)."""
    used, other = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)
    used.use()
    try:
        to_cupy(on_gpu(), stream=other)
        to_numpy(cp.asarray(GRID), transfer="allow", stream=other)
        with interop.cuda.stream(other):
            pass
        assert cp.cuda.get_current_stream().ptr == used.ptr
    finally:
        cp.cuda.Stream.null.use()


def delayed(make):
    """Return what `make` produces, behind a kernel that keeps the stream busy for a while."""
    torch.cuda._sleep(200_000_000)
    return make()


def late(stream):
    """Return a tensor of zeros on a stream, the current one, that are threes after a while."""
    tensor = torch.zeros(1 << 20, device="cuda")
    stream.synchronize()
    return delayed(lambda: tensor.fill_(3))


class OfCudaCore:
    """A stream in the words of cuda.core's protocol, and no others."""

    def __init__(self, pointer):
        self.pointer = pointer

    def __cuda_stream__(self):
        return 0, self.pointer


@pytest.mark.parametrize("given", ["none", "int", "torch", "cupy", "cuda.core"])
def test_the_consumers_stream_waits_for_the_producer(cp, given):
    producer, consumer = torch.cuda.Stream(), cp.cuda.Stream(non_blocking=True)
    stream = {
        "none": None,
        "int": consumer.ptr,
        "torch": torch.cuda.ExternalStream(consumer.ptr),
        "cupy": consumer,
        "cuda.core": OfCudaCore(consumer.ptr),
    }[given]
    with torch.cuda.stream(producer):
        tensor = late(producer)
        with consumer:
            array = to_cupy(tensor, stream=stream)
            copied = array.copy()
            consumer.synchronize()
    assert copied.get().tolist()[:3] == [3, 3, 3]
    tensor = array = None  # before the stream


def test_without_the_wait_the_values_are_wrong(cp):
    """The negative control: the same with ``stream=-1``, which asks for no synchronisation."""
    producer, consumer = torch.cuda.Stream(), cp.cuda.Stream(non_blocking=True)
    with torch.cuda.stream(producer):
        tensor = late(producer)
        with consumer:
            copied = to_cupy(tensor, stream=-1).copy()
            consumer.synchronize()
    assert copied.get().tolist()[:3] == [0, 0, 0]
    torch.cuda.synchronize()


def test_torch_waits_for_cupy(cp):
    producer = cp.cuda.Stream(non_blocking=True)
    array = cp.zeros(1 << 20, dtype="float32")
    cp.cuda.Device().synchronize()
    with producer:
        with torch.cuda.stream(torch.cuda.ExternalStream(producer.ptr)):
            torch.cuda._sleep(200_000_000)
        array.fill(3)
        with torch.cuda.stream(torch.cuda.Stream()):
            copied = to_torch(array).clone()
            torch.cuda.current_stream().synchronize()
    assert copied[:3].tolist() == [3, 3, 3]


@pytest.mark.parametrize("number", [1, 2], ids=["legacy", "per thread"])
def test_the_default_streams_wait_too(cp, number):
    consumer = {1: cp.cuda.Stream.null, 2: cp.cuda.Stream.ptds}[number]
    producer = torch.cuda.Stream()
    with torch.cuda.stream(producer):
        tensor = late(producer)
        with consumer:
            copied = to_cupy(tensor, stream=number).copy()
            consumer.synchronize()
    assert copied.get().tolist()[:3] == [3, 3, 3]


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


def test_a_copy_to_another_device_comes_behind_the_work_there(cp):
    if torch.cuda.device_count() < 2:
        pytest.skip("it takes two CUDA devices")
    array = cp.zeros(1 << 20, dtype="float32")
    torch.cuda.synchronize()
    with cp.cuda.Stream(non_blocking=True) as stream:
        with torch.cuda.stream(torch.cuda.ExternalStream(stream.ptr)):
            torch.cuda._sleep(200_000_000)
        array.fill(3)
        moved = to_cupy(array, device="cuda:1")
    with cp.cuda.Device(1):
        assert moved.get()[:3].tolist() == [3, 3, 3]


# The short cut.


def test_the_short_cut_is_taken_and_waits_where_streams_differ(cp):
    from interop.quick import table

    tensor, array = on_gpu(), cp.asarray(GRID)
    to_cupy(tensor), to_torch(array)
    assert table("cupy")[torch.Tensor](tensor).data.ptr == tensor.data_ptr()
    assert table("torch")[cp.ndarray](array).data_ptr() == array.data.ptr
    torchs, cupys = torch.cuda.Stream(), cp.cuda.Stream(non_blocking=True)
    with torch.cuda.stream(torchs):
        tensor = late(torchs)
        with cupys:
            assert table("cupy")[torch.Tensor](tensor).copy().get()[:3].tolist() == [3, 3, 3]
            array = cp.zeros(1 << 20, dtype="float32")
            cupys.synchronize()
            with torch.cuda.stream(torch.cuda.ExternalStream(cupys.ptr)):
                torch.cuda._sleep(200_000_000)
            array.fill(4)
            assert table("torch")[cp.ndarray](array).clone()[:3].tolist() == [4, 4, 4]


def test_the_short_cut_gives_what_the_long_way_gives(cp):
    for dtype in [*DTYPES, "bfloat16"]:
        tensor = on_gpu(dtype)
        for x in (tensor, tensor.T, tensor[:, ::2], tensor[0, 0], tensor[:0]):
            short, long = to_cupy(x), to_cupy(x, copy=None, policy=interop.DEFAULT)
            assert (short.shape, short.dtype, short.strides, short.data.ptr) == (long.shape, long.dtype, long.strides, long.data.ptr)
            back, again = to_torch(long), to_torch(long, policy=interop.DEFAULT)
            assert (back.shape, back.dtype, back.stride(), back.data_ptr()) == (again.shape, again.dtype, again.stride(), again.data_ptr())


def synchronisations(work):
    """Return how often something waited for the device meanwhile; the profiler itself does too."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as trace:
        work()
    return sum("Synchronize" in event.name for event in trace.events())


def test_nothing_is_synchronised_on_the_way(cp):
    tensor, array = on_gpu(), cp.asarray(GRID)
    side = cp.cuda.Stream(non_blocking=True)  # longer than the tensor: torch looks at the stream when it frees the memory
    synchronisations(lambda: None)  # the first profile of a process has more to do
    nothing = synchronisations(lambda: None)
    for handoff in (lambda: to_cupy(tensor), lambda: to_torch(array), lambda: to_cupy(tensor, stream=side)):
        handoff()
        assert synchronisations(handoff) == nothing
    assert synchronisations(side.synchronize) > nothing  # the negative control
    tensor = None


# One stream for both.


@pytest.mark.parametrize("given", ["none", "int", "torch", "cupy"])
def test_both_libraries_work_on_one_stream(cp, given):
    from interop.cuda import stream

    own, other = torch.cuda.Stream(), cp.cuda.Stream(non_blocking=True)
    before = torch.cuda.current_stream().cuda_stream, cp.cuda.get_current_stream().ptr
    with torch.cuda.stream(own):
        with stream({"none": None, "int": own.cuda_stream, "torch": own, "cupy": other}[given]) as found:
            assert torch.cuda.current_stream().cuda_stream == cp.cuda.get_current_stream().ptr == found.pointer
            assert found.pointer == (other.ptr if given == "cupy" else own.cuda_stream)
            assert found.libraries == ("torch", "cupy")
            values = delayed(lambda: torch.full((1 << 20,), 3.0, device="cuda"))
            copied = to_cupy(values).copy()  # nothing waits: it is the same stream
        assert torch.cuda.current_stream().cuda_stream == own.cuda_stream
    assert (torch.cuda.current_stream().cuda_stream, cp.cuda.get_current_stream().ptr) == before
    torch.cuda.synchronize()
    assert copied[:3].get().tolist() == [3, 3, 3]


def test_the_streams_are_restored_after_an_error(cp):
    from interop.cuda import stream

    before = torch.cuda.current_stream().cuda_stream, cp.cuda.get_current_stream().ptr
    with pytest.raises(ZeroDivisionError), stream(torch.cuda.Stream()):
        raise ZeroDivisionError
    assert (torch.cuda.current_stream().cuda_stream, cp.cuda.get_current_stream().ptr) == before


# Memory that is let go of while another stream works on it.

COUNT = 1 << 22


def test_memory_of_another_stream_is_kept_also_where_both_work_on_one(cp):
    """What was allocated on the default stream, handed over on another one that is current for both."""
    from interop.cuda import stream

    for make, hand_over in ((lambda: torch.ones(COUNT, device="cuda"), to_cupy), (lambda: cp.ones(COUNT, dtype="float32"), to_torch)):
        x = make()
        torch.cuda.synchronize()
        side = torch.cuda.Stream()
        with stream(side):
            y = hand_over(x)
            y + 0  # compiled before
            side.synchronize()
            torch.cuda._sleep(1_000_000_000)
            read = y + 0
            pointer = x.data_ptr() if isinstance(x, torch.Tensor) else x.data.ptr
            del x, y
            assert not side.query(), "the delay was too short to show anything"
        again = torch.full((COUNT,), 2.0, device="cuda"), cp.full(COUNT, 2, dtype="float32")
        assert pointer not in {again[0].data_ptr(), again[1].data.ptr}
        torch.cuda.synchronize()
        assert float(read[0]) == 1


def torch_memory_reused(cp):
    """Hand a tensor to a busy stream of CuPy's and let go of it; return whether torch hands its memory out meanwhile, and what is read."""
    busy = cp.cuda.Stream(non_blocking=True)
    with busy:
        cp.zeros(COUNT, dtype="float32").copy()  # compiled, and with memory for the copy
    tensor = torch.full((COUNT,), 1.0, device="cuda")
    torch.cuda.synchronize()
    pointer = tensor.data_ptr()
    with busy:
        array = to_cupy(tensor)
        with torch.cuda.stream(torch.cuda.ExternalStream(busy.ptr)):
            torch.cuda._sleep(1_000_000_000)
        read = array.copy()
    del tensor, array
    again = torch.full((COUNT,), 2.0, device="cuda")
    reused = again.data_ptr() == pointer
    torch.cuda.synchronize()
    return reused, set(read[:3].get().tolist())


def cupy_memory_reused(cp):
    """The same the other way."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.zeros(COUNT, device="cuda").clone()  # with memory for the copy
    array = cp.full(COUNT, 1, dtype="float32")
    cp.cuda.Device().synchronize()
    pointer = array.data.ptr
    with torch.cuda.stream(side):
        tensor = to_torch(array)
        torch.cuda._sleep(1_000_000_000)
        read = tensor.clone()
    del tensor, array
    again = cp.full(COUNT, 2, dtype="float32")
    reused = again.data.ptr == pointer
    torch.cuda.synchronize()
    return reused, set(read[:3].tolist())


def test_torchs_memory_is_not_handed_out_before_cupys_work_is_done(cp):
    assert torch_memory_reused(cp) == (False, {1.0})


def test_cupys_memory_is_not_handed_out_before_torchs_work_is_done(cp):
    from interop.backends import _cupy_lent

    assert cupy_memory_reused(cp) == (False, {1.0})
    torch.cuda.synchronize()
    _cupy_lent.settle()
    assert not _cupy_lent._waiting


def test_a_stream_that_is_named_in_a_capture_keeps_nothing_for_good(monkeypatch):
    """Where torch does not remember streams: an event that was recorded inside is never done, and to ask it would end the capture."""
    from interop.backends import _torch_lent

    monkeypatch.setattr(_torch_lent, "_records", lambda: False)
    x = torch.ones(1000, device="cuda")
    capturing, named = torch.cuda.Stream(), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=capturing):
        to_torch(x, copy=True, stream=named)
        to_torch(x, copy=True, stream=named)
        _torch_lent.under_way.settle()
        capturing.wait_stream(named)
        assert len(_torch_lent.under_way) == 2
    to_torch(x, copy=True, stream=named)
    _torch_lent.under_way.settle()  # only now it is known how far the stream is
    torch.cuda.synchronize()
    _torch_lent.under_way.settle()
    assert len(_torch_lent.under_way) == 0


@pytest.mark.filterwarnings("ignore:.*(CSR tensor support|torch.sparse)")
@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr"])
def test_a_stream_may_be_named_for_what_torch_cannot_be_told_of(layout):
    x, named = getattr(torch.eye(3), layout)().cuda(), torch.cuda.Stream()
    assert to_torch(x, stream=named) is x
    copied = to_torch(x, stream=named, copy=True)
    named.synchronize()
    assert copied.cpu().to_dense().tolist() == np.eye(3).tolist()
    assert to_torch(x, stream=named, device="cpu").to_dense().tolist() == np.eye(3).tolist()


DROPPED = """
import cupy, gc, torch
import interop

for keep_tensor in (False, True):
    for _ in range(20):
        tensor = torch.ones(1 << 20, device="cuda")
        torch.cuda.synchronize()
        with cupy.cuda.Stream(non_blocking=True):  # destroyed after the block, if nobody holds it
            array = interop.to_cupy(tensor)
            read = array + 0
        if keep_tensor:
            del array
            gc.collect()
            del tensor
        else:
            del tensor
            gc.collect()
            del array
        torch.full((1 << 20,), 2.0, device="cuda")
        torch.cuda.synchronize()
        assert float(read[0]) == 1
    array = cupy.ones(1 << 20)
    with cupy.cuda.Stream(non_blocking=True) as stream, interop.cuda.stream(stream):
        tensor = interop.to_torch(array)
    del array, stream
    gc.collect()
    del tensor
torch.cuda.synchronize()
print("well")
"""


def test_a_stream_of_cupys_may_be_dropped_before_the_memory_that_was_lent_to_it(cp):
    """In a process of its own: torch asks the stream in a finaliser, where an error of CUDA's ends the process."""
    ended = subprocess.run([sys.executable, "-c", DROPPED], check=False, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout.strip()) == (0, "well"), ended.stderr


def test_without_the_protection_torchs_memory_is_handed_out(cp, monkeypatch):
    """The negative control."""
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    torch.cuda.empty_cache()
    assert torch_memory_reused(cp) == (True, {2.0})


def test_without_the_protection_cupys_memory_is_handed_out(cp, monkeypatch):
    """The negative control."""
    from interop.backends import _cupy_handoff

    monkeypatch.setattr(_cupy_handoff, "lent", lambda x, _, asked: x.__dlpack__(stream=asked, max_version=(1, 0)))
    cp.get_default_memory_pool().free_all_blocks()
    assert cupy_memory_reused(cp) == (True, {2.0})


@pytest.mark.parametrize("stream", [0, -2, "one"])
def test_streams_that_are_none(cp, stream):
    with pytest.raises(StreamError):
        to_cupy(on_gpu(), stream=stream)


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
