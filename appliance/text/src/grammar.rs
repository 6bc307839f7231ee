//! Grammars that answers must follow: JSON schemas, regular expressions, Lark; by llguidance.
//!
//! Compiling is bounded in time, depth and size, and so is every look at which tokens may come.
//! What a grammar reads is the bytes that tokens print; control tokens never come, but for those
//! that end a turn where the grammar may end.

use std::fmt;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;

use crate::stack;
use crate::tokenizer::Tokenizer;

/// Bytes of a schema.
const SCHEMA_BYTES_MAX: usize = 64 << 10;
/// Bytes of a regular expression, of a Lark grammar, and of all patterns in a schema: a mask may
/// take time by their square, a tenth of a second for this much.
const PATTERN_BYTES_MAX: usize = 4 << 10;
/// How deep a schema's values may nest. Other grammars are too short to nest deeper than [`stack`]
/// has room for.
const DEPTH_MAX: usize = 64;
/// Where llguidance takes options of its own from, regular expressions among them.
const OPTIONS: &str = "x-guidance";
/// Characters of an error.
const ERROR_CHARACTERS_MAX: usize = 300;
/// Steps to build a grammar's lexer: some 20 ms.
const LEXER_FUEL: u64 = 1_000_000;
/// Steps of the lexer for one mask: some 15 ms.
const MASK_FUEL: u64 = 200_000;
/// States of the lexer, up to 2 kB each.
const LEXER_STATES_MAX: usize = 20_000;
const GRAMMAR_SYMBOLS_MAX: usize = 200_000;

/// What an answer must be.
#[derive(Clone, Debug, PartialEq)]
pub enum GrammarSource {
    /// A JSON object of any kind.
    JsonObject,
    /// JSON that a schema describes.
    JsonSchema(Value),
    /// Text that a regular expression matches as a whole.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// Text of a Lark grammar, from its rule `start`.
    Lark(String),
}

/// Why a grammar cannot be used, or an answer cannot go on in it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GrammarError {
    /// The text is too long.
    #[error("{what} has {bytes} bytes, at most {bytes_max} can be compiled")]
    TooLong {
        /// Which.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// Its parts nest too deep.
    #[error("the schema nests deeper than {DEPTH_MAX}")]
    TooDeep,
    /// It does not compile, or not within the bounds.
    #[error("the grammar does not compile: {0}")]
    Compile(String),
    /// The answer cannot go on: the bounds are reached, or a token came that may not.
    #[error("the grammar cannot be followed further: {0}")]
    Follow(String),
}

/// Compiles grammars over one vocabulary.
pub struct Grammars {
    factory: ParserFactory,
}

impl Grammars {
    /// Prepares a vocabulary: some hundred milliseconds for a large one. `tokens`: those that the
    /// model's logits have.
    ///
    /// # Errors
    /// [`GrammarError::Compile`] when the vocabulary cannot be used.
    pub fn new(tokenizer: &Tokenizer) -> Result<Grammars, GrammarError> {
        let len = tokenizer.vocabulary_len() as u32;
        let marker = [TokTrie::SPECIAL_TOKEN_MARKER];
        let word = |id| match tokenizer.token_bytes(id) {
            bytes if bytes.is_empty() => [&marker, tokenizer.token_text(id).as_bytes()].concat(),
            bytes => bytes,
        };
        let words: Vec<Vec<u8>> = (0..len).map(word).collect();
        let ends = tokenizer.end_tokens();
        let Some(&first) = ends.first() else {
            let nothing = "the vocabulary has no token that ends an answer";
            return Err(GrammarError::Compile(nothing.to_owned()));
        };
        let trie = TokTrie::from(&TokRxInfo::new(len, first), &words).with_eos_tokens(ends);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices)
            .map_err(|error| GrammarError::Compile(one_line(&error.to_string())))?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.initial_lexer_fuel = LEXER_FUEL;
        limits.step_lexer_fuel = MASK_FUEL;
        limits.max_lexer_states = LEXER_STATES_MAX;
        limits.max_grammar_size = GRAMMAR_SYMBOLS_MAX;
        limits.precompute_large_lexemes = false;
        // Errors go to clients and logs: they must not quote what was generated.
        limits.verbose_errors = false;
        Ok(Grammars { factory })
    }

    /// Compiles a grammar.
    ///
    /// # Errors
    /// [`GrammarError`] when it is wrong or too large.
    pub fn compile(&self, source: &GrammarSource) -> Result<Grammar, GrammarError> {
        check_length(source)?;
        stack::run("grammar", || self.compile_here(source))
            .unwrap_or_else(|lost| Err(GrammarError::Compile(lost.to_string())))
    }

    fn compile_here(&self, source: &GrammarSource) -> Result<Grammar, GrammarError> {
        let grammar = match source {
            GrammarSource::JsonObject => {
                TopLevelGrammar::from_json_schema(serde_json::json!({"type": "object"}))
            }
            GrammarSource::JsonSchema(schema) => TopLevelGrammar::from_json_schema(schema.clone()),
            GrammarSource::Regex(regex) => TopLevelGrammar::from_regex(regex),
            GrammarSource::Choice(texts) => {
                let escaped: Vec<String> = texts.iter().map(|text| regex::escape(text)).collect();
                TopLevelGrammar::from_regex(&escaped.join("|"))
            }
            GrammarSource::Lark(lark) => TopLevelGrammar::from_lark(lark.clone()),
        };
        let matcher = Matcher::new(self.factory.create_parser(grammar));
        match matcher.get_error() {
            Some(error) => Err(GrammarError::Compile(one_line(&error))),
            None => Ok(Grammar(matcher)),
        }
    }
}

