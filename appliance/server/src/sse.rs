//! Server-sent events: frames as they come, comments through silence, padding against readers of
//! lengths, and the terminal `[DONE]`.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::generate::{Output, Outputs, lost};
use crate::observe::Observation;
use crate::parameters::StreamOptions;
use crate::usage::Usage;
use crate::whole::Collected;

/// Lengths of padded frames are multiples of this (Whisper Leak, 2511.03675).
const PAD_BYTES: usize = 64;
const ALPHABET: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

/// How one endpoint shapes its answers.
pub(crate) trait Frames: Send + 'static {
    /// Frames before any output.
    fn begin(&mut self) -> Vec<Value>;
    /// Frames of one output of one choice.
    fn output(&mut self, choice: u32, output: &Output) -> Vec<Value>;
    /// The frame that carries the usage.
    fn usage(&mut self, usage: &Usage) -> Value;
    /// The whole answer, of all choices in their order.
    ///
    /// # Errors
    /// Without random numbers for ids.
    fn whole(&mut self, choices: Vec<Collected>, usage: &Usage) -> Result<Value, ApiError>;
}

/// An answer in progress.
pub(crate) struct Events<F> {
    pub outputs: Outputs,
    pub frames: F,
    /// How it is streamed, if it is.
    pub options: Option<StreamOptions>,
    /// Choices that have not ended.
    pub open: usize,
    pub keep_alive: Duration,
    pub observation: Observation,
}

enum Phase<F> {
    Begin(Events<F>),
    Run(Events<F>),
    Done,
}

impl<F: Frames> Events<F> {
    /// The response, as the client wants it.
    ///
    /// # Errors
    /// Of a whole answer: what it ended with.
    pub async fn respond(self) -> Result<Response, ApiError> {
        match self.options {
            Some(_) => Ok(self.into_stream()),
            None => self.into_whole().await,
        }
    }

    /// The response whose body streams them.
    fn into_stream(self) -> Response {
        let body = stream::unfold(Phase::Begin(self), |phase| async {
            let (bytes, next) = match phase {
                Phase::Begin(mut events) => {
                    let frames = events.frames.begin();
                    (events.write(frames), Phase::Run(events))
                }
                Phase::Run(events) => events.next().await?,
                Phase::Done => return None,
            };
            Some((Ok::<_, Infallible>(bytes), next))
        });
        let headers = [
            (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
            (header::CACHE_CONTROL, "no-cache"),
        ];
        (headers, Body::from_stream(body)).into_response()
    }

    async fn next(mut self) -> Option<(Bytes, Phase<F>)> {
        let received = tokio::time::timeout(self.keep_alive, self.outputs.recv()).await;
        let (choice, output) = match received {
            Err(_) => return Some((Bytes::from_static(b": waiting\n\n"), Phase::Run(self))),
            Ok(Some(output)) => output,
            Ok(None) => return Some((self.fail(&lost()), Phase::Done)),
        };
        let mut frames = self.frames.output(choice, &output);
        let Output::End(end) = output else {
            return Some((self.write(frames), Phase::Run(self)));
        };
        if let Err(error) = &end.reason {
            return Some((self.fail(error), Phase::Done));
        }
        self.open -= 1;
        if self.open > 0 {
            return Some((self.write(frames), Phase::Run(self)));
        }
        if self.options.is_some_and(|options| options.include_usage) {
            frames.push(self.frames.usage(&self.observation.usage()));
        }
        self.observation.completed();
        let mut bytes = self.write(frames).to_vec();
        bytes.extend_from_slice(b"data: [DONE]\n\n");
        Some((Bytes::from(bytes), Phase::Done))
    }

    /// The last event of a stream that fails.
    fn fail(&mut self, error: &ApiError) -> Bytes {
        self.observation.failed(error);
        self.write(vec![error.body()])
    }

    fn write(&self, frames: Vec<Value>) -> Bytes {
        let mut bytes = Vec::new();
        let usage_comes = self.options.is_some_and(|options| options.include_usage);
        let padded = self.options.is_some_and(|options| options.include_obfuscation);
        for mut frame in frames {
            // As OpenAI has it: where one chunk carries the usage, all others say that it is null.
            if usage_comes && frame.get("error").is_none() {
                let usage = frame["usage"].take();
                frame["usage"] = usage;
            }
            let frame = match padded {
                true => pad(frame),
                false => frame.to_string(),
            };
            bytes.extend_from_slice(b"data: ");
            bytes.extend_from_slice(frame.as_bytes());
            bytes.extend_from_slice(b"\n\n");
        }
        Bytes::from(bytes)
    }
}

/// A frame with a random `obfuscation` field, so long that its length is a multiple of
/// [`PAD_BYTES`].
fn pad(mut frame: Value) -> String {
    frame["obfuscation"] = json!("");
    let len = frame.to_string().len();
    let mut noise = vec![0u8; len.next_multiple_of(PAD_BYTES) - len];
    // Without random numbers the padding is constant: its length is what protects.
    let _ = getrandom::fill(&mut noise);
    let noise: String = noise.iter().map(|byte| ALPHABET[(byte & 63) as usize] as char).collect();
    frame["obfuscation"] = json!(noise);
    frame.to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use axum::http::Extensions;
    use http_body_util::BodyExt;
    use tokio::sync::mpsc;

    use super::*;
    use crate::auth::Caller;
    use crate::generate::End;
    use crate::observe::{Meter, Origin, Trace};
    use crate::state::State;

    #[test]
    fn padded_frames_have_few_lengths() {
        for len in 0..200 {
            let padded = pad(json!({"delta": "x".repeat(len)}));
            assert!(padded.len().is_multiple_of(PAD_BYTES));
            let frame: Value = serde_json::from_str(&padded).unwrap();
            assert_eq!(frame["delta"].as_str().unwrap().len(), len);
        }
    }

    struct NoFrames;

    impl Frames for NoFrames {
        fn begin(&mut self) -> Vec<Value> {
            Vec::new()
        }

        fn output(&mut self, _: u32, _: &Output) -> Vec<Value> {
            Vec::new()
        }

        fn usage(&mut self, _: &Usage) -> Value {
            Value::Null
        }

        fn whole(&mut self, _: Vec<Collected>, _: &Usage) -> Result<Value, ApiError> {
            Ok(Value::Null)
        }
    }

    /// Two choices, of which one ends and one is lost, as when its task panics.
    async fn one_choice_is_lost(options: Option<StreamOptions>) -> Result<Response, ApiError> {
        let state = State::bare();
        let (sender, outputs) = mpsc::channel(4);
        let end = Output::End(End { reason: Ok("stop"), scores: Vec::new() });
        sender.send((0, end)).await.unwrap();
        let trace = Trace::new("", &Extensions::new());
        let caller = Caller { tenant: String::new(), key_id: String::new() };
        let meter = Arc::new(Meter::new(&state, Instant::now(), 1));
        let events = Events {
            outputs,
            frames: NoFrames,
            options,
            open: 2,
            keep_alive: Duration::from_secs(60),
            observation: Observation::new(Origin { trace, caller, route: "" }, meter, "m"),
        };
        drop(sender);
        let response = events.respond().await;
        let cancelled = || state.metrics.cancelled.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(cancelled(), 0);
        response
    }

    #[tokio::test]
    async fn an_answer_that_is_lost_is_an_error() {
        let options = StreamOptions { include_usage: false, include_obfuscation: false };
        let response = one_choice_is_lost(Some(options)).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
        assert_eq!(one_choice_is_lost(None).await.unwrap_err().status.as_u16(), 500);
    }
}
