//! How high pictures are: [`PictureHeights`], from what comes with key frames.

use super::{Codec, FrameInfo, SPATIAL_LAYERS_MAX};

/// Heights of the spatial layers' pictures, pixels; 0 where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PictureHeights(pub [u16; SPATIAL_LAYERS_MAX]);

impl PictureHeights {
    /// The height of a spatial layer's picture; 0 if it is not known.
    pub fn of(&self, spatial: u8) -> u16 {
        self.0.get(usize::from(spatial)).copied().unwrap_or(0)
    }

    /// The height of the largest picture; 0 if none is known.
    pub fn largest(&self) -> u16 {
        self.0.iter().copied().max().unwrap_or(0)
    }

    /// What the first packet of a key frame tells; `None` if it tells nothing. AV1 tells it in the dependency descriptor
    /// ([`super::dependency::DependencyReader::heights`]).
    pub fn read(codec: Codec, frame: &FrameInfo, payload: &[u8]) -> Option<Self> {
        if !frame.key_frame {
            return None;
        }
        match codec {
            Codec::Vp8 => {
                let body = payload.get(usize::from(frame.vp8?.len)..)?;
                Some(Self::single(vp8_height(body)?))
            }
            Codec::Vp9 => vp9_heights(payload.get(usize::from(frame.vp9?.structure_at?)..)?),
            Codec::H264 => Some(Self::single(h264_height(payload)?)),
            _ => None,
        }
    }

    fn single(height: u16) -> Self {
        let mut heights = Self::default();
        heights.0[0] = height;
        heights
    }
}

/// The frame header of a key frame: three bytes, the start code, width and height with two bits for scaling each
/// (RFC 6386, section 9.1).
fn vp8_height(frame: &[u8]) -> Option<u16> {
    if frame.get(3..6)? != [0x9d, 0x01, 0x2a] {
        return None;
    }
    let height = frame.get(8..10)?.first_chunk::<2>()?;
    Some(u16::from_le_bytes(*height) & 0x3fff)
}

/// The scalability structure (RFC 9628, section 4.2.1).
fn vp9_heights(structure: &[u8]) -> Option<PictureHeights> {
    let (first, sizes) = structure.split_first()?;
    if first & 0x10 == 0 {
        return None;
    }
    let layers = usize::from(first >> 5) + 1;
    let mut heights = PictureHeights::default();
    for (height, size) in heights.0.iter_mut().zip(sizes.chunks_exact(4)).take(layers) {
        *height = u16::from_be_bytes([size[2], size[3]]);
    }
    Some(heights)
}

const SPS: u8 = 7;
const STAP_A: u8 = 24;

/// Finds the sequence parameter set in a packet.
fn h264_height(payload: &[u8]) -> Option<u16> {
    let (first, rest) = payload.split_first()?;
    match first & 0x1f {
        SPS => sps_height(rest),
        STAP_A => {
            let mut units = rest;
            while let [high, low, rest @ ..] = units {
                let size = usize::from(u16::from_be_bytes([*high, *low]));
                let unit = rest.get(..size)?;
                if let [header, body @ ..] = unit
                    && header & 0x1f == SPS
                {
                    return sps_height(body);
                }
                units = &rest[size..];
            }
            None
        }
        _ => None,
    }
}

/// Profiles whose parameter sets say more about the samples (ITU-T H.264, section 7.3.2.1.1).
const HIGH_PROFILES: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

/// Reference frames in a cycle of the picture order count; more are malformed.
const ORDER_CYCLE_MAX: u32 = 255;

/// The height in a sequence parameter set (ITU-T H.264, section 7.3.2.1.1), cropping included.
fn sps_height(body: &[u8]) -> Option<u16> {
    let mut bits = Bits::new(body);
    let profile = bits.read(8)?;
    bits.read(16)?;
    bits.unsigned()?;
    let mut chroma = 1;
    if HIGH_PROFILES.contains(&profile) {
        chroma = bits.unsigned()?;
        if chroma == 3 {
            bits.read(1)?;
        }
        bits.unsigned()?;
        bits.unsigned()?;
        bits.read(1)?;
        if bits.read(1)? == 1 {
            // Scaling lists: nobody who sends to browsers has them.
            return None;
        }
    }
    bits.unsigned()?;
    match bits.unsigned()? {
        0 => {
            bits.unsigned()?;
        }
        1 => {
            bits.read(1)?;
            bits.unsigned()?;
            bits.unsigned()?;
            let cycle = bits.unsigned()?;
            if cycle > ORDER_CYCLE_MAX {
                return None;
            }
            for _ in 0..cycle {
                bits.unsigned()?;
            }
        }
        _ => {}
    }
    bits.unsigned()?;
    bits.read(1)?;
    bits.unsigned()?;
    let map_units = bits.unsigned()?.checked_add(1)?;
    let frames_only = bits.read(1)?;
    if frames_only == 0 {
        bits.read(1)?;
    }
    bits.read(1)?;
    let mut cropped = 0u32;
    if bits.read(1)? == 1 {
        bits.unsigned()?;
        bits.unsigned()?;
        let (top, bottom) = (bits.unsigned()?, bits.unsigned()?);
        cropped = top.checked_add(bottom)?;
    }
    let fields = 2 - frames_only;
    let crop_unit = fields * if chroma == 1 { 2 } else { 1 };
    let height = map_units.checked_mul(16 * fields)?;
    let height = height.checked_sub(cropped.checked_mul(crop_unit)?)?;
    u16::try_from(height).ok()
}

