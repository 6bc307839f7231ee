//! Sockets: bind, accept, bound, drain.
//!
//! HTTP/1.1 on hyper's own connection builder, because axum's serve sets no header timeout.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::router;
use crate::stall::Unstalled;
use crate::state::{HttpLimits, Shared};
use crate::tls::{self, TlsError, TlsFiles};

/// Connections of the operator's socket at once.
const LOCAL_CONNECTIONS_MAX: usize = 64;
/// After a failed accept (no file handles left, say) the next one waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// TCP address.
    pub address: SocketAddr,
    /// Unix socket for the operator's verbs.
    pub admin_socket: PathBuf,
    /// TLS; plain HTTP without.
    pub tls: Option<TlsFiles>,
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
    /// Binds all sockets.
    ///
    /// # Errors
    /// [`ListenError`], with the address or path.
    pub async fn bind(listen: &Listen, state: Shared) -> Result<Server, ListenError> {
        let tls = match &listen.tls {
            None => None,
            Some(files) => {
                Some(TlsAcceptor::from(Arc::new(tls::config(files, state.clock.clone())?)))
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
        let Server { state, tcp, unix, admin_socket, tls } = self;
        let graceful = Arc::new(GracefulShutdown::new());
        let public = Connections::new(router::public(&state), &state, state.limits.connections_max);
        let local = Connections::new(router::local(&state), &state, LOCAL_CONNECTIONS_MAX);
        tokio::select! {
            () = public.accept_tcp(&tcp, tls.as_ref(), &graceful) => {}
            () = local.accept_unix(&unix, &graceful) => {}
            () = shutdown => {}
        }
        state.set_draining();
        drop(tcp);
        // A socket file without a server behind it would only puzzle people.
        if let Err(error) = std::fs::remove_file(&admin_socket) {
            tracing::warn!(%error, "the admin socket cannot be removed");
        }
        drop((public, local));
        let graceful = Arc::into_inner(graceful).expect("the accept loops have ended");
        let drained = tokio::time::timeout(state.limits.drain_timeout, graceful.shutdown()).await;
        if drained.is_err() {
            tracing::warn!("requests still ran when the time to drain was over; they are cut off");
        }
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

/// Accepts connections for one router, so many at once.
struct Connections {
    router: Router,
    state: Shared,
    room: Arc<Semaphore>,
}

impl Connections {
    fn new(router: Router, state: &Shared, connections_max: usize) -> Connections {
        Connections {
            router,
            state: state.clone(),
            room: Arc::new(Semaphore::new(connections_max)),
        }
    }

    async fn accept_tcp(
        &self,
        listener: &TcpListener,
        tls: Option<&TlsAcceptor>,
        graceful: &GracefulShutdown,
    ) {
        loop {
            let room = Arc::clone(&self.room).acquire_owned().await.expect("it is never closed");
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Without it small events wait for the peer's acknowledgement; failing only delays.
            let _ = stream.set_nodelay(true);
            let stream = Unstalled::new(stream, self.state.limits.write_timeout);
            match tls {
                None => self.serve(stream, graceful, room),
                Some(acceptor) => self.serve_tls(acceptor.clone(), stream, graceful, room),
            }
        }
    }

    async fn accept_unix(&self, listener: &UnixListener, graceful: &GracefulShutdown) {
        loop {
            let room = Arc::clone(&self.room).acquire_owned().await.expect("it is never closed");
            match listener.accept().await {
                Ok((stream, _)) => {
                    let stream = Unstalled::new(stream, self.state.limits.write_timeout);
                    self.serve(stream, graceful, room);
                }
                Err(error) => {
                    tracing::warn!(%error, "an admin connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn serve<S>(
        &self,
        stream: S,
        graceful: &GracefulShutdown,
        room: tokio::sync::OwnedSemaphorePermit,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = TowerToHyperService::new(self.router.clone());
        let connection =
            builder(&self.state.limits).serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        let state = self.state.clone();
        tokio::spawn(async move {
            let _room = room;
            state.metrics.connections.fetch_add(1, Ordering::Relaxed);
            // What a client does to its own connection is its own affair.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            state.metrics.connections.fetch_sub(1, Ordering::Relaxed);
        });
    }

    fn serve_tls<S>(
        &self,
        acceptor: TlsAcceptor,
        stream: S,
        graceful: &GracefulShutdown,
        room: tokio::sync::OwnedSemaphorePermit,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = TowerToHyperService::new(self.router.clone());
        let builder = builder(&self.state.limits);
        let watcher = graceful.watcher();
        let state = self.state.clone();
        tokio::spawn(async move {
            let _room = room;
            let handshake =
                tokio::time::timeout(state.limits.headers_timeout, acceptor.accept(stream));
            let Ok(Ok(stream)) = handshake.await else {
                tracing::debug!("a TLS handshake failed");
                return;
            };
            state.metrics.connections.fetch_add(1, Ordering::Relaxed);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%error, "a connection ended early");
            }
            state.metrics.connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn builder(limits: &HttpLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers_timeout)
        .max_headers(limits.headers_max)
        .max_buf_size(limits.header_bytes_max.max(8192))
        // Dates come from the ledger.
        .auto_date_header(false);
    builder
}
