// Products of a quantized matrix with the rows of a batch, on int8 tensor cores. A tile is sixteen rows
// of the matrix by 256 columns, packed as lanes read it (appliance/compute/src/cuda/pack.rs); a block
// has sixteen rows of the matrix and eight rows of the batch for each of its column tiles.
//
// Sums within a scale's columns are whole numbers, and exact. Beyond that a row of the matrix is cut
// into eight segments of whole tiles, by its own length alone: each is summed in order, and the eight
// are added in order. So a row's products have the same bits whatever else is in the batch.
#include "cuda.cuh"

constexpr int SEGMENTS = 8;
constexpr int THREADS = SEGMENTS * LANES;
constexpr int TILE_COLUMNS = 256;
constexpr int RUN = 32;
constexpr int RUNS = TILE_COLUMNS / RUN;

// What a product is made of.
struct Inputs {
    // (planes, batch, padded), with a scale for every 256 or 32 of a row, and sums of sixteen.
    const int8_t* levels;
    const float* scales;
    const int* sums;
    int padded;
    int batch;
};

__device__ __forceinline__ uint32_t word_of(const uint4& four, int i) {
    return i == 0 ? four.x : i == 1 ? four.y : i == 2 ? four.z : four.w;
}

__device__ __forceinline__ uint4 load_16(const uint8_t* at) {
    return *reinterpret_cast<const uint4*>(at);
}

__device__ __forceinline__ int byte_of(const uint4& four, int i) {
    return word_of(four, i / 4) >> 8 * (i % 4) & 255;
}

__device__ __forceinline__ float half_at(const uint8_t* at) {
    return half_to_float(*reinterpret_cast<const uint16_t*>(at));
}

// The inputs that a lane has for an mma: of batch row `column`, 32 columns from `from` on.
template <int PLANES>
__device__ __forceinline__ void fragment(const Inputs& in, int plane, int column, int from,
                                         uint32_t (&b)[2]) {
    b[0] = b[1] = 0;
    if (column >= in.batch) return;
    size_t row = static_cast<size_t>(plane) * in.batch + column;
    const int8_t* at = in.levels + row * in.padded + from + lane_index() % 4 * 4;
    b[0] = *reinterpret_cast<const uint32_t*>(at);
    b[1] = *reinterpret_cast<const uint32_t*>(at + 16);
}

// The sum of sixteen levels of a batch row; none beyond the batch.
__device__ __forceinline__ int sum_at(const Inputs& in, int plane, int column, int sixteen) {
    if (column >= in.batch) return 0;
    return in.sums[(static_cast<size_t>(plane) * in.batch + column) * (in.padded / 16) + sixteen];
}

__device__ __forceinline__ float scale_at(const Inputs& in, int column, int of_row, int index) {
    return column >= in.batch ? 0.0f : in.scales[static_cast<size_t>(column) * of_row + index];
}

// The 32 columns of a run of a tile as an mma's registers: four bits, and more above them.
__device__ __forceinline__ void low_bits(const uint8_t* tile, int run, uint32_t (&a)[4]) {
    uint4 four = load_16(tile + (run / 2 * LANES + lane_index()) * 16);
    for (int i = 0; i < 4; i++) a[i] = word_of(four, i) >> 4 * (run % 2) & 0x0f0f0f0f;
}

__device__ __forceinline__ void fifth_bits(const uint8_t* high, int run, uint32_t (&a)[4]) {
    uint4 four = load_16(high + lane_index() * 16);
    for (int i = 0; i < 4; i++) a[i] |= (word_of(four, i) >> run & 0x01010101) << 4;
}

__device__ __forceinline__ void sixth_bits(const uint8_t* high, int run, uint32_t (&a)[4]) {
    uint4 four = load_16(high + (run / 4 * LANES + lane_index()) * 16);
    for (int i = 0; i < 4; i++) a[i] |= (word_of(four, i) >> 2 * (run % 4) & 0x03030303) << 4;
}

// Blocks of 256 with a scale, and eight scales and minima of 32 columns: w = d s q - dmin m.
template <bool HAS_FIFTH>
struct EightRuns {
    static constexpr int LENGTH = 256;
    static constexpr int HIGH = 2048, SCALES = HIGH + (HAS_FIFTH ? 512 : 0), D = SCALES + 256;
    static constexpr int BYTES = D + 64;

