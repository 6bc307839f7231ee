//! The real program: ceremonies on three machines, content, bundles, and what goes wrong.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod bench;
mod bundles;
mod labels;
mod roots;
mod shelves;
mod tokens;
