//! What we bring into a negotiation.

use media::MediaKind;

use super::write::identifier;
use super::{Codec, Fingerprint, IceCredentials};

/// The most transports that one endpoint can need: audio, video and data, each without `BUNDLE`.
pub const TRANSPORTS_MAX: usize = 3;

/// What we bring into a negotiation. Everything random is drawn by the caller.
#[derive(Clone, Debug)]
pub struct LocalParameters {
    /// Identifier of our description (`o=`); the same in each renegotiation.
    pub session_id: u64,
    /// Credentials for new transports and ICE restarts, by index of the transport, drawn anew for each call. A
    /// transport that goes on keeps those of the previous negotiation.
    pub ice: [IceCredentials; TRANSPORTS_MAX],
    /// Say that we are an ICE-lite agent.
    pub ice_lite: bool,
    /// Hash of our certificate.
    pub fingerprint: Fingerprint,
    /// SSRCs for what is sent; a section that goes on keeps those of the previous negotiation.
    pub ssrcs: LocalSsrcs,
    /// Canonical name of our streams. SDP token characters only, others are dropped.
    pub cname: String,
    /// Stream identifier of what we send; the tracks are named `<stream_id>-audio` and `-video`. Token characters.
    pub stream_id: String,
    /// Accept and offer data channels.
    pub data_channels: bool,
    /// The largest data-channel message that we take, in bytes.
    pub max_message_size: u32,
    /// Listed first, whatever the peer prefers, so that all endpoints of a pipeline agree.
    pub preferred_video_codec: Option<Codec>,
    /// Codecs that we take. Their order is that of our offers.
    pub codecs: Vec<Codec>,
    /// Most that we want to receive in each kind (`b=AS`), in kbit/s.
    pub audio_kbps_max: Option<u32>,
    /// As `audio_kbps_max`, for video.
    pub video_kbps_max: Option<u32>,
    /// Negotiate transport-wide congestion control when the peer knows it. Without it Chromium falls back to REMB.
    pub transport_cc: bool,
    /// Answer what Kurento answers and nothing else: no MID, RID, simulcast, retransmission or transport-cc.
    pub strict: bool,
}

impl LocalParameters {
    /// `b=AS` of a kind, in kbit/s.
    pub(super) fn kbps_max(&self, kind: MediaKind) -> Option<u32> {
        match kind {
            MediaKind::Audio => self.audio_kbps_max,
            MediaKind::Video => self.video_kbps_max,
            MediaKind::Data => None,
        }
    }

    /// Identifiers of our stream and its track of a kind.
    pub(super) fn msid(&self, kind: MediaKind) -> (String, String) {
        let stream = identifier(&self.stream_id);
        let name = if kind == MediaKind::Audio {
            "audio"
        } else {
            "video"
        };
        let track = format!("{stream}-{name}");
        (stream, track)
    }
}

/// SSRCs for what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalSsrcs {
    /// Of audio.
    pub audio: u32,
    /// Of video.
    pub video: u32,
    /// Of retransmitted video.
    pub video_rtx: u32,
}

impl LocalSsrcs {
    /// Of the media of a kind; data has none, and says 0.
    pub(super) fn of(self, kind: MediaKind) -> u32 {
        match kind {
            MediaKind::Audio => self.audio,
            MediaKind::Video => self.video,
            MediaKind::Data => 0,
        }
    }
}
