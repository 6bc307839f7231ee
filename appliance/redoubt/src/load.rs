//! A model, from a file or embedded, to a served one: header, digest, plan, weights, tokenizer,
//! engine.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use compute::batch::BLOCK_LEN;
use compute::map::{self, MapError};
use compute::reference::{Mode, Reference};
use indicatif::{ProgressBar, ProgressStyle};
use ledger::Clock;
use models::gguf::GgufError;
use models::plan::Plan;
use models::vocabulary::Vocabulary;
use models::weights::{Container, Weights};
use server::Served;
use sha2::{Digest, Sha256};
use text::{ChatTemplate, Tokenizer};

use crate::cards;
use crate::config::Config;
use crate::drill;
use crate::failure::Failure;

/// Prompt tokens per engine step: what a long prompt may delay everybody's next token by.
const CHUNK_LEN_MAX: usize = 64;
/// Tokens drafted from what came before, and how many sequences may run while that pays.
const DRAFT_LEN_MAX: usize = 8;
const DRAFT_RUNNING_MAX: usize = 4;
/// Bytes hashed between two looks at the progress bar and at whether to stop.
const HASH_BYTES: usize = 1 << 20;

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A GGUF file.
    File(PathBuf),
    /// The drill model, which is part of the program.
    Drill,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => path.display().fmt(f),
            Source::Drill => f.write_str("the embedded drill model"),
        }
    }
}

impl Source {
    /// The file's name, without its folder.
    pub fn file_name(&self) -> String {
        match self {
            Source::File(path) => path.file_name().unwrap_or_default().to_string_lossy().into(),
            Source::Drill => drill::FILE.to_owned(),
        }
    }
}

/// Opens and verifies a model.
pub fn open(source: &Source) -> Result<Weights, Failure> {
    let path = match source {
        Source::File(path) => path,
        Source::Drill => return Ok(drill::weights()),
    };
    map::open(path).map_err(|error| {
        let hint = match &error {
            MapError::Io { .. } => "check the path; 'redoubt serve --model FILE' takes a GGUF file",
            MapError::Header { source: GgufError::Io { .. }, .. } => "copy the file again",
            MapError::Header { .. } => "the file is damaged or no GGUF model; copy it again",
            MapError::Folder { .. } => "get a whole copy of the model's folder",
            MapError::Changed { .. } => "do not change a model file while it is in use",
        };
        Failure::new(error).hint(hint)
    })
}

/// Loads a model and starts its engine; `None` where it was told to stop.
pub fn load(
    source: &Source,
    config: &Config,
    clock: &Clock,
    stop: &AtomicBool,
) -> Result<Option<Served>, Failure> {
    let weights = open(source)?;
    let plan = plan(source, &weights)?;
    let file = source.file_name();
    let (tokenizer, template) = text_side(source, &weights)?;
    if tokenizer.vocabulary_len() > plan.vocabulary_len {
        let (tokens, rows) = (tokenizer.vocabulary_len(), plan.vocabulary_len);
        let error = format!("{source}: {tokens} tokens, but embeddings for {rows}");
        return Err(Failure::new(error).hint("the file was put together wrongly; get another"));
    }
    let Some(sha256) = sha256(weights.bytes(), stop) else { return Ok(None) };
    let executor = executor(&plan, &weights, config, source)?;
    let card = cards::find(&file, &sha256)?;
    let (name, provenance) = match &card {
        Some(card) => {
            let place = if *source == Source::Drill { "part of the program" } else { "local file" };
            (card.name.clone(), format!("{place}, as its card says (licence {})", card.licence))
        }
        None => (cards::stem(&file).to_owned(), "local file, unverified".to_owned()),
    };
    let engine = engine::start(
        Box::new(executor),
        engine::Config {
            context_len: config.context_len.unwrap_or(usize::MAX),
            running_max: config.running_max,
            queue_len_max: config.queue_len_max,
            chunk_len_max: CHUNK_LEN_MAX,
            draft_len_max: DRAFT_LEN_MAX,
            draft_running_max: DRAFT_RUNNING_MAX,
        },
    )
    .map_err(|error| Failure::new(format!("the engine's thread cannot be started: {error}")))?;
    Ok(Some(Served {
        name,
        created_unix_seconds: clock.unix_seconds(),
        engine,
        tokenizer,
        grammars: Default::default(),
        template,
        fingerprint: format!(
            "redoubt-{}/reference/cpu/{}",
            env!("CARGO_PKG_VERSION"),
            &sha256[..12]
        ),
        provenance,
        sha256,
    }))
}

