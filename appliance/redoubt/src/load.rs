//! A model, from a file or embedded, to a served one: looked at when the server starts (header,
//! digest, plan, tokenizer), loaded into the engine when it is needed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bundle::{Digest, ItemFile};
use compute::ComputeError;
use compute::batch::BLOCK_LEN;
use compute::cpu::{Cpu, KvType, Settings};
use compute::cuda::driver::Device;
use compute::cuda::{self, Cuda};
use compute::executor::Executor;
use compute::map::{self, MapError};
use compute::reference::{Mode, Reference};
use engine::{Engine, Handle, Needs};
use indicatif::{ProgressBar, ProgressStyle};
use ledger::Clock;
use models::gguf::GgufError;
use models::plan::Plan;
use models::vocabulary::Vocabulary;
use models::weights::{Container, Weights};
use server::{Golden, Kind, Known, LoadError, Loaded, Origin, TextSide};
use sha2::{Digest as _, Sha256};
use text::{ChatTemplate, Tokenizer, WordPiece};

use crate::cards;
use crate::config::Config;
use crate::drill;
use crate::failure::Failure;
use crate::place::Place;

/// Prompt tokens per engine step: what a long prompt may delay everybody's next token by, other
/// models' too.
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
    /// A model of the bundle store: its file or folder, and what was signed.
    Stored(Arc<StoredModel>),
}

/// A model of the bundle store.
#[derive(Debug, PartialEq, Eq)]
pub struct StoredModel {
    /// Its manifest's digest.
    pub digest: Digest,
    /// Its weights: a GGUF file, or a folder with model.safetensors.
    pub weights: PathBuf,
    /// Each of its files, and what it must be.
    pub files: Vec<(PathBuf, ItemFile)>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => path.display().fmt(f),
            Source::Drill => f.write_str("the embedded drill model"),
            Source::Stored(stored) => stored.weights.display().fmt(f),
        }
    }
}

impl Source {
    /// The file's name, without its folder.
    pub fn file_name(&self) -> String {
        match self {
            Source::File(path) => {
                // `.` has a name, too.
                let whole = || path.canonicalize().ok()?.file_name().map(OsStr::to_owned);
                let name = path.file_name().map(OsStr::to_owned).or_else(whole);
                name.unwrap_or_default().to_string_lossy().into()
            }
            Source::Drill => drill::FILE.to_owned(),
            Source::Stored(stored) => {
                stored.weights.file_name().unwrap_or_default().to_string_lossy().into()
            }
        }
    }
}

/// Opens and verifies a model.
pub fn open(source: &Source) -> Result<Weights, Failure> {
    let path = match source {
        Source::File(path) => path,
        Source::Stored(stored) => &stored.weights,
        Source::Drill => return Ok(drill::weights()),
    };
    map::open(path).map_err(|error| {
        let hint = match &error {
            MapError::Io { .. } => {
                "check the path; 'redoubt serve --model' takes a GGUF file, or a folder with \
                 model.safetensors"
            }
            MapError::Header { source: GgufError::Io { .. }, .. } => "copy the file again",
            MapError::Header { .. } => "the file is damaged or no GGUF model; copy it again",
            MapError::Folder { .. } => "get a whole copy of the model's folder",
            MapError::Changed { .. } => "do not change a model file while it is in use",
        };
        Failure::new(error).hint(hint)
    })
}

/// What a model is loaded with.
#[derive(Clone)]
pub struct Terms {
    /// Where it runs.
    pub engine: Engine,
    /// On what.
    pub place: Place,
    /// Bounds from the configuration.
    pub config: Config,
    /// Progress is drawn on the terminal: at the start, when nothing else is.
    pub bars: Arc<AtomicBool>,
}

/// A model that was opened and looked at, with all that loading needs.
struct Opened {
    weights: Weights,
    plan: Plan,
    text: TextSide,
    /// Of the tensors' file.
    sha256: String,
    /// Of what was read beside it.
    files_sha256: Option<String>,
}

