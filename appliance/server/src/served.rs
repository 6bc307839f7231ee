//! The models being served: text side and engine handle of each.

use std::sync::{Arc, OnceLock, RwLock};

use text::{ChatTemplate, GrammarError, Grammars, Tokenizer};

use crate::error::ApiError;

/// A model that answers requests.
pub struct Served {
    /// The name clients use.
    pub name: String,
    /// When it was loaded, seconds since 1970.
    pub created_unix_seconds: u64,
    /// Tokens in, tokens out.
    pub engine: engine::Handle,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// Compiles grammars over its vocabulary; made when first asked for.
    pub grammars: OnceLock<Result<Grammars, GrammarError>>,
    /// How conversations become prompts; none for a model without one.
    pub template: Option<ChatTemplate>,
    /// `system_fingerprint`: engine version, executor, device class and file digest.
    pub fingerprint: String,
    /// Where it came from and what vouches for it.
    pub provenance: String,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

impl Served {
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

/// Models by name. Filled while the server already listens.
#[derive(Default)]
pub struct Registry {
    models: RwLock<Vec<Arc<Served>>>,
    loading: RwLock<Option<String>>,
}

impl Registry {
    /// Adds a model that is ready.
    pub fn add(&self, served: Served) {
        self.models.write().expect("no holder of this lock panics").push(Arc::new(served));
        self.set_loading(None);
    }

    /// Says what is being loaded, for readiness and status.
    pub fn set_loading(&self, what: Option<String>) {
        *self.loading.write().expect("no holder of this lock panics") = what;
    }

    /// What is being loaded.
    pub fn loading(&self) -> Option<String> {
        self.loading.read().expect("no holder of this lock panics").clone()
    }

    /// All models.
    pub fn all(&self) -> Vec<Arc<Served>> {
        self.models.read().expect("no holder of this lock panics").clone()
    }

    /// The model of that name.
    ///
    /// # Errors
    /// 503 while it may still be loading, 404 otherwise.
    pub fn get(&self, name: &str) -> Result<Arc<Served>, ApiError> {
        let all = self.all();
        if let Some(served) = all.iter().find(|served| served.name == name) {
            return Ok(Arc::clone(served));
        }
        if let Some(loading) = self.loading() {
            return Err(ApiError::unavailable(format!("'{loading}' is still being loaded.")));
        }
        let names: Vec<String> = all.iter().map(|served| served.name.clone()).collect();
        Err(ApiError::model_not_found(name, &names))
    }
}
