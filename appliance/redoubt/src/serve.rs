//! `redoubt serve`: one process, one state folder, until SIGTERM or Ctrl-C.

use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use access::KeyStore;
use ledger::Clock;
use server::{Server, Shared, State};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::config::Config;
use crate::failure::Failure;
use crate::load;

/// Serves until stopped.
pub fn run(config: Config) -> Result<(), Failure> {
    if config.models.is_empty() {
        return Err(Failure::new("no model to serve")
            .hint("pass --model FILE; 'scripts/get-model smollm2' fetches a small one"));
    }
    let clock = Clock::system();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_timer(LedgerTime(clock.clone()))
        .with_target(false)
        .init();
    let listen = config.listen()?;
    // What is plainly wrong is told before anything listens.
    config.models.iter().try_for_each(|path| load::open(path).map(drop))?;
    let _lock = take_state_dir(&config.state_dir)?;
    let keys =
        KeyStore::open(&config.state_dir.join("keys.db"), clock.clone()).map_err(Failure::new)?;
    let limits = config.limits();
    let state = Arc::new(State::new(keys, clock.clone(), limits, env!("CARGO_PKG_VERSION")));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the async runtime cannot be started: {error}")))?;
    runtime.block_on(async {
        let server = Server::bind(&listen, Arc::clone(&state)).await.map_err(|error| {
            Failure::new(error).hint("set another 'listen' address, or stop what uses this one")
        })?;
        let address = server.address().map_err(Failure::new)?;
        let scheme = if listen.tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{address}/v1");
        let loading = tokio::task::spawn_blocking({
            let state = Arc::clone(&state);
            move || load_all(&config, &state, &url)
        });
        serve(server, &state, loading).await
    })
}

/// Runs until a signal comes, or until a model cannot be loaded.
async fn serve(
    server: Server,
    state: &Shared,
    loading: tokio::task::JoinHandle<Result<(), Failure>>,
) -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("signals cannot be received: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut outcome = Ok(());
    let until = async {
        let stopped = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping: running requests may end");
        };
        let load_failed = async {
            match loading.await {
                Ok(Ok(())) => std::future::pending().await,
                Ok(Err(failure)) => failure,
                Err(panic) => Failure::new(format!("loading failed: {panic}")),
            }
        };
        tokio::select! {
            () = stopped => {}
            failure = load_failed => outcome = Err(failure),
        }
    };
    server.run(until).await;
    state.registry.all().iter().for_each(|served| served.engine.close());
    outcome
}

fn load_all(config: &Config, state: &State, url: &str) -> Result<(), Failure> {
    for path in &config.models {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        state.registry.set_loading(Some(file.clone()));
        let served = load::load(path, config, &state.clock)?;
        tracing::info!(
            model = served.name,
            provenance = served.provenance,
            sha256 = served.sha256,
            context_len = served.engine.limits().context_len,
            "a model is ready"
        );
        state.registry.add(served);
    }
    let model = state.registry.all().first().map(|m| m.name.clone()).unwrap_or_default();
    tracing::info!(url, "serving");
    first_key(config, state, url, &model)
}

/// Makes the first key and shows it. Only once all else has worked: a key that was made and never
/// shown would be lost.
fn first_key(config: &Config, state: &State, url: &str, model: &str) -> Result<(), Failure> {
    if !state.keys.is_empty().map_err(Failure::new)? {
        return Ok(());
    }
    let key = state.keys.create("default", "first key").map_err(Failure::new)?;
    show_first_key(&config.state_dir, url, model, &key.secret)
}

/// On a terminal with a request to paste; elsewhere in a file for its owner alone. Never in a log.
fn show_first_key(state_dir: &Path, url: &str, model: &str, key: &str) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        println!(
            "\nThis is your first API key; it is shown only now:\n\n  {key}\n\nTry it:\n\n  \
             curl {url}/chat/completions -H 'Authorization: Bearer {key}' \\\n    \
             -H 'Content-Type: application/json' \\\n    \
             -d '{{\"model\": \"{model}\", \"messages\": [{{\"role\": \"user\", \
             \"content\": \"What is the capital of France?\"}}]}}'\n\n\
             or talk to it in another terminal: redoubt chat\n"
        );
        return Ok(());
    }
    let path = state_dir.join("first-key");
    let failed = |error| {
        Failure::new(format!("writing the first key to {}: {error}", path.display()))
            .hint("make room, start again, and run 'redoubt keys create' for a new key")
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    writeln!(file, "{key}").and_then(|()| file.sync_all()).map_err(failed)?;
    println!("The first API key is in {}; move it away once read.", path.display());
    Ok(())
}

/// Creates the folder for its owner alone, and holds it: one server per folder.
fn take_state_dir(path: &Path) -> Result<File, Failure> {
    let failed = |error| {
        Failure::new(format!("the state folder {}: {error}", path.display()))
            .hint("set 'state_dir' in the configuration to a folder that you may write to")
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    let lock = File::create(path.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::Error(error)) => Err(failed(error)),
        Err(fs::TryLockError::WouldBlock) => {
            let error = format!("another redoubt serves from {}", path.display());
            Err(Failure::new(error).hint("stop it first, or set another 'state_dir'"))
        }
    }
}

/// Log lines are dated by the ledger.
struct LedgerTime(Clock);

impl FormatTime for LedgerTime {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        w.write_str(&ledger::iso_8601(self.0.unix_seconds()))
    }
}
