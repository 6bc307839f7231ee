//! Sockets: bind, serve, drain.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::join_all;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::accept::{Connections, Lifetime};
use crate::state::{Shared, State};
use crate::tls::{self, TlsError};
use crate::{open_files, router, timekeeper};

/// Connections of a Unix socket at once.
const LOCAL_CONNECTIONS_MAX: usize = 64;
/// Who may open one: its owner, or the group of the folder that it lies in, too.
const OWNER_ALONE: u32 = 0o600;
const OWNER_AND_GROUP: u32 = 0o660;
/// When the time to drain is over, answers that are cut off get this long to say so.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);
/// How often unused models are looked for.
const UNLOAD_LOOK_LEAST: Duration = Duration::from_millis(100);
const UNLOAD_LOOK_MOST: Duration = Duration::from_secs(10);

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// TCP address.
    pub address: SocketAddr,
    /// Unix socket for the operator's verbs.
    pub admin_socket: PathBuf,
    /// Sockets for other users of the box; none where whoever has the operator's does it all.
    pub medium: Option<MediumSockets>,
    /// Socket of whoever draws the screen, in a folder whose group it is; none where whoever has
    /// the operator's does it.
    pub console: Option<PathBuf>,
}

/// Sockets for those who read and write sticks, each in a folder whose group they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediumSockets {
    /// Takes what came on a stick.
    pub import: PathBuf,
    /// Tells what may leave on one.
    pub records: PathBuf,
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}")]
    Address {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The Unix socket cannot be made.
    #[error("cannot make the socket {path}: {source}")]
    Socket {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Another server answers on the Unix socket.
    #[error("another server answers on the socket {path}")]
    SocketInUse {
        /// Where.
        path: String,
    },
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
}

/// A server that listens; it answers once [`Server::run`] is awaited.
pub struct Server {
    state: Shared,
    tcp: TcpListener,
    doors: Vec<Door>,
    tls: Option<TlsAcceptor>,
}

/// A Unix socket, and what is served there.
struct Door {
    listener: UnixListener,
    path: PathBuf,
    routes: fn(&Shared) -> Router,
}

impl Door {
    async fn open(
        path: &Path,
        mode: u32,
        routes: fn(&Shared) -> Router,
    ) -> Result<Door, ListenError> {
        Ok(Door { listener: bind_unix(path, mode).await?, path: path.to_owned(), routes })
    }
}

impl Server {
    /// Binds all sockets: with TLS where the state has a certificate.
    ///
    /// # Errors
    /// [`ListenError`], with the address or path.
    pub async fn bind(listen: &Listen, state: Shared) -> Result<Server, ListenError> {
        let tls = match &state.certificate {
            None => None,
            Some(certificate) => {
                let config = tls::config(certificate, state.clock.clone())?;
                Some(TlsAcceptor::from(Arc::new(config)))
            }
        };
        let address = listen.address;
        let tcp = TcpListener::bind(address)
            .await
            .map_err(|source| ListenError::Address { address, source })?;
        let mut doors = vec![Door::open(&listen.admin_socket, OWNER_ALONE, router::local).await?];
        if let Some(MediumSockets { import, records }) = &listen.medium {
            doors.push(Door::open(import, OWNER_AND_GROUP, router::import_alone).await?);
            doors.push(Door::open(records, OWNER_AND_GROUP, router::records_alone).await?);
        }
        if let Some(console) = &listen.console {
            doors.push(Door::open(console, OWNER_AND_GROUP, router::console_alone).await?);
        }
        Ok(Server { state, tcp, doors, tls })
    }

    /// The TCP address, its port chosen by the system where 0 was asked for.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until `shutdown` comes, then lets running requests end, for a bounded time.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        self.run_until(shutdown, std::future::pending()).await;
    }

    /// Serves until `shutdown` comes, then lets running requests end, for a bounded time or until
    /// `hurry` comes. What still runs then is ended with an error that says why.
    pub async fn run_until(
        self,
        shutdown: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) {
        let state = Shared::clone(&self.state);
        self.serve_until(shutdown, hurry).await;
        // Last: while a disk takes its time nobody would listen for whoever is in a hurry.
        save_time_now(&state).await;
    }

    async fn serve_until(
        self,
        shutdown: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) {
        let Server { state, tcp, doors, tls } = self;
        let (drain, draining) = watch::channel(false);
        let (alive, mut ended) = mpsc::channel(1);
        let lifetime = Lifetime { draining, _alive: alive };
        let public_max = open_files::connections_max(state.limits.connections_max);
        let public = Connections::new(router::public(&state), &state, public_max, &lifetime);
        let local: Vec<(Connections, &Door)> = doors
            .iter()
            .map(|door| {
                let routes = (door.routes)(&state);
                (Connections::new(routes, &state, LOCAL_CONNECTIONS_MAX, &lifetime), door)
            })
            .collect();
        let all_local = join_all(local.iter().map(|(of, door)| of.accept_unix(&door.listener)));
        tokio::select! {
            () = public.accept_tcp(&tcp, tls.as_ref()) => {}
            _ = all_local => {}
            () = unload_unused(&state) => {}
            () = save_time(&state) => {}
            () = shutdown => {}
        }
        state.set_draining();
        state.registry.close_loads();
        drop(tcp);
        // A socket file without a server behind it would only puzzle people.
        for door in &doors {
            if let Err(error) = std::fs::remove_file(&door.path) {
                tracing::warn!(%error, socket = %door.path.display(), "a socket cannot be removed");
            }
        }
        // What is left of the lifetime is in connections: its end is theirs.
        drop((public, local, lifetime));
        drain.send_replace(true);
        tokio::select! {
            _ = ended.recv() => return,
            () = tokio::time::sleep(state.limits.drain_timeout) => {}
            () = hurry => {}
        }
        tracing::warn!("requests still ran when the time to drain was over; they are ended");
        state.registry.loaded().iter().for_each(|served| served.engine.abort());
        if tokio::time::timeout(LAST_WORDS_TIMEOUT, ended.recv()).await.is_err() {
            tracing::warn!("connections were still open; they are cut off");
        }
    }
}

