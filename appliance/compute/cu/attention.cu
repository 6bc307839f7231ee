// Attention of every row's heads over the positions of its sequence, which lie in blocks. Positions are
// met in chunks that begin at multiples of CHUNK, whatever is computed beside: a prompt's rows and a
// decoded one have the same bits.
#include "cuda.cuh"

constexpr int THREADS = 256;
constexpr int WARPS = THREADS / LANES;
constexpr int CHUNK = 128;

// Grids are (rows, heads). `queries` and `out` are (rows, heads, head_dim); caches as kv_write has them.
// A row sees positions of its sequence, whose blocks are row `sequences[row]` of `tables`, from
// `firsts[row]` to `lasts[row]`. How many blocks a row of `tables` has is in the device's memory, since it
// changes from step to step.
extern "C" __global__ void __launch_bounds__(THREADS)
attention(const float* queries, const uint16_t* key_cache, const uint16_t* value_cache, float* out,
          const int* sequences, const int* firsts, const int* lasts, const int* tables,
          const int* blocks_max, int heads, int kv_heads, int head_dim, int block_len, float scale) {
    SHARED(float, room);
    float* query = room;
    float* scores = room + (head_dim + 3) / 4 * 4;
    int row = blockIdx.x, head = blockIdx.y, kv_head = head / (heads / kv_heads);
    int first = firsts[row], last = lasts[row];
    const int* table = tables + static_cast<size_t>(sequences[row]) * *blocks_max;
    size_t at = (static_cast<size_t>(row) * heads + head) * head_dim;
    for (int i = threadIdx.x; i < head_dim; i += THREADS) query[i] = queries[at + i];
    __syncthreads();

    auto cell = [&](int position) {
        size_t block = table[position / block_len];
        return ((block * kv_heads + kv_head) * block_len + position % block_len) * head_dim;
    };
    float most = -INFINITY, total = 0;
    // Two elements for each thread: heads have 512 at most.
    float sums[2] = {};
    for (int chunk = first / CHUNK * CHUNK; chunk <= last; chunk += CHUNK) {
        int from = first > chunk ? first - chunk : 0;
        int to = last - chunk < CHUNK - 1 ? last - chunk + 1 : CHUNK;
        for (int i = warp_index(); i < CHUNK; i += WARPS) {
            float score = -INFINITY;
            if (i >= from && i < to) {
                const uint16_t* key = key_cache + cell(chunk + i);
                float dot = 0;
                for (int d = lane_index(); d < head_dim; d += LANES)
                    dot = __fmaf_rn(query[d], half_to_float(key[d]), dot);
                score = __fmul_rn(warp_sum(dot), scale);
            }
            if (lane_index() == 0) scores[i] = score;
        }
        __syncthreads();
        float highest = -INFINITY;
        for (int i = lane_index(); i < CHUNK; i += LANES)
            highest = highest < scores[i] || scores[i] != scores[i] ? scores[i] : highest;
        highest = warp_max(highest);
        highest = highest < most ? most : highest;
        float kept = expf(__fadd_rn(most, -highest));
        __syncthreads();
        for (int i = threadIdx.x; i < CHUNK; i += THREADS)
            scores[i] = i >= from && i < to ? expf(__fadd_rn(scores[i], -highest)) : 0.0f;
        __syncthreads();
        float share = 0;
        for (int i = lane_index(); i < CHUNK; i += LANES) share = __fadd_rn(share, scores[i]);
        total = __fmaf_rn(total, kept, warp_sum(share));
        for (int part = 0; part < 2; part++) {
            int d = threadIdx.x + part * THREADS;
            if (d >= head_dim) break;
            float sum = __fmul_rn(sums[part], kept);
            for (int i = from; i < to; i++)
                sum = __fmaf_rn(scores[i], half_to_float(value_cache[cell(chunk + i) + d]), sum);
            sums[part] = sum;
        }
        most = highest;
        __syncthreads();
    }
    for (int part = 0; part < 2; part++) {
        int d = threadIdx.x + part * THREADS;
        if (d < head_dim) out[at + d] = __fdiv_rn(sums[part], total);
    }
}
EXPORT(attention)