/// Bits of a raw byte sequence payload, emulation prevention bytes left out.
struct Bits<'a> {
    bytes: &'a [u8],
    /// Bytes taken, and zero bytes in a row before the current one.
    at: usize,
    zeros: u8,
    current: u8,
    left: u8,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            zeros: 0,
            current: 0,
            left: 0,
        }
    }

    fn bit(&mut self) -> Option<u32> {
        if self.left == 0 {
            let mut byte = *self.bytes.get(self.at)?;
            self.at += 1;
            if self.zeros == 2 && byte == 3 {
                self.zeros = 0;
                byte = *self.bytes.get(self.at)?;
                self.at += 1;
            }
            self.zeros = if byte == 0 {
                (self.zeros + 1).min(2)
            } else {
                0
            };
            self.current = byte;
            self.left = 8;
        }
        self.left -= 1;
        Some(u32::from(self.current >> self.left & 1))
    }

    /// The next `count` bits, at most 32.
    fn read(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | self.bit()?;
        }
        Some(value)
    }

    /// An unsigned number in exponential Golomb code, below 2^31.
    fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 30 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.read(zeros)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::inspect;

    #[track_caller]
    fn check(codec: Codec, payload: &[u8], expected: Option<[u16; 4]>) {
        let frame = inspect(codec, payload);
        let found = PictureHeights::read(codec, &frame, payload);
        assert_eq!(found.map(|heights| heights.0), expected, "{payload:02x?}");
    }

    #[test]
    fn key_frames_tell_their_height() {
        let vp8 = [
            0x10, 0x50, 0x42, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01,
        ];
        check(Codec::Vp8, &vp8, Some([360, 0, 0, 0]));
        check(Codec::Vp8, &vp8[..8], None);
        // A delta frame.
        check(
            Codec::Vp8,
            &[0x10, 0x51, 0x42, 0x00, 0x9d, 0x01, 0x2a],
            None,
        );

        // I L B V, picture 7, base layer, TL0PICIDX 0; two layers with sizes 320x180 and 640x360.
        let vp9 = [
            0xaa, 0x07, 0x00, 0x00, 0x30, 0x01, 0x40, 0x00, 0xb4, 0x02, 0x80, 0x01, 0x68,
        ];
        check(Codec::Vp9, &vp9, Some([180, 360, 0, 0]));
        check(Codec::Vp9, &[0xa8, 0x07, 0x00, 0x00, 1], None);

        // 1280x720 by libx264 (High) and 640x360 by OpenH264 (constrained baseline, cropped).
        let high = [
            0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00,
            0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
        ];
        check(Codec::H264, &high, Some([720, 0, 0, 0]));
        let baseline = [
            0x67, 0x42, 0xc0, 0x1e, 0x8c, 0x8d, 0x40, 0x50, 0x17, 0xfc, 0xb0, 0x0f, 0x08, 0x84,
            0x6a,
        ];
        check(Codec::H264, &baseline, Some([360, 0, 0, 0]));
        let aggregate = [&[0x78, 0, baseline.len() as u8][..], &baseline].concat();
        check(Codec::H264, &aggregate, Some([360, 0, 0, 0]));
        check(Codec::Opus, &[1], None);
    }

    proptest! {
        #[test]
        fn any_payload_is_read_without_panic(
            mut payload in proptest::collection::vec(any::<u8>(), 1..64),
            first in prop_oneof![Just(0x67u8), Just(0x78), any::<u8>()],
        ) {
            payload[0] = first;
            for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
                let frame = FrameInfo { key_frame: true, ..inspect(codec, &payload) };
                PictureHeights::read(codec, &frame, &payload);
            }
        }
    }
}
