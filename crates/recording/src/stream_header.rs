//! What key frames say about their stream: picture size, profile, and what files want to know besides.
//!
//! [`format_of`] is the one way in. Nothing is decoded; what cannot be read is `None`.

use forwarding::codec::Codec;

use crate::bits::Bits;
use crate::track::{TrackFormat, TrackKind};

/// Longest parameter set that is looked at, bytes.
const PARAMETER_SET_BYTES_MAX: usize = 1024;

/// The format of a track, from its first frame. `None`: not a key frame, or malformed.
pub(crate) fn format_of(codec: Codec, frame: &[u8]) -> Option<TrackFormat> {
    match codec {
        Codec::Opus => Some(TrackFormat::opus(opus_channels(frame)?)),
        Codec::Vp8 => vp8(frame),
        Codec::Vp9 => vp9(frame),
        Codec::Av1 => av1(frame),
        Codec::H264 => h264(frame),
        _ => None,
    }
}

fn video(codec: Codec, width: u32, height: u32) -> Option<TrackFormat> {
    debug_assert_eq!(TrackKind::of(codec), Some(TrackKind::Video));
    Some(TrackFormat {
        codec,
        width: u16::try_from(width).ok().filter(|width| *width > 0)?,
        height: u16::try_from(height).ok().filter(|height| *height > 0)?,
        channels: 0,
        profile: 0,
        configuration: Vec::new(),
    })
}

/// Decoders are asked for stereo whatever the packets are: senders change between packets (RFC 6716, section 3.1).
fn opus_channels(packet: &[u8]) -> Option<u8> {
    packet.first().map(|_| 2)
}

/// RFC 6386, section 9.1.
fn vp8(frame: &[u8]) -> Option<TrackFormat> {
    let [tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] = frame else {
        return None;
    };
    if tag & 1 != 0 {
        return None;
    }
    let pixels = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    video(Codec::Vp8, pixels(*w0, *w1), pixels(*h0, *h1))
}

/// VP9 bitstream specification 0.6, section 6.2.
fn vp9(frame: &[u8]) -> Option<TrackFormat> {
    const SYNC_CODE: u32 = 0x49_83_42;
    const SRGB: u32 = 7;
    let mut bits = Bits::new(frame);
    if bits.read(2)? != 2 {
        return None;
    }
    let profile = bits.read(1)? | bits.read(1)? << 1;
    if profile == 3 {
        bits.skip(1)?;
    }
    let (shows_existing, is_inter) = (bits.bit()?, bits.bit()?);
    if shows_existing || is_inter {
        return None;
    }
    bits.skip(2)?;
    if bits.read(24)? != SYNC_CODE {
        return None;
    }
    if profile >= 2 {
        bits.skip(1)?;
    }
    let has_subsampling = profile & 1 == 1;
    if bits.read(3)? != SRGB {
        bits.skip(if has_subsampling { 4 } else { 1 })?;
    } else if has_subsampling {
        bits.skip(1)?;
    }
    let (width, height) = (bits.read(16)? + 1, bits.read(16)? + 1);
    Some(TrackFormat {
        profile: profile as u8,
        ..video(Codec::Vp9, width, height)?
    })
}

/// The NAL units of a frame whose units stand behind lengths of four bytes.
pub(crate) fn nal_units(frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = frame;
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (unit, behind) = behind.split_at_checked(length)?;
        rest = behind;
        Some(unit)
    })
}

/// Type of a NAL unit (H.264, table 7-1).
pub(crate) fn nal_type(unit: &[u8]) -> u8 {
    unit.first().map_or(0, |header| header & 0x1f)
}

pub(crate) const NAL_IDR: u8 = 5;
pub(crate) const NAL_SPS: u8 = 7;
pub(crate) const NAL_PPS: u8 = 8;

