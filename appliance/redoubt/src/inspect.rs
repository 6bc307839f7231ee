//! `redoubt models inspect`: what a file holds and whether it would run, without loading it.

use std::collections::BTreeMap;
use std::path::Path;

use models::dtype::DType;
use models::vocabulary::{Algorithm, Vocabulary};
use models::weights::Weights;
use text::{ChatTemplate, Tokenizer};

use crate::failure::Failure;
use crate::load;

/// Prints all that is known of a file.
pub fn run(path: &Path) -> Result<(), Failure> {
    let weights = load::open(path)?;
    let header = weights.header();
    println!("{}: {} bytes, {} tensors", path.display(), header.file_bytes, header.tensors.len());
    print_types(&weights);
    print_vocabulary(&weights);
    match models::family::plan(&weights) {
        Ok(plan) => {
            println!("\nparameters  {:.1} million", plan.parameter_count() as f64 / 1e6);
            println!("KV cache    {} bytes per token", plan.cache_elements_per_position() * 4);
            print!("\n{plan}");
            Ok(())
        }
        Err(error) => Err(Failure::new(error).hint("this program cannot run the file")),
    }
}

fn print_types(weights: &Weights) {
    let mut types: BTreeMap<DType, (usize, u64)> = BTreeMap::new();
    for tensor in weights.header().tensors.values() {
        let entry = types.entry(tensor.dtype).or_default();
        *entry = (entry.0 + 1, entry.1 + tensor.bytes);
    }
    for (dtype, (count, bytes)) in types {
        println!("  {dtype:<6} {count:>5} tensors {bytes:>14} bytes");
    }
}

fn print_vocabulary(weights: &Weights) {
    let vocabulary = match Vocabulary::from_header(weights.header()) {
        Ok(vocabulary) => vocabulary,
        Err(error) => return println!("\nvocabulary  cannot be used: {error}"),
    };
    let algorithm = match &vocabulary.algorithm {
        Algorithm::ByteLevelBpe { pre, .. } => {
            format!("byte-level BPE, pre-tokenizer '{}'", pre.as_deref().unwrap_or("default"))
        }
        Algorithm::SentencePiece { .. } => "SentencePiece BPE".to_owned(),
    };
    println!("\nvocabulary  {} tokens, {algorithm}", vocabulary.tokens.len());
    if let Err(error) = Tokenizer::new(&vocabulary) {
        println!("tokenizer   cannot be built: {error}");
    }
    let template = match &vocabulary.chat_template {
        None => "none: only /v1/completions would work".to_owned(),
        Some(source) => match ChatTemplate::new(source, &vocabulary) {
            Err(error) => format!("cannot be used: {error}"),
            Ok(template) => format!(
                "tools {}, thinking switch {}",
                yes_no(template.takes_tools()),
                yes_no(template.takes_thinking())
            ),
        },
    };
    println!("template    {template}");
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}
