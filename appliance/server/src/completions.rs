//! `POST /v1/completions`.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract;
use axum::http::Request;
use axum::response::Response;
use engine::{Distribution, Logprobs};
use serde_json::{Map, Value, json};
use text::Piece;

use crate::auth::authorise;
use crate::body::{self, Received};
use crate::completions_request::CompletionRequest;
use crate::error::ApiError;
use crate::generate::{self, Echo, Format, Job, Named, Output, Scored};
use crate::grammar;
use crate::id;
use crate::observe::{Meter, Observation, Origin, Trace};
use crate::parameters::Parameters;
use crate::prompt::Prompt;
use crate::registry::Unprepared;
use crate::served::Served;
use crate::sse::{Events, Frames};
use crate::state::{Shared, State};
use crate::usage::Usage;
use crate::whole::Collected;

const ROUTE: &str = "/v1/completions";
/// Tokens of prompts that one request may have scored: each takes a kilobyte until it is sent.
const SCORED_TOKENS_MAX: usize = 64 << 10;

pub(crate) async fn create(
    extract::State(state): extract::State<Shared>,
    extract::Extension(trace): extract::Extension<Trace>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let caller = authorise(&state, &parts.headers, &parts.extensions)?;
    let received = body::receive(&state, body).await?;
    let work = move |state: &State| prepare(state, &received);
    let Prepared { served, jobs, parameters, scored, kept } = state.prepare(work).await?;
    let open = jobs.len() * parameters.choices as usize;
    let frames = Shape {
        id: id::random("cmpl-")?,
        created: state.clock.unix_seconds(),
        model: served.known.name.clone(),
        fingerprint: served.known.fingerprint.clone(),
        scored,
        generated: parameters.choices as usize,
        kept: kept as usize,
        offsets: vec![0; open],
    };
    let prompt_tokens = jobs.iter().map(|job| job.prompt.len()).sum();
    let meter = Arc::new(Meter::new(&state, began, prompt_tokens));
    let terms = state.terms(&caller, began);
    let outputs = generate::start(&meter, jobs, &parameters, terms)?;
    let origin = Origin { trace, caller, route: ROUTE };
    let events = Events {
        outputs,
        frames,
        options: parameters.stream,
        open,
        keep_alive: state.limits.keep_alive,
        observation: Observation::new(origin, meter, &served.known.name),
    };
    events.respond().await
}

/// A request whose prompts are tokens.
struct Prepared {
    served: Arc<Served>,
    jobs: Vec<Job>,
    parameters: Parameters,
    /// Log-probabilities are answered.
    scored: bool,
    /// Choices of each prompt that are answered.
    kept: u32,
}

/// Body to tokens: takes time and memory that grow with the body.
fn prepare(state: &State, received: &Received) -> Result<Prepared, Unprepared> {
    let completion = CompletionRequest::parse(received.json()?)?;
    let served = state.registry.get(&completion.parameters.model)?;
    let tokenizer = Arc::clone(served.tokenizer()?);
    let CompletionRequest { parameters, prompts, tokens_max, echo, kept, logprobs, .. } =
        completion;
    let grammar = completion.grammar.as_ref();
    let grammar = grammar.map(|source| grammar::compile(&served, source)).transpose()?;
    // The best of several is known by its log-probabilities.
    let top = logprobs.or((parameters.choices > kept).then_some(0));
    let job = |prompt: Prompt| {
        let (tokens, text) = tokens(&served, prompt)?;
        let echo = match logprobs {
            _ if !echo => None,
            None if tokens_max > 0 => Some(Echo::Text(text.unwrap_or_else(|| {
                let mut decoder = tokenizer.decoder();
                tokens.iter().map(|id| decoder.push(*id)).collect()
            }))),
            top => Some(Echo::Scored(top.unwrap_or(0))),
        };
        Ok(Job {
            prompt: Arc::from(tokens),
            served: Arc::clone(&served),
            tokenizer: Arc::clone(&tokenizer),
            tokens_max,
            logprobs: top.map(|top| Logprobs { top, of: Distribution::Model }),
            grammar: grammar.clone(),
            echo,
            format: Format::Text,
        })
    };
    let jobs: Result<Vec<Job>, ApiError> = prompts.into_iter().map(job).collect();
    let jobs = jobs?;
    let scored_tokens: usize =
        jobs.iter().filter(|job| job.scores_prompt()).map(|job| job.prompt.len()).sum();
    if scored_tokens > SCORED_TOKENS_MAX {
        let message = format!(
            "The prompts have {scored_tokens} tokens to be scored, at most {SCORED_TOKENS_MAX} fit \
             one request. Send fewer prompts at once."
        );
        return Err(ApiError::param("prompt", message).into());
    }
    Ok(Prepared { jobs, parameters, scored: logprobs.is_some(), kept, served })
}

