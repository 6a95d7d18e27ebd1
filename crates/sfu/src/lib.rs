//! The native media server: media elements on webrtc-rs, in this process.
//!
//! Start with [`NativeMediaServer`], which implements [`media::MediaServer`]. `engine` is the sans-I/O
//! core: no socket, no thread, no clock. `worker` owns those.

pub mod config;
pub mod engine;
pub mod metrics;
mod native;
mod worker;

pub use config::Config;
pub use native::{NativeMediaServer, StartError};
pub use worker::BindError;
