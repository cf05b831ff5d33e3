/* Memory that is allocated in the order of a stream. Each device has one pool, whose handle is the number of the device counted from 1. */

#include "arena.h"

namespace {

enum PoolAttribute { RELEASE_THRESHOLD = 4, RESERVED = 5, RESERVED_HIGH = 6, USED = 7, USED_HIGH = 8 }; // driver_types.h

} // namespace

/* CUDA Runtime API, cudaMallocAsync: allocates in the order of a stream: the memory may be used by work that is ordered after the
 * allocation. Not emulated: the host already has it, so a use that is not ordered after it goes unnoticed. */
EXPORT cudaMallocAsync(void **pointer, size_t size, void *stream) {
    NEEDS(CONTEXT);
    Stream *there = stream_of(stream);
    log_call("cudaMallocAsync %zu %p", size, stream);
    if (there == nullptr) {
        return INVALID_HANDLE;
    }
    *pointer = allocate(there->device, size, true);
    return *pointer == nullptr ? OUT_OF_MEMORY : SUCCESS;
}

/* CUDA Runtime API, cudaMallocFromPoolAsync: is cudaMallocAsync from a pool that is named. Not emulated: other pools than each device's
 * one. */
EXPORT cudaMallocFromPoolAsync(void **pointer, size_t size, void *, void *stream) { return cudaMallocAsync(pointer, size, stream); }

/* CUDA Runtime API, cudaFreeAsync: frees in the order of a stream: work that was given to the stream before may still use the memory. */
EXPORT cudaFreeAsync(void *pointer, void *stream) {
    NEEDS(CONTEXT);
    log_call("cudaFreeAsync %p", stream);
    return submit(stream_of(stream), [=] { release(pointer); });
}

/* CUDA Runtime API, cudaDeviceGetDefaultMemPool: stores the pool that a device has from the start. */
EXPORT cudaDeviceGetDefaultMemPool(uintptr_t *pool, int device) {
    NEEDS(DRIVER);
    return *pool = uintptr_t(device) + 1, SUCCESS;
}

/* CUDA Runtime API, cudaDeviceGetMemPool: stores the pool that cudaMallocAsync takes from: the default one unless another was set. Not
 * emulated: setting another. */
EXPORT cudaDeviceGetMemPool(uintptr_t *pool, int device) { return cudaDeviceGetDefaultMemPool(pool, device); }

/* CUDA Runtime API, cudaMemPoolTrimTo: gives unused memory of a pool back to the system until only so many bytes are reserved. Not
 * emulated: unused memory is not reserved, so there is nothing to do. */
EXPORT cudaMemPoolTrimTo(uintptr_t, size_t) {
    NEEDS(DRIVER);
    return SUCCESS;
}

/* CUDA Runtime API, cudaMemPoolSetAttribute: sets an attribute of a pool. Not emulated: others than the release threshold. */
EXPORT cudaMemPoolSetAttribute(uintptr_t pool, int which, uint64_t *value) {
    NEEDS(DRIVER);
    std::lock_guard<std::mutex> guard(memory_lock);
    if (which != RELEASE_THRESHOLD) {
        return NOT_SUPPORTED;
    }
    arenas[pool - 1].threshold = *value;
    log_call("cudaMemPoolSetAttribute threshold %d %llu", int(pool - 1), static_cast<unsigned long long>(*value));
    return SUCCESS;
}

/* CUDA Runtime API, cudaMemPoolGetAttribute: stores an attribute of a pool: its release threshold, the bytes that are used and reserved,
 * and their high marks. Not emulated: the reserved bytes are those of the high mark. */
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
