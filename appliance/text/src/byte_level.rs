//! Byte-level BPE: bytes are spelled in an alphabet of 256 printable characters, words are merged
//! by rank. The merging is the `tokenizers` crate's; this file gives it a vocabulary that it cannot
//! choke on and that holds no token which text must not become.

use models::vocabulary::{TokenKind, Vocabulary};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::tokenizer::Model;

use crate::error::TextError;
use crate::pretokenizer::PreTokenizer;

/// The rule for files that name none, as llama.cpp has it: files older than the key. It is right
/// for few models, so whoever loads one is told ([`crate::Tokenizer::assumed_pretokenizer`]).
pub(crate) const ASSUMED_PRE: &str = "default";

/// Words to ids.
pub(crate) struct ByteLevel {
    bpe: BPE,
    cut: PreTokenizer,
    alphabet: [char; 256],
    /// Whether the vocabulary has a token for each single byte.
    has_byte: [bool; 256],
}

impl ByteLevel {
    /// Builds the merger. `kinds` are the effective kinds of the tokens.
    pub(crate) fn new(
        vocabulary: &Vocabulary,
        kinds: &[TokenKind],
        merges: &[String],
        pre: Option<&str>,
    ) -> Result<ByteLevel, TextError> {
        let cut = PreTokenizer::named(pre.unwrap_or(ASSUMED_PRE))?;
        let vocab: Vocab = vocabulary
            .tokens
            .iter()
            .zip(kinds)
            .enumerate()
            .filter(|(_, (text, kind))| **kind == TokenKind::Normal && !text.is_empty())
            .map(|(id, (text, _))| (text.clone(), id as u32))
            .collect();
        let pairs = merge_pairs(vocabulary, &vocab, merges)?;
        let alphabet = alphabet();
        let mut has_byte = [false; 256];
        for (byte, has) in has_byte.iter_mut().enumerate() {
            *has = vocab.contains_key(alphabet[byte].encode_utf8(&mut [0; 4]) as &str);
        }
        // No cache: it would keep words of prompts for as long as the thread lives.
        let bpe = BPE::builder()
            .vocab_and_merges(vocab, pairs)
            .cache_capacity(0)
            .ignore_merges(cut.whole_words())
            .build()
            .map_err(|error| TextError::Vocabulary(error.to_string()))?;
        Ok(ByteLevel { bpe, cut, alphabet, has_byte })
    }

    /// Appends the ids of `text`. Bytes that the vocabulary has no token for (control characters,
    /// in small ones) are left out, as in `transformers` and llama.cpp: the model has no way to see
    /// them.
    pub(crate) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TextError> {
        let mut spelled = String::new();
        self.cut.cut(&self.cut.normalised(text), &mut |word: &str| {
            for byte in word.bytes() {
                match self.has_byte[byte as usize] {
                    true => spelled.push(self.alphabet[byte as usize]),
                    false => self.merge(&mut spelled, ids)?,
                }
            }
            self.merge(&mut spelled, ids)
        })
    }

    /// Appends the ids of what is spelled, and empties it.
    fn merge(&self, spelled: &mut String, ids: &mut Vec<u32>) -> Result<(), TextError> {
        let tokens =
            self.bpe.tokenize(spelled).map_err(|error| TextError::Tokenize(error.to_string()))?;
        ids.extend(tokens.iter().map(|token| token.id));
        spelled.clear();
        Ok(())
    }
}

/// The merges, as pairs of tokens that text may become. A merge that leads to or from another kind
/// of token is dropped; one that names no token at all is an error.
fn merge_pairs(
    vocabulary: &Vocabulary,
    vocab: &Vocab,
    merges: &[String],
) -> Result<Vec<(String, String)>, TextError> {
    let mut pairs = Vec::with_capacity(merges.len());
    let mut other_kinds: Option<std::collections::HashSet<&str>> = None;
    let mut joined = String::new();
    for (rank, merge) in merges.iter().enumerate() {
        let broken = |what: &str| TextError::Vocabulary(format!("merge {rank} {what}"));
        let first_bytes = merge.chars().next().map_or(0, char::len_utf8);
        let (left, right) = merge[first_bytes..]
            .find(' ')
            .map(|at| (&merge[..first_bytes + at], &merge[first_bytes + at + 1..]))
            .filter(|(left, right)| !left.is_empty() && !right.is_empty())
            .ok_or_else(|| broken("is no pair"))?;
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        if [left, right, &joined].iter().all(|text| vocab.contains_key(*text)) {
            pairs.push((left.to_owned(), right.to_owned()));
            continue;
        }
        let all =
            other_kinds.get_or_insert_with(|| vocabulary.tokens.iter().map(|t| &**t).collect());
        if ![left, right, &joined].iter().all(|text| all.contains(*text)) {
            return Err(broken("names a token that the vocabulary does not have"));
        }
    }
    Ok(pairs)
}

/// GPT-2's spelling of bytes: printable Latin-1 characters stand for themselves, the others for
/// U+0100 onwards.
pub(crate) fn alphabet() -> [char; 256] {
    let mut next = 0x100u32;
    std::array::from_fn(|byte| {
        let byte = byte as u32;
        let itself = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if itself { byte } else { next };
        next += u32::from(!itself);
        char::from_u32(code).expect("all below U+0200")
    })
}

/// The bytes that a token of the alphabet stands for; `None` if it has another character.
pub(crate) fn spelled_bytes(text: &str, bytes_of: &[Option<u8>; 0x200]) -> Option<Vec<u8>> {
    text.chars().map(|c| bytes_of.get(c as usize).copied().flatten()).collect()
}

/// The alphabet, the other way round.
pub(crate) fn bytes_of() -> [Option<u8>; 0x200] {
    let mut bytes = [None; 0x200];
    for (byte, c) in alphabet().into_iter().enumerate() {
        bytes[c as usize] = Some(byte as u8);
    }
    bytes
}
