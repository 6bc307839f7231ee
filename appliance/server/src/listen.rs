//! Sockets: bind, serve, drain.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::accept::{Connections, Lifetime};
use crate::state::{Shared, State};
use crate::tls::{self, TlsError};
use crate::{open_files, router, timekeeper};

/// Connections of the operator's socket at once.
const LOCAL_CONNECTIONS_MAX: usize = 64;
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
    #[error("cannot make the admin socket {path}: {source}")]
    Socket {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Another server answers on the Unix socket.
    #[error("another server answers on the admin socket {path}")]
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
    unix: UnixListener,
    admin_socket: PathBuf,
    tls: Option<TlsAcceptor>,
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
        let unix = bind_unix(&listen.admin_socket).await?;
        Ok(Server { state, tcp, unix, admin_socket: listen.admin_socket.clone(), tls })
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
        let Server { state, tcp, unix, admin_socket, tls } = self;
        let (drain, draining) = watch::channel(false);
        let (alive, mut ended) = mpsc::channel(1);
        let lifetime = Lifetime { draining, _alive: alive };
        let public_max = open_files::connections_max(state.limits.connections_max);
        let public = Connections::new(router::public(&state), &state, public_max, &lifetime);
        let local =
            Connections::new(router::local(&state), &state, LOCAL_CONNECTIONS_MAX, &lifetime);
        tokio::select! {
            () = public.accept_tcp(&tcp, tls.as_ref()) => {}
            () = local.accept_unix(&unix) => {}
            () = unload_unused(&state) => {}
            () = save_time(&state) => {}
            () = shutdown => {}
        }
        state.set_draining();
        state.registry.close_loads();
        drop(tcp);
        // A socket file without a server behind it would only puzzle people.
        if let Err(error) = std::fs::remove_file(&admin_socket) {
            tracing::warn!(%error, "the admin socket cannot be removed");
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

/// Makes the Unix socket, open to its owner alone; a file left by a dead server is replaced.
async fn bind_unix(path: &Path) -> Result<UnixListener, ListenError> {
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
    let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, owner_only).map_err(failed)?;
    Ok(listener)
}
