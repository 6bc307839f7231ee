//! Server-sent events: frames as they come, comments through silence, padding against readers of
//! lengths, and the terminal `[DONE]`.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};

use crate::generate::{Output, Outputs};
use crate::observe::Observation;
use crate::parameters::StreamOptions;
use crate::usage::Usage;

/// Lengths of padded frames are multiples of this (Whisper Leak, 2511.03675).
const PAD_BYTES: usize = 64;
const ALPHABET: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

/// How one endpoint shapes its frames.
pub(crate) trait Frames: Send + 'static {
    /// Frames before any output.
    fn begin(&mut self) -> Vec<Value>;
    /// Frames of one output of one choice.
    fn output(&mut self, choice: u32, output: &Output) -> Vec<Value>;
    /// The frame that carries the usage.
    fn usage(&mut self, usage: &Usage) -> Value;
}

/// A stream in progress.
pub(crate) struct Events<F> {
    pub outputs: Outputs,
    pub frames: F,
    pub options: StreamOptions,
    pub usage: Usage,
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
    /// The response whose body streams them.
    pub fn into_response(self) -> Response {
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
            Ok(None) => return None,
        };
        let mut frames = self.frames.output(choice, &output);
        let Output::End(end) = output else {
            return Some((self.write(frames), Phase::Run(self)));
        };
        self.usage.add(&end);
        if let Err(error) = &end.reason {
            self.observation.failed(error);
            let bytes = self.write(vec![error.body()]);
            return Some((bytes, Phase::Done));
        }
        self.open -= 1;
        if self.open > 0 {
            return Some((self.write(frames), Phase::Run(self)));
        }
        if self.options.include_usage {
            frames.push(self.frames.usage(&self.usage));
        }
        self.observation.completed(&self.usage);
        let mut bytes = self.write(frames).to_vec();
        bytes.extend_from_slice(b"data: [DONE]\n\n");
        Some((Bytes::from(bytes), Phase::Done))
    }

    fn write(&self, frames: Vec<Value>) -> Bytes {
        let mut bytes = Vec::new();
        for mut frame in frames {
            // As OpenAI has it: where one chunk carries the usage, all others say that it is null.
            if self.options.include_usage && frame.get("error").is_none() {
                let usage = frame["usage"].take();
                frame["usage"] = usage;
            }
            let frame = match self.options.include_obfuscation {
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
    use super::*;

    #[test]
    fn padded_frames_have_few_lengths() {
        for len in 0..200 {
            let padded = pad(json!({"delta": "x".repeat(len)}));
            assert!(padded.len().is_multiple_of(PAD_BYTES));
            let frame: Value = serde_json::from_str(&padded).unwrap();
            assert_eq!(frame["delta"].as_str().unwrap().len(), len);
        }
    }
}
