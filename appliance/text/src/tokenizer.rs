//! Text to ids, and ids to the bytes they print, by the model's own vocabulary.
//!
//! Plain text never becomes a control, unknown or user-defined token, however it is spelled: those
//! are not in the mergers' vocabularies at all. They come from a [`Prompt`]'s template parts only.
//! The one exception is user-defined tokens that mean nothing but themselves: white space, and
//! single characters.

use aho_corasick::{AhoCorasick, MatchKind};
use models::vocabulary::{Algorithm, TokenKind, Vocabulary};

use crate::byte_level::{self, ByteLevel};
use crate::decode::Decoder;
use crate::error::TextError;
use crate::prompt::Prompt;
use crate::sentence_piece::{self, SentencePiece};
use crate::specials;

/// Longest text that is tokenized, in bytes: several tokens per byte of any context in use.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// Tokens that end a turn wherever they are control or user-defined tokens, as published models
/// spell them.
const END_TEXTS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "<|eos|>",
];

enum Model {
    ByteLevel { words: Box<ByteLevel>, fixed: Option<(AhoCorasick, Vec<u32>)> },
    SentencePiece { pieces: Box<SentencePiece>, space_prefix: bool },
}

/// Text to ids.
pub struct Tokenizer {
    model: Model,
    /// What each token prints, one after the other.
    printed: Vec<u8>,
    printed_ends: Vec<usize>,
    token_bytes_max: usize,
    /// Spelling of tokens that print nothing.
    names: std::collections::HashMap<u32, String>,
    bos: Option<u32>,
    eos: Option<u32>,
    end_tokens: Vec<u32>,
    assumed_pretokenizer: Option<&'static str>,
}

impl Tokenizer {
    /// Builds the tokenizer that a vocabulary describes.
    ///
    /// # Errors
    /// An unknown pre-tokenizer, by name; a vocabulary that contradicts itself, with the place.
    pub fn new(vocabulary: &Vocabulary) -> Result<Tokenizer, TextError> {
        let count = vocabulary.tokens.len();
        if vocabulary.kinds.len() != count {
            return Err(TextError::Vocabulary("kinds and tokens differ in number".to_owned()));
        }
        let ids = [vocabulary.bos, vocabulary.eos, vocabulary.eot, vocabulary.unknown];
        if ids.into_iter().flatten().any(|id| id as usize >= count) {
            return Err(TextError::Vocabulary("a special id is outside of it".to_owned()));
        }
        let kinds = specials::effective_kinds(vocabulary);
        let model = match &vocabulary.algorithm {
            Algorithm::ByteLevelBpe { merges, pre } => Model::ByteLevel {
                words: Box::new(ByteLevel::new(vocabulary, &kinds, merges, pre.as_deref())?),
                fixed: harmless_tokens(vocabulary, &kinds)?,
            },
            Algorithm::SentencePiece { scores, space_prefix } => {
                if scores.len() != count {
                    return Err(TextError::Vocabulary("scores and tokens differ in number".into()));
                }
                let pieces = Box::new(SentencePiece::new(vocabulary, &kinds, scores)?);
                Model::SentencePiece { pieces, space_prefix: *space_prefix }
            }
        };
        let mut tokenizer = Tokenizer {
            model,
            printed: Vec::new(),
            printed_ends: Vec::with_capacity(count),
            token_bytes_max: 0,
            names: std::collections::HashMap::new(),
            bos: vocabulary.bos.filter(|_| vocabulary.add_bos),
            eos: vocabulary.eos.filter(|_| vocabulary.add_eos),
            end_tokens: end_tokens(vocabulary, &kinds),
            assumed_pretokenizer: match &vocabulary.algorithm {
                Algorithm::ByteLevelBpe { pre: None, .. } => Some(byte_level::ASSUMED_PRE),
                _ => None,
            },
        };
        tokenizer.record_printed(vocabulary, &kinds);
        Ok(tokenizer)
    }

