"""The logic of a GPU handoff without a GPU: recording libraries that note the order, device and stream of every verb."""

import contextlib

import pytest

from interop import Description, Device, Policy, StreamError
from interop._engine.execute import execute
from interop._model.capabilities import Capabilities
from interop._model.decide import decide
from interop._model.plan import Request
from interop.backends import load_backend
from interop.backends.base import Backend
from interop.dlpack import stream_number

CPU = Device("cpu")

CUDA0, CUDA1 = Device("cuda", 0), Device("cuda", 1)


class Recording(Backend):
    """A library whose arrays are strings, and which notes what it is told to do."""

    def __init__(self, name, devices, log, **words):
        self._capabilities = Capabilities(
            name=name, title=name, dtypes=frozenset({"float32", "float64"}), devices=frozenset(devices), **words
        )
        self.log = log

    capabilities = property(lambda self: self._capabilities)

    def note(self, verb, *details):
        self.log.append((self.name, verb, *details))
        return f"{self.name}:{verb}"

    def owns(self, x):
        return True

    def describe(self, x):
        raise NotImplementedError

    def copy(self, x):
        return self.note("copy")

    def cast(self, x, dtype):
        return self.note("cast", dtype)

    def detach(self, x):
        return self.note("detach")

    def transfer(self, x, device, stream):
        return self.note("transfer", str(device), stream)

    def host_view(self, x):
        return self.note("host_view")

    def from_host(self, view):
        return self.note("from_host")

    def copy_from_host(self, view, device, stream):
        return self.note("copy_from_host", str(device), stream)

    def export(self, x, stream):
        return self.note("export", stream)

    def from_dlpack(self, producer, device):
        return self.note("from_dlpack", str(device))

    @contextlib.contextmanager
    def without_modes(self):
        self.note("enter")
        yield
        self.note("leave")


def run(source_on, target_devices, *, policy=None, device=None, stream=None, **fields):
    """Return the verbs that a conversion from library a to library b calls, in order."""
    log = []
    a = Recording("a", {"cpu", "cuda"}, log)
    b = Recording("b", target_devices, log, default_device="cpu" if "cpu" in target_devices else "cuda")
    described = Description(backend="a", shape=(2,), strides=(1,), nbytes=8, device=source_on, **fields)
    home = CPU if "cpu" in target_devices else CUDA0
    request = Request(a.capabilities, b.capabilities, policy or Policy(), home, device, device_named=device is not None)
    plan = decide(described, request)
    assert plan.ok, plan
    execute(plan, "x", a, b, stream)
    assert log[:2] == [("a", "enter"), ("b", "enter")]
    assert log[-2:] == [("b", "leave"), ("a", "leave")]
    return log[2:-2]


def test_on_one_device_the_producer_exports_for_the_consumers_stream():
    assert run(CUDA1, {"cuda"}, stream=7) == [("a", "export", 7), ("b", "from_dlpack", "cuda:1")]


def test_detaching_comes_before_the_border():
    assert run(CUDA0, {"cuda"}, requires_grad=True, policy=Policy(grad="detach"))[0] == ("a", "detach")


def test_leaving_a_device_is_the_sources_work():
    expected = [("a", "transfer", "cpu", 5), ("a", "host_view"), ("b", "from_host")]
    assert run(CUDA0, {"cpu"}, policy=Policy(transfer="allow"), stream=5) == expected


def test_arriving_on_a_device_is_the_targets_work():
    assert run(CPU, {"cuda"}, device=CUDA1, stream=5) == [("a", "host_view"), ("b", "copy_from_host", "cuda:1", 5)]
    both = run(CPU, {"cpu", "cuda"}, device=CUDA1, stream=5)
    assert both == [("a", "host_view"), ("b", "from_host"), ("b", "transfer", "cuda:1", 5)]


def test_from_one_device_to_another():
    assert run(CUDA0, {"cuda"}, device=CUDA1, stream=3) == [
        ("a", "transfer", "cuda:1", 3),
        ("a", "export", 3),
        ("b", "from_dlpack", "cuda:1"),
    ]


def test_a_read_only_host_array_is_not_copied_twice_on_its_way_to_a_device():
    verbs = run(CPU, {"cpu", "cuda"}, device=CUDA0, readonly=True)
    assert [verb for _, verb, *_ in verbs] == ["host_view", "from_host", "transfer"]


def test_copies_on_the_device_stay_on_the_device():
    assert run(CUDA0, {"cuda"}, policy=Policy(copy=True)) == [("a", "export", None), ("b", "from_dlpack", "cuda:0"), ("b", "copy")]


class Native:
    def wait_event(self, event):
        raise NotImplementedError

    def __init__(self, pointer, **words):
        self.__dict__.update(words)
        self.pointer = pointer


class Protocol(Native):
    def __cuda_stream__(self):
        return 0, self.pointer


@pytest.mark.parametrize(
    ("stream", "number"),
    [
        (-1, -1),
        (1, 1),
        (2, 2),
        (12345, 12345),
        (Protocol(99), 99),
        (Protocol(0), 1),
        (Native(0, cuda_stream=55), 55),
        (Native(0, ptr=0), 1),
    ],
)
def test_streams_in_every_form(stream, number):
    assert stream_number(stream) == number


@pytest.mark.parametrize("stream", [0, -2, True, "one", object(), 1.5])
def test_streams_that_are_none(stream):
    with pytest.raises(StreamError) as caught:
        stream_number(stream)
    assert "None, -1" in caught.value.hint


@pytest.mark.parametrize("name", ["numpy", "torch", "cupy", "jax", "array_api_strict"])
def test_host_devices_have_no_stream(name):
    assert load_backend(name).stream_pointer(None, CPU) is None
