/* The functions about streams; their queues are in queues.cpp. */

#include "emulated.h"

/* CUDA Runtime API, cudaStreamCreateWithFlags: creates a stream on the current device; with cudaStreamNonBlocking it does not synchronize
 * with the legacy default stream. */
EXPORT cudaStreamCreateWithFlags(void **stream, unsigned flags) {
    NEEDS(CONTEXT);
    return *stream = remember(new Stream(current, flags)), SUCCESS;
}

/* CUDA Runtime API, cudaStreamCreate: creates a stream on the current device that synchronizes with the legacy default stream. */
EXPORT cudaStreamCreate(void **stream) { return cudaStreamCreateWithFlags(stream, 0); }

/* CUDA Runtime API, cudaStreamCreateWithPriority: creates a stream with a priority. Not emulated: the priority. */
EXPORT cudaStreamCreateWithPriority(void **stream, unsigned flags, int) { return cudaStreamCreateWithFlags(stream, flags); }

/* CUDA Runtime API, cudaStreamDestroy: returns at once; the work that the stream still has goes on, and the handle is no longer valid. */
EXPORT cudaStreamDestroy(void *stream) {
    NEEDS(CONTEXT);
    Stream *found = stream_of(stream);
    if (found == nullptr || is_legacy(found)) {
        return INVALID_HANDLE;
    }
    found->close();
    return SUCCESS;
}

/* CUDA Runtime API, cudaStreamGetFlags: stores the flags that a stream was created with. */
EXPORT cudaStreamGetFlags(void *stream, unsigned *flags) {
    NEEDS(CONTEXT);
    Stream *found = stream_of(stream);
    return found == nullptr ? INVALID_HANDLE : (*flags = found->flags, SUCCESS);
}

/* CUDA Runtime API, cudaStreamGetPriority: stores the priority of a stream. Not emulated: priorities, so it is 0. */
EXPORT cudaStreamGetPriority(void *, int *priority) {
    NEEDS(CONTEXT);
    return *priority = 0, SUCCESS;
}

/* CUDA Runtime API, cudaStreamSynchronize: returns when all work that the stream was given before is done, or returns the error of that
 * work. */
EXPORT cudaStreamSynchronize(void *stream) {
    NEEDS(CONTEXT);
    log_call("cudaStreamSynchronize %p", stream);
    return synchronize(stream_of(stream));
}

/* CUDA Runtime API, cudaStreamQuery: returns cudaSuccess if all work of a stream is done, and cudaErrorNotReady if not, without waiting;
 * while a thread captures in the global mode it is an error. */
EXPORT cudaStreamQuery(void *stream) {
    NEEDS(CONTEXT);
    Stream *found = stream_of(stream);
    if (int status = error_in_capture()) {
        return status;
    }
    return found == nullptr ? INVALID_HANDLE : found->is_idle() ? SUCCESS : NOT_READY;
}

/* CUDA Runtime API, cudaLaunchHostFunc: calls a function of the host in the stream's turn; the work after it waits until it returns. */
EXPORT cudaLaunchHostFunc(void *stream, void (*function)(void *), void *data) {
    NEEDS(CONTEXT);
    return submit(stream_of(stream), [=] { function(data); });
}
