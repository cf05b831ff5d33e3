"""Transfers that nobody waits for: the logic, with libraries that note what they are asked; on CUDA it is tested in tests/gpu/test_transfer.py."""

import contextlib
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import interop
from interop import Description, Device, GradError, Policy, Transfer, TransferError, UnsupportedTypeError, to_numpy
from interop._engine.execute import begin
from interop._model.decide import decide
from interop._model.plan import Request
from interop.backends.base import PendingCopy
from interop.backends.cuda.deferred_release import DeferredRelease
from interop.backends.shortcut import DETACH, PLAIN, TO_HOST
from interop.backends.torch import backend as torch_file
from interop.backends.torch import copies as _torch_copies
from interop.backends.torch import kinds
from tests.engine.test_recording import CUDA0, Recording

CPU = Device("cpu")

# The order of things.


class Leaving(Recording):
    """Its copies to the host arrive when the test says so."""

    there = False

    def start_copy_to_host(self, x, stream, origin):
        return PendingCopy(self.note("start_copy_to_host", stream), lambda: self.there, lambda: self.note("wait"))


def begun(policy, *, source_on=CUDA0, target_devices=("cpu",), device=None, dtype=None, **fields):
    log = []
    a = Leaving("a", {"cpu", "cuda"}, log)
    b = Recording("b", set(target_devices), log)
    described = Description(backend="a", shape=(2,), strides=(1,), nbytes=8, device=source_on, **fields)
    request = Request(a.capabilities, b.capabilities, policy, CPU, device, device_named=device is not None, dtype=dtype)
    plan = decide(described, request)
    assert plan.ok, plan
    is_ready, finish = begin(plan, "x", a, b, 7)
    return SimpleNamespace(log=log, a=a, is_ready=is_ready, finish=finish)


def test_the_copy_begins_at_once_and_is_read_when_it_has_ended():
    one = begun(Policy(transfer="allow"))
    assert one.log == [("a", "enter"), ("a", "start_copy_to_host", 7), ("a", "leave")]
    assert not one.is_ready()
    one.a.there = True
    assert one.is_ready()
    del one.log[:]
    assert one.finish() == "b:from_host"
    assert [verb for _, verb, *_ in one.log] == ["wait", "enter", "enter", "host_view", "from_host", "leave", "leave"]


def test_what_comes_before_it_is_done_before_and_what_comes_after_after():
    one = begun(Policy(transfer="allow", grad="detach", copy=True), requires_grad=True, dtype="float64")
    assert [verb for _, verb, *_ in one.log] == ["enter", "detach", "cast", "start_copy_to_host", "leave"]
    del one.log[:]
    one.finish()
    assert [verb for _, verb, *_ in one.log] == ["wait", "enter", "enter", "host_view", "from_host", "leave", "leave"]


@pytest.mark.parametrize(
    ("source_on", "devices", "device"), [(CPU, {"cpu"}, None), (CUDA0, {"cuda", "cpu"}, None), (CPU, {"cuda", "cpu"}, CUDA0)]
)
def test_what_does_not_leave_for_the_host_is_done_at_once(source_on, devices, device):
    one = begun(Policy(), source_on=source_on, target_devices=devices, device=device)
    assert one.is_ready()
    before = len(one.log)
    assert before > 3
    result = one.finish()
    assert result.startswith("b:")
    assert len(one.log) == before


# The object.


def transfer(finish=lambda: 5, is_ready=lambda: False):
    return Transfer(interop.explain(np.ones(2), "torch"), is_ready, finish)


