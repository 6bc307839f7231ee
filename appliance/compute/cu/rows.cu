// Steps that treat every row by itself: norms, rotary embedding, activations, stores of keys and
// values, and the rounding of a product's inputs. A row is a block's, or a warp's part of it; what is
// summed has one order, by its own width alone.
#include "cuda.cuh"

constexpr int THREADS = 256;

// The sum of a block's values, the same in every thread; `room` has a place for each warp.
__device__ __forceinline__ float block_sum(float value, float* room) {
    value = warp_sum(value);
    if (lane_index() == 0) room[warp_index()] = value;
    __syncthreads();
    float sum = room[0];
    for (int warp = 1; warp < THREADS / LANES; warp++) sum = __fadd_rn(sum, room[warp]);
    __syncthreads();
    return sum;
}

// 1 / sqrt(mean(x x) + eps) of a block's row.
__device__ __forceinline__ float rms_factor(const float* x, int width, float eps, float* room) {
    float squares = 0;
    for (int i = threadIdx.x; i < width; i += THREADS) squares = __fmaf_rn(x[i], x[i], squares);
    float mean = __fdiv_rn(block_sum(squares, room), static_cast<float>(width));
    return __fdiv_rn(1, __fsqrt_rn(__fadd_rn(mean, eps)));
}

// out = x / sqrt(mean(x x) + eps) weight, a block for each row.
extern "C" __global__ void __launch_bounds__(THREADS)
rms_norm(const float* x, const float* weight, float* out, int width, float eps) {
    SHARED(float, room);
    x += static_cast<size_t>(blockIdx.x) * width;
    out += static_cast<size_t>(blockIdx.x) * width;
    float factor = rms_factor(x, width, eps, room);
    for (int i = threadIdx.x; i < width; i += THREADS)
        out[i] = __fmul_rn(__fmul_rn(x[i], factor), weight[i]);
}
EXPORT(rms_norm)

// out = (x - mean) / sqrt(variance + eps) weight + bias, a block for each row.
extern "C" __global__ void __launch_bounds__(THREADS)
layer_norm(const float* x, const float* weight, const float* bias, float* out, int width, float eps) {
    SHARED(float, room);
    x += static_cast<size_t>(blockIdx.x) * width;
    out += static_cast<size_t>(blockIdx.x) * width;
    float sum = 0;
    for (int i = threadIdx.x; i < width; i += THREADS) sum = __fadd_rn(sum, x[i]);
    float mean = __fdiv_rn(block_sum(sum, room), static_cast<float>(width));
    float squares = 0;
    for (int i = threadIdx.x; i < width; i += THREADS) {
        float from_mean = __fadd_rn(x[i], -mean);
        squares = __fmaf_rn(from_mean, from_mean, squares);
    }
    float variance = __fdiv_rn(block_sum(squares, room), static_cast<float>(width));
    float factor = __fdiv_rn(1, __fsqrt_rn(__fadd_rn(variance, eps)));
    for (int i = threadIdx.x; i < width; i += THREADS) {
        float normal = __fmul_rn(__fadd_rn(x[i], -mean), factor);
        out[i] = __fmaf_rn(normal, weight[i], bias[i]);
    }
}
EXPORT(layer_norm)

// The norm of rms_norm over every head of a row, in place: a warp for each head.
extern "C" __global__ void __launch_bounds__(THREADS)
head_norm(float* x, const float* weight, int heads, int head_dim, float eps) {
    int head = blockIdx.y * (THREADS / LANES) + warp_index();
    if (head >= heads) return;
    x += (static_cast<size_t>(blockIdx.x) * heads + head) * head_dim;
    float squares = 0;
    for (int i = lane_index(); i < head_dim; i += LANES) squares = __fmaf_rn(x[i], x[i], squares);
    float mean = __fdiv_rn(warp_sum(squares), static_cast<float>(head_dim));
    float factor = __fdiv_rn(1, __fsqrt_rn(__fadd_rn(mean, eps)));
    for (int i = lane_index(); i < head_dim; i += LANES)
        x[i] = __fmul_rn(__fmul_rn(x[i], factor), weight[i]);
}
EXPORT(head_norm)

