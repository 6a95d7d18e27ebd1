//! RTP header extensions (RFC 8285).

use media::MediaKind;

/// Ids of the negotiated RTP header extensions, 1 to 14 or 16 to 255; the latter need the two-byte form.
/// The offerer chose them, so they differ between endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Media identification (RFC 9143).
    pub mid: Option<u8>,
    /// RTP stream id (RFC 8852).
    pub rid: Option<u8>,
    /// RTP stream id of what is retransmitted (RFC 8852).
    pub repaired_rid: Option<u8>,
    /// Absolute send time, 24 bits of 6.18 fixed point seconds.
    pub abs_send_time: Option<u8>,
    /// Transport-wide sequence number.
    pub transport_cc: Option<u8>,
    /// Client-to-mixer audio level (RFC 6464).
    pub audio_level: Option<u8>,
    /// Coordination of video orientation (3GPP TS 26.114).
    pub video_orientation: Option<u8>,
    /// Transmission time offset (RFC 5450).
    pub transmission_offset: Option<u8>,
    /// AV1 dependency descriptor.
    pub dependency_descriptor: Option<u8>,
}

/// A header extension that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    AudioLevel,
    TransmissionOffset,
    AbsSendTime,
    VideoOrientation,
    TransportCc,
    Mid,
    Rid,
    RepairedRid,
    DependencyDescriptor,
}

impl Extension {
    /// All of them. In our offers the id is the position from 1, which gives Kurento's 3 for the send time.
    pub(super) const ALL: [Self; 9] = [
        Self::AudioLevel,
        Self::TransmissionOffset,
        Self::AbsSendTime,
        Self::VideoOrientation,
        Self::TransportCc,
        Self::Mid,
        Self::Rid,
        Self::RepairedRid,
        Self::DependencyDescriptor,
    ];

    pub(super) fn uri(self) -> &'static str {
        match self {
            Self::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Self::TransmissionOffset => "urn:ietf:params:rtp-hdrext:toffset",
            Self::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Self::VideoOrientation => "urn:3gpp:video-orientation",
            Self::TransportCc => {
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
            }
            Self::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Self::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Self::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Self::DependencyDescriptor => {
                "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
            }
        }
    }

    pub(super) fn from_uri(uri: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|extension| extension.uri() == uri)
    }

    /// Whether it says something about this kind of media.
    pub(super) fn suits(self, kind: MediaKind) -> bool {
        match self {
            Self::AudioLevel => kind == MediaKind::Audio,
            Self::TransmissionOffset
            | Self::VideoOrientation
            | Self::Rid
            | Self::RepairedRid
            | Self::DependencyDescriptor => kind == MediaKind::Video,
            Self::AbsSendTime | Self::TransportCc | Self::Mid => kind != MediaKind::Data,
        }
    }
}

impl Extensions {
    pub(super) fn set(&mut self, extension: Extension, id: u8) {
        *self.slot(extension) = Some(id);
    }

    pub(super) fn get(mut self, extension: Extension) -> Option<u8> {
        *self.slot(extension)
    }

    fn slot(&mut self, extension: Extension) -> &mut Option<u8> {
        match extension {
            Extension::AudioLevel => &mut self.audio_level,
            Extension::TransmissionOffset => &mut self.transmission_offset,
            Extension::AbsSendTime => &mut self.abs_send_time,
            Extension::VideoOrientation => &mut self.video_orientation,
            Extension::TransportCc => &mut self.transport_cc,
            Extension::Mid => &mut self.mid,
            Extension::Rid => &mut self.rid,
            Extension::RepairedRid => &mut self.repaired_rid,
            Extension::DependencyDescriptor => &mut self.dependency_descriptor,
        }
    }
}
