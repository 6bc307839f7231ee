//! `POST /v1/chat/completions`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract;
use axum::http::Request;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use text::{ChatInput, Piece};

use crate::auth::authorise;
use crate::body;
use crate::chat_request::ChatRequest;
use crate::error::ApiError;
use crate::generate::{self, Format, Job, Output, Scored};
use crate::id;
use crate::observe::{Observation, Origin, Trace};
use crate::served::Served;
use crate::sse::{Events, Frames};
use crate::state::Shared;
use crate::usage::Usage;

const ROUTE: &str = "/v1/chat/completions";

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
    let chat = ChatRequest::parse(body::read(&state, body).await?)?;
    let served = state.registry.get(&chat.parameters.model)?;
    let created = state.clock.unix_seconds();
    let chat = Arc::new(chat);
    let job = prepare(Arc::clone(&served), Arc::clone(&chat), created).await?;
    let usage = Usage { prompt_tokens: job.prompt.len(), ..Usage::default() };
    let outputs = generate::start(&state, vec![job], &chat.parameters, began)?;
    let shape = Shape::new(&served, created, chat.parameters.choices as usize, chat.logprobs)?;
    let observation = Observation::new(&state, origin, ROUTE, &served.name);
    let mut events = Events {
        outputs,
        frames: shape,
        options: crate::parameters::StreamOptions {
            include_usage: false,
            include_obfuscation: false,
        },
        usage,
        open: chat.parameters.choices as usize,
        keep_alive: state.limits.keep_alive,
        observation,
    };
    match chat.parameters.stream {
        Some(options) => {
            events.options = options;
            Ok(events.into_response())
        }
        None => whole(events).await,
    }
}

/// Renders and tokenizes off the async threads: both take time that grows with the prompt.
async fn prepare(
    served: Arc<Served>,
    chat: Arc<ChatRequest>,
    unix_seconds: u64,
) -> Result<Job, ApiError> {
    let work = move || {
        let Some(template) = &served.template else {
            let message = "This model has no chat template; use /v1/completions.";
            return Err(ApiError::param("model", message));
        };
        if !chat.tools.is_empty() && !template.takes_tools() {
            let message = "This model's chat template does not know tools; leave them out.";
            return Err(ApiError::unsupported("tools", message));
        }
        if chat.enable_thinking.is_some() && !template.takes_thinking() {
            let message = "This model's chat template has no thinking to switch; leave it out.";
            return Err(ApiError::unsupported("enable_thinking", message));
        }
        let input = ChatInput {
            messages: &chat.messages,
            tools: (!chat.tools.is_empty()).then_some(chat.tools.as_slice()),
            enable_thinking: chat.enable_thinking,
            unix_seconds,
        };
        let broken = |error: text::TextError| ApiError::param("messages", format!("{error}."));
        let prompt = template.render(&input).map_err(broken)?;
        let tokens = served.tokenizer.encode_prompt(&prompt).map_err(broken)?;
        let context_len = served.engine.limits().context_len;
        if tokens.len() >= context_len {
            return Err(ApiError::context_length("messages", tokens.len(), context_len));
        }
        let format = Format::Message {
            tools: !chat.tools.is_empty(),
            thinking_open: prompt.thinking_open(),
        };
        Ok(Job {
            prompt: Arc::from(tokens),
            tokens_max: chat.tokens_max.unwrap_or(u32::MAX),
            logprobs: chat.logprobs,
            format,
            served: Arc::clone(&served),
        })
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
            Output::Pieces(pieces, scores) => collected.add(pieces, scores),
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
    let shape = &events.frames;
    if choices.len() < events.open || choices.values().any(|c| c.finish_reason.is_none()) {
        return Err(ApiError::internal("The engine ended before the answer did."));
    }
    let choices: Result<Vec<Value>, ApiError> =
        choices.into_iter().map(|(index, collected)| collected.body(index, shape)).collect();
    let body = json!({
        "id": shape.id,
        "object": "chat.completion",
        "created": shape.created,
        "model": shape.model,
        "system_fingerprint": shape.fingerprint,
        "choices": choices?,
        "usage": events.usage.body(),
    });
    events.observation.completed(&events.usage);
    Ok(axum::Json(body).into_response())
}

/// One choice of a whole answer.
#[derive(Default)]
struct Collected {
    content: String,
    reasoning: String,
    calls: Vec<(String, String)>,
    scores: Vec<Scored>,
    finish_reason: Option<&'static str>,
}

impl Collected {
    fn add(&mut self, pieces: Vec<Piece>, scores: Vec<Scored>) {
        self.scores.extend(scores);
        for piece in pieces {
            match piece {
                Piece::Content(text) => self.content.push_str(&text),
                Piece::Reasoning(text) => self.reasoning.push_str(&text),
                Piece::ToolCall { name, arguments } => self.calls.push((name, arguments)),
            }
        }
    }

    fn body(self, index: u32, shape: &Shape) -> Result<Value, ApiError> {
        let mut message = json!({"role": "assistant", "content": self.content, "refusal": null});
        if !self.calls.is_empty() {
            if self.content.is_empty() {
                message["content"] = Value::Null;
            }
            let call = |(name, arguments): &(String, String)| tool_call(name, arguments);
            let calls: Result<Vec<Value>, ApiError> = self.calls.iter().map(call).collect();
            message["tool_calls"] = Value::Array(calls?);
        }
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = json!(self.reasoning);
        }
        Ok(json!({
            "index": index,
            "message": message,
            "logprobs": shape.logprobs(&self.scores),
            "finish_reason": self.finish_reason,
        }))
    }
}

