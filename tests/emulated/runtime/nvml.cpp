/* NVML, which torch asks for the number of devices where a process must be able to fork: it starts nothing. */

#include "emulated.h"

namespace {

constexpr int NVML_NOT_SUPPORTED = 3;

} // namespace

/* NVML API, nvmlInit: starts NVML, which is not the driver: a child that is forked later can still start that. */
EXPORT nvmlInit() { return SUCCESS; }

/* NVML API, nvmlInit_v2: is the newer nvmlInit, by which devices that cannot be used are no error. */
EXPORT nvmlInit_v2() { return SUCCESS; }

/* NVML API, nvmlShutdown: gives up one nvmlInit. */
EXPORT nvmlShutdown() { return SUCCESS; }

/* NVML API, nvmlDeviceGetCount_v2: stores the number of devices of the machine, and starts no driver. */
EXPORT nvmlDeviceGetCount_v2(unsigned *count) { return *count = DEVICES, SUCCESS; }

/* NVML API, nvmlDeviceGetHandleByPciBusId_v2: stores the handle of the device in a slot. Not emulated: which one. */
EXPORT nvmlDeviceGetHandleByPciBusId_v2(const char *, void **device) { return *device = nullptr, SUCCESS; }

/* NVML API, nvmlDeviceGetComputeRunningProcesses: stores the processes that compute on a device and their number. Not emulated: there are
 * none. */
EXPORT nvmlDeviceGetComputeRunningProcesses(void *, unsigned *count, void *) { return *count = 0, SUCCESS; }

/* NVML API, nvmlDeviceGetGpuFabricInfoV: stores how a device is connected to an NVLink fabric. Not emulated: NVML_ERROR_NOT_SUPPORTED, as
 * without a fabric. */
EXPORT nvmlDeviceGetGpuFabricInfoV(void *, void *) { return NVML_NOT_SUPPORTED; }

/* NVML API, nvmlDeviceGetNvLinkRemoteDeviceType: stores what is at the other end of an NVLink. Not emulated: NVML_ERROR_NOT_SUPPORTED, as
 * without a link. */
EXPORT nvmlDeviceGetNvLinkRemoteDeviceType(void *, unsigned, int *) { return NVML_NOT_SUPPORTED; }

/* NVML API, nvmlDeviceGetNvLinkRemotePciInfo_v2: stores the slot at the other end of an NVLink. Not emulated: NVML_ERROR_NOT_SUPPORTED, as
 * without a link. */
EXPORT nvmlDeviceGetNvLinkRemotePciInfo_v2(void *, unsigned, void *) { return NVML_NOT_SUPPORTED; }

/* NVML API, nvmlSystemGetCudaDriverVersion_v2: stores the version of the driver of CUDA. Not emulated: NVML_ERROR_NOT_SUPPORTED, so that
 * torch asks for nothing newer. */
EXPORT nvmlSystemGetCudaDriverVersion_v2(int *) { return NVML_NOT_SUPPORTED; }