/// A prompt's tokens, and its text where it came as one; a prompt that is too long ends the work on
/// those after it.
fn tokens(served: &Served, prompt: Prompt) -> Result<(Vec<u32>, Option<String>), ApiError> {
    let (tokens, text) = match prompt {
        Prompt::Tokens(tokens) => (tokens, None),
        Prompt::Text(text) => {
            served.check_bytes("prompt", text.len())?;
            let broken = |error| ApiError::param("prompt", format!("{error}."));
            (served.tokenizer()?.encode_text(&text).map_err(broken)?, Some(text))
        }
    };
    let context_len = served.engine.limits().context_len;
    match tokens.len() >= context_len {
        true => Err(ApiError::context_length("prompt", tokens.len(), context_len)),
        false => Ok((tokens, text)),
    }
}

fn content(piece: &Piece) -> Option<&str> {
    match piece {
        Piece::Content(text) => Some(text),
        _ => None,
    }
}

/// What all chunks and the whole answer share.
struct Shape {
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
    scored: bool,
    /// Choices of each prompt that are generated, and of those how many are answered.
    generated: usize,
    kept: usize,
    /// Characters of scored tokens so far, by choice.
    offsets: Vec<usize>,
}

impl Shape {
    fn body(&self, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        })
    }

    fn choice(&mut self, index: u32, text: &str, scores: &[Scored], reason: Value) -> Value {
        let logprobs = self.logprobs(index, scores);
        json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason})
    }

    /// The shape of 2020: four lists side by side.
    fn logprobs(&mut self, choice: u32, scores: &[Scored]) -> Value {
        if !self.scored {
            return Value::Null;
        }
        let offset = &mut self.offsets[choice as usize];
        let mut offsets = Vec::new();
        for scored in scores {
            offsets.push(*offset);
            *offset += String::from_utf8_lossy(&scored.token.bytes).chars().count();
        }
        let top = |scored: &Scored| {
            let mut map = Map::new();
            // Two tokens may be spelled alike; the likelier one, which comes first, stays.
            if scored.logprob.is_none() {
                return Value::Null;
            }
            for (token, logprob) in &scored.top {
                map.entry(name(token)).or_insert_with(|| json!(logprob));
            }
            Value::Object(map)
        };
        json!({
            "tokens": scores.iter().map(|scored| name(&scored.token)).collect::<Vec<_>>(),
            "token_logprobs": scores.iter().map(|scored| scored.logprob).collect::<Vec<_>>(),
            "top_logprobs": scores.iter().map(top).collect::<Vec<_>>(),
            "text_offset": offsets,
        })
    }
}

/// The `kept` choices whose tokens are likeliest on average, likeliest first; all as they are where
/// no more were generated.
fn likeliest(choices: &[Collected], kept: usize) -> Vec<Collected> {
    let mut choices = choices.to_vec();
    if kept < choices.len() {
        let mean = |choice: &Collected| {
            let logprobs = choice.scores.iter().filter_map(|scored| scored.logprob);
            match choice.scores.len() {
                // An answer that says nothing is not the best one.
                0 => f64::NEG_INFINITY,
                len => logprobs.map(f64::from).sum::<f64>() / len as f64,
            }
        };
        choices.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
        choices.truncate(kept);
    }
    choices
}

