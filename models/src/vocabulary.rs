//! The vocabulary as a model file carries it: token texts and kinds, scores, merges, special
//! ids, pre-tokenizer name and chat template. No tokenizing happens here.

use std::collections::BTreeMap;

use crate::gguf::{Header, Value};

/// What a token is for (`tokenizer.ggml.token_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Ordinary text.
    Normal,
    /// The unknown token.
    Unknown,
    /// A control token: never printed, never produced from text.
    Control,
    /// Added by the model's makers: one token, printed.
    UserDefined,
    /// A hole in the vocabulary.
    Unused,
    /// One raw byte (`<0x0A>`).
    Byte,
}

/// The algorithm that made the vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub enum Algorithm {
    /// Byte-level BPE (`gpt2`): merges in order of rank, each "left right".
    ByteLevelBpe {
        /// `left right` pairs, best first.
        merges: Vec<String>,
        /// The pre-tokenizer's name (`tokenizer.ggml.pre`), absent in old files.
        pre: Option<String>,
    },
    /// SentencePiece BPE (`llama`): pairs merge by the score of the result.
    SentencePiece {
        /// One score per token.
        scores: Vec<f32>,
        /// Whether a space is put before the text.
        space_prefix: bool,
    },
}

/// A vocabulary, checked for shape: every list has one entry per token, every id exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    /// How text becomes tokens.
    pub algorithm: Algorithm,
    /// Token texts by id (byte-level alphabet or SentencePiece pieces).
    pub tokens: Vec<String>,
    /// Token kinds by id.
    pub kinds: Vec<TokenKind>,
    /// Beginning of sequence.
    pub bos: Option<u32>,
    /// End of sequence.
    pub eos: Option<u32>,
    /// End of turn, where it is another token.
    pub eot: Option<u32>,
    /// Stand-in for unknown text.
    pub unknown: Option<u32>,
    /// Whether plain text gets `bos` put before it.
    pub add_bos: bool,
    /// Whether plain text gets `eos` put after it.
    pub add_eos: bool,
    /// The chat template (Jinja), where the file has one.
    pub chat_template: Option<String>,
    /// Further chat templates by name (`tool_use` for conversations with tools).
    pub named_templates: BTreeMap<String, String>,
}

