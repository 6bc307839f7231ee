//! `redoubt serve`: one process, one state folder, until SIGTERM or Ctrl-C.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use access::KeyStore;
use engine::Engine;
use ledger::Clock;
use ledger::disk::Disk;
use server::{
    Certificate, HardwarePlaces, Kind, ListenError, LoadError, Look, Server, Shared, ShowCodes,
    State, Stores, Trusted, TrustedError, Vault,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::config::Config;
use crate::failure::Failure;
use crate::first_key;
use crate::load::{self, Source, Terms};
use crate::names::Names;
use crate::own_certificate;
use crate::pairing::Board;
use crate::place::Place;
use crate::state_dir;
use crate::supervisor::Supervisor;

/// A load that is told to stop looks up within this time.
const LOAD_STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Clients read within this time that the device has failed.
const FAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until stopped.
pub fn run(config: Config) -> Result<(), Failure> {
    let clock = Clock::system();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_timer(LedgerTime(clock.clone()))
        .with_target(false)
        .init();
    let listen = config.listen()?;
    // What is plainly wrong is told before anything listens.
    config.sources().iter().try_for_each(|source| load::open(source).map(drop))?;
    let _lock = state_dir::take(&config.state_dir)?;
    let version = env!("CARGO_PKG_VERSION");
    let trusted = Trusted::open(&Disk::real(), &config.state_dir, version).map_err(untrusted)?;
    let site = trusted.site.id().to_owned();
    tracing::info!(site, "this box");
    if let Some(names) = config.own_names() {
        own_certificate::ensure(&config.state_dir, names, &site)?;
    }
    let certificate = certificate(&config)?;
    let place = Place::choose(&config, &clock)?;
    tracing::info!("models are computed on {}", place.told());
    let is_tls = certificate.is_some();
    let state = Arc::new(open_state(&config, clock, trusted, certificate, &place)?);
    state.settle_image().map_err(|error| Failure::new(error.message))?;
    state.finish_acts(false).map_err(Failure::new)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the async runtime cannot be started: {error}")))?;
    let outcome = runtime.block_on(async {
        let server = Server::bind(&listen, Arc::clone(&state)).await.map_err(cannot_listen)?;
        let address = server.address().map_err(Failure::new)?;
        let supervisor = tell_supervisor()?;
        let scheme = if is_tls { "https" } else { "http" };
        let stop = Arc::new(AtomicBool::new(false));
        let engine = start_engine(&config, &place)?;
        let faults = [engine.fault(), engine.fault()];
        let loading = tokio::task::spawn_blocking({
            let (state, stop) = (Arc::clone(&state), Arc::clone(&stop));
            let url = format!("{scheme}://{address}/v1");
            move || load_all(&config, (engine, place), &state, &url, &stop)
        });
        tokio::select! {
            outcome = serve(server, &state, loading, faults, &stop) => outcome,
            never = stay_alive(&state, supervisor.as_ref()) => match never {},
        }
    });
    runtime.shutdown_timeout(LOAD_STOP_TIMEOUT);
    outcome
}

/// Opens all that the server keeps.
fn open_state(
    config: &Config,
    clock: Clock,
    trusted: Trusted,
    certificate: Option<Arc<Certificate>>,
    place: &Place,
) -> Result<State, Failure> {
    let site = trusted.site.id().to_owned();
    let (state_dir, shown) = (config.state_dir.clone(), certificate.clone());
    let board = Board { state_dir, site, certificate: shown };
    let show_codes: ShowCodes = Box::new(move |operators| {
        if let Err(failure) = board.show(operators) {
            tracing::error!("{failure}");
        }
    });
    let keys =
        KeyStore::open(&config.state_dir.join("keys.db"), clock.clone()).map_err(Failure::new)?;
    let vault = open_vault(config, &trusted)?;
    let first_operators = config.first_operators()?;
    let images = config.images();
    let hardware = HardwarePlaces::of_this_machine(&config.state_dir);
    let stores = Stores {
        keys,
        trusted,
        vault,
        first_operators,
        images,
        hardware,
        computes_on: place.told().to_owned(),
        certificate,
        show_codes,
    };
    State::new(stores, clock, config.limits(), env!("CARGO_PKG_VERSION"))
        .map_err(|error| Failure::new(format!("the system has no random numbers: {error}")))
}

fn open_vault(config: &Config, trusted: &Trusted) -> Result<Vault, Failure> {
    let vault = Vault::open(&Disk::real(), &config.store_dir(), trusted).map_err(|error| {
        Failure::new(error).hint("a damaged store is not replaced; restore it, or move it away")
    })?;
    Ok(match config.staging_of_another() {
        Some(staging) => vault.staged_in(staging),
        None => vault,
    })
}

fn untrusted(error: TrustedError) -> Failure {
    let failure = Failure::new(&error);
    match error {
        TrustedError::Audit(_) | TrustedError::Start(_) => failure.hint(
            "nothing is done here that is not recorded: make room for the log; if it is damaged, \
             'redoubt audit verify' says where",
        ),
        _ => failure,
    }
}

fn certificate(config: &Config) -> Result<Option<Arc<Certificate>>, Failure> {
    let certificate = config.tls()?.map(|files| Certificate::open(&Disk::real(), files));
    let certificate = certificate.transpose().map_err(|error| cannot_listen(error.into()))?;
    Ok(certificate.map(Arc::new))
}

fn cannot_listen(error: ListenError) -> Failure {
    let hint = match &error {
        ListenError::Address { .. } => "set another 'listen' address, or stop what uses this one",
        ListenError::Socket { .. } => {
            "set another 'state_dir' or 'medium': a short path (a socket's has at most 107 bytes)"
        }
        ListenError::SocketInUse { .. } => "stop that server first, or set another 'state_dir'",
        ListenError::Tls(_) => "check 'tls_certificates', 'tls_key' and 'tls_client_authorities'",
    };
    Failure::new(error).hint(hint)
}

fn start_engine(config: &Config, place: &Place) -> Result<Engine, Failure> {
    Engine::start(place.memory_bytes(config)?)
        .map_err(|error| Failure::new(format!("the engine's thread cannot be started: {error}")))
}

/// The supervisor, where there is one, told that clients can connect.
fn tell_supervisor() -> Result<Option<Supervisor>, Failure> {
    let supervisor = Supervisor::of_this_program()
        .map_err(|error| Failure::new(format!("the supervisor's socket: {error}")))?;
    if let Some(supervisor) = &supervisor {
        supervisor.ready();
    }
    Ok(supervisor)
}

/// Tells the supervisor that the runtime turns and the models can be asked for, for ever.
async fn stay_alive(state: &Shared, supervisor: Option<&Supervisor>) -> Infallible {
    let period = supervisor.and_then(Supervisor::watchdog);
    let (Some(supervisor), Some(period)) = (supervisor, period) else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(period).await;
        let registry = Arc::clone(&state.registry);
        // Whoever holds its lock for ever keeps this from being said.
        if tokio::task::spawn_blocking(move || registry.all().len()).await.is_ok() {
            supervisor.alive();
        }
    }
}

