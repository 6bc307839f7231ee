//! The tokens that only a template may write: control, unknown and user-defined ones, found in
//! text by their spelling, longest first.
//!
//! A user-defined token that is white space alone, or a single character, means nothing but itself;
//! it is not one of these, and is found in any text (Gemma has runs of spaces, DeepSeek has `ö`).

use std::collections::HashMap;
use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use models::vocabulary::{TokenKind, Vocabulary};

use crate::error::TextError;

/// Tokens by their spelling.
pub(crate) struct Specials {
    texts: Vec<String>,
    ids: Vec<u32>,
    longest: AhoCorasick,
    overlapping: AhoCorasick,
}

impl Specials {
    /// The special tokens of a vocabulary.
    pub(crate) fn new(vocabulary: &Vocabulary) -> Result<Specials, TextError> {
        let kinds = effective_kinds(vocabulary);
        let mut by_text = HashMap::new();
        for (id, (text, kind)) in vocabulary.tokens.iter().zip(&kinds).enumerate() {
            let special = match kind {
                TokenKind::Control | TokenKind::Unknown => true,
                TokenKind::UserDefined => !is_harmless(text),
                TokenKind::Normal | TokenKind::Unused | TokenKind::Byte => false,
            };
            if special && !text.is_empty() {
                by_text.entry(text.clone()).or_insert(id as u32);
            }
        }
        let mut pairs: Vec<(String, u32)> = by_text.into_iter().collect();
        pairs.sort();
        let (texts, ids): (Vec<String>, Vec<u32>) = pairs.into_iter().unzip();
        let build = |kind| {
            AhoCorasick::builder()
                .match_kind(kind)
                .build(&texts)
                .map_err(|error| TextError::Vocabulary(format!("special tokens: {error}")))
        };
        let longest = build(MatchKind::LeftmostLongest)?;
        let overlapping = build(MatchKind::Standard)?;
        Ok(Specials { texts, ids, longest, overlapping })
    }

    /// Their spellings.
    pub(crate) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Where special tokens stand in `text`, left to right, the longest at each place.
    pub(crate) fn find(&self, text: &str) -> Vec<(Range<usize>, u32)> {
        self.longest
            .find_iter(text)
            .map(|found| (found.range(), self.ids[found.pattern().as_usize()]))
            .collect()
    }

    /// Every place where a special token is spelled, overlapping ones too, sorted by start.
    pub(crate) fn find_overlapping(&self, text: &str) -> Vec<Range<usize>> {
        let mut found: Vec<_> =
            self.overlapping.find_overlapping_iter(text).map(|found| found.range()).collect();
        found.sort_by_key(|range| (range.start, range.end));
        found
    }

    /// Whether any special token is spelled in `text`.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        self.overlapping.is_match(text)
    }
}

/// Kinds, with those that the vocabulary's own ids contradict put right: files without kinds have
/// every token normal, the one that ends a turn among them.
pub(crate) fn effective_kinds(vocabulary: &Vocabulary) -> Vec<TokenKind> {
    let mut kinds = vocabulary.kinds.clone();
    for id in [vocabulary.bos, vocabulary.eos, vocabulary.eot].into_iter().flatten() {
        if let Some(kind) = kinds.get_mut(id as usize)
            && *kind == TokenKind::Normal
        {
            *kind = TokenKind::Control;
        }
    }
    kinds
}

/// Whether a user-defined token may come from any text (`▁` is SentencePiece's space).
pub(crate) fn is_harmless(text: &str) -> bool {
    let white = text.chars().all(|c| c.is_whitespace() || c == '▁');
    !text.is_empty() && (white || text.chars().nth(1).is_none())
}
