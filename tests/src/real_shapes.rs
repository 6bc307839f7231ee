//! Models of real models' shapes with random weights, for timing alone. Weights have mean zero and
//! a spread of one over the root of their inputs, what goes back into the residual less by its
//! depth, norms are one: numbers stay finite through every layer. Q4_K_M mixes types as llama.cpp's
//! recipe does. The vocabulary is a byte-level BPE of the real size, so that text can be sent, too.

use std::path::Path;

use models::dtype::DType;
use models::gguf::Value;

use crate::written_gguf::{self, Random};

/// A model's sizes, named as GGUF names them.
pub struct Shape {
    /// What it is asked for by.
    pub name: &'static str,
    family: &'static str,
    layers: usize,
    width: usize,
    feed_forward: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocabulary: usize,
    context: u64,
    rope_base: f64,
    epsilon: f64,
    is_tied: bool,
}

const LLAMA: Shape = Shape {
    name: "",
    family: "llama",
    layers: 0,
    width: 0,
    feed_forward: 0,
    heads: 32,
    kv_heads: 8,
    head_dim: 128,
    vocabulary: 128_256,
    context: 131_072,
    rope_base: 5e5,
    epsilon: 1e-5,
    is_tied: false,
};
const QWEN3: Shape = Shape {
    family: "qwen3",
    vocabulary: 151_936,
    context: 40_960,
    rope_base: 1e6,
    epsilon: 1e-6,
    is_tied: true,
    ..LLAMA
};

/// Those that are known.
pub const SHAPES: [Shape; 5] = [
    Shape {
        name: "llama-1b",
        layers: 16,
        width: 2048,
        feed_forward: 8192,
        head_dim: 64,
        is_tied: true,
        ..LLAMA
    },
    Shape { name: "llama-8b", layers: 32, width: 4096, feed_forward: 14_336, ..LLAMA },
    Shape { name: "qwen3-0.6b", layers: 28, width: 1024, feed_forward: 3072, heads: 16, ..QWEN3 },
    Shape { name: "qwen3-4b", layers: 36, width: 2560, feed_forward: 9728, ..QWEN3 },
    Shape {
        name: "qwen3-8b",
        layers: 36,
        width: 4096,
        feed_forward: 12_288,
        is_tied: false,
        ..QWEN3
    },
];

/// How weights are quantized.
pub struct Quantization {
    /// What it is asked for by.
    pub name: &'static str,
    /// `LlamaFileType` of the format.
    file_type: u64,
    /// Most matrices, and those that the recipe gives more bits.
    dtypes: (DType, DType),
}

/// Those that are known.
pub const QUANTIZATIONS: [Quantization; 2] = [
    Quantization { name: "q4_k_m", file_type: 15, dtypes: (DType::Q4_K, DType::Q6_K) },
    Quantization { name: "q8_0", file_type: 7, dtypes: (DType::Q8_0, DType::Q8_0) },
];

