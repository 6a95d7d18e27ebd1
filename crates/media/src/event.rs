//! What a media server tells without being asked.

use std::fmt;
use std::sync::Arc;

use crate::{IceCandidate, LayerDemand, MediaKind, VideoDelivery};

/// Something happened to the pipeline or element whose creator passed the [`EventSender`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A local candidate to pass to the peer.
    IceCandidateFound(IceCandidate),
    /// No more local candidates will come.
    IceGatheringDone,
    /// The transport connected or was lost (consent expired, DTLS closed).
    MediaStateChanged(MediaState),
    /// Packets of this kind began or ceased to arrive from the peer.
    MediaFlowInChanged {
        /// Audio, video or data.
        kind: MediaKind,
        /// True while packets arrive.
        flowing: bool,
    },
    /// Whether the peer sends RTP or RTCP, told when it changes: it said goodbye to all that it sent or was not heard for
    /// long, though the transport lives; or it is heard again. Optional.
    PeerHeard(bool),
    /// ICE of one component of the transport moved on. Optional: a server that reports only
    /// [`MediaStateChanged`](Self::MediaStateChanged) says less, not something else.
    IceStateChanged {
        /// 1 for RTP and everything bundled with it, 2 for RTCP on a port of its own.
        component: u8,
        /// Where it is.
        state: IceState,
    },
    /// ICE chose a pair of candidates, or a better one. Optional.
    CandidatePairSelected {
        /// As in [`IceStateChanged`](Self::IceStateChanged).
        component: u8,
        /// Ours, `candidate:…`.
        local: String,
        /// The peer's, `candidate:…`.
        remote: String,
    },
    /// The DTLS handshake of the transport moved on. Optional.
    DtlsStateChanged(DtlsState),
    /// A data channel was opened, by its SCTP stream.
    DataChannelOpened(u16),
    /// A data channel was closed, by its SCTP stream.
    DataChannelClosed(u16),
    /// The video sent to the peer of this endpoint changed its quality, was held back, or goes on. Optional.
    VideoDeliveryChanged(VideoDelivery),
    /// Whether the peer of this endpoint speaks, by the audio levels it sends (RFC 6464). Optional.
    SpeakingChanged(bool),
    /// Which simulcast streams of this endpoint's peer are watched, all of them. Optional.
    LayerDemandChanged(Vec<LayerDemand>),
    /// A player or recorder went another way.
    FileStateChanged(FileState),
    /// What a recorder does with the media that comes.
    RecordingChanged(Recording),
    /// A player has come to the end of its file.
    EndOfStream,
    /// Something failed after the call that caused it had returned.
    Error {
        /// Kurento's name of the failure.
        kind: ErrorKind,
        /// For humans.
        description: String,
        /// Kurento's number of the failure.
        code: i32,
    },
}

/// Whether an endpoint can exchange media with its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaState {
    /// ICE and DTLS are up.
    Connected,
    /// Not up yet, or lost.
    Disconnected,
}

/// What a player or recorder was brought to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileState {
    /// Nothing; the next time it begins anew.
    Stopped,
    /// To play or to record.
    Started,
    /// To hold.
    Paused,
}

/// What a recorder does with the media that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Recording {
    /// It is being written.
    Active,
    /// It is left out.
    Paused,
    /// No more of it is taken, and the file is complete.
    Stopped,
}

/// Where ICE of one component is (the states of RFC 8445 agents, as Kurento names them).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IceState {
    /// Nothing has begun, or the path was lost.
    Disconnected,
    /// Local candidates are being found.
    Gathering,
    /// Pairs are being checked.
    Connecting,
    /// A pair works.
    Connected,
    /// All checks are done.
    Ready,
    /// No pair works.
    Failed,
}

/// Where a DTLS handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DtlsState {
    /// Not begun.
    New,
    /// In progress.
    Connecting,
    /// Done; keys are known.
    Connected,
    /// Refused by either side.
    Failed,
    /// Ended by either side.
    Closed,
}

/// Names of asynchronous failures, as applications written for Kurento know them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A medium cannot be forwarded, as when the sink does not accept the codec of the source.
    StreamFailed,
    /// The media server has lost all that it had made, as when it was started again. The pipeline is gone,
    /// with everything in it.
    ServerLost,
    /// Anything else, by the name the media server gives.
    Other(String),
}

impl ErrorKind {
    /// Kurento's text, such as `STREAM_ERROR_FAILED`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::StreamFailed => "STREAM_ERROR_FAILED",
            Self::ServerLost => "MEDIA_SERVER_LOST",
            Self::Other(name) => name,
        }
    }
}

/// Where the events of one pipeline or element go. Cheap to clone.
///
/// It is called on the media server's own threads: the function behind it must neither block nor
/// call back into the media server, and should pass the event on to a bounded queue.
#[derive(Clone)]
pub struct EventSender(Arc<dyn Fn(Event) + Send + Sync>);

impl EventSender {
    /// Calls `deliver` with every event.
    pub fn new(deliver: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(deliver))
    }

    /// Drops every event.
    pub fn discard() -> Self {
        Self::new(|_| {})
    }

    /// Delivers one event.
    pub fn send(&self, event: Event) {
        (self.0)(event);
    }
}

impl fmt::Debug for EventSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventSender")
    }
}