/// Why a vocabulary cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VocabularyError {
    /// A key that must be there is missing or has another type.
    #[error("metadata key '{0}' is missing or has the wrong type")]
    Key(&'static str),
    /// The algorithm is none of those we read.
    #[error("tokenizer model '{0}' is not supported (supported: gpt2, llama)")]
    Algorithm(String),
    /// A list does not have one entry per token.
    #[error("'{key}' has {actual} entries, the vocabulary has {expected} tokens")]
    Length {
        /// The key.
        key: &'static str,
        /// Tokens.
        expected: usize,
        /// Entries.
        actual: usize,
    },
    /// An id points outside of the vocabulary.
    #[error("'{key}' names token {id}, the vocabulary has {tokens}")]
    Id {
        /// The key.
        key: &'static str,
        /// The id.
        id: u64,
        /// Tokens.
        tokens: usize,
    },
    /// A token kind that the format does not have.
    #[error("token {token} has kind {kind}, the format has 1 to 6")]
    Kind {
        /// The token.
        token: usize,
        /// Its kind.
        kind: i64,
    },
    /// A byte token that names no byte.
    #[error("token {token} is of kind byte and reads {text:?}, expected '<0x00>' to '<0xFF>'")]
    Byte {
        /// The token.
        token: usize,
        /// Its text, at most 16 characters of it.
        text: String,
    },
    /// A token is longer than any that a model was trained with.
    #[error("token {token} has {bytes} bytes, at most {bytes_max} are read for its kind")]
    TokenBytes {
        /// The token.
        token: usize,
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The special tokens are longer together than any model's.
    #[error("the special tokens have {bytes} bytes together, at most {bytes_max} are read")]
    SpecialBytes {
        /// Their length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

/// Longest control, unknown or user-defined token, in bytes. Text is searched for them all.
const SPECIAL_BYTES_MAX: usize = 256;
/// Longest they may be together.
const SPECIAL_BYTES_SUM_MAX: usize = 512 << 10;
/// Longest piece of SentencePiece, in bytes: merging looks up texts as long as the longest one.
const PIECE_BYTES_MAX: usize = 512;

impl Vocabulary {
    /// Reads the vocabulary out of a verified header.
    ///
    /// # Errors
    /// A [`VocabularyError`] that names the key at fault.
    pub fn from_header(header: &Header) -> Result<Vocabulary, VocabularyError> {
        let tokens = texts(header, TOKENS)?.to_vec();
        let count = tokens.len();
        let kinds = match header.metadata.get(KINDS) {
            None => vec![TokenKind::Normal; count],
            Some(Value::Integers(kinds)) => {
                check_len(KINDS, count, kinds.len())?;
                kinds.iter().enumerate().map(|(i, &k)| kind(i, k)).collect::<Result<_, _>>()?
            }
            Some(_) => return Err(VocabularyError::Key(KINDS)),
        };
        check_bytes(&tokens, &kinds)?;
        let algorithm = algorithm(header, count)?;
        check_lengths(&tokens, &kinds, &algorithm)?;
        let add_bos = flag(header, "tokenizer.ggml.add_bos_token")?;
        Ok(Vocabulary {
            bos: id(header, "tokenizer.ggml.bos_token_id", count)?,
            eos: id(header, "tokenizer.ggml.eos_token_id", count)?,
            eot: id(header, "tokenizer.ggml.eot_token_id", count)?,
            unknown: id(header, "tokenizer.ggml.unknown_token_id", count)?,
            add_bos: add_bos.unwrap_or_else(|| adds_bos(&algorithm)),
            add_eos: flag(header, "tokenizer.ggml.add_eos_token")?.unwrap_or(false),
            chat_template: text(header, TEMPLATE)?.map(str::to_owned),
            named_templates: named_templates(header),
            algorithm,
            tokens,
            kinds,
        })
    }
}

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const TEMPLATE: &str = "tokenizer.chat_template";

/// Pre-tokenizers whose models begin a text with `bos` where the file does not say, as llama.cpp
/// has it (`src/llama-vocab.cpp`).
const PRE_WITH_BOS: &[&str] = &[
    "llama3",
    "llama-v3",
    "llama-bpe",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "tekken",
];

fn adds_bos(algorithm: &Algorithm) -> bool {
    match algorithm {
        Algorithm::SentencePiece { .. } => true,
        Algorithm::ByteLevelBpe { pre, .. } => {
            pre.as_deref().is_some_and(|pre| PRE_WITH_BOS.contains(&pre))
        }
    }
}

/// `tokenizer.chat_template.NAME`.
fn named_templates(header: &Header) -> BTreeMap<String, String> {
    let named = header.metadata.iter().filter_map(|(key, value)| {
        let name = key.strip_prefix(TEMPLATE)?.strip_prefix('.')?;
        match value {
            Value::Text(source) => Some((name.to_owned(), source.clone())),
            _ => None,
        }
    });
    named.collect()
}

fn algorithm(header: &Header, count: usize) -> Result<Algorithm, VocabularyError> {
    match text(header, MODEL)?.ok_or(VocabularyError::Key(MODEL))? {
        "gpt2" => Ok(Algorithm::ByteLevelBpe {
            merges: texts(header, MERGES)?.to_vec(),
            pre: text(header, "tokenizer.ggml.pre")?.map(str::to_owned),
        }),
        "llama" => {
            let Some(Value::Floats(scores)) = header.metadata.get(SCORES) else {
                return Err(VocabularyError::Key(SCORES));
            };
            check_len(SCORES, count, scores.len())?;
            let space_prefix = flag(header, "tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
            Ok(Algorithm::SentencePiece { scores: scores.clone(), space_prefix })
        }
        other => Err(VocabularyError::Algorithm(other.to_owned())),
    }
}

fn check_len(key: &'static str, expected: usize, actual: usize) -> Result<(), VocabularyError> {
    if expected == actual {
        return Ok(());
    }
    Err(VocabularyError::Length { key, expected, actual })
}

fn check_lengths(
    tokens: &[String],
    kinds: &[TokenKind],
    algorithm: &Algorithm,
) -> Result<(), VocabularyError> {
    let piece_bytes_max = match algorithm {
        Algorithm::SentencePiece { .. } => PIECE_BYTES_MAX,
        Algorithm::ByteLevelBpe { .. } => usize::MAX,
    };
    let mut special_bytes = 0;
    for (token, (text, kind)) in tokens.iter().zip(kinds).enumerate() {
        let special = match kind {
            TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined => true,
            TokenKind::Normal | TokenKind::Unused | TokenKind::Byte => false,
        };
        let bytes_max = if special { SPECIAL_BYTES_MAX } else { piece_bytes_max };
        if text.len() > bytes_max {
            return Err(VocabularyError::TokenBytes { token, bytes: text.len(), bytes_max });
        }
        special_bytes += if special { text.len() } else { 0 };
    }
    match special_bytes <= SPECIAL_BYTES_SUM_MAX {
        true => Ok(()),
        false => Err(VocabularyError::SpecialBytes {
            bytes: special_bytes,
            bytes_max: SPECIAL_BYTES_SUM_MAX,
        }),
    }
}

/// A token of kind byte is `<0xHH>`: two hexadecimal digits, in either case.
fn check_bytes(tokens: &[String], kinds: &[TokenKind]) -> Result<(), VocabularyError> {
    let bytes = kinds.iter().zip(tokens).enumerate().filter(|(_, (k, _))| **k == TokenKind::Byte);
    for (token, (_, text)) in bytes {
        let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        let is_byte =
            |digits: &str| digits.len() == 2 && digits.bytes().all(|d| d.is_ascii_hexdigit());
        if !digits.is_some_and(is_byte) {
            return Err(VocabularyError::Byte { token, text: text.chars().take(16).collect() });
        }
    }
    Ok(())
}

fn kind(token: usize, kind: i64) -> Result<TokenKind, VocabularyError> {
    Ok(match kind {
        1 => TokenKind::Normal,
        2 => TokenKind::Unknown,
        3 => TokenKind::Control,
        4 => TokenKind::UserDefined,
        5 => TokenKind::Unused,
        6 => TokenKind::Byte,
        _ => return Err(VocabularyError::Kind { token, kind }),
    })
}

fn text<'a>(header: &'a Header, key: &'static str) -> Result<Option<&'a str>, VocabularyError> {
    match header.metadata.get(key) {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(_) => Err(VocabularyError::Key(key)),
    }
}

fn texts<'a>(header: &'a Header, key: &'static str) -> Result<&'a [String], VocabularyError> {
    match header.metadata.get(key) {
        Some(Value::Texts(texts)) => Ok(texts),
        _ => Err(VocabularyError::Key(key)),
    }
}

fn flag(header: &Header, key: &'static str) -> Result<Option<bool>, VocabularyError> {
    match header.metadata.get(key) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(VocabularyError::Key(key)),
    }
}

fn id(header: &Header, key: &'static str, tokens: usize) -> Result<Option<u32>, VocabularyError> {
    let id = match header.metadata.get(key) {
        None => return Ok(None),
        Some(Value::Unsigned(id)) => *id,
        Some(_) => return Err(VocabularyError::Key(key)),
    };
    match u32::try_from(id) {
        Ok(small) if (small as usize) < tokens => Ok(Some(small)),
        _ => Err(VocabularyError::Id { key, id, tokens }),
    }
}
