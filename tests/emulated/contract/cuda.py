"""CUDA's libraries by ctypes, and the tests' few means: a stream that is held, bytes on the device, a kernel that takes its time."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from ctypes import byref, c_int, c_size_t, c_ubyte, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.emulated.conftest import EMULATED
from tests.emulated.surroundings import LIBRARY

if TYPE_CHECKING:
    from collections.abc import Iterator

IS_EMULATED = LIBRARY in os.environ
on_a_device = [] if os.environ.get(EMULATED) == "1" else [pytest.mark.gpu]
"""The mark of every file here: a test needs a GPU unless its process was made for the emulated device."""

INVALID_VALUE, OUT_OF_MEMORY, INVALID_DEVICE, INVALID_CONTEXT, NOT_FOUND, NOT_READY = 1, 2, 101, 201, 500, 600
INVALID_HANDLE, ILLEGAL_STATE, ALREADY_REGISTERED, NOT_REGISTERED, PEER_ALREADY_ENABLED = 400, 401, 712, 713, 704
CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED, CAPTURE_UNMATCHED, CAPTURE_UNJOINED = 900, 901, 903, 904
CAPTURE_ISOLATION, CAPTURE_IMPLICIT = 905, 906

HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE, ANY = 1, 2, 3, 4
GLOBAL, THREAD_LOCAL, RELAXED = 0, 1, 2
NON_BLOCKING, WITHOUT_TIME = 1, 2
LEGACY = c_void_p(1)
SIZE = 256

ONLY_EMULATED = {
    "__cudaLaunchKernel": "it takes a handle that only compiled code has, and a wrong one is undefined",
    "nvmlDeviceGetGpuFabricInfoV": "what it returns is the machine's: whether there is an NVLink fabric",
    "nvmlDeviceGetNvLinkRemoteDeviceType": "what it returns is the machine's: whether there is an NVLink",
    "nvmlDeviceGetNvLinkRemotePciInfo_v2": "what it returns is the machine's: whether there is an NVLink",
    "nvmlSystemGetCudaDriverVersion_v2": "the emulation declines to answer, and a GPU's driver answers",
}
"""Functions that are tested on the emulated device alone, each with the reason."""

SINCE_13 = {
    "cudaGetDeviceProperties",
    "cudaGetDriverEntryPointByVersion",
    "cudaStreamGetCaptureInfo",
    "__cudaLaunchKernel",
}
"""Functions that not every CUDA 12 has, or whose parameters CUDA 13 has changed; the emulation has CUDA 13's."""

ONLY_12 = {"cudaEventElapsedTime_v2"}
"""Functions that CUDA 12.8's headers name, and CUDA 13 no longer has."""

# Counts the device's own clock, so it needs no calibration; PTX is compiled by the driver.
DELAY = b"""
.version 7.0
.target sm_75
.address_size 64
.visible .entry delay(.param .u64 nanoseconds)
{
    .reg .u64 %now, %end;
    .reg .pred %early;
    ld.param.u64 %end, [nanoseconds];
    mov.u64 %now, %globaltimer;
    add.u64 %end, %end, %now;
again:
    mov.u64 %now, %globaltimer;
    setp.lt.u64 %early, %now, %end;
    @%early bra again;
    ret;
}
"""

_HOST_FUNCTION = ctypes.CFUNCTYPE(None, c_void_p)


def of(*functions: str) -> Any:
    """Mark a test as that of some functions: it runs once for each, with its name as `function`, and has to call it."""
    return pytest.mark.parametrize("function", functions)


class Cuda:
    """The functions of the runtime, the driver and NVML."""

    def __init__(self) -> None:
        self.called: set[str] = set()
        self._runtime = ctypes.CDLL(_runtime())
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._nvml = ctypes.CDLL("libnvidia-ml.so.1")

    def status(self, name: str, *arguments: Any) -> int:
        """Call a function; returns its status."""
        self.called.add(name)
        return int(getattr(self._library(name), name)(*arguments))

    def _library(self, name: str) -> ctypes.CDLL:
        if name.startswith("nvml"):
            return self._nvml
        return self._runtime if name.startswith(("cuda", "__cuda")) else self._driver

    def has(self, name: str) -> bool:
        """Return whether this version of CUDA has a function."""
        return hasattr(self._library(name), name)

    def __call__(self, name: str, *arguments: Any) -> None:
        """Call a function, which must succeed."""
        status = self.status(name, *arguments)
        assert status == 0, f"{name} returned {status}"

    def get(self, kind: Any, name: str, *arguments: Any) -> Any:
        """Call a function that stores its result where its first argument points to; returns the result as a ctypes object."""
        made = kind()
        self(name, byref(made), *arguments)
        return made

    def number(self, name: str, *arguments: Any) -> int:
        """Return the number that a function stores where its first argument points to."""
        return int(self.get(c_int, name, *arguments).value)

    def version(self) -> int:
        """Return the version of the runtime."""
        return self.number("cudaRuntimeGetVersion")

    @contextlib.contextmanager
    def held(self, stream: Any) -> Iterator[None]:
        """Have a stream go on only after the block: a host function waits in it. Nothing inside may wait for the device."""
        opened = threading.Event()
        wait = _HOST_FUNCTION(lambda _: opened.wait(5) and None)
        self("cudaLaunchHostFunc", stream, wait, None)
        try:
            yield
        finally:
            opened.set()
            self("cudaStreamSynchronize", stream)

    def call_in(self, stream: Any, function: Any) -> Any:
        """Have a stream call a function of Python's; returns what has to be held until it was."""
        made = _HOST_FUNCTION(lambda _: function() and None)
        self("cudaLaunchHostFunc", stream, made, None)
        return made

    def read(self, pointer: Any, stream: Any = LEGACY) -> bytes:
        """Return `SIZE` bytes of the device, behind the work of a stream."""
        room = (c_ubyte * SIZE)()
        self("cudaMemcpyAsync", room, pointer, c_size_t(SIZE), DEVICE_TO_HOST, stream)
        self("cudaStreamSynchronize", stream)
        return bytes(room)

    @contextlib.contextmanager
    def capturing(self, stream: Any, mode: int = THREAD_LOCAL) -> Iterator[None]:
        """Capture a graph, and destroy it; the stream is out of the capture after the block, whatever happens inside."""
        self("cudaStreamBeginCapture", stream, mode)
        try:
            yield
        finally:
            graph = c_void_p()
            self.status("cudaStreamEndCapture", stream, byref(graph))
            if graph:
                self("cudaGraphDestroy", graph)


def _runtime() -> str:
    """Return the runtime's library: the emulated one, or the one that torch has loaded."""
    if LIBRARY in os.environ:
        return os.environ[LIBRARY]
    import torch

    torch.cuda.init()
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libcudart" in line}
    assert mapped, "torch has loaded no shared CUDA runtime"
    return min(mapped)
