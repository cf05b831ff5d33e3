/* Streams: a thread and a queue each, and what waits for them. */

#include "emulated.h"

#include <cstdlib>
#include <map>
#include <set>
#include <thread>

#include <unistd.h>

namespace {

// A stream is never freed: a handle that was given up is noticed when it is used.
std::mutex stream_lock;
std::set<Stream *> streams;
Stream *legacy_streams[DEVICES];
thread_local std::map<int, Stream *> own_streams;

std::mutex gate_lock;
std::condition_variable gate_opened;
std::set<int> open_gates;
std::atomic<bool> all_gates_open{false};

void wait_at(int gate) {
    std::unique_lock<std::mutex> guard(gate_lock);
    gate_opened.wait(guard, [=] { return all_gates_open || open_gates.count(gate) != 0; });
}

std::mutex dropped_lock;
std::vector<size_t> dropped;

struct Job { // of the Python side; in a graph it is run many times, and its end is told when the graph is gone
    void (*const run)(size_t, int);
    const size_t number;
    Job(void (*function)(size_t, int), size_t of) : run(function), number(of) {}
    Job(const Job &) = delete;
    ~Job() {
        std::lock_guard<std::mutex> guard(dropped_lock);
        dropped.push_back(number);
    }
};

std::vector<Stream *> all_streams() {
    std::lock_guard<std::mutex> guard(stream_lock);
    return {streams.begin(), streams.end()};
}

Stream *remember(Stream *made) {
    std::lock_guard<std::mutex> guard(stream_lock);
    for (auto at = streams.begin(); at != streams.end();) { // those that were destroyed, and have come to their end
        at = !(*at)->open && (*at)->is_idle() ? streams.erase(at) : std::next(at);
    }
    streams.insert(made);
    return made;
}

std::vector<Mark> of_blocking_streams(int device) {
    std::vector<Mark> marks;
    for (Stream *one : all_streams()) {
        if (one->device == device && one->is_blocking()) {
            marks.push_back(one->now());
        }
    }
    return marks;
}

} // namespace

Stream::Stream(int on, unsigned how) : device(on), flags(how) {
    std::thread([this] { run(); }).detach();
}

bool Stream::next(Task &task) {
    std::unique_lock<std::mutex> guard(lock);
    changed.wait(guard, [this] { return !queue.empty() || !open; });
    if (queue.empty()) {
        return false;
    }
    task = std::move(queue.front());
    queue.pop_front();
    return true;
}

void Stream::run() {
    for (Task task; next(task); task = {}) {
        ::reach(task.first);
        task.work();
        task.work = nullptr;
        std::lock_guard<std::mutex> guard(lock);
        done++;
        changed.notify_all();
    }
}

void Stream::ask(Task task) {
    std::lock_guard<std::mutex> guard(lock);
    queue.push_back(std::move(task));
    asked++;
    changed.notify_all();
}

void Stream::reach(uint64_t number) {
    std::unique_lock<std::mutex> guard(lock);
    changed.wait(guard, [&] { return done >= number; });
}

Mark Stream::now() {
    std::lock_guard<std::mutex> guard(lock);
    return {this, asked};
}

bool Stream::has_reached(uint64_t number) {
    std::lock_guard<std::mutex> guard(lock);
    return done >= number;
}

bool Stream::is_idle() {
    std::lock_guard<std::mutex> guard(lock);
    return done == asked;
}

void Stream::close() {
    std::lock_guard<std::mutex> guard(lock);
    open = false; // what it has to do goes on
    changed.notify_all();
}

Stream *legacy(int device) {
    std::lock_guard<std::mutex> guard(stream_lock);
    if (legacy_streams[device] == nullptr) {
        legacy_streams[device] = new Stream(device, 0);
    }
    return legacy_streams[device];
}

bool is_legacy(const Stream *stream) { return legacy_streams[stream->device] == stream; }

/* 0 and 1 are the legacy default stream of the current device, 2 the thread's own. */
Stream *stream_of(void *handle) {
    auto number = reinterpret_cast<uintptr_t>(handle);
    if (number == 0 || number == LEGACY) {
        return legacy(current);
    }
    if (number == PER_THREAD) {
        Stream *&own = own_streams[current];
        return own != nullptr ? own : own = remember(new Stream(current, 0));
    }
    std::lock_guard<std::mutex> guard(stream_lock);
    auto found = streams.find(static_cast<Stream *>(handle));
    return found == streams.end() || !(*found)->open ? nullptr : *found;
}

std::vector<Stream *> open_streams() {
    std::vector<Stream *> found;
    for (Stream *one : all_streams()) {
        if (one->open || !one->is_idle()) {
            found.push_back(one);
        }
    }
    return found;
}

/* The legacy stream comes behind all blocking ones, and they behind it. */
std::vector<Mark> now(Stream *stream) {
    std::vector<Mark> marks;
    if (is_legacy(stream)) {
        marks = of_blocking_streams(stream->device);
    } else if (stream->is_blocking()) {
        marks.push_back(legacy(stream->device)->now());
    }
    marks.push_back(stream->now());
    return marks;
}

void reach(const std::vector<Mark> &marks) {
    for (const Mark &mark : marks) {
        mark.stream->reach(mark.number);
    }
}

