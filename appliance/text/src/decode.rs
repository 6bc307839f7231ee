//! Ids to text, a token at a time: a character is given out when its last byte is there.

use crate::tokenizer::Tokenizer;

/// Turns a stream of ids into whole characters. Costs the length of the token, whatever came
/// before; the concatenation of all outputs is the lossy decoding of all bytes.
pub struct Decoder<'a> {
    tokenizer: &'a Tokenizer,
    /// Bytes of a character that is not whole yet: three at most.
    pending: Vec<u8>,
    /// The next byte, if it is a space, is SentencePiece's.
    drop_space: bool,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer, drop_space: bool) -> Decoder<'a> {
        Decoder { tokenizer, pending: Vec::new(), drop_space }
    }

    /// Text that became whole with this token; empty while a character is incomplete. Control
    /// tokens and ids that do not exist yield nothing.
    pub fn push(&mut self, id: u32) -> String {
        let mut bytes = self.tokenizer.printed(id);
        if bytes.is_empty() {
            return String::new();
        }
        if std::mem::take(&mut self.drop_space) {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut used = 0;
        while used < self.pending.len() {
            match std::str::from_utf8(&self.pending[used..]) {
                Ok(valid) => {
                    text.push_str(valid);
                    used = self.pending.len();
                }
                Err(error) => {
                    let valid = &self.pending[used..used + error.valid_up_to()];
                    text.push_str(&String::from_utf8_lossy(valid));
                    used += error.valid_up_to();
                    let Some(broken_bytes) = error.error_len() else {
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    used += broken_bytes;
                }
            }
        }
        self.pending.drain(..used);
        text
    }

    /// What is left, incomplete characters as U+FFFD.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}