/// SIGTERM and Ctrl-C.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Signals { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Runs until a signal comes, until a model cannot be loaded, or until the device fails. A second
/// signal ends what still runs.
async fn serve(
    server: Server,
    state: &Shared,
    loading: JoinHandle<Result<(), Failure>>,
    [fault, same_fault]: [impl Future<Output = String>; 2],
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("signals cannot be received: {error}"));
    let mut signals = Signals::new().map_err(failed)?;
    let (stops, stopped) = oneshot::channel();
    let (hurries, hurried) = oneshot::channel();
    // One that comes right after the first is another one: nothing else takes signals.
    let listen = async {
        signals.next().await;
        stop.store(true, Ordering::Release);
        tracing::info!("stopping: running requests may end; a second signal cuts them off");
        let _ = stops.send(());
        signals.next().await;
        tracing::warn!("stopping at once");
        let _ = hurries.send(());
        std::future::pending::<Infallible>().await
    };
    let mut outcome = Ok(());
    let until = async {
        let load_failed = async {
            match loading.await {
                Ok(Ok(())) => std::future::pending().await,
                Ok(Err(failure)) => failure,
                Err(panic) => Failure::new(format!("loading failed: {panic}")),
            }
        };
        tokio::select! {
            _ = stopped => {}
            failure = load_failed => outcome = Err(failure),
            error = fault => {
                stop.store(true, Ordering::Release);
                outcome = Err(Failure::new(error).hint(
                    "the server is to be started again, as its supervisor does; if it comes again \
                     restart the box",
                ));
            }
        }
    };
    // Who does not read what became of a request keeps nobody from starting again.
    let late = async {
        same_fault.await;
        tokio::time::sleep(FAULT_DRAIN_TIMEOUT).await;
    };
    let hurry = async {
        tokio::select! {
            _ = hurried => {}
            () = late => {}
        }
    };
    tokio::select! {
        () = server.run_until(until, hurry) => {}
        never = listen => match never {},
    }
    state.registry.close();
    outcome
}

