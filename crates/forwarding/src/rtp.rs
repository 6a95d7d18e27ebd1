//! RTP as the SFU sees it: numbers that wrap, headers that lie, headers to write.
//!
//! Read [`Header`] first. Payload formats are in [`crate::codec`]; ciphers are not in this crate at all.

mod header;
mod number;
mod template;
mod time;

pub use header::{Extensions, Header, HeaderError};
pub use number::{ExtendedSeq, ExtensionId, PayloadType, RtpTime, Seq, Ssrc, Unroller};
pub use template::{
    HEADER_LEN_MAX, HeaderFields, HeaderTemplate, MID_LEN_MAX, NegotiatedExtensions, RawExtension,
};
pub use time::{AbsSendTime, ClockRate, NtpTime};

/// What a datagram of a multiplexed transport is, by its first bytes (RFC 7983, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// First byte 0..=3.
    Stun,
    /// First byte 20..=63.
    Dtls,
    /// First byte 128..=191 and a second byte that is no RTCP packet type.
    Rtp,
    /// First byte 128..=191 and a second byte in 192..=223.
    Rtcp,
    /// Anything else, also the empty datagram.
    Unknown,
}

impl PacketKind {
    /// Classifies a datagram; looks at two bytes at most.
    #[inline]
    pub fn of(datagram: &[u8]) -> Self {
        match datagram.first() {
            Some(0..=3) => Self::Stun,
            Some(20..=63) => Self::Dtls,
            Some(128..=191) if is_rtcp(datagram) => Self::Rtcp,
            Some(128..=191) => Self::Rtp,
            _ => Self::Unknown,
        }
    }
}

/// True if a packet of the RTP/RTCP range is RTCP: its second byte is 192..=223, a range RTP
/// cannot use with the payload types that RFC 5761, section 4 leaves to it.
#[inline]
pub fn is_rtcp(packet: &[u8]) -> bool {
    matches!(packet.get(1), Some(192..=223))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol() {
        let rows: &[(&[u8], PacketKind)] = &[
            (&[], PacketKind::Unknown),
            (&[0, 1], PacketKind::Stun),
            (&[3], PacketKind::Stun),
            (&[4], PacketKind::Unknown),
            (&[19], PacketKind::Unknown),
            (&[20], PacketKind::Dtls),
            (&[63], PacketKind::Dtls),
            (&[64], PacketKind::Unknown),
            (&[127, 200], PacketKind::Unknown),
            (&[128], PacketKind::Rtp),
            (&[0x80, 96], PacketKind::Rtp),
            (&[0x80, 0x80 | 96], PacketKind::Rtp),
            (&[0x80, 191], PacketKind::Rtp),
            (&[0x80, 192], PacketKind::Rtcp),
            (&[0x80, 200], PacketKind::Rtcp),
            (&[0x81, 223], PacketKind::Rtcp),
            (&[0xbf, 224], PacketKind::Rtp),
            (&[0xc0, 200], PacketKind::Unknown),
        ];
        for (bytes, expected) in rows {
            assert_eq!(PacketKind::of(bytes), *expected, "{bytes:?}");
        }
    }
}
