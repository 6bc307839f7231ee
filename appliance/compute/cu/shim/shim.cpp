// The fibers behind shim.h.
#include "shim.h"

#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <vector>

namespace shim {

dim3 grid_dim, block_dim, block_idx, thread_idx;
int current;

namespace {

constexpr size_t STACK_BYTES = 64 << 10;
constexpr int WORDS_MAX = 8;

enum class Waits { Nothing, Block, Warp, Over };

struct Fiber {
    void* stack_pointer;
    dim3 thread_idx;
    Waits waits;
    // Of the barrier that it waits at: it goes on once that has another.
    unsigned round;
};

struct Warp {
    unsigned round;
    int arrived;
    // Answers of this round and of the one before, which lanes may still read.
    uint32_t words[2][WARP * WORDS_MAX];
    int results[2][WARP * 4];
};

Fiber fibers[THREADS_MAX];
Warp warps[THREADS_MAX / WARP];
unsigned char* stacks;
std::vector<unsigned char> shared;
unsigned char* shared_from;
int threads, over;
unsigned block_round;
int block_arrived;
void* scheduler;
const Entry* running;
void** running_params;
Entry* entries;

[[noreturn]] void fail(const char* what) {
    fprintf(stderr, "kernel %s, block %u %u %u, thread %d: %s\n", running ? running->name : "?",
            block_idx.x, block_idx.y, block_idx.z, current, what);
    abort();
}

extern "C" void shim_switch(void** from, void* to);
asm(R"(
.globl shim_switch
.type shim_switch, @function
shim_switch:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret
)");

void wait(Waits what, unsigned round) {
    Fiber& own = fibers[current];
    own.waits = what;
    own.round = round;
    shim_switch(&own.stack_pointer, scheduler);
}

extern "C" void shim_thread() {
    running->thunk(running_params);
    fibers[current].waits = Waits::Over;
    over++;
    // Those that wait for the block do not wait for who is gone.
    if (block_arrived > 0 && block_arrived == threads - over) {
        block_arrived = 0;
        block_round++;
    }
    shim_switch(&fibers[current].stack_pointer, scheduler);
    abort();
}

void begin(int thread) {
    auto top = reinterpret_cast<uintptr_t>(stacks + (thread + 1) * STACK_BYTES);
    // As after a call: 16 bytes but for the return address.
    auto* at = reinterpret_cast<void**>(top - 16);
    *--at = nullptr;
    *--at = reinterpret_cast<void*>(&shim_thread);
    for (int i = 0; i < 6; i++) *--at = nullptr;
    unsigned x = thread % block_dim.x, rest = thread / block_dim.x;
    fibers[thread] = {at, {x, rest % block_dim.y, rest / block_dim.y}, Waits::Nothing, 0};
}

bool may_go_on(const Fiber& fiber, int thread) {
    switch (fiber.waits) {
        case Waits::Nothing: return true;
        case Waits::Block: return fiber.round != block_round;
        case Waits::Warp: return fiber.round != warps[thread / WARP].round;
        case Waits::Over: return false;
    }
    return false;
}

void run_block(unsigned shared_bytes) {
    // What no thread has written is no number, and another one in every block.
    static std::vector<uint32_t> garbage;
    static uint32_t seed = 1;
    shared.resize(shared_bytes + 64);
    shared_from = shared.data() + (-reinterpret_cast<uintptr_t>(shared.data()) & 15);
    unsigned char* guard = shared_from + shared_bytes;
    constexpr unsigned SHIFTS = 64;
    while (garbage.size() < shared_bytes / 4 + SHIFTS) {
        seed = seed * 1664525u + 1013904223u;
        garbage.push_back(0x7fc00000u | seed >> 10);
    }
    memcpy(shared_from, garbage.data() + seed++ % SHIFTS, shared_bytes);
    memset(guard, 0xa5, 32);
    over = block_arrived = 0;
    for (int w = 0; w < threads / WARP; w++) warps[w].arrived = 0;
    for (int t = 0; t < threads; t++) begin(t);
    // A warp goes as far as it can before the next one does, from the first or from the last: what a
    // barrier is missing for is seen.
    bool is_backward = seed & 1;
    while (over < threads) {
        bool has_moved = false;
        for (int i = 0; i < threads / WARP; i++) {
            int from = (is_backward ? threads / WARP - 1 - i : i) * WARP;
            for (bool goes_on = true; goes_on;) {
                goes_on = false;
                for (int t = from; t < from + WARP; t++) {
                    if (!may_go_on(fibers[t], t)) continue;
                    goes_on = has_moved = true;
                    current = t;
                    thread_idx = fibers[t].thread_idx;
                    shim_switch(&scheduler, fibers[t].stack_pointer);
                }
            }
        }
        if (!has_moved) fail("not all threads reach a barrier or a collective");
    }
    for (int i = 0; i < 32; i++)
        if (guard[i] != 0xa5) fail("more shared memory is written than the launch has");
}

}  // namespace

unsigned char* shared_memory() { return shared_from; }

void block_barrier() {
    unsigned round = block_round;
    if (++block_arrived == threads - over) {
        block_arrived = 0;
        block_round++;
        return;
    }
    wait(Waits::Block, round);
}

namespace {

// Gives a lane's words to its warp, and waits for the others'; which of the two buffers they are in.
int exchange(const uint32_t* own, int words, Combine combine) {
    Warp& warp = warps[current / WARP];
    unsigned round = warp.round;
    uint32_t* all = warp.words[round & 1];
    for (int i = 0; i < words; i++) all[lane() * words + i] = own[i];
    if (++warp.arrived == WARP) {
        if (combine) combine(all, warp.results[round & 1]);
        warp.arrived = 0;
        warp.round++;
    } else {
        wait(Waits::Warp, round);
    }
    return round & 1;
}

}  // namespace

const uint32_t* warp_words(unsigned mask, const uint32_t* own, int words) {
    if (mask != ~0u) fail("a collective of some lanes is none of this project's");
    return warps[current / WARP].words[exchange(own, words, nullptr)];
}

const int* warp_results(const uint32_t* own, int words, Combine combine) {
    return warps[current / WARP].results[exchange(own, words, combine)];
}

void warp_barrier(unsigned mask) { warp_words(mask, nullptr, 0); }

void add(Entry* entry) {
    entry->next = entries;
    entries = entry;
}

const Entry* find(const char* name) {
    for (const Entry* entry = entries; entry; entry = entry->next)
        if (!strcmp(entry->name, name)) return entry;
    return nullptr;
}

void launch(const Entry& entry, dim3 grid, dim3 block, unsigned shared_bytes, void** params) {
    if (!stacks) {
        void* room = mmap(nullptr, THREADS_MAX * STACK_BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (room == MAP_FAILED) abort();
        stacks = static_cast<unsigned char*>(room);
    }
    running = &entry;
    running_params = params;
    grid_dim = grid;
    block_dim = block;
    threads = block.x * block.y * block.z;
    if (threads <= 0 || threads > THREADS_MAX || threads % WARP) fail("no whole warps in a block");
    if (shared_bytes % 16) fail("shared memory in sixteens of bytes, please");
    for (block_idx.z = 0; block_idx.z < grid.z; block_idx.z++)
        for (block_idx.y = 0; block_idx.y < grid.y; block_idx.y++)
            for (block_idx.x = 0; block_idx.x < grid.x; block_idx.x++) run_block(shared_bytes);
    running = nullptr;
}

}  // namespace shim
