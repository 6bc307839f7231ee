//! HTTP: OpenAI's endpoints, the operator's verbs, health and metrics.
//!
//! `router` lists every route; each resource has a file of its own. `listen` binds and drains,
//! `connection` bounds a connection. The server opens no outbound connection.

mod listen;

mod accept;
mod connection;
mod open_files;
mod seldom;
mod stall;
mod tls;

mod router;
mod state;

mod registry;
mod served;

mod auth;
mod body;
mod error;
mod gate;
mod id;
mod json;
mod observe;
mod parameters;
mod prompt;

mod chat;
mod chat_request;
mod completions;
mod completions_request;
mod embeddings;
mod embeddings_request;
mod generate;
mod grammar;
mod sse;
mod usage;
mod whole;

mod admin;
mod health;
mod metrics;
mod models;

pub use error::ApiError;
pub use listen::{Listen, ListenError, Server};
pub use registry::{Listed, Registry};
pub use served::{Kind, Known, LoadError, Loaded, Loader, Progress, Served, TextSide};
pub use state::{HttpLimits, Shared, State};
pub use tls::{TlsError, TlsFiles};
