//! What a model is: its files' verified headers, weights by name, the vocabulary as the file
//! carries it, typed hyperparameters, and the forward pass as data (a [`plan::Plan`]).
//!
//! Nothing here knows a device, a tokenizer or a socket, and nothing here opens a file: callers
//! hand in readers and bytes.

pub mod dtype;
pub mod gguf;
pub mod json;
pub mod safetensors;
pub mod weights;

pub mod vocabulary;

pub mod config;
pub mod plan;

pub mod family;
