// Attention of every row's heads over the positions of its sequence, which lie in blocks. Positions are
// cut into spans that begin at multiples of SPAN. Every span of a row is a block's work, for all query
// heads that share its keys and values; then a row's spans are merged in order. Where spans begin, and
// the order of every sum, depend on positions alone: a prompt's rows and a decoded one have the same
// bits, whatever is computed beside.
#include "cuda.cuh"

constexpr int THREADS = 256;
constexpr int WARPS = THREADS / LANES;
constexpr int SPAN = 64;
// Positions of a span that a warp has.
constexpr int EACH = SPAN / WARPS;
// What stands before the sums of a head over a span: the highest score, and the sum of weights.
constexpr int BEFORE = 2;

// What rows see, and which spans of it there are.
struct Seen {
    // Per row: its sequence, and its first and last position.
    const int* sequences;
    const int* firsts;
    const int* lasts;
    // Per span: its row, or -1 where there is none; and its first position.
    const int* span_rows;
    const int* span_firsts;
    // Per sequence: its blocks, as many as `blocks_max` says, in the device's memory, since it changes
    // from step to step.
    const int* tables;
    const int* blocks_max;
};

struct Shape {
    int heads;
    int kv_heads;
    int head_dim;
    int block_len;
    float scale;
};

__device__ __forceinline__ float low_half(uint32_t two) { return half_to_float(two & 0xffff); }
__device__ __forceinline__ float high_half(uint32_t two) { return half_to_float(two >> 16); }

// The higher of two; no number is more than any.
__device__ __forceinline__ float higher(float a, float b) { return a < b || b != b ? b : a; }

// Some heads at a time; a lane has PAIRS pairs of elements of a head.
template <int HEADS, int PAIRS>
__device__ __forceinline__ void spans(const float* queries, const uint16_t* key_cache,
                                      const uint16_t* value_cache, float* partial, const Seen& seen,
                                      const Shape& shape) {
    SHARED(float, room);
    int head_dim = shape.head_dim, pairs = head_dim / 2, group = shape.heads / shape.kv_heads;
    float* query = room;                    // (HEADS, head_dim)
    float* scores = query + HEADS * head_dim;  // (HEADS, SPAN)
    float* parts = scores + HEADS * SPAN;      // (WARPS, HEADS, head_dim)
    int row = seen.span_rows[blockIdx.x], kv_head = blockIdx.y;
    if (row < 0) return;
    int start = seen.span_firsts[blockIdx.x];
    int from = seen.firsts[row] > start ? seen.firsts[row] - start : 0;
    int to = seen.lasts[row] - start < SPAN - 1 ? seen.lasts[row] - start + 1 : SPAN;
    const int* table = seen.tables + static_cast<size_t>(seen.sequences[row]) * *seen.blocks_max;
    auto cell = [&](int position) {
        size_t block = table[position / shape.block_len];
        size_t at = (block * shape.kv_heads + kv_head) * shape.block_len + position % shape.block_len;
        return at * head_dim;
    };
    auto two_of = [&](const uint16_t* cache, int position, int pair) {
        return reinterpret_cast<const uint32_t*>(cache + cell(position))[pair];
    };

    for (int begun = 0; begun < group; begun += HEADS) {
        int count = group - begun < HEADS ? group - begun : HEADS;
        int head = kv_head * group + begun;
        const float* given = queries + (static_cast<size_t>(row) * shape.heads + head) * head_dim;
        float* found =
            partial + (static_cast<size_t>(blockIdx.x) * shape.heads + head) * (head_dim + BEFORE);
        for (int i = threadIdx.x; i < count * head_dim; i += THREADS) query[i] = given[i];
        __syncthreads();

        for (int i = warp_index() * EACH; i < (warp_index() + 1) * EACH; i++) {
            bool is_seen = i >= from && i < to;
            float dots[HEADS] = {};
            for (int p = 0; p < PAIRS && is_seen; p++) {
                int pair = lane_index() + p * LANES;
                if (pair >= pairs) break;
                uint32_t two = two_of(key_cache, start + i, pair);
                for (int h = 0; h < HEADS; h++) {
                    if (h >= count) break;
                    const float* at = query + h * head_dim + 2 * pair;
                    dots[h] = __fmaf_rn(at[0], low_half(two), dots[h]);
                    dots[h] = __fmaf_rn(at[1], high_half(two), dots[h]);
                }
            }
            for (int h = 0; h < HEADS; h++) {
                float score = __fmul_rn(warp_sum(dots[h]), shape.scale);
                if (lane_index() == 0) scores[h * SPAN + i] = is_seen ? score : -INFINITY;
            }
        }
        __syncthreads();

        // A warp for each head: scores become weights.
        if (warp_index() < count) {
            float* own = scores + warp_index() * SPAN;
            float most = -INFINITY, total = 0;
            for (int i = lane_index(); i < SPAN; i += LANES) most = higher(most, own[i]);
            most = warp_max(most);
            for (int i = lane_index(); i < SPAN; i += LANES) {
                own[i] = i >= from && i < to ? expf(__fadd_rn(own[i], -most)) : 0.0f;
                total = __fadd_rn(total, own[i]);
            }
            total = warp_sum(total);
            if (lane_index() == 0) {
                found[warp_index() * (head_dim + BEFORE)] = most;
                found[warp_index() * (head_dim + BEFORE) + 1] = total;
            }
        }
        __syncthreads();

        float sums[HEADS][2 * PAIRS] = {};
        for (int i = warp_index() * EACH; i < (warp_index() + 1) * EACH; i++) {
            if (i < from || i >= to) continue;
            for (int p = 0; p < PAIRS; p++) {
                int pair = lane_index() + p * LANES;
                if (pair >= pairs) break;
                uint32_t two = two_of(value_cache, start + i, pair);
                for (int h = 0; h < HEADS; h++) {
                    if (h >= count) break;
                    float weight = scores[h * SPAN + i];
                    sums[h][2 * p] = __fmaf_rn(weight, low_half(two), sums[h][2 * p]);
                    sums[h][2 * p + 1] = __fmaf_rn(weight, high_half(two), sums[h][2 * p + 1]);
                }
            }
        }
        for (int h = 0; h < HEADS; h++)
            for (int p = 0; p < PAIRS; p++) {
                int pair = lane_index() + p * LANES;
                if (h >= count || pair >= pairs) break;
                float* at = parts + (warp_index() * HEADS + h) * head_dim + 2 * pair;
                at[0] = sums[h][2 * p];
                at[1] = sums[h][2 * p + 1];
            }
        __syncthreads();
        for (int i = threadIdx.x; i < count * head_dim; i += THREADS) {
            int h = i / head_dim, d = i % head_dim;
            float sum = 0;
            for (int warp = 0; warp < WARPS; warp++)
                sum = __fadd_rn(sum, parts[(warp * HEADS + h) * head_dim + d]);
            found[h * (head_dim + BEFORE) + BEFORE + d] = sum;
        }
        __syncthreads();
    }
}