/// Looks at every model, and loads those that fit beside each other; the others are loaded when
/// they are asked for.
fn load_all(
    config: &Config,
    (engine, place): (Engine, Place),
    state: &Shared,
    url: &str,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let bars = Arc::new(AtomicBool::new(true));
    let terms = Terms { engine, place, config: config.clone(), bars: Arc::clone(&bars) };
    let mut names = Names::default();
    let stored = state.stored_models();
    for source in config.sources() {
        state.registry.set_starting(Some(source.file_name()));
        let Some(known) = load::look(&source, &terms, &state.clock, stop)? else { return Ok(()) };
        let name = known.name.clone();
        names.take(&name, &source)?;
        if stored.contains(&name) {
            let why = "the store has a signed one of this name";
            tracing::warn!(model = name, %source, why, "a file is not served");
            continue;
        }
        state.add_model(known);
        state.registry.preload(&name).map_err(|error| cannot_load(&source, &error))?;
    }
    let look: Look = Box::new({
        let (terms, clock) = (terms.clone(), state.clock.clone());
        move |model| load::look_stored(model, &terms, &clock)
    });
    for name in state.serve_store(look) {
        // One that cannot be loaded now is tried again when somebody asks for it.
        let _ = state.registry.preload(&name);
    }
    bars.store(false, Ordering::Release);
    state.registry.set_starting(None);
    if stop.load(Ordering::Acquire) {
        return Ok(());
    }
    state.show_codes();
    let finished = {
        let state = Arc::clone(state);
        move || state.finish_acts(true)
    };
    tokio::runtime::Handle::current()
        .block_on(state.in_turn(finished))
        .map_err(|error| Failure::new(error.message))?
        .map_err(Failure::new)?;
    let models = state.registry.all();
    let chat = models.iter().find(|model| model.known.kind == Kind::Chat);
    tracing::info!(url, "serving");
    match chat.or(models.first()) {
        Some(model) => first_key::show(config, state, url, &model.known),
        None => Ok(()),
    }
}

fn cannot_load(source: &Source, error: &LoadError) -> Failure {
    let failure = Failure::new(format!("{source}: {error}"));
    match error {
        LoadError::NoRoom(_) => {
            failure.hint("raise 'memory_mib', or lower 'context_len' or 'kv_cache_mib'")
        }
        _ => failure,
    }
}

/// Log lines are dated by the ledger.
struct LedgerTime(Clock);

impl FormatTime for LedgerTime {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        w.write_str(&ledger::iso_8601(self.0.unix_seconds()))
    }
}