    /// Ids of plain text: control and user-defined tokens in it stay text. Adds bos and eos as the
    /// vocabulary says.
    ///
    /// # Errors
    /// Text beyond the limit; a byte that the vocabulary has no token for.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>, TextError> {
        check_length(text.len())?;
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        ids.extend(self.bos);
        self.encode_part(text, &mut ids)?;
        ids.extend(self.eos);
        Ok(ids)
    }

    /// Ids of a rendered prompt: the control tokens that the template wrote become ids, those in
    /// request strings do not. No bos is added: a template that wants one writes it, as with
    /// `transformers.apply_chat_template(tokenize=True)`.
    ///
    /// # Errors
    /// As for [`Tokenizer::encode_text`].
    pub fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, TextError> {
        check_length(prompt.text_ref().len())?;
        let mut ids = Vec::with_capacity(prompt.text_ref().len() / 3 + 2);
        let mut done = 0;
        for (range, id) in prompt.specials() {
            self.encode_part(&prompt.text_ref()[done..range.start], &mut ids)?;
            ids.push(*id);
            done = range.end;
        }
        self.encode_part(&prompt.text_ref()[done..], &mut ids)?;
        Ok(ids)
    }

    /// The bytes that a token adds to the output (for `bytes` in log-probabilities): none for
    /// control tokens and for ids that do not exist.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        self.printed(id).to_vec()
    }

    /// A token as log-probabilities name it: its text, incomplete characters as U+FFFD; control
    /// tokens by their spelling.
    pub fn token_text(&self, id: u32) -> String {
        match self.names.get(&id) {
            Some(name) => name.clone(),
            None => String::from_utf8_lossy(self.printed(id)).into_owned(),
        }
    }

    /// The most bytes of a prompt that one token stands for, control tokens as spelled.
    pub fn token_bytes_max(&self) -> usize {
        self.token_bytes_max
    }

    /// Tokens that end a turn.
    pub fn end_tokens(&self) -> &[u32] {
        &self.end_tokens
    }

    /// A decoder for an answer. SentencePiece puts a space before the first word; it is dropped.
    pub fn decoder(&self) -> Decoder<'_> {
        let drop_space = matches!(self.model, Model::SentencePiece { space_prefix: true, .. });
        Decoder::new(self, drop_space)
    }

    /// A decoder for text that goes on where plain text ended: every space counts.
    pub fn continuing_decoder(&self) -> Decoder<'_> {
        Decoder::new(self, false)
    }

    /// The pre-tokenizer that was assumed, where the file should name one and does not. Words may
    /// be cut otherwise than the model learned them.
    pub fn assumed_pretokenizer(&self) -> Option<&'static str> {
        self.assumed_pretokenizer
    }

    /// Tokens in the vocabulary.
    pub fn vocabulary_len(&self) -> usize {
        self.printed_ends.len()
    }

    pub(crate) fn printed(&self, id: u32) -> &[u8] {
        let index = id as usize;
        let Some(&end) = self.printed_ends.get(index) else {
            return &[];
        };
        let start = if index == 0 { 0 } else { self.printed_ends[index - 1] };
        &self.printed[start..end]
    }

    /// Ids of one stretch of plain text.
    fn encode_part(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TextError> {
        if text.is_empty() {
            return Ok(());
        }
        match &self.model {
            Model::SentencePiece { pieces, space_prefix } => {
                let prefix = if *space_prefix { "▁" } else { "" };
                pieces.encode(&format!("{prefix}{}", text.replace(' ', "▁")), ids)
            }
            Model::ByteLevel { words, fixed } => {
                let mut done = 0;
                if let Some((finder, fixed_ids)) = fixed {
                    for found in finder.find_iter(text) {
                        words.encode(&text[done..found.start()], ids)?;
                        ids.push(fixed_ids[found.pattern().as_usize()]);
                        done = found.end();
                    }
                }
                words.encode(&text[done..], ids)
            }
        }
    }

    fn record_printed(&mut self, vocabulary: &Vocabulary, kinds: &[TokenKind]) {
        let byte_level = matches!(self.model, Model::ByteLevel { .. });
        let bytes_of = byte_level::bytes_of();
        for (id, (text, kind)) in vocabulary.tokens.iter().zip(kinds).enumerate() {
            match kind {
                TokenKind::Control | TokenKind::Unknown => {
                    self.names.insert(id as u32, text.clone());
                }
                TokenKind::Byte => match sentence_piece::byte_of(text) {
                    Some(byte) => self.printed.push(byte),
                    None => self.printed.extend_from_slice(text.as_bytes()),
                },
                TokenKind::Normal | TokenKind::Unused if byte_level => {
                    // A character outside of the alphabet stands for itself, as in llama.cpp.
                    match byte_level::spelled_bytes(text, &bytes_of) {
                        Some(bytes) => self.printed.extend_from_slice(&bytes),
                        None => self.printed.extend_from_slice(text.as_bytes()),
                    }
                }
                TokenKind::UserDefined if byte_level => {
                    self.printed.extend_from_slice(text.as_bytes());
                }
                TokenKind::Normal | TokenKind::Unused | TokenKind::UserDefined => {
                    self.printed.extend_from_slice(text.replace('▁', " ").as_bytes());
                }
            }
            self.printed_ends.push(self.printed.len());
            let name_bytes = self.names.get(&(id as u32)).map_or(0, String::len);
            let bytes = self.printed(id as u32).len().max(name_bytes);
            self.token_bytes_max = self.token_bytes_max.max(bytes);
        }
    }
}