fn plan(source: &Source, weights: &Weights) -> Result<Plan, Failure> {
    models::family::plan(weights).map_err(|error| {
        Failure::new(format!("{source}: {error}"))
            .hint("'redoubt models inspect FILE' shows what the file holds")
    })
}

fn text_side(
    source: &Source,
    weights: &Weights,
) -> Result<(Tokenizer, Option<ChatTemplate>), Failure> {
    let failed = |error: &dyn fmt::Display| Failure::new(format!("{source}: {error}"));
    let Container::Gguf(header) = weights.container() else {
        return Err(failed(&"it is an encoder, which is not served yet"));
    };
    let vocabulary = Vocabulary::from_header(header).map_err(|error| failed(&error))?;
    let tokenizer = Tokenizer::new(&vocabulary).map_err(|error| failed(&error))?;
    if let Some(assumed) = tokenizer.assumed_pretokenizer() {
        tracing::warn!(pretokenizer = assumed, "assumed: {}", crate::inspect::NO_PRETOKENIZER);
    }
    let template = vocabulary.chat_template.as_deref();
    let template = template
        .map(|template| ChatTemplate::new(template, &vocabulary))
        .transpose()
        .map_err(|error| failed(&error))?;
    Ok((tokenizer, template))
}

fn executor(
    plan: &Plan,
    weights: &Weights,
    config: &Config,
    source: &Source,
) -> Result<Reference, Failure> {
    let block_bytes = Reference::cache_bytes(plan, 1).max(1);
    let context_len = config.context_len.unwrap_or(usize::MAX).min(plan.context_len);
    let needed = config.running_max.saturating_mul(context_len.div_ceil(BLOCK_LEN));
    let affordable = (config.kv_cache_mib << 20) / block_bytes;
    if affordable == 0 {
        let needed_mib = block_bytes.div_ceil(1 << 20);
        return Err(Failure::new(format!(
            "a KV cache of {} MiB does not hold one block of this model ({needed_mib} MiB)",
            config.kv_cache_mib
        ))
        .hint("raise 'kv_cache_mib' in the configuration"));
    }
    let bytes: u64 = weights.tensors().values().map(|tensor| tensor.bytes).sum();
    let bar = bar("loading", bytes);
    let mut progress = |done| bar.set_position(done);
    let blocks = needed.min(affordable);
    let executor = Reference::load(plan, weights, Mode::Serving, blocks, &mut progress)
        .map_err(|error| Failure::new(format!("{source}: {error}")))?;
    bar.finish_and_clear();
    Ok(executor)
}

/// SHA-256 of the bytes that are served, hexadecimal; `None` where it was told to stop.
fn sha256(bytes: &[u8], stop: &AtomicBool) -> Option<String> {
    let bar = bar("checking", bytes.len() as u64);
    let mut hasher = Sha256::new();
    for piece in bytes.chunks(HASH_BYTES) {
        if stop.load(Ordering::Acquire) {
            bar.finish_and_clear();
            return None;
        }
        hasher.update(piece);
        bar.inc(piece.len() as u64);
    }
    bar.finish_and_clear();
    Some(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A bar on a terminal; nothing elsewhere.
fn bar(what: &'static str, bytes: u64) -> ProgressBar {
    let style = "{msg:>10} [{bar:40}] {bytes}/{total_bytes} {eta}";
    let bar = ProgressBar::new(bytes).with_message(what);
    bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
