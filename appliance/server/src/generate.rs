//! One answer: engine events to decoded, parsed, stopped pieces of text.
//!
//! Each choice is pumped by a task of its own into one bounded channel. Dropping the receiving
//! end cancels every choice within one engine step.

use std::sync::Arc;
use std::time::Instant;

use engine::{Choice, EndReason, Event, Refused, Request, Token, TokenStream};
use text::{AnswerParser, Decoder, Piece, StopStrings};
use tokio::sync::mpsc;

use crate::error::ApiError;
use crate::parameters::Parameters;
use crate::served::Served;
use crate::state::Shared;

/// Outputs that may wait for the connection.
const OUTPUTS_LEN: usize = 16;

/// What is generated from one prompt.
pub(crate) struct Job {
    pub served: Arc<Served>,
    pub prompt: Arc<[u32]>,
    pub tokens_max: u32,
    pub logprobs: Option<u8>,
    pub format: Format,
}

/// How text becomes pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Everything is content.
    Text,
    /// An assistant's message.
    Message {
        /// Tool calls are parsed.
        tools: bool,
        /// The prompt opened a thinking block.
        thinking_open: bool,
    },
}

/// A token with its log-probabilities, decoded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scored {
    pub bytes: Vec<u8>,
    pub logprob: f32,
    pub top: Vec<(Vec<u8>, f32)>,
}

/// What a choice yields: pieces, then one end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Output {
    Pieces(Vec<Piece>, Vec<Scored>),
    End(End),
}

/// How a choice ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    /// OpenAI's `finish_reason`, or why there is none.
    pub reason: Result<&'static str, ApiError>,
    /// Tokens that were drawn.
    pub tokens: usize,
    /// Of these, tokens of thinking blocks.
    pub reasoning_tokens: usize,
}

/// Outputs of all choices as they come, each with the number of its choice.
pub(crate) type Outputs = mpsc::Receiver<(u32, Output)>;

/// Starts all choices of all jobs; choices are numbered job by job.
///
/// # Errors
/// The engine's refusal; nothing runs then.
pub(crate) fn start(
    state: &Shared,
    jobs: Vec<Job>,
    parameters: &Parameters,
    began: Instant,
) -> Result<Outputs, ApiError> {
    for job in &jobs {
        check(job, jobs.len() * parameters.choices as usize, parameters)?;
    }
    let mut submitted = Vec::new();
    for job in jobs {
        let job = Arc::new(job);
        for choice in 0..parameters.choices {
            let mut sampling = parameters.sampling.clone();
            sampling.choice = Choice(choice);
            let request = Request {
                prompt: Arc::clone(&job.prompt),
                tokens_max: job.tokens_max,
                stop_tokens: job.served.tokenizer.end_tokens().to_vec(),
                sampling,
                logprobs: job.logprobs,
            };
            let stream = job.served.engine.submit(request).map_err(refused)?;
            submitted.push((Arc::clone(&job), stream));
        }
    }
    let (sender, outputs) = mpsc::channel(OUTPUTS_LEN);
    for (index, (job, stream)) in submitted.into_iter().enumerate() {
        let pump = Pump {
            state: Arc::clone(state),
            index: index as u32,
            sender: sender.clone(),
            began,
            stops: parameters.stops.clone(),
        };
        tokio::spawn(pump.run(job, stream));
    }
    Ok(outputs)
}

/// Refuses what the engine would never take, or would silently leave out.
fn check(job: &Job, answers: usize, parameters: &Parameters) -> Result<(), ApiError> {
    let limits = job.served.engine.limits();
    // One answer alone is never too many: where none may wait, it is for the queue to refuse it.
    let answers_max = limits.queue_len_max.max(1);
    if answers > answers_max {
        let message = format!(
            "The request asks for {answers} answers at once, at most {answers_max} may wait. \
             Lower 'n'."
        );
        return Err(ApiError::param("n", message));
    }
    let vocabulary_len = limits.vocabulary_len;
    let biases = &parameters.sampling.logit_bias;
    match biases.iter().find(|(id, _)| *id as usize >= vocabulary_len) {
        None => Ok(()),
        Some((id, _)) => {
            let message = format!(
                "'logit_bias' names token {id}, this model has tokens 0 to {}.",
                vocabulary_len - 1
            );
            Err(ApiError::param("logit_bias", message))
        }
    }
}

fn refused(refused: Refused) -> ApiError {
    match refused {
        Refused::QueueFull { .. } => ApiError::queue_full(),
        Refused::PromptTooLong { prompt_len, context_len } => {
            ApiError::context_length("prompt", prompt_len, context_len)
        }
        Refused::Closing => ApiError::unavailable("The server is going down."),
        Refused::EmptyPrompt | Refused::NoTokens | Refused::UnknownToken { .. } => {
            ApiError::param("prompt", format!("{refused}."))
        }
    }
}

struct Pump {
    state: Shared,
    index: u32,
    sender: mpsc::Sender<(u32, Output)>,
    began: Instant,
    stops: Vec<String>,
}

