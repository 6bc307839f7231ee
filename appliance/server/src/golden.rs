//! Golden prompts: what a model must answer before it counts as good.
//!
//! They are asked like any other request, on the router that serves the local socket, so that what
//! answers is what everybody will get. Knows nothing of cards and where prompts come from.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::{BodyExt, Limited};
use regex::Regex;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::served::Kind;

/// Tokens of an answer.
const ANSWER_TOKENS_MAX: u64 = 64;
/// Bytes of a response.
const RESPONSE_BYTES_MAX: usize = 4 << 20;
/// Characters of an answer that an error shows.
const SHOWN_CHARACTERS_MAX: usize = 80;

/// A prompt, and what its answer must be: greedy, so that it is the same every time.
#[derive(Clone, Debug)]
pub struct Golden {
    /// What is asked; of an encoder, the text to embed.
    pub prompt: String,
    /// What must hold.
    pub check: Check,
}

/// What must hold of an answer.
#[derive(Clone, Debug)]
pub enum Check {
    /// It is this text.
    Answer(String),
    /// It has this text in it.
    Contains(String),
    /// This pattern fits somewhere in it.
    Pattern(Regex),
    /// It is JSON.
    Json,
    /// The mean log-probability of its tokens, natural logarithms.
    LogProb {
        /// What it is.
        mean: f64,
        /// How far from that it may be.
        tolerance: f64,
    },
    /// Of an encoder: its embedding begins with these numbers.
    Embedding {
        /// The first numbers.
        begins: Vec<f64>,
        /// How far from those each may be.
        tolerance: f64,
    },
}

impl Golden {
    /// Its path and body.
    pub fn request(&self, model: &str, kind: Kind) -> (&'static str, Value) {
        match kind {
            Kind::Embeddings => ("/v1/embeddings", json!({"model": model, "input": self.prompt})),
            Kind::Chat => {
                let messages = json!([{"role": "user", "content": self.prompt}]);
                let body = json!({"model": model, "messages": messages, "temperature": 0,
                                  "max_tokens": ANSWER_TOKENS_MAX, "logprobs": true});
                ("/v1/chat/completions", body)
            }
        }
    }

    /// Whether a response holds.
    ///
    /// # Errors
    /// What was answered instead.
    pub fn holds(&self, response: &Value) -> Result<(), String> {
        let answer = response["choices"][0]["message"]["content"].as_str().unwrap_or_default();
        let numbers = |list: &Value, of: &dyn Fn(&Value) -> Option<f64>| -> Vec<f64> {
            list.as_array().into_iter().flatten().filter_map(of).collect()
        };
        let (holds, wanted) = match &self.check {
            Check::Answer(text) => (answer.trim() == text.trim(), format!("{text:?}")),
            Check::Contains(text) => (answer.contains(text.as_str()), format!("... {text:?} ...")),
            Check::Pattern(pattern) => (pattern.is_match(answer), format!("/{pattern}/")),
            Check::Json => (serde_json::from_str::<Value>(answer).is_ok(), "JSON".to_owned()),
            Check::LogProb { mean, tolerance } => {
                let of = |token: &Value| token["logprob"].as_f64();
                let found = numbers(&response["choices"][0]["logprobs"]["content"], &of);
                let actual = found.iter().sum::<f64>() / found.len().max(1) as f64;
                if !found.is_empty() && (actual - mean).abs() <= *tolerance {
                    return Ok(());
                }
                let wanted = format!("{mean} (give or take {tolerance})");
                return Err(format!("mean log-probability {actual:.4}, not {wanted}"));
            }
            Check::Embedding { begins, tolerance } => {
                let found = numbers(&response["data"][0]["embedding"], &Value::as_f64);
                let near = |(a, b): (&f64, &f64)| (a - b).abs() <= *tolerance;
                if found.len() >= begins.len() && begins.iter().zip(&found).all(near) {
                    return Ok(());
                }
                let first: Vec<f64> = found.into_iter().take(begins.len()).collect();
                return Err(format!("an embedding that begins with {first:?}, not {begins:?}"));
            }
        };
        let shown: String = answer.chars().take(SHOWN_CHARACTERS_MAX).collect();
        if holds { Ok(()) } else { Err(format!("answered {shown:?}, not {wanted}")) }
    }
}

/// Asks all of a model's golden prompts.
///
/// # Errors
/// The first that fails: which, and what was answered instead.
pub(crate) async fn ask(
    router: &Router,
    model: &str,
    kind: Kind,
    golden: &[Golden],
) -> Result<(), String> {
    if golden.is_empty() {
        return Err("its card has no golden prompts: nothing could show that it works".to_owned());
    }
    for (number, each) in golden.iter().enumerate() {
        let failed = |why: String| format!("golden prompt {} failed: {why}", number + 1);
        let (path, body) = each.request(model, kind);
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .map_err(|error| failed(error.to_string()))?;
        let response = router.clone().oneshot(request).await;
        let response = response.unwrap_or_else(|never| match never {});
        let status = response.status();
        let body = Limited::new(response.into_body(), RESPONSE_BYTES_MAX).collect().await;
        let bytes = body.map_err(|error| failed(error.to_string()))?.to_bytes();
        let response: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if !status.is_success() {
            let message = response["error"]["message"].as_str().unwrap_or_default();
            return Err(failed(format!("{status}: {message}")));
        }
        each.holds(&response).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(check: Check, answer: &str, holds: bool) {
        let golden = Golden { prompt: String::new(), check };
        let tokens = json!([{"logprob": -0.5}, {"logprob": -0.1}]);
        let response = json!({"choices": [{"message": {"content": answer},
                                           "logprobs": {"content": tokens}}],
                              "data": [{"embedding": [0.5, -0.25, 1.0]}]});
        assert_eq!(golden.holds(&response).is_ok(), holds, "{golden:?} {answer}");
    }

    #[test]
    fn every_kind_of_check_can_hold_and_fail() {
        let text = |text: &str| text.to_owned();
        check(Check::Answer(text("42")), "42\n", true);
        check(Check::Answer(text("42")), "It is 42", false);
        check(Check::Contains(text("Paris")), "It is Paris.", true);
        check(Check::Contains(text("Paris")), "It is Rome.", false);
        check(Check::Pattern(Regex::new("^[0-9]+$").unwrap()), "42", true);
        check(Check::Pattern(Regex::new("^[0-9]+$").unwrap()), "42.", false);
        check(Check::Json, "{\"a\": 1}", true);
        check(Check::Json, "a", false);
        check(Check::LogProb { mean: -0.3, tolerance: 0.01 }, "", true);
        check(Check::LogProb { mean: -0.4, tolerance: 0.01 }, "", false);
        check(Check::LogProb { mean: f64::NAN, tolerance: 1.0 }, "", false);
        check(Check::Embedding { begins: vec![0.5, -0.25], tolerance: 1e-6 }, "", true);
        check(Check::Embedding { begins: vec![0.5, 0.25], tolerance: 1e-6 }, "", false);
        check(Check::Embedding { begins: vec![0.5; 4], tolerance: 9.0 }, "", false);
    }
}
