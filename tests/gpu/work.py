"""What the tests on a GPU share: delays on a stream, memory as it is, and the CUDA calls that were made meanwhile."""

from __future__ import annotations

import functools
import gc
import inspect
import json
import math
import os
import re
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import ml_dtypes
import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 1 << 22
"""float32: 16 MiB, a block of its own in both pools."""

DELAY = float(os.environ.get("INTEROP_GPU_DELAY_MS", "300"))
"""Milliseconds that a producer is busy: longer than all that the host does meanwhile, once it was rehearsed."""

T = TypeVar("T")


# Order.


class Delay:
    """Time that a stream of torch's is kept busy for, from now on, and an event behind it."""

    def __init__(self, milliseconds: float) -> None:
        self.milliseconds = milliseconds
        number = cycles(milliseconds)
        self._given = time.perf_counter()
        if number:
            torch.cuda._sleep(number)
        self._over = torch.cuda.Event()
        self._over.record()

    def __repr__(self) -> str:
        """Return it with its age, for the assertion that it was too short."""
        return f"<delay of {self.milliseconds:g} ms, given {(time.perf_counter() - self._given) * 1000:.0f} ms ago>"

    def running(self) -> bool:
        """Return whether the stream has not passed it yet."""
        return not self._over.query()

    def must_run(self) -> None:
        """Fail if it is over: what comes next would be in order without a wait. One of no time is a rehearsal."""
        assert not self.milliseconds or self.running(), f"{self} is over: this shows nothing"


def busy(milliseconds: float = DELAY, stream: Any = None) -> Delay:
    """Keep a stream busy: torch's current one, or one of CuPy's."""
    if stream is None:
        return Delay(milliseconds)
    with torch.cuda.stream(as_torchs(stream)):
        return Delay(milliseconds)


def as_torchs(stream: Any) -> Any:
    """Return torch's object for a stream of CuPy's."""
    return torch.cuda.ExternalStream(stream.ptr)


def cycles(milliseconds: float) -> int:
    """Return what `torch.cuda._sleep` is to be given."""
    return int(milliseconds * _cycles_per_millisecond())


@functools.cache
def _cycles_per_millisecond() -> float:
    """Measure it: `_sleep` counts the cycles of an SM, whose clock is not reported.

    The fastest of several, as an idle device has a slow clock at first. Slower later on, a delay is longer, which does no harm.
    """

    def measured(number: int) -> float:
        torch.cuda.synchronize()
        begin = time.perf_counter()
        torch.cuda._sleep(number)
        torch.cuda.synchronize()
        return number / (time.perf_counter() - begin) / 1000

    measured(2_000_000)  # the first launch loads the kernel
    return max(measured(50_000_000) for _ in range(4))


def late(milliseconds: float, count: int = COUNT, value: float = 3) -> tuple[torch.Tensor, Delay]:
    """Return a tensor of zeros on torch's current stream that is filled with a value after a delay, and the delay."""
    tensor = torch.zeros(count, device="cuda")
    torch.cuda.current_stream().synchronize()
    delay = busy(milliseconds)
    return tensor.fill_(_value(milliseconds, value)), delay


def late_array(stream: Any, milliseconds: float, count: int = COUNT, value: float = 3) -> tuple[Any, Delay]:
    """Return the same as an array of CuPy's on its stream, which is current."""
    import cupy

    array = cupy.zeros(count, "float32")
    stream.synchronize()
    delay = busy(milliseconds, stream)
    array.fill(_value(milliseconds, value))
    return array, delay


def _value(milliseconds: float, value: float) -> float:
    """Return another value for a rehearsal: the memory that it leaves behind may be what the real run gets, and reads too early."""
    return value if milliseconds else -value


def rehearsed(work: Callable[[float], T], milliseconds: float = DELAY) -> T:
    """Return what work with a delay returns, done once before without one.

    The first time CuPy compiles a kernel, for 160 to 280 ms, the driver loads it, for which it may wait for the device, and the pool of a
    new stream takes memory from the driver. By then the delay would be over, and everything in order by itself.
    """
    work(0)
    torch.cuda.synchronize()
    return work(milliseconds)


def shows(attempt: Callable[[], bool], times: int = 8) -> bool:
    """Return whether one of several attempts shows what happens without order; each is to take streams of its own.

    Streams share a few queues of the device (`CUDA_DEVICE_MAX_CONNECTIONS`, 8 unless set), so two of them may be in order by chance.
    """
    return any(attempt() for _ in range(times))


# Memory.


def drain() -> None:
    """Wait for the device, and have interop let go of what it kept for the work that is done."""
    from interop.backends.cupy import release as _cupy_release
    from interop.backends.torch import release as _torch_release

    torch.cuda.synchronize()
    _cupy_release.release_completed()
    _torch_release.deferred.release_completed()
    torch.cuda.synchronize()


def quiet() -> None:
    """Release what is not needed: after that only what a test does changes the counts."""
    import cupy

    gc.collect()
    drain()
    torch.cuda.empty_cache()
    cupy.get_default_memory_pool().free_all_blocks()


