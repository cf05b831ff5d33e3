/* Memory of the devices: an arena for each, whose free blocks are allocated first fit; and what is page-locked or managed of the host's. */

#pragma once

#include "emulated.h"

#include <map>
#include <set>

using Blocks = std::map<uintptr_t, size_t>;

struct Arena {
    char *device = nullptr; // what a program has: neither to be read nor to be written by the host
    char *own = nullptr;    // the same pages, for the streams
    Blocks free_blocks, used;
    size_t in_use = 0, in_pool = 0, pool_high = 0; // bytes; those of a pool are stream-ordered allocations
    uint64_t threshold = 0;
    std::set<uintptr_t> of_pool;

    void prepare();
    uintptr_t allocate(size_t size);
    void poison(uintptr_t address, size_t size) const;
    void add_free_block(uintptr_t address, size_t size);
};

extern std::mutex memory_lock; // of all that follows
extern Arena arenas[DEVICES];
extern Blocks page_locked, managed;

void *allocate(int device, size_t size, bool of_pool);
bool release(void *pointer); // false where nothing was allocated
