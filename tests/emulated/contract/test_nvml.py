"""NVML, as far as torch asks it."""

from ctypes import byref, c_char, c_int, c_uint, c_void_p

import pytest

from tests.emulated.contract.cuda import of, on_a_device

pytestmark = on_a_device

INSUFFICIENT_SIZE, NOT_SUPPORTED = 7, 3


@pytest.fixture(name="card")
def handle_of_a_device(cuda):
    """Return NVML's handle of device 0, by its slot."""
    bus, slot, domain = (cuda.number("cudaDeviceGetAttribute", which, 0) for which in (33, 34, 50))
    cuda("nvmlInit_v2")
    yield _by_slot(cuda, f"{domain:08X}:{bus:02X}:{slot:02X}.0")
    cuda("nvmlShutdown")


def _by_slot(cuda, name):
    handle = c_void_p()
    cuda("nvmlDeviceGetHandleByPciBusId_v2", name.encode(), byref(handle))
    return handle


@of("nvmlInit", "nvmlInit_v2", "nvmlShutdown")
def test_it_is_started_and_shut_down_as_often(cuda, function):
    start = "nvmlInit_v2" if function == "nvmlShutdown" else function
    for _ in range(2):
        cuda(start)
    assert cuda.number("nvmlDeviceGetCount_v2") >= 1
    for _ in range(2):
        cuda("nvmlShutdown")


@of("nvmlDeviceGetHandleByPciBusId_v2")
def test_a_device_is_found_by_its_slot(cuda, function, card):
    assert function in cuda.called


@of("nvmlDeviceGetComputeRunningProcesses")
def test_it_says_how_many_processes_there_are(cuda, function, card):
    count = c_uint(0)
    assert cuda.status(function, card, byref(count), None) in {0, INSUFFICIENT_SIZE}


@of(
    "nvmlDeviceGetGpuFabricInfoV",
    "nvmlDeviceGetNvLinkRemoteDeviceType",
    "nvmlDeviceGetNvLinkRemotePciInfo_v2",
    "nvmlSystemGetCudaDriverVersion_v2",
)
def test_what_the_emulated_device_does_not_know(cuda, function):
    room = (c_char * 4096)()
    arguments = {
        "nvmlDeviceGetGpuFabricInfoV": (None, room),
        "nvmlDeviceGetNvLinkRemoteDeviceType": (None, 0, byref(c_int())),
        "nvmlDeviceGetNvLinkRemotePciInfo_v2": (None, 0, room),
        "nvmlSystemGetCudaDriverVersion_v2": (byref(c_int()),),
    }[function]
    assert cuda.status(function, *arguments) == NOT_SUPPORTED
