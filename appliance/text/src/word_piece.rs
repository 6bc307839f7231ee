//! WordPiece, BERT's tokenizer, out of a `tokenizer.json`: text to the ids of an encoder.
//!
//! The file is read strictly: what it asks for and this does not do is refused by name. Truncation
//! and padding in it are recipes for batches; whoever builds sequences decides both. Plain text
//! never becomes a control token. Source: 1810.04805 and the `tokenizers` library.

mod file;
mod words;

use std::collections::HashMap;

use crate::error::TextError;
use words::Words;

/// Longest text that is tokenized, in bytes: many times what an encoder can look at.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// Text to the ids of an encoder.
pub struct WordPiece {
    words: Words,
    /// Tokens that text may become, by their spelling: those that begin a word, and the others.
    starts: HashMap<Box<str>, u32>,
    continuations: HashMap<Box<str>, u32>,
    /// Bytes of the longest token.
    piece_bytes_max: usize,
    /// Longest word that is cut into pieces, in characters.
    word_chars_max: usize,
    unknown: u32,
    /// Ids before and after every text.
    before: Vec<u32>,
    after: Vec<u32>,
    vocabulary_len: usize,
}

impl WordPiece {
    /// Builds the tokenizer that the bytes of a `tokenizer.json` describe.
    ///
    /// # Errors
    /// [`TextError::TokenizerFile`] with the key at fault.
    pub fn new(tokenizer_json: &[u8]) -> Result<WordPiece, TextError> {
        file::read(tokenizer_json).map_err(|error| TextError::TokenizerFile(error.to_string()))
    }

    /// Ids of a text, between those that stand before and after every text. Longer ones than the
    /// model can look at are for the caller to refuse or to cut ([`WordPiece::truncate`]).
    ///
    /// # Errors
    /// [`TextError::TooLong`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(TextError::TooLong { bytes: text.len(), bytes_max: TEXT_BYTES_MAX });
        }
        let mut ids = self.before.clone();
        self.words.cut(text, &mut |word| self.pieces(word, &mut ids));
        ids.extend(&self.after);
        Ok(ids)
    }

    /// Cuts ids of [`WordPiece::encode`] to at most `len_max`, what stands after every text kept.
    pub fn truncate(&self, ids: &mut Vec<u32>, len_max: usize) {
        if ids.len() > len_max {
            ids.truncate(len_max.saturating_sub(self.after.len()));
            ids.extend(&self.after);
        }
    }

    /// Ids that every text has beside its own.
    pub fn added_len(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// Tokens in the vocabulary.
    pub fn vocabulary_len(&self) -> usize {
        self.vocabulary_len
    }

    /// The longest piece first, again and again; a word that pieces do not fill is unknown whole.
    fn pieces(&self, word: &str, ids: &mut Vec<u32>) {
        let begun = ids.len();
        if word.chars().nth(self.word_chars_max).is_some() {
            return ids.push(self.unknown);
        }
        let (mut left, mut pieces) = (word, &self.starts);
        while !left.is_empty() {
            let mut end = left.floor_char_boundary(self.piece_bytes_max);
            let id = loop {
                match pieces.get(&left[..end]) {
                    Some(id) => break *id,
                    None => end = left.floor_char_boundary(end.saturating_sub(1)),
                }
                if end == 0 {
                    ids.truncate(begun);
                    return ids.push(self.unknown);
                }
            };
            ids.push(id);
            (left, pieces) = (&left[end..], &self.continuations);
        }
    }
}
