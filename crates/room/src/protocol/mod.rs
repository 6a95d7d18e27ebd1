//! The room protocol's messages: what clients ask, what the server answers and tells unasked.
//!
//! Read [`Request`] first. Both ends use these types: a server parses requests and writes responses
//! and notifications, a client the other way round. Key order is that of Kurento Room, which golden
//! logs and careless parsers rely on. Deliberately absent: JSON-RPC envelopes, ids and sessions.

mod error;
mod notification;
mod parameters;
mod request;
mod response;
mod subscription;

pub use error::{RoomError, code};
pub use notification::Notification;
pub use parameters::Parameters;
pub use request::Request;
pub use response::{Peer, Response};
pub use subscription::{Pause, SubscribedVideo};

/// The one stream a participant publishes, as announced to the others.
pub const STREAM_ID: &str = "webcam";
