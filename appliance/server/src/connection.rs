//! One connection: its handshake, its requests, and its end when the server drains.
//!
//! HTTP/1.1 on hyper's own connection builder, because axum's serve sets no header timeout.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_rustls::TlsAcceptor;

use crate::accept::Lifetime;
use crate::observe::Peer;
use crate::state::{HttpLimits, Shared, State};

/// When the server drains, a connection gets this long for the rest of its first request's head.
const FIRST_HEAD_GRACE: Duration = Duration::from_secs(1);

/// A connection that was accepted.
pub(crate) struct Connection {
    /// The other end, as the log names it.
    pub peer: Arc<str>,
    pub router: Router,
    pub state: Shared,
    pub lifetime: Lifetime,
    /// Its place among the connections.
    pub _room: OwnedSemaphorePermit,
}

impl Connection {
    /// Shakes hands, unless the server drains first, then serves.
    pub async fn serve_tls<S>(self, acceptor: TlsAcceptor, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let timeout = self.state.limits.headers_timeout;
        let handshake = tokio::time::timeout(timeout, acceptor.accept(stream));
        let mut draining = self.lifetime.draining.clone();
        let reason = tokio::select! {
            shaken = handshake => match shaken {
                Ok(Ok(stream)) => return self.serve(stream).await,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it took too long".to_owned(),
            },
            () = drained(&mut draining) => return,
        };
        self.state.metrics.handshakes_failed.fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = self.state.handshake_lines.due() {
            tracing::info!(peer = &*self.peer, reason, left_out, "a TLS handshake failed");
        }
    }

    /// Answers requests until either side has enough, or the server drains.
    pub async fn serve<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let _open = Open::new(&self.state);
        let called = Arc::new(AtomicBool::new(false));
        let service = service(&self, &called);
        let connection =
            builder(&self.state.limits).serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let mut draining = self.lifetime.draining.clone();
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = drained(&mut draining) => {
                connection.as_mut().graceful_shutdown();
                // hyper closes a connection between two requests at once; for the first it would
                // wait as long as for any, however little of it has come.
                let first = tokio::time::timeout(FIRST_HEAD_GRACE, connection.as_mut()).await;
                match first {
                    Ok(ended) => ended,
                    Err(_) if !called.load(Ordering::Acquire) => return,
                    Err(_) => connection.await,
                }
            }
        };
        // What a client does to its own connection is its own affair.
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

/// The server drains, or is gone.
async fn drained(draining: &mut watch::Receiver<bool>) {
    // An error says that the server itself is gone.
    let _ = draining.wait_for(|draining| *draining).await;
}

/// The router, told who calls; `called` becomes true with the first request.
fn service(
    connection: &Connection,
    called: &Arc<AtomicBool>,
) -> impl Service<
    hyper::Request<Incoming>,
    Response = axum::response::Response,
    Error = std::convert::Infallible,
    Future: Send + 'static,
> + use<> {
    let service = TowerToHyperService::new(connection.router.clone());
    let peer = Peer(Arc::clone(&connection.peer));
    let called = Arc::clone(called);
    service_fn(move |mut request: hyper::Request<Incoming>| {
        called.store(true, Ordering::Release);
        request.extensions_mut().insert(peer.clone());
        service.call(request)
    })
}

/// Counts an open connection.
struct Open<'a>(&'a State);

impl Open<'_> {
    fn new(state: &State) -> Open<'_> {
        state.metrics.connections.fetch_add(1, Ordering::Relaxed);
        Open(state)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.metrics.connections.fetch_sub(1, Ordering::Relaxed);
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
