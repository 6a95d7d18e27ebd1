//! The server over real sockets, with a scripted media server behind it.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod gateways;
mod kurento;
mod program;
mod rest;
mod support;
mod tls;
mod websocket;
