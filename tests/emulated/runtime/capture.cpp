/* Captures of graphs, and their replay: the work that was given to the streams of a capture, in the order in which it was given. */

#include "emulated.h"

#include <utility>

namespace {

enum Mode { GLOBAL = 0, OF_THE_THREAD = 1, RELAXED = 2 };

std::atomic<int> captures{0};
std::atomic<unsigned long long> capture_count{0};
thread_local int mode_of_thread = GLOBAL;

struct Handle { // of a graph, or of one that can be launched
    std::shared_ptr<Graph> graph;
};

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

void Graph::add(Work work) {
    std::lock_guard<std::mutex> guard(lock);
    nodes.push_back(std::move(work));
}

void Graph::run() {
    std::lock_guard<std::mutex> guard(lock); // one graph is not launched twice at a time
    for (const Work &work : nodes) {
        work();
    }
}

/* What waits, asks, or allocates is an error while this process captures a graph in the global mode, unless the thread is relaxed;
 * torch#104555 has it of questions to events. */
int outside_of_captures() {
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

/* From here on what a stream is given is noted, and not done. */
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

/* Ends a capture where it began, and returns its graph; every stream that has joined must have been waited for. */
EXPORT cudaStreamEndCapture(void *stream, void **graph) {
    NEEDS(CONTEXT);
    Stream *found = stream_of(stream);
    if (found == nullptr || !found->capturing) {
        return INVALID_VALUE;
    }
    if (found->origin != nullptr) {
        return CAPTURE_UNSUPPORTED;
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

/* 0 for none, 1 for a capture, 2 for one that an error has ended. */
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

/* The numbers of a capture; without its graph, which nobody looks at here. */
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

/* Sets what this thread may do while another one captures, and returns what it was. */
EXPORT cudaThreadExchangeStreamCaptureMode(int *mode) {
    NEEDS(DRIVER);
    std::swap(*mode, mode_of_thread);
    return SUCCESS;
}

EXPORT cudaGraphInstantiate(void **runnable, void *graph, unsigned long long) {
    NEEDS(CONTEXT);
    return *runnable = new Handle(*static_cast<Handle *>(graph)), SUCCESS;
}

EXPORT cudaGraphInstantiateWithFlags(void **runnable, void *graph, unsigned long long flags) {
    return cudaGraphInstantiate(runnable, graph, flags);
}

EXPORT cudaGraphGetNodes(void *graph, void **nodes, size_t *count) {
    NEEDS(CONTEXT);
    if (nodes == nullptr) {
        *count = static_cast<Handle *>(graph)->graph->nodes.size();
    }
    return SUCCESS;
}

/* Has a stream do the work of a graph, in its turn. */
EXPORT cudaGraphLaunch(void *runnable, void *stream) {
    NEEDS(CONTEXT);
    say("cudaGraphLaunch %p", stream);
    return give(stream_of(stream), [graph = static_cast<Handle *>(runnable)->graph] { graph->run(); });
}

EXPORT cudaGraphUpload(void *, void *) {
    NEEDS(CONTEXT);
    return SUCCESS;
}

/* A launch that is under way goes on. */
EXPORT cudaGraphDestroy(void *graph) {
    NEEDS(CONTEXT);
    delete static_cast<Handle *>(graph);
    return SUCCESS;
}

EXPORT cudaGraphExecDestroy(void *runnable) { return cudaGraphDestroy(runnable); }
