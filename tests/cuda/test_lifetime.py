"""How long torch's memory lives that was handed to work on another stream: the logic, with a torch that notes what it is asked.

The effect is in tests/gpu/test_lifetime.py; CuPy's memory is in tests/emulated/with_cupy/test_lifetime.py.
"""

import contextlib
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import interop
from interop import Device, to_numpy
from interop.backends import load_backend
from interop.backends.cuda.deferred_release import DeferredRelease
from interop.backends.cuda.streams import cuda_stream_number, stream_owners
from interop.backends.torch import kinds
from interop.backends.torch import release as _torch_release
from interop.backends.torch.release import LEAST, StreamOwners
from interop.dlpack import LEGACY
from interop.errors import StreamError

# torch's own pool records it.


class Tensor:
    """Says what it was asked for."""

    def __init__(self, log):
        self.log = log

    def detach(self):
        return self

    def __dlpack__(self, **words):
        self.log.append(("export", words["stream"]))
        return "capsule"

    def record_stream(self, stream):
        self.log.append(("record_stream", stream))


@pytest.mark.parametrize(
    ("device", "stream", "expected"),
    [
        ("cuda:0", 77, [("export", 77), ("record_stream", "external 77")]),
        # Of the legacy one, which comes behind those of all threads: memory may come back in any.
        ("cuda:0", 2, [("external 2 waits for", "current"), ("export", -1), ("record_stream", "default")]),
        ("cuda:0", 55, [("export", 55), ("record_stream", "current")]),
        ("cuda:0", LEGACY, [("export", LEGACY), ("record_stream", "default")]),
        ("cuda:0", -1, [("export", -1)]),
        ("cuda:0", None, [("export", None)]),
        ("cpu", None, [("export", None)]),
    ],
)
def test_torchs_pool_is_told_of_the_consumers_stream(monkeypatch, device, stream, expected):
    from interop.backends.torch import backend

    class Current(str):
        __slots__ = ()
        cuda_stream = 55

    inside = []

    @contextlib.contextmanager
    def on_stream(number, where):
        inside.append((number, str(where)))
        yield

    monkeypatch.setattr(backend.backend, "on_stream", on_stream, raising=False)
    monkeypatch.setattr(kinds, "device_of", lambda _: Device.parse(device))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Current("current"))
    monkeypatch.setattr(torch.cuda, "default_stream", lambda: "default")
    monkeypatch.setattr(_torch_release, "_records", lambda: True)
    log = []

    class External(str):
        __slots__ = ()

        def wait_stream(self, other):
            log.append((f"{self} waits for", other))

    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda number: External(f"external {number}"))
    monkeypatch.setattr(backend, "producer_of", lambda capsule: capsule)
    assert load_backend("torch").export(Tensor(log), stream) == "capsule"
    assert log == expected
    assert [where for _, where in inside] == [device]


# The stream's object, which memory of torch's needs until it comes back.


class Owner:
    """A stream that is destroyed with its object."""

    def __init__(self, number):
        self.ptr = number

    def wait_event(self, event):
        raise NotImplementedError


def test_the_objects_of_a_stream_are_found_by_its_number_while_they_live():
    owner = Owner(4711)
    assert cuda_stream_number(owner) == 4711
    assert stream_owners(4711) == (owner,)
    other = Owner(4711)  # another word for the same stream: which of them it belongs to nobody can tell
    for one in (other, owner, other):
        assert cuda_stream_number(one) == 4711
    assert stream_owners(4711) == (owner, other)
    del owner, one
    assert stream_owners(4711) == (other,)
    del other
    assert stream_owners(4711) == ()


@pytest.mark.parametrize(
    "what",
    [SimpleNamespace(ptr=4711), SimpleNamespace(cuda_stream=4711), "4711", 4711.0, True, np.zeros(3), np.array(4711), torch.tensor(4711)],
    ids=repr,
)
def test_what_has_a_pointer_is_not_yet_a_stream(what):
    """An event of CuPy's has one, and so has an array's memory; an array may be a number for `operator.index`."""
    with pytest.raises(StreamError, match="is not a stream"):
        cuda_stream_number(what)


def test_an_array_in_the_place_of_a_stream_is_refused():
    with pytest.raises(StreamError, match="Leave stream out"):
        to_numpy(torch.ones(2), stream=np.zeros(3))
    assert not interop.explain(torch.ones(2), "numpy", stream=torch.zeros(2)).ok


def test_an_integer_of_numpys_is_a_number():
    assert cuda_stream_number(np.int64(4711)) == 4711


def test_a_stream_of_another_device_is_refused():
    owner = Owner(4711)
    owner.device_id = 1
    assert cuda_stream_number(owner, 1) == 4711
    with pytest.raises(StreamError, match="the stream is on cuda:1, and the data are on cuda:0"):
        cuda_stream_number(owner, 0)


@pytest.mark.parametrize("number", [None, -1, 1, 2])
def test_streams_that_are_always_there_belong_to_nobody(number):
    cuda_stream_number(Owner(0))
    assert stream_owners(number) == ()


