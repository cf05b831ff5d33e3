/* The driver's functions about memory, copies, streams and events: the runtime's, in a context that must be current. */

#include "emulated.h"

#include <cstring>

namespace {

// cuda.h: CUpointer_attribute.
enum { CONTEXT_OF = 1, MEMORY_TYPE = 2, DEVICE_POINTER = 3, HOST_POINTER = 4, IS_MANAGED = 8, DEVICE_ORDINAL = 9, START = 11, SIZE = 12 };

template <typename Value> int answer(void *into, Value value) { return memcpy(into, &value, sizeof value), SUCCESS; }

} // namespace

#define AS_THE_RUNTIME(driver, runtime, parameters, arguments)                                                                             \
    EXPORT driver parameters {                                                                                                             \
        DRIVER_NEEDS(CONTEXT);                                                                                                             \
        return runtime arguments;                                                                                                          \
    }

/* CUDA Driver API, cuMemAlloc: allocates memory on the device of the current context. */
AS_THE_RUNTIME(cuMemAlloc_v2, cudaMalloc, (void **pointer, size_t size), (pointer, size))

/* CUDA Driver API, cuMemFree: frees memory of cuMemAlloc once the device no longer works on it. */
AS_THE_RUNTIME(cuMemFree_v2, cudaFree, (void *pointer), (pointer))

/* CUDA Driver API, cuMemAllocAsync: allocates in the order of a stream. */
AS_THE_RUNTIME(cuMemAllocAsync, cudaMallocAsync, (void **pointer, size_t size, void *stream), (pointer, size, stream))

/* CUDA Driver API, cuMemFreeAsync: frees in the order of a stream. */
AS_THE_RUNTIME(cuMemFreeAsync, cudaFreeAsync, (void *pointer, void *stream), (pointer, stream))

/* CUDA Driver API, cuMemGetInfo: stores the free and the total bytes of the current context's device. */
AS_THE_RUNTIME(cuMemGetInfo_v2, cudaMemGetInfo, (size_t *free_bytes, size_t *total), (free_bytes, total))

/* CUDA Driver API, cuMemcpyHtoD: copies from the host to the device, and returns when the host may change the source. */
AS_THE_RUNTIME(cuMemcpyHtoD_v2, cudaMemcpy, (void *to, const void *from, size_t size), (to, from, size, 1))

/* CUDA Driver API, cuMemcpyDtoH: copies from the device to the host, and returns when the bytes are there. */
AS_THE_RUNTIME(cuMemcpyDtoH_v2, cudaMemcpy, (void *to, const void *from, size_t size), (to, from, size, 2))

/* CUDA Driver API, cuMemcpyDtoD: copies within the device; it may return before it is done. */
AS_THE_RUNTIME(cuMemcpyDtoD_v2, cudaMemcpy, (void *to, const void *from, size_t size), (to, from, size, 3))

/* CUDA Driver API, cuMemcpyHtoDAsync: copies from the host to the device in the order of a stream. */
AS_THE_RUNTIME(cuMemcpyHtoDAsync_v2, cudaMemcpyAsync, (void *to, const void *from, size_t size, void *stream), (to, from, size, 1, stream))

/* CUDA Driver API, cuMemcpyDtoHAsync: copies from the device to the host in the order of a stream. */
AS_THE_RUNTIME(cuMemcpyDtoHAsync_v2, cudaMemcpyAsync, (void *to, const void *from, size_t size, void *stream), (to, from, size, 2, stream))

/* CUDA Driver API, cuMemcpyDtoDAsync: copies within the device in the order of a stream. */
AS_THE_RUNTIME(cuMemcpyDtoDAsync_v2, cudaMemcpyAsync, (void *to, const void *from, size_t size, void *stream), (to, from, size, 3, stream))

/* CUDA Driver API, cuMemcpyAsync: copies in the order of a stream, and finds out by the addresses from where to where. */
AS_THE_RUNTIME(cuMemcpyAsync, cudaMemcpyAsync, (void *to, const void *from, size_t size, void *stream), (to, from, size, 4, stream))

/* CUDA Driver API, cuMemsetD8: fills bytes of the device. */
AS_THE_RUNTIME(cuMemsetD8_v2, cudaMemset, (void *pointer, unsigned char value, size_t size), (pointer, value, size))

/* CUDA Driver API, cuMemsetD8Async: fills bytes of the device in the order of a stream. */
AS_THE_RUNTIME(cuMemsetD8Async, cudaMemsetAsync, (void *at, unsigned char value, size_t size, void *stream), (at, value, size, stream))

/* CUDA Driver API, cuPointerGetAttribute: stores something of the memory at an address; CUDA_ERROR_INVALID_VALUE for memory that CUDA does
 * not know. Not emulated: attributes that nothing here reads. */
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

/* CUDA Driver API, cuStreamCreate: creates a stream in the current context. */
AS_THE_RUNTIME(cuStreamCreate, cudaStreamCreateWithFlags, (void **stream, unsigned flags), (stream, flags))

/* CUDA Driver API, cuStreamDestroy: returns at once; the work that the stream still has goes on. */
AS_THE_RUNTIME(cuStreamDestroy_v2, cudaStreamDestroy, (void *stream), (stream))

/* CUDA Driver API, cuStreamSynchronize: returns when all work that the stream was given before is done. */
AS_THE_RUNTIME(cuStreamSynchronize, cudaStreamSynchronize, (void *stream), (stream))

/* CUDA Driver API, cuStreamQuery: returns CUDA_SUCCESS if all work of a stream is done, and CUDA_ERROR_NOT_READY if not. */
AS_THE_RUNTIME(cuStreamQuery, cudaStreamQuery, (void *stream), (stream))

/* CUDA Driver API, cuStreamWaitEvent: has later work of a stream wait for what an event stands for at this call. */
AS_THE_RUNTIME(cuStreamWaitEvent, cudaStreamWaitEvent, (void *stream, void *event, unsigned flags), (stream, event, flags))

/* CUDA Driver API, cuStreamIsCapturing: stores whether a stream captures. */
AS_THE_RUNTIME(cuStreamIsCapturing, cudaStreamIsCapturing, (void *stream, int *status), (stream, status))

/* CUDA Driver API, cuEventCreate: creates an event in the current context. */
AS_THE_RUNTIME(cuEventCreate, cudaEventCreateWithFlags, (void **event, unsigned flags), (event, flags))

/* CUDA Driver API, cuEventDestroy: destroys an event, also before it has completed. */
AS_THE_RUNTIME(cuEventDestroy_v2, cudaEventDestroy, (void *event), (event))

/* CUDA Driver API, cuEventRecord: lets an event stand for the work that a stream was given until now. */
AS_THE_RUNTIME(cuEventRecord, cudaEventRecord, (void *event, void *stream), (event, stream))

/* CUDA Driver API, cuEventQuery: returns CUDA_SUCCESS if the work that an event stands for is done, and CUDA_ERROR_NOT_READY if not. */
AS_THE_RUNTIME(cuEventQuery, cudaEventQuery, (void *event), (event))

/* CUDA Driver API, cuEventSynchronize: returns when the work that an event stands for is done. */
AS_THE_RUNTIME(cuEventSynchronize, cudaEventSynchronize, (void *event), (event))

/* CUDA Driver API, cuThreadExchangeStreamCaptureMode: swaps the calling thread's capture mode. */
EXPORT cuThreadExchangeStreamCaptureMode(int *mode) {
    DRIVER_NEEDS(DRIVER);
    return cudaThreadExchangeStreamCaptureMode(mode);
}
