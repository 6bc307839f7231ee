//! A small random model in memory, so that the engine's tests run a real executor.

use std::collections::BTreeMap;
use std::sync::Arc;

use compute::reference::{Mode, Reference};
use models::dtype::DType;
use models::family;
use models::gguf::{Header, Value};
use models::weights::{TensorInfo, Weights};

pub const VOCABULARY_LEN: usize = 320;
pub const CONTEXT_LEN: usize = 512;

const WIDTH: usize = 48;
const HEAD_DIM: usize = 16;
const HEADS: usize = 3;
const INNER: usize = 80;
const LAYERS: usize = 2;

/// Loads the model with a cache of `blocks` blocks.
pub fn executor(blocks: usize) -> Reference {
    let weights = weights();
    let plan = family::plan(&weights).unwrap();
    Reference::load(&plan, &weights, Mode::Serving, blocks, &mut |_| {}).unwrap()
}

fn weights() -> Weights {
    let mut bytes = Vec::new();
    let mut tensors = BTreeMap::new();
    let mut add = |name: String, shape: &[usize], spread: f32| {
        let offset = bytes.len() as u64;
        let len: usize = shape.iter().product();
        let values = numbers(bytes.len() as u64 + 1, len);
        let base = if shape.len() == 1 { 1.0 } else { 0.0 };
        values.iter().for_each(|x| bytes.extend((base + spread * x).to_le_bytes()));
        let info =
            TensorInfo { dtype: DType::F32, shape: shape.to_vec(), offset, bytes: len as u64 * 4 };
        tensors.insert(name, info);
    };
    add("token_embd.weight".to_owned(), &[VOCABULARY_LEN, WIDTH], 1.0);
    add("output_norm.weight".to_owned(), &[WIDTH], 0.1);
    for layer in 0..LAYERS {
        let mut layer_add = |name: &str, shape: &[usize], spread| {
            add(format!("blk.{layer}.{name}.weight"), shape, spread);
        };
        layer_add("attn_norm", &[WIDTH], 0.1);
        layer_add("attn_q", &[HEADS * HEAD_DIM, WIDTH], 0.4);
        layer_add("attn_k", &[HEAD_DIM, WIDTH], 0.4);
        layer_add("attn_v", &[HEAD_DIM, WIDTH], 0.4);
        layer_add("attn_output", &[WIDTH, HEADS * HEAD_DIM], 0.4);
        layer_add("ffn_norm", &[WIDTH], 0.1);
        layer_add("ffn_gate", &[INNER, WIDTH], 0.4);
        layer_add("ffn_up", &[INNER, WIDTH], 0.4);
        layer_add("ffn_down", &[WIDTH, INNER], 0.4);
    }
    let header = Header { metadata: metadata(), tensors, file_bytes: bytes.len() as u64 };
    Weights::new(header, Arc::new(bytes)).unwrap()
}

fn metadata() -> BTreeMap<String, Value> {
    let counts = [
        ("block_count", LAYERS),
        ("embedding_length", WIDTH),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", 1),
        ("feed_forward_length", INNER),
        ("context_length", CONTEXT_LEN),
    ];
    let mut metadata: BTreeMap<String, Value> =
        counts.map(|(key, count)| (format!("llama.{key}"), Value::Unsigned(count as u64))).into();
    metadata.insert("general.architecture".to_owned(), Value::Text("llama".to_owned()));
    metadata.insert("llama.attention.layer_norm_rms_epsilon".to_owned(), Value::Float(1e-5));
    metadata
}

/// Numbers in [-1, 1), the same on every run.
fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}
