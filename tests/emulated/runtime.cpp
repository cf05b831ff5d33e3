/* A CUDA runtime without a GPU: each stream is a thread that works off a queue, and device memory is memory that the host may not touch.
 *
 * What it does is what the CUDA runtime's documentation says of order: work of one stream is in order, streams are not ordered among each
 * other but by events, the legacy default stream waits for the blocking ones and they for it. Copies from and to pageable memory are over
 * when the call returns, those of page-locked memory go on. Every call that counts for the tests is written down (`emulated_calls`).
 *
 * The functions have the names and the signatures of CUDA's runtime and stand in for it: patch.py has the calls of CuPy jump here.
 * Kernels cannot be launched. `emulated_sleep` and `emulated_fill` are the work that a test gives to a stream.
 */

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

namespace {

// The numbers are CUDA's: driver_types.h.
enum Error {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    INVALID_DEVICE = 101,
    INVALID_HANDLE = 400,
    NOT_READY = 600,
    PEER_ALREADY = 704,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_UNJOINED = 904,
    CAPTURE_ISOLATION = 905,
    CAPTURE_IMPLICIT = 906,
};
enum Attribute { MEMORY_POOLS = 115, MAJOR = 75, MINOR = 76, MANAGED = 83, UNIFIED = 41 };
enum PoolAttribute { RELEASE_THRESHOLD = 4, RESERVED = 5, RESERVED_HIGH = 6, USED = 7, USED_HIGH = 8 };
enum MemoryType { UNREGISTERED = 0, HOST = 1, DEVICE = 2, MANAGED_MEMORY = 3 };
enum Kind { HOST_TO_HOST = 0, HOST_TO_DEVICE = 1, DEVICE_TO_HOST = 2, DEVICE_TO_DEVICE = 3, DEFAULT_KIND = 4 };

constexpr int DEVICES = 2;
constexpr size_t ARENA = size_t(1) << 30;
constexpr size_t ALIGNMENT = 512;
constexpr uintptr_t LEGACY = 1, PER_THREAD = 2;
constexpr unsigned NON_BLOCKING = 1;

std::mutex log_lock;
std::string written;

template <typename... Values> void say(const char *format, Values... values) {
    char line[256];
    int length = snprintf(line, sizeof line, format, values...);
    std::lock_guard<std::mutex> guard(log_lock);
    written.append(line, size_t(length)).push_back('\n');
}

/* ---- memory ---- */

struct Arena {
    char *device = nullptr; // what a program has: neither to be read nor to be written by the host
    char *own = nullptr;    // the same pages, for the streams
    std::map<uintptr_t, size_t> free_blocks, used;
    size_t in_pool = 0, pool_high = 0; // bytes of stream-ordered allocations
    uint64_t threshold = 0;
    std::set<uintptr_t> of_pool;
};

std::mutex memory_lock;
Arena arenas[DEVICES];
std::map<uintptr_t, size_t> page_locked, managed;

void prepare(Arena &arena) {
    if (arena.device != nullptr) {
        return;
    }
    int file = memfd_create("emulated device", 0);
    if (file < 0 || ftruncate(file, ARENA) != 0) {
        abort();
    }
    arena.device = static_cast<char *>(mmap(nullptr, ARENA, PROT_NONE, MAP_SHARED, file, 0));
    arena.own = static_cast<char *>(mmap(nullptr, ARENA, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    close(file);
    arena.free_blocks[reinterpret_cast<uintptr_t>(arena.device)] = ARENA;
}

int device_of(uintptr_t address) {
    for (int n = 0; n < DEVICES; n++) {
        auto base = reinterpret_cast<uintptr_t>(arenas[n].device);
        if (base != 0 && address >= base && address < base + ARENA) {
            return n;
        }
    }
    return -1;
}

bool within(const std::map<uintptr_t, size_t> &blocks, uintptr_t address) {
    auto found = blocks.upper_bound(address);
    return found != blocks.begin() && address < std::prev(found)->first + std::prev(found)->second;
}

char *reachable(const void *pointer) {
    auto address = reinterpret_cast<uintptr_t>(pointer);
    int device = device_of(address);
    if (device < 0) {
        return reinterpret_cast<char *>(address);
    }
    return arenas[device].own + (address - reinterpret_cast<uintptr_t>(arenas[device].device));
}

/* First fit, lowest address: memory that was given back is handed out again at once, as a caching pool would do it. */
void *take(int device, size_t size) {
    std::lock_guard<std::mutex> guard(memory_lock);
    Arena &arena = arenas[device];
    prepare(arena);
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    for (auto &[address, length] : arena.free_blocks) {
        if (length >= size) {
            uintptr_t found = address;
            size_t rest = length - size;
            arena.free_blocks.erase(found);
            if (rest != 0) {
                arena.free_blocks[found + size] = rest;
            }
            arena.used[found] = size;
            return reinterpret_cast<void *>(found);
        }
    }
    return nullptr;
}

bool give_back(void *pointer) {
    std::lock_guard<std::mutex> guard(memory_lock);
    auto address = reinterpret_cast<uintptr_t>(pointer);
    int device = device_of(address);
    if (device < 0 || arenas[device].used.count(address) == 0) {
        return false;
    }
    Arena &arena = arenas[device];
    size_t size = arena.used[address];
    arena.used.erase(address);
    if (arena.of_pool.erase(address) != 0) {
        arena.in_pool -= size;
    }
    memset(reachable(pointer), 0xDD, size);
    auto after = arena.free_blocks.find(address + size);
    if (after != arena.free_blocks.end()) {
        size += after->second;
        arena.free_blocks.erase(after);
    }
    auto next = arena.free_blocks.lower_bound(address);
    if (next != arena.free_blocks.begin() && std::prev(next)->first + std::prev(next)->second == address) {
        std::prev(next)->second += size;
    } else {
        arena.free_blocks[address] = size;
    }
    return true;
}

/* ---- streams and events ---- */

struct Stream;

struct Mark { // a place in the queue of a stream
    Stream *stream;
    uint64_t number;
};

struct Task {
    std::vector<Mark> first; // what has to be done before
    std::function<void()> work;
};

struct Stream {
    int device;
    unsigned flags;
    bool open = true;
    bool capturing = false, invalid = false;
    Stream *origin = nullptr; // whose capture it has joined by an event
    bool joined = true;       // and whether that has waited for it again
    int mode = 0;
    unsigned long long capture = 0;
    uint64_t asked = 0, done = 0;
    std::deque<Task> queue;
    std::mutex lock;
    std::condition_variable changed;

    Stream(int on, unsigned how) : device(on), flags(how) {
        std::thread([this] { run(); }).detach();
    }

    void run() {
        for (;;) {
            Task task;
            {
                std::unique_lock<std::mutex> guard(lock);
                changed.wait(guard, [this] { return !queue.empty(); });
                task = std::move(queue.front());
                queue.pop_front();
            }
            for (const Mark &mark : task.first) {
                mark.stream->reach(mark.number);
            }
            task.work();
            std::lock_guard<std::mutex> guard(lock);
            done++;
            changed.notify_all();
        }
    }

    uint64_t ask(Task task) {
        std::lock_guard<std::mutex> guard(lock);
        queue.push_back(std::move(task));
        changed.notify_all();
        return ++asked;
    }

    void reach(uint64_t number) {
        std::unique_lock<std::mutex> guard(lock);
        changed.wait(guard, [&] { return done >= number; });
    }

    Mark now() {
        std::lock_guard<std::mutex> guard(lock);
        return {this, asked};
    }

    bool has_reached(uint64_t number) {
        std::lock_guard<std::mutex> guard(lock);
        return done >= number;
    }
};

thread_local int current = 0;

struct Event {
    int device = current;
    Stream *from = nullptr; // the stream that captures, if it was recorded on one
    bool captured = false;
    bool open = true;
    std::vector<Mark> marks;
};

// Never freed: a handle that was given up is noticed when it is used.
std::mutex stream_lock;
std::set<Stream *> streams;
std::set<Event *> events;
Stream *legacy_streams[DEVICES];
std::atomic<int> captures{0};
std::atomic<unsigned long long> capture_count{0};
thread_local int capture_mode = 0; // of the thread: 0 global, 1 of the thread, 2 relaxed

thread_local std::map<int, Stream *> own_streams;

Stream *legacy(int device) {
    std::lock_guard<std::mutex> guard(stream_lock);
    if (legacy_streams[device] == nullptr) {
        legacy_streams[device] = new Stream(device, 0);
    }
    return legacy_streams[device];
}

Stream *stream_of(void *handle) {
    auto number = reinterpret_cast<uintptr_t>(handle);
    if (number == 0 || number == LEGACY) {
        return legacy(current);
    }
    if (number == PER_THREAD) {
        if (own_streams.count(current) == 0) {
            auto *made = new Stream(current, 0);
            std::lock_guard<std::mutex> guard(stream_lock);
            streams.insert(made);
            own_streams[current] = made;
        }
        return own_streams[current];
    }
    std::lock_guard<std::mutex> guard(stream_lock);
    auto found = streams.find(static_cast<Stream *>(handle));
    return found == streams.end() || !(*found)->open ? nullptr : *found;
}

bool is_legacy(const Stream *stream) { return legacy_streams[stream->device] == stream; }

std::vector<Mark> all_blocking(int device) {
    std::vector<Mark> marks;
    std::lock_guard<std::mutex> guard(stream_lock);
    for (Stream *one : streams) {
        if (one->device == device && (one->flags & NON_BLOCKING) == 0) {
            marks.push_back(one->now());
        }
    }
    return marks;
}

/* Give work to a stream; the error that CUDA has for it. */
int give(Stream *stream, std::function<void()> work, std::vector<Mark> first = {}) {
    if (stream == nullptr) {
        return INVALID_HANDLE;
    }
    if (stream->capturing) {
        return SUCCESS; // noted in the graph, which nobody runs here
    }
    if (is_legacy(stream)) {
        std::lock_guard<std::mutex> guard(stream_lock);
        for (Stream *one : streams) {
            if (one->capturing && (one->flags & NON_BLOCKING) == 0) {
                one->invalid = true;
                return CAPTURE_IMPLICIT;
            }
        }
    }
    if (is_legacy(stream)) {
        for (const Mark &mark : all_blocking(stream->device)) {
            first.push_back(mark);
        }
    } else if ((stream->flags & NON_BLOCKING) == 0) {
        first.push_back(legacy(stream->device)->now());
    }
    stream->ask({std::move(first), std::move(work)});
    return SUCCESS;
}

/* What waits, asks, or allocates is an error while this process captures a graph in the global mode, unless the thread is relaxed;
 * torch#104555 has it of questions to events. */
int outside_of_captures() {
    if (captures == 0 || capture_mode == 2) {
        return SUCCESS;
    }
    std::lock_guard<std::mutex> guard(stream_lock);
    bool any = false;
    for (Stream *one : streams) {
        if (one->capturing && one->mode == 0) {
            any = one->invalid = true;
        }
    }
    return any ? CAPTURE_UNSUPPORTED : SUCCESS;
}

int finish(Stream *stream) {
    if (stream == nullptr) {
        return INVALID_HANDLE;
    }
    if (stream->capturing) {
        stream->invalid = true;
        return CAPTURE_UNSUPPORTED;
    }
    if (is_legacy(stream)) {
        for (const Mark &mark : all_blocking(stream->device)) {
            mark.stream->reach(mark.number);
        }
    }
    stream->reach(stream->now().number);
    return SUCCESS;
}

bool pageable(const void *pointer) {
    auto address = reinterpret_cast<uintptr_t>(pointer);
    std::lock_guard<std::mutex> guard(memory_lock);
    return device_of(address) < 0 && !within(page_locked, address) && !within(managed, address);
}

std::string place(const void *pointer) {
    auto address = reinterpret_cast<uintptr_t>(pointer);
    std::lock_guard<std::mutex> guard(memory_lock);
    int device = device_of(address);
    if (device >= 0) {
        return "device" + std::to_string(device);
    }
    return within(page_locked, address) ? "pinned" : within(managed, address) ? "managed" : "pageable";
}

int copy(void *to, const void *from, size_t size, Stream *stream, bool waits) {
    if (stream == nullptr) {
        return INVALID_HANDLE;
    }
    bool by_host = pageable(to) || pageable(from);
    if (stream->capturing && by_host) {
        stream->invalid = true;
        return CAPTURE_UNSUPPORTED;
    }
    int status = give(stream, [=] { memcpy(reachable(to), reachable(from), size); });
    return status == SUCCESS && (waits || by_host) ? finish(stream) : status;
}

Event *event_of(void *handle) {
    std::lock_guard<std::mutex> guard(stream_lock);
    auto found = events.find(static_cast<Event *>(handle));
    return found == events.end() || !(*found)->open ? nullptr : *found;
}

bool has_come(const Event *event) {
    for (const Mark &mark : event->marks) {
        if (!mark.stream->has_reached(mark.number)) {
            return false;
        }
    }
    return true;
}

std::mutex gate_lock;
std::condition_variable gate_opened;
std::set<int> open_gates;

void wait_at(int gate) {
    std::unique_lock<std::mutex> guard(gate_lock);
    gate_opened.wait(guard, [=] { return open_gates.count(gate) != 0; });
}

void *name(const void *handle) { return const_cast<void *>(handle); }

} // namespace

#define EXPORT extern "C" __attribute__((visibility("default"))) int

/* ---- what the tests ask ---- */

extern "C" __attribute__((visibility("default"))) size_t emulated_calls(char *into, size_t room) {
    std::lock_guard<std::mutex> guard(log_lock);
    size_t length = written.size();
    if (into != nullptr && room >= length) {
        memcpy(into, written.data(), length);
        written.clear();
    }
    return length;
}

EXPORT emulated_sleep(void *stream, unsigned milliseconds) {
    return give(stream_of(stream), [=] { usleep(milliseconds * 1000); });
}

/* Keep a stream from going on until the number that is returned here is given to `emulated_open`. */
EXPORT emulated_hold(void *stream) {
    static std::atomic<int> gates{0};
    int gate = ++gates;
    if (give(stream_of(stream), [=] { wait_at(gate); }) != SUCCESS) {
        return 0;
    }
    return gate;
}

extern "C" __attribute__((visibility("default"))) void emulated_open(int gate) {
    std::lock_guard<std::mutex> guard(gate_lock);
    open_gates.insert(gate);
    gate_opened.notify_all();
}

EXPORT emulated_fill(void *stream, void *pointer, int value, size_t size) {
    return give(stream_of(stream), [=] { memset(reachable(pointer), value, size); });
}

extern "C" __attribute__((visibility("default"))) void *emulated_reachable(const void *pointer) { return reachable(pointer); }

/* ---- devices ---- */

EXPORT cudaDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
EXPORT cudaRuntimeGetVersion(int *version) { return *version = 13000, SUCCESS; }
EXPORT cudaGetDeviceCount(int *count) { return *count = DEVICES, SUCCESS; }
EXPORT cudaGetDevice(int *device) { return *device = current, SUCCESS; }

EXPORT cudaSetDevice(int device) {
    if (device < 0 || device >= DEVICES) {
        return INVALID_DEVICE;
    }
    current = device;
    return SUCCESS;
}

EXPORT cudaDeviceGetAttribute(int *value, int which, int device) {
    if (device < 0 || device >= DEVICES) {
        return INVALID_DEVICE;
    }
    *value = which == MAJOR ? 9 : which == MINOR ? 0 : which == MEMORY_POOLS || which == MANAGED || which == UNIFIED;
    return SUCCESS;
}

/* What somebody reads of `cudaDeviceProp`, at its place in CUDA 13; the rest is zero. */
EXPORT cudaGetDeviceProperties(char *properties, int device) {
    if (device < 0 || device >= DEVICES) {
        return INVALID_DEVICE;
    }
    memset(properties, 0, 1008);
    snprintf(properties, 256, "Emulated device %d", device);
    memcpy(properties + 288, &ARENA, sizeof ARENA); // totalGlobalMem
    const std::pair<size_t, int> numbers[] = {
        {296, 49152},                        // sharedMemPerBlock
        {308, 32},                           // warpSize
        {320, 1024},                         // maxThreadsPerBlock
        {324, 1024}, {328, 1024}, {332, 64}, // maxThreadsDim
        {336, INT32_MAX}, {340, 65535}, {344, 65535}, // maxGridSize
        {360, 9}, {364, 0},                  // major, minor
        {384, 4},                            // multiProcessorCount
        {568, device + 1},                   // pciBusID
        {588, 1},                            // unifiedAddressing
        {604, 2048},                         // maxThreadsPerMultiProcessor
    };
    for (auto [place, number] : numbers) {
        memcpy(properties + place, &number, sizeof number);
    }
    return SUCCESS;
}

EXPORT cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { return *least = *greatest = 0, SUCCESS; }

EXPORT cudaDeviceCanAccessPeer(int *can, int device, int other) { return *can = device != other, SUCCESS; }
EXPORT cudaDeviceEnablePeerAccess(int, unsigned) { return SUCCESS; }
EXPORT cudaGetLastError() { return SUCCESS; }
EXPORT cudaPeekAtLastError() { return SUCCESS; }

EXPORT cudaDeviceSynchronize() {
    say("cudaDeviceSynchronize");
    if (captures != 0) {
        std::lock_guard<std::mutex> guard(stream_lock);
        for (Stream *one : streams) {
            one->invalid = one->invalid || one->capturing;
        }
        return CAPTURE_UNSUPPORTED;
    }
    std::vector<Mark> marks;
    {
        std::lock_guard<std::mutex> guard(stream_lock);
        for (Stream *one : streams) {
            if (one->device == current) {
                marks.push_back(one->now());
            }
        }
    }
    marks.push_back(legacy(current)->now());
    for (const Mark &mark : marks) {
        mark.stream->reach(mark.number);
    }
    return SUCCESS;
}

/* ---- memory ---- */

EXPORT cudaMalloc(void **pointer, size_t size) {
    say("cudaMalloc %zu", size);
    if (int status = outside_of_captures()) {
        return status;
    }
    *pointer = take(current, size);
    return *pointer == nullptr ? OUT_OF_MEMORY : SUCCESS;
}

EXPORT cudaFree(void *pointer) {
    if (pointer == nullptr) {
        return SUCCESS;
    }
    say("cudaFree");
    if (int status = outside_of_captures()) {
        return status;
    }
    bool is_managed = within(managed, reinterpret_cast<uintptr_t>(pointer));
    int device = device_of(reinterpret_cast<uintptr_t>(pointer));
    if (device < 0 && !is_managed) {
        return INVALID_VALUE;
    }
    int before = current;
    for (int n = 0; n < DEVICES; n++) {
        if (n == device || is_managed) {
            current = n;
            cudaDeviceSynchronize();
        }
    }
    current = before;
    if (is_managed) {
        std::lock_guard<std::mutex> guard(memory_lock);
        managed.erase(reinterpret_cast<uintptr_t>(pointer));
        free(pointer);
        return SUCCESS;
    }
    return give_back(pointer) ? SUCCESS : INVALID_VALUE;
}

EXPORT cudaMallocManaged(void **pointer, size_t size, unsigned) {
    say("cudaMallocManaged %zu", size);
    if (posix_memalign(pointer, ALIGNMENT, size) != 0) {
        return OUT_OF_MEMORY;
    }
    std::lock_guard<std::mutex> guard(memory_lock);
    managed[reinterpret_cast<uintptr_t>(*pointer)] = size;
    return SUCCESS;
}

EXPORT cudaHostAlloc(void **pointer, size_t size, unsigned) {
    say("cudaHostAlloc %zu", size);
    if (int status = outside_of_captures()) {
        return status;
    }
    if (posix_memalign(pointer, 4096, size) != 0) {
        return OUT_OF_MEMORY;
    }
    std::lock_guard<std::mutex> guard(memory_lock);
    page_locked[reinterpret_cast<uintptr_t>(*pointer)] = size;
    return SUCCESS;
}

EXPORT cudaFreeHost(void *pointer) {
    say("cudaFreeHost");
    std::lock_guard<std::mutex> guard(memory_lock);
    if (page_locked.erase(reinterpret_cast<uintptr_t>(pointer)) == 0) {
        return INVALID_VALUE;
    }
    free(pointer);
    return SUCCESS;
}

EXPORT cudaMallocAsync(void **pointer, size_t size, void *stream) {
    Stream *there = stream_of(stream);
    say("cudaMallocAsync %zu %p", size, name(stream));
    if (there == nullptr) {
        return INVALID_HANDLE;
    }
    *pointer = take(there->device, size);
    if (*pointer == nullptr) {
        return OUT_OF_MEMORY;
    }
    std::lock_guard<std::mutex> guard(memory_lock);
    Arena &arena = arenas[there->device];
    auto address = reinterpret_cast<uintptr_t>(*pointer);
    arena.of_pool.insert(address);
    arena.in_pool += arena.used[address];
    arena.pool_high = std::max(arena.pool_high, arena.in_pool);
    return SUCCESS;
}

EXPORT cudaMallocFromPoolAsync(void **pointer, size_t size, void *, void *stream) { return cudaMallocAsync(pointer, size, stream); }

EXPORT cudaFreeAsync(void *pointer, void *stream) {
    say("cudaFreeAsync %p", name(stream));
    return give(stream_of(stream), [=] { give_back(pointer); });
}

EXPORT cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    std::lock_guard<std::mutex> guard(memory_lock);
    *total = ARENA;
    *free_bytes = ARENA;
    for (auto &[address, size] : arenas[current].used) {
        (void)address;
        *free_bytes -= size;
    }
    return SUCCESS;
}

struct PointerAttributes {
    int type, device;
    void *device_pointer, *host_pointer;
};

EXPORT cudaPointerGetAttributes(PointerAttributes *said, const void *pointer) {
    auto address = reinterpret_cast<uintptr_t>(pointer);
    std::lock_guard<std::mutex> guard(memory_lock);
    void *same = const_cast<void *>(pointer);
    int device = device_of(address);
    if (device >= 0) {
        *said = {DEVICE, device, same, nullptr};
    } else if (within(managed, address)) {
        *said = {MANAGED_MEMORY, 0, same, same};
    } else if (within(page_locked, address)) {
        *said = {HOST, 0, same, same};
    } else {
        *said = {UNREGISTERED, -2, nullptr, same};
    }
    return SUCCESS;
}

EXPORT cudaMemcpy(void *to, const void *from, size_t size, int) {
    say("cudaMemcpy %zu %s %s", size, place(from).c_str(), place(to).c_str());
    if (int status = outside_of_captures()) {
        return status;
    }
    return copy(to, from, size, legacy(current), true);
}

EXPORT cudaMemcpyAsync(void *to, const void *from, size_t size, int, void *stream) {
    say("cudaMemcpyAsync %zu %s %s %p", size, place(from).c_str(), place(to).c_str(), name(stream));
    return copy(to, from, size, stream_of(stream), false);
}

EXPORT cudaMemcpyPeer(void *to, int, const void *from, int, size_t size) {
    say("cudaMemcpyPeer %zu", size);
    return copy(to, from, size, legacy(current), true);
}

EXPORT cudaMemcpyPeerAsync(void *to, int, const void *from, int, size_t size, void *stream) {
    say("cudaMemcpyPeerAsync %zu %s %s %p", size, place(from).c_str(), place(to).c_str(), name(stream));
    return copy(to, from, size, stream_of(stream), false);
}

EXPORT cudaMemset(void *pointer, int value, size_t size) {
    say("cudaMemset %zu", size);
    return give(legacy(current), [=] { memset(reachable(pointer), value, size); });
}

EXPORT cudaMemsetAsync(void *pointer, int value, size_t size, void *stream) {
    say("cudaMemsetAsync %zu %p", size, name(stream));
    return emulated_fill(stream, pointer, value, size);
}

/* The one pool that each device has, by the number of the device counted from 1. */
EXPORT cudaDeviceGetDefaultMemPool(uintptr_t *pool, int device) { return *pool = uintptr_t(device) + 1, SUCCESS; }
EXPORT cudaDeviceGetMemPool(uintptr_t *pool, int device) { return *pool = uintptr_t(device) + 1, SUCCESS; }
EXPORT cudaMemPoolTrimTo(uintptr_t, size_t) { return SUCCESS; }

EXPORT cudaMemPoolSetAttribute(uintptr_t pool, int which, uint64_t *value) {
    std::lock_guard<std::mutex> guard(memory_lock);
    if (which != RELEASE_THRESHOLD) {
        return NOT_SUPPORTED;
    }
    arenas[pool - 1].threshold = *value;
    say("cudaMemPoolSetAttribute threshold %d %llu", int(pool - 1), static_cast<unsigned long long>(*value));
    return SUCCESS;
}

EXPORT cudaMemPoolGetAttribute(uintptr_t pool, int which, uint64_t *value) {
    std::lock_guard<std::mutex> guard(memory_lock);
    const Arena &arena = arenas[pool - 1];
    switch (which) {
    case RELEASE_THRESHOLD:
        *value = arena.threshold;
        return SUCCESS;
    case RESERVED:
    case RESERVED_HIGH:
    case USED_HIGH:
        *value = arena.pool_high;
        return SUCCESS;
    case USED:
        *value = arena.in_pool;
        return SUCCESS;
    default:
        return NOT_SUPPORTED;
    }
}

/* ---- streams ---- */

EXPORT cudaStreamCreateWithFlags(void **stream, unsigned flags) {
    auto *made = new Stream(current, flags);
    std::lock_guard<std::mutex> guard(stream_lock);
    streams.insert(made);
    *stream = made;
    return SUCCESS;
}

EXPORT cudaStreamCreate(void **stream) { return cudaStreamCreateWithFlags(stream, 0); }
EXPORT cudaStreamCreateWithPriority(void **stream, unsigned flags, int) { return cudaStreamCreateWithFlags(stream, flags); }

EXPORT cudaStreamIsCapturing(void *stream, int *status);

EXPORT cudaStreamDestroy(void *stream) {
    Stream *found = stream_of(stream);
    if (found == nullptr) {
        return INVALID_HANDLE;
    }
    found->open = false; // what it has to do goes on
    return SUCCESS;
}

EXPORT cudaStreamGetFlags(void *stream, unsigned *flags) {
    Stream *found = stream_of(stream);
    return found == nullptr ? INVALID_HANDLE : (*flags = found->flags, SUCCESS);
}

EXPORT cudaStreamGetPriority(void *, int *priority) { return *priority = 0, SUCCESS; }

EXPORT cudaStreamSynchronize(void *stream) {
    say("cudaStreamSynchronize %p", name(stream));
    return finish(stream_of(stream));
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

EXPORT cudaThreadExchangeStreamCaptureMode(int *mode) {
    std::swap(*mode, capture_mode);
    return SUCCESS;
}

EXPORT cudaStreamQuery(void *stream) {
    Stream *found = stream_of(stream);
    if (int status = outside_of_captures()) {
        return status;
    }
    return found == nullptr ? INVALID_HANDLE : found->has_reached(found->now().number) ? SUCCESS : NOT_READY;
}

EXPORT cudaStreamIsCapturing(void *stream, int *status) {
    Stream *found = stream_of(stream);
    if (found == nullptr) {
        return INVALID_HANDLE;
    }
    if (is_legacy(found) && captures != 0) {
        std::lock_guard<std::mutex> guard(stream_lock);
        for (Stream *one : streams) {
            if (one->capturing && (one->flags & NON_BLOCKING) == 0) {
                return CAPTURE_IMPLICIT;
            }
        }
    }
    *status = found->capturing ? (found->invalid ? 2 : 1) : 0;
    return SUCCESS;
}

EXPORT cudaStreamBeginCapture(void *stream, int mode) {
    Stream *found = stream_of(stream);
    if (found == nullptr) {
        return INVALID_HANDLE;
    }
    if (is_legacy(found) || found->capturing) {
        return CAPTURE_UNSUPPORTED;
    }
    found->capturing = true;
    found->capture = ++capture_count;
    found->invalid = false;
    found->mode = mode;
    captures++;
    return SUCCESS;
}

EXPORT cudaStreamEndCapture(void *stream, void **graph) {
    Stream *found = stream_of(stream);
    if (found == nullptr || !found->capturing) {
        return INVALID_VALUE;
    }
    if (found->origin != nullptr) {
        return CAPTURE_UNSUPPORTED;
    }
    found->capturing = false;
    captures--;
    bool unjoined = false;
    {
        std::lock_guard<std::mutex> guard(stream_lock);
        for (Stream *one : streams) {
            if (one->origin == found) {
                unjoined = unjoined || !one->joined;
                one->origin = nullptr;
                one->capturing = false;
                captures--;
            }
        }
    }
    if (unjoined && !found->invalid) {
        *graph = nullptr;
        return CAPTURE_UNJOINED;
    }
    *graph = found->invalid ? nullptr : reinterpret_cast<void *>(uintptr_t(1));
    return found->invalid ? CAPTURE_INVALIDATED : SUCCESS;
}

EXPORT cudaGraphInstantiate(void **runnable, void *graph, unsigned long long) { return *runnable = graph, SUCCESS; }
EXPORT cudaGraphInstantiateWithFlags(void **runnable, void *graph, unsigned long long) { return *runnable = graph, SUCCESS; }
EXPORT cudaGraphGetNodes(void *, void **, size_t *count) { return *count = 1, SUCCESS; }
EXPORT cudaGraphLaunch(void *, void *) { return SUCCESS; } // a graph does nothing here
EXPORT cudaGraphDestroy(void *) { return SUCCESS; }
EXPORT cudaGraphExecDestroy(void *) { return SUCCESS; }

EXPORT cudaLaunchHostFunc(void *stream, void (*function)(void *), void *data) {
    return give(stream_of(stream), [=] { function(data); });
}

/* ---- events ---- */

EXPORT cudaEventCreateWithFlags(void **event, unsigned) {
    auto *made = new Event;
    std::lock_guard<std::mutex> guard(stream_lock);
    events.insert(made);
    *event = made;
    return SUCCESS;
}

EXPORT cudaEventCreate(void **event) { return cudaEventCreateWithFlags(event, 0); }

EXPORT cudaEventDestroy(void *event) {
    Event *found = event_of(event);
    return found == nullptr ? INVALID_HANDLE : (found->open = false, SUCCESS);
}

EXPORT cudaEventRecord(void *event, void *stream) {
    Event *found = event_of(event);
    Stream *there = stream_of(stream);
    say("cudaEventRecord %p", name(stream));
    if (found == nullptr || there == nullptr) {
        return INVALID_HANDLE;
    }
    if (found->device != there->device) {
        return INVALID_HANDLE;
    }
    found->captured = there->capturing;
    found->from = there->capturing ? there : nullptr;
    there->joined = there->joined && !there->capturing;
    found->marks.clear();
    if (!there->capturing) {
        if (is_legacy(there)) {
            found->marks = all_blocking(there->device);
        } else if ((there->flags & NON_BLOCKING) == 0) {
            found->marks.push_back(legacy(there->device)->now());
        }
        found->marks.push_back(there->now());
    }
    return SUCCESS;
}

EXPORT cudaEventRecordWithFlags(void *event, void *stream, unsigned) { return cudaEventRecord(event, stream); }

EXPORT cudaEventQuery(void *event) {
    Event *found = event_of(event);
    if (found == nullptr) {
        return INVALID_HANDLE;
    }
    if (found->captured) {
        return CAPTURE_UNSUPPORTED;
    }
    if (int status = outside_of_captures()) {
        return status;
    }
    return has_come(found) ? SUCCESS : NOT_READY;
}

EXPORT cudaEventSynchronize(void *event) {
    Event *found = event_of(event);
    say("cudaEventSynchronize");
    if (found == nullptr) {
        return INVALID_HANDLE;
    }
    if (found->captured) {
        return CAPTURE_UNSUPPORTED;
    }
    if (int status = outside_of_captures()) {
        return status;
    }
    for (const Mark &mark : found->marks) {
        mark.stream->reach(mark.number);
    }
    return SUCCESS;
}

EXPORT cudaStreamWaitEvent(void *stream, void *event, unsigned) {
    Event *found = event_of(event);
    say("cudaStreamWaitEvent %p", name(stream));
    if (found == nullptr) {
        return INVALID_HANDLE;
    }
    Stream *there = stream_of(stream);
    if (there == nullptr) {
        return INVALID_HANDLE;
    }
    if (there->capturing && !found->captured) {
        there->invalid = true;
        return CAPTURE_ISOLATION;
    }
    if (found->captured) {
        if (is_legacy(there)) {
            found->from->invalid = true;
            return CAPTURE_IMPLICIT;
        }
        if (there->capturing) {
            found->from->joined = found->from->joined || found->from->origin == there;
            return SUCCESS;
        }
        there->capturing = true;
        there->invalid = false;
        there->mode = found->from->mode;
        there->origin = found->from->origin ? found->from->origin : found->from;
        there->joined = false;
        captures++;
        return SUCCESS;
    }
    return give(there, [] {}, found->marks);
}

EXPORT cudaEventElapsedTime(float *milliseconds, void *, void *) { return *milliseconds = 0, SUCCESS; }

/* ---- the driver, as far as torch and interop._async_pool ask it themselves; a context is the number of its device counted from 1 ---- */

thread_local std::vector<int> contexts;

EXPORT cuInit(unsigned) { return SUCCESS; }
EXPORT cuDriverGetVersion(int *version) { return cudaDriverGetVersion(version); }
EXPORT cuDeviceGet(int *device, int ordinal) { return *device = ordinal, ordinal < DEVICES ? SUCCESS : INVALID_DEVICE; }
EXPORT cuDevicePrimaryCtxGetState(int, unsigned *flags, int *active) { return *flags = 0, *active = 1, SUCCESS; }
EXPORT cuDevicePrimaryCtxRetain(uintptr_t *context, int device) { return *context = uintptr_t(device) + 1, SUCCESS; }
EXPORT cuCtxGetCurrent(uintptr_t *context) { return *context = uintptr_t(current) + 1, SUCCESS; }

EXPORT cuCtxPushCurrent_v2(uintptr_t context) {
    contexts.push_back(current);
    return cudaSetDevice(int(context) - 1);
}

EXPORT cuCtxPopCurrent_v2(uintptr_t *context) {
    *context = uintptr_t(current) + 1;
    current = contexts.back();
    contexts.pop_back();
    return SUCCESS;
}

EXPORT cuCtxSynchronize() { return cudaDeviceSynchronize(); }
EXPORT cuStreamIsCapturing(void *stream, int *status) { return cudaStreamIsCapturing(stream, status); }
EXPORT cuThreadExchangeStreamCaptureMode(int *mode) { return cudaThreadExchangeStreamCaptureMode(mode); }
EXPORT cuMemAlloc_v2(void **pointer, size_t size) { return cudaMalloc(pointer, size); }
EXPORT cuMemFree_v2(void *pointer) { return cudaFree(pointer); }
EXPORT cuMemAllocAsync(void **pointer, size_t size, void *stream) { return cudaMallocAsync(pointer, size, stream); }
EXPORT cuMemFreeAsync(void *pointer, void *stream) { return cudaFreeAsync(pointer, stream); }
