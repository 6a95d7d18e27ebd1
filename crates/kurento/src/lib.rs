//! The Kurento protocol, both ways: JSON-RPC 2.0 with which applications drive a media server.
//!
//! Read [`server::Server`] first: it makes any [`MediaServer`](media::MediaServer) look like a Kurento
//! Media Server, version 6 and 7 at once. [`client::Kms`] is the reverse: a real one as a
//! `MediaServer`. Frames, refusals and the tables of classes are shared by both directions.
//! Deliberately absent: media, rooms, and the HTTP that a WebSocket begins with.

pub mod client;
mod fault;
mod link;
mod model;
pub mod server;
mod uuid;
mod wire;

pub use fault::Fault;
pub use link::{Frame, Incoming, Link, LinkError, Outgoing};
