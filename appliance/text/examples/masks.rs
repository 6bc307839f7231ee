//! Times the masks of grammars on a model's vocabulary: `cargo run --release -p text --example
//! masks -- FILE`: answers along JSON schemas and a regular expression, microseconds of each mask.

use std::fs::File;
use std::hint::black_box;
use std::time::Instant;

use models::vocabulary::Vocabulary;
use serde_json::{Value, json};
use text::{Grammar, GrammarError, GrammarSource, Grammars, Tokenizer};

/// Numbers that displace all else from the processor's caches, as a model's weights do in a step.
const WEIGHTS: u64 = 16 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: masks FILE")?;
    let mut file = File::open(&path)?;
    let bytes = file.metadata()?.len();
    let header = models::gguf::read(&mut file, bytes)?;
    let tokenizer = Tokenizer::new(&Vocabulary::from_header(&header)?)?;
    let began = Instant::now();
    let grammars = Grammars::new(&tokenizer)?;
    println!("vocabulary of {} prepared in {:.0?}", tokenizer.vocabulary_len(), began.elapsed());
    let weights: Vec<u64> = (0..WEIGHTS).collect();
    let (mut alone, mut after_steps) = (Vec::new(), Vec::new());
    for (source, answer) in cases() {
        let grammar = grammars.compile(&source)?;
        let tokens = tokenizer.encode_text(&answer)?;
        alone.extend(follow(&grammar, &tokens, &[])?);
        after_steps.extend(follow(&grammar, &tokens, &weights)?);
    }
    told("one after the other", &mut alone);
    told("with the caches displaced before each", &mut after_steps);
    Ok(())
}

fn told(how: &str, micros: &mut [f64]) {
    micros.sort_by(f64::total_cmp);
    let at = |part: f64| micros[((micros.len() - 1) as f64 * part) as usize];
    println!(
        "{} masks {how}: median {:.0} µs, mean {:.0} µs, nine in ten within {:.0} µs",
        micros.len(),
        at(0.5),
        micros.iter().sum::<f64>() / micros.len() as f64,
        at(0.9)
    );
}

/// Microseconds of each mask along an answer, where `weights` are read before each.
fn follow(grammar: &Grammar, tokens: &[u32], weights: &[u64]) -> Result<Vec<f64>, GrammarError> {
    let mut followed = grammar.follow();
    let mut micros = Vec::new();
    for token in tokens.iter().map(Some).chain([None]) {
        black_box(weights.iter().step_by(8).fold(0, |sum, number| sum ^ number));
        let began = Instant::now();
        black_box(followed.mask()?);
        micros.push(began.elapsed().as_secs_f64() * 1e6);
        if let Some(token) = token {
            followed.accept(*token)?;
        }
    }
    Ok(micros)
}

fn cases() -> Vec<(GrammarSource, String)> {
    let object = |properties: Value, required: &[&str]| {
        json!({"type": "object", "additionalProperties": false, "required": required,
               "properties": properties})
    };
    let person = object(
        json!({"name": {"type": "string", "maxLength": 30}, "age": {"type": "integer"},
               "tags": {"type": "array", "items": {"type": "string"}}}),
        &["name", "age", "tags"],
    );
    let weather = object(
        json!({"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]},
               "days": {"type": "integer", "minimum": 1, "maximum": 14},
               "at": {"type": "string", "format": "date"}}),
        &["city", "unit"],
    );
    let answers = [
        (
            person,
            json!({"name": "Keiko Tanaka", "age": 37, "tags": ["nurse", "night shift", "Osaka"]}),
        ),
        (weather, json!({"city": "Reykjavík", "unit": "celsius", "days": 3, "at": "2026-11-25"})),
    ];
    let schemas = answers
        .into_iter()
        .map(|(schema, answer)| (GrammarSource::JsonSchema(schema), answer.to_string()));
    let free = json!({"order": 4711, "lines": [{"item": "bolts, M8", "count": 250, "price": 0.12},
                      {"item": "washers", "count": 500, "price": 0.03}], "paid": true,
                      "note": "deliver to the back door before noon, ring twice"});
    let any = (GrammarSource::JsonObject, free.to_string());
    let id =
        (GrammarSource::Regex("[A-Z]{2}-[0-9]{4}-[a-z]+".to_owned()), "AB-1234-xyz".to_owned());
    schemas.chain([any, id]).collect()
}
