"""CuPy and CUDA torch as the suite sees them: on the host's memory, whose streams run when they are waited for; and, with a GPU, for real."""

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path

import numpy as np
import pytest
from interop_conformance.adapters import Unsupported, _cuda, load_adapters
from interop_conformance.adapters._cuda import BUSY_NS, POISON, STREAMS, CUDAAdapter, Device, strided
from interop_conformance.adapters.cupy import CuPy
from interop_conformance.adapters.torch import Torch
from interop_conformance.adapters.torch_cuda import TorchCUDA
from interop_conformance.matrix import handoff
from interop_conformance.matrix.dtypes import DTYPES, dtype_named, values_of
from interop_conformance.matrix.layouts import LAYOUTS
from interop_conformance.matrix.sources import difference, source
from interop_conformance.matrix.states import STATES
from interop_conformance.protocol.producers.cuda import LEGACY, PER_THREAD
from interop_conformance.results.outcomes import Observed
from interop_conformance.results.records import Case
from interop_conformance.running.environment import environment_of
from interop_conformance.running.observe import observe
from interop_conformance.selection import Selection

from tests.conformance.alone import alone

ROOT = Path(__file__).parent.parent.parent
ONE, OTHER = 11, 12
"""What the device on the host calls its two streams."""


class HostDevice:
    """The device, played by the host's memory: what is on a stream runs when that stream is waited for."""

    def __init__(self):
        self.streams = {0: ONE, -1: OTHER, LEGACY: LEGACY, PER_THREAD: PER_THREAD}
        self.queued, self.log, self.memory = {}, [], {}

    def finish(self, stream):
        for work in self.queued.pop(stream, []):
            work()

    def synchronise(self):
        for stream in list(self.queued):
            self.finish(stream)

    def upload(self, address, data):
        ctypes.memmove(address, data, len(data))

    def read(self, address, nbytes, stream):
        self.finish(stream)
        return ctypes.string_at(address, nbytes)

    def keep(self, address, nbytes):
        made = np.frombuffer(ctypes.string_at(address, nbytes), "uint8").copy()
        self.memory[made.ctypes.data] = made
        return made.ctypes.data

    def release(self, address):
        self.synchronise()
        del self.memory[address]

    def fill(self, address, nbytes, byte):
        ctypes.memset(address, byte, nbytes)
        self.log.append("fill")

    def copy(self, to, source, nbytes, stream):
        self.queued.setdefault(stream, []).append(lambda: ctypes.memmove(to, source, nbytes))
        self.log.append(f"copy on {stream}")

    def spin(self, nanoseconds, stream):
        self.log.append(f"{nanoseconds} ns on {stream}")

    def holds(self, address):
        return True

    def fault(self):
        return ""


@pytest.fixture(name="device")
def a_device(monkeypatch):
    """Put the host in the device's place, and note which library gets which stream."""
    made = HostDevice()
    monkeypatch.setattr(_cuda, "current", lambda: made)
    monkeypatch.setattr(_cuda, "_in_use", lambda name: True)

    def noted(name):
        return lambda stream: made.log.append(f"{name} on {stream}") or nullcontext()

    monkeypatch.setattr(_cuda, "_CURRENT", {name: noted(name) for name in ("torch", "cupy")})
    return made


class HostTorch(TorchCUDA):
    """CUDA torch without CUDA."""

    home = "cpu"

    def available(self):
        return ""


class Waits(HostTorch):
    """A library of its own, whose `from_dlpack` waits for the stream on which the array is being written."""

    name = "other"

    def __init__(self, device):
        self.device_, self.calls = device, 0

    def from_dlpack(self, x, /, **keywords):
        self.calls += 1
        self.wait()
        return x.view_as(x)

    def wait(self):
        for stream in (ONE, LEGACY, PER_THREAD):
            self.device_.finish(stream)


class WaitsForNothing(Waits):
    def wait(self):
        pass


class WaitsAtFirst(Waits):
    """What loading a kernel does on its first use."""

    def wait(self):
        if self.calls == 1:
            super().wait()


