//! The `tokenizer.json` of a WordPiece tokenizer, key by key.
//!
//! Read: BertNormalizer, BertPreTokenizer, WordPiece, and a post-processor that puts tokens before
//! and after a text. Left alone, because they belong to others' work: how batches are cut and
//! padded, how ids become text, how pairs of texts are joined.

use std::collections::HashMap;

use models::json::{Fields, Json, JsonError};
use models::safetensors::TOKENIZER;

use super::WordPiece;
use super::words::Words;

const FILE_BYTES_MAX: usize = 16 << 20;
const VOCABULARY_MAX: usize = 1 << 20;
const TOKEN_BYTES_MAX: usize = 256;
const WORD_CHARS_MAX: u64 = 1000;
/// Tokens before, and after, every text.
const ADDED_MAX: usize = 8;

type Vocabulary<'a> = HashMap<&'a str, u32>;

pub(super) fn read(bytes: &[u8]) -> Result<WordPiece, JsonError> {
    let json = Json::read(TOKENIZER, bytes, FILE_BYTES_MAX)?;
    let mut root = Fields::new(TOKENIZER, &json)?;
    root.only("version", &text("1.0"))?;
    root.ignore(&["truncation", "padding", "decoder"]);
    let words = normalizer(root.object("normalizer")?)?;
    let mut cut = root.object("pre_tokenizer")?;
    cut.only("type", &text("BertPreTokenizer"))?;
    cut.finish()?;
    let mut model = root.object("model")?;
    model.only("type", &text("WordPiece"))?;
    let vocabulary = vocabulary(&mut model)?;
    let specials = specials(&mut root, &vocabulary)?;
    let unknown = id(&mut model, "unk_token", &vocabulary)?;
    let prefix = model.text("continuing_subword_prefix")?;
    if prefix.is_empty() {
        return Err(model.error("continuing_subword_prefix", &text(prefix), "a mark"));
    }
    let word_chars_max = model.count("max_input_chars_per_word", 1, WORD_CHARS_MAX)?;
    model.finish()?;
    let (before, after) = post_processor(&mut root, &vocabulary)?;
    root.finish()?;
    let mut piece_bytes_max = 0;
    let (mut starts, mut continuations) = (HashMap::new(), HashMap::new());
    for (token, id) in &vocabulary {
        if specials.contains(id) {
            continue;
        }
        piece_bytes_max = piece_bytes_max.max(token.len());
        starts.insert((*token).into(), *id);
        if let Some(rest) = token.strip_prefix(prefix).filter(|rest| !rest.is_empty()) {
            continuations.insert(rest.into(), *id);
        }
    }
    let vocabulary_len = vocabulary.len();
    Ok(WordPiece {
        words,
        starts,
        continuations,
        piece_bytes_max,
        word_chars_max,
        unknown,
        before,
        after,
        vocabulary_len,
    })
}

fn text(text: &str) -> Json {
    Json::Text(text.to_owned())
}

fn normalizer(mut fields: Fields<'_>) -> Result<Words, JsonError> {
    fields.only("type", &text("BertNormalizer"))?;
    let mut flag = |key| match fields.flag(key)? {
        Some(flag) => Ok(flag),
        None => fields.required(key).map(|_| false),
    };
    let clean = flag("clean_text")?;
    let chinese_apart = flag("handle_chinese_chars")?;
    let lowercase = flag("lowercase")?;
    // What is put in lower case loses its accents, if the file does not say.
    let strip_accents = fields.flag("strip_accents")?.unwrap_or(lowercase);
    fields.finish()?;
    Ok(Words { clean, chinese_apart, strip_accents, lowercase })
}

/// Ids by token: every id below the count, each once.
fn vocabulary<'a>(model: &mut Fields<'a>) -> Result<Vocabulary<'a>, JsonError> {
    let value = model.required("vocab")?;
    let Json::Object(members) = value else {
        return Err(model.error("vocab", value, "an object"));
    };
    if members.is_empty() || members.len() > VOCABULARY_MAX {
        let expected = format!("1 to {VOCABULARY_MAX} tokens");
        return Err(model.error("vocab", value, &expected));
    }
    let mut taken = vec![false; members.len()];
    let mut ids = Vocabulary::new();
    for (token, id) in members {
        let free = match id {
            Json::Unsigned(id) => taken.get_mut(*id as usize).filter(|taken| !**taken),
            _ => None,
        };
        let (Some(free), Json::Unsigned(number), 1..=TOKEN_BYTES_MAX) = (free, id, token.len())
        else {
            let expected = format!(
                "an id below {}, each once, of a token of at most {TOKEN_BYTES_MAX} bytes",
                members.len()
            );
            return Err(model.error("vocab", id, &expected));
        };
        *free = true;
        ids.insert(token, *number as u32);
    }
    Ok(ids)
}