/// Looks at a model, and says how it is loaded; `None` where it was told to stop.
pub fn look(
    source: &Source,
    terms: &Terms,
    clock: &Clock,
    stop: &AtomicBool,
) -> Result<Option<Known>, Failure> {
    let stopped = || stop.load(Ordering::Acquire);
    let Some(opened) = open_whole(source, terms, &mut |_, _| !stopped())? else { return Ok(None) };
    let (file, sha256) = (source.file_name(), opened.sha256.clone());
    let files_sha256 = opened.files_sha256.clone();
    let card = match source {
        Source::Stored(_) => None,
        _ => cards::find(&file, &sha256, files_sha256.as_deref())?,
    };
    let (name, provenance) = match &card {
        Some(card) => {
            let place = if *source == Source::Drill { "part of the program" } else { "local file" };
            (card.name.clone(), format!("{place}, as its card says (licence {})", card.licence))
        }
        None => (cards::stem(&file).to_owned(), "local file, unverified".to_owned()),
    };
    let version = env!("CARGO_PKG_VERSION");
    let files = files_sha256.map(|files| format!("-{}", &files[..12])).unwrap_or_default();
    let architectures: BTreeSet<String> = terms
        .place
        .gpus_for(&opened.plan)
        .iter()
        .map(|gpu| format!("sm_{}{}", gpu.info().capability.0, gpu.info().capability.1))
        .collect();
    let executor = if !architectures.is_empty() {
        format!("cuda/{}", Vec::from_iter(architectures).join("+"))
    } else if Cpu::fits(&opened.plan) {
        "packed/cpu".to_owned()
    } else {
        "reference/cpu".to_owned()
    };
    let fingerprint = format!("redoubt-{version}/{executor}/{}{files}", &sha256[..12]);
    let created_unix_seconds = clock.unix_seconds();
    let kind = match opened.text {
        TextSide::Decoder { .. } => Kind::Chat,
        TextSide::Encoder(_) => Kind::Embeddings,
    };
    let load = loader(source.clone(), terms.clone(), opened);
    let origin = match source {
        Source::Drill => Origin::Program,
        Source::File(_) => Origin::Local,
        Source::Stored(stored) => Origin::Stored(stored.digest),
    };
    Ok(Some(Known {
        name,
        kind,
        created_unix_seconds,
        fingerprint,
        origin,
        provenance,
        sha256,
        load,
    }))
}

/// Looks at a model of the bundle store, and reads its golden prompts.
pub fn look_stored(
    model: &server::StoredModel,
    terms: &Terms,
    clock: &Clock,
) -> Result<(Known, Vec<Golden>), String> {
    let golden = cards::golden(&model.card)?;
    let of_kind = |end: &str| model.files.iter().find(|(path, _)| path.as_str().ends_with(end));
    let weights = match (of_kind(".gguf"), of_kind("model.safetensors")) {
        (Some((path, _)), _) => model.folder.join(path.as_str()),
        (None, Some(_)) => model.folder.clone(),
        (None, None) => return Err("it has neither a GGUF file nor model.safetensors".to_owned()),
    };
    let placed = |(path, file): &(_, ItemFile)| {
        let path: &bundle::FilePath = path;
        (model.folder.join(path.as_str()), file.clone())
    };
    let files = model.files.iter().map(placed).collect();
    let digest = model.digest;
    let source = Source::Stored(Arc::new(StoredModel { digest, weights, files }));
    let looked = look(&source, terms, clock, &AtomicBool::new(false));
    let known = looked.map_err(|failure| failure.to_string())?.ok_or("it was told to stop")?;
    let (name, provenance) = (model.name.clone(), model.provenance.clone());
    Ok((Known { name, provenance, ..known }, golden))
}

/// What loads a model: the first time what was opened already, later what the same file holds.
fn loader(source: Source, terms: Terms, opened: Opened) -> server::Loader {
    let (sha256, files_sha256) = (opened.sha256.clone(), opened.files_sha256.clone());
    let first = Mutex::new(Some(opened));
    Box::new(move |progress| {
        let failed = |failure: Failure| LoadError::Failed(failure.to_string());
        let opened = first.lock().expect("no holder of this lock panics").take();
        let opened = match opened {
            Some(opened) => opened,
            None => {
                // Reading the file is the larger part of the work.
                let mut look = |done, whole| {
                    progress.set(done, whole);
                    !progress.is_stopped()
                };
                let opened = open_whole(&source, &terms, &mut look).map_err(failed)?;
                opened.ok_or(LoadError::Stopped)?
            }
        };
        if (&opened.sha256, &opened.files_sha256) != (&sha256, &files_sha256) {
            return Err(LoadError::Failed(format!(
                "{source} is not the file that it was when the server started; restart the server \
                 to serve it"
            )));
        }
        match load(&source, &terms, &opened) {
            Ok(engine) => Ok(Loaded { engine, text: opened.text }),
            Err(error) => {
                // For the next try, as soon as there is memory.
                *first.lock().expect("no holder of this lock panics") = Some(opened);
                Err(error)
            }
        }
    })
}