fn check_length(source: &GrammarSource) -> Result<(), GrammarError> {
    let check = |what, bytes, bytes_max| match bytes > bytes_max {
        true => Err(GrammarError::TooLong { what, bytes, bytes_max }),
        false => Ok(()),
    };
    match source {
        GrammarSource::JsonObject => Ok(()),
        GrammarSource::JsonSchema(schema) => {
            if levels(schema).take(DEPTH_MAX + 1).count() > DEPTH_MAX {
                return Err(GrammarError::TooDeep);
            }
            check("the schema", schema.to_string().len(), SCHEMA_BYTES_MAX)?;
            check("the schema's patterns", pattern_bytes(schema)?, PATTERN_BYTES_MAX)
        }
        GrammarSource::Choice(texts) => {
            check("the choice", texts.iter().map(String::len).sum(), PATTERN_BYTES_MAX)
        }
        GrammarSource::Regex(text) => {
            check("the regular expression", text.len(), PATTERN_BYTES_MAX)
        }
        GrammarSource::Lark(text) => check("the grammar", text.len(), PATTERN_BYTES_MAX),
    }
}

/// Bytes of all that a schema has compiled as regular expressions.
fn pattern_bytes(schema: &Value) -> Result<usize, GrammarError> {
    let mut bytes = 0;
    for map in levels(schema).flatten().filter_map(Value::as_object) {
        if map.contains_key(OPTIONS) {
            return Err(GrammarError::Compile(format!("'{OPTIONS}' is not supported")));
        }
        let pattern = map.get("pattern").and_then(Value::as_str);
        let keys = map.get("patternProperties").and_then(Value::as_object);
        bytes += pattern.map_or(0, str::len);
        bytes += keys.into_iter().flatten().map(|(key, _)| key.len()).sum::<usize>();
    }
    Ok(bytes)
}

/// A value's parts, those of one depth at a time: without recursion, for that is what is bounded.
fn levels(value: &Value) -> impl Iterator<Item = Vec<&Value>> {
    std::iter::successors(Some(vec![value]), |level| Some(inner(level)).filter(|p| !p.is_empty()))
}

fn inner<'a>(level: &[&'a Value]) -> Vec<&'a Value> {
    let mut parts = Vec::new();
    for value in level {
        match value {
            Value::Array(values) => parts.extend(values),
            Value::Object(map) => parts.extend(map.values()),
            _ => {}
        }
    }
    parts
}

/// A compiled grammar, at its beginning.
#[derive(Clone)]
pub struct Grammar(Matcher);

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grammar(..)")
    }
}

impl Grammar {
    /// Follows an answer from its beginning.
    pub fn follow(&self) -> Followed {
        Followed(self.0.deep_clone())
    }
}

/// How far one answer has come in its grammar.
pub struct Followed(Matcher);

impl Followed {
    /// The tokens that may come next, a bit each, 32 to a word; where the answer is complete, those
    /// that end it.
    ///
    /// # Errors
    /// [`GrammarError::Follow`].
    pub fn mask(&mut self) -> Result<Vec<u32>, GrammarError> {
        let mask = self.0.compute_mask_or_eos().map_err(|error| follow(&error))?;
        Ok(mask.as_slice().to_vec())
    }

    /// Takes a token.
    ///
    /// # Errors
    /// [`GrammarError::Follow`] when it may not come.
    pub fn accept(&mut self, token: u32) -> Result<(), GrammarError> {
        self.0.consume_token(token).map_err(|error| follow(&error))
    }

    /// The same, to look ahead with.
    pub fn fork(&self) -> Followed {
        Followed(self.0.clone())
    }
}

/// An error's first line; the rest may quote what was generated.
fn follow(error: &impl fmt::Display) -> GrammarError {
    let text = error.to_string();
    GrammarError::Follow(match text.lines().next().unwrap_or_default() {
        "NoExtensionBias" => "no token may come".to_owned(),
        line => one_line(line),
    })
}

/// The beginning of an error, on one line.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(ERROR_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests;