fn h264(frame: &[u8]) -> Option<TrackFormat> {
    let find = |kind| {
        nal_units(frame)
            .find(|unit| nal_type(unit) == kind && unit.len() <= PARAMETER_SET_BYTES_MAX)
    };
    nal_units(frame).find(|unit| nal_type(unit) == NAL_IDR)?;
    let (sps, pps) = (find(NAL_SPS)?, find(NAL_PPS)?);
    let (width, height) = sps_size(sps)?;
    let mut configuration = vec![1];
    configuration.extend(sps.get(1..4)?);
    configuration.push(0xff);
    for (count, unit) in [(0xe1, sps), (0x01, pps)] {
        configuration.push(count);
        configuration.extend(u16::try_from(unit.len()).ok()?.to_be_bytes());
        configuration.extend(unit);
    }
    // From High on the record repeats what the parameter set says (ISO/IEC 14496-15, section 5.3.3.1.2).
    if matches!(sps[1], 100 | 110 | 122 | 244) {
        configuration.extend([0xfc | 1, 0xf8, 0xf8, 0]);
    }
    Some(TrackFormat {
        configuration,
        ..video(Codec::H264, width, height)?
    })
}

/// Picture size by a sequence parameter set (H.264, section 7.3.2.1.1).
fn sps_size(unit: &[u8]) -> Option<(u32, u32)> {
    // Emulation prevention bytes are no part of what is said.
    let mut raw = Vec::with_capacity(unit.len());
    for (index, byte) in unit.iter().enumerate() {
        let is_prevention = *byte == 3 && index >= 2 && unit[index - 2..index] == [0, 0];
        if !is_prevention {
            raw.push(*byte);
        }
    }
    let mut bits = Bits::new(raw.get(1..)?);
    let profile = bits.read(8)?;
    bits.skip(16)?;
    bits.golomb()?;
    let mut chroma_format = 1;
    if matches!(
        profile,
        100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
    ) {
        chroma_format = bits.golomb()?;
        if chroma_format == 3 {
            bits.skip(1)?;
        }
        bits.golomb()?;
        bits.golomb()?;
        bits.skip(1)?;
        if bits.bit()? {
            let lists = if chroma_format == 3 { 12 } else { 8 };
            for list in 0..lists {
                if bits.bit()? {
                    skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.golomb()?;
    match bits.golomb()? {
        0 => {
            bits.golomb()?;
        }
        1 => {
            bits.skip(1)?;
            bits.signed_golomb()?;
            bits.signed_golomb()?;
            let cycle = bits.golomb()?.min(255);
            for _ in 0..cycle {
                bits.signed_golomb()?;
            }
        }
        _ => {}
    }
    bits.golomb()?;
    bits.skip(1)?;
    let width = bits.golomb()?.checked_add(1)?.checked_mul(16)?;
    let map_units = bits.golomb()?.checked_add(1)?;
    let frame_mbs_only = bits.bit()?;
    if !frame_mbs_only {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    let fields = if frame_mbs_only { 1 } else { 2 };
    let height = map_units.checked_mul(16 * fields)?;
    let mut crop = [0; 4];
    if bits.bit()? {
        for side in &mut crop {
            *side = bits.golomb()?;
        }
    }
    let unit_x = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
    let unit_y = fields * if chroma_format == 1 { 2 } else { 1 };
    let [left, right, top, bottom] = crop;
    let cut = |low: u32, high: u32, unit: u32| low.checked_add(high)?.checked_mul(unit);
    Some((
        width.checked_sub(cut(left, right, unit_x)?)?,
        height.checked_sub(cut(top, bottom, unit_y)?)?,
    ))
}

fn skip_scaling_list(bits: &mut Bits<'_>, size: usize) -> Option<()> {
    let (mut last, mut next) = (8i32, 8i32);
    for _ in 0..size {
        if next != 0 {
            next = last.checked_add(bits.signed_golomb()?)?.rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

/// The OBUs of a temporal unit whose OBUs have sizes: type, and all bytes with header (AV1, section 5.3).
pub(crate) fn obus(unit: &[u8]) -> impl Iterator<Item = Obu<'_>> {
    let mut rest = unit;
    std::iter::from_fn(move || {
        let (obu, behind) = Obu::split(rest)?;
        rest = behind;
        Some(obu)
    })
}

pub(crate) const OBU_SEQUENCE_HEADER: u8 = 1;
pub(crate) const OBU_TEMPORAL_DELIMITER: u8 = 2;
pub(crate) const OBU_TILE_LIST: u8 = 8;
pub(crate) const OBU_PADDING: u8 = 15;

/// One open bitstream unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Obu<'a> {
    /// Header and extension, without the size flag.
    pub(crate) header: [u8; 2],
    pub(crate) header_len: usize,
    pub(crate) payload: &'a [u8],
}

impl<'a> Obu<'a> {
    pub(crate) fn kind(&self) -> u8 {
        self.header[0] >> 3 & 0x0f
    }

    /// Splits the first OBU off. One without a size goes to the end.
    pub(crate) fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        const EXTENSION: u8 = 0x04;
        const HAS_SIZE: u8 = 0x02;
        let first = *bytes.first()?;
        let header_len = if first & EXTENSION != 0 { 2 } else { 1 };
        let second = if header_len == 2 { *bytes.get(1)? } else { 0 };
        let mut rest = bytes.get(header_len..)?;
        let mut len = rest.len();
        if first & HAS_SIZE != 0 {
            (len, rest) = read_leb128(rest)?;
        }
        let (payload, rest) = rest.split_at_checked(len)?;
        let header = [first & !HAS_SIZE, second];
        Some((
            Self {
                header,
                header_len,
                payload,
            },
            rest,
        ))
    }

    /// Writes it with a size.
    pub(crate) fn write_sized(&self, out: &mut Vec<u8>) {
        out.push(self.header[0] | 0x02);
        out.extend(&self.header[1..self.header_len]);
        write_leb128(self.payload.len(), out);
        out.extend(self.payload);
    }
}

/// AV1, section 4.10.5.
pub(crate) fn read_leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, &bytes[index + 1..]));
        }
    }
    None
}

