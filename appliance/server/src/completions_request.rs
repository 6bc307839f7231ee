//! A (legacy) completion request, parsed.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::json::{Fields, missing, wrong_type};
use crate::parameters::{Parameters, token_ids, tokens_max};

const PROMPTS_MAX: usize = 64;
const TOKENS_DEFAULT: u32 = 16;
const LOGPROBS_MAX: i64 = 5;

/// One prompt, as text or as tokens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

/// A completion request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CompletionRequest {
    pub parameters: Parameters,
    pub prompts: Vec<Prompt>,
    pub tokens_max: u32,
    /// Alternatives per token, where log-probabilities are wanted.
    pub logprobs: Option<u8>,
}

impl CompletionRequest {
    /// Parses a body.
    pub fn parse(body: Value) -> Result<CompletionRequest, ApiError> {
        let mut fields = Fields::of_body(body)?;
        let parameters = Parameters::take(&mut fields)?;
        let prompts = prompts(fields.take("prompt").ok_or_else(|| missing("prompt"))?)?;
        let tokens_max = tokens_max(&mut fields, "max_tokens")?.unwrap_or(TOKENS_DEFAULT);
        let logprobs = fields.integer("logprobs", 0..=LOGPROBS_MAX)?.map(|top| top as u8);
        fields.only("echo", &[json!(false)])?;
        fields.only("best_of", &[json!(parameters.choices)])?;
        fields.only("suffix", &[json!("")])?;
        fields.finish(&[])?;
        Ok(CompletionRequest { parameters, prompts, tokens_max, logprobs })
    }
}

fn prompts(value: Value) -> Result<Vec<Prompt>, ApiError> {
    let expected = "a string, an array of strings, of token ids, or of arrays of token ids";
    let values = match value {
        Value::String(text) => return Ok(vec![Prompt::Text(text)]),
        Value::Array(values) => values,
        other => return Err(wrong_type("prompt", expected, &other)),
    };
    if values.is_empty() {
        return Err(ApiError::param("prompt", "'prompt' is empty."));
    }
    if values[0].is_number() {
        return Ok(vec![Prompt::Tokens(token_ids("prompt", &values)?)]);
    }
    if values.len() > PROMPTS_MAX {
        let message = format!("'prompt' has {} prompts, at most {PROMPTS_MAX} fit.", values.len());
        return Err(ApiError::param("prompt", message));
    }
    let prompt = |value| match value {
        Value::String(text) => Ok(Prompt::Text(text)),
        Value::Array(ids) => Ok(Prompt::Tokens(token_ids("prompt", &ids)?)),
        other => Err(wrong_type("prompt", expected, &other)),
    };
    values.into_iter().map(prompt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(prompt: Value) -> Result<Vec<Prompt>, ApiError> {
        let body = json!({"model": "m", "prompt": prompt});
        Ok(CompletionRequest::parse(body)?.prompts)
    }

    #[test]
    fn all_four_forms_of_a_prompt_are_read() {
        let text = |text: &str| Prompt::Text(text.to_owned());
        assert_eq!(parse(json!("a")).unwrap(), [text("a")]);
        assert_eq!(parse(json!(["a", "b"])).unwrap(), [text("a"), text("b")]);
        assert_eq!(parse(json!([1, 2])).unwrap(), [Prompt::Tokens(vec![1, 2])]);
        let both = [Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2])];
        assert_eq!(parse(json!([[1], [2]])).unwrap(), both);
    }

    #[test]
    fn other_prompts_and_parameters_are_refused_by_name() {
        for prompt in [json!(1), json!({}), json!([]), json!([1, "a"]), json!([-1]), json!([[1.5]])]
        {
            assert_eq!(
                parse(prompt.clone()).unwrap_err().param.as_deref(),
                Some("prompt"),
                "{prompt}"
            );
        }
        for (field, value) in [
            ("echo", json!(true)),
            ("best_of", json!(3)),
            ("suffix", json!("x")),
            ("logprobs", json!(6)),
            ("max_tokens", json!(0)),
            ("made_up", json!(1)),
        ] {
            let body = json!({"model": "m", "prompt": "p", field: value});
            let error = CompletionRequest::parse(body).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(field));
        }
    }
}
