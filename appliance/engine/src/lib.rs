//! Token ids in, token ids out. One thread owns the executor: schedule, run, sample, publish.
//!
//! The engine knows no text, HTTP, bundles or files. Public face: [`Handle`]. What runs when is
//! decided by `scheduler`, who owns which cache block by `blocks`; both are pure.

mod handle;

mod engine;
mod scheduler;

mod blocks;
mod sequence;

mod sampler;

pub use engine::{Config, start};
pub use handle::{
    Choice, EndReason, Event, Handle, Limits, Refused, Request, Sampling, Stats, Token, TokenStream,
};
