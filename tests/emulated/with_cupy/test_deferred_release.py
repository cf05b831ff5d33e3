"""Memory of CuPy's that was exported and comes back: on which stream, from which thread, and when the stream itself is gone."""

import gc
import threading

import cupy as cp
import numpy as np
import pytest

import interop
from interop import to_cupy
from interop.backends import load_backend
from interop.backends.cupy import release as _cupy_release
from interop.dlpack import CUDA, CapsuleProducer
from tests.emulated.with_cupy.work import (
    N,
    exported,
    fast_path,
    two_streams,
)

pytestmark = pytest.mark.usefixtures("implementation")


@pytest.mark.parametrize("where", ["here", "another thread"])
def test_memory_of_the_per_thread_stream_is_not_released_early_wherever_it_is_dropped(gpu, where):
    stream = cp.cuda.Stream.ptds
    held = [exported(cp.full(N, 3, "float32"), 2)]
    result = cp.empty(N, "float32")
    cp.cuda.runtime.deviceSynchronize()
    with gpu.held(stream):
        with stream:
            result[...] = held[0]
        if where == "here":
            held.clear()
        else:
            thread = threading.Thread(target=held.clear)
            thread.start()
            thread.join()
        assert len(_cupy_release.deferred) == 1
    cp.cuda.runtime.deviceSynchronize()
    _cupy_release.release_completed()
    assert len(_cupy_release.deferred) == 0
    assert gpu.see(result).tolist() == [3] * N


def test_a_slow_stream_delays_no_release_of_another(gpu):
    slow, quick = two_streams()
    first, second = cp.full(N, 3, "float32"), cp.full(2 * N, 4, "float32")
    cp.cuda.runtime.deviceSynchronize()
    where = second.data.ptr
    one, other = exported(first, slow.ptr), exported(second, quick.ptr)
    with gpu.held(slow):
        with gpu.held(quick):
            del first, one
            del second, other
        quick.synchronize()
        _cupy_release.release_completed()
        assert len(_cupy_release.deferred) == 1
        assert cp.empty(2 * N, "float32").data.ptr == where


def test_no_torch_for_the_device_is_the_only_error(gpu):
    """A build of torch for the CPU beside CuPy with a device: also the second time, when the fast path is known."""
    import torch

    if torch.backends.cuda.is_built():
        pytest.skip("this torch has CUDA")
    array = cp.zeros(3)
    for _ in range(2):
        with pytest.raises(interop.DeviceUnavailableError, match="this torch is a build for the CPU only"):
            interop.to_torch(array)
        assert interop.to_torch(array, device="cpu").tolist() == [0, 0, 0]


def test_a_capsule_that_is_never_imported_releases_its_memory(gpu):
    array = cp.full(N, 3, "float32")
    cp.cuda.runtime.deviceSynchronize()
    where = array.data.ptr
    producer = load_backend("cupy").export(array, 1)
    del array
    gc.collect()
    assert cp.empty(N, "float32").data.ptr != where
    del producer
    gc.collect()
    cp.cuda.runtime.deviceSynchronize()
    _cupy_release.release_completed()
    assert cp.empty(N, "float32").data.ptr == where


def test_the_plain_protocol_gives_the_same(gpu):
    array = to_cupy(np.arange(6.0).reshape(2, 3), device="cuda")
    made = cp.from_dlpack(CapsuleProducer(array.__dlpack__(max_version=(1, 0)), (CUDA, 0)))
    assert made.data.ptr == exported(array, 1).data.ptr


# A stream that its owner drops.


def dropped_stream(gpu, hand_over):
    """Export memory to work on a stream that only its object refers to, drop that, and then the memory."""
    array = cp.full(N, 3, "float32")
    cp.cuda.runtime.deviceSynchronize()
    result = cp.empty(N, "float32")
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        taken = hand_over(array, stream)
        gpu.sleep(stream)
        result[...] = taken
    del stream
    gc.collect()
    del array, taken
    gc.collect()
    cp.full(N, 7, "float32")
    for n in range(2):
        with cp.cuda.Device(n):
            cp.cuda.runtime.deviceSynchronize()
    return gpu.see(result)


HANDOVERS = {
    "its number": lambda array, stream: exported(array, stream.ptr),
    "current": lambda array, stream: exported(array, load_backend("cupy").stream_pointer(None, interop.Device("cuda", 0))),
    "named": lambda array, stream: exported(array, load_backend("cupy").stream_pointer(stream, interop.Device("cuda", 0))),
    "fast path": lambda array, stream: fast_path([])(array),
}


@pytest.mark.parametrize("how", HANDOVERS)
def test_a_stream_that_is_dropped_early_corrupts_no_data(gpu, how):
    assert dropped_stream(gpu, HANDOVERS[how]).tolist() == [3] * N
    calls = [one for one in gpu.calls() if one.startswith("cudaDeviceSynchronize")]
    # Three are the test's. A number has no owner that could be kept: with the stream gone, only the device can be waited for.
    assert len(calls) == (4 if how == "its number" else 3)


def test_a_streams_object_lives_until_the_release_that_waits_for_it(gpu):
    import weakref

    from interop.backends.cuda.streams import stream_owners

    stream = cp.cuda.Stream(non_blocking=True)
    number, gone = stream.ptr, weakref.ref(stream)
    with stream:
        taken = fast_path([])(cp.zeros(3))
    del stream
    gc.collect()
    assert stream_owners(number) == (gone(),)
    cp.cuda.runtime.deviceSynchronize()  # the work is done, so the release is not deferred
    del taken
    gc.collect()
    assert gone() is None
    assert stream_owners(number) == ()


def test_an_alias_is_not_taken_for_the_owner(gpu):
    from interop.backends.cuda.streams import stream_owners

    stream = cp.cuda.Stream(non_blocking=True)
    backend = load_backend("cupy")
    with backend.on_stream(stream.ptr, interop.Device("cuda", 0)):
        assert backend.stream_pointer(None, interop.Device("cuda", 0)) == stream.ptr
        assert stream_owners(stream.ptr) == ()
    with interop.cuda.stream(stream):
        assert stream in stream_owners(stream.ptr)
