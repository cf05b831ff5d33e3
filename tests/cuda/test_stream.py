"""One stream for several libraries, with libraries that note what is current; on CUDA it is tested in tests/gpu/test_order.py."""

import contextlib
from types import SimpleNamespace

import pytest

import interop
from interop import Device
from interop.cuda import _libraries, _stream, stream
from interop.dlpack import LEGACY, stream_device, stream_number
from interop.errors import DeviceUnavailableError, StreamError


class Library:
    """Has a current stream and a current device."""

    has_streams = True

    def __init__(self, name, current=LEGACY, devices=2):
        self.name, self.devices, self.now = name, devices, (current, 0)

    def why_unavailable(self, device):
        return None if device.index < self.devices else f"{self.name} counts {self.devices} devices"

    def current_index(self):
        return self.now[1]

    def parse_device(self, device):
        return device if isinstance(device, Device) else Device.parse(str(device), index=self.now[1])

    def stream_pointer(self, given, device):
        return self.now[0] if given is None else stream_number(given)

    @contextlib.contextmanager
    def on_stream(self, number, device):
        before, self.now = self.now, (number, device.index)
        try:
            yield
        finally:
            self.now = before


@pytest.fixture(name="both")
def two_libraries(monkeypatch):
    found = [Library("torch", 77), Library("cupy")]
    monkeypatch.setattr(_stream, "imported", lambda: found)
    return found


def of_torch(pointer, device):
    return SimpleNamespace(wait_event=None, cuda_stream=pointer, device_index=device, __cuda_stream__=lambda: (0, pointer))


def of_cupy(pointer, device):
    return SimpleNamespace(wait_event=None, ptr=pointer, device_id=device)


def of_cuda_core(pointer, device):
    return SimpleNamespace(device=SimpleNamespace(device_id=device), __cuda_stream__=lambda: (0, pointer))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, (77, 0)),
        (55, (55, 0)),
        (LEGACY, (LEGACY, 0)),
        (2, (2, 0)),
        (of_torch(0, 0), (LEGACY, 0)),
        (of_torch(55, 1), (55, 1)),
        (of_cupy(55, 1), (55, 1)),
        (of_cupy(0, -1), (LEGACY, 0)),
        (of_cuda_core(55, 1), (55, 1)),
    ],
)
def test_it_is_current_for_all_of_them_and_no_longer_after(both, given, expected):
    before = [library.now for library in both]
    with stream(given) as found:
        assert [library.now for library in both] == [expected] * 2
        assert (found.pointer, found.device.index) == expected
        assert found.libraries == ("torch", "cupy")
        assert found.__cuda_stream__() == (0, found.pointer)
        assert stream_number(found) == found.pointer
        with stream(99):
            assert [library.now for library in both] == [(99, expected[1])] * 2
        with stream(found):  # a stream of its own kind knows its device
            assert [library.now for library in both] == [expected] * 2
    assert [library.now for library in both] == before


def test_it_is_restored_after_an_error_also_of_a_library(both):
    before = [library.now for library in both]
    with pytest.raises(ZeroDivisionError), stream(55):
        raise ZeroDivisionError
    assert [library.now for library in both] == before

    def refuse(*_):
        raise OSError("no such stream")

    both[1].on_stream = refuse
    with pytest.raises(OSError, match="no such stream"), stream(55):
        pytest.fail("entered")
    assert [library.now for library in both] == before


def test_a_device_can_be_named(both):
    with stream(55, device="cuda:1") as found:
        assert str(found.device) == "cuda:1"
        with stream(device="cuda:0"):
            assert [library.now[1] for library in both] == [0, 0]
    with (
        pytest.raises(StreamError, match=r"the stream is on cuda:1, and device='cuda:0'\.") as caught,
        stream(of_torch(55, 1), device="cuda:0"),
    ):
        pytest.fail("entered")
    assert caught.value.hint == "Leave device= out."
    with pytest.raises(StreamError, match="has no CUDA streams"), stream(device="cpu"):
        pytest.fail("entered")


@pytest.mark.parametrize("wrong", [0, -1, -2, True, "one", object()])
def test_what_is_no_stream_is_refused(both, wrong):
    with pytest.raises(StreamError), stream(wrong):
        pytest.fail("entered")


def test_a_library_without_the_device_is_left_out(both):
    both[0].devices = 1
    with stream(of_cupy(55, 1)) as found:
        assert found.libraries == ("cupy",)
        assert both[0].now == (77, 0)
    both[1].devices = 1
    with pytest.raises(DeviceUnavailableError, match="torch counts 1 devices; cupy counts 1 devices"), stream(of_cupy(55, 1)):
        pytest.fail("entered")


def test_without_a_library_it_says_so(monkeypatch):
    monkeypatch.setattr(_stream, "imported", list)
    for words in ({}, {"device": "cuda:0"}):
        with pytest.raises(DeviceUnavailableError, match="neither torch nor CuPy is imported"), stream(**words):
            pytest.fail("entered")


def test_here_without_a_device_each_library_says_why():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a device here; see tests/gpu/test_order.py")
    with pytest.raises(DeviceUnavailableError, match=r"there is no stream on cuda:0: .*torch") as caught, interop.cuda.stream():
        pytest.fail("entered")
    assert "doctor" in caught.value.hint


def test_libraries_are_found_as_they_are_imported():
    import torch  # noqa: F401 - so that it is

    names = [backend.name for backend in _libraries.imported()]
    assert "torch" in names
    assert "numpy" not in names


@pytest.mark.parametrize(
    ("given", "expected"),
    [(5, None), (of_torch(5, 1), 1), (of_cupy(5, 2), 2), (of_cupy(5, -1), None), (of_cuda_core(5, 3), 3), (object(), None)],
)
def test_a_stream_says_its_device_or_does_not(given, expected):
    assert stream_device(given) == expected
