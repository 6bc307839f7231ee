//! Texts of a request, in the four forms that OpenAI's older endpoints take.

use serde_json::Value;

use crate::error::ApiError;
use crate::json::{Fields, missing, wrong_type};
use crate::parameters::token_ids;

/// One prompt, as text or as tokens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

impl Prompt {
    /// There is nothing in it.
    pub fn is_empty(&self) -> bool {
        match self {
            Prompt::Text(text) => text.is_empty(),
            Prompt::Tokens(ids) => ids.is_empty(),
        }
    }
}

/// Takes the prompts of a field, at most `len_max` of them.
pub(crate) fn take(
    fields: &mut Fields,
    field: &str,
    len_max: usize,
) -> Result<Vec<Prompt>, ApiError> {
    let expected = "a string, an array of strings, of token ids, or of arrays of token ids";
    let value = fields.take(field).ok_or_else(|| missing(field))?;
    let values = match value {
        Value::String(text) => return Ok(vec![Prompt::Text(text)]),
        Value::Array(values) => values,
        other => return Err(wrong_type(field, expected, &other)),
    };
    if values.is_empty() {
        return Err(ApiError::param(field, format!("'{field}' is empty.")));
    }
    if values[0].is_number() {
        return Ok(vec![Prompt::Tokens(token_ids(field, &values)?)]);
    }
    if values.len() > len_max {
        let message = format!("'{field}' has {} entries, at most {len_max} fit.", values.len());
        return Err(ApiError::param(field, message));
    }
    let prompt = |value| match value {
        Value::String(text) => Ok(Prompt::Text(text)),
        Value::Array(ids) => Ok(Prompt::Tokens(token_ids(field, &ids)?)),
        other => Err(wrong_type(field, expected, &other)),
    };
    values.into_iter().map(prompt).collect()
}
