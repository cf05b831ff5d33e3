/* Copies and fills: all are work of a stream; the host waits where CUDA's documentation has it wait. */

#include "emulated.h"

#include <cstring>

namespace {

enum Kind { HOST_TO_HOST = 0, HOST_TO_DEVICE = 1, DEVICE_TO_HOST = 2, DEVICE_TO_DEVICE = 3, ANY = 4 };

/* Whether so much is there: of a device what was allocated at once, of the host anything but nothing. */
bool is_allocated(const void *pointer, size_t size, bool of_device) {
    Range range = range_of(pointer);
    if (range.place == PAGEABLE) {
        return pointer != nullptr && !of_device;
    }
    return reinterpret_cast<uintptr_t>(pointer) + size <= range.start + range.size;
}

bool is_valid(const void *to, const void *from, size_t size, int kind) {
    bool to_device = kind == HOST_TO_DEVICE || kind == DEVICE_TO_DEVICE, from_device = kind == DEVICE_TO_HOST || kind == DEVICE_TO_DEVICE;
    return size == 0 || (is_allocated(to, size, to_device) && is_allocated(from, size, from_device));
}

bool is_on_device(const void *pointer) {
    Place place = range_of(pointer).place;
    return place == ON_DEVICE || place == MANAGED;
}

/* Pageable memory is read and written before the call returns; page-locked memory when the stream gets there. */
int copy(void *to, const void *from, size_t size, int kind, Stream *stream, bool waits) {
    if (stream == nullptr) {
        return INVALID_HANDLE;
    }
    if (!is_valid(to, from, size, kind)) {
        return INVALID_VALUE;
    }
    bool by_host = range_of(to).place == PAGEABLE || range_of(from).place == PAGEABLE;
    if (stream->capturing && by_host) {
        stream->invalid = true;
        return CAPTURE_UNSUPPORTED;
    }
    int status = submit(stream, [=] { memcpy(reachable(to), reachable(from), size); });
    return status == SUCCESS && (waits || by_host) ? synchronize(stream) : status;
}

int fill(void *pointer, int value, size_t size, Stream *stream) {
    return submit(stream, [=] { memset(reachable(pointer), value, size); });
}

} // namespace

/* CUDA Runtime API, cudaMemcpy: copies in the order of the legacy default stream, and returns when the host may use both sides; within
 * devices it may return before. */
EXPORT cudaMemcpy(void *to, const void *from, size_t size, int kind) {
    NEEDS(CONTEXT);
    log_call("cudaMemcpy %zu %s %s", size, name_of(from).c_str(), name_of(to).c_str());
    if (int status = error_in_capture()) {
        return status;
    }
    return copy(to, from, size, kind, legacy(current), !is_on_device(to) || !is_on_device(from));
}

/* CUDA Runtime API, cudaMemcpyAsync: copies in the order of a stream. Page-locked memory is read and written in the stream's turn, pageable
 * memory before the call returns. */
EXPORT cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
    NEEDS(CONTEXT);
    log_call("cudaMemcpyAsync %zu %s %s %p", size, name_of(from).c_str(), name_of(to).c_str(), stream);
    return copy(to, from, size, kind, stream_of(stream), false);
}

/* CUDA Runtime API, cudaMemcpyPeer: copies between two devices, in order with the work that either was given before and will be given; the
 * host may go on. Not emulated: the order with the device that is not current, for which the host waits here. */
EXPORT cudaMemcpyPeer(void *to, int, const void *from, int, size_t size) {
    NEEDS(CONTEXT);
    log_call("cudaMemcpyPeer %zu", size);
    return copy(to, from, size, DEVICE_TO_DEVICE, legacy(current), true);
}

/* CUDA Runtime API, cudaMemcpyPeerAsync: copies between two devices in the order of a stream. */
EXPORT cudaMemcpyPeerAsync(void *to, int, const void *from, int, size_t size, void *stream) {
    NEEDS(CONTEXT);
    log_call("cudaMemcpyPeerAsync %zu %s %s %p", size, name_of(from).c_str(), name_of(to).c_str(), stream);
    return copy(to, from, size, DEVICE_TO_DEVICE, stream_of(stream), false);
}

/* CUDA Runtime API, cudaMemset: fills bytes in the order of the legacy default stream; for device memory it returns before it is done. */
EXPORT cudaMemset(void *pointer, int value, size_t size) {
    NEEDS(CONTEXT);
    log_call("cudaMemset %zu", size);
    return fill(pointer, value, size, legacy(current));
}

/* CUDA Runtime API, cudaMemsetAsync: fills bytes in the order of a stream. */
EXPORT cudaMemsetAsync(void *pointer, int value, size_t size, void *stream) {
    NEEDS(CONTEXT);
    log_call("cudaMemsetAsync %zu %p", size, stream);
    return fill(pointer, value, size, stream_of(stream));
}
