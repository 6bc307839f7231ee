//! Cards: what is known of models that were tested with this program.

use regex::Regex;
use serde::Deserialize;
use server::{Check, Golden};

use crate::failure::Failure;

const CARDS: &[&str] = &[
    include_str!("../../../models/drill/card.toml"),
    include_str!("../../../models/cards/smollm2-135m-instruct.toml"),
    include_str!("../../../models/cards/all-minilm-l6-v2.toml"),
];

/// What is known of a model.
#[derive(Clone, Debug, Deserialize)]
pub struct Card {
    /// The name that it is served under.
    pub name: String,
    /// The file's name.
    pub file: String,
    /// The file's SHA-256, hexadecimal; of a folder, that of its tensors.
    pub sha256: String,
    /// Of a folder, the SHA-256 of the files beside, as [`crate::load`] takes it.
    pub files_sha256: Option<String>,
    /// Its licence.
    pub licence: String,
}

/// What a signed model's own card says: only its golden prompts are read here, the rest is for
/// people.
#[derive(Deserialize)]
struct OwnCard {
    #[serde(default)]
    golden: Vec<GoldenLine>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenLine {
    prompt: String,
    answer: Option<String>,
    contains: Option<String>,
    pattern: Option<String>,
    json: Option<bool>,
    logprob: Option<f64>,
    embedding: Option<Vec<f64>>,
    tolerance: Option<f64>,
}

/// Bytes of a pattern, compiled.
const PATTERN_BYTES_MAX: usize = 1 << 20;
const GOLDEN_MAX: usize = 64;

/// The golden prompts of a signed model's card.
///
/// # Errors
/// Where the card cannot be read, or has none.
pub fn golden(card: &[u8]) -> Result<Vec<Golden>, String> {
    let text = std::str::from_utf8(card).map_err(|_| "its card is no UTF-8".to_owned())?;
    let card: OwnCard =
        toml::from_str(text).map_err(|error| format!("its card cannot be read: {error}"))?;
    if card.golden.is_empty() || card.golden.len() > GOLDEN_MAX {
        return Err(format!("its card must have 1 to {GOLDEN_MAX} golden prompts"));
    }
    card.golden.into_iter().map(golden_line).collect()
}

/// The drill model's name and golden prompts.
pub fn drill() -> (String, Vec<Golden>) {
    let card: Card = toml::from_str(CARDS[0]).expect("the tests parse every card");
    (card.name, golden(CARDS[0].as_bytes()).expect("the tests parse its golden prompts"))
}

fn golden_line(line: GoldenLine) -> Result<Golden, String> {
    let wrong = |what: &str| format!("the golden prompt {:?} {what}", line.prompt);
    let tolerance = || line.tolerance.filter(|t| *t > 0.0).ok_or_else(|| wrong("has no tolerance"));
    let checks = [
        line.answer.clone().map(|text| Ok(Check::Answer(text))),
        line.contains.clone().map(|text| Ok(Check::Contains(text))),
        line.pattern.as_ref().map(|text| {
            let built = regex::RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
            built.map(|pattern: Regex| Check::Pattern(pattern)).map_err(|e| wrong(&e.to_string()))
        }),
        line.json.filter(|json| *json).map(|_| Ok(Check::Json)),
        line.logprob.map(|mean| Ok(Check::LogProb { mean, tolerance: tolerance()? })),
        line.embedding
            .clone()
            .map(|begins| Ok(Check::Embedding { begins, tolerance: tolerance()? })),
    ];
    let mut checks = checks.into_iter().flatten();
    match (checks.next(), checks.next()) {
        (Some(check), None) => Ok(Golden { prompt: line.prompt.clone(), check: check? }),
        _ => Err(wrong(
            "must have one of 'answer', 'contains', 'pattern', 'json', 'logprob', 'embedding'",
        )),
    }
}

/// All cards.
pub fn all() -> Vec<Card> {
    CARDS.iter().map(|card| toml::from_str(card).expect("the tests parse every card")).collect()
}

/// A file's name without its ending: what it is served as, where no card knows it.
pub fn stem(file: &str) -> &str {
    file.strip_suffix(".gguf").unwrap_or(file)
}

/// The card of a file with this name and digest; none for a file that no card knows.
///
/// # Errors
/// When a card knows the name, of the file or of the model, but with another digest: the file is
/// damaged or not what it says.
pub fn find(file: &str, sha256: &str, files_sha256: Option<&str>) -> Result<Option<Card>, Failure> {
    let cards = all();
    if let Some(card) = cards.iter().find(|card| card.sha256 == sha256) {
        if card.files_sha256.as_deref() == files_sha256 {
            return Ok(Some(card.clone()));
        }
        return Err(Failure::new(format!(
            "{file} has the tensors that its card describes, but other files beside them: their \
             SHA-256 is {}, the card says {}",
            files_sha256.unwrap_or("none"),
            card.files_sha256.as_deref().unwrap_or("none")
        ))
        .hint("fetch the folder again; what its files say decides what its vectors are"));
    }
    let claims = |card: &&Card| card.file == file || card.name.eq_ignore_ascii_case(stem(file));
    match cards.iter().find(claims) {
        None => Ok(None),
        Some(card) => Err(Failure::new(format!(
            "{file} is not the file that its card describes: its SHA-256 is {sha256}, the card \
             says {}",
            card.sha256
        ))
        .hint("fetch the file again; if it is meant to be another model, give it another name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_parses_and_names_are_distinct() {
        let mut names: Vec<String> = all().into_iter().map(|card| card.name).collect();
        assert_eq!(names.len(), CARDS.len());
        names.dedup();
        assert_eq!(names.len(), CARDS.len());
    }

    #[test]
    fn every_golden_prompt_has_one_check() {
        for card in &CARDS[..2] {
            assert!(!golden(card.as_bytes()).unwrap().is_empty());
        }
        let check = |line: &str, expected: &str| {
            let card = format!("[[golden]]\nprompt = \"p\"\n{line}\n");
            match golden(card.as_bytes()) {
                Ok(found) => assert!(expected.is_empty(), "{line}: {found:?}"),
                Err(error) => assert!(!expected.is_empty() && error.contains(expected), "{error}"),
            }
        };
        check("pattern = '^4'", "");
        check("json = true", "");
        check("logprob = -0.5\ntolerance = 0.1", "");
        check("embedding = [0.5]\ntolerance = 0.1", "");
        check("", "must have one of");
        check("json = false", "must have one of");
        check("answer = 'a'\ncontains = 'a'", "must have one of");
        check("pattern = '('", "unclosed group");
        check("pattern = '(x{1000}){1000}'", "exceeds size limit");
        check("logprob = -0.5", "no tolerance");
        check("other = 1", "cannot be read");
        assert!(golden(b"name = 'x'").unwrap_err().contains("1 to 64"));
        assert!(golden(b"\xff").unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn a_known_name_with_another_digest_is_refused() {
        let card = &all()[0];
        assert!(find(&card.file, &card.sha256, None).unwrap().is_some());
        assert!(find("other.gguf", &"0".repeat(64), None).unwrap().is_none());
        assert!(find(&card.file, &"0".repeat(64), None).is_err());
        let upper = format!("{}.gguf", card.name.to_uppercase());
        assert!(find(&upper, &"0".repeat(64), None).is_err());
    }

    #[test]
    fn known_tensors_beside_other_files_are_refused() {
        let card = all().into_iter().find(|card| card.files_sha256.is_some()).unwrap();
        let files = card.files_sha256.as_deref();
        assert!(find(&card.file, &card.sha256, files).unwrap().is_some());
        for other in [None, Some("0")] {
            let error = find("renamed", &card.sha256, other).unwrap_err().to_string();
            assert!(error.contains("files beside"), "{error}");
        }
    }
}
