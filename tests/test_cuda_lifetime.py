"""How long memory lives that was handed to work on another stream: the logic, with a recording CUDA; the effect is in test_gpu.py."""

import contextlib
import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from interop.backends import _torch_kinds as kinds
from interop.backends import load_backend
from interop.description import Device

HOST = np.zeros(64)
LEGACY = 1


# CuPy's memory: lent, and waited for when it comes back.


@pytest.fixture(name="cuda")
def recording_cuda(monkeypatch):
    """Stand in for CuPy's CUDA: events that are done when the test says so."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    from interop.backends import _cupy_lent

    log = SimpleNamespace(events=[], devices=[], capturing=False, lent=_cupy_lent, memory=cupy.cuda.memory)

    class Event:
        def __init__(self, **words):
            self.done, self.words = False, words
            log.events.append(self)

        def record(self, stream):
            self.stream = stream

    class At:
        def __init__(self, index):
            self.index = index

        def __enter__(self):
            log.devices.append(self.index)

        def __exit__(self, *_):
            log.devices.append(f"out of {self.index}")

    fake = SimpleNamespace(
        ndarray=cupy.ndarray,
        cuda=SimpleNamespace(Event=Event, Device=At, runtime=SimpleNamespace(streamIsCapturing=lambda _: log.capturing)),
    )
    monkeypatch.setattr(_cupy_lent, "cupy", fake)
    monkeypatch.setattr(_cupy_lent, "native_stream", lambda number: SimpleNamespace(ptr=number))
    yield log
    _cupy_lent._waiting.clear()


def allocated(cuda, device=0):
    """Return an array on memory of the stand-in for the pool, and what tells whether that is free again."""

    class Own(cuda.memory.BaseMemory):
        def __init__(self):
            self.ptr, self.size, self.device_id = HOST.ctypes.data, HOST.nbytes, device

    import cupy

    own = Own()
    array = cupy.ndarray((4, 3), dtype="f8", memptr=cuda.memory.MemoryPointer(own, 16), strides=(48, 8))
    return array, weakref.ref(own)


def test_a_lent_array_is_the_same_array(cuda):
    array, _ = allocated(cuda)
    other = cuda.lent.lent(array, 7)
    assert (other.data.ptr, other.shape, other.strides, other.dtype) == (array.data.ptr, array.shape, array.strides, array.dtype)
    assert other.data.mem is not array.data.mem
    assert (other.data.mem.ptr, other.data.mem.size, other.data.mem.device_id) == (array.data.mem.ptr, HOST.nbytes, 0)


def test_memory_is_not_free_before_the_work_is_done(cuda):
    array, own = allocated(cuda)
    other = cuda.lent.lent(array, 7)
    del array
    assert own() is not None
    assert not cuda.events
    del other
    gc.collect()
    (event,) = cuda.events
    assert event.stream.ptr == 7
    assert event.words["disable_timing"]
    assert own() is not None
    assert [memory.size for _, memory in cuda.lent._waiting._waiting] == [HOST.nbytes]
    cuda.lent.settle()
    assert own() is not None
    event.done = True
    cuda.lent.settle()
    assert own() is None
    assert not cuda.lent._waiting


def test_without_being_lent_it_would_be_free_at_once(cuda):
    """The negative control."""
    array, own = allocated(cuda)
    other = array.view()
    del array, other
    gc.collect()
    assert own() is None


def test_what_the_owner_keeps_is_not_waited_for_twice(cuda):
    array, own = allocated(cuda)
    for _ in range(3):
        cuda.lent.lent(array, 7)
    assert len(cuda.events) == 3
    assert {one.stream.ptr for one in cuda.events} == {7}
    for event in cuda.events:
        event.done = True
    cuda.lent.settle()
    del array
    assert own() is None


def test_the_next_handoff_lets_go_of_what_is_done(cuda):
    array, own = allocated(cuda)
    cuda.lent.lent(array, 7)
    del array
    cuda.events[0].done = True
    assert own() is not None
    another, _ = allocated(cuda)
    cuda.lent.lent(another, 8)
    assert own() is None


def test_each_device_has_its_events(cuda):
    array, _ = allocated(cuda, device=1)
    cuda.lent.lent(array, 7)
    assert cuda.devices == [1, "out of 1"]


def test_work_that_is_done_already_is_not_waited_for(cuda, monkeypatch):
    monkeypatch.setattr(cuda.lent.cupy.cuda, "Event", lambda **_: SimpleNamespace(done=True, record=lambda _: None))
    array, own = allocated(cuda)
    cuda.lent.lent(array, 7)
    del array
    assert own() is None
    assert not cuda.lent._waiting


def test_nothing_is_recorded_inside_of_a_capture(cuda):
    cuda.capturing = True
    array, own = allocated(cuda)
    cuda.lent.lent(array, 7)
    del array
    assert not cuda.events
    assert own() is None


def test_what_was_lent_twice_is_free_when_both_are_done(cuda):
    array, own = allocated(cuda)
    first, second = cuda.lent.lent(array, 7), cuda.lent.lent(array, 8)
    del array, first
    cuda.events[0].done = True
    cuda.lent.settle()
    assert own() is not None
    del second
    cuda.lent.settle()
    assert own() is not None
    cuda.events[1].done = True
    cuda.lent.settle()
    assert own() is None


@pytest.mark.parametrize(("stream", "is_lent"), [(None, False), (-1, False), (LEGACY, True), (2, True), (77, True)])
def test_it_is_lent_to_every_stream_unless_nothing_was_asked_for(monkeypatch, stream, is_lent):
    """Also to the current one: the memory may have been allocated on another. ``-1`` asked for no order."""
    pytest.importorskip("cupy", reason="CuPy is not installed")
    from interop.backends import cupy as backend

    cuda = SimpleNamespace(Device=lambda _: contextlib.nullcontext(), get_current_stream=lambda: SimpleNamespace(ptr=0))
    monkeypatch.setattr(backend, "cupy", SimpleNamespace(cuda=cuda))
    asked = []
    monkeypatch.setattr(backend, "lent", lambda x, number: asked.append(number) or x)
    monkeypatch.setattr(backend, "handover", lambda capsule: capsule)
    x = SimpleNamespace(device=SimpleNamespace(id=0), __dlpack__=lambda **words: words)
    exported = backend.backend.export(x, stream)
    assert exported["stream"] == stream
    assert asked == ([stream] if is_lent else [])


# torch's memory: its own pool is told.


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


def test_a_stream_of_cupys_is_the_same_object_each_time(monkeypatch):
    """Memory of CuPy's stream-ordered allocator refers to it weakly."""
    pytest.importorskip("cupy", reason="CuPy is not installed")
    from interop.backends import _cupy_streams

    device = [0]

    class Stream:
        null, ptds = "null", "ptds"

        @staticmethod
        def from_external(_):
            return object()

    runtime = SimpleNamespace(getDevice=lambda: device[0])
    monkeypatch.setattr(
        _cupy_streams, "cupy", SimpleNamespace(cuda=SimpleNamespace(Stream=Stream, ExternalStream=Stream.from_external, runtime=runtime))
    )
    _cupy_streams._external.cache_clear()
    first = _cupy_streams.native_stream(77)
    assert _cupy_streams.native_stream(77) is first
    assert _cupy_streams.native_stream(78) is not first
    device[0] = 1
    assert _cupy_streams.native_stream(77) is not first
    assert (_cupy_streams.native_stream(LEGACY), _cupy_streams.native_stream(2)) == ("null", "ptds")
    _cupy_streams._external.cache_clear()