    template <int PLANES, int NT>
    static __device__ __forceinline__ void add(const uint8_t* tile, int index, int first,
                                               const Inputs& in, float (&sums)[NT][4]) {
        int group = lane_index() / 4, pair = lane_index() % 4 * 2;
        uint4 scales[2];
        float d[2], dmin[2];
        for (int half = 0; half < 2; half++) {
            int row = group + 8 * half;
            scales[half] = load_16(tile + SCALES + row * 16);
            d[half] = half_at(tile + D + row * 4);
            dmin[half] = half_at(tile + D + row * 4 + 2);
        }
        int whole[NT][PLANES][4] = {}, taken[NT][PLANES][4] = {};
        for (int run = 0; run < RUNS; run++) {
            uint32_t a[4];
            low_bits(tile, run, a);
            if (HAS_FIFTH) fifth_bits(tile + HIGH, run, a);
            for (int n = 0; n < NT; n++)
                for (int p = 0; p < PLANES; p++) {
                    uint32_t b[2];
                    int dot[4] = {}, column = first + n * 8;
                    fragment<PLANES>(in, p, column + group, index * TILE_COLUMNS + run * RUN, b);
                    mma_32(dot, a, b);
                    int sum[2];
                    for (int c = 0; c < 2; c++) {
                        int sixteen = index * 16 + run * 2;
                        sum[c] = sum_at(in, p, column + pair + c, sixteen) +
                                 sum_at(in, p, column + pair + c, sixteen + 1);
                    }
                    for (int i = 0; i < 4; i++) {
                        whole[n][p][i] += byte_of(scales[i / 2], run) * dot[i];
                        taken[n][p][i] += byte_of(scales[i / 2], 8 + run) * sum[i % 2];
                    }
                }
        }
        for (int n = 0; n < NT; n++)
            for (int i = 0; i < 4; i++) {
                float scale = scale_at(in, first + n * 8 + pair + i % 2, in.padded / 256, index);
                float products = __int2float_rn(whole[n][PLANES - 1][i]);
                float minima = __int2float_rn(taken[n][PLANES - 1][i]);
                if (PLANES == 2) {
                    products = __fmaf_rn(256, __int2float_rn(whole[n][0][i]), products);
                    minima = __fmaf_rn(256, __int2float_rn(taken[n][0][i]), minima);
                }
                sums[n][i] = __fmaf_rn(__fmul_rn(d[i / 2], scale), products, sums[n][i]);
                sums[n][i] = __fmaf_rn(-__fmul_rn(dmin[i / 2], scale), minima, sums[n][i]);
            }
    }
};

// Blocks of 256 with a scale, and sixteen of sixteen columns: w = d s (q - 32).
struct SixteenRuns {
    static constexpr int LENGTH = 256;
    static constexpr int HIGH = 2048, SCALES = HIGH + 1024, D = SCALES + 256, BYTES = D + 32;

    template <int PLANES, int NT>
    static __device__ __forceinline__ void add(const uint8_t* tile, int index, int first,
                                               const Inputs& in, float (&sums)[NT][4]) {
        int group = lane_index() / 4, pair = lane_index() % 4 * 2;
        uint4 scales[2];
        float d[2];
        for (int half = 0; half < 2; half++) {
            int row = group + 8 * half;
            scales[half] = load_16(tile + SCALES + row * 16);
            d[half] = half_at(tile + D + row * 2);
        }
        int whole[NT][PLANES][4] = {};
        for (int run = 0; run < RUNS; run++) {
            uint32_t a[4];
            low_bits(tile, run, a);
            sixth_bits(tile + HIGH, run, a);
            for (int n = 0; n < NT; n++)
                for (int p = 0; p < PLANES; p++) {
                    uint32_t b[2];
                    int column = first + n * 8;
                    fragment<PLANES>(in, p, column + group, index * TILE_COLUMNS + run * RUN, b);
                    for (int half = 0; half < 2; half++) {
                        int dot[4] = {};
                        mma_16(dot, a + 2 * half, b + half);
                        for (int i = 0; i < 4; i++) {
                            int at = 2 * run + half;
                            int sum = sum_at(in, p, column + pair + i % 2, index * 16 + at);
                            int scale = static_cast<int8_t>(byte_of(scales[i / 2], at));
                            whole[n][p][i] += scale * (dot[i] - 32 * sum);
                        }
                    }
                }
        }
        for (int n = 0; n < NT; n++)
            for (int i = 0; i < 4; i++) {
                float scale = scale_at(in, first + n * 8 + pair + i % 2, in.padded / 256, index);
                float products = __int2float_rn(whole[n][PLANES - 1][i]);
                if (PLANES == 2)
                    products = __fmaf_rn(256, __int2float_rn(whole[n][0][i]), products);
                sums[n][i] = __fmaf_rn(__fmul_rn(d[i / 2], scale), products, sums[n][i]);
            }
    }
};

