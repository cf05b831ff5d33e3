/* Events: marks in the queues of streams, and the time at which they were reached. */

#include "emulated.h"

#include <chrono>
#include <set>

namespace {

using Clock = std::chrono::steady_clock;

constexpr unsigned WITHOUT_TIME = 2;
constexpr size_t REMEMBERED = 4096;

struct Moment {
    Clock::time_point time{};
    std::atomic<bool> is_known{false};
};

struct Event {
    const int device = current;
    const bool has_time;
    std::mutex lock;
    Stream *from = nullptr; // the stream that captures, if it was recorded on one
    std::vector<Mark> marks;
    std::shared_ptr<Moment> moment;

    explicit Event(unsigned flags) : has_time((flags & WITHOUT_TIME) == 0) {}

    void record(Stream *there) {
        std::lock_guard<std::mutex> guard(lock);
        from = there->capturing ? there : nullptr;
        moment = has_time && from == nullptr ? std::make_shared<Moment>() : nullptr;
        if (moment != nullptr) {
            submit(there, [moment = moment] { moment->time = Clock::now(), moment->is_known = true; });
        }
        marks = from == nullptr ? position(there) : std::vector<Mark>();
    }

    Stream *capturing() {
        std::lock_guard<std::mutex> guard(lock);
        return from;
    }

    std::vector<Mark> place() {
        std::lock_guard<std::mutex> guard(lock);
        return marks;
    }

    std::shared_ptr<Moment> when() {
        std::lock_guard<std::mutex> guard(lock);
        return moment;
    }
};

std::mutex event_lock;
std::set<Event *> events;
std::deque<Event *> destroyed; // whose handles are not reused soon, so that the use of one is an error

Event *event_of(void *handle) {
    std::lock_guard<std::mutex> guard(event_lock);
    auto found = events.find(static_cast<Event *>(handle));
    return found == events.end() ? nullptr : *found;
}

bool have_completed(const std::vector<Mark> &marks) {
    for (const Mark &mark : marks) {
        if (!mark.stream->has_completed(mark.number)) {
            return false;
        }
    }
    return true;
}

/* An event of a capture is none that can be submitted, and no event can while another is captured in the global mode (torch#104555). */
int query_error(Event *event) {
    if (event == nullptr) {
        return INVALID_HANDLE;
    }
    return event->capturing() != nullptr ? int(CAPTURE_UNSUPPORTED) : error_in_capture();
}

} // namespace

/* CUDA Runtime API, cudaEventCreateWithFlags: creates an event on the current device; with cudaEventDisableTiming it has no time. */
EXPORT cudaEventCreateWithFlags(void **event, unsigned flags) {
    NEEDS(CONTEXT);
    auto *made = new Event(flags);
    std::lock_guard<std::mutex> guard(event_lock);
    events.insert(made);
    *event = made;
    return SUCCESS;
}

/* CUDA Runtime API, cudaEventCreate: creates an event with a time. */
EXPORT cudaEventCreate(void **event) { return cudaEventCreateWithFlags(event, 0); }

/* CUDA Runtime API, cudaEventDestroy: destroys an event, also before it has completed; what waits for it goes on waiting for its work. */
EXPORT cudaEventDestroy(void *event) {
    NEEDS(CONTEXT);
    std::lock_guard<std::mutex> guard(event_lock);
    auto found = events.find(static_cast<Event *>(event));
    if (found == events.end()) {
        return INVALID_HANDLE;
    }
    destroyed.push_back(*found);
    events.erase(found);
    if (destroyed.size() > REMEMBERED) {
        delete destroyed.front();
        destroyed.pop_front();
    }
    return SUCCESS;
}

/* CUDA Runtime API, cudaEventRecord: lets an event stand for the work that a stream was given until now, instead of what it stood for
 * before; both must be of one device. */
EXPORT cudaEventRecord(void *event, void *stream) {
    NEEDS(CONTEXT);
    Event *found = event_of(event);
    Stream *there = stream_of(stream);
    log_call("cudaEventRecord %p", stream);
    if (found == nullptr || there == nullptr || found->device != there->device) {
        return INVALID_HANDLE;
    }
    if (is_legacy(there)) {
        if (int status = implicit_error(there->device)) {
            return status;
        }
    }
    there->joined = there->joined && !there->capturing;
    found->record(there);
    return SUCCESS;
}

/* CUDA Runtime API, cudaEventRecordWithFlags: is cudaEventRecord with flags. Not emulated: the flags, which are about captures. */
EXPORT cudaEventRecordWithFlags(void *event, void *stream, unsigned) { return cudaEventRecord(event, stream); }

/* CUDA Runtime API, cudaEventQuery: returns cudaSuccess if the work that an event stands for is done or it was never recorded, and
 * cudaErrorNotReady if not. */
EXPORT cudaEventQuery(void *event) {
    NEEDS(CONTEXT);
    Event *found = event_of(event);
    if (int status = query_error(found)) {
        return status;
    }
    return have_completed(found->place()) ? SUCCESS : NOT_READY;
}

/* CUDA Runtime API, cudaEventSynchronize: returns when the work that an event stands for is done. */
EXPORT cudaEventSynchronize(void *event) {
    NEEDS(CONTEXT);
    Event *found = event_of(event);
    log_call("cudaEventSynchronize");
    if (int status = query_error(found)) {
        return status;
    }
    wait_for(found->place());
    return context_error();
}

/* CUDA Runtime API, cudaStreamWaitEvent: has later work of a stream wait for what an event stands for at this call, across devices too; the
 * host does not wait. An event of a capture makes the stream take part in it. */
EXPORT cudaStreamWaitEvent(void *stream, void *event, unsigned) {
    NEEDS(CONTEXT);
    Event *found = event_of(event);
    Stream *there = stream_of(stream);
    log_call("cudaStreamWaitEvent %p", stream);
    if (found == nullptr || there == nullptr) {
        return INVALID_HANDLE;
    }
    Stream *from = found->capturing();
    if (from != nullptr) {
        return join(there, from);
    }
    if (there->capturing) {
        there->invalid = true;
        return CAPTURE_ISOLATION;
    }
    return submit(there, [] {}, found->place());
}

/* CUDA Runtime API, cudaEventElapsedTime: stores the milliseconds between two events; cudaErrorInvalidResourceHandle unless both have times
 * and were recorded, cudaErrorNotReady unless both have completed. */
EXPORT cudaEventElapsedTime(float *milliseconds, void *begin, void *end) {
    NEEDS(CONTEXT);
    Event *first = event_of(begin), *last = event_of(end);
    if (first == nullptr || last == nullptr) {
        return INVALID_HANDLE;
    }
    auto from = first->when(), to = last->when();
    if (from == nullptr || to == nullptr) {
        return INVALID_HANDLE;
    }
    if (!from->is_known || !to->is_known) {
        return NOT_READY;
    }
    *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
    return SUCCESS;
}

/* CUDA Runtime API, cudaEventElapsedTime_v2: is cudaEventElapsedTime under the name that CUDA 12.8's headers give it; CUDA 13 no longer has
 * the name. */
EXPORT cudaEventElapsedTime_v2(float *milliseconds, void *begin, void *end) { return cudaEventElapsedTime(milliseconds, begin, end); }
