"""What the adapters of CUDA libraries share: the device by its driver's own functions, and arrays that a stream is still writing.

No library's copy, kernel or pool is trusted with what the suite itself does, so that a missing wait is seen: an array in one of the
stream states lies in memory that holds something else, behind a kernel that keeps its stream busy, behind which the true values are
written. Meanwhile it is exported, and read on the consumer's stream only. A consumer that does not wait reads what was there before.

DLPack's streams are the libraries' current ones, and a library has one. So the state's stream is made current in the producer's
library, and the consumer's stream in every other; a handoff within one library has nothing to wait for.

CUDA does not survive a fork. Nothing here starts it but in the child that runs a case: whether there is a device, and what it is
called, is asked in a process of its own, and what a library asks while it is imported is answered from there.

Crossing between host and device is a loss that only the interop route refuses by default. A native idiom names it (``.cpu()``,
``x.get()``, ``device="cuda"``), and with that permits it; a `from_dlpack` that copies across is ``copied``.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import subprocess
import sys
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from interop_conformance.adapters._base import Adapter, Unsupported
from interop_conformance.protocol.producers.cuda import LEGACY, PER_THREAD, Driver
from interop_conformance.results.texts import first_sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager, ExitStack

__all__ = ["POISON", "STREAMS", "CUDAAdapter", "Device", "ask", "context_fault", "current", "started", "strided", "without_starting"]

POISON = 0xA5
"""What is in memory before the true values: no case's values have this in every byte."""

BUSY_NS = 50_000_000
"""How long a stream is kept busy: much longer than a handoff and the launch of a read take from Python."""

_NEW, _OTHER = 0, -1
"""Stand for the two streams of a process that are no default ones, and wait for nothing on their own."""

STREAMS = {
    "stream-same": (_NEW, _NEW),
    "stream-other": (_NEW, _OTHER),
    "stream-legacy": (LEGACY, _OTHER),
    "stream-per-thread": (PER_THREAD, _OTHER),
}
"""For each state the stream that writes, and the one that the other libraries use."""

# Counts the device's own clock, so it needs no calibration. PTX is compiled by the driver, so it needs no compiler either.
_SPIN = """
.version 7.0
.target sm_75
.address_size 64
.visible .entry spin(.param .u64 nanoseconds)
{
    .reg .u64 %now, %end;
    .reg .pred %before;
    ld.param.u64 %end, [nanoseconds];
    mov.u64 %now, %globaltimer;
    add.u64 %end, %end, %now;
again:
    mov.u64 %now, %globaltimer;
    setp.lt.u64 %before, %now, %end;
    @%before bra again;
    ret;
}
"""

_IN_DEVICE_MEMORY = 2  # CU_MEMORYTYPE_DEVICE, which managed memory is, too
_MEMORY_TYPE = 2  # CU_POINTER_ATTRIBUTE_MEMORY_TYPE


