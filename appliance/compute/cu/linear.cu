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

// What a product is made of: what rows.cu rounds. Rows beyond the batch, up to a whole tile of them, are
// read as they are: nobody reads what comes of them.
struct Inputs {
    const int8_t* levels;
    const float* scales;
    const int8_t* sums;
    int padded;
    int plane_rows;

    // Which tile of a row, of all planes' tiles.
    __device__ __forceinline__ size_t tile(int plane, int row, int index) const {
        return (static_cast<size_t>(plane) * plane_rows + row) * (padded / TILE_COLUMNS) + index;
    }

    // The levels of 64 columns of a tile, from 64 `pair` on, that a lane has for two mma.
    __device__ __forceinline__ uint4 two_runs(int plane, int row, int index, int pair) const {
        const int8_t* at = levels + tile(plane, row, index) * TILE_COLUMNS;
        return *reinterpret_cast<const uint4*>(at + lane_index() % 4 * 64 + pair * 16);
    }

    // A lane's four of digits of sums, for an mma: those of a tile's sixteens, or of its runs.
    __device__ __forceinline__ uint32_t digits(int plane, int row, int index, int from, int own) const {
        return *reinterpret_cast<const uint32_t*>(sums + tile(plane, row, index) * 48 + from + own * 4);
    }

    // The sums of two runs, from run `2 pair` on.
    __device__ __forceinline__ int2 two_sums(int plane, int row, int index, int pair) const {
        const int* at = reinterpret_cast<const int*>(sums) + tile(plane, row, index) * 8;
        return *reinterpret_cast<const int2*>(at + 2 * pair);
    }
};

__device__ __forceinline__ uint32_t word_of(const uint4& four, int i) {
    return i == 0 ? four.x : i == 1 ? four.y : i == 2 ? four.z : four.w;
}

__device__ __forceinline__ uint4 load_16(const uint8_t* at) {
    return *reinterpret_cast<const uint4*>(at);
}

__device__ __forceinline__ uint32_t load_4(const uint8_t* at) {
    return *reinterpret_cast<const uint32_t*>(at);
}

__device__ __forceinline__ int byte_of(uint32_t four, int i) { return four >> 8 * i & 255; }

__device__ __forceinline__ float half_at(const uint8_t* at) {
    return half_to_float(*reinterpret_cast<const uint16_t*>(at));
}

// A run of 32 columns as an mma's registers: the four bits of a pair of runs that are its own, and more
// above them.
__device__ __forceinline__ void low_bits(const uint4& pair, int run, uint32_t (&a)[4]) {
    for (int i = 0; i < 4; i++) a[i] = word_of(pair, i) >> 4 * (run % 2) & 0x0f0f0f0f;
}

__device__ __forceinline__ void fifth_bits(const uint4& all, int run, uint32_t (&a)[4]) {
    for (int i = 0; i < 4; i++) a[i] |= (word_of(all, i) >> run & 0x01010101) << 4;
}

__device__ __forceinline__ void sixth_bits(const uint4& half, int run, uint32_t (&a)[4]) {
    for (int i = 0; i < 4; i++) a[i] |= (word_of(half, i) >> 2 * (run % 4) & 0x03030303) << 4;
}

// The sums of levels that digits of base 64 stand for, times A.
__device__ __forceinline__ void add_digits(int (&into)[4], const uint32_t (&a)[2], uint32_t low,
                                           uint32_t high) {
    int ones[4] = {}, more[4] = {};
    mma_16(ones, a, &low);
    mma_16(more, a, &high);
    for (int i = 0; i < 4; i++) into[i] += ones[i] + 64 * more[i];
}

