//! Payload types between us and whoever moves the packets: both sides are ours, so they are fixed.

use forwarding::codec::Codec;
use forwarding::rtp::ClockRate;

/// One payload type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// 96 to 127.
    pub payload_type: u8,
    /// What it carries.
    pub codec: Codec,
    /// Profile of VP9 and AV1; 0 for others, of which one payload type carries all profiles.
    pub profile: u8,
}

const fn format(payload_type: u8, codec: Codec, profile: u8) -> Format {
    Format {
        payload_type,
        codec,
        profile,
    }
}

/// All formats that can be recorded and played.
pub const FORMATS: [Format; 10] = [
    format(111, Codec::Opus, 0),
    format(96, Codec::Vp8, 0),
    format(97, Codec::H264, 0),
    format(98, Codec::Vp9, 0),
    format(99, Codec::Vp9, 1),
    format(100, Codec::Vp9, 2),
    format(101, Codec::Vp9, 3),
    format(102, Codec::Av1, 0),
    format(103, Codec::Av1, 1),
    format(104, Codec::Av1, 2),
];

/// What a payload type carries.
pub fn format_of_payload_type(payload_type: u8) -> Option<Format> {
    FORMATS
        .into_iter()
        .find(|format| format.payload_type == payload_type)
}

/// The payload type of a codec in a profile.
pub fn payload_type_of(codec: Codec, profile: u8) -> Option<u8> {
    let format = FORMATS
        .into_iter()
        .find(|format| format.codec == codec && format.profile == profile)?;
    Some(format.payload_type)
}

/// The RTP clock of a codec.
pub fn clock_rate(codec: Codec) -> ClockRate {
    codec.clock_rate()
}