def test_the_result_is_made_once_also_for_many_threads():
    made = []
    gate = threading.Event()

    def finish():
        gate.wait(10)
        made.append(object())
        return made[-1]

    one = transfer(finish)
    assert not one.done()
    assert "under way" in repr(one)
    found = []
    threads = [threading.Thread(target=lambda: found.append(one.result())) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    assert found == made * 4
    assert len(made) == 1
    assert one.done()
    assert repr(one) == "<Transfer of numpy.ndarray float64[2] on cpu to torch, done>"


def test_the_result_is_one_also_for_who_asks_in_the_middle_of_it():
    """A signal's handler, or a finaliser, in the same thread."""
    found = []

    def finish():
        if not found:
            found.append(None)  # once
            found[0] = one.result()
        return object()

    one = transfer(finish)
    assert one.result() is found[0]
    assert one.result() is found[0]


def test_an_error_is_raised_to_everybody_who_asks():
    def finish():
        raise TransferError("lost on the way")

    one = transfer(finish)
    for _ in range(2):
        with pytest.raises(TransferError, match="lost on the way"):
            one.result()
    assert not one.done()


def test_the_result_keeps_nothing_of_the_transfer():
    class Source:
        """Can be referred to weakly."""

    import weakref

    source = Source()
    left = weakref.ref(source)

    def make(held):
        return transfer(lambda: (held, 5)[1], lambda: held is None)

    one = make(source)
    del source
    assert left() is not None
    assert one.result() == 5
    assert left() is None


@pytest.mark.parametrize(
    "take",
    [np.asarray, np.array, np.from_dlpack, torch.from_dlpack, np.sum, to_numpy, interop.to_torch],
    ids=["asarray", "array", "from_dlpack", "torch.from_dlpack", "sum", "to_numpy", "to_torch"],
)
def test_it_is_taken_for_an_array_by_nobody(take):
    one = to_numpy(torch.ones(3), blocking=False)
    with pytest.raises((UnsupportedTypeError, interop.LayoutError), match=r"Write transfer\.result\(\)"):
        take(one)


# The verb.


@pytest.mark.parametrize("x", [np.ones(3), torch.ones(3), np.float32(2), torch.ones(2, 3).T], ids=["ndarray", "tensor", "scalar", "view"])
def test_what_is_on_the_host_is_converted_as_ever(x):
    one = to_numpy(x, blocking=False)
    assert isinstance(one, Transfer)
    assert one.done()
    expected = to_numpy(x)
    assert np.array_equal(one.result(), expected)
    assert one.result() is one.result()
    assert np.shares_memory(one.result(), expected) or not isinstance(x, np.ndarray | torch.Tensor)
    assert one.plan.target == "numpy"


@pytest.mark.parametrize("blocking", [None, True])
def test_by_default_the_array_is_returned(blocking):
    assert isinstance(to_numpy(torch.ones(3), blocking=blocking), np.ndarray)


@pytest.mark.parametrize("wrong", [0, 1, "no", np.ones(2)])
def test_another_word_is_an_error(wrong):
    with pytest.raises(TypeError, match="is no bool"):
        to_numpy(torch.ones(3), blocking=wrong)


def test_refusals_come_at_once_and_name_the_call_to_write():
    tracked = torch.ones(3, requires_grad=True)
    with pytest.raises(GradError, match=r"to_numpy\(x, blocking=False\) cannot convert") as caught:
        to_numpy(tracked, blocking=False)
    assert caught.value.hint == "write to_numpy(x, blocking=False, grad='detach')"
    assert to_numpy(tracked, blocking=False, grad="detach").result().tolist() == [1, 1, 1]
    with interop.guard(grads="error"), pytest.raises(GradError):
        to_numpy(tracked, blocking=False, grad="detach")
    with pytest.raises(UnsupportedTypeError, match=r"^to_numpy\(x, blocking=False\): a Description has no data"):
        to_numpy(interop.describe(np.ones(2)), blocking=False)


def test_a_crossing_is_written_down_when_it_begins():
    with interop.record() as log:
        one = to_numpy(torch.ones(3), blocking=False)
    assert [crossing.target for crossing in log.crossings] == ["numpy"]
    with interop.record() as log:
        one.result()
    assert log.crossings == []


# A device that is not there: torch's own, faked.


class OnDevice:
    """A tensor of the test's, on cuda:0."""

    def __init__(self, log):
        self.log = log


class Host:
    def __init__(self, log):
        self.log = log

    def copy_(self, x, **words):
        self.log.append(("copy_", type(x).__name__, words))


class Event:
    def __init__(self, log):
        self.log, self.there = log, False

    def record(self, stream=None):
        self.log.append(("record", stream))

    def query(self):
        return self.there

    def synchronize(self):
        self.log.append("synchronize")


class Stream:
    def __init__(self, number, log):
        self.ptr = self.cuda_stream = number
        self.log = log

    def __eq__(self, other):
        return self.ptr == other.ptr

    __hash__ = None

    def record(self):
        return f"event of {self.ptr}"

    def wait_stream(self, other):
        self.log.append(f"{self.ptr} waits for {other.ptr}")

    def wait_event(self, event):
        self.log.append(f"{self.ptr} waits for {event}")


@pytest.fixture(name="torchs")
def faked_torch(monkeypatch):
    log = SimpleNamespace(said=[], events=[], stream=5, capturing=False, dense=True)

    @contextlib.contextmanager
    def on_stream(number, where):
        before, log.stream = log.stream, log.stream if number in (None, -1) else number
        yield
        log.stream = before

    monkeypatch.setattr(torch_file.backend, "on_stream", on_stream, raising=False)
    monkeypatch.setattr(kinds, "runs_on", lambda _: Device("cuda", 0))
    monkeypatch.setattr(torch, "empty_like", lambda x, **words: log.said.append(("empty_like", words)) or Host(log.said))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: Stream(log.stream, log.said))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: log.capturing)
    monkeypatch.setattr(torch.cuda, "Event", lambda: log.events.append(Event(log.said)) or log.events[-1])
    monkeypatch.setattr(_torch_copies, "deferred", DeferredRelease())
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch_file, "release_after", lambda number, x: log.said.append(("keep", number)))
    monkeypatch.setattr(_torch_copies, "is_dense", lambda x: log.dense)
    return log