// Blocks of 32: w = d (q - OFFSET), or d q + m; q has eight bits with its sign, four, or five.
template <int BITS, int OFFSET, bool HAS_MIN>
struct Blocks32 {
    static constexpr int LENGTH = 32;
    static constexpr int HIGH = BITS == 8 ? 4096 : 2048, D = HIGH + (BITS == 5 ? 512 : 0);
    static constexpr int MIN = D + 256, BYTES = MIN + (HAS_MIN ? 256 : 0);

    template <int PLANES, int NT>
    static __device__ __forceinline__ void add(const uint8_t* tile, int index, int first,
                                               const Inputs& in, float (&sums)[NT][4]) {
        int group = lane_index() / 4, pair = lane_index() % 4 * 2;
        for (int run = 0; run < RUNS; run++) {
            uint32_t a[4];
            if (BITS == 8) {
                uint4 four = load_16(tile + (run * LANES + lane_index()) * 16);
                for (int i = 0; i < 4; i++) a[i] = word_of(four, i);
            } else {
                low_bits(tile, run, a);
            }
            if (BITS == 5) fifth_bits(tile + HIGH, run, a);
            float d[2], min[2];
            for (int half = 0; half < 2; half++) {
                int at = ((group + 8 * half) * RUNS + run) * 2;
                d[half] = half_at(tile + D + at);
                min[half] = HAS_MIN ? half_at(tile + MIN + at) : 0.0f;
            }
            for (int n = 0; n < NT; n++) {
                int dot[4] = {}, sum[2] = {};
                for (int p = 0; p < PLANES; p++) {
                    uint32_t b[2];
                    int column = first + n * 8, own[4] = {};
                    fragment<PLANES>(in, p, column + group, index * TILE_COLUMNS + run * RUN, b);
                    mma_32(own, a, b);
                    for (int i = 0; i < 4; i++) dot[i] = 256 * dot[i] + own[i];
                    for (int c = 0; c < 2 && (OFFSET || HAS_MIN); c++) {
                        int sixteen = index * 16 + run * 2;
                        sum[c] = 256 * sum[c] + sum_at(in, p, column + pair + c, sixteen) +
                                 sum_at(in, p, column + pair + c, sixteen + 1);
                    }
                }
                for (int i = 0; i < 4; i++) {
                    float scale = scale_at(in, first + n * 8 + pair + i % 2, in.padded / RUN,
                                           index * RUNS + run);
                    float products = __int2float_rn(dot[i] - OFFSET * sum[i % 2]);
                    sums[n][i] = __fmaf_rn(__fmul_rn(d[i / 2], scale), products, sums[n][i]);
                    if (HAS_MIN) {
                        float inputs = __fmul_rn(scale, __int2float_rn(sum[i % 2]));
                        sums[n][i] = __fmaf_rn(min[i / 2], inputs, sums[n][i]);
                    }
                }
            }
        }
    }
};

template <class F, int PLANES, int NT>
__device__ __forceinline__ void linear(const uint8_t* tiles, const Inputs& in, const float* bias,
                                       float* out, int rows, int is_added) {
    SHARED(float, room);  // (segments, column tiles, 4, lanes)
    int count = in.padded / TILE_COLUMNS, each = (count + SEGMENTS - 1) / SEGMENTS;
    int from = warp_index() * each, to = from + each < count ? from + each : count;
    int first = blockIdx.y * NT * 8;
    const uint8_t* group = tiles + static_cast<size_t>(blockIdx.x) * count * F::BYTES;
    float sums[NT][4] = {};
    for (int index = from; index < to; index++)
        F::template add<PLANES, NT>(group + static_cast<size_t>(index) * F::BYTES, index, first, in,
                                    sums);
    for (int n = 0; n < NT; n++)
        for (int i = 0; i < 4; i++)
            room[((warp_index() * NT + n) * 4 + i) * LANES + lane_index()] = sums[n][i];
    __syncthreads();
    for (int at = threadIdx.x; at < NT * 4 * LANES; at += THREADS) {
        float sum = 0;
        for (int segment = 0; segment < SEGMENTS; segment++)
            sum = __fadd_rn(sum, room[segment * NT * 4 * LANES + at]);
        int lane = at % LANES, i = at / LANES % 4, n = at / (4 * LANES);
        int row = blockIdx.x * 16 + lane / 4 + 8 * (i / 2);
        int column = first + n * 8 + lane % 4 * 2 + i % 2;
        if (row >= rows || column >= in.batch) continue;
        float* place = out + static_cast<size_t>(column) * rows + row;
        if (bias) sum = __fadd_rn(sum, bias[row]);
        *place = is_added ? __fadd_rn(*place, sum) : sum;
    }
}