/// A token's name, which is all that tells it from others here: its text, or, as OpenAI has it
/// for part of a character, its bytes.
fn name(token: &Named) -> String {
    match std::str::from_utf8(&token.bytes) {
        Ok(_) => token.text.clone(),
        Err(_) => {
            let hex = token.bytes.iter().map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", hex.collect::<String>())
        }
    }
}

impl Frames for Shape {
    fn begin(&mut self) -> Vec<Value> {
        Vec::new()
    }

    fn output(&mut self, choice: u32, output: &Output) -> Vec<Value> {
        let choice = match output {
            Output::Pieces(pieces, scores) => {
                let text: String = pieces.iter().filter_map(content).collect();
                self.choice(choice, &text, scores, Value::Null)
            }
            Output::End(end) => match &end.reason {
                Ok(reason) => self.choice(choice, "", &end.scores, json!(reason)),
                Err(_) => return Vec::new(),
            },
        };
        vec![self.body(json!([choice]))]
    }

    fn usage(&mut self, usage: &Usage) -> Value {
        let mut chunk = self.body(json!([]));
        chunk["usage"] = usage.body();
        chunk
    }

    fn whole(&mut self, choices: Vec<Collected>, usage: &Usage) -> Result<Value, ApiError> {
        let choices: Vec<Collected> = choices
            .chunks(self.generated)
            .flat_map(|choices| likeliest(choices, self.kept))
            .collect();
        let choices: Vec<Value> = choices
            .iter()
            .enumerate()
            .map(|(i, c)| self.choice(i as u32, &c.content, &c.scores, json!(c.finish_reason)))
            .collect();
        let mut body = self.body(Value::Array(choices));
        body["usage"] = usage.body();
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str, bytes: &[u8]) -> Named {
        Named { text: text.to_owned(), bytes: bytes.to_vec() }
    }

    #[test]
    fn an_empty_answer_is_not_the_best_one() {
        let answer = |content: &str, logprobs: &[f32]| {
            let scored = |&logprob| Scored {
                token: named("x", b"x"),
                logprob: Some(logprob),
                top: Vec::new(),
            };
            let scores = logprobs.iter().map(scored).collect();
            Collected { content: content.to_owned(), scores, ..Collected::default() }
        };
        let all = [answer("", &[]), answer("b", &[-2.0, -2.0]), answer("c", &[-1.0])];
        let best = likeliest(&all, 2);
        let texts: Vec<&str> = best.iter().map(|choice| choice.content.as_str()).collect();
        assert_eq!(texts, ["c", "b"]);
    }

    #[test]
    fn alternatives_do_not_overwrite_each_other() {
        let mut shape = Shape {
            id: String::new(),
            created: 0,
            model: String::new(),
            fingerprint: String::new(),
            scored: true,
            generated: 1,
            kept: 1,
            offsets: vec![0],
        };
        let top = [
            named("<|a|>", b""),
            named("<|b|>", b""),
            named("\u{fffd}", b"\xe3"),
            named("\u{fffd}", b"\xe4"),
            named("x", b"x"),
            named("x", b"x"),
        ];
        let top: Vec<(Named, f32)> = (1..).zip(top).map(|(n, name)| (name, -n as f32)).collect();
        let scored = Scored { token: top[0].0.clone(), logprob: Some(-1.0), top };
        let logprobs = shape.logprobs(0, &[scored]);
        let expected = json!({"<|a|>": -1.0, "<|b|>": -2.0, "bytes:\\xe3": -3.0,
                              "bytes:\\xe4": -4.0, "x": -5.0});
        assert_eq!(logprobs["top_logprobs"][0], expected);
        assert_eq!(logprobs["tokens"], json!(["<|a|>"]));
    }
}
