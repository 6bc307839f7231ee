//! HTTP: OpenAI's endpoints, the operator's verbs, health and metrics.
//!
//! `router` lists every route; each resource has a file of its own. What listens and what bounds
//! a connection is in `listen`. The server opens no outbound connection.

mod listen;
mod router;
mod stall;
mod state;
mod tls;

mod served;

mod auth;
mod body;
mod error;
mod id;
mod json;
mod observe;
mod parameters;

mod chat;
mod chat_request;
mod completions;
mod completions_request;
mod generate;
mod sse;
mod usage;

mod admin;
mod health;
mod metrics;
mod models;

pub use error::ApiError;
pub use listen::{Listen, ListenError, Server};
pub use served::{Registry, Served};
pub use state::{HttpLimits, Shared, State};
pub use tls::{TlsError, TlsFiles};
