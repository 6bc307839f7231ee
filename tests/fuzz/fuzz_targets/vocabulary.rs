//! Any vocabulary of a model file, and text through it: what is taken tokenizes and decodes, or
//! says why not.
//!
//! The first bytes pick the algorithm, the rest is cut at zero bytes: a kind and a text per token,
//! up to an empty token; then merges, up to an empty one; then the text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use models::vocabulary::{Algorithm, TokenKind, Vocabulary};
use text::Tokenizer;

const KINDS: [TokenKind; 6] = [
    TokenKind::Normal,
    TokenKind::Unknown,
    TokenKind::Control,
    TokenKind::UserDefined,
    TokenKind::Unused,
    TokenKind::Byte,
];

/// The longest tokens that a vocabulary has once it was read from a file.
const TOKEN_BYTES_MAX: usize = 256;

fuzz_target!(|bytes: &[u8]| {
    let [algorithm, flags, bytes @ ..] = bytes else {
        return;
    };
    let mut parts = bytes.split(|&byte| byte == 0);
    let (mut tokens, mut kinds) = (Vec::new(), Vec::new());
    for part in parts.by_ref() {
        let [kind, text @ ..] = part else {
            break;
        };
        kinds.push(KINDS[*kind as usize % KINDS.len()]);
        let mut text = String::from_utf8_lossy(text).into_owned();
        text.truncate(text.floor_char_boundary(TOKEN_BYTES_MAX));
        tokens.push(text);
    }
    if tokens.is_empty() {
        return;
    }
    let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    let merges = parts.by_ref().take_while(|part| !part.is_empty()).map(text).collect();
    let names = text::supported_pretokenizers();
    let algorithm = match algorithm {
        0..128 => Algorithm::SentencePiece {
            scores: tokens.iter().map(|text| -(text.len() as f32)).collect(),
            space_prefix: flags & 1 != 0,
        },
        _ => Algorithm::ByteLevelBpe {
            merges,
            pre: names.get(*flags as usize % names.len()).map(|name| (*name).to_owned()),
        },
    };
    let id = |bit: u8| (flags & bit != 0).then_some(tokens.len() as u32 - 1);
    let vocabulary = Vocabulary {
        bos: id(2),
        eos: id(4),
        eot: id(8),
        unknown: id(16),
        algorithm,
        tokens: tokens.clone(),
        kinds,
        add_bos: flags & 32 != 0,
        add_eos: flags & 64 != 0,
        chat_template: None,
        named_templates: Default::default(),
    };
    let Ok(tokenizer) = Tokenizer::new(&vocabulary) else {
        return;
    };
    for part in parts {
        let Ok(ids) = tokenizer.encode_text(&text(part)) else {
            continue;
        };
        let mut decoder = tokenizer.decoder();
        for id in ids {
            assert!((id as usize) < tokens.len(), "id {id} of {}", tokens.len());
            decoder.push(id);
        }
        decoder.finish();
    }
});
