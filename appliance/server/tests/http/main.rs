//! The real server in this process: its sockets, router, tokenizer, template and engine, over a
//! small random model that is written as a file and read back.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod site;

mod cache;
mod chat;
mod completions;
mod drain;
mod embeddings;
mod limits;
mod logs;
mod operator;
mod operators;
mod routes;
mod several;
mod tls;
mod tools;
