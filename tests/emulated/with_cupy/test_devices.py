"""Two devices: each array's own, whichever is current; and the order of work between them."""

import gc

import cupy as cp
import numpy as np
import pytest

import interop
from interop import DeviceUnavailableError, to_cupy, to_numpy
from interop.backends import load_backend
from interop.doctor.distributions import Distributions, known_library
from tests.emulated.with_cupy.work import (
    slow_values,
    zeros,
)


@pytest.fixture
def there(gpu):
    """Return an array on the device that is not current, on a stream of its own that still works on it."""
    with cp.cuda.Device(1):
        stream = cp.cuda.Stream(non_blocking=True)
        array = slow_values(gpu, stream, 3)
        stream.use()
        yield array
        assert cp.cuda.get_current_stream().ptr == stream.ptr
        cp.cuda.Stream.null.use()


def values(x):
    with x.device:  # CuPy's own copy to the host is ordered on the current device
        return x.get()


VERBS = {
    "to_numpy": lambda x: to_numpy(x, device="cpu"),
    "transfer": lambda x: to_numpy(x, device="cpu", blocking=False).result(),
    "tree": lambda x: interop.tree.convert([x, x], "numpy", transfer="allow")[1],
    "copy": lambda x: values(to_cupy(x, copy=True)),
    "cast": lambda x: values(to_cupy(x, dtype="float64", casting="same_kind")),
    "other device": lambda x: to_cupy(x, device="cuda:0").get(),
}


@pytest.mark.parametrize("verb", VERBS)
def test_the_arrays_own_device_works_whichever_is_current(there, verb):
    with cp.cuda.Device(0):
        made = VERBS[verb](there)
        assert made.tolist() == [3] * 1000
        assert cp.cuda.runtime.getDevice() == 0


def test_a_stream_that_is_used_and_not_entered_stays_current(gpu):
    """CuPy's own `with stream:` forgets it (cupy#8377)."""
    used, other = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)
    used.use()
    try:
        to_cupy(np.ones(3), device="cuda", stream=other)
        with interop.cuda.stream(other):
            assert cp.cuda.get_current_stream().ptr == other.ptr
        with pytest.raises(ZeroDivisionError), interop.cuda.stream(other):
            raise ZeroDivisionError
        assert cp.cuda.get_current_stream().ptr == used.ptr
    finally:
        cp.cuda.Stream.null.use()


def test_the_known_issue_is_that_of_this_cupy(gpu):
    issue = next(one for one in known_library("cupy").issues if one.id == "cupy-with-forgets-use")
    used, other = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)
    used.use()
    try:
        with other:
            pass
        forgotten = cp.cuda.get_current_stream().ptr != used.ptr
    finally:
        cp.cuda.Stream.null.use()
    assert forgotten == (Distributions().affected(issue) is not None)


def test_a_device_that_is_used_and_not_entered_stays_current(gpu):
    cp.cuda.Device(1).use()
    try:
        to_cupy(np.ones(3), device="cuda:0")
        assert cp.cuda.runtime.getDevice() == 1
    finally:
        cp.cuda.Device(0).use()


def test_an_array_reaches_the_device_that_is_named(gpu):
    for made in (to_cupy(np.ones(3), device="cuda:1"), to_cupy(cp.ones(3), device="cuda:1"), to_cupy(np.ones(3), device=cp.cuda.Device(1))):
        assert made.device.id == 1
        assert made.get().tolist() == [1, 1, 1]
    assert interop.describe(made).device == interop.Device("cuda", 1)


def test_a_device_that_is_not_there(gpu):
    with pytest.raises(DeviceUnavailableError, match="there are 2 CUDA devices, counted from 0"):
        to_cupy(np.ones(3), device="cuda:2")


def test_a_copy_to_another_device_is_ordered_after_the_work_there(gpu):
    stream = cp.cuda.Stream(non_blocking=True)
    array = slow_values(gpu, stream, 3)
    with stream:
        gpu.calls()
        made = to_cupy(array, device="cuda:1")
        assert not [one for one in gpu.calls() if "Synchronize" in one]
    assert made.get().tolist() == [3] * 1000


def test_without_the_wait_the_copy_would_be_of_before(gpu):
    """The negative control: what CuPy does itself."""
    stream = cp.cuda.Stream(non_blocking=True)
    array = zeros()
    with gpu.held(stream):
        with stream:
            array.fill(3)
        with cp.cuda.Device(1):
            made = cp.array(array, copy=True)
            assert made.get().tolist() == [0] * 1000


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[::2], lambda x: x.reshape(10, 100).T], ids=["whole", "gaps", "transposed"])
def test_the_source_of_a_copy_to_another_device_is_kept(gpu, view):
    """Its own pool would reuse it for work on its own stream, which is not ordered after the copy."""
    with cp.cuda.Device(1):
        busy = cp.cuda.Stream(non_blocking=True)
    array = cp.full(1000, 3, "float32")
    with gpu.held(busy):
        made = to_cupy(view(array), device="cuda:1", stream=busy)
        del array
        gc.collect()
        later = [cp.full(1000, 7, "float32") for _ in range(3)]
        cp.cuda.Stream.null.synchronize()
    busy.synchronize()
    assert (made.get() == 3).all()
    assert all((one.get() == 7).all() for one in later)


def test_without_deferred_release_the_source_would_be_reused(gpu, monkeypatch):
    from interop.backends.cupy import copies as _cupy_copies
    from interop.backends.cupy import release as _cupy_release

    for module in (_cupy_copies, _cupy_release):
        monkeypatch.setattr(module, "release_after_event", lambda *_: None)
    with cp.cuda.Device(1):
        busy = cp.cuda.Stream(non_blocking=True)
    array = cp.full(1000, 3, "float32")
    with gpu.held(busy):
        made = to_cupy(array, device="cuda:1", stream=busy)
        del array
        gc.collect()
        cp.full(1000, 7, "float32")
        cp.cuda.Stream.null.synchronize()
    busy.synchronize()
    assert (made.get() == 7).all()


def test_the_streams_of_a_scope_are_restored(gpu):
    before = cp.cuda.get_current_stream().ptr
    with cp.cuda.Device(1):
        other = cp.cuda.Stream(non_blocking=True)
    with interop.cuda.stream(other) as inside:
        assert inside.device == interop.Device("cuda", 1)
        assert cp.cuda.runtime.getDevice() == 1
        assert cp.cuda.get_current_stream().ptr == other.ptr
        with interop.cuda.stream(cp.cuda.Stream.null, device="cuda:0"):
            assert cp.cuda.runtime.getDevice() == 0
        assert cp.cuda.runtime.getDevice() == 1
        assert cp.cuda.get_current_stream().ptr == other.ptr
    assert cp.cuda.runtime.getDevice() == 0
    assert cp.cuda.get_current_stream().ptr == before


def test_what_the_doctor_reports(gpu):
    view = load_backend("cupy").cuda()
    assert [card.name for card in view.cards] == ["Emulated device 0", "Emulated device 1"]
    assert [card.peers for card in view.cards] == [(1,), (0,)]