/// Takes the name of a token of the vocabulary.
fn id(fields: &mut Fields<'_>, key: &str, vocabulary: &Vocabulary<'_>) -> Result<u32, JsonError> {
    let token = fields.text(key)?;
    let unknown = || fields.error(key, &text(token), "a token of the vocabulary");
    vocabulary.get(token).copied().ok_or_else(unknown)
}

/// Ids of control tokens. Other added tokens would be found in text before it is cut.
fn specials(root: &mut Fields<'_>, vocabulary: &Vocabulary<'_>) -> Result<Vec<u32>, JsonError> {
    let Some(value) = root.take("added_tokens") else { return Ok(Vec::new()) };
    let Json::List(list) = value else {
        return Err(root.error("added_tokens", value, "a list"));
    };
    let mut ids = Vec::new();
    for mut token in root.each("added_tokens", list)? {
        token.only("special", &Json::Bool(true))?;
        // How control tokens are found in text: here they are not.
        token.ignore(&["single_word", "lstrip", "rstrip", "normalized"]);
        let listed = token.required("id")?;
        let id = id(&mut token, "content", vocabulary)?;
        if *listed != Json::Unsigned(u64::from(id)) {
            return Err(token.error("id", listed, &format!("{id}, as in the vocabulary")));
        }
        token.finish()?;
        ids.push(id);
    }
    Ok(ids)
}

/// Ids before and after a text.
fn post_processor(
    root: &mut Fields<'_>,
    vocabulary: &Vocabulary<'_>,
) -> Result<(Vec<u32>, Vec<u32>), JsonError> {
    let mut fields = root.object("post_processor")?;
    let kind = fields.required("type")?;
    let ids = if *kind == text("TemplateProcessing") {
        fields.ignore(&["pair"]);
        template(&mut fields, vocabulary)?
    } else if *kind == text("BertProcessing") {
        let before = pair(&mut fields, "cls", vocabulary)?;
        (vec![before], vec![pair(&mut fields, "sep", vocabulary)?])
    } else {
        return Err(fields.error("type", kind, "TemplateProcessing or BertProcessing"));
    };
    fields.finish()?;
    Ok(ids)
}

/// `["[CLS]", 101]`.
fn pair(fields: &mut Fields<'_>, key: &str, vocabulary: &Vocabulary<'_>) -> Result<u32, JsonError> {
    let value = fields.required(key)?;
    match value {
        Json::List(list) => match &list[..] {
            [Json::Text(token), Json::Unsigned(id)]
                if vocabulary.get(&**token).is_some_and(|known| u64::from(*known) == *id) =>
            {
                Ok(*id as u32)
            }
            _ => Err(fields.error(key, value, "a token of the vocabulary and its id")),
        },
        _ => Err(fields.error(key, value, "a token of the vocabulary and its id")),
    }
}

/// The template for one text: tokens, the text once, tokens, all of type 0.
fn template(
    fields: &mut Fields<'_>,
    vocabulary: &Vocabulary<'_>,
) -> Result<(Vec<u32>, Vec<u32>), JsonError> {
    let known = special_tokens(fields.object("special_tokens")?)?;
    let list = fields.list("single")?;
    let (mut before, mut after, mut texts) = (Vec::new(), Vec::new(), 0);
    for mut item in fields.each("single", list)? {
        let is_text = item.keys().contains(&"Sequence");
        let mut part = item.object(if is_text { "Sequence" } else { "SpecialToken" })?;
        item.finish()?;
        part.only("type_id", &Json::Unsigned(0))?;
        if is_text {
            part.only("id", &text("A"))?;
            texts += 1;
        } else {
            let name = part.text("id")?;
            let id = vocabulary.get(name).filter(|id| known.get(name) == Some(*id));
            let unlisted = || part.error("id", &text(name), "a special token of the vocabulary");
            let side = if texts == 0 { &mut before } else { &mut after };
            side.push(*id.ok_or_else(unlisted)?);
        }
        part.finish()?;
    }
    if texts != 1 || before.len() > ADDED_MAX || after.len() > ADDED_MAX {
        let expected = format!("one text, and at most {ADDED_MAX} tokens before and after it");
        return Err(fields.error("single", &Json::List(list.to_vec()), &expected));
    }
    Ok((before, after))
}

/// What the template's tokens stand for: one id each.
fn special_tokens(mut fields: Fields<'_>) -> Result<HashMap<&str, u32>, JsonError> {
    let mut known = HashMap::new();
    for name in fields.keys() {
        let mut token = fields.object(name)?;
        token.only("id", &text(name))?;
        token.ignore(&["tokens"]);
        let ids = token.list("ids")?;
        let [Json::Unsigned(id)] = ids else {
            return Err(token.error("ids", &Json::List(ids.to_vec()), "one id"));
        };
        // What does not fit is no token of the vocabulary either.
        known.insert(name, u32::try_from(*id).unwrap_or(u32::MAX));
        token.finish()?;
    }
    Ok(known)
}
