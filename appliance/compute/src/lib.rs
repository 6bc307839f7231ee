//! Runs a [`models::plan::Plan`] on a device. The only crate with unsafe code.
//!
//! What a step computes is said by the plan and by [`reference`]; everything about devices,
//! memory and speed stays below this crate's public face.

pub mod batch;
pub mod cpu;
pub mod cuda;
pub mod device;
pub mod executor;
pub mod map;
pub mod pool;
pub mod reference;
pub mod vectors;

mod elementwise;
mod error;
mod limits;
mod rows;
mod slots;
mod tables;

pub use error::ComputeError;