/// Unloads what nobody uses any more, for ever.
async fn unload_unused(state: &State) {
    let Some(idle) = state.limits.model_idle_timeout else { return std::future::pending().await };
    loop {
        tokio::time::sleep((idle / 4).clamp(UNLOAD_LOOK_LEAST, UNLOAD_LOOK_MOST)).await;
        state.registry.unload_unused(idle);
    }
}

/// Saves the time that has passed now and then, for ever.
async fn save_time(state: &Shared) {
    loop {
        tokio::time::sleep(timekeeper::SAVE_PERIOD).await;
        save_time_now(state).await;
        // Something may have expired.
        let own = Shared::clone(state);
        if let Err(panic) = tokio::task::spawn_blocking(move || own.enforce()).await {
            tracing::error!(%panic, "what may be used was not looked at");
        }
    }
}

async fn save_time_now(state: &Shared) {
    let own = Shared::clone(state);
    let saved = tokio::task::spawn_blocking(move || own.trusted.time.save()).await;
    match saved {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the time that has passed cannot be saved"),
        Err(panic) => tracing::error!(%panic, "the time that has passed was not saved"),
    }
}

/// Makes a Unix socket, open to those of its mode alone; a file left by a dead server is replaced.
async fn bind_unix(path: &Path, mode: u32) -> Result<UnixListener, ListenError> {
    let name = || path.display().to_string();
    let failed = |source| ListenError::Socket { path: name(), source };
    if tokio::net::UnixStream::connect(path).await.is_ok() {
        return Err(ListenError::SocketInUse { path: name() });
    }
    match std::fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => std::fs::remove_file(path).map_err(failed)?,
        Ok(_) => return Err(failed(io::Error::other("there is another file, which stays"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, mode).map_err(failed)?;
    Ok(listener)
}
