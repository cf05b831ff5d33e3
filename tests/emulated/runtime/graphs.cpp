/* Graphs: the work of a capture, done again with each launch. */

#include "graph.h"

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

/* CUDA Runtime API, cudaGraphInstantiate: makes a graph that can be launched of one that was captured. Not emulated: the flags. */
EXPORT cudaGraphInstantiate(void **runnable, void *graph, unsigned long long) {
    NEEDS(CONTEXT);
    return *runnable = new Handle(*static_cast<Handle *>(graph)), SUCCESS;
}

/* CUDA Runtime API, cudaGraphInstantiateWithFlags: is cudaGraphInstantiate by the name that it had with flags in CUDA 11. */
EXPORT cudaGraphInstantiateWithFlags(void **runnable, void *graph, unsigned long long flags) {
    return cudaGraphInstantiate(runnable, graph, flags);
}

/* CUDA Runtime API, cudaGraphGetNodes: stores the number of a graph's nodes. Not emulated: the nodes themselves. */
EXPORT cudaGraphGetNodes(void *graph, void **nodes, size_t *count) {
    NEEDS(CONTEXT);
    if (nodes == nullptr) {
        *count = static_cast<Handle *>(graph)->graph->nodes.size();
    }
    return SUCCESS;
}

/* CUDA Runtime API, cudaGraphLaunch: executes a graph in the order of a stream; a graph may be launched many times, one launch after the
 * other. */
EXPORT cudaGraphLaunch(void *runnable, void *stream) {
    NEEDS(CONTEXT);
    log_call("cudaGraphLaunch %p", stream);
    return submit(stream_of(stream), [graph = static_cast<Handle *>(runnable)->graph] { graph->run(); });
}

/* CUDA Runtime API, cudaGraphUpload: puts a graph on the device in the order of a stream and executes nothing. Not emulated: there is
 * nothing to put. */
EXPORT cudaGraphUpload(void *, void *) {
    NEEDS(CONTEXT);
    return SUCCESS;
}

/* CUDA Runtime API, cudaGraphDestroy: destroys a graph; what was instantiated of it stays. */
EXPORT cudaGraphDestroy(void *graph) {
    NEEDS(CONTEXT);
    delete static_cast<Handle *>(graph);
    return SUCCESS;
}

/* CUDA Runtime API, cudaGraphExecDestroy: destroys a graph that can be launched; a launch that is under way is not ended (CUDA Driver API,
 * cuGraphExecDestroy). */
EXPORT cudaGraphExecDestroy(void *runnable) { return cudaGraphDestroy(runnable); }