// A plane's whole numbers, or both planes' as one number.
template <int PLANES>
__device__ __forceinline__ float number_of(const int (&whole)[PLANES][4], int i) {
    float number = __int2float_rn(whole[PLANES - 1][i]);
    return PLANES == 2 ? __fmaf_rn(256, __int2float_rn(whole[0][i]), number) : number;
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
        int group = lane_index() / 4, own = lane_index() % 4;
        uint32_t scales[2][2], minima[2];
        float d[2], dmin[2];
        for (int half = 0; half < 2; half++) {
            int row = group + 8 * half;
            for (int i = 0; i < 2; i++) scales[half][i] = load_4(tile + SCALES + row * 16 + i * 4);
            // Eight of sixteen products of an mma; the others are none.
            minima[half] = own < 2 ? load_4(tile + SCALES + row * 16 + 8 + own * 4) : 0;
            d[half] = half_at(tile + D + row * 4);
            dmin[half] = half_at(tile + D + row * 4 + 2);
        }
        uint4 fifth = {};
        if (HAS_FIFTH) fifth = load_16(tile + HIGH + lane_index() * 16);
        int whole[NT][PLANES][4] = {}, taken[NT][PLANES][4] = {};
        UNROLL(RUNS / 2)
        for (int pair = 0; pair < RUNS / 2; pair++) {
            uint4 low = load_16(tile + (pair * LANES + lane_index()) * 16), b[NT][PLANES];
            for (int n = 0; n < NT; n++)
                for (int p = 0; p < PLANES; p++)
                    b[n][p] = in.two_runs(p, first + n * 8 + group, index, pair);
            UNROLL(2)
            for (int run = 2 * pair; run < 2 * pair + 2; run++) {
                uint32_t a[4];
                low_bits(low, run, a);
                if (HAS_FIFTH) fifth_bits(fifth, run, a);
                int upper = byte_of(scales[0][run / 4], run % 4);
                int lower = byte_of(scales[1][run / 4], run % 4);
                for (int n = 0; n < NT; n++)
                    for (int p = 0; p < PLANES; p++) {
                        int dot[4] = {};
                        uint32_t columns[2] = {word_of(b[n][p], run % 2 * 2),
                                               word_of(b[n][p], run % 2 * 2 + 1)};
                        mma_32(dot, a, columns);
                        for (int i = 0; i < 4; i++)
                            whole[n][p][i] += (i < 2 ? upper : lower) * dot[i];
                    }
            }
        }
        for (int n = 0; n < NT; n++) {
            int row = first + n * 8;
            for (int p = 0; p < PLANES; p++)
                add_digits(taken[n][p], minima, in.digits(p, row + group, index, 32, own % 2),
                           in.digits(p, row + group, index, 40, own % 2));
            for (int i = 0; i < 4; i++) {
                size_t column = in.tile(0, row + own * 2 + i % 2, index);
                float scale = in.scales[column];
                float products = number_of<PLANES>(whole[n], i);
                float minimum = number_of<PLANES>(taken[n], i);
                sums[n][i] = __fmaf_rn(__fmul_rn(d[i / 2], scale), products, sums[n][i]);
                sums[n][i] = __fmaf_rn(-__fmul_rn(dmin[i / 2], scale), minimum, sums[n][i]);
            }
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
        int group = lane_index() / 4, own = lane_index() % 4;
        uint4 scales[2];
        uint32_t sixteens[2];
        float d[2];
        for (int half = 0; half < 2; half++) {
            int row = group + 8 * half;
            scales[half] = load_16(tile + SCALES + row * 16);
            sixteens[half] = load_4(tile + SCALES + row * 16 + own * 4);
            d[half] = half_at(tile + D + row * 2);
        }
        int whole[NT][PLANES][4] = {};
        UNROLL(RUNS / 2)
        for (int pair = 0; pair < RUNS / 2; pair++) {
            uint4 low = load_16(tile + (pair * LANES + lane_index()) * 16), b[NT][PLANES];
            uint4 high = load_16(tile + HIGH + (pair / 2 * LANES + lane_index()) * 16);
            for (int n = 0; n < NT; n++)
                for (int p = 0; p < PLANES; p++)
                    b[n][p] = in.two_runs(p, first + n * 8 + group, index, pair);
            UNROLL(2)
            for (int run = 2 * pair; run < 2 * pair + 2; run++) {
                uint32_t a[4];
                low_bits(low, run, a);
                sixth_bits(high, run, a);
                for (int half = 0; half < 2; half++) {
                    int at = 2 * run + half, scale[2];
                    for (int i = 0; i < 2; i++)
                        scale[i] = static_cast<int8_t>(byte_of(word_of(scales[i], at / 4), at % 4));
                    for (int n = 0; n < NT; n++)
                        for (int p = 0; p < PLANES; p++) {
                            int dot[4] = {};
                            uint32_t columns = word_of(b[n][p], run % 2 * 2 + half);
                            mma_16(dot, a + 2 * half, &columns);
                            for (int i = 0; i < 4; i++) whole[n][p][i] += scale[i / 2] * dot[i];
                        }
                }
            }
        }
        for (int n = 0; n < NT; n++) {
            int row = first + n * 8;
            for (int p = 0; p < PLANES; p++) {
                int offset[4] = {};
                add_digits(offset, sixteens, in.digits(p, row + group, index, 0, own),
                           in.digits(p, row + group, index, 16, own));
                for (int i = 0; i < 4; i++) whole[n][p][i] -= 32 * offset[i];
            }
            for (int i = 0; i < 4; i++) {
                float scale = in.scales[in.tile(0, row + own * 2 + i % 2, index)];
                float products = number_of<PLANES>(whole[n], i);
                sums[n][i] = __fmaf_rn(__fmul_rn(d[i / 2], scale), products, sums[n][i]);
            }
        }
    }
};

// Blocks of 32: w = d (q - OFFSET), or d q + m; q has eight bits with its sign, four, or five.
template <int BITS, int OFFSET, bool HAS_MIN>
struct Blocks32 {
    static constexpr int LENGTH = 32;
    static constexpr int HIGH = BITS == 8 ? 4096 : 2048, D = HIGH + (BITS == 5 ? 512 : 0);
    static constexpr int MIN = D + 256, BYTES = MIN + (HAS_MIN ? 256 : 0);
    static constexpr bool HAS_SUM = OFFSET || HAS_MIN;

