/* The driver's own functions, as far as torch, interop and the conformance suite call them: devices and contexts.
 *
 * They start nothing, but for cuInit. Those that work in a context need one that is current in the thread. A context is the number of its
 * device counted from 1.
 */

#include "emulated.h"

#include <cstdio>

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

int not_supported() { return NOT_SUPPORTED; }

} // namespace

/* CUDA Driver API, cuInit: starts the driver, before which its other functions fail; a child that was forked after it cannot start it. */
EXPORT cuInit(unsigned) { return enter(DRIVER); }

/* CUDA Driver API, cuDriverGetVersion: stores the newest CUDA version that the driver supports. */
EXPORT cuDriverGetVersion(int *version) { return cudaDriverGetVersion(version); }

/* CUDA Driver API, cuDeviceGetCount: stores the number of devices; CUDA_ERROR_NOT_INITIALIZED before cuInit. */
EXPORT cuDeviceGetCount(int *count) {
    DRIVER_NEEDS(DRIVER);
    return *count = DEVICES, SUCCESS;
}

/* CUDA Driver API, cuDeviceGet: stores the handle of a device by its ordinal; CUDA_ERROR_INVALID_DEVICE for one of none. */
EXPORT cuDeviceGet(int *device, int ordinal) {
    DRIVER_NEEDS(DRIVER);
    return *device = ordinal, ordinal >= 0 && ordinal < DEVICES ? SUCCESS : INVALID_DEVICE;
}

/* CUDA Driver API, cuDeviceGetName: stores a device's name, cut to the room that there is. */
EXPORT cuDeviceGetName(char *name, int room, int device) {
    DRIVER_NEEDS(DRIVER);
    return snprintf(name, size_t(room), "Emulated device %d", device), SUCCESS;
}

/* CUDA Driver API, cuDeviceGetAttribute: stores one attribute of a device, as cudaDeviceGetAttribute does. */
EXPORT cuDeviceGetAttribute(int *value, int which, int device) {
    DRIVER_NEEDS(DRIVER);
    return cudaDeviceGetAttribute(value, which, device);
}

/* CUDA Driver API, cuDeviceTotalMem: stores the bytes of a device's memory. */
EXPORT cuDeviceTotalMem_v2(size_t *total, int) {
    DRIVER_NEEDS(DRIVER);
    return *total = ARENA, SUCCESS;
}

/* CUDA Driver API, cuDevicePrimaryCtxGetState: stores whether a device's primary context is active, and its flags; it activates nothing.
 * Not emulated: the flags. */
EXPORT cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    DRIVER_NEEDS(DRIVER);
    return *flags = 0, *active = is_active(device), SUCCESS;
}

/* CUDA Driver API, cuDevicePrimaryCtxRetain: stores a device's primary context, which the runtime uses too, and keeps it until it is
 * released. */
EXPORT cuDevicePrimaryCtxRetain(uintptr_t *context, int device) {
    DRIVER_NEEDS(DRIVER);
    return *context = uintptr_t(device) + 1, SUCCESS;
}

/* CUDA Driver API, cuDevicePrimaryCtxRelease: gives up one retain of a primary context. Not emulated: the context stays. */
EXPORT cuDevicePrimaryCtxRelease_v2(int) {
    DRIVER_NEEDS(DRIVER);
    return SUCCESS;
}

/* CUDA Driver API, cuCtxGetCurrent: stores the context that is current for the calling thread, null if none is. */
EXPORT cuCtxGetCurrent(uintptr_t *found) {
    DRIVER_NEEDS(DRIVER);
    return *found = context(), SUCCESS;
}

/* CUDA Driver API, cuCtxSetCurrent: replaces the context that is current for the calling thread; null leaves it without one. */
EXPORT cuCtxSetCurrent(uintptr_t context) {
    DRIVER_NEEDS(DRIVER);
    return use(context);
}

/* CUDA Driver API, cuCtxGetDevice: stores the device of the current context; CUDA_ERROR_INVALID_CONTEXT without one. */
EXPORT cuCtxGetDevice(int *device) {
    DRIVER_NEEDS(CONTEXT);
    return *device = current, SUCCESS;
}

/* CUDA Driver API, cuCtxPushCurrent: pushes a context on the calling thread's stack; it is the current one now. */
EXPORT cuCtxPushCurrent_v2(uintptr_t context) {
    DRIVER_NEEDS(DRIVER);
    contexts.push_back({current, has_context});
    return use(context);
}

/* CUDA Driver API, cuCtxPopCurrent: pops the current context and stores it; the one below is current again. */
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

/* CUDA Driver API, cuCtxSynchronize: returns when all work of the current context is done, or returns the error of that work. */
EXPORT cuCtxSynchronize() {
    DRIVER_NEEDS(CONTEXT);
    return cudaDeviceSynchronize();
}

/* CUDA Runtime API, cudaGetDriverEntryPointByVersion: stores the driver's function of a name for a version of CUDA. Not emulated: other
 * versions than the newest; the address of a function that is not emulated returns CUDA_ERROR_NOT_SUPPORTED. */
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