// Grids are (spans, heads of keys and values). `queries` are (rows, heads, head_dim), caches as kv_write
// has them, `partial` is (spans, heads, BEFORE + head_dim).
#define SPANS(name, HEADS, PAIRS)                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS)                                              \
    name(const float* queries, const uint16_t* key_cache, const uint16_t* value_cache, float* partial, \
         const int* sequences, const int* firsts, const int* lasts, const int* span_rows,              \
         const int* span_firsts, const int* tables, const int* blocks_max, int heads, int kv_heads,    \
         int head_dim, int block_len, float scale) {                                                   \
        Seen seen{sequences, firsts, lasts, span_rows, span_firsts, tables, blocks_max};               \
        Shape shape{heads, kv_heads, head_dim, block_len, scale};                                      \
        spans<HEADS, PAIRS>(queries, key_cache, value_cache, partial, seen, shape);                    \
    }                                                                                                  \
    EXPORT(name)

// Heads of up to 128 elements, and of up to 512.
SPANS(attention_128, 4, 2)
SPANS(attention_512, 1, 8)

// Merges the spans of every row's heads: row i has those from `starts[i]` to `starts[i + 1]`, counted
// from `starts[0]`. Grids are (rows, heads); `out` is (rows, heads, head_dim).
extern "C" __global__ void __launch_bounds__(THREADS)
attention_merge(const float* partial, float* out, const int* starts, int heads, int head_dim) {
    SHARED(float, weights);  // (THREADS)
    int row = blockIdx.x, head = blockIdx.y, each = head_dim + BEFORE;
    int from = starts[row] - starts[0], to = starts[row + 1] - starts[0];
    auto at = [&](int span) { return partial + (static_cast<size_t>(span) * heads + head) * each; };
    float most = -INFINITY;
    for (int span = from + lane_index(); span < to; span += LANES) most = higher(most, at(span)[0]);
    most = warp_max(most);
    float total = 0, sums[2] = {};
    for (int begun = from; begun < to; begun += THREADS) {
        int count = to - begun < THREADS ? to - begun : THREADS;
        if (threadIdx.x < static_cast<unsigned>(count))
            weights[threadIdx.x] = expf(__fadd_rn(at(begun + threadIdx.x)[0], -most));
        __syncthreads();
        for (int i = 0; i < count; i++) {
            const float* span = at(begun + i);
            total = __fmaf_rn(weights[i], span[1], total);
            for (int part = 0; part < 2; part++) {
                int d = threadIdx.x + part * THREADS;
                if (d < head_dim) sums[part] = __fmaf_rn(weights[i], span[BEFORE + d], sums[part]);
            }
        }
        __syncthreads();
    }
    out += (static_cast<size_t>(row) * heads + head) * head_dim;
    for (int part = 0; part < 2; part++) {
        int d = threadIdx.x + part * THREADS;
        if (d < head_dim) out[d] = __fdiv_rn(sums[part], total);
    }
}
EXPORT(attention_merge)
