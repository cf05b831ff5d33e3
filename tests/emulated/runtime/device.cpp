/* The devices and what is said of them: two of an invented kind, with the limits of a large one of 2022 (compute capability 9.0). */

#include "emulated.h"

#include <cstdio>
#include <cstring>
#include <utility>

namespace {

// driver_types.h: cudaDeviceAttr.
int attribute(int which) {
    switch (which) {
    case 1: return 1024;     // threads of a block
    case 8: return 49152;    // bytes of shared memory of a block
    case 10: return 32;      // threads of a warp
    case 13: return 1980000; // the clock, in kHz
    case 16: return 132;     // multiprocessors
    case 36: return 3201000; // the clock of the memory, in kHz
    case 37: return 6144;    // the width of its bus, in bits
    case 38: return 62914560; // bytes of the second cache
    case 39: return 2048;    // threads of a multiprocessor
    case 41: return 1;       // unified addressing
    case 75: return 9;       // major,
    case 76: return 0;       // minor compute capability
    case 83: return 1;       // managed memory
    case 97: return 232448;  // bytes of shared memory of a block that asks for more
    case 115: return 1;      // stream-ordered pools
    default: return 0;
    }
}

template <typename Value> void put(char *properties, size_t place, Value value) { memcpy(properties + place, &value, sizeof value); }

} // namespace

EXPORT cudaDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
EXPORT cudaRuntimeGetVersion(int *version) { return *version = 13000, SUCCESS; }

/* The runtime asks the driver, and so starts it, which no fork survives. */
EXPORT cudaGetDeviceCount(int *count) {
    NEEDS(DRIVER);
    return *count = DEVICES, SUCCESS;
}

EXPORT cudaGetDevice(int *device) {
    NEEDS(DRIVER);
    return *device = current, SUCCESS;
}

/* Makes a device the thread's current one; since CUDA 12 its context is made at once. */
EXPORT cudaSetDevice(int device) {
    NEEDS(DRIVER);
    if (device < 0 || device >= DEVICES) {
        return INVALID_DEVICE;
    }
    current = device;
    NEEDS(CONTEXT);
    return SUCCESS;
}

EXPORT cudaDeviceGetAttribute(int *value, int which, int device) {
    NEEDS(DRIVER);
    if (device < 0 || device >= DEVICES) {
        return INVALID_DEVICE;
    }
    return *value = attribute(which), SUCCESS;
}

/* What somebody reads of `cudaDeviceProp`, at its place in CUDA 13; the rest is zero. */
EXPORT cudaGetDeviceProperties(char *properties, int device) {
    NEEDS(DRIVER);
    if (device < 0 || device >= DEVICES) {
        return INVALID_DEVICE;
    }
    memset(properties, 0, 1008);
    snprintf(properties, 256, "Emulated device %d", device);
    memset(properties + 256, device + 1, 16); // uuid
    put(properties, 288, ARENA);              // totalGlobalMem
    const std::pair<size_t, int> numbers[] = {
        {296, 49152},                        // sharedMemPerBlock
        {304, 65536}, {308, 32},             // regsPerBlock, warpSize
        {320, 1024},                         // maxThreadsPerBlock
        {324, 1024}, {328, 1024}, {332, 64}, // maxThreadsDim
        {336, INT32_MAX}, {340, 65535}, {344, 65535}, // maxGridSize
        {360, 9}, {364, 0},                  // major, minor
        {384, 132},                          // multiProcessorCount
        {568, device + 1},                   // pciBusID
        {588, 1},                            // unifiedAddressing
        {592, 6144}, {596, 62914560},        // memoryBusWidth, l2CacheSize
        {604, 2048},                         // maxThreadsPerMultiProcessor
    };
    for (auto [place, number] : numbers) {
        put(properties, place, number);
    }
    return SUCCESS;
}

EXPORT cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    NEEDS(DRIVER);
    return *least = *greatest = 0, SUCCESS;
}

EXPORT cudaDeviceCanAccessPeer(int *can, int device, int other) {
    NEEDS(DRIVER);
    return *can = device != other, SUCCESS;
}

EXPORT cudaDeviceEnablePeerAccess(int, unsigned) {
    NEEDS(CONTEXT);
    return SUCCESS;
}

/* Waits for all work of the current device. */
EXPORT cudaDeviceSynchronize() {
    NEEDS(CONTEXT);
    say("cudaDeviceSynchronize");
    bool captures = false;
    std::vector<Mark> marks = now(legacy(current));
    for (Stream *one : open_streams()) {
        if (one->capturing) {
            captures = one->invalid = true;
        } else if (one->device == current) {
            marks.push_back(one->now());
        }
    }
    if (captures) {
        return CAPTURE_UNSUPPORTED;
    }
    reach(marks);
    return broken();
}

/* ---- kernels of libraries, which are machine code of a GPU: with `<<<>>>` only cudaGetLastError tells that one was not launched ---- */

namespace {

int cannot_launch() {
    NEEDS(CONTEXT);
    fail(NO_KERNEL_IMAGE);
    return NO_KERNEL_IMAGE;
}

} // namespace

struct Extent {
    unsigned x, y, z;
};

EXPORT cudaLaunchKernel(const void *, Extent, Extent, void **, size_t, void *) { return cannot_launch(); }
EXPORT __cudaLaunchKernel(const void *, Extent, Extent, void **, size_t, void *) { return cannot_launch(); } // CUDA 13's `<<<>>>`
EXPORT cudaLaunchKernelExC(const void *, const void *, void **) { return cannot_launch(); }
EXPORT cudaLaunchCooperativeKernel(const void *, Extent, Extent, void **, size_t, void *) { return cannot_launch(); }
