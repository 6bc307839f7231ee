//! What an engine counts: numbers of now and since the start, and histograms.

/// Counts by bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: [u64; BUCKETS_MAX],
    sum: f64,
}

/// Buckets with the one above the last bound.
const BUCKETS_MAX: usize = 16;

impl Histogram {
    /// Nothing is counted yet. `bounds`: the buckets' upper bounds, at most 15, rising.
    pub const fn new(bounds: &'static [f64]) -> Histogram {
        assert!(bounds.len() < BUCKETS_MAX);
        Histogram { bounds, counts: [0; BUCKETS_MAX], sum: 0.0 }
    }

    /// Counts one.
    pub fn record(&mut self, value: f64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound);
        self.counts[bucket.unwrap_or(self.bounds.len())] += 1;
        self.sum += value;
    }

    /// Upper bounds and how many values were not above them; the last bound is infinite.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((bound, *sum))
        })
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

/// What an engine is doing now, and did so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// Requests that wait.
    pub queued: usize,
    /// Sequences that began and have not ended.
    pub running: usize,
    /// Requests accepted since the start.
    pub accepted: u64,
    /// Requests ended since the start.
    pub ended: u64,
    /// How often a sequence gave its KV blocks up and was computed again since the start.
    pub requeued: u64,
    /// Tokens computed without drawing from them since the start: prompts, and what was computed
    /// again.
    pub prompt_tokens: u64,
    /// Tokens of prompts that were asked for since the start, computed or found.
    pub prompt_tokens_asked: u64,
    /// Those of them whose keys and values were there already.
    pub prompt_tokens_cached: u64,
    /// Tokens drawn since the start.
    pub output_tokens: u64,
    /// Drafted tokens that were computed since the start.
    pub drafted_tokens: u64,
    /// Those of them that came.
    pub kept_tokens: u64,
    /// KV blocks in use.
    pub blocks_used: usize,
    /// KV blocks that are kept to be reused.
    pub blocks_idle: usize,
    /// KV blocks that have memory.
    pub blocks_resident: usize,
    /// KV blocks in all.
    pub blocks: usize,
    /// Nanoseconds inside the executor since the start.
    pub execute_ns: u64,
    /// Nanoseconds of the engine thread's work in all since the start.
    pub busy_ns: u64,
    /// Seconds in the queue.
    pub waited_s: Histogram,
    /// Sequences in a step.
    pub step_sequences: Histogram,
    /// Rows in a step: tokens computed.
    pub step_rows: Histogram,
    /// Share of the KV blocks in use at a step.
    pub step_blocks_share: Histogram,
    /// Seconds to compute which tokens a constraint lets come.
    pub mask_s: Histogram,
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            queued: 0,
            running: 0,
            accepted: 0,
            ended: 0,
            requeued: 0,
            prompt_tokens: 0,
            prompt_tokens_asked: 0,
            prompt_tokens_cached: 0,
            output_tokens: 0,
            drafted_tokens: 0,
            kept_tokens: 0,
            blocks_used: 0,
            blocks_idle: 0,
            blocks_resident: 0,
            blocks: 0,
            execute_ns: 0,
            busy_ns: 0,
            waited_s: Histogram::new(&[
                0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
            ]),
            step_sequences: Histogram::new(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]),
            step_rows: Histogram::new(&[
                1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
            ]),
            step_blocks_share: Histogram::new(&[0.1, 0.25, 0.5, 0.75, 0.9, 0.99]),
            mask_s: Histogram::new(&[
                1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 1e-1,
            ]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        let mut histogram = Histogram::new(&[1.0, 10.0]);
        [0.5, 1.0, 5.0, 50.0].into_iter().for_each(|value| histogram.record(value));
        let counts: Vec<_> = histogram.cumulative().collect();
        assert_eq!(counts, [(1.0, 2), (10.0, 3), (f64::INFINITY, 4)]);
        assert_eq!((histogram.count(), histogram.sum()), (4, 56.5));
    }
}
