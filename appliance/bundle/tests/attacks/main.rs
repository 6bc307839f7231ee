//! Attacks on bundles and faults of media. Every one is refused, at the step that is meant for it.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod a_store;
mod copies;
mod desk;
mod edits;
mod history;
mod labels;
mod model_signatures;
mod who_signs;