def case(state, route="dlpack", dtype="float32", layout="compact", consumer="other"):
    return Case("handoff", route, "torch-cuda", consumer, "", dtype, layout, state)


# An array that is being written.


@pytest.mark.parametrize("state", STREAMS)
@pytest.mark.parametrize("layout", ["compact", "transposed", "offset", "stepped", "broadcast", "0d", "empty"])
def test_who_waits_gets_the_values_and_who_does_not_is_seen(device, state, layout):
    adapters = {"torch-cuda": HostTorch(), "other": Waits(device)}
    observed = observe(case(state, layout=layout), adapters)
    assert observed.outcome == "shared", observed
    careless = observe(case(state, layout=layout), {**adapters, "other": WaitsForNothing(device)})
    assert careless == (observed if layout == "empty" else Observed("wrong", "other values"))
    assert not device.queued
    assert not device.memory


def test_the_first_handoff_is_not_the_one_that_counts(device):
    consumer = WaitsAtFirst(device)
    assert observe(case("stream-other"), {"torch-cuda": HostTorch(), "other": consumer}).outcome == "wrong"
    assert consumer.calls == 2


def test_the_source_is_not_looked_at_before_the_handoff(device):
    """The control: an adapter that does not say that the array is being written has its source read, and found wrong."""

    class Silent(HostTorch):
        def pending(self, state):
            return False

    observed = observe(case("stream-other"), {"torch-cuda": Silent(), "other": Waits(device)})
    assert observed.outcome == "not-run"
    assert "made a wrong array" in observed.reason


@pytest.mark.parametrize(
    ("state", "writing", "reading"),
    [("stream-same", ONE, ONE), ("stream-other", ONE, OTHER), ("stream-legacy", LEGACY, OTHER), ("stream-per-thread", PER_THREAD, OTHER)],
)
def test_streams_are_set_and_kept_busy_before_the_true_values_are_written(device, state, writing, reading):
    with ExitStack() as stack:
        x = source(HostTorch(), "float32", "compact", state, stack).array
        assert bytes(x.view(-1).numpy().view("uint8")) == bytes([POISON]) * 24
        device.finish(writing)
        assert x.numpy().tobytes() == values_of("float32", (2, 3)).tobytes()
    assert device.log == ["fill", f"torch on {writing}", f"cupy on {reading}", f"{BUSY_NS} ns on {writing}", f"copy on {writing}"]


def test_a_library_that_is_not_in_use_gets_no_stream(device, monkeypatch):
    monkeypatch.setattr(_cuda, "_in_use", lambda name: False)
    with ExitStack() as stack:
        made = source(HostTorch(), "float32", "compact", "stream-other", stack)
    assert made.array is not None
    assert not any(entry.startswith("cupy") for entry in device.log)


@pytest.mark.parametrize("state", STREAMS)
def test_a_library_hands_over_to_itself_on_its_one_stream(device, state):
    itself = Waits(device)
    observed = observe(Case("handoff", "dlpack", "other", "other", "", "float32", "compact", state), {"other": itself})
    assert observed.outcome == ("shared" if state == "stream-same" else "unsupported")


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_cases_values_are_the_poison(dtype):
    try:
        values = values_of(dtype, (2, 3))
    except AttributeError:
        pytest.skip(f"this ml_dtypes has no {dtype}")
    assert bytes([POISON]) * values.itemsize not in values.reshape(-1).view(f"V{values.itemsize}").tolist()


# Which handoffs there are.


@pytest.mark.parametrize("route", handoff.ROUTES)
def test_one_library_on_two_devices_has_nothing_to_hand_over(route):
    for producer, consumer in ((Torch(), TorchCUDA()), (TorchCUDA(), Torch())):
        with pytest.raises(Unsupported, match="moved, and not handed over"):
            handoff._route(route, consumer, producer)