// Grids are (groups of sixteen rows of the matrix, groups of rows of the batch).
#define LINEAR(name, PLANES, NT, ...)                                                           \
    extern "C" __global__ void __launch_bounds__(THREADS)                                       \
    name(const uint8_t* tiles, const int8_t* levels, const float* scales, const int* sums,      \
         const float* bias, float* out, int rows, int padded, int batch, int is_added) {        \
        Inputs in{levels, scales, sums, padded, batch};                                         \
        linear<__VA_ARGS__, PLANES, NT>(tiles, in, bias, out, rows, is_added);                  \
    }                                                                                           \
    EXPORT(name)
#define LINEARS(name, ...)                  \
    LINEAR(name##_8_1, 1, 1, __VA_ARGS__)   \
    LINEAR(name##_8_4, 1, 4, __VA_ARGS__)   \
    LINEAR(name##_16_1, 2, 1, __VA_ARGS__)  \
    LINEAR(name##_16_4, 2, 4, __VA_ARGS__)

using Q4K = EightRuns<false>;
using Q5K = EightRuns<true>;
using Q6K = SixteenRuns;
using Q80 = Blocks32<8, 0, false>;
using Q40 = Blocks32<4, 8, false>;
using Q41 = Blocks32<4, 0, true>;
using Q50 = Blocks32<5, 16, false>;
using Q51 = Blocks32<5, 0, true>;
LINEARS(linear_q4_k, Q4K)
LINEARS(linear_q5_k, Q5K)
LINEARS(linear_q6_k, Q6K)
LINEARS(linear_q8_0, Q80)
LINEARS(linear_q4_0, Q40)
LINEARS(linear_q4_1, Q41)
LINEARS(linear_q5_0, Q50)
LINEARS(linear_q5_1, Q51)

// Weights in half precision: a warp for each row of the matrix and row of the batch.
extern "C" __global__ void __launch_bounds__(THREADS)
linear_f16(const uint16_t* weights, const float* x, const float* bias, float* out, int rows,
           int columns, int is_added) {
    int row = blockIdx.x * (THREADS / LANES) + warp_index();
    if (row >= rows) return;
    weights += static_cast<size_t>(row) * columns;
    x += static_cast<size_t>(blockIdx.y) * columns;
    float sum = 0;
    for (int i = lane_index(); i < columns; i += LANES)
        sum = __fmaf_rn(half_to_float(weights[i]), x[i], sum);
    sum = warp_sum(sum);
    if (lane_index() > 0) return;
    float* place = out + static_cast<size_t>(blockIdx.y) * rows + row;
    if (bias) sum = __fadd_rn(sum, bias[row]);
    *place = is_added ? __fadd_rn(*place, sum) : sum;
}
EXPORT(linear_f16)

// The same in single precision, which bfloat16 fits into as well.
extern "C" __global__ void __launch_bounds__(THREADS)
linear_f32(const float* weights, const float* x, const float* bias, float* out, int rows,
           int columns, int is_added) {
    int row = blockIdx.x * (THREADS / LANES) + warp_index();
    if (row >= rows) return;
    weights += static_cast<size_t>(row) * columns;
    x += static_cast<size_t>(blockIdx.y) * columns;
    float sum = 0;
    for (int i = lane_index(); i < columns; i += LANES) sum = __fmaf_rn(weights[i], x[i], sum);
    sum = warp_sum(sum);
    if (lane_index() > 0) return;
    float* place = out + static_cast<size_t>(blockIdx.y) * rows + row;
    if (bias) sum = __fadd_rn(sum, bias[row]);
    *place = is_added ? __fadd_rn(*place, sum) : sum;
}
EXPORT(linear_f32)
