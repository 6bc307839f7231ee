//! `redoubt chat`: a conversation in the terminal, streamed over the Unix socket.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::client::{call, send};
use crate::failure::Failure;

/// Talks until the input ends.
pub async fn run(
    socket: &Path,
    model: Option<String>,
    system: Option<String>,
) -> Result<(), Failure> {
    let model = match model {
        Some(model) => model,
        None => only_model(socket).await?,
    };
    let interactive = std::io::stdin().is_terminal();
    if interactive {
        println!("Talking to {model}. Ctrl-C stops an answer, Ctrl-D leaves.");
    }
    let mut messages: Vec<Value> = Vec::new();
    messages.extend(system.map(|text| json!({"role": "system", "content": text})));
    while let Some(line) = read_line(interactive)? {
        match line.trim() {
            "" => continue,
            "/exit" | "/quit" => break,
            text => messages.push(json!({"role": "user", "content": text})),
        }
        match answer(socket, &model, &messages).await {
            Ok(answer) => messages.push(json!({"role": "assistant", "content": answer})),
            Err(failure) if interactive => {
                eprintln!("{failure}");
                messages.pop();
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

async fn only_model(socket: &Path) -> Result<String, Failure> {
    let answer = call(socket, Method::GET, "/v1/models", None).await?;
    let names: Vec<&str> =
        answer["data"].as_array().into_iter().flatten().filter_map(|m| m["id"].as_str()).collect();
    match names.as_slice() {
        [name] => Ok((*name).to_owned()),
        [] => Err(Failure::new("the server has no model ready")
            .hint("'redoubt status' says whether one is being loaded")),
        names => Err(Failure::new("the server has several models")
            .hint(format!("pick one with --model: {}", names.join(", ")))),
    }
}

fn read_line(interactive: bool) -> Result<Option<String>, Failure> {
    if interactive {
        print!("\n> ");
        flush()?;
    }
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    match read.map_err(|error| Failure::new(format!("reading the input: {error}")))? {
        0 => Ok(None),
        _ => Ok(Some(line)),
    }
}

/// Streams one answer to the terminal and returns its text; Ctrl-C ends it early.
async fn answer(socket: &Path, model: &str, messages: &[Value]) -> Result<String, Failure> {
    let body = json!({"model": model, "messages": messages, "stream": true,
                      "stream_options": {"include_obfuscation": false}});
    let waiting = ProgressBar::new_spinner();
    waiting.enable_steady_tick(Duration::from_millis(100));
    let response = send(socket, Method::POST, "/v1/chat/completions", Some(&body)).await;
    let mut events = match response {
        Ok(response) => Events { body: response.into_body(), pending: Vec::new() },
        Err(failure) => {
            waiting.finish_and_clear();
            return Err(failure);
        }
    };
    let mut screen = Screen { text: String::new(), reasoning: false };
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(event) = event else { break };
        if let Some(message) = event["error"]["message"].as_str() {
            return Err(Failure::new(message));
        }
        let delta = &event["choices"][0]["delta"];
        let shown = ["content", "reasoning_content"].map(|f| delta[f].as_str().unwrap_or_default());
        if shown.iter().any(|text| !text.is_empty()) {
            waiting.finish_and_clear();
            screen.show(shown)?;
        }
    }
    waiting.finish_and_clear();
    screen.finish()
}

/// What was shown so far.
struct Screen {
    text: String,
    reasoning: bool,
}

impl Screen {
    /// Reasoning is dimmed, and set off from what follows.
    fn show(&mut self, [content, reasoning]: [&str; 2]) -> Result<(), Failure> {
        let styled = std::io::stdout().is_terminal();
        if !reasoning.is_empty() {
            self.reasoning = true;
            if styled { print!("\x1b[2m{reasoning}\x1b[0m") } else { print!("{reasoning}") }
        }
        if !content.is_empty() && std::mem::take(&mut self.reasoning) {
            println!();
        }
        print!("{content}");
        self.text.push_str(content);
        flush()
    }

    fn finish(self) -> Result<String, Failure> {
        println!();
        flush()?;
        Ok(self.text)
    }
}

fn flush() -> Result<(), Failure> {
    std::io::stdout().flush().map_err(|error| Failure::new(format!("writing the answer: {error}")))
}

/// Server-sent events of one response.
struct Events {
    body: Incoming,
    pending: Vec<u8>,
}

impl Events {
    /// The next event's JSON; `None` after the last.
    async fn next(&mut self) -> Result<Option<Value>, Failure> {
        loop {
            while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                let Some(data) = line.strip_prefix(b"data: ") else { continue };
                let data = data.trim_ascii();
                if data == b"[DONE]" {
                    return Ok(None);
                }
                let event = serde_json::from_slice(data)
                    .map_err(|error| Failure::new(format!("the answer is no JSON: {error}")))?;
                return Ok(Some(event));
            }
            match self.body.frame().await {
                None => return Err(Failure::new("the answer broke off; the server may have gone")),
                Some(Err(error)) => {
                    return Err(Failure::new(format!("reading the answer: {error}")));
                }
                Some(Ok(frame)) => {
                    self.pending
                        .extend_from_slice(frame.data_ref().unwrap_or(&hyper::body::Bytes::new()));
                }
            }
        }
    }
}
