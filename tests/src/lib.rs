//! Parts that the end-to-end tests share: records of the oracles, models made on the spot, and
//! the real server as a child process.
//!
//! Nothing here is in a shipped program, and nothing here fakes a part of one.

pub mod places;
pub mod records;

pub mod random_weights;
pub mod real_shapes;
pub mod written_gguf;

pub mod gpu;
pub mod runner;
pub mod timed;

pub mod http;
pub mod served;
