"""Memory that is let go of while a stream works on it, on CUDA for real: not reused before that work is done. Run by ``make gpu``."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import interop
from interop import to_cupy, to_torch
from interop.backends.cupy import handoff as _cupy_handoff
from interop.backends.cupy import release as _cupy_release
from interop.backends.torch import release as _torch_release
from tests.gpu.work import COUNT, busy, drain, pointer, quiet, rehearsed, shows

pytestmark = pytest.mark.gpu


@pytest.fixture(name="cp")
def cupy_module():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    quiet()
    return cupy


class Maker:
    """How a library makes arrays on its current stream."""

    def __init__(self, library):
        self.library = library

    def full(self, value, count=COUNT):
        if self.library == "torch":
            return torch.full((count,), float(value), device="cuda")
        import cupy

        return cupy.full(count, value, "float32")

    def reserve(self):
        """Have the pool hold a larger block for the current stream, as taking memory from the driver may wait for the device.

        Both pools allocate the smallest that is large enough: a block of the very size before this one, if one is free.
        """
        self.full(-1, 4 * COUNT)


def test_memory_lives_as_long_as_the_result(cp):
    array = to_cupy(torch.full((COUNT,), 7.0, device="cuda"))
    noise = [torch.zeros(COUNT, device="cuda") for _ in range(8)]
    assert set(array.get().tolist()) == {7}
    tensor = to_torch(cp.full(COUNT, 7, dtype="float32"))
    noise += [cp.zeros(COUNT, dtype="float32") for _ in range(8)]
    assert set(tensor.cpu().tolist()) == {7}


@pytest.mark.parametrize(("owner", "hand_over"), [("torch", to_cupy), ("cupy", to_torch)])
def test_memory_of_another_stream_is_kept_also_where_both_work_on_one(cp, owner, hand_over):
    """What was allocated on the default stream, exported on another one that is current for both."""
    side, makers = torch.cuda.Stream(), [Maker("torch"), Maker("cupy")]

    def read(milliseconds):
        quiet()
        x = Maker(owner).full(1)
        for maker in makers:
            maker.reserve()
            with interop.cuda.stream(side):
                maker.reserve()
        torch.cuda.synchronize()
        address = pointer(x)
        with interop.cuda.stream(side):
            y = hand_over(x)
            delay = busy(milliseconds)
            copied = y + 0
            del x, y
        again = [maker.full(2) for maker in makers for _ in range(2)]
        reused = address in map(pointer, again)
        delay.must_run()
        torch.cuda.synchronize()
        return reused, float(copied[0])

    assert rehearsed(read) == (False, 1)


def torch_memory_reused(cp, milliseconds):
    """Hand a tensor to a busy stream of CuPy's and let go of it; return whether torch hands its memory out meanwhile, and what is read."""
    quiet()
    work, side = cp.cuda.Stream(non_blocking=True), Maker("torch")
    with work:
        Maker("cupy").reserve()
    tensor = side.full(1)
    side.reserve()
    torch.cuda.synchronize()
    address = pointer(tensor)
    with work:
        array = to_cupy(tensor)
        delay = busy(milliseconds, work)
        read = array.copy()
    del tensor, array
    again = [side.full(2) for _ in range(2)]
    reused = address in map(pointer, again)
    delay.must_run()
    torch.cuda.synchronize()
    return reused, set(read[:3].get().tolist())


def cupy_memory_reused(cp, milliseconds):
    """The same the other way."""
    quiet()
    work, side = torch.cuda.Stream(), Maker("cupy")
    with torch.cuda.stream(work):
        Maker("torch").reserve()
    array = side.full(1)
    side.reserve()
    torch.cuda.synchronize()
    address = pointer(array)
    with torch.cuda.stream(work):
        tensor = to_torch(array)
        delay = busy(milliseconds)
        read = tensor.clone()
    del tensor, array
    again = [side.full(2) for _ in range(2)]
    reused = address in map(pointer, again)
    delay.must_run()
    torch.cuda.synchronize()
    return reused, set(read[:3].tolist())


def test_torchs_memory_is_not_reused_before_cupys_work_is_done(cp):
    assert rehearsed(lambda delay: torch_memory_reused(cp, delay)) == (False, {1})


def test_cupys_memory_is_not_reused_before_torchs_work_is_done(cp):
    assert rehearsed(lambda delay: cupy_memory_reused(cp, delay)) == (False, {1})
    drain()
    assert not _cupy_release.deferred


def test_without_the_protection_torchs_memory_is_reused(cp, monkeypatch):
    """The negative control."""
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    assert shows(lambda: rehearsed(lambda delay: torch_memory_reused(cp, delay)) == (True, {2}))


