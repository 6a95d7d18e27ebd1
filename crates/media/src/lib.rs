//! The seam between signaling and media: what a media server can do, whatever runs behind it.
//!
//! Read [`MediaServer`] first. Elements live in a pipeline and are wired with
//! [`connect`](MediaServer::connect); packets never cross this seam, and nothing here does I/O.
//! Deliberately absent: sockets, wire formats, and any knowledge of rooms.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod delivery;
mod error;
mod event;
#[cfg(any(test, feature = "fake"))]
mod fake;
mod id;
mod server;
mod stats;

pub use delivery::{
    Delivery, LayerDemand, PauseReason, PeerId, VideoDelivery, VideoLayer, VideoPriority,
};
pub use error::Error;
pub use event::{
    DtlsState, ErrorKind, Event, EventSender, FileState, IceState, MediaState, Recording,
};
#[cfg(any(test, feature = "fake"))]
pub use fake::{Call, Fake, Hold, Script};
pub use id::{ElementId, PipelineId};
pub use server::{
    BandwidthLimits, CryptoSuite, DataChannelOptions, ElementKind, IceCandidate, Kilobits,
    MediaKind, MediaServer, OfferOptions, Parameter, Parameters, Purpose, Sdes,
};
pub use stats::{ChannelStats, Direction, EndpointStats, StreamStats};
