//! What is asked of an engine and what comes back: a request, how to draw, the events of a stream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::prefix::Tenant;

/// How tokens are drawn. The neutral value of each filter switches it off.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f32,
    /// Keep the k likeliest; 0 keeps all.
    pub top_k: u32,
    /// Keep the likeliest whose probabilities reach this; 1 keeps all.
    pub top_p: f32,
    /// Keep what is at least this share as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Keep the tokens whose surprise is nearest to the distribution's entropy until their
    /// probabilities reach this; 1 keeps all. Source: Meister et al., "Locally typical sampling"
    /// (2202.00666).
    pub typical_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen in prompt or output; 1 is
    /// off.
    pub repetition_penalty: f32,
    /// Subtracted once from the logit of each token in the output so far.
    pub presence_penalty: f32,
    /// Subtracted from the logit of each token as often as it is in the output so far.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Key of the random stream.
    pub seed: u64,
    /// Which of several choices of one request this is; picks a stream of its own.
    pub choice: Choice,
}

/// The number of a choice (`n` in the API), from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice(pub u32);

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
            choice: Choice(0),
        }
    }
}

/// How urgent a request is. An urgent one is admitted before those of later lanes that came not
/// long before it, and takes the places and blocks of such where there are none left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Somebody waits for each word.
    Interactive,
    /// The usual.
    #[default]
    Normal,
    /// Whatever is left over.
    Idle,
}

/// Which distribution log-probabilities are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distribution {
    /// The model's own, as OpenAI has it.
    #[default]
    Model,
    /// What is drawn from: after bias, penalties, temperature and filters.
    Drawn,
}

/// Log-probabilities that are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logprobs {
    /// Alternatives per token (0 to 20), beside the token itself.
    pub top: u8,
    /// Of which distribution.
    pub of: Distribution,
}

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Token ids, at least one.
    pub prompt: Arc<[u32]>,
    /// At most this many new tokens; at least one, where the prompt's log-probabilities or its
    /// embedding are not all that is wanted.
    pub tokens_max: u32,
    /// Tokens that end the sequence; they are published with the end, not as tokens.
    pub stop_tokens: Vec<u32>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Log-probabilities of drawn tokens, if wanted.
    pub logprobs: Option<Logprobs>,
    /// Log-probabilities of the prompt's tokens too, each given those before it: the model's own,
    /// with this many alternatives.
    pub prompt_logprobs: Option<u8>,
    /// The prompt's embedding is wanted, and nothing is drawn.
    pub embeds: bool,
    /// Whose request it is: what was computed for a tenant is reused for it alone.
    pub tenant: Tenant,
    /// How urgent it is.
    pub lane: Lane,
    /// It ends with [`EndReason::Deadline`] when it has not ended by then.
    pub deadline: Option<Instant>,
}

/// A token that was drawn, or one of the prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Natural logarithm of its probability, if asked for; none of a prompt's first token.
    pub logprob: Option<f32>,
    /// The likeliest tokens with theirs, best first, if asked for.
    pub top: Vec<(u32, f32)>,
}

/// Why a sequence ended.
#[derive(Clone, Debug, PartialEq)]
pub enum EndReason {
    /// This stop token was drawn.
    Stop(u32),
    /// `tokens_max` or the context was reached; of an embedding, that it is there.
    Length,
    /// Its deadline passed.
    Deadline,
    /// The engine is closing down.
    Closing,
    /// Its constraint cannot be followed further.
    Constraint(String),
    /// This request failed; others go on.
    Failed(String),
    /// The device failed, and with it every request of every model on it.
    DeviceFailed(String),
}

/// How a request began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// Tokens of the prompt whose keys and values were there already.
    pub cached_tokens: usize,
    /// How long it waited.
    pub waited: Duration,
}

/// What a stream yields: the beginning, the prompt's tokens if their log-probabilities were asked
/// for, tokens, then one end. A request that ends while it waits has no beginning.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It left the queue.
    Begun(Begun),
    /// The prompt's next tokens.
    Prompt(Vec<Token>),
    /// A token that was drawn.
    Token(Token),
    /// The prompt's embedding.
    Embedding(Vec<f32>),
    /// The last event.
    End(EndReason),
}
