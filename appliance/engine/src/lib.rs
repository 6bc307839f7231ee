//! Token ids in, token ids out. One thread owns the executor: schedule, run, sample, publish.
//!
//! The engine knows no text, HTTP, bundles or files. Public face: [`Handle`]. What runs when is
//! decided by `scheduler`, who holds which cache block by `blocks`; both are pure.

mod handle;
mod request;
mod stats;

mod engine;
mod scheduler;

mod constraint;
mod speculate;

mod blocks;
mod prefix;
mod sequence;

mod sampler;

pub use constraint::{Constraint, Mask};
pub use engine::{Config, start};
pub use handle::{Handle, Limits, Refused, TokenStream};
pub use prefix::Tenant;
pub use request::{
    Begun, Choice, Distribution, EndReason, Event, Lane, Logprobs, Request, Sampling, Token,
};
pub use stats::{Histogram, Stats};
