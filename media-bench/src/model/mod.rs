//! Models of browsers around the real engine: [`Publisher`] encodes in layers, [`Viewer`] decodes and complains, and
//! [`Stage`] puts them on a simulated network.
//!
//! Read [`Stage`] first. Pictures are synthetic, but their packets are real: descriptors, references, key frames. Each
//! carries in its payload what it truly is ([`truth::Truth`]), so that a viewer knows not only what a decoder would
//! think of it, but also whether that is right. Deliberately absent: pixels, and lip sync.

mod assembly;
mod encoder;
mod missing;
mod packetizer;
mod playback;
mod publisher;
mod references;
mod remb;
mod stage;
pub mod truth;
mod uplink;
mod viewer;

pub use encoder::StreamConfig;
pub use playback::{PictureShown, Playback, PlaybackCounters};
pub use publisher::{Publisher, PublisherConfig, PublisherCounters, VideoConfig};
pub use stage::{Access, EngineEvent, PublisherId, Sample, Stage, ViewerId};
pub use viewer::{Viewer, ViewerConfig, ViewerCounters};
