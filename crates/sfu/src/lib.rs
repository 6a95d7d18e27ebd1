//! The native media server.

pub mod engine;
