/* The driver, as far as torch, interop and the conformance suite call it themselves; a context is the number of its device counted from 1.
 *
 * Its functions start nothing, but for cuInit. Those that work in a context need one that is current in the thread.
 */

#include "emulated.h"

#include <cstdio>
#include <cstring>
#include <map>

#include <dlfcn.h>

namespace {

struct Current {
    int device;
    bool has_context;
};

thread_local std::vector<Current> contexts;

uintptr_t context() { return has_context ? uintptr_t(current) + 1 : 0; }

int use(uintptr_t context) {
    if (context > DEVICES) {
        return INVALID_CONTEXT;
    }
    has_context = context != 0;
    current = context != 0 ? int(context) - 1 : current;
    return SUCCESS;
}

const std::map<int, const char *> names{
    {SUCCESS, "CUDA_SUCCESS"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
    {NO_KERNEL_IMAGE, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
    {NOT_READY, "CUDA_ERROR_NOT_READY"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
    {710, "CUDA_ERROR_ASSERT"},
    {716, "CUDA_ERROR_MISALIGNED_ADDRESS"},
    {719, "CUDA_ERROR_LAUNCH_FAILED"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
};

// cuda.h: CUpointer_attribute.
enum { CONTEXT_OF = 1, MEMORY_TYPE = 2, DEVICE_POINTER = 3, HOST_POINTER = 4, IS_MANAGED = 8, DEVICE_ORDINAL = 9, START = 11, SIZE = 12 };

template <typename Value> int answer(void *into, Value value) { return memcpy(into, &value, sizeof value), SUCCESS; }

/* A kernel of PTX, of which one kind can be run: it looks at the clock until so many nanoseconds have gone by, its one parameter. */
struct Module {
    std::string text;
};

struct Function {
    bool is_delay;
};

int not_supported() { return NOT_SUPPORTED; }

} // namespace

/* Starts the driver, which a child of a process that has started it cannot do again. */
EXPORT cuInit(unsigned) { return enter(DRIVER); }
EXPORT cuDriverGetVersion(int *version) { return cudaDriverGetVersion(version); }

/* Tells whether the driver was started: without cuInit before, it is an error. */
EXPORT cuDeviceGetCount(int *count) {
    DRIVER_NEEDS(DRIVER);
    return *count = DEVICES, SUCCESS;
}

EXPORT cuDeviceGet(int *device, int ordinal) {
    DRIVER_NEEDS(DRIVER);
    return *device = ordinal, ordinal >= 0 && ordinal < DEVICES ? SUCCESS : INVALID_DEVICE;
}

EXPORT cuDeviceGetName(char *name, int room, int device) {
    DRIVER_NEEDS(DRIVER);
    return snprintf(name, size_t(room), "Emulated device %d", device), SUCCESS;
}

EXPORT cuDeviceGetAttribute(int *value, int which, int device) {
    DRIVER_NEEDS(DRIVER);
    return cudaDeviceGetAttribute(value, which, device);
}

EXPORT cuDeviceTotalMem_v2(size_t *total, int) {
    DRIVER_NEEDS(DRIVER);
    return *total = ARENA, SUCCESS;
}

/* ---- contexts ---- */

EXPORT cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    DRIVER_NEEDS(DRIVER);
    return *flags = 0, *active = is_active(device), SUCCESS;
}

EXPORT cuDevicePrimaryCtxRetain(uintptr_t *context, int device) {
    DRIVER_NEEDS(DRIVER);
    return *context = uintptr_t(device) + 1, SUCCESS;
}

EXPORT cuDevicePrimaryCtxRelease_v2(int) {
    DRIVER_NEEDS(DRIVER);
    return SUCCESS;
}

/* None until one was made current in this thread, by the driver's functions or by a first call of the runtime's. */
EXPORT cuCtxGetCurrent(uintptr_t *found) {
    DRIVER_NEEDS(DRIVER);
    return *found = context(), SUCCESS;
}

EXPORT cuCtxSetCurrent(uintptr_t context) {
    DRIVER_NEEDS(DRIVER);
    return use(context);
}

EXPORT cuCtxGetDevice(int *device) {
    DRIVER_NEEDS(CONTEXT);
    return *device = current, SUCCESS;
}

EXPORT cuCtxPushCurrent_v2(uintptr_t context) {
    DRIVER_NEEDS(DRIVER);
    contexts.push_back({current, has_context});
    return use(context);
}

EXPORT cuCtxPopCurrent_v2(uintptr_t *popped) {
    DRIVER_NEEDS(DRIVER);
    if (popped != nullptr) {
        *popped = context();
    }
    if (contexts.empty()) {
        return has_context ? (has_context = false, SUCCESS) : INVALID_CONTEXT;
    }
    current = contexts.back().device;
    has_context = contexts.back().has_context;
    contexts.pop_back();
    return SUCCESS;
}

EXPORT cuCtxSynchronize() {
    DRIVER_NEEDS(CONTEXT);
    return cudaDeviceSynchronize();
}

/* ---- what is the runtime's too ---- */

#define AS_THE_RUNTIME(driver, runtime, parameters, arguments)                                                                             \
    EXPORT driver parameters {                                                                                                             \
        DRIVER_NEEDS(CONTEXT);                                                                                                             \
        return runtime arguments;                                                                                                          \
    }

AS_THE_RUNTIME(cuMemAlloc_v2, cudaMalloc, (void **pointer, size_t size), (pointer, size))
AS_THE_RUNTIME(cuMemFree_v2, cudaFree, (void *pointer), (pointer))
AS_THE_RUNTIME(cuMemAllocAsync, cudaMallocAsync, (void **pointer, size_t size, void *stream), (pointer, size, stream))
AS_THE_RUNTIME(cuMemFreeAsync, cudaFreeAsync, (void *pointer, void *stream), (pointer, stream))
AS_THE_RUNTIME(cuMemGetInfo_v2, cudaMemGetInfo, (size_t *free_bytes, size_t *total), (free_bytes, total))
AS_THE_RUNTIME(cuMemcpyHtoD_v2, cudaMemcpy, (void *to, const void *from, size_t size), (to, from, size, 1))
AS_THE_RUNTIME(cuMemcpyDtoH_v2, cudaMemcpy, (void *to, const void *from, size_t size), (to, from, size, 2))
AS_THE_RUNTIME(cuMemcpyDtoD_v2, cudaMemcpy, (void *to, const void *from, size_t size), (to, from, size, 3))
AS_THE_RUNTIME(cuMemcpyHtoDAsync_v2, cudaMemcpyAsync, (void *to, const void *from, size_t size, void *stream), (to, from, size, 1, stream))
AS_THE_RUNTIME(cuMemcpyDtoHAsync_v2, cudaMemcpyAsync, (void *to, const void *from, size_t size, void *stream), (to, from, size, 2, stream))
AS_THE_RUNTIME(cuMemcpyDtoDAsync_v2, cudaMemcpyAsync, (void *to, const void *from, size_t size, void *stream), (to, from, size, 3, stream))
AS_THE_RUNTIME(cuMemcpyAsync, cudaMemcpyAsync, (void *to, const void *from, size_t size, void *stream), (to, from, size, 4, stream))
AS_THE_RUNTIME(cuMemsetD8_v2, cudaMemset, (void *pointer, unsigned char value, size_t size), (pointer, value, size))
AS_THE_RUNTIME(cuMemsetD8Async, cudaMemsetAsync, (void *at, unsigned char value, size_t size, void *stream), (at, value, size, stream))
AS_THE_RUNTIME(cuStreamCreate, cudaStreamCreateWithFlags, (void **stream, unsigned flags), (stream, flags))
AS_THE_RUNTIME(cuStreamDestroy_v2, cudaStreamDestroy, (void *stream), (stream))
AS_THE_RUNTIME(cuStreamSynchronize, cudaStreamSynchronize, (void *stream), (stream))
AS_THE_RUNTIME(cuStreamQuery, cudaStreamQuery, (void *stream), (stream))
AS_THE_RUNTIME(cuStreamWaitEvent, cudaStreamWaitEvent, (void *stream, void *event, unsigned flags), (stream, event, flags))
AS_THE_RUNTIME(cuStreamIsCapturing, cudaStreamIsCapturing, (void *stream, int *status), (stream, status))
AS_THE_RUNTIME(cuEventCreate, cudaEventCreateWithFlags, (void **event, unsigned flags), (event, flags))
AS_THE_RUNTIME(cuEventDestroy_v2, cudaEventDestroy, (void *event), (event))
AS_THE_RUNTIME(cuEventRecord, cudaEventRecord, (void *event, void *stream), (event, stream))
AS_THE_RUNTIME(cuEventQuery, cudaEventQuery, (void *event), (event))
AS_THE_RUNTIME(cuEventSynchronize, cudaEventSynchronize, (void *event), (event))

EXPORT cuThreadExchangeStreamCaptureMode(int *mode) {
    DRIVER_NEEDS(DRIVER);
    return cudaThreadExchangeStreamCaptureMode(mode);
}

/* Tells something of the memory at an address; of memory that CUDA does not know it is an error. */
EXPORT cuPointerGetAttribute(void *into, int which, const void *pointer) {
    DRIVER_NEEDS(DRIVER);
    Range range = range_of(pointer);
    if (range.place == PAGEABLE) {
        return INVALID_VALUE;
    }
    switch (which) {
    case CONTEXT_OF: return answer(into, uintptr_t(range.device) + 1);
    case MEMORY_TYPE: return answer(into, range.place == PINNED ? 1u : 2u);
    case DEVICE_POINTER: return answer(into, pointer);
    case HOST_POINTER: return range.place == ON_DEVICE ? int(INVALID_VALUE) : answer(into, pointer);
    case IS_MANAGED: return answer(into, unsigned(range.place == MANAGED));
    case DEVICE_ORDINAL: return answer(into, range.device);
    case START: return answer(into, range.start);
    case SIZE: return answer(into, range.size);
    default: return NOT_SUPPORTED;
    }
}

/* ---- kernels ---- */

/* Compiles PTX; what was compiled for a GPU before cannot be run here. */
EXPORT cuModuleLoadData(void **module, const char *image) {
    DRIVER_NEEDS(CONTEXT);
    std::string text(image, strnlen(image, size_t(1) << 20));
    if (text.find(".version") == std::string::npos) {
        return NO_KERNEL_IMAGE;
    }
    return *module = new Module{text}, SUCCESS;
}

EXPORT cuModuleLoadDataEx(void **module, const char *image, unsigned, void *, void **) { return cuModuleLoadData(module, image); }

EXPORT cuModuleUnload(void *module) {
    DRIVER_NEEDS(CONTEXT);
    return delete static_cast<Module *>(module), SUCCESS;
}

EXPORT cuModuleGetFunction(void **function, void *module, const char *name) {
    DRIVER_NEEDS(CONTEXT);
    const std::string &text = static_cast<Module *>(module)->text;
    size_t begin = text.find(".entry " + std::string(name) + "(");
    if (begin == std::string::npos) {
        return NOT_FOUND;
    }
    std::string parameters = text.substr(begin, text.find(')', begin) - begin);
    bool takes_one = parameters.find(".u64") != std::string::npos && parameters.find(',') == std::string::npos;
    return *function = new Function{takes_one && text.find("%globaltimer", begin) != std::string::npos}, SUCCESS;
}

EXPORT cuLaunchKernel(void *function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *stream, void **parameters,
                      void **) {
    DRIVER_NEEDS(CONTEXT);
    say("cuLaunchKernel %p", stream);
    if (!static_cast<Function *>(function)->is_delay) {
        return NO_KERNEL_IMAGE;
    }
    uint64_t nanoseconds;
    memcpy(&nanoseconds, parameters[0], sizeof nanoseconds); // parameters are copied when a kernel is launched
    return give(stream_of(stream), [=] { take_time(nanoseconds / 1000); });
}

/* ---- names of errors, which need nothing ---- */

EXPORT cuGetErrorName(int status, const char **name) {
    auto found = names.find(status);
    return *name = found == names.end() ? nullptr : found->second, found == names.end() ? INVALID_VALUE : SUCCESS;
}

EXPORT cuGetErrorString(int status, const char **text) { return cuGetErrorName(status, text); }

/* Returns the driver's function of a name, in its newest version; one that is not emulated returns that it is not supported. */
EXPORT cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned, unsigned long long, int *status) {
    std::string plain = name;
    void *found = dlsym(RTLD_DEFAULT, (plain + "_v2").c_str());
    found = found != nullptr ? found : dlsym(RTLD_DEFAULT, name);
    *function = found != nullptr ? found : reinterpret_cast<void *>(not_supported);
    if (status != nullptr) {
        *status = 0; // cudaDriverEntryPointSuccess
    }
    return SUCCESS;
}

/* ---- NVML, which torch asks for the number of devices where a process must be able to fork: it starts nothing ---- */

EXPORT nvmlInit() { return SUCCESS; }
EXPORT nvmlInit_v2() { return SUCCESS; }
EXPORT nvmlShutdown() { return SUCCESS; }
EXPORT nvmlDeviceGetCount_v2(unsigned *count) { return *count = DEVICES, SUCCESS; }

constexpr int NVML_NOT_SUPPORTED = 3;

/* What torch asks when there is no memory left, for its message. */
EXPORT nvmlDeviceGetHandleByPciBusId_v2(const char *, void **device) { return *device = nullptr, SUCCESS; }
EXPORT nvmlDeviceGetComputeRunningProcesses(void *, unsigned *count, void *) { return *count = 0, SUCCESS; }
EXPORT nvmlDeviceGetGpuFabricInfoV(void *, void *) { return NVML_NOT_SUPPORTED; }
EXPORT nvmlDeviceGetNvLinkRemoteDeviceType(void *, unsigned, int *) { return NVML_NOT_SUPPORTED; }
EXPORT nvmlDeviceGetNvLinkRemotePciInfo_v2(void *, unsigned, void *) { return NVML_NOT_SUPPORTED; }
EXPORT nvmlSystemGetCudaDriverVersion_v2(int *) { return NVML_NOT_SUPPORTED; }
