//! What an endpoint's peer wants to be sent, and what it gets.

/// Endpoints with the same id belong to one participant: what is sent to them shares one path, so they share one
/// estimate of what it carries, however many connections they are. Chosen by the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u64);

/// What an endpoint sends to its peer, of what it is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Delivery {
    /// Send audio.
    pub audio: bool,
    /// Send video.
    pub video: bool,
    /// No picture higher than this, pixels.
    pub height_max: Option<u16>,
    /// No more frames per second than this.
    pub frame_rate_max: Option<u8>,
    /// Which of a peer's videos is improved first when not all can be.
    pub priority: VideoPriority,
    /// This quality and no better, where the source has several.
    pub layer_max: Option<VideoLayer>,
}

impl Default for Delivery {
    /// The best of everything.
    fn default() -> Self {
        Self {
            audio: true,
            video: true,
            height_max: None,
            frame_rate_max: None,
            priority: VideoPriority::default(),
            layer_max: None,
        }
    }
}

/// How much a video matters to who watches it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VideoPriority {
    /// Thumbnails.
    Low,
    /// The rest.
    #[default]
    Normal,
    /// Who speaks, or what was made large.
    High,
}

/// A quality of a source that has several: of simulcast or scalable video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VideoLayer {
    /// The picture size, 0 the smallest. Simulcast streams and spatial layers count alike.
    pub spatial: u8,
    /// The frame rate, 0 the lowest.
    pub temporal: u8,
}

/// What becomes of the video that an endpoint is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VideoDelivery {
    /// It is sent.
    Sent {
        /// In this quality.
        layer: VideoLayer,
        /// How many picture sizes the source has, at least 1: what it sends, and what it would if anybody watched.
        spatial_layers: u8,
        /// Height of the picture, pixels; 0 if it is not known.
        height: u16,
    },
    /// It is held back.
    Paused(PauseReason),
}

/// Why a video is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PauseReason {
    /// [`Delivery::video`] is false.
    Wish,
    /// The path to the peer carries not even the smallest layer.
    Bandwidth,
    /// The source sends nothing.
    Source,
}

/// Whether anybody watches one simulcast stream of a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LayerDemand {
    /// The stream's `a=rid` (RFC 8851).
    pub rid: String,
    /// False: its publisher may stop to encode it.
    pub wanted: bool,
}
