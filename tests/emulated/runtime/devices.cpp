/* The devices and their properties: two of an invented kind, with the limits of a large one of 2022 (compute capability 9.0). */

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
    case 97: return 232448;  // bytes of shared memory of a block that opts in to more
    case 115: return 1;      // stream-ordered pools
    default: return 0;
    }
}

bool is_device(int number) { return number >= 0 && number < DEVICES; }

template <typename Value> void put(char *properties, size_t place, Value value) { memcpy(properties + place, &value, sizeof value); }

} // namespace

/* CUDA Runtime API, cudaDriverGetVersion: stores the newest CUDA version that the driver supports, 1000 x major + 10 x minor; it does not
 * start the driver. */
EXPORT cudaDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }

/* CUDA Runtime API, cudaRuntimeGetVersion: stores the version of the runtime library, 1000 x major + 10 x minor. */
EXPORT cudaRuntimeGetVersion(int *version) { return *version = 13000, SUCCESS; }

/* CUDA Runtime API, cudaGetDeviceCount: stores the number of devices. It starts the driver, which does not survive a fork. */
EXPORT cudaGetDeviceCount(int *count) {
    NEEDS(DRIVER);
    return *count = DEVICES, SUCCESS;
}

/* CUDA Runtime API, cudaGetDevice: stores the device that is current for the calling thread. */
EXPORT cudaGetDevice(int *device) {
    NEEDS(DRIVER);
    return *device = current, SUCCESS;
}

/* CUDA Runtime API, cudaSetDevice: makes a device current for the calling thread and, since CUDA 12, creates its primary context;
 * cudaErrorInvalidDevice for a number of none. */
EXPORT cudaSetDevice(int device) {
    NEEDS(DRIVER);
    if (!is_device(device)) {
        return INVALID_DEVICE;
    }
    current = device;
    NEEDS(CONTEXT);
    return SUCCESS;
}

/* CUDA Runtime API, cudaDeviceGetAttribute: stores one attribute of a device, by its number in cudaDeviceAttr. Not emulated: the attributes
 * that neither library reads, which are 0. */
EXPORT cudaDeviceGetAttribute(int *value, int which, int device) {
    NEEDS(DRIVER);
    if (!is_device(device)) {
        return INVALID_DEVICE;
    }
    return *value = attribute(which), SUCCESS;
}

/* CUDA Runtime API, cudaGetDeviceProperties: fills a cudaDeviceProp, here in the layout of CUDA 13. Not emulated: the members that neither
 * library reads, which are 0. */
EXPORT cudaGetDeviceProperties(char *properties, int device) {
    NEEDS(DRIVER);
    if (!is_device(device)) {
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

/* CUDA Runtime API, cudaDeviceGetStreamPriorityRange: stores the least and the greatest priority of streams; lower numbers are greater. Not
 * emulated: priorities, so both are 0. */
EXPORT cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    NEEDS(DRIVER);
    return *least = *greatest = 0, SUCCESS;
}

/* CUDA Runtime API, cudaDeviceCanAccessPeer: stores whether a device can access memory of another one directly; never of itself. */
EXPORT cudaDeviceCanAccessPeer(int *can, int device, int other) {
    NEEDS(DRIVER);
    if (!is_device(device) || !is_device(other)) {
        return INVALID_DEVICE;
    }
    return *can = device != other, SUCCESS;
}

/* CUDA Runtime API, cudaDeviceEnablePeerAccess: lets the current device access memory of a peer from now on. Not emulated: the access is
 * always there, and enabling it twice is no error. */
EXPORT cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
    NEEDS(CONTEXT);
    if (flags != 0) {
        return INVALID_VALUE;
    }
    return is_device(peer) && peer != current ? SUCCESS : INVALID_DEVICE;
}

/* CUDA Runtime API, cudaDeviceSynchronize: returns when all work that the current device was given before is done, or returns the error of
 * that work. */
EXPORT cudaDeviceSynchronize() {
    NEEDS(CONTEXT);
    log_call("cudaDeviceSynchronize");
    bool captures = false;
    std::vector<Mark> marks = position(legacy(current));
    for (Stream *one : open_streams()) {
        if (one->capturing) {
            captures = one->invalid = true;
        } else if (one->device == current) {
            marks.push_back(one->position());
        }
    }
    if (captures) {
        return CAPTURE_UNSUPPORTED;
    }
    wait_for(marks);
    return context_error();
}