@pytest.mark.parametrize("route", ["dlpack", "interop"])
def test_an_array_that_stays_on_its_device_is_the_other_adapters_case(route):
    numpy = load_adapters()["numpy"]
    with pytest.raises(Unsupported, match="where the library is torch-cuda"):
        handoff._route(route, Torch(), CuPy())
    with pytest.raises(Unsupported, match="where the library is torch"):
        handoff._route(route, TorchCUDA(), numpy)
    assert handoff._route(route, TorchCUDA(), CuPy())
    assert handoff._route(route, CuPy(), numpy)
    assert handoff._route(route, numpy, TorchCUDA())


@pytest.mark.parametrize(
    ("consumer", "producer", "text"),
    [
        ("numpy", "cupy", "x.get()"),
        ("numpy", "torch-cuda", "x.detach().cpu().numpy()"),
        ("torch", "cupy", "torch.from_numpy(x.get())"),
        ("cupy", "numpy", "cupy.asarray(x)"),
        ("cupy", "torch", "cupy.asarray(x.detach().numpy())"),
        ("cupy", "torch-cuda", "cupy.asarray(x)"),
        ("torch-cuda", "numpy", 'torch.as_tensor(x, device="cuda")'),
        ("torch-cuda", "cupy", 'torch.as_tensor(x, device="cuda")'),
    ],
)
def test_what_people_write(consumer, producer, text):
    assert load_adapters()[consumer].idiom(producer).text == text


@pytest.mark.parametrize("adapter", [CuPy(), TorchCUDA()], ids=lambda adapter: adapter.name)
def test_every_state_is_in_the_table_and_has_an_array(adapter):
    assert set(adapter.states) <= set(STATES)
    assert {"plain", *STREAMS} <= set(adapter.states)
    assert all(adapter.pending(state) == state.startswith("stream-") for state in adapter.states)


# torch.


def test_the_states_of_torch_are_the_states_of_cuda_torch(device):
    for state in Torch.states:
        with ExitStack() as stack:
            try:
                made = source(HostTorch(), "complex64", "transposed", state, stack)
            except Unsupported:
                continue
            if made.expected is not None:
                assert not difference(HostTorch().values(made.array), made.expected), state


def test_a_tensor_is_quantized_on_the_host_and_moved(device, monkeypatch):
    torch = pytest.importorskip("torch")
    quantize, asked = torch.quantize_per_tensor, []
    monkeypatch.setattr(torch, "quantize_per_tensor", lambda x, *how: asked.append(x.device.type) or quantize(x, *how))
    with ExitStack() as stack:
        made, expected = source(HostTorch(), "float32", "compact", "quantized", stack)
    assert made.is_quantized
    assert asked == ["cpu"]
    assert not difference(HostTorch().values(made), expected)


@pytest.mark.parametrize("layout", ["compact", "transposed", "offset", "stepped", "broadcast", "0d"])
def test_a_pinned_tensor_is_the_same_view_of_the_same_bytes(device, monkeypatch, layout):
    torch = pytest.importorskip("torch")
    empty, asked = torch.empty, []

    def without_pinning(*args, pin_memory=False, **keywords):
        asked.append(pin_memory)
        return empty(*args, **keywords)

    monkeypatch.setattr(torch, "empty", without_pinning)
    with ExitStack() as stack:
        plain = source(HostTorch(), "float32", layout, "plain", stack).array
        made, expected = source(HostTorch(), "float32", layout, "pinned", stack)
    assert asked[0] is True
    assert (made.stride(), made.storage_offset()) == (plain.stride(), plain.storage_offset())
    assert made.untyped_storage().data_ptr() != plain.untyped_storage().data_ptr()
    assert not difference(HostTorch().values(made), expected)


def test_nothing_cannot_be_pinned(device):
    with ExitStack() as stack, pytest.raises(Unsupported, match="no memory to be pinned"):
        source(HostTorch(), "float32", "empty", "pinned", stack)


def test_flipping_takes_the_host_for_the_host_and_the_device_for_the_device(device):
    memory = np.array([4, 5], "uint8")
    HostTorch().flip(memory.ctypes.data)
    device.holds = lambda address: False
    HostTorch().flip(memory.ctypes.data + 1)
    assert memory.tolist() == [5, 4]


