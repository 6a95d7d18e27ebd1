//! [`SourcePacket`]: what is known about a publisher's packet after it was received, shared by all subscribers.

use crate::codec::FrameInfo;
use crate::rtp::{ExtendedSeq, PayloadType, RtpTime, Ssrc};

/// One packet of a source, without its bytes. Written once per received packet, read once per subscriber.
///
/// For a packet that came by retransmission (RFC 4588) these are the values of the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourcePacket {
    /// The source. Subscribers tell sources apart by it alone, so where publishers may choose the same SSRC this is
    /// a number given in its place.
    pub ssrc: Ssrc,
    /// Its sequence number, as given by [`crate::receive::Arrival::New`].
    pub seq: ExtendedSeq,
    /// Its timestamp.
    pub timestamp: RtpTime,
    /// Its marker bit.
    pub marker: bool,
    /// Its payload type, in the publisher's numbering.
    pub payload_type: PayloadType,
    /// What [`crate::codec::inspect`] saw.
    pub frame: FrameInfo,
    /// The publisher's audio-level byte, if it sent one.
    pub audio_level: Option<u8>,
    /// The publisher's video-orientation byte, if it sent one.
    pub video_orientation: Option<u8>,
}