@pytest.mark.parametrize(
    ("number", "before"), [(None, []), (5, []), (-1, []), (7, ["7 waits for 5"])], ids=["current", "the same", "none", "another"]
)
def test_torch_copies_to_page_locked_memory_behind_the_work_before_and_nobody_waits(torchs, number, before):
    pending = torch_file.backend.start_copy_to_host(OnDevice([]), number, None)
    said = [one for one in torchs.said if one != ("keep", 7)]
    *rest, (what, stream) = said
    assert rest == [
        *before,
        ("empty_like", {"device": "cpu", "pin_memory": True}),
        ("copy_", "OnDevice", {"non_blocking": True}),
    ]
    assert (what, stream.ptr) == ("record", 7 if number == 7 else 5)
    assert isinstance(pending.host, Host)
    assert not pending.is_ready()
    torchs.events[0].there = True
    assert pending.is_ready()
    pending.wait()
    assert torchs.said[-1] == "synchronize"


def test_a_tensor_with_gaps_is_packed_on_the_device(torchs):
    """torch would pack it on the host, and wait for that."""
    torchs.dense = False
    x, packed = OnDevice(torchs.said), OnDevice(torchs.said)
    x.contiguous = lambda: torchs.said.append("contiguous") or packed
    torch_file.backend.start_copy_to_host(x, None, None)
    said = [one for one in torchs.said if one == "contiguous" or one[0] == "copy_"]
    assert [one if isinstance(one, str) else one[0] for one in said] == ["contiguous", "copy_"]


def test_torchs_memory_is_kept_until_the_copy_has_ended(torchs):
    """Also memory that is not torch's, of which its pool knows nothing."""
    import weakref

    x = OnDevice([])
    held = weakref.ref(x)
    torch_file.backend.start_copy_to_host(x, None, None)
    del x
    torch_file.backend.start_copy_to_host(OnDevice([]), None, None)
    assert held() is not None
    torchs.events[0].there = True
    torch_file.backend.start_copy_to_host(OnDevice([]), None, None)
    assert held() is None
    assert len(_torch_copies.deferred) == 2


def test_inside_of_a_capture_there_is_nothing_to_wait_for(torchs):
    torchs.capturing = True
    with pytest.raises(interop.StreamError, match="graph is being captured"):
        torch_file.backend.start_copy_to_host(OnDevice([]), None, None)
    assert torchs.said == []


@pytest.mark.parametrize(("number", "said"), [(None, []), (-1, []), (5, []), (7, ["7 waits for 5"])])
def test_a_transfer_that_is_waited_for_comes_behind_the_work_before_too(torchs, number, said):
    x = OnDevice(torchs.said)
    with torch_file.backend._to_host(x, number):
        assert torchs.said == said
    # For the work there; torch's pool knows only of the stream on which the memory was allocated.
    assert torchs.said == said + ([("keep", 7)] if said else [])


def test_torch_on_another_kind_of_device_waits():
    pending = torch_file.backend.start_copy_to_host(torch.ones(3), None, None)
    assert pending.is_ready()
    assert pending.host.tolist() == [1, 1, 1]


@pytest.fixture(name="device")
def host_for_a_device(monkeypatch):
    """Let plain tensors be taken for tensors on a device: no fast path shares them, and those that copy to the host take them."""
    from interop._engine.fastpath import guarded, table
    from interop.backends import load_backend
    from interop.backends.base import Shortcut
    from interop.backends.cuda import copies as _copies

    backend = load_backend("torch")
    short = backend.shortcuts()
    log = []

    def copy_many_to_host(arrays, device):
        log.append([len(pack) for pack in _copies.packs(arrays)])
        return [made for pack in _copies.packs(arrays) for made in _torch_copies.copy_many_to_host(pack)]

    def packable(x):
        return x if x.is_contiguous() and x.data_ptr() and x.nbytes <= _copies.SMALL else None

    for permission in (TO_HOST, TO_HOST | DETACH):
        for kind in (torch.Tensor, torch.nn.Parameter):
            own = short["numpy", permission][kind]
            made = Shortcut(packable, must_be_false=own.must_be_false, getter=own.getter, no_level=own.no_level, no_mode=own.no_mode)
            monkeypatch.setitem(table("numpy", permission), kind, guarded(made))
    for permission in (PLAIN, DETACH):
        for kind in (torch.Tensor, torch.nn.Parameter):
            monkeypatch.setitem(table("numpy", permission), kind, lambda _: None)
    monkeypatch.setattr(backend, "copy_many_to_host", copy_many_to_host, raising=False)
    plain = torch.empty

    def unpinned(*shape, pin_memory, **words):
        assert pin_memory
        return plain(*shape, **words)

    monkeypatch.setattr(torch, "empty", unpinned)
    monkeypatch.setattr(torch.cuda, "Event", lambda: Event([]))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    return log


