//! Benches of the media path, and the simulated peers that they and the tests of `sfu` share.
//!
//! Read [`peer::Peer`] first: a light WebRTC client without sockets or clocks. [`simulation`] puts peers
//! and an [`Engine`](sfu::engine::Engine) on a simulated network, where a minute takes milliseconds. [`network`] is a
//! path with a bottleneck, for closed loops of congestion control. [`model`] adds encoders, senders and decoders, and
//! [`scenario`] what must come of them when the network is in trouble.
//! The program in `src/program` measures a real server with them.

pub mod model;
pub mod network;
pub mod payload;
pub mod peer;
pub mod scenario;
pub mod simulation;