/* Gives work to a stream, or to the graph that it captures; returns CUDA's error. */
int give(Stream *stream, Work work, std::vector<Mark> first) {
    if (stream == nullptr) {
        return INVALID_HANDLE;
    }
    if (stream->capturing) {
        stream->graph->add(std::move(work));
        return SUCCESS;
    }
    if (is_legacy(stream)) {
        if (int status = implicit_error(stream->device)) {
            return status;
        }
    }
    for (const Mark &mark : now(stream)) {
        if (mark.stream != stream) {
            first.push_back(mark);
        }
    }
    stream->ask({std::move(first), std::move(work)});
    return SUCCESS;
}

/* Waits for a stream; an error of its work, which ends the context, comes to light here. */
int finish(Stream *stream) {
    if (stream == nullptr) {
        return INVALID_HANDLE;
    }
    if (stream->capturing) {
        stream->invalid = true;
        return CAPTURE_UNSUPPORTED;
    }
    reach(now(stream));
    return broken();
}

/* Keeps the stream that calls it busy for a time, which is longer where the host is said to be slow (surroundings.py). */
void take_time(uint64_t microseconds) {
    static const char *given = getenv("INTEROP_EMULATED_SLOWNESS");
    static const double slowness = given != nullptr ? atof(given) : 1;
    usleep(useconds_t(double(microseconds) * slowness));
}

/* Makes a stream of the current device. */
EXPORT cudaStreamCreateWithFlags(void **stream, unsigned flags) {
    NEEDS(CONTEXT);
    return *stream = remember(new Stream(current, flags)), SUCCESS;
}

EXPORT cudaStreamCreate(void **stream) { return cudaStreamCreateWithFlags(stream, 0); }
EXPORT cudaStreamCreateWithPriority(void **stream, unsigned flags, int) { return cudaStreamCreateWithFlags(stream, flags); }

/* Returns at once; what the stream has to do goes on. */
EXPORT cudaStreamDestroy(void *stream) {
    NEEDS(CONTEXT);
    Stream *found = stream_of(stream);
    if (found == nullptr || is_legacy(found)) {
        return INVALID_HANDLE;
    }
    found->close();
    return SUCCESS;
}

EXPORT cudaStreamGetFlags(void *stream, unsigned *flags) {
    NEEDS(CONTEXT);
    Stream *found = stream_of(stream);
    return found == nullptr ? INVALID_HANDLE : (*flags = found->flags, SUCCESS);
}

EXPORT cudaStreamGetPriority(void *, int *priority) {
    NEEDS(CONTEXT);
    return *priority = 0, SUCCESS;
}

/* Waits for the work of a stream. */
EXPORT cudaStreamSynchronize(void *stream) {
    NEEDS(CONTEXT);
    say("cudaStreamSynchronize %p", stream);
    return finish(stream_of(stream));
}

/* Tells whether the work of a stream is done. */
EXPORT cudaStreamQuery(void *stream) {
    NEEDS(CONTEXT);
    Stream *found = stream_of(stream);
    if (int status = outside_of_captures()) {
        return status;
    }
    return found == nullptr ? INVALID_HANDLE : found->is_idle() ? SUCCESS : NOT_READY;
}

/* Calls a function of the host in a stream's turn. */
EXPORT cudaLaunchHostFunc(void *stream, void (*function)(void *), void *data) {
    NEEDS(CONTEXT);
    return give(stream_of(stream), [=] { function(data); });
}

/* ---- what the tests ask ---- */

/* Has a stream call `run(number, is_last)`; what a graph was given is named by `emulated_dropped` when the graph is gone. */
EXPORT emulated_launch(void *stream, void (*run)(size_t, int), size_t number) {
    NEEDS(CONTEXT);
    Stream *there = stream_of(stream);
    if (there == nullptr || !there->capturing) {
        return give(there, [=] { run(number, 1); });
    }
    auto job = std::make_shared<Job>(run, number);
    return give(there, [job] { job->run(job->number, 0); });
}

/* Returns the number of one job that no graph needs any more, or 0. */
extern "C" __attribute__((visibility("default"))) size_t emulated_dropped() {
    std::lock_guard<std::mutex> guard(dropped_lock);
    if (dropped.empty()) {
        return 0;
    }
    size_t number = dropped.back();
    dropped.pop_back();
    return number;
}

/* Has a stream break the context when it gets there, as a kernel does that reads where nothing is. */
EXPORT emulated_break_behind(void *stream, int status) {
    NEEDS(CONTEXT);
    return give(stream_of(stream), [=] { break_context(status); });
}

EXPORT emulated_sleep(void *stream, unsigned microseconds) {
    NEEDS(CONTEXT);
    return give(stream_of(stream), [=] { take_time(microseconds); });
}

/* Keeps a stream from going on until the number that is returned here is given to `emulated_open`. */
EXPORT emulated_hold(void *stream) {
    static std::atomic<int> gates{0};
    int gate = ++gates;
    return enter(CONTEXT) == SUCCESS && give(stream_of(stream), [=] { wait_at(gate); }) == SUCCESS ? gate : 0;
}

extern "C" __attribute__((visibility("default"))) void emulated_open(int gate) {
    std::lock_guard<std::mutex> guard(gate_lock);
    open_gates.insert(gate);
    gate_opened.notify_all();
}

/* Lets everything come to its end, before the interpreter that some of it needs comes to its own. */
extern "C" __attribute__((visibility("default"))) void emulated_finish() {
    if (enter_driver(DRIVER) != SUCCESS) {
        return;
    }
    {
        std::lock_guard<std::mutex> guard(gate_lock);
        all_gates_open = true;
        gate_opened.notify_all();
    }
    for (Stream *one : all_streams()) {
        one->reach(one->now().number);
    }
    for (Stream *one : legacy_streams) {
        if (one != nullptr) {
            one->reach(one->now().number);
        }
    }
}