// Turns pairs of every head of a block's row, in place: `turns` has sine and cosine of each pair of
// each row; pairs are neighbours, or half a head apart.
__device__ __forceinline__ void turn(float* x, const float* turns, int heads, int head_dim, int pairs,
                                     int are_neighbours) {
    x += static_cast<size_t>(blockIdx.x) * heads * head_dim;
    turns += static_cast<size_t>(blockIdx.x) * 2 * pairs;
    for (int i = threadIdx.x; i < heads * pairs; i += THREADS) {
        int head = i / pairs, pair = i % pairs;
        float* first = x + head * head_dim + (are_neighbours ? 2 * pair : pair);
        float* second = first + (are_neighbours ? 1 : head_dim / 2);
        float sine = turns[2 * pair], cosine = turns[2 * pair + 1], a = *first, b = *second;
        *first = __fadd_rn(__fmul_rn(a, cosine), -__fmul_rn(b, sine));
        *second = __fadd_rn(__fmul_rn(a, sine), __fmul_rn(b, cosine));
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
rope(float* x, const float* turns, int heads, int head_dim, int pairs, int are_neighbours) {
    turn(x, turns, heads, head_dim, pairs, are_neighbours);
}
EXPORT(rope)

// Stores keys and values of a block's row, rounded to half precision, at its cell: caches are
// (blocks, heads, block_len, head_dim), and cells count positions of blocks.
__device__ __forceinline__ void store(const float* keys, const float* values, uint16_t* key_cache,
                                      uint16_t* value_cache, const int* cells, int heads,
                                      int head_dim, int block_len) {
    int cell = cells[blockIdx.x], width = heads * head_dim;
    keys += static_cast<size_t>(blockIdx.x) * width;
    values += static_cast<size_t>(blockIdx.x) * width;
    for (int i = threadIdx.x; i < width; i += THREADS) {
        int head = i / head_dim, at = i % head_dim;
        size_t row = (static_cast<size_t>(cell / block_len) * heads + head) * block_len +
                     cell % block_len;
        key_cache[row * head_dim + at] = float_to_half(keys[i]);
        value_cache[row * head_dim + at] = float_to_half(values[i]);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
kv_write(const float* keys, const float* values, uint16_t* key_cache, uint16_t* value_cache,
         const int* cells, int heads, int head_dim, int block_len) {
    store(keys, values, key_cache, value_cache, cells, heads, head_dim, block_len);
}
EXPORT(kv_write)

// Turns queries and keys, by a block each, and stores keys with values.
extern "C" __global__ void __launch_bounds__(THREADS)
rope_store(float* queries, float* keys, const float* values, const float* turns, uint16_t* key_cache,
           uint16_t* value_cache, const int* cells, int heads, int kv_heads, int head_dim, int pairs,
           int are_neighbours, int block_len) {
    if (blockIdx.y == 0) return turn(queries, turns, heads, head_dim, pairs, are_neighbours);
    turn(keys, turns, kv_heads, head_dim, pairs, are_neighbours);
    __syncthreads();
    store(keys, values, key_cache, value_cache, cells, kv_heads, head_dim, block_len);
}
EXPORT(rope_store)

// x sigmoid(x), or x P(X <= x) of a standard normal X.
__device__ __forceinline__ float activated(float x, int is_gelu) {
    if (is_gelu) return __fmul_rn(__fmul_rn(0.5f, x), __fadd_rn(1, erff(__fmul_rn(x, 0.70710678f))));
    return __fdiv_rn(x, __fadd_rn(1, expf(-x)));
}

// out = activation(gate) up.
extern "C" __global__ void __launch_bounds__(THREADS)
gate(const float* gates, const float* up, float* out, int count, int is_gelu) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < count) out[i] = __fmul_rn(activated(gates[i], is_gelu), up[i]);
}
EXPORT(gate)

extern "C" __global__ void __launch_bounds__(THREADS) activate(float* x, int count, int is_gelu) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < count) x[i] = activated(x[i], is_gelu);
}
EXPORT(activate)

extern "C" __global__ void __launch_bounds__(THREADS) add(float* into, const float* x, int count) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < count) into[i] = __fadd_rn(into[i], x[i]);
}
EXPORT(add)

// Row `which[i]` of `from` becomes row i of `to`.
extern "C" __global__ void __launch_bounds__(THREADS)
take_rows(const float* from, float* to, const int* which, int width) {
    from += static_cast<size_t>(which[blockIdx.x]) * width;
    to += static_cast<size_t>(blockIdx.x) * width;
    for (int i = threadIdx.x; i < width; i += THREADS) to[i] = from[i];
}
EXPORT(take_rows)

