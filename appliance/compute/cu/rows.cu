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

// out = x / sqrt(mean(x x) + eps) weight, a block for each row.
extern "C" __global__ void __launch_bounds__(THREADS)
rms_norm(const float* x, const float* weight, float* out, int width, float eps) {
    SHARED(float, room);
    x += static_cast<size_t>(blockIdx.x) * width;
    out += static_cast<size_t>(blockIdx.x) * width;
    float squares = 0;
    for (int i = threadIdx.x; i < width; i += THREADS) squares = __fmaf_rn(x[i], x[i], squares);
    float mean = __fdiv_rn(block_sum(squares, room), static_cast<float>(width));
    float factor = __fdiv_rn(1, __fsqrt_rn(__fadd_rn(mean, eps)));
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

// Turns pairs of every head, in place: `turns` has sine and cosine of each pair of each row; pairs are
// neighbours, or half a head apart.
extern "C" __global__ void __launch_bounds__(THREADS)
rope(float* x, const float* turns, int heads, int head_dim, int pairs, int are_neighbours) {
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
EXPORT(rope)

// Stores a row's keys and values, rounded to half precision, at its cell: caches are
// (blocks, heads, block_len, head_dim), and cells count positions of blocks.
extern "C" __global__ void __launch_bounds__(THREADS)
kv_write(const float* keys, const float* values, uint16_t* key_cache, uint16_t* value_cache,
         const int* cells, int heads, int head_dim, int block_len) {
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
EXPORT(kv_write)

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
// by sixteen in two planes (level = 256 high + low, both signed; high comes first). Columns are padded
// to a multiple of 256 by zeros. `sums` has the sum of every sixteen levels of each plane. What is no
// finite number makes its scale none. A warp for each scale.
template <int LENGTH, int PLANES>
__device__ __forceinline__ void rounded(const float* x, int8_t* levels, float* scales, int* sums,
                                        int width, int padded, int rows) {
    constexpr int EACH = LENGTH / LANES;
    int group = blockIdx.y * (THREADS / LANES) + warp_index(), row = blockIdx.x;
    if (group * LENGTH >= padded) return;
    int from = group * LENGTH + lane_index() * EACH;
    float own[EACH], most = 0;
    for (int i = 0; i < EACH; i++) {
        own[i] = from + i < width ? x[static_cast<size_t>(row) * width + from + i] : 0.0f;
        float size = fabsf(own[i]);
        most = most < size || size != size ? size : most;
    }
    most = warp_max(most);
    constexpr float LEVELS = PLANES == 1 ? 127.0f : 32639.0f;
    float factor = __fdiv_rn(LEVELS, most);
    bool is_finite = most <= 3.4028235e38f, has_levels = is_finite && factor <= 3.4028235e38f;
    int sum[PLANES] = {};
    for (int i = 0; i < EACH; i++) {
        int level = has_levels ? __float2int_rn(__fmul_rn(own[i], factor)) : 0;
        int planes[2] = {level, 0};
        if (PLANES == 2) {
            planes[1] = static_cast<int8_t>(level & 255);
            planes[0] = (level - planes[1]) / 256;
        }
        for (int p = 0; p < PLANES; p++) {
            size_t at = (static_cast<size_t>(p) * rows + row) * padded + from + i;
            levels[at] = static_cast<int8_t>(planes[p]);
            sum[p] += planes[p];
        }
    }
    // The lanes of sixteen columns.
    constexpr int TOGETHER = 16 / EACH > 0 ? 16 / EACH : 1;
    for (int p = 0; p < PLANES; p++) {
        for (int by = TOGETHER / 2; by > 0; by /= 2) sum[p] += __shfl_xor_sync(~0u, sum[p], by);
        if (lane_index() % TOGETHER == 0)
            sums[(static_cast<size_t>(p) * rows + row) * (padded / 16) + from / 16] = sum[p];
    }
    if (lane_index() == 0) {
        float scale = has_levels ? __fdiv_rn(most, LEVELS) : is_finite ? 0.0f : most - most;
        scales[static_cast<size_t>(row) * (padded / LENGTH) + group] = scale;
    }
}

#define ROUNDED(name, LENGTH, PLANES)                                                          \
    extern "C" __global__ void __launch_bounds__(THREADS)                                      \
    name(const float* x, int8_t* levels, float* scales, int* sums, int width, int padded,      \
         int rows) {                                                                           \
        rounded<LENGTH, PLANES>(x, levels, scales, sums, width, padded, rows);                 \
    }                                                                                          \
    EXPORT(name)

ROUNDED(round_256_8, 256, 1)
ROUNDED(round_256_16, 256, 2)
ROUNDED(round_32_8, 32, 1)
ROUNDED(round_32_16, 32, 2)
