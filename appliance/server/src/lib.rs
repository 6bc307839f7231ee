//! HTTP: OpenAI's endpoints, the operator's verbs, health and metrics.
//!
//! `router` lists every route; each resource has a file of its own. `listen` binds and drains,
//! `connection` bounds a connection. The server opens no outbound connection.

mod listen;

mod accept;
mod certificate;
mod connection;
mod open_files;
mod seldom;
mod stall;
mod tls;

mod router;
mod state;

mod golden;
mod in_force;
mod registry;
mod served;
mod vault;

mod journal;
mod timekeeper;
mod trusted;

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
mod api_keys;
mod hardware;
mod health;
mod metrics;
mod models;
mod operator;
mod records;

pub use certificate::Certificate;
pub use error::ApiError;
pub use golden::{Check, Golden};
pub use hardware::{GpuFault, GpuReport, HardwarePlaces, gpu_query};
pub use journal::{Journal, JournalStatus, Unrecordable};
pub use listen::{Listen, ListenError, MediumSockets, Server};
pub use registry::{Listed, Registry};
pub use served::{Kind, Known, LoadError, Loaded, Loader, Origin, Progress, Served, TextSide};
pub use state::{HttpLimits, Shared, ShowCodes, State, Stores};
pub use timekeeper::{Timekeeper, TimekeeperError};
pub use tls::{OwnKey, TlsError, TlsFiles};
pub use trusted::{AUDIT_FOLDER, Event, RESET_FILE, Trusted, TrustedError};
pub use vault::image::Images;
pub use vault::{Look, StoredModel, Vault};
