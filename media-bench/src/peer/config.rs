//! What a peer is like: [`PeerConfig`].

use forwarding::codec::Codec;
use forwarding::rtp::{ExtensionId, NegotiatedExtensions};
use media::MediaKind;

/// Which way media flows in a section, seen from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The peer publishes.
    SendOnly,
    /// The peer watches.
    RecvOnly,
    /// Both.
    SendRecv,
}

impl Direction {
    /// The word in SDP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::SendRecv => "sendrecv",
        }
    }

    /// True if the peer sends.
    pub fn sends(self) -> bool {
        self != Self::RecvOnly
    }

    /// True if the peer receives.
    pub fn receives(self) -> bool {
        self != Self::SendOnly
    }
}

/// Whose payload types, extension ids and mids a peer uses, so that they differ between peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// Those of Chromium 140.
    Chromium,
    /// Those of Firefox before 63, mids included.
    Firefox,
}

/// What a peer offers, and what it does by itself.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// The audio section, if there is one.
    pub audio: Option<Direction>,
    /// The video section, if there is one.
    pub video: Option<Direction>,
    /// A section for data channels.
    pub data: bool,
    /// Video codecs, most preferred first; the first one is sent.
    pub video_codecs: Vec<Codec>,
    /// Offer retransmissions on an SSRC of their own (RFC 4588).
    pub rtx: bool,
    /// Announce SSRCs (`a=ssrc`); without, the server learns them from MID or payload type.
    pub announces_ssrcs: bool,
    /// Offer transport-wide congestion control.
    pub transport_cc: bool,
    /// Payload types and ids.
    pub numbering: Numbering,
    /// Ask for packets that are missing.
    pub sends_nacks: bool,
    /// Send again what the server asks for.
    pub answers_nacks: bool,
    /// Send sender and receiver reports once a second.
    pub reports: bool,
    /// Keep every packet received, for tests; else only totals.
    pub keeps_packets: bool,
    /// Authenticate and read one packet of media in so many, and of the others believe the header: for
    /// hundreds of peers in one thread. Numbers are kept, NACKs and reports sent all the same. 1: all.
    pub opens_every: u32,
    /// Simulcast streams of the video by their `a=rid`, lowest first; none: one stream without a name.
    pub simulcast: Vec<&'static str>,
    /// Media is its owner's: what arrives is handed out by [`Peer::poll_received`](super::Peer::poll_received), and
    /// nothing but checks and handshakes is sent by itself.
    pub bare: bool,
    /// For everything random.
    pub seed: u64,
}

impl PeerConfig {
    /// A peer without media that does all a browser does.
    pub fn new(seed: u64) -> Self {
        Self {
            audio: None,
            video: None,
            data: false,
            video_codecs: vec![Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1],
            rtx: true,
            announces_ssrcs: true,
            transport_cc: true,
            numbering: Numbering::Chromium,
            sends_nacks: true,
            answers_nacks: true,
            reports: true,
            keeps_packets: true,
            opens_every: 1,
            simulcast: Vec::new(),
            bare: false,
            seed,
        }
    }

    /// Publishes audio and video.
    pub fn publisher(seed: u64) -> Self {
        Self {
            audio: Some(Direction::SendOnly),
            video: Some(Direction::SendOnly),
            ..Self::new(seed)
        }
    }

    /// Watches audio and video.
    pub fn viewer(seed: u64) -> Self {
        Self {
            audio: Some(Direction::RecvOnly),
            video: Some(Direction::RecvOnly),
            ..Self::new(seed)
        }
    }

    /// The direction of a kind, if it has a section. Data has none.
    pub fn direction(&self, kind: MediaKind) -> Option<Direction> {
        match kind {
            MediaKind::Audio => self.audio,
            MediaKind::Video => self.video,
            MediaKind::Data => None,
        }
    }

    /// Formats of a kind in the order of the offer.
    pub(super) fn formats(&self, kind: MediaKind) -> Vec<Format> {
        let codecs = match kind {
            MediaKind::Audio => &[Codec::Opus][..],
            MediaKind::Video => &self.video_codecs,
            MediaKind::Data => &[],
        };
        codecs
            .iter()
            .map(|codec| self.numbering.format(*codec, self.rtx))
            .collect()
    }

    /// Ids of the header extensions of a kind.
    pub(crate) fn extensions(&self, kind: MediaKind) -> NegotiatedExtensions {
        let [level, time, transport, mid, orientation] = self.numbering.extension_ids();
        let is_audio = kind == MediaKind::Audio;
        NegotiatedExtensions {
            mid: Some(mid),
            abs_send_time: Some(time),
            transport_seq: Some(transport).filter(|_| self.transport_cc),
            audio_level: Some(level).filter(|_| is_audio),
            video_orientation: Some(orientation).filter(|_| !is_audio),
        }
    }
}

/// Header extensions that only bare peers offer, by their ids: those of Chromium 140.
pub mod layer_extensions {
    use forwarding::rtp::ExtensionId;

    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`.
    pub const RID: ExtensionId = ExtensionId(10);
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`.
    pub const REPAIRED_RID: ExtensionId = ExtensionId(11);
    /// [`DEPENDENCY_DESCRIPTOR_URI`](forwarding::codec::dependency::DEPENDENCY_DESCRIPTOR_URI).
    pub const DEPENDENCY: ExtensionId = ExtensionId(12);
}

/// One codec with its payload types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) codec: Codec,
    pub(super) payload_type: u8,
    pub(super) rtx_payload_type: Option<u8>,
    /// After `a=rtpmap`.
    pub(super) name: &'static str,
    /// After `a=fmtp`.
    pub(super) parameters: &'static str,
}

impl Numbering {
    fn format(self, codec: Codec, rtx: bool) -> Format {
        let (chromium, firefox, name, parameters) = match codec {
            Codec::Vp8 => ([96, 97], [120, 124], "VP8/90000", ""),
            Codec::H264 => (
                [108, 109],
                [126, 127],
                "H264/90000",
                "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
            ),
            Codec::Vp9 => ([98, 99], [121, 125], "VP9/90000", "profile-id=0"),
            Codec::Av1 => (
                [45, 46],
                [99, 100],
                "AV1/90000",
                "level-idx=5;profile=0;tier=0",
            ),
            _ => (
                [111, 0],
                [109, 0],
                "opus/48000/2",
                "minptime=10;useinbandfec=1",
            ),
        };
        let [payload_type, repair] = match self {
            Self::Chromium => chromium,
            Self::Firefox => firefox,
        };
        Format {
            codec,
            payload_type,
            rtx_payload_type: (rtx && repair != 0).then_some(repair),
            name,
            parameters,
        }
    }

    /// Audio level, send time, transport-wide number, mid, orientation.
    fn extension_ids(self) -> [ExtensionId; 5] {
        match self {
            Self::Chromium => [1, 2, 3, 4, 13],
            Self::Firefox => [1, 4, 7, 3, 9],
        }
        .map(ExtensionId)
    }

    pub(super) fn mid(self, kind: MediaKind) -> &'static str {
        match (self, kind) {
            (Self::Chromium, MediaKind::Audio) => "0",
            (Self::Chromium, MediaKind::Video) => "1",
            (Self::Chromium, MediaKind::Data) => "2",
            (Self::Firefox, MediaKind::Audio) => "sdparta_0",
            (Self::Firefox, MediaKind::Video) => "sdparta_1",
            (Self::Firefox, MediaKind::Data) => "sdparta_2",
        }
    }
}