/// The last ids of a vocabulary; more than enough for any.
const RESERVED: usize = 256;
const NORMAL: i64 = 1;
const CONTROL: i64 = 3;
const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n\
{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n\
{% endif %}";
/// The stand-in of a space.
const SPACE: &str = "Ġ";
const LETTERS: &str = "etaoinshrdlcumwfgypbvkjxqzETAOINSHRDLCUMWFGYPBVKJXQZ0123456789";

/// Writes such a model.
///
/// # Errors
/// When the file cannot be written.
pub fn write(shape: &Shape, quantization: &Quantization, path: &Path) -> std::io::Result<()> {
    let mut metadata = metadata(shape, quantization);
    metadata.extend(tokenizer(shape));
    let metadata: Vec<(&str, &Value)> =
        metadata.iter().map(|(key, value)| (&**key, value)).collect();
    written_gguf::write_random(&metadata, &tensors(shape, quantization), path)
}

fn metadata(shape: &Shape, quantization: &Quantization) -> Vec<(String, Value)> {
    let number = |number: usize| Value::Unsigned(number as u64);
    let head_dim = number(shape.head_dim);
    let mut of_family = vec![
        ("block_count", number(shape.layers)),
        ("context_length", Value::Unsigned(shape.context)),
        ("embedding_length", number(shape.width)),
        ("feed_forward_length", number(shape.feed_forward)),
        ("attention.head_count", number(shape.heads)),
        ("attention.head_count_kv", number(shape.kv_heads)),
        ("attention.key_length", head_dim.clone()),
        ("attention.value_length", head_dim.clone()),
        ("rope.freq_base", Value::Float(shape.rope_base)),
        ("attention.layer_norm_rms_epsilon", Value::Float(shape.epsilon)),
        ("vocab_size", number(shape.vocabulary)),
    ];
    if shape.family == "llama" {
        of_family.push(("rope.dimension_count", head_dim));
    }
    let of_family = of_family.into_iter().map(|(key, v)| (format!("{}.{key}", shape.family), v));
    let general = [
        ("general.architecture", Value::Text(shape.family.to_owned())),
        ("general.name", Value::Text(format!("random-{}", shape.name))),
        ("general.file_type", Value::Unsigned(quantization.file_type)),
        ("general.quantization_version", Value::Unsigned(2)),
    ];
    general.into_iter().map(|(key, value)| (key.to_owned(), value)).chain(of_family).collect()
}

fn tokenizer(shape: &Shape) -> Vec<(String, Value)> {
    let (pre, specials): (_, &[&str]) = match shape.family {
        "llama" => {
            ("llama-bpe", &["<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>"])
        }
        _ => ("qwen2", &["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
    };
    let wanted = shape.vocabulary - RESERVED;
    let (mut tokens, merges) = vocabulary(wanted);
    let reserved = (0..RESERVED - specials.len()).map(|i| format!("<|reserved_{i}|>"));
    tokens.extend(specials.iter().map(|special| (*special).to_owned()).chain(reserved));
    let types = (0..tokens.len()).map(|i| if i < wanted { NORMAL } else { CONTROL });
    let of_tokens = [
        ("model", Value::Text("gpt2".to_owned())),
        ("pre", Value::Text(pre.to_owned())),
        ("tokens", Value::Texts(tokens)),
        ("token_type", Value::Integers(types.collect())),
        ("merges", Value::Texts(merges)),
        ("bos_token_id", Value::Unsigned(wanted as u64)),
        ("eos_token_id", Value::Unsigned(wanted as u64 + 1)),
        ("add_bos_token", Value::Bool(false)),
    ];
    let of_tokens = of_tokens.into_iter().map(|(key, v)| (format!("tokenizer.ggml.{key}"), v));
    let template = ("tokenizer.chat_template".to_owned(), Value::Text(TEMPLATE.to_owned()));
    of_tokens.chain([template]).collect()
}

/// Tokens and merges: all bytes, then pairs and threes of letters until there are `wanted`.
fn vocabulary(wanted: usize) -> (Vec<String>, Vec<String>) {
    let mut tokens = byte_letters();
    let mut merges = Vec::new();
    let mut pairs = Vec::new();
    for first in [SPACE].into_iter().chain(letters()) {
        for second in letters() {
            merges.push(format!("{first} {second}"));
            pairs.push(format!("{first}{second}"));
        }
    }
    tokens.extend(pairs.iter().cloned());
    let threes = pairs.iter().flat_map(|pair| letters().map(move |letter| (pair, letter)));
    for (pair, letter) in threes.take(wanted - tokens.len()) {
        merges.push(format!("{pair} {letter}"));
        tokens.push(format!("{pair}{letter}"));
    }
    assert_eq!(tokens.len(), wanted, "letters enough for every vocabulary");
    (tokens, merges)
}

fn letters() -> impl Iterator<Item = &'static str> {
    (0..LETTERS.len()).map(|i| &LETTERS[i..=i])
}

/// The printable stand-in of every byte, by GPT-2's rule.
fn byte_letters() -> Vec<String> {
    let is_plain = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut others = (256u32..).map(|code| char::from_u32(code).expect("a letter"));
    let mut letter = |byte: u8| match is_plain(&byte) {
        true => char::from(byte),
        false => others.next().expect("there are more"),
    };
    (0..=255).map(|byte| letter(byte).to_string()).collect()
}

/// The layers to whose values and down projections Q4_K_M gives more bits.
fn has_more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

fn tensors(shape: &Shape, quantization: &Quantization) -> Vec<Random> {
    let (usual, more) = quantization.dtypes;
    let (width, forward) = (shape.width, shape.feed_forward);
    let (heads_width, kv_width) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let into = (2.0 * shape.layers as f32).sqrt().recip();
    let matrix = |name: String, shape: [usize; 2], dtype: DType, share: f32| Random {
        name,
        shape: shape.to_vec(),
        dtype,
        // Of uniform numbers; their spread is a root of three less.
        spread: share * (3.0 / shape[1] as f32).sqrt(),
    };
    let norm = |name: String, len: usize| Random {
        name,
        shape: vec![len],
        dtype: DType::F32,
        spread: 0.0,
    };
    let mut all = vec![matrix("token_embd.weight".into(), [shape.vocabulary, width], more, 1.0)];
    for layer in 0..shape.layers {
        let best = if has_more_bits(layer, shape.layers) { more } else { usual };
        let of = |name: &str| format!("blk.{layer}.{name}.weight");
        all.push(norm(of("attn_norm"), width));
        all.push(matrix(of("attn_q"), [heads_width, width], usual, 1.0));
        all.push(matrix(of("attn_k"), [kv_width, width], usual, 1.0));
        all.push(matrix(of("attn_v"), [kv_width, width], best, 1.0));
        all.push(matrix(of("attn_output"), [width, heads_width], usual, into));
        if shape.family == "qwen3" {
            all.push(norm(of("attn_q_norm"), shape.head_dim));
            all.push(norm(of("attn_k_norm"), shape.head_dim));
        }
        all.push(norm(of("ffn_norm"), width));
        all.push(matrix(of("ffn_gate"), [forward, width], usual, 1.0));
        all.push(matrix(of("ffn_up"), [forward, width], usual, 1.0));
        all.push(matrix(of("ffn_down"), [width, forward], best, into));
    }
    all.push(norm("output_norm.weight".into(), width));
    if !shape.is_tied {
        all.push(matrix("output.weight".into(), [shape.vocabulary, width], more, 1.0));
    }
    all
}

#[cfg(test)]
mod tests {
    use models::vocabulary::Vocabulary;
    use models::weights::Container;
    use text::Tokenizer;

    use super::*;

    #[test]
    fn a_small_one_is_whole_and_reads_text() {
        let folder = tempfile::tempdir().unwrap();
        for family in [LLAMA, QWEN3] {
            for quantization in &QUANTIZATIONS {
                let shape =
                    Shape { name: "small", layers: 8, width: 256, feed_forward: 512, ..family };
                let path = folder.path().join("small.gguf");
                write(&shape, quantization, &path).unwrap();
                let weights = compute::map::open(&path).unwrap();
                let plan = models::family::plan(&weights).unwrap();
                assert_eq!((plan.layers.len(), plan.vocabulary_len), (8, shape.vocabulary));
                let Container::Gguf(header) = weights.container() else { panic!("a GGUF file") };
                let vocabulary = Vocabulary::from_header(header).unwrap();
                assert!(vocabulary.chat_template.is_some());
                let tokens = &vocabulary.tokens;
                let tokenizer = Tokenizer::new(&vocabulary).unwrap();
                let ids = tokenizer.encode_text("the real size").unwrap();
                assert!(tokens.len() == shape.vocabulary && ids.len() < 13, "{ids:?}");
                // Some matrices have more bits, by the recipe.
                let down =
                    |layer: usize| weights.tensors()[&format!("blk.{layer}.ffn_down.weight")].dtype;
                assert_eq!((down(0), down(1)), (quantization.dtypes.1, quantization.dtypes.0));
            }
        }
    }
}
