/* Streams as queues: a thread each, what they wait for, and the order between them. */

#include "emulated.h"

#include <map>
#include <set>
#include <thread>

namespace {

// A stream is never freed, so that the use of a destroyed handle is an error and no crash.
std::mutex stream_lock;
std::set<Stream *> streams;
Stream *legacy_streams[DEVICES];
thread_local std::map<int, Stream *> own_streams;

std::vector<Stream *> all_streams() {
    std::lock_guard<std::mutex> guard(stream_lock);
    return {streams.begin(), streams.end()};
}

std::vector<Mark> of_blocking_streams(int device) {
    std::vector<Mark> marks;
    for (Stream *one : all_streams()) {
        if (one->device == device && one->is_blocking()) {
            marks.push_back(one->position());
        }
    }
    return marks;
}

} // namespace

/* Streams that were destroyed and have come to their end are forgotten here. */
Stream *remember(Stream *made) {
    std::lock_guard<std::mutex> guard(stream_lock);
    for (auto at = streams.begin(); at != streams.end();) { // those that were destroyed, and have come to their end
        at = !(*at)->open && (*at)->is_idle() ? streams.erase(at) : std::next(at);
    }
    streams.insert(made);
    return made;
}

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
        ::wait_for(task.first);
        task.work();
        task.work = nullptr;
        std::lock_guard<std::mutex> guard(lock);
        done++;
        changed.notify_all();
    }
}

void Stream::enqueue(Task task) {
    std::lock_guard<std::mutex> guard(lock);
    queue.push_back(std::move(task));
    submitted++;
    changed.notify_all();
}

void Stream::wait_for(uint64_t number) {
    std::unique_lock<std::mutex> guard(lock);
    changed.wait(guard, [&] { return done >= number; });
}

Mark Stream::position() {
    std::lock_guard<std::mutex> guard(lock);
    return {this, submitted};
}

bool Stream::has_completed(uint64_t number) {
    std::lock_guard<std::mutex> guard(lock);
    return done >= number;
}

bool Stream::is_idle() {
    std::lock_guard<std::mutex> guard(lock);
    return done == submitted;
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
std::vector<Mark> position(Stream *stream) {
    std::vector<Mark> marks;
    if (is_legacy(stream)) {
        marks = of_blocking_streams(stream->device);
    } else if (stream->is_blocking()) {
        marks.push_back(legacy(stream->device)->position());
    }
    marks.push_back(stream->position());
    return marks;
}

void wait_for(const std::vector<Mark> &marks) {
    for (const Mark &mark : marks) {
        mark.stream->wait_for(mark.number);
    }
}

/* Gives work to a stream, or to the graph that it captures; returns CUDA's error. */
int submit(Stream *stream, Work work, std::vector<Mark> first) {
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
    for (const Mark &mark : position(stream)) {
        if (mark.stream != stream) {
            first.push_back(mark);
        }
    }
    stream->enqueue({std::move(first), std::move(work)});
    return SUCCESS;
}

/* Waits for a stream; an error of its work, which ends the context, comes to light here. */
int synchronize(Stream *stream) {
    if (stream == nullptr) {
        return INVALID_HANDLE;
    }
    if (stream->capturing) {
        stream->invalid = true;
        return CAPTURE_UNSUPPORTED;
    }
    wait_for(position(stream));
    return context_error();
}

std::vector<Stream *> streams_with_legacy() {
    std::vector<Stream *> found = all_streams();
    for (Stream *one : legacy_streams) {
        if (one != nullptr) {
            found.push_back(one);
        }
    }
    return found;
}