# CuPy, whose views and dtypes need no device.


@pytest.fixture(name="cupy")
def cupy_on_the_host(device, monkeypatch):
    """Return CuPy's module, its memory the host's."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

    def host_memory(size):
        room = np.zeros(size + 1, "uint8")
        return cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(room.ctypes.data, size, room, device_id=0), 0)

    class Current:
        ptr = 0

    monkeypatch.setattr(cupy.cuda, "get_current_stream", Current)
    monkeypatch.setattr(cupy.cuda, "malloc_managed", host_memory)
    cupy.cuda.set_allocator(host_memory)
    yield cupy
    cupy.cuda.set_allocator(cupy.get_default_memory_pool().malloc)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_cupys_arrays_mean_what_they_should(cupy, dtype, layout):
    adapter = CuPy()
    for state in ("plain", "managed"):
        with ExitStack() as stack:
            try:
                made, expected = source(adapter, dtype, layout, state, stack)
            except Unsupported:
                continue
            assert isinstance(made, cupy.ndarray)
            assert not difference(adapter.values(made), expected)
            meant = LAYOUTS[layout].view(values_of(dtype, LAYOUTS[layout].base))
            assert made.strides == meant.strides or not meant.size
            address, nbytes = adapter.span(made)
            assert not expected.size or address <= adapter.pointer(made) < address + nbytes


def test_cupy_has_the_dtypes_that_it_documents(cupy):
    def has(name):
        try:
            return CuPy().make(np.zeros(2, dtype_named(name))) is not None
        except (Unsupported, AttributeError):
            return False

    assert [name for name in DTYPES if not has(name) and not name.startswith("float8")] == [
        *("complex32", "float4_e2m1fn", "int4", "longdouble", "datetime64")
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_cupy_array_that_is_being_written(cupy, device, layout):
    with ExitStack() as stack:
        made, expected = source(CuPy(), "float32", layout, "stream-legacy", stack)
        found = np.frombuffer(ctypes.string_at(*CuPy().span(made)), "uint8") if made.size else np.array([POISON])
        assert (found == POISON).all()
        assert not difference(CuPy().values(made), expected)  # on the current stream, here the legacy one
    assert "cupy on 1" in device.log
    assert f"torch on {OTHER}" in device.log


def test_values_by_strides_reach_no_byte_too_far():
    reached = []
    memory = np.arange(24, dtype="uint8")

    def reading(address, nbytes):
        reached.append((address, nbytes))
        return memory.tobytes()[address : address + nbytes]

    assert strided(reading, 20, (3, 2), (-8, 2), np.dtype("uint8")).tolist() == [[20, 22], [12, 14], [4, 6]]
    assert strided(reading, 5, (), (), np.dtype("uint16")).tolist() == 5 + 6 * 256
    assert strided(reading, 7, (3,), (0,), np.dtype("uint8")).tolist() == [7, 7, 7]
    assert strided(reading, 99, (0, 3), (3, 1), np.dtype("uint8")).shape == (0, 3)
    assert reached == [(4, 19), (5, 2), (7, 1)]


# The driver.


class FakeDriver:
    """Stands for libcuda: notes what is called, and returns the status that it is set to."""

    def __init__(self, **statuses):
        self.statuses, self.calls = statuses, []

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append((name, [getattr(each, "value", each) for each in arguments]))
            for each in arguments:
                if name in {"cuCtxGetCurrent", "cuStreamCreate", "cuMemAlloc_v2", "cuModuleGetFunction"} and hasattr(each, "_obj"):
                    each._obj.value = 4096 + len(self.calls)
                elif name == "cuGetErrorName" and hasattr(each, "_obj"):
                    each._obj.value = b"CUDA_ERROR_MISALIGNED_ADDRESS"
                elif name == "cuPointerGetAttribute" and hasattr(each, "_obj"):
                    each._obj.value = 2
                elif name == "cuLaunchKernel" and isinstance(each, ctypes.Array):
                    self.duration = ctypes.c_uint64.from_address(each[0]).value
            return self.statuses.get(name, 0)

        return call

    @property
    def names(self):
        return [name for name, _ in self.calls]


def a_driver(monkeypatch, **statuses):
    driver = FakeDriver(**statuses)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    return driver, Device()


def test_a_stream_is_kept_busy_by_a_kernel_that_is_loaded_once(monkeypatch):
    driver, device = a_driver(monkeypatch)
    device.spin(70, 5)
    device.spin(80, 6)
    assert driver.names == ["cuModuleLoadData", "cuModuleGetFunction", "cuLaunchKernel", "cuLaunchKernel"]
    assert driver.duration == 80
    _, arguments = driver.calls[-1]
    assert arguments[1:9] == [1, 1, 1, 1, 1, 1, 0, 6]
    assert b".entry spin" in driver.calls[0][1][1]


def test_what_waits_and_what_does_not(monkeypatch):
    driver, device = a_driver(monkeypatch)
    device.copy(1, 2, 3, 5)
    assert driver.calls == [("cuMemcpyDtoDAsync_v2", [1, 2, 3, 5])]
    for work, last in ((lambda: device.upload(1, b"ab"), -1), (lambda: device.fill(1, 2, 3), -1), (lambda: device.release(1), 0)):
        driver.calls.clear()
        work()
        assert driver.names[last] == "cuCtxSynchronize"
    driver.calls.clear()
    device.upload(1, b"")
    assert not driver.calls


def test_two_streams_are_made_and_the_default_ones_have_their_handles(monkeypatch):
    driver, device = a_driver(monkeypatch)
    handles = device.streams
    assert handles is device.streams
    assert driver.names == ["cuStreamCreate", "cuStreamCreate"]
    assert len(set(handles.values())) == 4
    assert (handles[LEGACY], handles[PER_THREAD]) == (1, 2)


def test_an_error_of_the_driver_is_raised(monkeypatch):
    _, device = a_driver(monkeypatch, cuMemsetD8_v2=700)
    with pytest.raises(OSError, match="cuMemsetD8_v2 returned 700"):
        device.fill(1, 2, 3)


def test_memory_that_the_driver_does_not_know_is_the_hosts(monkeypatch):
    assert a_driver(monkeypatch)[1].holds(4096)
    assert not a_driver(monkeypatch, cuPointerGetAttribute=1)[1].holds(4096)


@pytest.mark.parametrize(
    ("statuses", "fault"),
    [({}, ""), ({"cuCtxSynchronize": 716}, "CUDA_ERROR_MISALIGNED_ADDRESS"), ({"cuCtxGetCurrent": 3, "cuCtxSynchronize": 3}, "")],
    ids=["well", "dead", "not-started"],
)
def test_a_context_that_has_died_is_found(monkeypatch, statuses, fault):
    assert a_driver(monkeypatch, **statuses)[1].fault() == fault


def test_a_process_whose_context_has_died_ends_after_the_case(device):
    device.fault = lambda: "CUDA_ERROR_MISALIGNED_ADDRESS"
    adapters = {"torch-cuda": HostTorch(), "other": Waits(device)}
    assert alone(lambda: observe(case("plain"), adapters)) == Observed("crash", f"signal {signal.SIGABRT.value}")


def test_without_a_driver_there_is_nothing_to_settle(monkeypatch):
    def no_driver():
        raise Unsupported("there is no CUDA driver")

    monkeypatch.setattr(_cuda, "current", no_driver)
    CuPy().synchronize()


# Whether there is a device.


class Finished:
    def __init__(self, returncode, stdout="", stderr=""):
        self.returncode, self.stdout, self.stderr = returncode, stdout, stderr


@pytest.mark.parametrize(
    ("outcome", "answer"),
    [
        (Finished(0, "a warning\nNVIDIA H200\n"), ("NVIDIA H200", "")),
        (Finished(1, "", "Traceback\nRuntimeError: No CUDA GPUs are available\n"), ("", "RuntimeError: No CUDA GPUs are available")),
        (Finished(-11), ("", "exit status -11")),
        (subprocess.TimeoutExpired("python", 120), ("", "asking for one failed (TimeoutExpired)")),
    ],
    ids=["one", "none", "crash", "hang"],
)
def test_asking_for_a_device(monkeypatch, outcome, answer):
    def run(command, **_):
        assert command[0] == sys.executable
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    monkeypatch.setattr(subprocess, "run", run)
    assert _cuda.ask.__wrapped__("torch") == answer


def test_without_a_driver_nothing_is_started_to_ask(monkeypatch):
    def not_there(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", not_there)
    monkeypatch.setattr(subprocess, "run", None)
    assert _cuda.ask.__wrapped__("cupy") == ("", "there is no CUDA driver")


def test_the_reasons_name_the_library(monkeypatch):
    monkeypatch.setattr(_cuda, "ask", lambda module: ("", "there is no CUDA driver"))
    assert TorchCUDA().available() == "torch sees no CUDA device: there is no CUDA driver"
    assert CuPy().available() in {"cupy is not installed", "CuPy finds no CUDA device: there is no CUDA driver"}
    assert TorchCUDA().hardware() is None


def test_the_device_stands_in_the_header(monkeypatch):
    monkeypatch.setattr(_cuda, "ask", lambda module: ("NVIDIA H200", ""))
    assert environment_of({"torch-cuda": TorchCUDA()}, {})["hardware"]["gpu"] == "NVIDIA H200"


NOTHING_STARTED = """
from interop_conformance.adapters import load_adapters
adapters = load_adapters()
for name in ("cupy", "torch-cuda"):
    if not adapters[name].available():
        adapters[name].prepare()
