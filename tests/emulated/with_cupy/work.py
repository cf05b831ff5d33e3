"""What the tests of CuPy on the emulated device share: arrays that a stream is still writing, and another library's arrays."""

import gc

import cupy as cp
import numpy as np

from interop._engine.fastpath import guarded
from interop.backends import load_backend

N = 1000


class Other:
    """An array of another library, on memory of CuPy's, that notes what its DLPack is asked for."""

    def __init__(self, array, current=cp.cuda.Stream.null):
        self.array, self.asked, self._current = array, [], current

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **words):
        self.asked.append(words)
        with self.array.device, self._current:  # its own library's current stream, after whose work the export is ordered
            return self.array.__dlpack__(**words)


def exported(array, stream):
    """Return what a consumer makes of an array that is exported for work on a stream, by its number."""
    return cp.from_dlpack(load_backend("cupy").export(array, stream))


def two_streams():
    return cp.cuda.Stream(non_blocking=True), cp.cuda.Stream(non_blocking=True)


def dropped_while_working(gpu, take=lambda array, consumer: exported(array, consumer.ptr), drop=list.clear):
    """Have the consumer work slowly on memory without an owner; returns what it read, after the producer's next array."""
    producer, consumer = two_streams()
    with producer:
        array = cp.full(N, 3, "float32")
        producer.synchronize()
        held = [take(array, consumer)]
        del array
        result = cp.empty(N, "float32")
        with gpu.held(consumer):
            with consumer:
                result[...] = held[0]
            drop(held)
            gc.collect()
            cp.full(N, 7, "float32")  # the same memory if its release was not deferred: at once, as this stream has nothing to do
            producer.synchronize()
        consumer.synchronize()
    return gpu.see(result)


def fast_path(log):
    """Return the fast path from CuPy to a consumer that is CuPy again; `log` notes the devices for which it was taken."""
    backend = load_backend("cupy")
    consumer = backend.as_consumer()

    def take(capsule, index):
        log.append(index)
        return consumer.from_capsule(capsule, index)

    return guarded(backend.export_to(consumer._replace(from_capsule=take))[cp.ndarray])


GRID = np.arange(6.0).reshape(2, 3)


LAYOUTS = {
    "C": lambda x: x,
    "F": lambda x: x.T,
    "gaps": lambda x: x[:, ::2],
    "reversed": lambda x: x[::-1],
    "repeated": lambda x: x[:1].repeat(3, 0) if isinstance(x, np.ndarray) else cp.broadcast_to(x[:1], (3, 3)),
    "no axes": lambda x: x[1, 2],
    "empty": lambda x: x[:0],
}


def on_device(data):
    made = cp.empty(data.shape, data.dtype)
    made.set(data)
    return made


def slow_values(gpu, stream, value, shape=(1000,), dtype="float32"):
    """Return an array that has a value when the stream is done, and zeros until then."""
    array = zeros(shape, dtype)
    with stream:
        gpu.sleep(stream)
        array.fill(value)
    return array


def zeros(shape=(1000,), dtype="float32"):
    """Return zeros that are there."""
    array = cp.zeros(shape, dtype)
    cp.cuda.runtime.deviceSynchronize()
    return array


def waited(calls):
    return [one for one in calls if "Synchronize" in one]
