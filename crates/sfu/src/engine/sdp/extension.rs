//! RTP header extensions (RFC 8285).

/// Ids of the negotiated RTP header extensions, 1 to 14 or 16 to 255; the latter need the two-byte form.
/// The peer chose them in its offer, so they differ between endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid` (RFC 9143).
    pub mid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id` (RFC 8852).
    pub rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id` (RFC 8852).
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
