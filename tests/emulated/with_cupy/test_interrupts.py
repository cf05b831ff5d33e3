"""A Ctrl-C leaves the current device and streams as they were."""

import cupy as cp
import numpy as np
import pytest

import interop
from interop import to_cupy, to_numpy
from tests.interrupting import interops, left_behind


def current():
    """Return the current device, and the current stream of each."""
    streams = [cp.cuda.get_current_stream(device).ptr for device in range(cp.cuda.runtime.getDeviceCount())]
    return {"device": cp.cuda.runtime.getDevice(), "streams": streams, **interops()}


def on_stream(stream, x):
    with interop.cuda.stream(stream):
        to_numpy(x, device="cpu")


BODIES = {
    "to the host": lambda x, stream: to_numpy(x, device="cpu", stream=stream),
    "later": lambda x, stream: to_numpy(x, device="cpu", blocking=False).result(),
    "to the device": lambda x, stream: to_cupy(np.ones(3), device="cuda:1", stream=stream),
    "to the other device": lambda x, stream: to_cupy(x, device="cuda:0"),
    "a cast": lambda x, stream: to_cupy(x, dtype="float32", casting="same_kind", stream=stream),
    "one stream": lambda x, stream: on_stream(stream, x),
    "a tree": lambda x, stream: interop.tree.convert([x, x], "numpy", transfer="allow"),
}


@pytest.mark.parametrize("body", BODIES)
def test_an_interrupt_leaves_devices_and_streams_as_they_were(gpu, body):
    with cp.cuda.Device(1):
        stream, used, x = cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True), cp.ones(3)
        used.use()
    try:
        points, found = left_behind(lambda: BODIES[body](x, stream), current, step=4)  # all of them take a minute and more
    finally:
        with cp.cuda.Device(1):
            cp.cuda.Stream.null.use()
    assert points > 50
    assert found == []
    with cp.cuda.Device(1):
        with cp.cuda.Stream(non_blocking=True):
            pass
        # CuPy goes back to the stream that was entered last, of which none may be left.
        assert cp.cuda.get_current_stream().ptr == 0


def test_a_block_that_forgets_the_stream_is_found(gpu):
    """The negative control."""
    stream = cp.cuda.Stream(non_blocking=True)

    def forgetful():
        before = cp.cuda.get_current_stream()
        stream.use()
        len("")
        before.use()

    try:
        _, found = left_behind(forgetful, current)
    finally:
        cp.cuda.Stream.null.use()
    assert found