// Inputs of products: levels of whole numbers with a scale for every LENGTH columns, by eight bits, or
// by sixteen in two planes (level = 256 high + low, both signed; high comes first), of `plane_rows` rows
// each. Columns are padded to a multiple of 256 by zeros; the levels of such a tile stand as lanes of an
// mma read them (place_of). `sums` has sums of a tile's levels: with a scale for 256, those of every
// sixteen and of every 32, as two digits of base 64 each (low and high ones of the sixteens, then of the
// others); with a scale for 32, those of every 32 as they are. What is no finite number makes its scale
// none. A warp for each scale.
constexpr int TILE_COLUMNS = 256;

// Where a column's level stands in its tile: 64 bytes for each quarter of lanes, eight for every 32
// columns.
__device__ __forceinline__ int place_of(int column) {
    return column / 4 % 4 * 64 + column / 32 * 8 + column / 16 % 2 * 4 + column % 4;
}

// A sum as two digits of base 64.
__device__ __forceinline__ void put_digits(int8_t* low, int8_t* high, int sum) {
    int digit = ((sum + 32) & 63) - 32;
    *low = static_cast<int8_t>(digit);
    *high = static_cast<int8_t>((sum - digit) / 64);
}

struct Rounded {
    int8_t* levels;
    float* scales;
    int8_t* sums;
    int padded, plane_rows;
};

// Rounds what a warp's lanes have of a block's row: columns of one scale.
template <int LENGTH, int PLANES>
__device__ __forceinline__ void round_group(const float (&own)[LENGTH / LANES], int group,
                                            const Rounded& to) {
    constexpr int EACH = LENGTH / LANES;
    auto [levels, scales, sums, padded, plane_rows] = to;
    int from = group * LENGTH + lane_index() * EACH, row = blockIdx.x;
    float most = 0;
    for (int i = 0; i < EACH; i++) {
        float size = fabsf(own[i]);
        most = most < size || size != size ? size : most;
    }
    most = warp_max(most);
    constexpr float LEVELS = PLANES == 1 ? 127.0f : 32639.0f;
    float factor = __fdiv_rn(LEVELS, most);
    bool is_finite = most <= 3.4028235e38f, has_levels = is_finite && factor <= 3.4028235e38f;
    int tiles = padded / TILE_COLUMNS, tile = from / TILE_COLUMNS;
    int sum[PLANES] = {};
    for (int i = 0; i < EACH; i++) {
        int level = has_levels ? __float2int_rn(__fmul_rn(own[i], factor)) : 0;
        int planes[2] = {level, 0};
        if (PLANES == 2) {
            planes[1] = static_cast<int8_t>(level & 255);
            planes[0] = (level - planes[1]) / 256;
        }
        for (int p = 0; p < PLANES; p++) {
            size_t at = (static_cast<size_t>(p) * plane_rows + row) * padded + tile * TILE_COLUMNS;
            levels[at + place_of((from + i) % TILE_COLUMNS)] = static_cast<int8_t>(planes[p]);
            sum[p] += planes[p];
        }
    }
    for (int p = 0; p < PLANES; p++) {
        size_t place = (static_cast<size_t>(p) * plane_rows + row) * tiles + tile;
        if (LENGTH == TILE_COLUMNS) {
            // Two lanes have sixteen columns, four 32.
            int8_t* at = sums + place * 48;
            sum[p] += __shfl_xor_sync(~0u, sum[p], 1);
            int sixteen = lane_index() / 2, both = lane_index() / 4;
            if (lane_index() % 2 == 0) put_digits(at + sixteen, at + 16 + sixteen, sum[p]);
            sum[p] += __shfl_xor_sync(~0u, sum[p], 2);
            if (lane_index() % 4 == 0) put_digits(at + 32 + both, at + 40 + both, sum[p]);
        } else {
            for (int by = LANES / 2; by > 0; by /= 2) sum[p] += __shfl_xor_sync(~0u, sum[p], by);
            int* at = reinterpret_cast<int*>(sums) + place * 8;
            if (lane_index() == 0) at[from / 32 % 8] = sum[p];
        }
    }
    if (lane_index() == 0) {
        float scale = has_levels ? __fdiv_rn(most, LEVELS) : is_finite ? 0.0f : most - most;
        scales[static_cast<size_t>(row) * (padded / LENGTH) + group] = scale;
    }
}

