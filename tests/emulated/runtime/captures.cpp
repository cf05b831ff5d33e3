/* Captures: the work that is submitted to their streams becomes nodes of a graph, in that order. */

#include "graph.h"

#include <utility>

namespace {

enum Mode { GLOBAL = 0, OF_THE_THREAD = 1, RELAXED = 2 };

std::atomic<int> captures{0};
std::atomic<unsigned long long> capture_count{0};
thread_local int mode_of_thread = GLOBAL;

void leave(Stream *stream) {
    stream->capturing = false;
    stream->origin = nullptr;
    stream->graph = nullptr;
    captures--;
}

/* Takes the streams that have joined out of the capture; returns whether the capture has waited for all of them. */
bool release_joined(Stream *origin) {
    bool all = true;
    for (Stream *one : open_streams()) {
        if (one->origin == origin) {
            all = all && one->joined;
            leave(one);
        }
    }
    return all;
}

} // namespace

/* To wait, to query or to allocate is an error while this process captures a graph in the global mode, unless the thread is relaxed;
 * pytorch#104555 has it of queries of events. */
int error_in_capture() {
    if (captures == 0 || mode_of_thread == RELAXED) {
        return SUCCESS;
    }
    bool any = false;
    for (Stream *one : open_streams()) {
        if (one->capturing && one->mode == GLOBAL) {
            any = one->invalid = true;
        }
    }
    return any ? CAPTURE_UNSUPPORTED : SUCCESS;
}

/* The legacy stream would wait for the blocking streams, which a capture does not allow. */
int implicit_error(int device) {
    if (captures == 0) {
        return SUCCESS;
    }
    for (Stream *one : open_streams()) {
        if (one->device == device && one->capturing && one->is_blocking()) {
            one->invalid = true;
            return CAPTURE_IMPLICIT;
        }
    }
    return SUCCESS;
}

int join(Stream *stream, Stream *from) {
    if (is_legacy(stream)) {
        from->invalid = true;
        return CAPTURE_IMPLICIT;
    }
    if (!from->capturing) { // an event of a capture that has ended
        return CAPTURED_EVENT;
    }
    if (stream->capturing) {
        from->joined = from->joined || from->origin == stream;
        return SUCCESS;
    }
    stream->mode = from->mode;
    stream->origin = from->origin != nullptr ? from->origin : from;
    stream->capture = from->capture;
    stream->graph = from->graph;
    stream->joined = stream->invalid = false;
    captures++;
    stream->capturing = true;
    return SUCCESS;
}

/* CUDA Runtime API, cudaStreamBeginCapture: begins a capture: what the stream is given from here on becomes nodes of a graph and is not
 * executed; not for the legacy default stream. */
EXPORT cudaStreamBeginCapture(void *stream, int mode) {
    NEEDS(CONTEXT);
    Stream *found = stream_of(stream);
    if (found == nullptr) {
        return INVALID_HANDLE;
    }
    if (is_legacy(found) || found->capturing) {
        return CAPTURE_UNSUPPORTED;
    }
    found->capture = ++capture_count;
    found->invalid = false;
    found->mode = mode;
    found->graph = std::make_shared<Graph>();
    captures++;
    found->capturing = true;
    return SUCCESS;
}

/* CUDA Runtime API, cudaStreamEndCapture: ends a capture on the stream where it began and stores its graph: no graph if the capture was
 * invalidated, or if a stream that joined it was not waited for. */
EXPORT cudaStreamEndCapture(void *stream, void **graph) {
    NEEDS(CONTEXT);
    Stream *found = stream_of(stream);
    if (found == nullptr) {
        return INVALID_HANDLE;
    }
    if (!found->capturing) {
        return ILLEGAL_STATE;
    }
    if (found->origin != nullptr) { // it has joined: cupy's tests/cupy_tests/cuda_tests/test_graph.py has the errors
        found->origin->invalid = true;
        return CAPTURE_UNMATCHED;
    }
    auto noted = found->graph;
    leave(found);
    bool all = release_joined(found);
    *graph = nullptr;
    if (found->invalid) {
        return CAPTURE_INVALIDATED;
    }
    if (!all) {
        return CAPTURE_UNJOINED;
    }
    *graph = new Handle{noted};
    return SUCCESS;
}

/* CUDA Runtime API, cudaStreamIsCapturing: stores whether a stream captures, and whether its capture was invalidated;
 * cudaErrorStreamCaptureImplicit for the legacy default stream while a blocking stream captures. */
EXPORT cudaStreamIsCapturing(void *stream, int *status) {
    NEEDS(CONTEXT);
    Stream *found = stream_of(stream);
    if (found == nullptr) {
        return INVALID_HANDLE;
    }
    if (is_legacy(found) && captures != 0) {
        for (Stream *one : open_streams()) {
            if (one->device == found->device && one->capturing && one->is_blocking()) {
                return CAPTURE_IMPLICIT;
            }
        }
    }
    *status = found->capturing ? (found->invalid ? 2 : 1) : 0;
    return SUCCESS;
}

/* CUDA Runtime API, cudaStreamGetCaptureInfo: stores the status of a capture and a number that only this capture has, here with the
 * parameters of CUDA 13. Not emulated: the graph and the dependencies, which are null. */
EXPORT cudaStreamGetCaptureInfo(void *stream, int *status, unsigned long long *number, void **graph, void ***first, void ***edges,
                                size_t *count) {
    int result = cudaStreamIsCapturing(stream, status);
    if (result == SUCCESS && *status == 1 && number != nullptr) {
        *number = stream_of(stream)->capture;
    }
    for (void *out : {static_cast<void *>(graph), static_cast<void *>(first), static_cast<void *>(edges)}) {
        if (out != nullptr) {
            *static_cast<void **>(out) = nullptr;
        }
    }
    if (count != nullptr) {
        *count = 0;
    }
    return result;
}

/* CUDA Runtime API, cudaThreadExchangeStreamCaptureMode: swaps the calling thread's capture mode, which decides what it may call while a
 * capture is under way. */
EXPORT cudaThreadExchangeStreamCaptureMode(int *mode) {
    NEEDS(DRIVER);
    std::swap(*mode, mode_of_thread);
    return SUCCESS;
}
