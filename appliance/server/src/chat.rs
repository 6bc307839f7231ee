//! `POST /v1/chat/completions`.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract;
use axum::http::Request;
use axum::response::Response;
use engine::{Distribution, Logprobs};
use serde_json::{Value, json};
use text::{ChatInput, ChatTemplate, Piece, Prompt, TextError};

use crate::auth::authorise;
use crate::body::{self, Received};
use crate::chat_request::ChatRequest;
use crate::error::ApiError;
use crate::generate::{self, Format, Job, Named, Output, Scored};
use crate::id;
use crate::observe::{Meter, Observation, Origin, Trace};
use crate::parameters::Parameters;
use crate::registry::Unprepared;
use crate::served::Served;
use crate::sse::{Events, Frames};
use crate::state::{Shared, State};
use crate::usage::Usage;
use crate::whole::Collected;

const ROUTE: &str = "/v1/chat/completions";

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
    let (job, parameters) = state.prepare(work).await?;
    let open = parameters.choices as usize;
    let served = Arc::clone(&job.served);
    let frames = Shape::new(&served, state.clock.unix_seconds(), open, job.logprobs.is_some())?;
    let meter = Arc::new(Meter::new(&state, began, job.prompt.len()));
    let terms = state.terms(&caller, began);
    let outputs = generate::start(&meter, vec![job], &parameters, terms)?;
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

/// Body to tokens: takes time and memory that grow with the body.
fn prepare(state: &State, received: &Received) -> Result<(Job, Parameters), Unprepared> {
    let chat = ChatRequest::parse(received.json()?)?;
    let served = state.registry.get(&chat.parameters.model)?;
    let broken = |error: TextError| ApiError::param("messages", format!("{error}."));
    let prompt = render(template(&served, &chat)?, &chat, state.clock.unix_seconds());
    let prompt = prompt.map_err(broken)?;
    served.check_bytes("messages", prompt.bytes())?;
    let tokenizer = Arc::clone(served.tokenizer()?);
    let tokens = tokenizer.encode_prompt(&prompt).map_err(broken)?;
    let context_len = served.engine.limits().context_len;
    if tokens.len() >= context_len {
        return Err(ApiError::context_length("messages", tokens.len(), context_len).into());
    }
    let format =
        Format::Message { tools: !chat.tools.is_empty(), thinking_open: prompt.thinking_open() };
    let job = Job {
        prompt: Arc::from(tokens),
        tokens_max: chat.tokens_max.unwrap_or(u32::MAX),
        logprobs: chat.logprobs.map(|top| Logprobs { top, of: Distribution::Model }),
        grammar: None,
        echo: None,
        format,
        tokenizer,
        served,
    };
    Ok((job, chat.parameters))
}

/// The model's template, if it knows all that the request asks of it.
fn template<'a>(served: &'a Served, chat: &ChatRequest) -> Result<&'a ChatTemplate, ApiError> {
    let template = served.template()?;
    if !chat.tools.is_empty() && !template.takes_tools() {
        let message = "This model's chat template does not know tools; leave them out.";
        return Err(ApiError::unsupported("tools", message));
    }
    if chat.enable_thinking.is_some() && !template.takes_thinking() {
        let message = "This model's chat template has no thinking to switch; leave it out.";
        return Err(ApiError::unsupported("enable_thinking", message));
    }
    Ok(template)
}

fn render(
    template: &ChatTemplate,
    chat: &ChatRequest,
    unix_seconds: u64,
) -> Result<Prompt, TextError> {
    template.render(&ChatInput {
        messages: &chat.messages,
        tools: (!chat.tools.is_empty()).then_some(chat.tools.as_slice()),
        enable_thinking: chat.enable_thinking,
        unix_seconds,
    })
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
    fn new(served: &Served, created: u64, choices: usize, scored: bool) -> Result<Shape, ApiError> {
        Ok(Shape {
            id: id::random("chatcmpl-")?,
            created,
            model: served.known.name.clone(),
            fingerprint: served.known.fingerprint.clone(),
            scored,
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
        let one = |token: &Named, logprob: Option<f32>| {
            // As OpenAI has it: null where a token has no bytes.
            let bytes = Some(&token.bytes).filter(|bytes| !bytes.is_empty());
            json!({"token": token.text, "bytes": bytes, "logprob": logprob})
        };
        let token = |scored: &Scored| {
            let mut token = one(&scored.token, scored.logprob);
            let top: Vec<Value> =
                scored.top.iter().map(|(token, lp)| one(token, Some(*lp))).collect();
            token["top_logprobs"] = Value::Array(top);
            token
        };
        let content: Vec<Value> = scores.iter().map(token).collect();
        json!({"content": content, "refusal": null})
    }

    fn choice(&self, index: usize, collected: &Collected) -> Result<Value, ApiError> {
        let Collected { content, reasoning, calls, scores, finish_reason } = collected;
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if !calls.is_empty() {
            if content.is_empty() {
                message["content"] = Value::Null;
            }
            let call = |(name, arguments): &(String, String)| tool_call(name, arguments);
            let calls: Result<Vec<Value>, ApiError> = calls.iter().map(call).collect();
            message["tool_calls"] = Value::Array(calls?);
        }
        if !reasoning.is_empty() {
            message["reasoning_content"] = json!(reasoning);
        }
        Ok(json!({
            "index": index,
            "message": message,
            "logprobs": self.logprobs(scores),
            "finish_reason": finish_reason,
        }))
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
                Ok(reason) => vec![self.delta(choice, json!({}), &end.scores, json!(reason))],
                Err(_) => Vec::new(),
            },
        }
    }

    fn usage(&mut self, usage: &Usage) -> Value {
        let mut chunk = self.chunk(json!([]));
        chunk["usage"] = usage.body();
        chunk
    }

    fn whole(&mut self, choices: Vec<Collected>, usage: &Usage) -> Result<Value, ApiError> {
        let choices: Result<Vec<Value>, ApiError> =
            choices.iter().enumerate().map(|(index, c)| self.choice(index, c)).collect();
        Ok(json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices?,
            "usage": usage.body(),
        }))
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
        let mut add = |pieces| collected.add(Output::Pieces(pieces, Vec::new())).unwrap();
        add(vec![Piece::Reasoning("so".to_owned()), call("f")]);
        add(vec![call("g")]);
        let body = shape().choice(1, &collected).unwrap();
        assert_eq!((&body["index"], &body["finish_reason"]), (&json!(1), &json!("tool_calls")));
        assert_eq!(body["message"]["content"], Value::Null);
        assert_eq!(body["message"]["reasoning_content"], "so");
        assert_eq!(body["message"]["tool_calls"][1]["function"]["name"], "g");
    }
}
