//! Any bytes as each file of a model folder: header, hyperparameters, what is declared of
//! embeddings, plan. Nothing may panic, and every tensor lies inside of the file.
//!
//! Bytes that begin with a brace or a bracket are a JSON file beside a sound header, others are
//! `model.safetensors`.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use models::family;
use models::safetensors::{self, CONFIG, FILES, Files};
use models::weights::Weights;

const SOUND: &[u8] =
    b"\x38\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}  \0\0\0\0";
const HYPERPARAMETERS: &[u8] = br#"{"model_type": "bert", "hidden_act": "gelu",
    "hidden_size": 4, "intermediate_size": 6, "layer_norm_eps": 1e-12, "vocab_size": 5,
    "max_position_embeddings": 8, "num_attention_heads": 2, "num_hidden_layers": 1,
    "type_vocab_size": 2}"#;

fn read(tensors: &[u8], files: Files) {
    let Ok(header) = safetensors::read(&mut &tensors[..], tensors.len() as u64, files) else {
        return;
    };
    let mut left = tensors.len() as u64;
    for (offset, bytes) in header
        .tensors
        .values()
        .map(|info| (info.offset, info.bytes))
        .chain(header.integers.values().map(|info| (info.offset, info.bytes)))
    {
        assert!(bytes > 0 && offset + bytes <= tensors.len() as u64);
        left = left.checked_sub(bytes).expect("tensors overlap");
    }
    let names: Vec<String> = header.tensors.keys().cloned().collect();
    let weights = Weights::new(header, Arc::new(tensors.to_vec())).expect("the same length");
    for name in names {
        weights.tensor(&name).expect("the name is the header's");
    }
    let _ = family::plan(&weights);
}

fuzz_target!(|bytes: &[u8]| {
    let files = || -> Files {
        FILES.iter().filter(|file| file.required).map(|file| (file.name, b"{}".into())).collect()
    };
    if !matches!(bytes.first(), Some(b'{' | b'[')) {
        let mut files = files();
        files.insert(CONFIG, HYPERPARAMETERS.to_vec());
        return read(bytes, files);
    }
    for file in FILES {
        let mut files = files();
        // The pooling's file is read where there is a chain of modules.
        files.insert("modules.json", MODULES.to_vec());
        files.insert("1_Pooling/config.json", POOLING.to_vec());
        files.insert(file.name, bytes.to_vec());
        read(SOUND, files);
    }
});

const MODULES: &[u8] = br#"[{"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]"#;
const POOLING: &[u8] = br#"{"embedding_dimension": 4, "pooling_mode": "mean"}"#;
