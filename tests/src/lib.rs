//! Drivers for tests of the real binary with real peers: browsers, raw sockets, WebRTC peers.
//!
//! Read [`server::Server`] first: every scenario in `tests/` starts one. Nothing here sleeps for a
//! fixed time; each wait is for a condition and ends at [`deadline::PATIENCE`]. A failed step
//! panics with what it waited for, because that is what a test does with a failure.

pub mod browser;
pub mod bystanders;
pub mod chromium;
pub mod deadline;
pub mod demo;
pub mod firefox;
pub mod http;
pub mod impairer;
pub mod kurento_socket;
pub mod light_peer;
pub mod peer;
pub mod process;
pub mod proxy;
pub mod remote_control;
pub mod room_socket;
pub mod rtp;
pub mod sctp;
pub mod server;
pub mod stage;
pub mod stun;
pub mod transcript;
pub mod turn;