impl Pump {
    async fn run(self, job: Arc<Job>, mut stream: TokenStream) {
        let mut answer = Answer::new(&job, &self.stops);
        let mut last = None;
        loop {
            let event = tokio::select! {
                event = stream.next() => event,
                () = self.sender.closed() => return,
            };
            let output = match event {
                Some(Event::Token(token)) => {
                    self.time(&mut last);
                    answer.push(&token)
                }
                Some(Event::End(reason)) => answer.end(reason),
                None => return,
            };
            for output in output {
                let ended = matches!(output, Output::End(_));
                if self.sender.send((self.index, output)).await.is_err() || ended {
                    return;
                }
            }
        }
    }

    fn time(&self, last: &mut Option<Instant>) {
        let now = Instant::now();
        match last.replace(now) {
            None => self.state.metrics.first_token.record(now - self.began),
            Some(last) => self.state.metrics.between_tokens.record(now - last),
        }
    }
}

/// The text side of one choice.
struct Answer<'a> {
    job: &'a Job,
    decoder: Decoder<'a>,
    stops: StopStrings,
    parser: Option<AnswerParser>,
    /// Scores of tokens whose text is still held back.
    scores: Vec<Scored>,
    tokens: usize,
    reasoning_tokens: usize,
    /// The last pieces were reasoning.
    thinking: bool,
    called: bool,
}

impl<'a> Answer<'a> {
    fn new(job: &'a Job, stops: &[String]) -> Answer<'a> {
        let tokenizer = &job.served.tokenizer;
        let (decoder, parser) = match job.format {
            Format::Text => (tokenizer.continuing_decoder(), None),
            Format::Message { tools, thinking_open } => {
                (tokenizer.decoder(), Some(AnswerParser::new(tools, thinking_open)))
            }
        };
        Answer {
            job,
            decoder,
            stops: StopStrings::new(stops),
            parser,
            scores: Vec::new(),
            tokens: 0,
            reasoning_tokens: 0,
            thinking: false,
            called: false,
        }
    }

    fn push(&mut self, token: &Token) -> Vec<Output> {
        self.tokens += 1;
        self.scores.extend(self.score(token));
        let text = self.decoder.push(token.id);
        let (text, stopped) = self.stops.push(&text);
        let pieces = self.parse(&text);
        if pieces.iter().any(|piece| matches!(piece, Piece::Reasoning(_))) {
            self.reasoning_tokens += 1;
            self.thinking = true;
        } else if self.thinking && !pieces.is_empty() {
            // The tokens between thinking and content have made no content.
            self.thinking = false;
            self.scores.drain(..self.scores.len().saturating_sub(1));
        }
        let mut outputs = self.outputs(pieces);
        if stopped {
            let pieces = self.parser.as_mut().map(AnswerParser::finish).unwrap_or_default();
            outputs.extend(self.outputs(pieces));
            outputs.push(self.ended(Ok("stop")));
        }
        outputs
    }

    fn end(&mut self, reason: EndReason) -> Vec<Output> {
        let rest = self.decoder.finish();
        let (text, stopped) = self.stops.push(&rest);
        let mut pieces = self.parse(&text);
        if !stopped {
            let held = self.stops.finish();
            pieces.extend(self.parse(&held));
        }
        pieces.extend(self.parser.as_mut().map(AnswerParser::finish).unwrap_or_default());
        let mut outputs = self.outputs(pieces);
        let reason = match reason {
            EndReason::Stop(_) => Ok("stop"),
            EndReason::Length => Ok("length"),
            EndReason::Closing => Err(ApiError::unavailable("The server is going down.")),
            EndReason::Failed(error) => {
                Err(ApiError::internal(format!("The model failed: {error}.")))
            }
        };
        outputs.push(self.ended(reason));
        outputs
    }

    fn parse(&mut self, text: &str) -> Vec<Piece> {
        match &mut self.parser {
            Some(parser) => parser.push(text),
            None if text.is_empty() => Vec::new(),
            None => vec![Piece::Content(text.to_owned())],
        }
    }

    /// Pieces with the scores of the tokens that made them; only content has scores.
    fn outputs(&mut self, pieces: Vec<Piece>) -> Vec<Output> {
        if pieces.is_empty() {
            return Vec::new();
        }
        self.called |= pieces.iter().any(|piece| matches!(piece, Piece::ToolCall { .. }));
        let mut scores = std::mem::take(&mut self.scores);
        if !pieces.iter().any(|piece| matches!(piece, Piece::Content(_))) {
            scores.clear();
        }
        vec![Output::Pieces(pieces, scores)]
    }

    fn ended(&self, reason: Result<&'static str, ApiError>) -> Output {
        let reason = reason.map(|reason| match reason {
            "stop" if self.called => "tool_calls",
            other => other,
        });
        let (tokens, reasoning_tokens) = (self.tokens, self.reasoning_tokens);
        Output::End(End { reason, tokens, reasoning_tokens })
    }

    fn score(&self, token: &Token) -> Option<Scored> {
        let tokenizer = &self.job.served.tokenizer;
        let top = |&(id, logprob): &(u32, f32)| (tokenizer.token_bytes(id), logprob);
        Some(Scored {
            bytes: tokenizer.token_bytes(token.id),
            logprob: token.logprob?,
            top: token.top.iter().map(top).collect(),
        })
    }
}
