//! A (legacy) completion request, parsed.

use serde_json::{Value, json};
use text::GrammarSource;

use crate::error::ApiError;
use crate::grammar;
use crate::json::Fields;
use crate::parameters::{CHOICES_MAX, Parameters, tokens_max};
use crate::prompt::{self, Prompt};

const PROMPTS_MAX: usize = 64;
const TOKENS_DEFAULT: u32 = 16;
const LOGPROBS_MAX: i64 = 5;

/// A completion request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CompletionRequest {
    /// Its choices are those that are generated (`best_of`).
    pub parameters: Parameters,
    pub prompts: Vec<Prompt>,
    /// 0 where the echoed prompt is all that is wanted.
    pub tokens_max: u32,
    /// The answer begins with the prompt.
    pub echo: bool,
    /// Of the choices that are generated, how many are answered: the likeliest.
    pub kept: u32,
    /// What answers must be.
    pub grammar: Option<GrammarSource>,
    /// Alternatives per token, where log-probabilities are wanted.
    pub logprobs: Option<u8>,
}

impl CompletionRequest {
    /// Parses a body.
    pub fn parse(body: Value) -> Result<CompletionRequest, ApiError> {
        let mut fields = Fields::of_body(body)?;
        let mut parameters = Parameters::take(&mut fields)?;
        let prompts = prompt::take(&mut fields, "prompt", PROMPTS_MAX)?;
        let echo = fields.boolean("echo")?.unwrap_or(false);
        let least = if echo { 0 } else { 1 };
        let tokens_max = tokens_max(&mut fields, "max_tokens", least)?.unwrap_or(TOKENS_DEFAULT);
        let logprobs = fields.integer("logprobs", 0..=LOGPROBS_MAX)?.map(|top| top as u8);
        if echo && logprobs.is_some() && parameters.choices > 1 {
            let message = "'echo' with 'logprobs' scores the prompt for one choice; leave out 'n'.";
            return Err(ApiError::param("n", message));
        }
        let grammar = grammar::take(&mut fields)?;
        let kept = parameters.choices;
        parameters.choices = best_of(&mut fields, &parameters, echo)?;
        fields.only("suffix", &[json!("")])?;
        fields.finish(&[])?;
        Ok(CompletionRequest { parameters, prompts, tokens_max, echo, kept, grammar, logprobs })
    }
}

/// How many choices are generated, of which the likeliest are answered.
fn best_of(fields: &mut Fields, parameters: &Parameters, echo: bool) -> Result<u32, ApiError> {
    let kept = parameters.choices;
    let Some(best_of) = fields.integer("best_of", 1..=CHOICES_MAX)? else { return Ok(kept) };
    let best_of = best_of as u32;
    let refuse = |message: &str| Err(ApiError::param("best_of", message));
    match best_of > kept {
        _ if best_of < kept => refuse("'best_of' must not be less than 'n'."),
        true if parameters.stream.is_some() => {
            refuse("A streamed answer cannot wait for the best: leave out 'best_of' or 'stream'.")
        }
        true if echo => refuse("'best_of' above 'n' and 'echo' do not go together; leave one out."),
        _ => Ok(best_of),
    }
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
            ("echo", json!(1)),
            ("best_of", json!(9)),
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

    #[test]
    fn best_of_is_at_least_n_and_neither_streamed_nor_echoed() {
        let parse = |more: Value| {
            let mut body = json!({"model": "m", "prompt": "p", "n": 2, "best_of": 3});
            more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
            CompletionRequest::parse(body)
        };
        let request = parse(json!({})).unwrap();
        assert_eq!((request.parameters.choices, request.kept), (3, 2));
        assert_eq!(parse(json!({"best_of": 2, "stream": true})).unwrap().parameters.choices, 2);
        for more in [json!({"best_of": 1}), json!({"stream": true}), json!({"echo": true})] {
            let error = parse(more.clone()).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("best_of"), "{more}");
        }
    }

    #[test]
    fn no_tokens_are_asked_for_only_with_the_prompt() {
        let parse = |echo: bool| {
            let body = json!({"model": "m", "prompt": "p", "max_tokens": 0, "echo": echo});
            CompletionRequest::parse(body)
        };
        assert_eq!(parse(true).unwrap().tokens_max, 0);
        assert_eq!(parse(false).unwrap_err().param.as_deref(), Some("max_tokens"));
    }
}
