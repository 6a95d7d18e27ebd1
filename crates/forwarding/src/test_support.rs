//! Packets for the tests of several modules.

use crate::codec::{Codec, inspect};
use crate::packet::SourcePacket;
use crate::rtp::{ExtendedSeq, PayloadType, RtpTime, Ssrc};

/// A VP8 delta frame of one packet, without picture id; 3000 ticks per packet.
pub(crate) fn video(ssrc: Ssrc, seq: u64) -> SourcePacket {
    packet(ssrc, seq, &[0x10, 1])
}

/// A VP8 key frame of one packet, without picture id.
pub(crate) fn key(ssrc: Ssrc, seq: u64) -> SourcePacket {
    packet(ssrc, seq, &[0x10, 0])
}

/// An audio packet.
pub(crate) fn audio(ssrc: Ssrc, seq: u64) -> SourcePacket {
    SourcePacket {
        frame: inspect(Codec::Opus, &[]),
        ..packet(ssrc, seq, &[])
    }
}

fn packet(ssrc: Ssrc, seq: u64, payload: &[u8]) -> SourcePacket {
    SourcePacket {
        ssrc,
        seq: ExtendedSeq(seq),
        timestamp: RtpTime((seq as u32).wrapping_mul(3000)),
        marker: true,
        payload_type: PayloadType(96),
        frame: inspect(Codec::Vp8, payload),
        audio_level: None,
        video_orientation: None,
    }
}