def test_torchs_streams_belong_to_nobody():
    """They come from a pool, and are never destroyed."""
    assert cuda_stream_number(SimpleNamespace(cuda_stream=4712, wait_event=None)) == 4712
    assert stream_owners(4712) == ()


class Slotted:
    __slots__ = ()

    def __cuda_stream__(self):
        return 0, 4713


def test_an_object_without_weak_references_is_let_be():
    assert cuda_stream_number(Slotted()) == 4713
    assert stream_owners(4713) == ()


@pytest.fixture
def held(monkeypatch):
    monkeypatch.setattr(_torch_release, "_owners", StreamOwners())
    monkeypatch.setattr(_torch_release, "_records", lambda: True)
    return _torch_release._owners


def lent_to(owner, x):
    """Lend a tensor to work on the stream of an object; torch's own part needs a device."""
    said = []
    stand_in = SimpleNamespace(record_stream=said.append, untyped_storage=x.untyped_storage)
    assert _torch_release.defer_release(stand_in, "capsule", cuda_stream_number(owner), "stream") == "capsule"
    assert said == ["stream"]


def test_a_stream_lives_as_long_as_the_memory_that_was_lent_to_it(held):
    x, owner = torch.ones(4), Owner(4714)
    gone = weakref.ref(owner)
    lent_to(owner, x)
    lent_to(owner, x)  # the same memory: nothing to hold twice
    view = x[2:]
    del owner, x
    held.remove_expired()
    held.remove_expired()
    assert gone() is not None
    del view
    held.remove_expired()
    assert gone() is not None  # torch may still be about to ask it
    assert len(held) == 0
    held.remove_expired()
    assert gone() is None


def test_memory_that_is_lent_often_is_not_held_more(held):
    x, owner = torch.ones(4), Owner(4715)
    for _ in range(1000):
        lent_to(owner, x)
    assert held._count == 1


def test_streams_that_come_and_go_do_not_pile_up(held):
    """Beside memory that lives on, which must not keep those that came later."""
    lasting, first = torch.ones(4), Owner(5000)
    lent_to(first, lasting)
    alive = []
    for n in range(1000):
        owner = Owner(5001 + n)
        alive.append(weakref.ref(owner))
        lent_to(owner, torch.ones(4))
    del owner
    assert sum(one() is not None for one in alive) <= 2 * LEAST + 2
    assert stream_owners(5000) == (first,)
    assert len(held) <= LEAST + 2


def test_threads_lend_at_once(held):
    import threading

    def work(start):
        for n in range(500):
            lent_to(Owner(start + n), torch.ones(1))

    threads = [threading.Thread(target=work, args=(10_000 * n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held.remove_expired()
    held.remove_expired()
    assert len(held) == 0
    assert held._count == 0


# What torch cannot know of, and graphs that are captured.


class Event:
    def __init__(self):
        self.is_done, self.asked = False, 0

    def query(self):
        self.asked += 1
        return self.is_done


@pytest.fixture
def on_device(monkeypatch):
    """Say what each stream has got to; `None` while it captures."""
    queue, events = DeferredRelease(), {}
    monkeypatch.setattr(_torch_release, "deferred", queue)
    monkeypatch.setattr(_torch_release, "_ask", lambda device, number: events[number] and events[number].query)
    monkeypatch.setattr(_torch_release, "_records", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    return SimpleNamespace(queue=queue, events=events)


UNTOLD = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "csr": lambda: torch.eye(3).to_sparse_csr(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "a subclass": lambda: torch.ones(3).as_subclass(type("Sub", (torch.Tensor,), {})),
}


@pytest.mark.filterwarnings("ignore:.*(nested tensors|CSR tensor support|quantize|Quantiz|torch.ao)")
@pytest.mark.parametrize("kind", UNTOLD)
def test_what_torch_has_no_record_of_streams_for_is_kept_itself(on_device, kind):
    x, on_device.events[77] = UNTOLD[kind](), Event()
    gone = weakref.ref(x)
    _torch_release.release_after(77, x)
    del x
    on_device.queue.release_completed()
    assert gone() is not None
    on_device.events[77].is_done = True
    on_device.queue.release_completed()
    assert gone() is None


def test_a_stream_that_captures_is_asked_when_that_is_over(on_device):
    """An event that was recorded inside is never done, and to ask it breaks the capture."""
    x, on_device.events[77] = UNTOLD["sparse"](), None
    gone = weakref.ref(x)
    _torch_release.release_after(77, x)
    del x
    on_device.queue.release_completed()
    assert gone() is not None
    event = on_device.events[77] = Event()
    on_device.queue.release_completed()
    assert (event.asked, gone() is None) == (1, False)
    on_device.events[77] = Event()  # what the stream has later does not matter
    event.is_done = True
    on_device.queue.release_completed()
    assert gone() is None


@pytest.mark.parametrize("x", [torch.ones(3), torch.nn.Parameter(torch.ones(3)), torch.ones(3, requires_grad=True)], ids=str)
def test_torch_is_told_of_what_is_plain_memory(on_device, monkeypatch, x):
    streams = []
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: streams.append(stream))
    monkeypatch.setattr(_torch_release, "native_stream", lambda number: number)
    _torch_release.release_after(77, x)
    assert streams == [77]
    assert len(on_device.queue) == 0
