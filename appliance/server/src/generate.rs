//! One answer: engine events to decoded, parsed, stopped pieces of text.
//!
//! Each choice is pumped by a task of its own into one bounded channel. Dropping the receiving
//! end cancels every choice within one engine step.

use std::sync::Arc;
use std::time::Instant;

use engine::{
    Begun, Choice, Constraint, EndReason, Event, Logprobs, Refused, Request, Tenant, Token,
    TokenStream,
};
use text::{AnswerParser, Decoder, Grammar, Piece, StopStrings, Tokenizer};
use tokio::sync::mpsc;

use crate::error::ApiError;
use crate::grammar::Following;
use crate::observe::Meter;
use crate::parameters::Parameters;
use crate::served::Served;

/// Outputs that may wait for the connection.
const OUTPUTS_LEN: usize = 16;

/// What is generated from one prompt.
pub(crate) struct Job {
    pub served: Arc<Served>,
    /// The model's.
    pub tokenizer: Arc<Tokenizer>,
    pub prompt: Arc<[u32]>,
    pub tokens_max: u32,
    pub logprobs: Option<Logprobs>,
    /// What the answer must be.
    pub grammar: Option<Grammar>,
    /// The prompt is part of the answer.
    pub echo: Option<Echo>,
    pub format: Format,
}

impl Job {
    /// The prompt's tokens are told with their log-probabilities.
    pub fn scores_prompt(&self) -> bool {
        matches!(self.echo, Some(Echo::Scored(_)))
    }
}

/// A prompt that is part of its answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Echo {
    /// As text.
    Text(String),
    /// As tokens with log-probabilities, with this many alternatives.
    Scored(u8),
}

/// On whose behalf an answer is generated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub tenant: Tenant,
    /// When the answer must have ended.
    pub deadline: Instant,
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

/// A token as log-probabilities name it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named {
    /// Control tokens by their spelling.
    pub text: String,
    /// What it prints: nothing for a control token.
    pub bytes: Vec<u8>,
}

/// A token with its log-probabilities.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scored {
    pub token: Named,
    /// None of a prompt's first token.
    pub logprob: Option<f32>,
    pub top: Vec<(Named, f32)>,
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
    /// Scores of last tokens that printed nothing.
    pub scores: Vec<Scored>,
}

/// Outputs of all choices as they come, each with the number of its choice.
pub(crate) type Outputs = mpsc::Receiver<(u32, Output)>;

