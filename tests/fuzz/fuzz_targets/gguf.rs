//! Any bytes as a model file: header, vocabulary, hyperparameters, plan. Nothing may panic, and
//! every tensor lies inside of the file.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use models::config::Config;
use models::vocabulary::Vocabulary;
use models::weights::Weights;
use models::{family, gguf};

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = gguf::read(&mut &bytes[..], bytes.len() as u64) else {
        return;
    };
    let _ = Vocabulary::from_header(&header);
    let _ = Config::from_header(&header);
    let names: Vec<String> = header.tensors.keys().cloned().collect();
    let weights = Weights::new(header, Arc::new(bytes.to_vec())).expect("the length is the same");
    let mut total_bytes = 0;
    for name in names {
        let weight = weights.tensor(&name).expect("the name is the header's");
        assert!(!weight.bytes.is_empty() && weight.shape.iter().all(|&n| n > 0));
        total_bytes += weight.bytes.len();
    }
    assert!(total_bytes <= bytes.len(), "tensors overlap");
    let _ = family::plan(&weights);
});
