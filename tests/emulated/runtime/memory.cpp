/* Memory that is allocated in no order with any stream, of the devices and of the host. */

#include "arena.h"

#include <cstdlib>

namespace {

enum MemoryType { UNREGISTERED = 0, HOST = 1, DEVICE = 2, MANAGED_MEMORY = 3 };

int allocate_host(Blocks &blocks, void **pointer, size_t size) {
    if (posix_memalign(pointer, 4096, size) != 0) {
        return OUT_OF_MEMORY;
    }
    std::lock_guard<std::mutex> guard(memory_lock);
    blocks[reinterpret_cast<uintptr_t>(*pointer)] = size;
    return SUCCESS;
}

bool erase_block(Blocks &blocks, void *pointer) {
    std::lock_guard<std::mutex> guard(memory_lock);
    return blocks.erase(reinterpret_cast<uintptr_t>(pointer)) != 0;
}

void synchronize_device(int device) {
    int before = current;
    current = device;
    cudaDeviceSynchronize();
    current = before;
}

} // namespace

/* CUDA Runtime API, cudaMalloc: allocates linear memory on the current device, aligned for any type, in no order with any stream;
 * cudaErrorMemoryAllocation where there is not enough. */
EXPORT cudaMalloc(void **pointer, size_t size) {
    NEEDS(CONTEXT);
    log_call("cudaMalloc %zu", size);
    if (int status = error_in_capture()) {
        return status;
    }
    *pointer = allocate(current, size, false);
    return *pointer == nullptr ? OUT_OF_MEMORY : SUCCESS;
}

/* CUDA Runtime API, cudaFree: frees device or managed memory; it may wait for the device before, and does so here. A null pointer does
 * nothing, and another address is an error. Not emulated: of cudaMallocAsync's memory it would not wait. */
EXPORT cudaFree(void *pointer) {
    NEEDS(CONTEXT);
    if (pointer == nullptr) {
        return SUCCESS;
    }
    log_call("cudaFree");
    if (int status = error_in_capture()) {
        return status;
    }
    Range range = range_of(pointer);
    if (range.place == ON_DEVICE) {
        synchronize_device(range.device);
        return release(pointer) ? SUCCESS : INVALID_VALUE;
    }
    if (range.place != MANAGED) {
        return INVALID_VALUE;
    }
    for (int n = 0; n < DEVICES; n++) {
        if (is_active(n)) {
            synchronize_device(n);
        }
    }
    return erase_block(managed, pointer) ? (free(pointer), SUCCESS) : INVALID_VALUE;
}

/* CUDA Runtime API, cudaMallocManaged: allocates memory that host and devices reach by one address. Not emulated: where its pages are; they
 * are always the host's. */
EXPORT cudaMallocManaged(void **pointer, size_t size, unsigned) {
    NEEDS(CONTEXT);
    log_call("cudaMallocManaged %zu", size);
    return allocate_host(managed, pointer, size);
}

/* CUDA Runtime API, cudaHostAlloc: allocates page-locked host memory, which copies read and write while the host goes on. Not emulated: the
 * flags. */
EXPORT cudaHostAlloc(void **pointer, size_t size, unsigned) {
    NEEDS(CONTEXT);
    log_call("cudaHostAlloc %zu", size);
    int status = error_in_capture();
    return status != SUCCESS ? status : allocate_host(page_locked, pointer, size);
}

/* CUDA Runtime API, cudaMallocHost: is cudaHostAlloc without flags. */
EXPORT cudaMallocHost(void **pointer, size_t size) { return cudaHostAlloc(pointer, size, 0); }

/* CUDA Runtime API, cudaFreeHost: frees memory of cudaHostAlloc or cudaMallocHost; another address is an error. */
EXPORT cudaFreeHost(void *pointer) {
    NEEDS(CONTEXT);
    log_call("cudaFreeHost");
    return erase_block(page_locked, pointer) ? (free(pointer), SUCCESS) : INVALID_VALUE;
}

/* CUDA Runtime API, cudaHostRegister: page-locks host memory that the caller has allocated. Not emulated: the flags. */
EXPORT cudaHostRegister(void *pointer, size_t size, unsigned) {
    NEEDS(CONTEXT);
    log_call("cudaHostRegister %zu", size);
    if (range_of(pointer).place != PAGEABLE) {
        return ALREADY_REGISTERED;
    }
    std::lock_guard<std::mutex> guard(memory_lock);
    page_locked[reinterpret_cast<uintptr_t>(pointer)] = size;
    return SUCCESS;
}

/* CUDA Runtime API, cudaHostUnregister: ends what cudaHostRegister began; the memory stays the caller's. */
EXPORT cudaHostUnregister(void *pointer) {
    NEEDS(CONTEXT);
    return erase_block(page_locked, pointer) ? SUCCESS : NOT_REGISTERED;
}

/* CUDA Runtime API, cudaMemGetInfo: stores the free and the total bytes of the current device. */
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

/* CUDA Runtime API, cudaPointerGetAttributes: stores whose memory an address is in; since CUDA 11 an address that CUDA does not know is no
 * error, and its type is cudaMemoryTypeUnregistered. */
EXPORT cudaPointerGetAttributes(PointerAttributes *attributes, const void *pointer) {
    NEEDS(CONTEXT);
    void *same = const_cast<void *>(pointer);
    Range range = range_of(pointer);
    const int types[] = {UNREGISTERED, HOST, MANAGED_MEMORY, DEVICE};
    *attributes = {types[range.place], range.device, range.place == PAGEABLE ? nullptr : same, range.place == ON_DEVICE ? nullptr : same};
    return SUCCESS;
}