def size_of_test(limit: int = 8 << 30) -> int:
    """Return how many bytes a test of memory takes: 8 GiB, or a quarter of what is free."""
    return min(limit, torch.cuda.mem_get_info()[0] // 4) >> 21 << 21


def pointer(x: Any) -> int:
    """Return the address of the first element."""
    return int(x.data_ptr() if isinstance(x, torch.Tensor) else x.data.ptr)


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return NumPy's dtype of a name, bfloat16's too."""
    return np.dtype(getattr(ml_dtypes, name, name))


def form(x: Any) -> tuple[Any, ...]:
    """Return shape, dtype, strides in bytes and address, which are the same for two libraries that share memory."""
    if isinstance(x, torch.Tensor):
        return tuple(x.shape), str(x.dtype).removeprefix("torch."), tuple(step * x.itemsize for step in x.stride()), x.data_ptr()
    return x.shape, x.dtype.name, x.strides, x.data.ptr


def values(x: Any) -> np.ndarray[Any, Any]:
    """Return what is in the memory of an array, read by its address and strides: neither library launches a kernel for it."""
    import cupy

    shape, dtype, strides, address = form(x)
    if not math.prod(shape):
        return np.empty(shape, numpy_dtype(dtype))
    length = sum((extent - 1) * step for extent, step in zip(shape, strides, strict=True)) + numpy_dtype(dtype).itemsize
    host = np.empty(length, "uint8")
    torch.cuda.synchronize()
    cupy.cuda.runtime.memcpy(host.ctypes.data, address, length, cupy.cuda.runtime.memcpyDeviceToHost)
    return np.ndarray(shape, numpy_dtype(dtype), host.data, strides=strides)


# The CUDA calls that were made.

QUERIES = frozenset(
    {"cudaGetDevice", "cudaSetDevice", "cudaGetLastError", "cudaPeekAtLastError", "cudaPointerGetAttributes", "cudaDeviceGetAttribute"}
    | {"cudaStreamIsCapturing", "cudaStreamGetCaptureInfo", "cudaThreadExchangeStreamCaptureMode", "cuThreadExchangeStreamCaptureMode"}
    | {"cudaGetDeviceCount", "cudaStreamGetPriority", "cudaEventCreate", "cudaEventCreateWithFlags", "cudaEventDestroy"}
)
"""Calls in which only the host does something: they neither wait for the device nor give it work."""

_SPELLINGS = {"cudaEventRecordWithFlags": "cudaEventRecord"}
_VERSION = re.compile(r"(_v\d+|_ptsz|_ptds)+$")
_CALLS = ("cuda_runtime", "cuda_driver")
_ON_THE_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")


def profiled(work: Callable[[], object]) -> dict[str, Any]:
    """Return the chrome trace of some work, from torch's profiler with what CUPTI sees."""
    # torch 2.11 warns at the first profile of a process that does not say whether it accumulates events. torch 2.5 has no such parameter.
    words = {"acc_events": True} if "acc_events" in inspect.signature(torch.profiler.profile).parameters else {}
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    profiler = torch.profiler.profile(activities=activities, **words)
    _without_warnings(profiler.start)
    try:
        work()
        torch.cuda.synchronize()
    finally:
        _without_warnings(profiler.stop)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    return found


def _without_warnings(step: Callable[[], object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step()


def named(name: str, work: Callable[[], T]) -> T:
    """Do some work under a name in the profile, with a pause before and after it: the clocks of CUPTI and of the host may differ a little."""
    with torch.profiler.record_function(name):
        time.sleep(0.002)
        made = work()
        time.sleep(0.002)
    return made


def calls_within(trace: dict[str, Any], name: str) -> list[str]:
    """Return the CUDA calls that were made under a name, in order; what the device did meanwhile is in it by its category."""
    events = [event for event in trace["traceEvents"] if event.get("ph") == "X"]
    spans = [(one["ts"], one["ts"] + one["dur"]) for one in events if one.get("cat") == "user_annotation" and one["name"] == name]
    assert spans, f"there is nothing named {name!r} in the profile"
    inside = [one for one in events if any(begin <= one["ts"] <= end for begin, end in spans)]
    found = [(one["ts"], _plain(one["name"])) for one in inside if one.get("cat") in _CALLS]
    found += [(one["ts"], f"({one['cat']})") for one in inside if one.get("cat") in _ON_THE_DEVICE]
    return [call for _, call in sorted(found)]


def work_within(trace: dict[str, Any], name: str) -> list[str]:
    """Return the same without the calls that ask the host only."""
    return [call for call in calls_within(trace, name) if call not in QUERIES]


def reduced(trace: dict[str, Any]) -> dict[str, Any]:
    """Return a trace of the calls and the names around them, without paths, hosts and process numbers; times from the first on."""
    events = [
        one for one in trace["traceEvents"] if one.get("ph") == "X" and one.get("cat") in (*_CALLS, *_ON_THE_DEVICE, "user_annotation")
    ]
    start = min((one["ts"] for one in events), default=0)
    keys = ("name", "cat", "ph", "ts", "dur", "tid")
    kept = [{key: one[key] for key in keys if key in one} for one in events]
    return {"traceEvents": [one | {"name": one["name"][:80], "ts": round(one["ts"] - start, 3)} for one in kept]}


def _plain(name: str) -> str:
    """Return a call's name without the version of its signature, as CUPTI has it: ``cudaStreamWaitEvent_v3020``."""
    return _SPELLINGS.get(name := _VERSION.sub("", name), name)