/// Opens, checks and reads a model; `None` where it was told to stop.
fn open_whole(
    source: &Source,
    terms: &Terms,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Option<Opened>, Failure> {
    let weights = open(source)?;
    let plan = plan(source, &weights)?;
    let (text, tokens) = text_side(source, &weights)?;
    if tokens > plan.vocabulary_len {
        let rows = plan.vocabulary_len;
        let error = format!("{source}: {tokens} tokens, but embeddings for {rows}");
        return Err(Failure::new(error).hint("the file was put together wrongly; get another"));
    }
    let sha256 = match source {
        Source::Stored(stored) => Some(checked(stored)?),
        _ => sha256(weights.bytes(), terms, progress),
    };
    let files_sha256 = files_sha256(&weights);
    Ok(sha256.map(|sha256| Opened { weights, plan, text, sha256, files_sha256 }))
}

/// Checks a stored model against what was signed, on all cores; the signed SHA-256 of its weights.
fn checked(stored: &StoredModel) -> Result<String, Failure> {
    for (path, file) in &stored.files {
        let whole = bundle::whole::is_whole(path, file);
        let whole = whole.map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        if !whole {
            let error = format!("{} is not what was signed", path.display());
            return Err(Failure::new(error)
                .hint("the disk is failing, or somebody changed it; import the bundle again"));
        }
    }
    let is_weights = |path: &std::path::Path| {
        path == stored.weights || path == stored.weights.join("model.safetensors")
    };
    let weights = stored.files.iter().find(|(path, _)| is_weights(path));
    Ok(weights.map(|(_, file)| file.sha256.to_string()).unwrap_or_default())
}

/// Reserves memory for a model, loads it and adds it to the engine.
fn load(source: &Source, terms: &Terms, opened: &Opened) -> Result<Handle, LoadError> {
    let Opened { weights, plan, .. } = opened;
    let config = &terms.config;
    let weight_bytes: u64 = weights.tensors().values().map(|tensor| tensor.bytes).sum();
    let gpus = terms.place.gpus_for(plan);
    let blocks = blocks(plan, !gpus.is_empty(), config)?;
    let settings = config.compute_settings();
    let cache_bytes = match gpus {
        [] => cache_bytes(plan, settings.kv, blocks.least),
        _ => Cuda::cache_bytes(plan, blocks.least),
    } as u64;
    let reservation = terms.engine.reserve(Needs { weight_bytes, cache_bytes })?;
    let bar = bar(terms, "loading", weight_bytes);
    let mut progress = |done| bar.set_position(done);
    let executor = match gpus {
        [] => executor(plan, weights, settings, blocks.most, &mut progress),
        gpus => on_gpus((gpus, terms.place.settings()), plan, weights, &blocks, &mut progress),
    };
    let executor = executor.map_err(|error| LoadError::Failed(format!("{source}: {error}")))?;
    bar.finish_and_clear();
    let config = engine::Config {
        context_len: config.context_len.unwrap_or(usize::MAX),
        running_max: config.running_max,
        queue_len_max: config.queue_len_max,
        chunk_len_max: CHUNK_LEN_MAX,
        draft_len_max: DRAFT_LEN_MAX,
        draft_running_max: DRAFT_RUNNING_MAX,
    };
    Ok(terms.engine.add(executor, config, reservation))
}

/// The model on the GPU that has the most room for it, or over all of them where none has enough;
/// with as many cache blocks as there is room for.
fn on_gpus(
    (gpus, settings): (&[Arc<Device>], &cuda::Settings),
    plan: &Plan,
    weights: &Weights,
    blocks: &Blocks,
    progress: &mut dyn FnMut(u64),
) -> Result<Box<dyn Executor>, ComputeError> {
    let (shares, room) = Cuda::shares(gpus, plan, weights, blocks.least)?;
    let count = room.clamp(blocks.least, blocks.most);
    if shares.len() > 1 {
        let layers: Vec<usize> = shares.iter().map(|share| share.layers.len()).collect();
        tracing::info!(model = plan.architecture, ?layers, "no GPU has room for all layers");
    }
    Ok(Box::new(Cuda::load_shared(&shares, plan, weights, (settings, count), progress)?))
}

/// The model on the CPU: by the executor that is made for it, or by the reference where its shapes
/// are not that one's.
fn executor(
    plan: &Plan,
    weights: &Weights,
    settings: Settings,
    blocks: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<Box<dyn Executor>, ComputeError> {
    if Cpu::fits(plan) {
        return Ok(Box::new(Cpu::load(plan, weights, settings, blocks, progress)?));
    }
    tracing::warn!(
        model = plan.architecture,
        "no fast path for this model's shapes; 'threads' and 'kv_cache_type' do not apply to it"
    );
    Ok(Box::new(Reference::load(plan, weights, Mode::Serving, blocks, progress)?))
}

/// Bytes that the executor's cache takes.
pub fn cache_bytes(plan: &Plan, kv: KvType, blocks: usize) -> usize {
    match Cpu::fits(plan) {
        true => Cpu::cache_bytes(plan, kv, blocks),
        false => Reference::cache_bytes(plan, blocks),
    }
}

fn plan(source: &Source, weights: &Weights) -> Result<Plan, Failure> {
    models::family::plan(weights).map_err(|error| {
        Failure::new(format!("{source}: {error}"))
            .hint("'redoubt models inspect FILE' shows what the file holds")
    })
}

/// How a model's text becomes tokens and back, and how many tokens there are.
fn text_side(source: &Source, weights: &Weights) -> Result<(TextSide, usize), Failure> {
    let failed = |error: &dyn fmt::Display| Failure::new(format!("{source}: {error}"));
    let header = match weights.container() {
        Container::Gguf(header) => header,
        Container::Safetensors(header) => {
            let tokenizer = WordPiece::new(header.tokenizer()).map_err(|error| failed(&error))?;
            let vocabulary_len = tokenizer.vocabulary_len();
            return Ok((TextSide::Encoder(tokenizer), vocabulary_len));
        }
    };
    let vocabulary = Vocabulary::from_header(header).map_err(|error| failed(&error))?;
    let tokenizer = Tokenizer::new(&vocabulary).map_err(|error| failed(&error))?;
    if let Some(assumed) = tokenizer.assumed_pretokenizer() {
        tracing::warn!(pretokenizer = assumed, "assumed: {}", crate::inspect::NO_PRETOKENIZER);
    }
    let template = vocabulary.chat_template.as_deref();
    let template = template
        .map(|template| ChatTemplate::new(template, &vocabulary).map(Box::new))
        .transpose()
        .map_err(|error| failed(&error))?;
    let vocabulary_len = tokenizer.vocabulary_len();
    Ok((TextSide::Decoder { tokenizer: Arc::new(tokenizer), template }, vocabulary_len))
}

/// SHA-256 of the small files that were read beside a folder's tensors, hexadecimal: in order of
/// their names, each with its name and both lengths before it.
fn files_sha256(weights: &Weights) -> Option<String> {
    let Container::Safetensors(header) = weights.container() else { return None };
    let mut hasher = Sha256::new();
    for (name, bytes) in &header.files {
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    Some(hexadecimal(&hasher.finalize()))
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Cache blocks of a model.
struct Blocks {
    /// What one sequence of the whole context takes.
    least: usize,
    /// What as many sequences take as may run, as far as they are allowed memory.
    most: usize,
}

fn blocks(plan: &Plan, is_on_gpu: bool, config: &Config) -> Result<Blocks, LoadError> {
    let block_bytes = match is_on_gpu {
        true => Cuda::cache_bytes(plan, 1),
        false => cache_bytes(plan, config.compute_settings().kv, 1),
    };
    let block_bytes = block_bytes.max(1);
    let allowed = (config.kv_cache_mib << 20) / block_bytes;
    if allowed == 0 {
        return Err(LoadError::Failed(format!(
            "a KV cache of {} MiB does not hold one block of this model ({} MiB); raise \
             'kv_cache_mib' in the configuration",
            config.kv_cache_mib,
            block_bytes.div_ceil(1 << 20)
        )));
    }
    let context_len = config.context_len.unwrap_or(usize::MAX).min(plan.context_len);
    let least = context_len.div_ceil(BLOCK_LEN).min(allowed);
    Ok(Blocks { least, most: config.running_max.saturating_mul(least).min(allowed) })
}

/// SHA-256 of the bytes that are served, hexadecimal; `None` where it was told to stop.
fn sha256(
    bytes: &[u8],
    terms: &Terms,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Option<String> {
    let whole = bytes.len() as u64;
    let bar = bar(terms, "checking", whole);
    let mut hasher = Sha256::new();
    for piece in bytes.chunks(HASH_BYTES) {
        if !progress(bar.position(), whole) {
            bar.finish_and_clear();
            return None;
        }
        hasher.update(piece);
        bar.inc(piece.len() as u64);
    }
    bar.finish_and_clear();
    Some(hexadecimal(&hasher.finalize()))
}

/// A bar on a terminal during the start; nothing elsewhere.
fn bar(terms: &Terms, what: &'static str, bytes: u64) -> ProgressBar {
    if !terms.bars.load(Ordering::Acquire) {
        return ProgressBar::hidden();
    }
    let style = "{msg:>10} [{bar:40}] {bytes}/{total_bytes} {eta}";
    let bar = ProgressBar::new(bytes).with_message(what);
    bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
