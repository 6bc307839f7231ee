//! `POST /v1/completions`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract;
use axum::http::Request;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use text::Piece;

use crate::auth::authorise;
use crate::body;
use crate::completions_request::{CompletionRequest, Prompt};
use crate::error::ApiError;
use crate::generate::{self, Format, Job, Output, Scored};
use crate::id;
use crate::observe::{Observation, Origin, Trace};
use crate::parameters::StreamOptions;
use crate::served::Served;
use crate::sse::{Events, Frames};
use crate::state::Shared;
use crate::usage::Usage;

const ROUTE: &str = "/v1/completions";

pub(crate) async fn create(
    extract::State(state): extract::State<Shared>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let caller = authorise(&state, &parts.headers, &parts.extensions)?;
    let trace = parts.extensions.get::<Trace>().cloned();
    let trace = trace.unwrap_or_else(|| Trace::new(String::new()));
    let origin = Origin { trace, caller, began };
    let completion = CompletionRequest::parse(body::read(&state, body).await?)?;
    let parameters = completion.parameters.clone();
    let served = state.registry.get(&parameters.model)?;
    let logprobs = completion.logprobs;
    let jobs = prepare(Arc::clone(&served), completion).await?;
    let open = jobs.len() * parameters.choices as usize;
    let prompt_tokens = jobs.iter().map(|job| job.prompt.len()).sum();
    let frames = Shape {
        id: id::random("cmpl-")?,
        created: state.clock.unix_seconds(),
        model: served.name.clone(),
        fingerprint: served.fingerprint.clone(),
        scored: logprobs.is_some(),
        offsets: vec![0; open],
    };
    let quiet = StreamOptions { include_usage: false, include_obfuscation: false };
    let events = Events {
        outputs: generate::start(&state, jobs, &parameters, began)?,
        frames,
        options: parameters.stream.unwrap_or(quiet),
        usage: Usage { prompt_tokens, ..Usage::default() },
        open,
        keep_alive: state.limits.keep_alive,
        observation: Observation::new(&state, origin, ROUTE, &served.name),
    };
    match parameters.stream {
        Some(_) => Ok(events.into_response()),
        None => whole(events).await,
    }
}

/// Tokenizes off the async threads.
async fn prepare(served: Arc<Served>, completion: CompletionRequest) -> Result<Vec<Job>, ApiError> {
    let work = move || {
        let job = |prompt: &Prompt| {
            let tokens = match prompt {
                Prompt::Tokens(tokens) => tokens.clone(),
                Prompt::Text(text) => served
                    .tokenizer
                    .encode_text(text)
                    .map_err(|error| ApiError::param("prompt", format!("{error}.")))?,
            };
            Ok(Job {
                served: Arc::clone(&served),
                prompt: Arc::from(tokens),
                tokens_max: completion.tokens_max,
                logprobs: completion.logprobs,
                format: Format::Text,
            })
        };
        completion.prompts.iter().map(job).collect()
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ApiError::internal("Preparing the prompt failed."))?
}

/// Collects the whole answer.
async fn whole(mut events: Events<Shape>) -> Result<Response, ApiError> {
    let mut choices: BTreeMap<u32, Collected> = BTreeMap::new();
    while let Some((choice, output)) = events.outputs.recv().await {
        let collected = choices.entry(choice).or_default();
        match output {
            Output::Pieces(pieces, scores) => {
                collected.text.extend(pieces.iter().filter_map(content));
                collected.scores.extend(scores);
            }
            Output::End(end) => {
                events.usage.add(&end);
                match end.reason {
                    Ok(reason) => collected.finish_reason = Some(reason),
                    Err(error) => {
                        events.observation.failed(&error);
                        return Err(error);
                    }
                }
            }
        }
    }
    if choices.len() < events.open || choices.values().any(|c| c.finish_reason.is_none()) {
        return Err(ApiError::internal("The engine ended before the answer did."));
    }
    let shape = &mut events.frames;
    let choices: Vec<Value> = choices
        .into_iter()
        .map(|(index, c)| shape.choice(index, &c.text, &c.scores, json!(c.finish_reason)))
        .collect();
    let mut body = shape.body(Value::Array(choices));
    body["usage"] = events.usage.body();
    events.observation.completed(&events.usage);
    Ok(axum::Json(body).into_response())
}

/// One choice of a whole answer.
#[derive(Default)]
struct Collected {
    text: String,
    scores: Vec<Scored>,
    finish_reason: Option<&'static str>,
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
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let offset = &mut self.offsets[choice as usize];
        let mut offsets = Vec::new();
        for scored in scores {
            offsets.push(*offset);
            *offset += text(&scored.bytes).chars().count();
        }
        let top = |scored: &Scored| {
            let entry = |(bytes, logprob): &(Vec<u8>, f32)| (text(bytes), json!(logprob));
            Value::Object(scored.top.iter().map(entry).collect::<Map<_, _>>())
        };
        json!({
            "tokens": scores.iter().map(|scored| text(&scored.bytes)).collect::<Vec<_>>(),
            "token_logprobs": scores.iter().map(|scored| scored.logprob).collect::<Vec<_>>(),
            "top_logprobs": scores.iter().map(top).collect::<Vec<_>>(),
            "text_offset": offsets,
        })
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
                Ok(reason) => self.choice(choice, "", &[], json!(reason)),
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
}