    template <int PLANES, int NT>
    static __device__ __forceinline__ void add(const uint8_t* tile, int index, int first,
                                               const Inputs& in, float (&sums)[NT][4]) {
        int group = lane_index() / 4, own = lane_index() % 4;
        uint4 fifth = {};
        if (BITS == 5) fifth = load_16(tile + HIGH + lane_index() * 16);
        UNROLL(PLANES * NT > 4 ? 1 : RUNS / 2)
        for (int pair = 0; pair < RUNS / 2; pair++) {
            uint4 low = {}, b[NT][PLANES];
            if (BITS < 8) low = load_16(tile + (pair * LANES + lane_index()) * 16);
            uint32_t d[2], min[2] = {};
            for (int half = 0; half < 2; half++) {
                int at = ((group + 8 * half) * RUNS + 2 * pair) * 2;
                d[half] = load_4(tile + D + at);
                if (HAS_MIN) min[half] = load_4(tile + MIN + at);
            }
            float2 scales[NT][2];
            int2 whole[NT][2][PLANES];
            for (int n = 0; n < NT; n++) {
                for (int p = 0; p < PLANES; p++)
                    b[n][p] = in.two_runs(p, first + n * 8 + group, index, pair);
                for (int c = 0; c < 2; c++) {
                    int row = first + n * 8 + own * 2 + c;
                    const float* at = in.scales + in.tile(0, row, index) * RUNS + 2 * pair;
                    scales[n][c] = *reinterpret_cast<const float2*>(at);
                    for (int p = 0; p < PLANES && HAS_SUM; p++)
                        whole[n][c][p] = in.two_sums(p, row, index, pair);
                }
            }
            UNROLL(2)
            for (int run = 2 * pair; run < 2 * pair + 2; run++) {
                bool is_second = run % 2;
                uint32_t a[4];
                if (BITS == 8) {
                    uint4 all = load_16(tile + (run * LANES + lane_index()) * 16);
                    for (int i = 0; i < 4; i++) a[i] = word_of(all, i);
                } else {
                    low_bits(low, run, a);
                }
                if (BITS == 5) fifth_bits(fifth, run, a);
                for (int n = 0; n < NT; n++) {
                    int dot[4] = {}, sum[2] = {};
                    for (int p = 0; p < PLANES; p++) {
                        int plane[4] = {};
                        uint32_t columns[2] = {word_of(b[n][p], run % 2 * 2),
                                               word_of(b[n][p], run % 2 * 2 + 1)};
                        mma_32(plane, a, columns);
                        for (int i = 0; i < 4; i++) dot[i] = 256 * dot[i] + plane[i];
                        for (int c = 0; c < 2 && HAS_SUM; c++) {
                            const int2& two = whole[n][c][p];
                            sum[c] = 256 * sum[c] + (is_second ? two.y : two.x);
                        }
                    }
                    for (int i = 0; i < 4; i++) {
                        const float2& two = scales[n][i % 2];
                        float scale = is_second ? two.y : two.x;
                        float factor = half_to_float(d[i / 2] >> 16 * is_second & 0xffff);
                        float products = __int2float_rn(dot[i] - OFFSET * sum[i % 2]);
                        sums[n][i] = __fmaf_rn(__fmul_rn(factor, scale), products, sums[n][i]);
                        if (HAS_MIN) {
                            float minimum = half_to_float(min[i / 2] >> 16 * is_second & 0xffff);
                            float inputs = __fmul_rn(scale, __int2float_rn(sum[i % 2]));
                            sums[n][i] = __fmaf_rn(minimum, inputs, sums[n][i]);
                        }
                    }
                }
            }
        }
    }
};

template <class F, int PLANES, int NT>
__device__ __forceinline__ void linear(const uint8_t* tiles, const Inputs& in, const float* bias,
                                       float* out, int rows, int batch, int is_added) {
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
        if (row >= rows || column >= batch) continue;
        float* place = out + static_cast<size_t>(column) * rows + row;
        if (bias) sum = __fadd_rn(sum, bias[row]);
        *place = is_added ? __fadd_rn(*place, sum) : sum;
    }
}

// Grids are (groups of sixteen rows of the matrix, groups of rows of the batch).
#define LINEAR(name, PLANES, NT, ...)                                                           \
    extern "C" __global__ void __launch_bounds__(THREADS)                                       \
    name(const uint8_t* tiles, const int8_t* levels, const float* scales, const int8_t* sums,   \
         const float* bias, float* out, int rows, int padded, int batch, int plane_rows,        \
         int is_added) {                                                                        \
        Inputs in{levels, scales, sums, padded, plane_rows};                                    \
        linear<__VA_ARGS__, PLANES, NT>(tiles, in, bias, out, rows, batch, is_added);           \
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