fn check_length(bytes: usize) -> Result<(), TextError> {
    match bytes <= TEXT_BYTES_MAX {
        true => Ok(()),
        false => Err(TextError::TooLong { bytes, bytes_max: TEXT_BYTES_MAX }),
    }
}

/// User-defined tokens that any text may become.
fn harmless_tokens(
    vocabulary: &Vocabulary,
    kinds: &[TokenKind],
) -> Result<Option<(AhoCorasick, Vec<u32>)>, TextError> {
    let (texts, ids): (Vec<&str>, Vec<u32>) = vocabulary
        .tokens
        .iter()
        .zip(kinds)
        .enumerate()
        .filter(|(_, (text, kind))| {
            **kind == TokenKind::UserDefined && specials::is_harmless(text) && !text.contains('▁')
        })
        .map(|(id, (text, _))| (text.as_str(), id as u32))
        .unzip();
    if texts.is_empty() {
        return Ok(None);
    }
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(texts)
        .map(|finder| Some((finder, ids)))
        .map_err(|error| TextError::Vocabulary(format!("user-defined tokens: {error}")))
}

fn end_tokens(vocabulary: &Vocabulary, kinds: &[TokenKind]) -> Vec<u32> {
    let mut ends: Vec<u32> = [vocabulary.eos, vocabulary.eot].into_iter().flatten().collect();
    for (id, (text, kind)) in vocabulary.tokens.iter().zip(kinds).enumerate() {
        let special = matches!(kind, TokenKind::Control | TokenKind::UserDefined);
        if special && END_TEXTS.contains(&text.as_str()) && vocabulary.bos != Some(id as u32) {
            ends.push(id as u32);
        }
    }
    // Harmony ends a message with `<|end|>` and a turn with `<|return|>` or `<|call|>`.
    let text = |id: &u32| vocabulary.tokens[*id as usize].as_str();
    if ends.iter().any(|id| text(id) == "<|return|>")
        && ends.iter().any(|id| text(id) == "<|call|>")
    {
        ends.retain(|id| text(id) != "<|end|>");
    }
    ends.sort_unstable();
    ends.dedup();
    ends
}