def test_without_the_protection_cupys_memory_is_reused(cp, monkeypatch):
    """The negative control."""
    monkeypatch.setattr(_cupy_handoff, "defer_release", lambda x, _, asked: x.__dlpack__(stream=asked, max_version=(1, 0)))
    assert shows(lambda: rehearsed(lambda delay: cupy_memory_reused(cp, delay)) == (True, {2}))


def test_a_stream_that_is_named_in_a_capture_keeps_nothing_for_good(cp, monkeypatch):
    """Where torch does not remember streams: an event that was recorded inside is never done, and to ask it would end the capture."""
    monkeypatch.setattr(_torch_release, "_records", lambda: False)
    x = torch.ones(1000, device="cuda")
    capturing, named = torch.cuda.Stream(), torch.cuda.Stream()
    to_torch(x, copy=True, stream=named)
    quiet()
    assert len(_torch_release.deferred) == 0
    with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=capturing):
        to_torch(x, copy=True, stream=named)
        to_torch(x, copy=True, stream=named)
        _torch_release.deferred.release_completed()
        capturing.wait_stream(named)
        assert len(_torch_release.deferred) == 2
    to_torch(x, copy=True, stream=named)
    _torch_release.deferred.release_completed()  # only now it is known how far the stream is
    torch.cuda.synchronize()
    _torch_release.deferred.release_completed()
    assert len(_torch_release.deferred) == 0


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
        with cupy.cuda.Stream(non_blocking=True):  # destroyed after the block, if there is no other reference
            array = interop.to_cupy(tensor)
            read = array.copy()
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


LETTING_GO = {
    "x.data = y": lambda x: setattr(x, "data", torch.zeros(1, device="cuda")),
    "x.set_(y)": lambda x: x.set_(torch.zeros(1, device="cuda")),
}


def source(how):
    """Return a tensor, and how its owner lets go of the memory while others hold the tensor."""
    if how != "module.half()":
        x = torch.full((COUNT,), 3.0, device="cuda")
        return x, lambda: LETTING_GO[how](x)
    module = torch.nn.Linear(1, COUNT, bias=False, device="cuda").requires_grad_(False)
    return module.weight.fill_(3), module.half


def taken(maker, count=3):
    """Return where the next arrays of that size are, which are filled with -1."""
    blocks = [maker.full(-1) for _ in range(count)]
    return {pointer(one) for one in blocks}


@pytest.mark.parametrize("apart", [False, True], ids=["on one stream", "on two streams"])
@pytest.mark.parametrize("how", [*LETTING_GO, "module.half()"])
def test_cupy_keeps_memory_that_its_source_lets_go_of(cp, how, apart):
    """The tensor has other memory then, and the array still that from before."""
    x, let_go = source(how)
    with cp.cuda.Stream(non_blocking=True) if apart else cp.cuda.Stream.null as stream:
        array = to_cupy(x)
        address = pointer(x)
        assert address == array.data.ptr
        let_go()
        torch.cuda.synchronize()
        assert pointer(x) != address
        assert address not in taken(Maker("torch"))
        torch.cuda.synchronize()
        assert set(array.get().ravel().tolist()) == {3}
        del array
        drain()
        # The negative control: now it is free, and the next one that asks gets it.
        assert address in taken(Maker("torch"), 6)
        del stream


@pytest.mark.parametrize("how", [*LETTING_GO, "module.half()"])
def test_work_under_way_reads_memory_that_both_have_let_go_of(cp, how):
    """The source first, and then CuPy's array, while CuPy's stream has not read it yet."""
    side = cp.cuda.Stream(non_blocking=True)

    def read(milliseconds):
        quiet()
        x, let_go = source(how)
        Maker("torch").reserve()
        with side:
            Maker("cupy").reserve()
        torch.cuda.synchronize()
        address = pointer(x)
        with side:
            array = to_cupy(x)
            delay = busy(milliseconds, side)
            copied = array.copy()
        let_go()
        del array
        reused = address in taken(Maker("torch"))
        delay.must_run()
        torch.cuda.synchronize()
        return reused, set(copied.ravel()[:3].get().tolist())

    assert rehearsed(read) == (False, {3})


@pytest.mark.parametrize("apart", [False, True], ids=["on one stream", "on two streams"])
@pytest.mark.parametrize("how", LETTING_GO)
def test_a_view_keeps_cupys_memory_that_its_tensor_lets_go_of(cp, how, apart):
    """The other way: an array of CuPy's cannot be given other memory, only be dropped. The tensor that was made of it can."""
    array = cp.full(COUNT, 3, "float32")
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream() if apart else torch.cuda.default_stream()):
        tensor = to_torch(array)
        view, address = tensor[:], pointer(array)
        del array
        LETTING_GO[how](tensor)
    assert pointer(tensor) != address == pointer(view)
    assert address not in taken(Maker("cupy"))
    torch.cuda.synchronize()
    assert set(view.cpu().tolist()) == {3}
    del view
    drain()
    assert address in taken(Maker("cupy"), 6)
