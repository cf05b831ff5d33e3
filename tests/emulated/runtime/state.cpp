/* What was started in this process, whether it survived a fork, what is broken for good, and the list of what was called. */

#include "emulated.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

#include <pthread.h>

thread_local int current = 0;
thread_local bool has_context = false;

namespace {

std::atomic<bool> started{false}, lost{false}, active[DEVICES];
std::atomic<int> error_of_context{SUCCESS};

/* A child has neither the threads nor the context of the process it was forked from: every call is an error there, until it ends. */
void in_the_child() {
    if (started) {
        lost = true;
    }
}

const int registered = pthread_atfork(nullptr, nullptr, in_the_child);

int use_context() {
    if (error_of_context != SUCCESS) {
        return error_of_context;
    }
    has_context = active[current] = true;
    return SUCCESS;
}

std::mutex log_lock;
std::atomic<bool> is_writing{false};
std::string written;

} // namespace

int enter(Need need) {
    if (lost || registered != 0) {
        return NOT_INITIALIZED;
    }
    started = true;
    return need == CONTEXT ? use_context() : SUCCESS;
}

int enter_driver(Need need) {
    if (lost || !started) {
        return NOT_INITIALIZED;
    }
    if (need == CONTEXT && !has_context) {
        return INVALID_CONTEXT;
    }
    return need == CONTEXT ? use_context() : SUCCESS;
}

bool is_active(int device) { return active[device]; }

void break_context(int status) { error_of_context = status; }

int context_error() { return error_of_context; }

void log_call(const char *format, ...) {
    if (!is_writing) {
        return;
    }
    char line[256];
    va_list values;
    va_start(values, format);
    vsnprintf(line, sizeof line, format, values);
    va_end(values);
    std::lock_guard<std::mutex> guard(log_lock);
    written.append(line).push_back('\n');
}

/* For the tests, not CUDA: copies the calls since the last time if there is room, and returns how long they are; the first call begins to
 * write them down. */
extern "C" __attribute__((visibility("default"))) size_t emulated_calls(char *into, size_t room) {
    is_writing = true;
    std::lock_guard<std::mutex> guard(log_lock);
    size_t length = written.size();
    if (into != nullptr && room >= length) {
        memcpy(into, written.data(), length);
        written.clear();
    }
    return length;
}

/* For the tests, not CUDA: every call that needs the context returns this status from now on, as after an illegal address (700); nothing
 * mends it but the end of the process. */
extern "C" __attribute__((visibility("default"))) void emulated_break(int status) { break_context(status); }