fn tool_call(name: &str, arguments: &str) -> Result<Value, ApiError> {
    Ok(json!({
        "id": id::random("call_")?,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }))
}

/// What all chunks and the whole answer share.
struct Shape {
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
    scored: bool,
    /// Tool calls so far, by choice.
    calls: Vec<usize>,
}

impl Shape {
    fn new(
        served: &Served,
        created: u64,
        choices: usize,
        logprobs: Option<u8>,
    ) -> Result<Shape, ApiError> {
        Ok(Shape {
            id: id::random("chatcmpl-")?,
            created,
            model: served.name.clone(),
            fingerprint: served.fingerprint.clone(),
            scored: logprobs.is_some(),
            calls: vec![0; choices],
        })
    }

    fn chunk(&self, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        })
    }

    fn delta(&self, index: u32, delta: Value, scores: &[Scored], reason: Value) -> Value {
        self.chunk(json!([{
            "index": index,
            "delta": delta,
            "logprobs": self.logprobs(scores),
            "finish_reason": reason,
        }]))
    }

    fn logprobs(&self, scores: &[Scored]) -> Value {
        if !self.scored {
            return Value::Null;
        }
        let one = |bytes: &[u8], logprob: f32| {
            let token = String::from_utf8_lossy(bytes);
            json!({"token": token, "bytes": bytes, "logprob": logprob})
        };
        let token = |scored: &Scored| {
            let mut token = one(&scored.bytes, scored.logprob);
            let top: Vec<Value> = scored.top.iter().map(|(bytes, lp)| one(bytes, *lp)).collect();
            token["top_logprobs"] = Value::Array(top);
            token
        };
        let content: Vec<Value> = scores.iter().map(token).collect();
        json!({"content": content, "refusal": null})
    }

    fn piece(&mut self, choice: u32, piece: &Piece) -> Value {
        match piece {
            Piece::Content(text) => json!({"content": text}),
            Piece::Reasoning(text) => json!({"reasoning_content": text}),
            Piece::ToolCall { name, arguments } => {
                let index = self.calls[choice as usize];
                self.calls[choice as usize] += 1;
                // Without random numbers the call's number tells it apart within the answer.
                let mut call = tool_call(name, arguments).unwrap_or_else(|_| {
                    json!({"id": format!("call_{choice}_{index}"), "type": "function",
                           "function": {"name": name, "arguments": arguments}})
                });
                call["index"] = json!(index);
                json!({"tool_calls": [call]})
            }
        }
    }
}

impl Frames for Shape {
    fn begin(&mut self) -> Vec<Value> {
        let role = json!({"role": "assistant", "content": ""});
        (0..self.calls.len() as u32)
            .map(|choice| self.delta(choice, role.clone(), &[], Value::Null))
            .collect()
    }

    fn output(&mut self, choice: u32, output: &Output) -> Vec<Value> {
        match output {
            Output::Pieces(pieces, scores) => {
                let mut scores = scores.as_slice();
                let frame = |piece: &Piece| {
                    let delta = self.piece(choice, piece);
                    // The scores go with the first piece of content.
                    let own = match piece {
                        Piece::Content(_) => std::mem::take(&mut scores),
                        _ => &[],
                    };
                    self.delta(choice, delta, own, Value::Null)
                };
                pieces.iter().map(frame).collect()
            }
            Output::End(end) => match &end.reason {
                Ok(reason) => vec![self.delta(choice, json!({}), &[], json!(reason))],
                Err(_) => Vec::new(),
            },
        }
    }

    fn usage(&mut self, usage: &Usage) -> Value {
        let mut chunk = self.chunk(json!([]));
        chunk["usage"] = usage.body();
        chunk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            id: "chatcmpl-1".to_owned(),
            created: 7,
            model: "m".to_owned(),
            fingerprint: "f".to_owned(),
            scored: false,
            calls: vec![0; 2],
        }
    }

    fn call(name: &str) -> Piece {
        Piece::ToolCall { name: name.to_owned(), arguments: "{}".to_owned() }
    }

    #[test]
    fn streamed_calls_are_numbered_by_choice() {
        let mut shape = shape();
        let mut number = |choice| {
            let frames = shape.output(choice, &Output::Pieces(vec![call("f")], Vec::new()));
            frames[0]["choices"][0]["delta"]["tool_calls"][0].clone()
        };
        let calls = [number(0), number(0), number(1)];
        assert_eq!(calls.clone().map(|call| call["index"].as_u64()), [Some(0), Some(1), Some(0)]);
        assert!(calls.iter().all(|c| c["id"].as_str().is_some_and(|id| id.starts_with("call_"))));
        assert_eq!(calls[0]["function"], json!({"name": "f", "arguments": "{}"}));
        assert_ne!(calls[0]["id"], calls[1]["id"]);
    }

    #[test]
    fn a_whole_answer_keeps_thinking_content_and_calls_apart() {
        let mut collected = Collected { finish_reason: Some("tool_calls"), ..Collected::default() };
        collected.add(vec![Piece::Reasoning("so".to_owned()), call("f")], Vec::new());
        collected.add(vec![call("g")], Vec::new());
        let body = collected.body(1, &shape()).unwrap();
        assert_eq!((&body["index"], &body["finish_reason"]), (&json!(1), &json!("tool_calls")));
        assert_eq!(body["message"]["content"], Value::Null);
        assert_eq!(body["message"]["reasoning_content"], "so");
        assert_eq!(body["message"]["tool_calls"][1]["function"]["name"], "g");
    }
}