CROSSING = [{"transfer": "allow"}, {"device": "cpu"}]


@pytest.mark.parametrize("words", CROSSING, ids=["transfer", "device"])
def test_the_small_arrays_of_a_tree_travel_together(device, words):
    shared = torch.arange(3)
    tree = {
        "a": [torch.arange(6.0).reshape(2, 3), torch.tensor(True), shared],
        "b": (torch.ones(2, dtype=torch.bfloat16), torch.tensor([1j, 2]), shared, "word"),
        "c": np.ones(2),
    }
    made = interop.tree.convert(tree, "numpy", **words)
    assert device == [[5]]
    assert made["a"][2] is made["b"][2]
    assert made["b"][3] == "word"
    assert made["c"] is tree["c"]
    for was, now in ((tree["a"], made["a"]), (tree["b"][:3], made["b"][:3])):
        for old, new in zip(was, now, strict=True):
            assert new.dtype.name == str(old.dtype).removeprefix("torch.")
            assert new.shape == tuple(old.shape)
            assert new.flags.writeable
            assert new.base is None or new.base.base is None
            assert new.astype(complex).tolist() == old.to(torch.complex128).tolist()
    assert not np.shares_memory(made["a"][0], tree["a"][0].numpy())


def test_what_is_not_small_or_plain_goes_alone(device):
    large, gaps, none = torch.ones(1 << 19), torch.ones(4, 6)[:, ::2], torch.ones(0, 3)
    made = interop.tree.convert([torch.ones(2), large, gaps, none], "numpy", transfer="allow")
    assert device == [[1]]
    assert [one.shape for one in made] == [(2,), (1 << 19,), (4, 3), (0, 3)]


def test_gradients_need_their_permission_and_refusals_name_the_path(device):
    tree = {"w": torch.nn.Parameter(torch.ones(2)), "x": torch.ones(3)}
    with pytest.raises(GradError, match=r"tree\['w'\]"):
        interop.tree.convert(tree, "numpy", transfer="allow")
    made = interop.tree.convert(tree, "numpy", transfer="allow", grad="detach")
    assert made["w"].tolist() == [1, 1]
    assert device[-1] == [2]
    with torch.no_grad(), pytest.raises(GradError):
        interop.tree.convert(tree, "numpy", transfer="allow")


def test_a_record_a_guard_and_another_keyword_go_leaf_by_leaf(device):
    tree = [torch.ones(2), torch.ones(3)]
    with interop.record() as log:
        interop.tree.convert(tree, "numpy", transfer="allow")
    assert len(log.crossings) == 2
    interop.tree.convert(tree, "numpy", transfer="allow", copy=True)
    interop.tree.convert(tree, "numpy", transfer="allow", dtype="float64")
    interop.tree.convert(tree, "torch", device="cpu")
    interop.tree.convert(tree, "numpy")
    assert device == []


def test_large_trees_travel_in_packs(device, monkeypatch):
    from interop.backends.cuda import copies as _copies

    monkeypatch.setattr(_copies, "PACK", 100)
    tree = [torch.full((n % 7 + 1,), float(n)) for n in range(40)]
    made = interop.tree.convert(tree, "numpy", transfer="allow")
    assert sum(device[0]) == 40
    assert len(device[0]) > 5
    assert all(new.tolist() == old.tolist() for old, new in zip(tree, made, strict=True))


@pytest.mark.parametrize("sizes", [[], [1], [100, 1], [1, 100], [101], [60, 60], [50, 50, 1], [101, 101]])
def test_packs_hold_what_they_may(sizes, monkeypatch):
    from interop.backends.cuda import copies as _copies

    monkeypatch.setattr(_copies, "PACK", 100)
    arrays = [np.zeros(size, "uint8") for size in sizes]
    groups = list(_copies.packs(arrays))
    assert [one for group in groups for one in group] == arrays or not arrays
    assert all(len(group) == 1 or sum(one.nbytes for one in group) <= 100 for group in groups)
    assert all(groups)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(3),
        lambda: torch.ones(3, device="meta"),
        lambda: torch.ones(2, 2).to_sparse(),
    ],
    ids=["host", "meta", "sparse"],
)
def test_the_real_fast_path_to_the_host_takes_nothing_that_is_not_on_a_cuda_device(make):
    from interop._engine.fastpath import table
    from interop.backends import load_backend

    load_backend("torch")
    for permission in (TO_HOST, TO_HOST | DETACH):
        assert table("numpy", permission)[torch.Tensor](make()) is None
