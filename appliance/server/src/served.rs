//! A model: what is known of it, how it is loaded, and what answers requests once it is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use text::{ChatTemplate, GrammarError, Grammars, Tokenizer};

use crate::error::ApiError;

/// What is known of a model, loaded or not.
pub struct Known {
    /// The name clients use.
    pub name: String,
    /// When it became known, seconds since 1970.
    pub created_unix_seconds: u64,
    /// `system_fingerprint`: engine version, executor, device class and file digest.
    pub fingerprint: String,
    /// Where it came from and what vouches for it.
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
    pub tokenizer: Tokenizer,
    /// How conversations become prompts; none for a model without one.
    pub template: Option<ChatTemplate>,
}

/// A model that answers requests.
pub struct Served {
    /// What is known of it.
    pub known: Arc<Known>,
    /// Tokens in, tokens out.
    pub engine: engine::Handle,
    pub(crate) tokenizer: Tokenizer,
    /// Compiles grammars over its vocabulary; made when first asked for.
    grammars: OnceLock<Result<Grammars, GrammarError>>,
    pub(crate) template: Option<ChatTemplate>,
}

impl Served {
    pub(crate) fn new(known: Arc<Known>, loaded: Loaded) -> Served {
        let Loaded { engine, tokenizer, template } = loaded;
        Served { known, engine, tokenizer, grammars: OnceLock::new(), template }
    }

    /// What compiles grammars over the model's vocabulary.
    pub(crate) fn grammars(&self) -> Result<&Grammars, ApiError> {
        let grammars = self.grammars.get_or_init(|| Grammars::new(&self.tokenizer));
        grammars.as_ref().map_err(|error| {
            let message = format!("This model's vocabulary takes no grammars: {error}.");
            ApiError::unsupported("structured_outputs", message)
        })
    }

    /// Refuses a prompt, given as `param`, that has more bytes than any tokens that fit the
    /// context: tokenizing it would take seconds to say no more than that.
    pub(crate) fn check_bytes(&self, param: &str, bytes: usize) -> Result<(), ApiError> {
        let context_len = self.engine.limits().context_len;
        match bytes > context_len.saturating_mul(self.tokenizer.token_bytes_max()) {
            true => Err(ApiError::context_bytes(param, bytes, context_len)),
            false => Ok(()),
        }
    }
}