class Device(Driver):
    """The device whose context is current: memory by address, streams by handle, and a kernel that takes its time."""

    @functools.cached_property
    def streams(self) -> Mapping[int, int]:
        """Return the handles, by what stands for them in `STREAMS`; two are made, and live as long as the process."""
        return {_NEW: self.stream(), _OTHER: self.stream(), LEGACY: LEGACY, PER_THREAD: PER_THREAD}

    def synchronise(self) -> None:
        """Wait for everything."""
        self._do("cuCtxSynchronize")

    def upload(self, address: int, data: bytes) -> None:
        """Write bytes, and wait for that."""
        if data:
            self._do("cuMemcpyHtoD_v2", ctypes.c_uint64(address), data, ctypes.c_size_t(len(data)))
            self.synchronise()

    def keep(self, address: int, nbytes: int) -> int:
        """Return the address of a copy, for `release`."""
        made = ctypes.c_uint64()
        self._do("cuMemAlloc_v2", ctypes.byref(made), ctypes.c_size_t(nbytes))
        self._do("cuMemcpyDtoD_v2", made, ctypes.c_uint64(address), ctypes.c_size_t(nbytes))
        return int(made.value)

    def release(self, address: int) -> None:
        """Free what `keep` made, after everything has come to its end."""
        self.synchronise()
        self._do("cuMemFree_v2", ctypes.c_uint64(address))

    def fill(self, address: int, nbytes: int, byte: int) -> None:
        """Write one byte everywhere, and wait for that."""
        self._do("cuMemsetD8_v2", ctypes.c_uint64(address), ctypes.c_ubyte(byte), ctypes.c_size_t(nbytes))
        self.synchronise()

    def copy(self, to: int, source: int, nbytes: int, stream: int) -> None:
        """Copy within the device when a stream gets there; waits for nothing."""
        self._do("cuMemcpyDtoDAsync_v2", ctypes.c_uint64(to), ctypes.c_uint64(source), ctypes.c_size_t(nbytes), ctypes.c_void_p(stream))

    def spin(self, nanoseconds: int, stream: int) -> None:
        """Keep a stream busy; waits for nothing."""
        duration = ctypes.c_uint64(nanoseconds)
        parameters = (ctypes.c_void_p * 1)(ctypes.addressof(duration))
        one, none = ctypes.c_uint(1), ctypes.c_uint(0)
        self._do("cuLaunchKernel", self._spin, one, one, one, one, one, one, none, ctypes.c_void_p(stream), parameters, None)

    @functools.cached_property
    def _spin(self) -> Any:
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self._do("cuModuleLoadData", ctypes.byref(module), _SPIN.encode())
        self._do("cuModuleGetFunction", ctypes.byref(function), module, b"spin")
        return function

    def holds(self, address: int) -> bool:
        """Return whether an address is in device memory, and not in the host's, page-locked or not."""
        kind = ctypes.c_uint()
        # Of memory that CUDA does not know it knows nothing, which is an error.
        failed = self._cuda.cuPointerGetAttribute(ctypes.byref(kind), ctypes.c_uint(_MEMORY_TYPE), ctypes.c_uint64(address))
        return not failed and kind.value == _IN_DEVICE_MEMORY

    def fault(self) -> str:
        """Return what has ended this process's context for good, after everything has come to its end; empty for nothing."""
        context = ctypes.c_void_p()
        if self._cuda.cuCtxGetCurrent(ctypes.byref(context)) or not context.value:
            return ""  # CUDA was not started here
        status = self._cuda.cuCtxSynchronize()
        name = ctypes.c_char_p()
        if status:
            self._cuda.cuGetErrorName(ctypes.c_uint(status), ctypes.byref(name))
        return (name.value or b"an unknown error").decode() if status else ""


@functools.cache
def current() -> Device:
    """Return the one device of this process; raises `Unsupported` if there is no driver."""
    return Device()


def context_fault() -> str:
    """Return what has ended this process's CUDA context for good, after everything on it has come to its end; empty for nothing."""
    try:
        return current().fault()
    except Unsupported:  # there is no driver
        return ""


class CUDAAdapter(Adapter):
    """What is the same for every library on CUDA; a library adds `span`, and its entry in `_CURRENT`.

    Attributes
    ----------
    module : str
        The library's name in ``sys.modules``, in `ask` and in `_CURRENT`.
    """

    device: ClassVar[str] = "cuda"
    module: ClassVar[str]

    @abstractmethod
    def span(self, x: Any) -> tuple[int, int]:
        """Return the address and the size in bytes of the whole memory that an array lies in."""

    def put(self, x: Any, state: str, stack: ExitStack) -> Any:
        if state not in STREAMS:
            return super().put(x, state, stack)
        gpu = current()
        writing, others = (gpu.streams[one] for one in STREAMS[state])
        address, nbytes = self.span(x)
        gpu.synchronise()
        copy = gpu.keep(address, nbytes) if nbytes else 0
        if copy:
            stack.callback(gpu.release, copy)
            gpu.fill(address, nbytes, POISON)
        for name, on in _CURRENT.items():
            if name == self.module or _in_use(name):
                stack.enter_context(on(writing if name == self.module else others))
        if copy:
            gpu.spin(BUSY_NS, writing)
            gpu.copy(address, copy, nbytes, writing)
        return x

    def pending(self, state: str) -> bool:
        return state in STREAMS

    def synchronize(self) -> None:
        # Every later case of this process would fail for what this one did.
        if fault := context_fault():
            os.write(2, f"the CUDA context died: {fault}\n".encode())
            os.abort()

    def flip(self, pointer: int) -> None:
        gpu = current()
        if not gpu.holds(pointer):
            super().flip(pointer)
            return
        gpu.synchronise()
        gpu.upload(pointer, bytes([gpu.read(pointer, 1, LEGACY)[0] ^ 1]))

    def hardware(self) -> str | None:
        return ask(self.module)[0] or None

    def warm_up(self) -> None:
        """Do nothing: whatever makes an array starts CUDA, in the process that forks."""


