//! The drill model: small enough to be part of the program, so that everything can be tried at
//! once.

use std::sync::Arc;

use models::gguf;
use models::weights::Weights;

/// Its name as a file.
pub const FILE: &str = "drill.gguf";

static BYTES: &[u8] = include_bytes!("../../../models/drill/drill.gguf");

/// Its weights.
pub fn weights() -> Weights {
    let header = gguf::read(&mut &*BYTES, BYTES.len() as u64);
    let header = header.expect("a test reads the embedded file");
    Weights::new(header, Arc::new(BYTES)).expect("these are the bytes that were just read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_model_runs_and_has_room_in_the_program() {
        let plan = models::family::plan(&weights()).unwrap();
        assert!(plan.parameter_count() <= 8_000_000, "{}", plan.parameter_count());
        assert!(BYTES.len() <= 12 << 20, "{} bytes", BYTES.len());
        assert!(plan.context_len >= 8192);
        let ragged = |tensor: &&models::weights::TensorInfo| {
            tensor.shape.len() > 1 && !tensor.shape[tensor.shape.len() - 1].is_multiple_of(256)
        };
        let weights = weights();
        let found: Vec<_> = weights.tensors().values().filter(ragged).collect();
        assert!(found.is_empty(), "rows are made of whole blocks of every type: {found:?}");
    }
}
