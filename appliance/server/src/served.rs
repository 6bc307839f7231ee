//! A model: what is known of it, how it is loaded, and what answers requests once it is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bundle::Digest;
use text::{ChatTemplate, GrammarError, Grammars, TextError, Tokenizer, WordPiece};

use crate::error::ApiError;

/// Bytes that an encoder's token may stand for.
const ENCODER_TOKEN_BYTES_MAX: usize = 256;

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It answers in text.
    Chat,
    /// It makes embeddings, and nothing else.
    Embeddings,
}

impl Kind {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Chat => "chat",
            Kind::Embeddings => "embeddings",
        }
    }
}

/// What vouches for a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is part of the program.
    Program,
    /// It is a file that the configuration names; nobody signed it.
    Local,
    /// It came in a signed bundle, with this manifest.
    Stored(Digest),
}

/// What is known of a model, loaded or not.
pub struct Known {
    /// The name clients use.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// When it became known, seconds since 1970.
    pub created_unix_seconds: u64,
    /// `system_fingerprint`: engine version, executor, device class and file digest.
    pub fingerprint: String,
    /// What vouches for it.
    pub origin: Origin,
    /// The same for people: where it came from, who signed it.
    pub provenance: String,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// Loads it; called again each time it is needed and not loaded.
    pub load: Loader,
}

/// Loads a model, on a thread that may take its time.
pub type Loader = Box<dyn Fn(&Progress) -> Result<Loaded, LoadError> + Send + Sync>;

/// Why a model was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Others have the memory.
    #[error(transparent)]
    NoRoom(#[from] engine::NoRoom),
    /// It was told to stop.
    #[error("loading was stopped")]
    Stopped,
    /// Something is wrong with it: what, and what to do.
    #[error("{0}")]
    Failed(String),
}

/// How far a load has come, and whether it is to go on.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    whole: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// So much of the work is done: bytes read, or the like.
    pub fn set(&self, done: u64, whole: u64) {
        self.whole.store(whole, Ordering::Relaxed);
        self.done.store(done.min(whole), Ordering::Relaxed);
    }

    /// Hundredths of the work that are done.
    pub fn percent(&self) -> u64 {
        let whole = self.whole.load(Ordering::Relaxed).max(1);
        self.done.load(Ordering::Relaxed).saturating_mul(100) / whole
    }

    /// Nobody needs it any more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// It is to end without a result.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// What a load yields.
pub struct Loaded {
    /// Tokens in, tokens out.
    pub engine: engine::Handle,
    /// Text to tokens and back.
    pub text: TextSide,
}

/// Text to tokens and back.
pub enum TextSide {
    /// Of a model that answers in text.
    Decoder {
        /// Text to tokens and back.
        tokenizer: Arc<Tokenizer>,
        /// How conversations become prompts; none for a model without one.
        template: Option<Box<ChatTemplate>>,
    },
    /// Of a model that makes embeddings, and nothing else.
    Encoder(WordPiece),
}

/// A model that answers requests.
pub struct Served {
    /// What is known of it.
    pub known: Arc<Known>,
    /// Tokens in, tokens out.
    pub engine: engine::Handle,
    pub(crate) text: TextSide,
    /// Compiles grammars over its vocabulary; made when first asked for.
    grammars: OnceLock<Result<Grammars, GrammarError>>,
}

impl Served {
    pub(crate) fn new(known: Arc<Known>, loaded: Loaded) -> Served {
        let Loaded { engine, text } = loaded;
        Served { known, engine, text, grammars: OnceLock::new() }
    }

    /// The tokenizer of a model that answers in text.
    ///
    /// # Errors
    /// 400 for a model that makes embeddings alone.
    pub(crate) fn tokenizer(&self) -> Result<&Arc<Tokenizer>, ApiError> {
        match &self.text {
            TextSide::Decoder { tokenizer, .. } => Ok(tokenizer),
            TextSide::Encoder(_) => Err(ApiError::param(
                "model",
                "This model makes embeddings and answers in no text; use /v1/embeddings.",
            )),
        }
    }

    /// How conversations become prompts.
    ///
    /// # Errors
    /// 400 for a model without a chat template.
    pub(crate) fn template(&self) -> Result<&ChatTemplate, ApiError> {
        self.tokenizer()?;
        match &self.text {
            TextSide::Decoder { template: Some(template), .. } => Ok(template),
            _ => {
                let message = "This model has no chat template; use /v1/completions.";
                Err(ApiError::param("model", message))
            }
        }
    }

    /// A text's tokens as an embedding is made of them.
    pub(crate) fn embedded(&self, text: &str) -> Result<Vec<u32>, TextError> {
        match &self.text {
            TextSide::Decoder { tokenizer, .. } => tokenizer.encode_text(text),
            TextSide::Encoder(tokenizer) => tokenizer.encode(text),
        }
    }

    /// What compiles grammars over the model's vocabulary.
    pub(crate) fn grammars(&self) -> Result<&Grammars, ApiError> {
        let tokenizer = self.tokenizer()?;
        let grammars = self.grammars.get_or_init(|| Grammars::new(tokenizer));
        grammars.as_ref().map_err(|error| {
            let message = format!("This model's vocabulary takes no grammars: {error}.");
            ApiError::unsupported("structured_outputs", message)
        })
    }

    /// Refuses a prompt, given as `param`, that has more bytes than any tokens that fit the
    /// context: tokenizing it would take seconds to say no more than that.
    pub(crate) fn check_bytes(&self, param: &str, bytes: usize) -> Result<(), ApiError> {
        let context_len = self.engine.limits().context_len;
        let token_bytes_max = match &self.text {
            TextSide::Decoder { tokenizer, .. } => tokenizer.token_bytes_max(),
            // A word of any length is one token, and spaces are none: this many are too many.
            TextSide::Encoder(_) => ENCODER_TOKEN_BYTES_MAX,
        };
        match bytes > context_len.saturating_mul(token_bytes_max) {
            true => Err(ApiError::context_bytes(param, bytes, context_len)),
            false => Ok(()),
        }
    }
}
