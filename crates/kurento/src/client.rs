//! The client half: a Kurento Media Server as a [`MediaServer`](media::MediaServer).
//!
//! Read [`Kms`] first, then `machine`, the protocol without I/O. Deliberately absent: choosing among
//! several servers.

mod driver;
mod kms;
mod machine;
mod message;
mod translation;
mod transport;

pub use kms::Kms;
pub use transport::{Dial, websocket};