// The group of a warp, where there is one for each.
template <int LENGTH> __device__ __forceinline__ bool own_group(int& group, int padded) {
    group = blockIdx.y * (THREADS / LANES) + warp_index();
    return group * LENGTH < padded;
}

template <int LENGTH, int PLANES>
__device__ __forceinline__ void rounded(const float* x, int width, const Rounded& to) {
    constexpr int EACH = LENGTH / LANES;
    int group;
    if (!own_group<LENGTH>(group, to.padded)) return;
    int from = group * LENGTH + lane_index() * EACH;
    x += static_cast<size_t>(blockIdx.x) * width + from;
    float own[EACH];
    for (int i = 0; i < EACH; i++) own[i] = from + i < width ? x[i] : 0.0f;
    round_group<LENGTH, PLANES>(own, group, to);
}

// out = x / sqrt(mean(x x) + eps) weight, and the same rounded; a block for each row.
template <int LENGTH, int PLANES>
__device__ __forceinline__ void norm_rounded(const float* x, const float* weight, float* out, int width,
                                             float eps, float* room, const Rounded& to) {
    constexpr int EACH = LENGTH / LANES;
    x += static_cast<size_t>(blockIdx.x) * width;
    out += static_cast<size_t>(blockIdx.x) * width;
    float factor = rms_factor(x, width, eps, room);
    for (int group = warp_index(); group * LENGTH < to.padded; group += THREADS / LANES) {
        float own[EACH];
        for (int i = 0; i < EACH; i++) {
            int at = group * LENGTH + lane_index() * EACH + i;
            own[i] = at < width ? __fmul_rn(__fmul_rn(x[at], factor), weight[at]) : 0.0f;
            if (at < width) out[at] = own[i];
        }
        round_group<LENGTH, PLANES>(own, group, to);
    }
}

// out = activation(gate) up, and the same rounded.
template <int LENGTH, int PLANES>
__device__ __forceinline__ void gate_rounded(const float* gates, const float* up, float* out, int width,
                                             int is_gelu, const Rounded& to) {
    constexpr int EACH = LENGTH / LANES;
    int group;
    if (!own_group<LENGTH>(group, to.padded)) return;
    int from = group * LENGTH + lane_index() * EACH;
    size_t place = static_cast<size_t>(blockIdx.x) * width + from;
    float own[EACH];
    for (int i = 0; i < EACH; i++) {
        bool is_there = from + i < width;
        own[i] = is_there ? __fmul_rn(activated(gates[place + i], is_gelu), up[place + i]) : 0.0f;
        if (is_there) out[place + i] = own[i];
    }
    round_group<LENGTH, PLANES>(own, group, to);
}

#define ROUNDED(name, LENGTH, PLANES)                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
    name(const float* x, int8_t* levels, float* scales, int8_t* sums, int width, int padded,       \
         int plane_rows) {                                                                         \
        rounded<LENGTH, PLANES>(x, width, {levels, scales, sums, padded, plane_rows});             \
    }                                                                                              \
    EXPORT(name)                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
    rms_norm_##name(const float* x, const float* weight, float* out, float eps, int8_t* levels,    \
                    float* scales, int8_t* sums, int width, int padded, int plane_rows) {          \
        SHARED(float, room);                                                                       \
        Rounded to{levels, scales, sums, padded, plane_rows};                                      \
        norm_rounded<LENGTH, PLANES>(x, weight, out, width, eps, room, to);                        \
    }                                                                                              \
    EXPORT(rms_norm_##name)                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
    gate_##name(const float* gates, const float* up, float* out, int is_gelu, int8_t* levels,      \
                float* scales, int8_t* sums, int width, int padded, int plane_rows) {              \
        Rounded to{levels, scales, sums, padded, plane_rows};                                      \
        gate_rounded<LENGTH, PLANES>(gates, up, out, width, is_gelu, to);                          \
    }                                                                                              \
    EXPORT(gate_##name)

ROUNDED(round_256_8, 256, 1)
ROUNDED(round_256_16, 256, 2)
ROUNDED(round_32_8, 32, 1)
ROUNDED(round_32_16, 32, 2)
