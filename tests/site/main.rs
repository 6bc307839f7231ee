//! A site over its life, with the real programs and the real drill model: its first start, its
//! operators, signed bundles, and what its authority decides about it.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod bench;
mod desks;

mod bundles;
mod decisions;
mod images;
mod operators;
mod owner;
mod records;