import os, sys
if "torch" in sys.modules:
    assert not sys.modules["torch"].cuda.is_initialized()
pid = os.fork()
if pid == 0:
    for name in ("cupy", "torch-cuda"):
        if not adapters[name].available():
            import numpy
            assert adapters[name].values(adapters[name].make(numpy.float32([1, 2]))).tolist() == [1, 2]
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""


def in_a_process(code):
    from interop_conformance.running.run import ENVIRONMENT

    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))  # and what was brought along
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": path}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment, check=False)


@pytest.mark.parametrize("marked", [pytest.param(False, id="here"), pytest.param(True, id="on-gpu", marks=pytest.mark.gpu)])
def test_asking_and_preparing_start_no_cuda_so_that_a_child_can(marked):
    done = in_a_process(NOTHING_STARTED)
    assert done.returncode == 0, done.stderr


def test_the_quick_selection_has_every_stream_in_every_direction(monkeypatch):
    adapters = {name: adapter for name, adapter in load_adapters().items() if name in {"numpy", "cupy", "torch-cuda"}}
    for adapter in (CuPy, TorchCUDA):
        monkeypatch.setattr(adapter, "available", lambda self: "")
    cases = Selection(device=("cuda",), quick=True).of(list(handoff.cases(adapters)), adapters)
    for state in STREAMS:
        pairs = {(one.producer, one.consumer) for one in cases if one.state == state and one.route == "dlpack"}
        assert {("cupy", "torch-cuda"), ("torch-cuda", "cupy"), ("cupy", "numpy"), ("torch-cuda", "numpy")} <= pairs


