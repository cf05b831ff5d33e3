/* A CUDA runtime without a GPU: each stream is a thread that works off a queue, and device memory is memory that the host must not touch.
 *
 * Order is what the documentation of the CUDA runtime promises: work of one stream is in order, streams are not ordered among each other
 * but by events, the legacy default stream waits for the blocking ones and they for it. A function that CUDA lets return early returns
 * early here. The functions have CUDA's names and signatures: LD_PRELOAD puts them in front of torch's shared runtime, and
 * installing.py has the calls of CuPy's static one jump to them. No kernel can be launched but one that only takes its time; the others are
 * `emulated_launch`, by which Python submits work to a stream that NumPy or torch does on the host.
 *
 *   state.cpp    what was started, forks, the list of calls       arena.cpp     memory of the devices
 *   errors.cpp   the last error, names of errors                  memory.cpp    allocations in no order with streams
 *   devices.cpp  devices and their properties                     pools.cpp     allocations in the order of a stream
 *   queues.cpp   streams as queues, waiting, order                copies.cpp    copies and fills
 *   streams.cpp  the functions about streams                      captures.cpp  captures
 *   events.cpp   marks in queues                                  graphs.cpp    graphs and their launches
 *   kernels.cpp  kernels of PTX                                   driver*.cpp   the driver
 *   nvml.cpp     as much of NVML as torch asks                    controls.cpp  what only the tests call
 *
 * Above each function stands what CUDA promises, by the page of its documentation, and what is not emulated; the tests in ../contract call
 * each of them and run on a GPU too.
 */

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default"))) int

// The numbers are CUDA's: driver_types.h.
enum Error {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3, // the runtime's cudaErrorInitializationError too
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    NO_KERNEL_IMAGE = 209,
    INVALID_HANDLE = 400,
    ILLEGAL_STATE = 401,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ALREADY_REGISTERED = 712,
    NOT_REGISTERED = 713,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_UNMATCHED = 903,
    CAPTURE_UNJOINED = 904,
    CAPTURE_ISOLATION = 905,
    CAPTURE_IMPLICIT = 906,
    CAPTURED_EVENT = 907,
};

constexpr int DEVICES = 2;
constexpr size_t ARENA = size_t(24) << 30; // of each device; pages that were not touched take no memory
constexpr uintptr_t LEGACY = 1, PER_THREAD = 2;
constexpr unsigned NON_BLOCKING = 1;

/* ---- state.cpp ---- */

enum Need { DRIVER, CONTEXT };
int enter(Need need);        // for a function of the runtime, which starts what it needs
int enter_driver(Need need); // for a function of the driver, which starts nothing
void break_context(int status);
int context_error();
void log_call(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define NEEDS(what)                                                                                                                        \
    if (int failed = enter(what)) {                                                                                                        \
        return failed;                                                                                                                     \
    }
#define DRIVER_NEEDS(what)                                                                                                                 \
    if (int failed = enter_driver(what)) {                                                                                                 \
        return failed;                                                                                                                     \
    }

extern thread_local int current;      // the device
extern thread_local bool has_context; // whether this thread has one, or the runtime would make it
bool is_active(int device);           // whether anybody has made a context on it

/* ---- errors.cpp ---- */

void set_last_error(int status); // what cudaGetLastError returns next

/* ---- arena.cpp ---- */

enum Place { PAGEABLE, PINNED, MANAGED, ON_DEVICE };
struct Range {
    Place place;
    int device;
    uintptr_t start;
    size_t size;
};
Range range_of(const void *pointer);
char *reachable(const void *pointer); // the same memory, for the host
std::string name_of(const void *pointer);

/* ---- queues.cpp ---- */

struct Stream;

struct Mark { // a place in the queue of a stream
    Stream *stream;
    uint64_t number;
};

using Work = std::function<void()>;

struct Task {
    std::vector<Mark> first; // dependencies: what has to be complete before
    Work work;
};

struct Graph { // the work that was submitted to the streams of a capture, in that order
    std::mutex lock;
    std::vector<Work> nodes;
    void add(Work work);
    void run();
};

struct Stream {
    const int device;
    const unsigned flags;
    std::atomic<bool> open{true}, capturing{false}, invalid{false};
    Stream *origin = nullptr;      // whose capture it has joined by an event
    std::atomic<bool> joined{true}; // and whether that has waited for it again
    int mode = 0;
    unsigned long long capture = 0;
    std::shared_ptr<Graph> graph;

    Stream(int device, unsigned flags);
    bool is_blocking() const { return (flags & NON_BLOCKING) == 0; }
    void enqueue(Task task);
    void wait_for(uint64_t number);
    bool has_completed(uint64_t number);
    bool is_idle();
    Mark position();
    void close();

  private:
    uint64_t submitted = 0, done = 0;
    std::deque<Task> queue;
    std::mutex lock;
    std::condition_variable changed;
    void run();
    bool next(Task &task);
};

Stream *legacy(int device);
bool is_legacy(const Stream *stream);
Stream *stream_of(void *handle);                    // null for a handle of none
std::vector<Mark> position(Stream *stream);              // what an event that is recorded there stands for
std::vector<Stream *> open_streams();               // without the legacy ones
std::vector<Stream *> streams_with_legacy();        // all, also those that were destroyed and are not done
Stream *remember(Stream *made);                     // makes its handle known
int submit(Stream *stream, Work work, std::vector<Mark> first = {});
int synchronize(Stream *stream);
void wait_for(const std::vector<Mark> &marks);

/* ---- controls.cpp ---- */

void delay(uint64_t microseconds);

/* ---- captures.cpp ---- */

int error_in_capture();      // the error of what must not be done while this process captures a graph
int implicit_error(int device); // of what the legacy stream does while a blocking stream captures
int join(Stream *stream, Stream *from); // have a stream take part in a capture, by an event of it

/* ---- functions of the runtime that the driver's are the same as ---- */

EXPORT cudaDriverGetVersion(int *version);
EXPORT cudaSetDevice(int device);
EXPORT cudaDeviceSynchronize();
EXPORT cudaDeviceGetAttribute(int *value, int which, int device);
EXPORT cudaMalloc(void **pointer, size_t size);
EXPORT cudaFree(void *pointer);
EXPORT cudaMallocAsync(void **pointer, size_t size, void *stream);
EXPORT cudaFreeAsync(void *pointer, void *stream);
EXPORT cudaMemGetInfo(size_t *free_bytes, size_t *total);
EXPORT cudaMemcpy(void *to, const void *from, size_t size, int kind);
EXPORT cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream);
EXPORT cudaMemset(void *pointer, int value, size_t size);
EXPORT cudaMemsetAsync(void *pointer, int value, size_t size, void *stream);
EXPORT cudaStreamCreateWithFlags(void **stream, unsigned flags);
EXPORT cudaStreamDestroy(void *stream);
EXPORT cudaStreamSynchronize(void *stream);
EXPORT cudaStreamQuery(void *stream);
EXPORT cudaStreamWaitEvent(void *stream, void *event, unsigned flags);
EXPORT cudaStreamIsCapturing(void *stream, int *status);
EXPORT cudaThreadExchangeStreamCaptureMode(int *mode);
EXPORT cudaEventCreateWithFlags(void **event, unsigned flags);
EXPORT cudaEventDestroy(void *event);
EXPORT cudaEventRecord(void *event, void *stream);
EXPORT cudaEventQuery(void *event);
EXPORT cudaEventSynchronize(void *event);
