//! `redoubt chat`: a conversation in the terminal, streamed over the Unix socket.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::{call, send};
use crate::failure::Failure;
use crate::screen;

/// How to talk.
pub struct Settings {
    /// Which model; the only one where there is one.
    pub model: Option<String>,
    /// A system message to begin with.
    pub system: Option<String>,
    /// How freely words are drawn.
    pub temperature: f32,
}

/// Talks until the input ends.
pub async fn run(socket: &Path, settings: Settings) -> Result<(), Failure> {
    let Settings { model, system, temperature } = settings;
    let model = match model {
        Some(model) => model,
        None => only_model(socket).await?,
    };
    let interactive = std::io::stdin().is_terminal();
    let mut signals = Interrupts::new()?;
    if interactive {
        screen::show(&format!(
            "Talking to {}. Ctrl-C stops an answer, Ctrl-D leaves, /clear forgets.\n",
            screen::plain(&model)
        ))?;
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let begin: Vec<Value> =
        system.iter().map(|text| json!({"role": "system", "content": text})).collect();
    let mut chat = Chat { socket, model, temperature, messages: begin.clone() };
    loop {
        if interactive {
            screen::show("\n> ")?;
        }
        let line = tokio::select! {
            line = lines.next_line() => {
                line.map_err(|error| Failure::new(format!("reading the input: {error}")))?
            }
            () = signals.next() => None,
        };
        match line.as_deref().map(str::trim) {
            None => break,
            Some("") => continue,
            Some("/exit" | "/quit") => return Ok(()),
            Some("/clear") => chat.messages.clone_from(&begin),
            Some(text) => match chat.ask(text, &mut signals).await {
                Err(failure) if interactive => eprintln!("{failure}"),
                answered => answered?,
            },
        }
    }
    // The next prompt of the shell begins on a line of its own.
    if interactive { screen::show("\n") } else { Ok(()) }
}

/// Ctrl-C, from before the first answer on: none is lost, and none kills in the middle of a line.
struct Interrupts(Signal);

impl Interrupts {
    fn new() -> Result<Interrupts, Failure> {
        let failed = |error| Failure::new(format!("Ctrl-C cannot be received: {error}"));
        signal(SignalKind::interrupt()).map(Interrupts).map_err(failed)
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}

/// A conversation.
struct Chat<'a> {
    socket: &'a Path,
    model: String,
    temperature: f32,
    messages: Vec<Value>,
}

impl Chat<'_> {
    /// Asks, shows the answer, and keeps both; what failed is forgotten.
    async fn ask(&mut self, text: &str, signals: &mut Interrupts) -> Result<(), Failure> {
        self.messages.push(json!({"role": "user", "content": text}));
        match self.answer(signals).await {
            Ok(answer) => {
                self.messages.push(json!({"role": "assistant", "content": answer}));
                Ok(())
            }
            Err(failure) => {
                self.messages.pop();
                Err(failure)
            }
        }
    }

    /// Streams one answer to the terminal and returns its text; Ctrl-C ends it early.
    async fn answer(&self, signals: &mut Interrupts) -> Result<String, Failure> {
        let body = json!({"model": self.model, "messages": self.messages, "stream": true,
                          "temperature": self.temperature,
                          "stream_options": {"include_obfuscation": false}});
        let waiting = ProgressBar::new_spinner();
        waiting.enable_steady_tick(Duration::from_millis(100));
        let screen = self.stream(&body, &waiting, signals).await;
        waiting.finish_and_clear();
        screen?.finish()
    }

    async fn stream(
        &self,
        body: &Value,
        waiting: &ProgressBar,
        signals: &mut Interrupts,
    ) -> Result<Screen, Failure> {
        let mut screen = Screen { text: String::new(), reasoning: false };
        let response = tokio::select! {
            response = send(self.socket, Method::POST, "/v1/chat/completions", Some(body)) => {
                response?
            }
            () = signals.next() => return Ok(screen),
        };
        let mut events = Events { body: response.into_body(), pending: Vec::new() };
        loop {
            let event = tokio::select! {
                event = events.next() => event?,
                () = signals.next() => None,
            };
            let Some(event) = event else { return Ok(screen) };
            if let Some(message) = event["error"]["message"].as_str() {
                return Err(Failure::new(message));
            }
            let delta = &event["choices"][0]["delta"];
            let shown =
                ["content", "reasoning_content"].map(|f| delta[f].as_str().unwrap_or_default());
            if shown.iter().any(|text| !text.is_empty()) {
                waiting.finish_and_clear();
                screen.show(shown)?;
            }
        }
    }
}

async fn only_model(socket: &Path) -> Result<String, Failure> {
    let answer = call(socket, Method::GET, "/v1/models", None).await?;
    let models = answer["data"].as_array().into_iter().flatten();
    let chats = models.filter(|model| model["kind"] == "chat");
    let names: Vec<&str> = chats.filter_map(|model| model["id"].as_str()).collect();
    match names.as_slice() {
        [name] => Ok((*name).to_owned()),
        [] => Err(Failure::new("the server has no model that answers in text")
            .hint("'redoubt status' says whether one is being loaded")),
        names => Err(Failure::new("the server has several models")
            .hint(format!("pick one with --model: {}", names.join(", ")))),
    }
}

/// What was shown so far.
struct Screen {
    text: String,
    reasoning: bool,
}

impl Screen {
    /// Reasoning is dimmed, and set off from what follows.
    fn show(&mut self, [content, reasoning]: [&str; 2]) -> Result<(), Failure> {
        let mut out = String::new();
        if !reasoning.is_empty() {
            self.reasoning = true;
            let reasoning = screen::plain(reasoning);
            match std::io::stdout().is_terminal() {
                true => out.push_str(&format!("\x1b[2m{reasoning}\x1b[0m")),
                false => out.push_str(&reasoning),
            }
        }
        if !content.is_empty() && std::mem::take(&mut self.reasoning) {
            out.push('\n');
        }
        out.push_str(&screen::plain(content));
        self.text.push_str(content);
        screen::show(&out)
    }

    fn finish(self) -> Result<String, Failure> {
        screen::show("\n")?;
        Ok(self.text)
    }
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
