"""How long torch's memory lives that was handed to work on another stream: the logic, with a torch that notes what it is asked.

The effect is in test_gpu.py; CuPy's memory is in tests/emulated/test_handoff.py.
"""

import contextlib
import weakref
from types import SimpleNamespace

import pytest
import torch

from interop.backends import _torch_kinds as kinds
from interop.backends import _torch_lent, load_backend
from interop.backends._streams import LEGACY, cuda_stream_number, holder_of
from interop.backends._torch_lent import LEAST, Held
from interop.description import Device

# torch's own pool is told.


class Tensor:
    """Says what it was asked for."""

    def __init__(self, log):
        self.log = log

    def __dlpack__(self, **words):
        self.log.append(("export", words["stream"]))
        return "capsule"

    def record_stream(self, stream):
        self.log.append(("record_stream", stream))


@pytest.mark.parametrize(
    ("device", "stream", "expected"),
    [
        ("cuda:0", 77, [("export", 77), ("record_stream", "external 77")]),
        ("cuda:0", 2, [("external 2 waits for", "current"), ("export", -1), ("record_stream", "external 2")]),
        ("cuda:0", 55, [("export", 55), ("record_stream", "current")]),
        ("cuda:0", LEGACY, [("export", LEGACY), ("record_stream", "default")]),
        ("cuda:0", -1, [("export", -1)]),
        ("cuda:0", None, [("export", None)]),
        ("cpu", None, [("export", None)]),
    ],
)
def test_torchs_pool_is_told_of_the_consumers_stream(monkeypatch, device, stream, expected):
    from interop.backends import torch as backend

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
    log = []

    class External(str):
        __slots__ = ()

        def wait_stream(self, other):
            log.append((f"{self} waits for", other))

    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda number: External(f"external {number}"))
    monkeypatch.setattr(backend, "handover", lambda capsule: capsule)
    assert load_backend("torch").export(Tensor(log), stream) == "capsule"
    assert log == expected
    assert [where for _, where in inside] == [device]


# The stream's object, which memory of torch's needs until it comes back.


class Owner:
    """A stream that is destroyed with its object."""

    def __init__(self, number):
        self.ptr = number


def test_the_object_of_a_stream_is_found_by_its_number_while_it_lives():
    owner = Owner(4711)
    assert cuda_stream_number(owner) == 4711
    assert holder_of(4711) is owner
    other = Owner(4711)  # somebody else's word for the same stream
    assert cuda_stream_number(other) == 4711
    assert holder_of(4711) is owner
    del owner
    assert holder_of(4711) is None
    cuda_stream_number(other)
    assert holder_of(4711) is other


@pytest.mark.parametrize("number", [None, -1, 1, 2])
def test_streams_that_are_always_there_belong_to_nobody(number):
    cuda_stream_number(Owner(0))
    assert holder_of(number) is None


def test_torchs_streams_belong_to_nobody():
    """They come from a pool, and are never destroyed."""
    assert cuda_stream_number(SimpleNamespace(cuda_stream=4712)) == 4712
    assert holder_of(4712) is None


class Slotted:
    __slots__ = ()

    def __cuda_stream__(self):
        return 0, 4713


def test_an_object_without_weak_references_is_let_be():
    assert cuda_stream_number(Slotted()) == 4713
    assert holder_of(4713) is None


@pytest.fixture
def held(monkeypatch):
    monkeypatch.setattr(_torch_lent, "_held", Held())
    return _torch_lent._held


def lent_to(owner, x):
    """Lend a tensor to work on the stream of an object; torch's own part needs a device."""
    said = []
    stand_in = SimpleNamespace(record_stream=said.append, untyped_storage=x.untyped_storage)
    _torch_lent.lend(stand_in, "stream", cuda_stream_number(owner))
    assert said == ["stream"]


def test_a_stream_lives_as_long_as_the_memory_that_was_lent_to_it(held):
    x, owner = torch.ones(4), Owner(4714)
    gone = weakref.ref(owner)
    lent_to(owner, x)
    lent_to(owner, x)  # the same memory: nothing to hold twice
    view = x[2:]
    del owner, x
    held.sweep()
    held.sweep()
    assert gone() is not None
    del view
    held.sweep()
    assert gone() is not None  # torch may still be about to ask it
    assert len(held) == 0
    held.sweep()
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
    assert holder_of(5000) is first
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
    held.sweep()
    held.sweep()
    assert len(held) == 0
    assert held._count == 0
