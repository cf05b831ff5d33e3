/* What the tests do with streams beside CUDA: submit work of Python's, keep them busy, hold them. */

#include "emulated.h"

#include <cstdlib>
#include <set>

#include <unistd.h>

namespace {

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

struct Job { // of the Python side; in a graph it is run many times, and its number is reported when the graph is freed
    void (*const run)(size_t, int);
    const size_t number;
    Job(void (*function)(size_t, int), size_t of) : run(function), number(of) {}
    Job(const Job &) = delete;
    ~Job() {
        std::lock_guard<std::mutex> guard(dropped_lock);
        dropped.push_back(number);
    }
};

} // namespace

/* Keeps the stream that calls it busy for a time, which is longer where the variable says that the host is slow (surroundings.py). */
void delay(uint64_t microseconds) {
    static const char *given = getenv("INTEROP_EMULATED_SLOWNESS");
    static const double slowness = given != nullptr ? atof(given) : 1;
    usleep(useconds_t(double(microseconds) * slowness));
}

/* For the tests, not CUDA: a stream calls `run(number, is_last)` in its turn; what a graph was given is named by `emulated_dropped` when
 * the graph is gone. */
EXPORT emulated_launch(void *stream, void (*run)(size_t, int), size_t number) {
    NEEDS(CONTEXT);
    Stream *there = stream_of(stream);
    if (there == nullptr || !there->capturing) {
        return submit(there, [=] { run(number, 1); });
    }
    auto job = std::make_shared<Job>(run, number);
    return submit(there, [job] { job->run(job->number, 0); });
}

/* For the tests, not CUDA: returns the number of one job that no graph needs any more, or 0. */
extern "C" __attribute__((visibility("default"))) size_t emulated_dropped() {
    std::lock_guard<std::mutex> guard(dropped_lock);
    if (dropped.empty()) {
        return 0;
    }
    size_t number = dropped.back();
    dropped.pop_back();
    return number;
}

/* For the tests, not CUDA: a stream breaks the context in its turn, as a kernel does that reads where nothing is. */
EXPORT emulated_break_behind(void *stream, int status) {
    NEEDS(CONTEXT);
    return submit(stream_of(stream), [=] { break_context(status); });
}

/* For the tests, not CUDA: keeps a stream busy for a time. */
EXPORT emulated_sleep(void *stream, unsigned microseconds) {
    NEEDS(CONTEXT);
    return submit(stream_of(stream), [=] { delay(microseconds); });
}

/* For the tests, not CUDA: keeps a stream from going on until the number that is returned here is given to `emulated_open`. */
EXPORT emulated_hold(void *stream) {
    static std::atomic<int> gates{0};
    int gate = ++gates;
    return enter(CONTEXT) == SUCCESS && submit(stream_of(stream), [=] { wait_at(gate); }) == SUCCESS ? gate : 0;
}

/* For the tests, not CUDA: lets a stream go on that `emulated_hold` holds. */
extern "C" __attribute__((visibility("default"))) void emulated_open(int gate) {
    std::lock_guard<std::mutex> guard(gate_lock);
    open_gates.insert(gate);
    gate_opened.notify_all();
}

/* For the tests, not CUDA: lets all work come to its end, before the interpreter that some of it needs comes to its own. */
extern "C" __attribute__((visibility("default"))) void emulated_finish() {
    if (enter_driver(DRIVER) != SUCCESS) {
        return;
    }
    {
        std::lock_guard<std::mutex> guard(gate_lock);
        all_gates_open = true;
        gate_opened.notify_all();
    }
    for (Stream *one : streams_with_legacy()) {
        one->wait_for(one->position().number);
    }
}
