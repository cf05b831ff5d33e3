/* The runtime's functions about memory. */

#include "arena.h"

#include <cstdlib>

namespace {

enum MemoryType { UNREGISTERED = 0, HOST = 1, DEVICE = 2, MANAGED_MEMORY = 3 };
enum PoolAttribute { RELEASE_THRESHOLD = 4, RESERVED = 5, RESERVED_HIGH = 6, USED = 7, USED_HIGH = 8 };

int allocate_host(Blocks &blocks, void **pointer, size_t size) {
    if (posix_memalign(pointer, 4096, size) != 0) {
        return OUT_OF_MEMORY;
    }
    std::lock_guard<std::mutex> guard(memory_lock);
    blocks[reinterpret_cast<uintptr_t>(*pointer)] = size;
    return SUCCESS;
}

bool forget(Blocks &blocks, void *pointer) {
    std::lock_guard<std::mutex> guard(memory_lock);
    return blocks.erase(reinterpret_cast<uintptr_t>(pointer)) != 0;
}

void synchronize(int device) {
    int before = current;
    current = device;
    cudaDeviceSynchronize();
    current = before;
}

} // namespace

/* Allocates on the current device, in no order with any stream. */
EXPORT cudaMalloc(void **pointer, size_t size) {
    NEEDS(CONTEXT);
    say("cudaMalloc %zu", size);
    if (int status = outside_of_captures()) {
        return status;
    }
    *pointer = take(current, size, false);
    return *pointer == nullptr ? OUT_OF_MEMORY : SUCCESS;
}

/* Waits for the device before the memory is free. */
EXPORT cudaFree(void *pointer) {
    NEEDS(CONTEXT);
    if (pointer == nullptr) {
        return SUCCESS;
    }
    say("cudaFree");
    if (int status = outside_of_captures()) {
        return status;
    }
    Range range = range_of(pointer);
    if (range.place == ON_DEVICE) {
        synchronize(range.device);
        return give_back(pointer) ? SUCCESS : INVALID_VALUE;
    }
    if (range.place != MANAGED) {
        return INVALID_VALUE;
    }
    for (int n = 0; n < DEVICES; n++) {
        if (is_active(n)) {
            synchronize(n);
        }
    }
    return forget(managed, pointer) ? (free(pointer), SUCCESS) : INVALID_VALUE;
}

EXPORT cudaMallocManaged(void **pointer, size_t size, unsigned) {
    NEEDS(CONTEXT);
    say("cudaMallocManaged %zu", size);
    return allocate_host(managed, pointer, size);
}

EXPORT cudaHostAlloc(void **pointer, size_t size, unsigned) {
    NEEDS(CONTEXT);
    say("cudaHostAlloc %zu", size);
    int status = outside_of_captures();
    return status != SUCCESS ? status : allocate_host(page_locked, pointer, size);
}

EXPORT cudaMallocHost(void **pointer, size_t size) { return cudaHostAlloc(pointer, size, 0); }

EXPORT cudaFreeHost(void *pointer) {
    NEEDS(CONTEXT);
    say("cudaFreeHost");
    return forget(page_locked, pointer) ? (free(pointer), SUCCESS) : INVALID_VALUE;
}

/* Locks pages that the caller has allocated. */
EXPORT cudaHostRegister(void *pointer, size_t size, unsigned) {
    NEEDS(CONTEXT);
    say("cudaHostRegister %zu", size);
    std::lock_guard<std::mutex> guard(memory_lock);
    page_locked[reinterpret_cast<uintptr_t>(pointer)] = size;
    return SUCCESS;
}

EXPORT cudaHostUnregister(void *pointer) {
    NEEDS(CONTEXT);
    return forget(page_locked, pointer) ? SUCCESS : INVALID_VALUE;
}

/* Allocates in the order of a stream: on others the memory may be used only behind that. */
EXPORT cudaMallocAsync(void **pointer, size_t size, void *stream) {
    NEEDS(CONTEXT);
    Stream *there = stream_of(stream);
    say("cudaMallocAsync %zu %p", size, stream);
    if (there == nullptr) {
        return INVALID_HANDLE;
    }
    *pointer = take(there->device, size, true);
    return *pointer == nullptr ? OUT_OF_MEMORY : SUCCESS;
}

EXPORT cudaMallocFromPoolAsync(void **pointer, size_t size, void *, void *stream) { return cudaMallocAsync(pointer, size, stream); }

/* Frees when the stream gets there. */
EXPORT cudaFreeAsync(void *pointer, void *stream) {
    NEEDS(CONTEXT);
    say("cudaFreeAsync %p", stream);
    return give(stream_of(stream), [=] { give_back(pointer); });
}

EXPORT cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    NEEDS(CONTEXT);
    std::lock_guard<std::mutex> guard(memory_lock);
    *total = ARENA;
    *free_bytes = ARENA - arenas[current].in_use;
    return SUCCESS;
}

struct PointerAttributes {
    int type, device;
    void *device_pointer, *host_pointer;
};

/* Tells whose memory an address is in; the host's, unless CUDA has allocated it or locked its pages. */
EXPORT cudaPointerGetAttributes(PointerAttributes *said, const void *pointer) {
    NEEDS(CONTEXT);
    void *same = const_cast<void *>(pointer);
    Range range = range_of(pointer);
    const int types[] = {UNREGISTERED, HOST, MANAGED_MEMORY, DEVICE};
    *said = {types[range.place], range.device, range.place == PAGEABLE ? nullptr : same, range.place == ON_DEVICE ? nullptr : same};
    return SUCCESS;
}

/* ---- the one pool that each device has, by the number of the device counted from 1 ---- */

EXPORT cudaDeviceGetDefaultMemPool(uintptr_t *pool, int device) {
    NEEDS(DRIVER);
    return *pool = uintptr_t(device) + 1, SUCCESS;
}

EXPORT cudaDeviceGetMemPool(uintptr_t *pool, int device) { return cudaDeviceGetDefaultMemPool(pool, device); }

EXPORT cudaMemPoolTrimTo(uintptr_t, size_t) {
    NEEDS(DRIVER);
    return SUCCESS;
}

EXPORT cudaMemPoolSetAttribute(uintptr_t pool, int which, uint64_t *value) {
    NEEDS(DRIVER);
    std::lock_guard<std::mutex> guard(memory_lock);
    if (which != RELEASE_THRESHOLD) {
        return NOT_SUPPORTED;
    }
    arenas[pool - 1].threshold = *value;
    say("cudaMemPoolSetAttribute threshold %d %llu", int(pool - 1), static_cast<unsigned long long>(*value));
    return SUCCESS;
}

EXPORT cudaMemPoolGetAttribute(uintptr_t pool, int which, uint64_t *value) {
    NEEDS(DRIVER);
    std::lock_guard<std::mutex> guard(memory_lock);
    const Arena &arena = arenas[pool - 1];
    switch (which) {
    case RELEASE_THRESHOLD:
        return *value = arena.threshold, SUCCESS;
    case RESERVED:
    case RESERVED_HIGH:
    case USED_HIGH:
        return *value = arena.pool_high, SUCCESS;
    case USED:
        return *value = arena.in_pool, SUCCESS;
    default:
        return NOT_SUPPORTED;
    }
}
