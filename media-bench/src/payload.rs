//! Synthetic media that proves itself: each payload carries a stamp and a pattern made from it, so a
//! receiver knows without any shared state whether it got what was sent.
//!
//! ```text
//! VP8:  descriptor 6 | frame header 10 | stamp 18 | pattern …
//! H264: NAL unit header 1              | stamp 18 | pattern …
//! Opus: TOC 1                          | stamp 18 | pattern …
//! stamp: source 4 | number 4 | sent, µs 8 | payload length 2       all big endian
//! ```

use forwarding::codec::{Codec, Vp8Descriptor};

const VP8_DESCRIPTOR_LEN: usize = 6;
const VP8_FRAME_HEADER_LEN: usize = 10;
const STAMP_LEN: usize = 18;

/// Shortest payload that [`write`] makes.
pub const PAYLOAD_LEN_MIN: usize = VP8_DESCRIPTOR_LEN + VP8_FRAME_HEADER_LEN + STAMP_LEN;

/// Who sent a payload, as its how manieth, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// SSRC of the publisher's stream.
    pub source: u32,
    /// Counts the packets of the source from 0.
    pub number: u32,
    /// When it was sent, in microseconds of a clock that all peers of a test share.
    pub sent_micros: u64,
}

/// Where in its stream a packet of video lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    /// A key frame.
    pub key: bool,
    /// The first packet of its frame.
    pub first: bool,
    /// VP8 picture id, 15 bits.
    pub picture_id: u16,
    /// VP8 TL0PICIDX.
    pub tl0_picture_index: u8,
}

/// Fills `out`, at least [`PAYLOAD_LEN_MIN`] bytes, with a payload of `codec`. Codecs other than VP8
/// and H264 get the form of Opus.
///
/// # Panics
/// If `out` is shorter.
pub fn write(codec: Codec, picture: &Picture, stamp: &Stamp, out: &mut [u8]) {
    let start = match codec {
        Codec::Vp8 => {
            let [high, low] = (picture.picture_id | 0x8000).to_be_bytes();
            // X, and S at the start of a frame; I, L, T and K; temporal layer 0 with Y, key index 0.
            let first = 0x80 | u8::from(picture.first) << 4;
            out[..VP8_DESCRIPTOR_LEN].copy_from_slice(&[
                first,
                0xf0,
                high,
                low,
                picture.tl0_picture_index,
                0x20,
            ]);
            let header = &mut out[VP8_DESCRIPTOR_LEN..VP8_DESCRIPTOR_LEN + VP8_FRAME_HEADER_LEN];
            // Inverse key-frame flag, show_frame; start code; 640 × 480 (RFC 6386, section 9.1).
            header.copy_from_slice(&[
                0x10 | u8::from(!picture.key),
                0,
                0,
                0x9d,
                1,
                0x2a,
                0x80,
                2,
                0xe0,
                1,
            ]);
            VP8_DESCRIPTOR_LEN + VP8_FRAME_HEADER_LEN
        }
        Codec::H264 => {
            out[0] = if picture.key && picture.first {
                0x65
            } else {
                0x41
            };
            1
        }
        _ => {
            out[0] = 0x78;
            1
        }
    };
    let len = out.len() as u16;
    let (head, pattern) = out[start..].split_at_mut(STAMP_LEN);
    head[..4].copy_from_slice(&stamp.source.to_be_bytes());
    head[4..8].copy_from_slice(&stamp.number.to_be_bytes());
    head[8..16].copy_from_slice(&stamp.sent_micros.to_be_bytes());
    head[16..].copy_from_slice(&len.to_be_bytes());
    let seed = seed(stamp);
    for (at, byte) in pattern.iter_mut().enumerate() {
        *byte = seed.wrapping_add(at as u8);
    }
}

/// Reads a payload back; `None` if a byte of it changed. The numbers in a VP8 descriptor are not
/// looked at, since forwarding rewrites them.
pub fn verify(codec: Codec, payload: &[u8]) -> Option<Stamp> {
    let start = match codec {
        Codec::Vp8 => {
            let descriptor = Vp8Descriptor::parse(payload)?;
            usize::from(descriptor.len) + VP8_FRAME_HEADER_LEN
        }
        _ => 1,
    };
    let (head, pattern) = payload.get(start..)?.split_at_checked(STAMP_LEN)?;
    let stamp = Stamp {
        source: u32::from_be_bytes(*head.first_chunk()?),
        number: u32::from_be_bytes(*head[4..].first_chunk()?),
        sent_micros: u64::from_be_bytes(*head[8..].first_chunk()?),
    };
    let seed = seed(&stamp);
    let is_whole = head[16..] == (payload.len() as u16).to_be_bytes();
    let is_intact = pattern
        .iter()
        .enumerate()
        .all(|(at, byte)| *byte == seed.wrapping_add(at as u8));
    (is_whole && is_intact).then_some(stamp)
}

/// The picture id and TL0PICIDX of a VP8 payload.
pub fn picture_numbers(payload: &[u8]) -> Option<(u16, u8)> {
    let descriptor = Vp8Descriptor::parse(payload)?;
    let (index, _) = descriptor.tl0_picture_index?;
    Some((descriptor.picture_id?.value, index))
}

fn seed(stamp: &Stamp) -> u8 {
    (stamp.source ^ stamp.number.wrapping_mul(0x9e37_79b9)).to_be_bytes()[0]
}

#[cfg(test)]
mod tests {
    use forwarding::codec::inspect;

    use super::*;

    const STAMP: Stamp = Stamp {
        source: 7,
        number: 11,
        sent_micros: 13,
    };

    #[test]
    fn payloads_read_back_and_any_change_shows() {
        for codec in [Codec::Vp8, Codec::H264, Codec::Opus] {
            for (key, first) in [(true, true), (true, false), (false, true), (false, false)] {
                let picture = Picture {
                    key,
                    first,
                    picture_id: 0x1234,
                    tl0_picture_index: 0x56,
                };
                let mut payload = vec![0; 100];
                write(codec, &picture, &STAMP, &mut payload);
                assert_eq!(verify(codec, &payload), Some(STAMP), "{codec:?}");
                let is_key = inspect(codec, &payload).key_frame;
                assert_eq!(is_key, codec == Codec::Opus || key && first, "{codec:?}");
                payload[60] ^= 1;
                assert_eq!(verify(codec, &payload), None, "{codec:?}");
                assert_eq!(verify(codec, &payload[..20]), None, "{codec:?}");
            }
        }
    }

    #[test]
    fn vp8_numbers_are_where_forwarding_finds_them() {
        let picture = Picture {
            key: false,
            first: true,
            picture_id: 0x1234,
            tl0_picture_index: 0x56,
        };
        let mut payload = vec![0; PAYLOAD_LEN_MIN];
        write(Codec::Vp8, &picture, &STAMP, &mut payload);
        assert_eq!(picture_numbers(&payload), Some((0x1234, 0x56)));
    }
}