/// Starts all choices of all jobs; choices are numbered job by job.
///
/// # Errors
/// The engine's refusal; nothing runs then.
pub(crate) fn start(
    meter: &Arc<Meter>,
    jobs: Vec<Job>,
    parameters: &Parameters,
    terms: Terms,
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
                stop_tokens: job.tokenizer.end_tokens().to_vec(),
                sampling,
                logprobs: job.logprobs,
                embeds: false,
                prompt_logprobs: match job.echo {
                    Some(Echo::Scored(top)) => Some(top),
                    _ => None,
                },
                tenant: terms.tenant,
                lane: parameters.lane,
                deadline: Some(terms.deadline),
            };
            let following = job.grammar.as_ref().map(|grammar| Following(grammar.follow()));
            let constraint = following.map(|following| Box::new(following) as Box<dyn Constraint>);
            let engine = &job.served.engine;
            let stream = engine.submit_constrained(request, constraint).map_err(refused)?;
            submitted.push((Arc::clone(&job), Choice(choice), stream));
        }
    }
    let (sender, outputs) = mpsc::channel(OUTPUTS_LEN);
    for (index, (job, choice, stream)) in submitted.into_iter().enumerate() {
        let pump = Pump {
            meter: Arc::clone(meter),
            index: index as u32,
            choice,
            sender: sender.clone(),
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

pub(crate) fn refused(refused: Refused) -> ApiError {
    match refused {
        Refused::QueueFull { .. } => ApiError::queue_full(),
        Refused::PromptTooLong { prompt_len, context_len } => {
            ApiError::context_length("prompt", prompt_len, context_len)
        }
        Refused::Closing => ApiError::closing(),
        Refused::EmptyPrompt
        | Refused::NoTokens
        | Refused::NoLogits
        | Refused::UnknownToken { .. } => ApiError::param("prompt", format!("{refused}.")),
    }
}

/// What clients are told of an end, and when it is an error.
pub(crate) fn ended(reason: EndReason, meter: &Meter) -> Result<&'static str, ApiError> {
    match reason {
        EndReason::Stop(_) => Ok("stop"),
        EndReason::Length => Ok("length"),
        EndReason::Deadline => Err(ApiError::deadline(meter.answer_timeout())),
        EndReason::Closing => Err(ApiError::closing()),
        EndReason::Constraint(error) => Err(ApiError::grammar(&error)),
        EndReason::Failed(error) => Err(ApiError::internal(format!("The model failed: {error}."))),
        EndReason::DeviceFailed(_) => Err(ApiError::device_failed()),
    }
}

/// The error of a choice that has no end: the task that pumped it is gone.
pub(crate) fn lost() -> ApiError {
    ApiError::internal("The answer was lost before its end. Try again.")
}

struct Pump {
    meter: Arc<Meter>,
    index: u32,
    choice: Choice,
    sender: mpsc::Sender<(u32, Output)>,
    stops: Vec<String>,
}

impl Pump {
    async fn run(self, job: Arc<Job>, mut stream: TokenStream) {
        let mut answer = Answer::new(&job, &self.meter, &self.stops);
        let mut last = None;
        let mut begin = answer.begin();
        loop {
            for output in begin.drain(..) {
                if self.sender.send((self.index, output)).await.is_err() {
                    return;
                }
            }
            let event = tokio::select! {
                event = stream.next() => event,
                () = self.sender.closed() => return,
            };
            let output = match event {
                Some(Event::Begun(begun)) => {
                    self.begun(begun);
                    continue;
                }
                Some(Event::Prompt(tokens)) => answer.echo(&tokens),
                Some(Event::Token(token)) => {
                    self.meter.time_token(&mut last);
                    answer.push(&token)
                }
                // Nobody who wants text asks for one.
                Some(Event::Embedding(_)) => continue,
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
}

impl Pump {
    /// A prompt counts once, whatever the number of its choices.
    fn begun(&self, begun: Begun) {
        if self.choice == Choice(0) {
            self.meter.tally.count_cached(begun.cached_tokens);
            self.meter.waited(begun.waited);
        }
    }
}

/// The text side of one choice.
struct Answer<'a> {
    job: &'a Job,
    meter: &'a Meter,
    decoder: Decoder<'a>,
    stops: StopStrings,
    parser: Option<AnswerParser>,
    /// Scores of tokens that have printed nothing yet: their text is held back, or they have none.
    scores: Vec<Scored>,
    /// The text is in a thinking block, or was last; or a call was.
    hidden: bool,
    called: bool,
}

impl<'a> Answer<'a> {
    fn new(job: &'a Job, meter: &'a Meter, stops: &[String]) -> Answer<'a> {
        let tokenizer = &*job.tokenizer;
        let (decoder, parser, hidden) = match job.format {
            Format::Text => {
                let decoder = match job.echo {
                    Some(Echo::Scored(_)) => tokenizer.decoder(),
                    _ => tokenizer.continuing_decoder(),
                };
                (decoder, None, false)
            }
            Format::Message { tools, thinking_open } => {
                let parser = AnswerParser::new(tools, thinking_open);
                (tokenizer.decoder(), Some(parser), thinking_open)
            }
        };
        Answer {
            job,
            meter,
            decoder,
            stops: StopStrings::new(stops),
            parser,
            scores: Vec::new(),
            hidden,
            called: false,
        }
    }

    /// What comes before all else: the prompt, where it is part of the answer.
    fn begin(&mut self) -> Vec<Output> {
        match &self.job.echo {
            Some(Echo::Text(text)) if !text.is_empty() => {
                vec![Output::Pieces(vec![Piece::Content(text.clone())], Vec::new())]
            }
            _ => Vec::new(),
        }
    }

    /// Tokens of the prompt, as text and scores. Stop strings are for what is generated.
    fn echo(&mut self, tokens: &[Token]) -> Vec<Output> {
        let scores: Vec<Scored> = tokens.iter().map(|token| self.scored(token)).collect();
        let text: String = tokens.iter().map(|token| self.decoder.push(token.id)).collect();
        vec![Output::Pieces(vec![Piece::Content(text)], scores)]
    }

    fn push(&mut self, token: &Token) -> Vec<Output> {
        self.meter.tally.count_completion();
        self.scores.extend(self.score(token));
        let text = self.decoder.push(token.id);
        let (text, stopped) = self.stops.push(&text);
        let pieces = self.parse(&text);
        if pieces.iter().any(|piece| matches!(piece, Piece::Reasoning(_))) {
            self.meter.tally.count_reasoning();
        } else if self.hidden && !pieces.is_empty() {
            // The tokens between thinking and content have made no content.
            self.scores.drain(..self.scores.len().saturating_sub(1));
        }
        let mut outputs = self.outputs(pieces);
        if stopped {
            let pieces = self.parser.as_mut().map(AnswerParser::finish).unwrap_or_default();
            outputs.extend(self.outputs(pieces));
            // What is left are the tokens of the stop string.
            self.scores.clear();
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
        outputs.push(self.ended(ended(reason, self.meter)));
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
        let Some(last) = pieces.last() else { return Vec::new() };
        self.hidden = !matches!(last, Piece::Content(_));
        self.called |= pieces.iter().any(|piece| matches!(piece, Piece::ToolCall { .. }));
        let mut scores = std::mem::take(&mut self.scores);
        if !pieces.iter().any(|piece| matches!(piece, Piece::Content(_))) {
            scores.clear();
        }
        vec![Output::Pieces(pieces, scores)]
    }

    fn ended(&mut self, reason: Result<&'static str, ApiError>) -> Output {
        let reason = reason.map(|reason| match reason {
            "stop" if self.called => "tool_calls",
            other => other,
        });
        let mut scores = std::mem::take(&mut self.scores);
        if self.hidden {
            scores.clear();
        }
        Output::End(End { reason, scores })
    }

    /// What is told of a token's probability, if it was asked for.
    fn score(&self, token: &Token) -> Option<Scored> {
        token.logprob.is_some().then(|| self.scored(token))
    }

    fn scored(&self, token: &Token) -> Scored {
        let tokenizer = &self.job.tokenizer;
        let named = |id| Named { text: tokenizer.token_text(id), bytes: tokenizer.token_bytes(id) };
        Scored {
            logprob: token.logprob,
            token: named(token.id),
            top: token.top.iter().map(|&(id, logprob)| (named(id), logprob)).collect(),
        }
    }
}
