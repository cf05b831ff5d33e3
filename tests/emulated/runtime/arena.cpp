/* Where the memory of the devices comes from, and whose an address is. */

#include "arena.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include <sys/mman.h>
#include <unistd.h>

std::mutex memory_lock;
Arena arenas[DEVICES];
Blocks page_locked, managed;

namespace {

constexpr size_t ALIGNMENT = 512;
constexpr size_t POISONED = size_t(16) << 20; // of freed memory, so much is overwritten; the rest is returned to the system
constexpr int POISON = 0xDD;

Arena *arena_of(uintptr_t address) {
    for (Arena &arena : arenas) {
        auto base = reinterpret_cast<uintptr_t>(arena.device);
        if (base != 0 && address >= base && address < base + ARENA) {
            return &arena;
        }
    }
    return nullptr;
}

bool find(const Blocks &blocks, uintptr_t address, Range &found) {
    auto next = blocks.upper_bound(address);
    if (next == blocks.begin() || address >= std::prev(next)->first + std::prev(next)->second) {
        return false;
    }
    found.start = std::prev(next)->first;
    found.size = std::prev(next)->second;
    return true;
}

} // namespace

void Arena::prepare() {
    if (device != nullptr) {
        return;
    }
    int file = memfd_create("emulated device", 0);
    if (file < 0 || ftruncate(file, ARENA) != 0) {
        abort();
    }
    device = static_cast<char *>(mmap(nullptr, ARENA, PROT_NONE, MAP_SHARED | MAP_NORESERVE, file, 0));
    own = static_cast<char *>(mmap(nullptr, ARENA, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0));
    close(file);
    if (device == MAP_FAILED || own == MAP_FAILED) {
        abort();
    }
    free_blocks[reinterpret_cast<uintptr_t>(device)] = ARENA;
}

/* First fit, lowest address: memory that was freed is reused at once, as by a caching pool. */
uintptr_t Arena::allocate(size_t size) {
    auto fits = [=](const auto &block) { return block.second >= size; };
    auto found = std::find_if(free_blocks.begin(), free_blocks.end(), fits);
    if (found == free_blocks.end()) {
        return 0;
    }
    auto [address, length] = *found;
    free_blocks.erase(found);
    if (length > size) {
        free_blocks[address + size] = length - size;
    }
    used[address] = size;
    in_use += size;
    return address;
}

void Arena::poison(uintptr_t address, size_t size) const {
    char *start = own + (address - reinterpret_cast<uintptr_t>(device));
    memset(start, POISON, std::min(size, POISONED));
    if (size > POISONED) {
        auto page = size_t(sysconf(_SC_PAGESIZE));
        auto from = (reinterpret_cast<uintptr_t>(start) + POISONED + page - 1) / page * page;
        auto to = (reinterpret_cast<uintptr_t>(start) + size) / page * page;
        if (to > from) {
            madvise(reinterpret_cast<void *>(from), to - from, MADV_REMOVE);
        }
    }
}

void Arena::add_free_block(uintptr_t address, size_t size) {
    auto after = free_blocks.find(address + size);
    if (after != free_blocks.end()) {
        size += after->second;
        free_blocks.erase(after);
    }
    auto next = free_blocks.lower_bound(address);
    if (next != free_blocks.begin() && std::prev(next)->first + std::prev(next)->second == address) {
        std::prev(next)->second += size;
    } else {
        free_blocks[address] = size;
    }
}

void *allocate(int device, size_t size, bool of_pool) {
    std::lock_guard<std::mutex> guard(memory_lock);
    Arena &arena = arenas[device];
    arena.prepare();
    size = (std::max(size, size_t(1)) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    uintptr_t found = arena.allocate(size);
    if (found != 0 && of_pool) {
        arena.of_pool.insert(found);
        arena.in_pool += size;
        arena.pool_high = std::max(arena.pool_high, arena.in_pool);
    }
    return reinterpret_cast<void *>(found);
}

bool release(void *pointer) {
    std::lock_guard<std::mutex> guard(memory_lock);
    auto address = reinterpret_cast<uintptr_t>(pointer);
    Arena *arena = arena_of(address);
    if (arena == nullptr || arena->used.count(address) == 0) {
        return false;
    }
    size_t size = arena->used[address];
    arena->used.erase(address);
    arena->in_use -= size;
    if (arena->of_pool.erase(address) != 0) {
        arena->in_pool -= size;
    }
    arena->poison(address, size);
    arena->add_free_block(address, size);
    return true;
}

Range range_of(const void *pointer) {
    auto address = reinterpret_cast<uintptr_t>(pointer);
    std::lock_guard<std::mutex> guard(memory_lock);
    Range found{PAGEABLE, -2, address, 0};
    if (Arena *arena = arena_of(address)) {
        find(arena->used, address, found);
        found.place = ON_DEVICE;
        found.device = int(arena - arenas);
    } else if (find(managed, address, found)) {
        found.place = MANAGED;
        found.device = 0;
    } else if (find(page_locked, address, found)) {
        found.place = PINNED;
        found.device = 0;
    }
    return found;
}

char *reachable(const void *pointer) {
    auto address = reinterpret_cast<uintptr_t>(pointer);
    Arena *arena = arena_of(address);
    return arena == nullptr ? reinterpret_cast<char *>(address) : arena->own + (address - reinterpret_cast<uintptr_t>(arena->device));
}

std::string name_of(const void *pointer) {
    Range range = range_of(pointer);
    const char *names[] = {"pageable", "pinned", "managed", "device"};
    return names[range.place] + (range.place == ON_DEVICE ? std::to_string(range.device) : "");
}

/* For the tests, not CUDA: returns where the host finds the memory at an address of a device. */
extern "C" __attribute__((visibility("default"))) void *emulated_reachable(const void *pointer) { return reachable(pointer); }