# With a GPU.


@pytest.fixture(name="here")
def real_adapters():
    pytest.importorskip("cupy", reason="CuPy is not installed")
    return {name: adapter for name, adapter in load_adapters().items() if not adapter.available()}


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cupy", "torch-cuda"])
def test_on_the_device_every_state_means_what_it_should(here, name):
    adapter = here[name]
    for state in adapter.states:
        for layout in ("compact", "transposed", "offset"):
            for dtype in ("float32", "complex64", "bfloat16"):
                with ExitStack() as stack:
                    try:
                        made, expected = source(adapter, dtype, layout, state, stack)
                    except Unsupported:
                        continue
                    if expected is not None:
                        assert not difference(adapter.values(made), expected), (state, layout, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cupy", "torch-cuda"])
@pytest.mark.parametrize("state", STREAMS)
def test_on_the_device_the_values_come_late_and_to_the_writing_stream(here, name, state):
    adapter, device = here[name], _cuda.current()
    with ExitStack() as stack:
        adapter.make(values_of("float32", (2, 3)))  # starts CUDA
        for _ in range(2):  # the second time everything is loaded
            made, expected = source(adapter, "float32", "compact", state, stack)
            assert expected is not None
            early = device.read(adapter.pointer(made), expected.nbytes, device.stream())
            late = device.read(adapter.pointer(made), expected.nbytes, device.streams[STREAMS[state][0]])
        assert early == bytes([POISON]) * expected.nbytes
        assert late == expected.tobytes()


def on_device(state, producer, consumer, adapters, route="dlpack"):
    return observe(Case("handoff", route, producer, consumer, "", "float32", "compact", state), adapters)


@pytest.mark.gpu
@pytest.mark.parametrize("state", STREAMS)
@pytest.mark.parametrize("route", ["dlpack", "interop"])
@pytest.mark.parametrize(("producer", "consumer"), [("cupy", "torch-cuda"), ("torch-cuda", "cupy")])
def test_on_the_device_the_handoff_waits(here, producer, consumer, route, state):
    assert on_device(state, producer, consumer, here, route) == Observed("shared")


@pytest.mark.gpu
@pytest.mark.parametrize("state", [state for state in STREAMS if state != "stream-same"])
@pytest.mark.parametrize(("producer", "consumer"), [("cupy", "torch-cuda"), ("torch-cuda", "cupy")])
def test_on_the_device_a_missing_wait_is_wrong_values(here, producer, consumer, state):
    """The control: the same with ``stream=-1``, which asks for no synchronisation."""

    class Careless:
        def __init__(self, x):
            self.x = x

        def __dlpack_device__(self):
            return self.x.__dlpack_device__()

        def __dlpack__(self, *, stream=None, **keywords):
            return self.x.__dlpack__(stream=-1, **keywords)

    real = type(here[consumer])

    class Consumer(real):
        def from_dlpack(self, x, /, **keywords):
            return super().from_dlpack(Careless(x), **keywords)

    assert on_device(state, producer, consumer, {**here, consumer: Consumer()}) == Observed("wrong", "other values")


@pytest.mark.gpu
@pytest.mark.parametrize("producer", ["cupy", "torch-cuda"])
@pytest.mark.parametrize("state", ["plain", *STREAMS])
def test_on_the_device_interop_refuses_to_cross_unasked(here, producer, state):
    observed = on_device(state, producer, "numpy", here, "interop")
    assert observed.outcome == "refused"
    assert "TransferError" in observed.reason


@pytest.mark.gpu
def test_on_the_device_a_pinned_tensor_is_pinned_and_a_managed_array_managed(here):
    with ExitStack() as stack:
        assert source(here["torch-cuda"], "float32", "stepped", "pinned", stack).array.is_pinned()
        assert int(source(here["cupy"], "float32", "stepped", "managed", stack).array.__dlpack_device__()[0]) == 13


ASSERTS_ON_THE_DEVICE = """
import torch
from interop_conformance.adapters.torch_cuda import TorchCUDA
TorchCUDA().synchronize()
try:
    torch.zeros(1, device="cuda")[torch.tensor([5], device="cuda")].tolist()
except RuntimeError:
    pass
TorchCUDA().synchronize()
"""


@pytest.mark.gpu
def test_on_the_device_a_dead_context_ends_the_process():
    done = in_a_process(ASSERTS_ON_THE_DEVICE)
    assert done.returncode == -signal.SIGABRT
    assert "the CUDA context died: CUDA_ERROR" in done.stderr.splitlines()[-1]


def test_the_base_of_both_has_no_say_in_what_is_a_library():
    with pytest.raises(TypeError, match="abstract"):
        CUDAAdapter()
