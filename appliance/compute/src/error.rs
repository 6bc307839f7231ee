//! What can go wrong on a device.

use crate::cuda::driver::CudaError;

/// Why an executor could not load or step.
#[derive(Debug, thiserror::Error)]
pub enum ComputeError {
    /// A tensor is not in the file.
    #[error(transparent)]
    Weights(#[from] models::weights::WeightsError),
    /// candle refused an operation.
    #[error("candle: {0}")]
    Candle(#[from] candle_core::Error),
    /// The batch does not fit the executor's caches.
    #[error("the batch names block {block}, the cache has {blocks}")]
    Block {
        /// The block.
        block: u32,
        /// How many there are.
        blocks: usize,
    },
    /// A row lies beyond its sequence's blocks.
    #[error("position {position} lies beyond the sequence's {blocks} blocks")]
    Position {
        /// The row's position.
        position: u32,
        /// Blocks of its sequence.
        blocks: usize,
    },
    /// A row lies beyond the positions that the model knows.
    #[error("position {position} lies beyond the model's {positions} positions")]
    Context {
        /// The row's position.
        position: u32,
        /// How many there are.
        positions: usize,
    },
    /// Logits of a model that has none.
    #[error("logits are wanted of a model that has hidden rows alone")]
    NoLogits,
    /// A token id that the embedding does not have.
    #[error("token {token} is not in the vocabulary of {vocabulary_len}")]
    Token {
        /// The id.
        token: u32,
        /// Rows of the embedding.
        vocabulary_len: usize,
    },
    /// A row names a sequence or an output names a row that the batch does not have.
    #[error("the batch names {what} {index}, it has {len}")]
    Index {
        /// Sequence or row.
        what: &'static str,
        /// The index.
        index: u32,
        /// How many there are.
        len: usize,
    },
    /// The caches do not fit into memory.
    #[error("a cache of {bytes} bytes cannot be allocated; lower the context or the sequences")]
    CacheMemory {
        /// What was asked for.
        bytes: usize,
    },
    /// The packed weights do not fit into memory.
    #[error("a weight of {bytes} bytes cannot be allocated; serve fewer or smaller models")]
    WeightMemory {
        /// What was asked for.
        bytes: usize,
    },
    /// A GPU, or its memory.
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// Wanted rows stand out of order.
    #[error("wanted row {output} does not come after the one before it")]
    OutputOrder {
        /// The row.
        output: u32,
    },
}

impl ComputeError {
    /// Whether a device failed: nothing of what it holds can be relied on from then on, nor does it
    /// compute anything more for this process. Anything else leaves it as it was.
    pub fn is_of_device(&self) -> bool {
        matches!(self, ComputeError::Cuda(CudaError::Launch { .. } | CudaError::Driver { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_does_not_recover_from_is_told_apart() {
        let check = |error: ComputeError, expected| {
            assert_eq!(error.is_of_device(), expected, "{error}");
        };
        let name = || "ATTEND".to_owned();
        check(CudaError::Driver { doing: "it computes", error: name() }.into(), true);
        check(CudaError::Launch { kernel: name(), error: name() }.into(), true);
        check(CudaError::Memory { bytes: 1 }.into(), false);
        check(CudaError::NoKernels.into(), false);
        check(CudaError::NoKernel { kernel: name() }.into(), false);
        check(CudaError::Unsupported { name: name(), capability: (7, 5) }.into(), false);
        check(ComputeError::Block { block: 9, blocks: 8 }, false);
        check(ComputeError::CacheMemory { bytes: 1 }, false);
    }
}
