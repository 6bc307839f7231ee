// What all kernels begin with, be they compiled for a GPU or, in tests, for the CPU. Products and
// sums are written one by one (__fmaf_rn and the like), so that no compiler joins or parts them: the
// same numbers give the same bits in every kernel.
#pragma once

#ifdef REDOUBT_SHIM
#include "shim/shim.h"
#define UNROLL(times)
#else
// The loop that follows is written out so many times, so that what it chooses is known when it is
// compiled.
#define UNROLL(times) _Pragma(TEXT_OF(unroll (times)))
#define TEXT_OF(words) #words

typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;

#define INFINITY __int_as_float(0x7f800000)

// A kernel's name is known to the driver as it stands.
#define EXPORT(name)
#define SHARED(type, name)                                  \
    extern __shared__ __align__(16) unsigned char shared_memory[]; \
    type* name = reinterpret_cast<type*>(shared_memory)

__device__ __forceinline__ float half_to_float(uint16_t bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ __forceinline__ uint16_t float_to_half(float value) {
    uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
#endif

constexpr int LANES = 32;

__device__ __forceinline__ int lane_index() { return threadIdx.x % LANES; }
__device__ __forceinline__ int warp_index() { return threadIdx.x / LANES; }

// D = A B + D in integers: A is 16 by 32 (four registers), B 32 by 8 (two), D 16 by 8. Lane l has of A
// rows l/4 and l/4 + 8, of B column l/4, of D rows l/4 and l/4 + 8 and columns 2 (l%4) and one on.
__device__ __forceinline__ void mma_32(int (&d)[4], const uint32_t* a, const uint32_t* b) {
#ifdef REDOUBT_SHIM
    mma_on_shim<32>(d, a, b);
#else
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// The same of half the depth: A is 16 by 16 (two registers), B 16 by 8 (one).
__device__ __forceinline__ void mma_16(int (&d)[4], const uint32_t* a, const uint32_t* b) {
#ifdef REDOUBT_SHIM
    mma_on_shim<16>(d, a, b);
#else
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
        "{%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
#endif
}

// The sum of a warp's values, the same bits in every lane.
__device__ __forceinline__ float warp_sum(float value) {
    for (int by = LANES / 2; by > 0; by /= 2)
        value = __fadd_rn(value, __shfl_xor_sync(~0u, value, by));
    return value;
}

__device__ __forceinline__ float warp_max(float value) {
    for (int by = LANES / 2; by > 0; by /= 2) {
        float other = __shfl_xor_sync(~0u, value, by);
        // No number is more than any.
        value = value < other || other != other ? other : value;
    }
    return value;
}