pub(crate) fn write_leb128(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn av1(unit: &[u8]) -> Option<TrackFormat> {
    let header = obus(unit).find(|obu| obu.kind() == OBU_SEQUENCE_HEADER)?;
    let sequence = Av1Sequence::read(header.payload)?;
    // AV1CodecConfigurationRecord (AV1 Codec ISO Media File Format Binding, section 2.3.3).
    let mut configuration = vec![
        0x81,
        sequence.profile << 5 | sequence.level,
        sequence.chroma,
        0,
    ];
    header.write_sized(&mut configuration);
    Some(TrackFormat {
        profile: sequence.profile,
        configuration,
        ..video(Codec::Av1, sequence.width, sequence.height)?
    })
}

/// What the sequence header says (AV1, section 5.5).
struct Av1Sequence {
    profile: u8,
    level: u8,
    width: u32,
    height: u32,
    /// Tier, bit depth and subsampling as in the third byte of the configuration record.
    chroma: u8,
}

impl Av1Sequence {
    fn read(payload: &[u8]) -> Option<Self> {
        let mut bits = Bits::new(payload);
        let profile = bits.read(3)? as u8;
        bits.skip(1)?;
        let is_reduced = bits.bit()?;
        let (mut level, mut tier) = (0, 0);
        if is_reduced {
            level = bits.read(5)?;
        } else {
            let mut delay_bits = None;
            if bits.bit()? {
                bits.skip(64)?;
                if bits.bit()? {
                    bits.golomb()?;
                }
                if bits.bit()? {
                    delay_bits = Some(bits.read(5)? + 1);
                    bits.skip(42)?;
                }
            }
            let has_display_delay = bits.bit()?;
            let points = bits.read(5)?;
            for point in 0..=points {
                bits.skip(12)?;
                let its_level = bits.read(5)?;
                let its_tier = if its_level > 7 { bits.read(1)? } else { 0 };
                if point == 0 {
                    (level, tier) = (its_level, its_tier);
                }
                if let Some(delay_bits) = delay_bits
                    && bits.bit()?
                {
                    bits.skip(2 * delay_bits + 1)?;
                }
                if has_display_delay && bits.bit()? {
                    bits.skip(4)?;
                }
            }
        }
        let (width_bits, height_bits) = (bits.read(4)? + 1, bits.read(4)? + 1);
        let (width, height) = (bits.read(width_bits)? + 1, bits.read(height_bits)? + 1);
        if !is_reduced && bits.bit()? {
            bits.skip(7)?;
        }
        bits.skip(3)?;
        if !is_reduced {
            Self::skip_tools(&mut bits)?;
        }
        bits.skip(3)?;
        let chroma = Self::read_chroma(&mut bits, profile)?;
        Some(Self {
            profile,
            level: level as u8,
            width,
            height,
            chroma: (tier as u8) << 7 | chroma,
        })
    }

    fn skip_tools(bits: &mut Bits<'_>) -> Option<()> {
        bits.skip(4)?;
        let has_order_hint = bits.bit()?;
        if has_order_hint {
            bits.skip(2)?;
        }
        let chooses_screen_tools = bits.bit()?;
        let may_use_screen_tools = chooses_screen_tools || bits.bit()?;
        if may_use_screen_tools && !bits.bit()? {
            bits.skip(1)?;
        }
        if has_order_hint {
            bits.skip(3)?;
        }
        Some(())
    }

    fn read_chroma(bits: &mut Bits<'_>, profile: u8) -> Option<u8> {
        const SRGB: (u32, u32, u32) = (1, 13, 0);
        let is_high = bits.bit()?;
        let is_twelve = profile == 2 && is_high && bits.bit()?;
        let is_mono = profile != 1 && bits.bit()?;
        let mut colors = (2, 2, 2);
        if bits.bit()? {
            colors = (bits.read(8)?, bits.read(8)?, bits.read(8)?);
        }
        let (mut x, mut y, mut position) = (true, true, 0);
        if is_mono {
            bits.skip(1)?;
        } else if colors == SRGB {
            (x, y) = (false, false);
        } else {
            bits.skip(1)?;
            (x, y) = match profile {
                0 => (true, true),
                1 => (false, false),
                _ if is_twelve => {
                    let x = bits.bit()?;
                    (x, x && bits.bit()?)
                }
                _ => (true, false),
            };
            if x && y {
                position = bits.read(2)? as u8;
            }
        }
        let flags = [is_high, is_twelve, is_mono, x, y];
        let flags = flags.iter().fold(0, |all, flag| all << 1 | u8::from(*flag));
        Some(flags << 2 | position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn vp8_key_frame_tells_its_size() {
        let frame = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00];
        let format = format_of(Codec::Vp8, &frame).unwrap();
        assert_eq!((format.width, format.height), (320, 180));
        assert_eq!(format_of(Codec::Vp8, &[0x11; 10]), None);
    }

    #[test]
    fn obus_round_trip() {
        let mut unit = Vec::new();
        for (kind, len) in [(OBU_SEQUENCE_HEADER, 10), (6, 300)] {
            let payload = vec![kind; len];
            let obu = Obu {
                header: [kind << 3, 0],
                header_len: 1,
                payload: &payload,
            };
            obu.write_sized(&mut unit);
        }
        let read: Vec<_> = obus(&unit)
            .map(|obu| (obu.kind(), obu.payload.len()))
            .collect();
        assert_eq!(read, [(OBU_SEQUENCE_HEADER, 10), (6, 300)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for codec in [Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::H264, Codec::Opus] {
                let _ = format_of(codec, &bytes);
            }
            let _ = sps_size(&bytes);
            let _ = Av1Sequence::read(&bytes);
        }
    }
}
