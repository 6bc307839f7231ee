//! Accepts connections for one router, so many at once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::connection::Connection;
use crate::seldom::Seldom;
use crate::stall::Unstalled;
use crate::state::Shared;

/// After a failed accept (no file handles left, say) the next one waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What connections are told, and what they tell.
#[derive(Clone)]
pub(crate) struct Lifetime {
    /// The server drains.
    pub draining: watch::Receiver<bool>,
    /// Held by every connection to its end.
    pub _alive: mpsc::Sender<()>,
}

/// Connections of one router.
pub(crate) struct Connections {
    router: Router,
    state: Shared,
    room: Arc<Semaphore>,
    lifetime: Lifetime,
    failures: Seldom,
}

impl Connections {
    /// At most `connections_max` at once.
    pub fn new(
        router: Router,
        state: &Shared,
        connections_max: usize,
        lifetime: &Lifetime,
    ) -> Connections {
        Connections {
            router,
            state: state.clone(),
            room: Arc::new(Semaphore::new(connections_max)),
            lifetime: lifetime.clone(),
            failures: Seldom::default(),
        }
    }

    /// Serves whoever connects, for ever.
    pub async fn accept_tcp(&self, listener: &TcpListener, tls: Option<&TlsAcceptor>) {
        loop {
            let room = Arc::clone(&self.room).acquire_owned().await.expect("it is never closed");
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.pause(&error).await;
                    continue;
                }
            };
            // Without it small events wait for the peer's acknowledgement; failing only delays.
            let _ = stream.set_nodelay(true);
            let stream = Unstalled::new(stream, self.state.limits.write_timeout);
            let connection = self.connection(&peer.to_string(), room);
            match tls {
                None => tokio::spawn(connection.serve(stream)),
                Some(acceptor) => tokio::spawn(connection.serve_tls(acceptor.clone(), stream)),
            };
        }
    }

    /// Serves whoever connects to the Unix socket, for ever.
    pub async fn accept_unix(&self, listener: &UnixListener) {
        loop {
            let room = Arc::clone(&self.room).acquire_owned().await.expect("it is never closed");
            match listener.accept().await {
                Ok((stream, _)) => {
                    let stream = Unstalled::new(stream, self.state.limits.write_timeout);
                    tokio::spawn(self.connection("local", room).serve(stream));
                }
                Err(error) => self.pause(&error).await,
            }
        }
    }

    fn connection(&self, peer: &str, room: tokio::sync::OwnedSemaphorePermit) -> Connection {
        Connection {
            peer: Arc::from(peer),
            router: self.router.clone(),
            state: self.state.clone(),
            lifetime: self.lifetime.clone(),
            _room: room,
        }
    }

    async fn pause(&self, error: &io::Error) {
        if let Some(left_out) = self.failures.due() {
            tracing::warn!(%error, left_out, "a connection could not be accepted");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}