def _torch_on(stream: int) -> AbstractContextManager[Any]:
    from torch.cuda import ExternalStream, StreamContext, default_stream

    return StreamContext(default_stream() if stream == LEGACY else ExternalStream(stream))


class _Handle:
    """A stream's handle, as ``Stream.from_external`` wants it."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle


def _cupy_on(stream: int) -> AbstractContextManager[Any]:
    from cupy.cuda import ExternalStream, Stream

    made: AbstractContextManager[Any]
    if stream in {LEGACY, PER_THREAD}:
        made = Stream.null if stream == LEGACY else Stream.ptds
    else:  # from_external is there since CuPy 14, which deprecates the other
        made = Stream.from_external(_Handle(stream)) if hasattr(Stream, "from_external") else ExternalStream(stream)
    return made


_CURRENT: dict[str, Callable[[int], AbstractContextManager[Any]]] = {"torch": _torch_on, "cupy": _cupy_on}
"""What makes a stream the current one, for each library."""


def _in_use(module: str) -> bool:
    return module in sys.modules and bool(sys.modules[module].cuda.is_available())


_ASK = {
    "torch": "import torch; torch.empty(1, device='cuda'); print(torch.cuda.get_device_name(0))",
    "cupy": "import cupy; cupy.empty(1); print(cupy.cuda.runtime.getDeviceProperties(0)['name'].decode())",
}


@functools.cache
def ask(module: str) -> tuple[str, str]:
    """Return the name of the device that a library computes on, and why there is none: one of them is empty.

    In a process of its own: asking starts CUDA, and this process may fork.
    """
    try:
        ctypes.CDLL("libcuda.so.1")  # loads it and starts nothing
    except OSError:
        return "", "there is no CUDA driver"
    try:
        done = subprocess.run([sys.executable, "-c", _ASK[module]], capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 - our own words
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"asking for one failed ({type(error).__name__})"
    lines = [line for line in (done.stderr if done.returncode else done.stdout).splitlines() if line.strip()] or [""]
    return ("", first_sentence(lines[-1]) or f"exit status {done.returncode}") if done.returncode else (lines[-1].strip(), "")


@contextlib.contextmanager
def without_starting() -> Iterator[None]:
    """Have torch say whether there is a device without looking for one, which would start CUDA here.

    torch's own way without it asks NVML, and falls back to starting CUDA where that does not answer (torch/cuda/__init__.py, `is_available`).
    tvm-ffi asks when it is imported, and torch's fake tensors when the first is made.
    """
    if not importlib.util.find_spec("torch"):
        yield
        return
    import torch

    if torch.version.cuda is None:
        yield
        return
    asked, there = torch.cuda.is_available, bool(ask("torch")[0])
    torch.cuda.is_available = lambda: there
    try:
        yield
    finally:
        torch.cuda.is_available = asked


_NOT_INITIALIZED = 3  # CUDA_ERROR_NOT_INITIALIZED, cuda.h


def started() -> bool:
    """Return whether CUDA was started in this process, so that no child that it forks can use it; asking starts nothing."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return int(cuda.cuDeviceGetCount(ctypes.byref(count))) != _NOT_INITIALIZED


def strided(read: Callable[[int, int], bytes], pointer: int, shape: Sequence[int], strides: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Return the values of an array with strides in bytes; ``read(address, nbytes)`` returns bytes of its memory."""
    if 0 in shape:
        return np.empty(shape, dtype)
    steps = [(extent - 1) * step for extent, step in zip(shape, strides, strict=True)]
    low = -sum(step for step in steps if step < 0)
    raw = read(pointer - low, sum(map(abs, steps)) + dtype.itemsize)
    return np.ndarray(tuple(shape), dtype, raw, low, tuple(strides)).copy()
