// Runs CUDA kernels on the CPU, for tests: every thread of a block is a fiber that runs until it
// waits for others. What it finds: results that depend on a barrier that is not there (what a thread
// has not written yet is garbage for those that ran before it), barriers and collectives that not all
// reach, and shared memory beyond what the launch asked for. It shows no speed and no race of
// memory between warps that happen to run in the right order.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

struct dim3 {
    unsigned x, y, z;
};

namespace shim {

constexpr int WARP = 32;
constexpr int THREADS_MAX = 1024;

// What a kernel's thread knows of itself.
extern dim3 grid_dim, block_dim, block_idx, thread_idx;
unsigned char* shared_memory();

// Where a thread waits: for its block, or for its warp.
void block_barrier();
void warp_barrier(unsigned mask);

// All of a block's threads have a number: this one's.
extern int current;
inline int lane() { return current % WARP; }

// A word of every lane of the caller's warp, once all lanes have given theirs. The answer stays until
// the lane calls again.
const uint32_t* warp_words(unsigned mask, const uint32_t* own, int words);

// The same where the words make four whole numbers for each lane, which one lane works out for all.
using Combine = void (*)(const uint32_t* words, int* results);
const int* warp_results(const uint32_t* own, int words, Combine combine);

using Thunk = void (*)(void** params);

// A kernel by its name, with the sizes of its arguments.
struct Entry {
    const char* name;
    Thunk thunk;
    const size_t* sizes;
    int count;
    Entry* next;
};
const Entry* find(const char* name);
void add(Entry* entry);

// Runs a grid. What is wrong with it ends the process, with a word on standard error.
void launch(const Entry& entry, dim3 grid, dim3 block, unsigned shared_bytes, void** params);

template <class... A>
struct Kernel {
    template <void (*F)(A...)>
    static void thunk(void** params) {
        unpack<F>(params, std::index_sequence_for<A...>{});
    }
    template <void (*F)(A...), size_t... I>
    static void unpack(void** params, std::index_sequence<I...>) {
        F(*static_cast<A*>(params[I])...);
    }
    static constexpr size_t sizes[] = {sizeof(A)...};
};

template <class... A>
Kernel<A...> kernel_of(void (*)(A...));

struct Registered {
    Entry entry;
    Registered(const char* name, Thunk thunk, const size_t* sizes, int count)
        : entry{name, thunk, sizes, count, nullptr} {
        add(&entry);
    }
};

template <class T>
T shuffle(unsigned mask, T value, int from) {
    static_assert(sizeof(T) == 4);
    uint32_t own;
    memcpy(&own, &value, 4);
    uint32_t found = warp_words(mask, &own, 1)[from & (WARP - 1)];
    memcpy(&value, &found, 4);
    return value;
}

}  // namespace shim

#define EXPORT(name)                                                                            \
    static shim::Registered registered_##name(                                                  \
        #name, &decltype(shim::kernel_of(name))::thunk<name>,                                   \
        decltype(shim::kernel_of(name))::sizes,                                                 \
        sizeof(decltype(shim::kernel_of(name))::sizes) / sizeof(size_t));

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define threadIdx (shim::thread_idx)
#define blockIdx (shim::block_idx)
#define blockDim (shim::block_dim)
#define gridDim (shim::grid_dim)
#define __syncthreads() shim::block_barrier()
#define __syncwarp(...) shim::warp_barrier(~0u)
#define __shfl_xor_sync(mask, value, by) shim::shuffle(mask, value, shim::lane() ^ (by))
#define __shfl_sync(mask, value, from) shim::shuffle(mask, value, from)
#define SHARED(type, name) type* name = reinterpret_cast<type*>(shim::shared_memory())

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(8) uint2 {
    unsigned x, y;
};

inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __int2float_rn(int value) { return static_cast<float>(value); }
inline int __float2int_rn(float value) { return static_cast<int>(nearbyintf(value)); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float value) { return sqrtf(value); }
inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, 4);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

// Half-precision numbers as their bits, correctly rounded.
inline float half_to_float(uint16_t bits) {
    unsigned sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | fraction << 13);
    if (exponent == 0) {
        float value = static_cast<float>(fraction) * 0x1p-24f;
        return sign ? -value : value;
    }
    return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
}
inline uint16_t float_to_half(float value) {
    _Float16 half = static_cast<_Float16>(value);
    uint16_t bits;
    memcpy(&bits, &half, 2);
    return bits;
}

// A B of 16 by K by 8 bytes, K being 16 or 32: registers as the PTX instruction has them.
template <int K>
void mma_products(const uint32_t* words, int* results) {
    constexpr int A = K / 8, B = K / 16;
    int8_t rows[16][K], columns[8][K];
    for (int lane = 0; lane < shim::WARP; lane++) {
        const uint32_t* own = words + lane * (A + B);
        int group = lane / 4, from = lane % 4 * 4;
        for (int i = 0; i < A; i++) memcpy(&rows[group + i % 2 * 8][i / 2 * 16 + from], own + i, 4);
        for (int i = 0; i < B; i++) memcpy(&columns[group][i * 16 + from], own + A + i, 4);
    }
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 8; column++) {
            int sum = 0;
            for (int k = 0; k < K; k++) sum += rows[row][k] * columns[column][k];
            results[(row % 8 * 4 + column / 2) * 4 + row / 8 * 2 + column % 2] = sum;
        }
}

template <int K>
void mma_on_shim(int (&d)[4], const unsigned* a, const unsigned* b) {
    constexpr int A = K / 8, B = K / 16;
    uint32_t own[A + B];
    for (int i = 0; i < A; i++) own[i] = a[i];
    for (int i = 0; i < B; i++) own[A + i] = b[i];
    const int* products = shim::warp_results(own, A + B, mma_products<K>);
    for (int i = 0; i < 4; i++) d[i] += products[shim::lane() * 4 + i];
}
