//! `redoubt models inspect`: what a file holds and whether it would run, without loading it.

use std::collections::BTreeMap;
use std::fmt::Display;

use compute::batch::BLOCK_LEN;
use compute::cpu::KvType;
use models::dtype::DType;
use models::vocabulary::{Algorithm, Vocabulary};
use models::weights::{Container, Weights};
use text::{ChatTemplate, Tokenizer, WordPiece};

use crate::failure::Failure;
use crate::load::{self, Source};
use crate::screen;

/// Prints all that is known of a file; fails where it would not be served.
pub fn run(source: &Source) -> Result<(), Failure> {
    let weights = load::open(source)?;
    let mut out = String::new();
    let outcome = describe(source, &weights, &mut out);
    screen::show(&screen::plain(&out))?;
    outcome.map_err(|error| Failure::new(error).hint("this program cannot run the file"))
}

/// Writes what the file holds; the error says why it would not run.
fn describe(source: &Source, weights: &Weights, out: &mut String) -> Result<(), String> {
    let (bytes, tensors) = (weights.bytes().len(), weights.tensors().len());
    out.push_str(&format!("{source}: {bytes} bytes, {tensors} tensors\n"));
    types(weights, out);
    let text = vocabulary(weights, out);
    let plan = models::family::plan(weights).map_err(|error| error.to_string())?;
    let cache = |kv| crate::load::cache_bytes(&plan, kv, 1) / BLOCK_LEN;
    out.push_str(&format!(
        "\nparameters  {:.1} million\nKV cache    {} bytes per token, {} as q8_0\n\n{plan}",
        plan.parameter_count() as f64 / 1e6,
        cache(KvType::F16),
        cache(KvType::Q8_0)
    ));
    text
}

fn types(weights: &Weights, out: &mut String) {
    let mut types: BTreeMap<DType, (usize, u64, bool)> = BTreeMap::new();
    for tensor in weights.tensors().values() {
        let entry = types.entry(tensor.dtype).or_default();
        *entry = (entry.0 + 1, entry.1 + tensor.bytes, entry.2 || tensor.shape.len() > 1);
    }
    for (dtype, (count, bytes, has_matrices)) in types {
        let is_slow = has_matrices && !compute::cpu::is_packed(dtype);
        let how = if is_slow { ", decoded as they are used: slower" } else { "" };
        out.push_str(&format!("  {dtype:<6} {count:>5} tensors {bytes:>14} bytes{how}\n"));
    }
}

/// What a file without the name means.
pub const NO_PRETOKENIZER: &str =
    "the file names no pre-tokenizer, answers may suffer; convert the model anew";

fn vocabulary(weights: &Weights, out: &mut String) -> Result<(), String> {
    let told = |what: &str, error: &dyn Display| format!("the {what} cannot be used: {error}");
    let Container::Gguf(header) = weights.container() else {
        return word_pieces(weights, out);
    };
    let vocabulary = Vocabulary::from_header(header).map_err(|error| told("vocabulary", &error))?;
    let algorithm = match &vocabulary.algorithm {
        Algorithm::ByteLevelBpe { pre: Some(pre), .. } => {
            format!("byte-level BPE, pre-tokenizer '{pre}'")
        }
        Algorithm::ByteLevelBpe { pre: None, .. } => "byte-level BPE".to_owned(),
        Algorithm::SentencePiece { .. } => "SentencePiece BPE".to_owned(),
    };
    out.push_str(&format!("\nvocabulary  {} tokens, {algorithm}\n", vocabulary.tokens.len()));
    let tokenizer = Tokenizer::new(&vocabulary).map_err(|error| told("tokenizer", &error))?;
    if let Some(name) = tokenizer.assumed_pretokenizer() {
        out.push_str(&format!("tokenizer   '{name}' is assumed: {NO_PRETOKENIZER}\n"));
    }
    let Some(source) = &vocabulary.chat_template else {
        out.push_str("template    none: only /v1/completions would work\n");
        return Ok(());
    };
    let template =
        ChatTemplate::new(source, &vocabulary).map_err(|error| told("template", &error))?;
    out.push_str(&format!(
        "template    tools {}, thinking switch {}\n",
        yes_no(template.takes_tools()),
        yes_no(template.takes_thinking())
    ));
    Ok(())
}

fn word_pieces(weights: &Weights, out: &mut String) -> Result<(), String> {
    let Container::Safetensors(header) = weights.container() else { return Ok(()) };
    let tokenizer = WordPiece::new(header.tokenizer());
    let tokenizer = tokenizer.map_err(|error| format!("the tokenizer cannot be used: {error}"))?;
    out.push_str(&format!("\nvocabulary  {} word pieces\n", tokenizer.vocabulary_len()));
    out.push_str("template    none: only /v1/embeddings would work\n");
    Ok(())
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}
