//! Token ids in, token ids out. One thread owns the executors of all models on a device: schedule,
//! run, sample, publish.
//!
//! The engine knows no text, HTTP, bundles or files. Public face: [`Engine`] and [`Handle`]. What
//! runs when is decided by `scheduler`, who holds which cache block by `blocks`, and which of them
//! have memory by `memory`; these are pure.

mod handle;
mod request;
mod stats;

mod engine;
mod model;
mod step;

mod memory;
mod scheduler;

mod constraint;
mod speculate;

mod blocks;
mod prefix;
mod sequence;

mod sampler;

pub use constraint::{Constraint, Mask};
pub use engine::{Config, Engine, start};
pub use handle::{Handle, Limits, Refused, TokenStream};
pub use memory::{Needs, NoRoom, Reservation};
pub use prefix::Tenant;
pub use request::{
    Begun, Choice, Distribution, EndReason, Event, Lane, Logprobs, Request, Sampling, Token,
};
pub use stats::{Histogram, Stats};
