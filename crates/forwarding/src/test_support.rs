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

/// A VP8 packet with a 15-bit picture id and TL0PICIDX.
pub(crate) fn picture(
    ssrc: Ssrc,
    seq: u64,
    key_frame: bool,
    picture_id: u16,
    tl0: u8,
) -> SourcePacket {
    let [high, low] = (picture_id | 0x8000).to_be_bytes();
    packet(
        ssrc,
        seq,
        &[0x90, 0xc0, high, low, tl0, u8::from(!key_frame)],
    )
}

/// An audio packet.
pub(crate) fn audio(ssrc: Ssrc, seq: u64) -> SourcePacket {
    SourcePacket {
        frame: inspect(Codec::Opus, &[0]),
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
