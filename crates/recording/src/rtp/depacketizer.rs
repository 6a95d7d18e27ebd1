//! Frames out of the payloads of packets.
//!
//! [`Depacketizer`] takes payloads in order and leaves whole frames. A frame of which something is missing is dropped,
//! and with it all that may refer to it, up to the next key frame. RFC 7741 (VP8), RFC 9628 (VP9), RFC 6184 (H.264), the
//! AV1 RTP specification 1.0, RFC 7587 (Opus).

use std::collections::VecDeque;

use forwarding::codec::{Codec, Vp8Descriptor, Vp9Descriptor};
use forwarding::rtp::RtpTime;

use crate::stream_header::{
    NAL_IDR, OBU_PADDING, OBU_SEQUENCE_HEADER, OBU_TEMPORAL_DELIMITER, OBU_TILE_LIST, Obu,
    nal_type, nal_units, obus, read_leb128,
};
use crate::track::FRAME_BYTES_MAX;

/// Spatial layers in a VP9 superframe (VP9 bitstream, annex B).
const SUPERFRAME_FRAMES_MAX: usize = 8;

const NAL_STAP_A: u8 = 24;
const NAL_FU_A: u8 = 28;

/// A frame with the timestamp of its packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// Of the packets.
    pub timestamp: RtpTime,
    /// Decoding can begin here.
    pub is_key: bool,
    /// As in [`Frame::data`](crate::Frame::data).
    pub data: Vec<u8>,
}

#[derive(Debug)]
struct Assembly {
    timestamp: RtpTime,
    is_key: bool,
    data: Vec<u8>,
    /// Where the frames of the layers end in `data` (VP9).
    layer_ends: Vec<usize>,
    /// Where the unit begins that goes on in the next packet (H.264, AV1).
    open_unit: Option<usize>,
}

/// Frames of one stream.
#[derive(Debug)]
pub struct Depacketizer {
    codec: Codec,
    assembly: Option<Assembly>,
    /// Nothing can be decoded before the next key frame.
    needs_key: bool,
    frames: VecDeque<Media>,
    dropped: u64,
}

impl Depacketizer {
    /// For a codec that [`TrackKind::of`](crate::TrackKind::of) knows; of others no frame comes.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            assembly: None,
            needs_key: codec.has_key_frames(),
            frames: VecDeque::new(),
            dropped: 0,
        }
    }

    /// Frames dropped since the beginning.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// True until the next key frame has come.
    pub fn needs_key(&self) -> bool {
        self.needs_key
    }

    /// Gives up the frame that is being assembled, and waits for a key frame.
    pub fn interrupt(&mut self) {
        if self.assembly.take().is_some() {
            self.dropped += 1;
        }
        self.needs_key = self.codec.has_key_frames();
    }

    /// Takes the next payload, in order. `is_continuous`: nothing is missing before it.
    pub fn handle_payload(
        &mut self,
        is_continuous: bool,
        timestamp: RtpTime,
        marker: bool,
        payload: &[u8],
    ) {
        if !is_continuous {
            self.interrupt();
        }
        if payload.is_empty() {
            return;
        }
        if self.codec == Codec::Opus {
            self.frames.push_back(Media {
                timestamp,
                is_key: true,
                data: payload.to_vec(),
            });
            return;
        }
        let is_same = |assembly: &Assembly| assembly.timestamp == timestamp;
        if self.assembly.as_ref().is_some_and(|it| !is_same(it)) {
            self.finish();
        }
        let is_first = self.assembly.is_none();
        let mut assembly = self.assembly.take().unwrap_or_else(|| Assembly {
            timestamp,
            is_key: false,
            data: Vec::new(),
            layer_ends: Vec::new(),
            open_unit: None,
        });
        let added = match self.codec {
            Codec::Vp8 => add_vp8(&mut assembly, is_first, payload),
            Codec::Vp9 => add_vp9(&mut assembly, is_first, payload),
            Codec::H264 => add_h264(&mut assembly, payload),
            Codec::Av1 => add_av1(&mut assembly, payload),
            _ => None,
        };
        if added.is_none() || assembly.data.len() > FRAME_BYTES_MAX {
            self.dropped += 1;
            self.needs_key = true;
            return;
        }
        self.assembly = Some(assembly);
        if marker {
            self.finish();
        }
    }

    /// The next whole frame.
    pub fn poll_frame(&mut self) -> Option<Media> {
        self.frames.pop_front()
    }

    fn finish(&mut self) {
        let Some(mut assembly) = self.assembly.take() else {
            return;
        };
        let is_key = match self.codec {
            Codec::H264 => nal_units(&assembly.data).any(|unit| nal_type(unit) == NAL_IDR),
            Codec::Av1 => obus(&assembly.data).any(|obu| obu.kind() == OBU_SEQUENCE_HEADER),
            _ => assembly.is_key,
        };
        let is_whole = assembly.open_unit.is_none() && !assembly.data.is_empty();
        if !is_whole || self.needs_key && !is_key {
            self.dropped += 1;
            self.needs_key |= !is_whole;
            return;
        }
        self.needs_key = false;
        if assembly.layer_ends.len() > 1 {
            write_superframe_index(&mut assembly);
        }
        self.frames.push_back(Media {
            timestamp: assembly.timestamp,
            is_key,
            data: assembly.data,
        });
    }
}

/// `None`: the packet cannot be part of this frame.
fn add_vp8(assembly: &mut Assembly, is_first: bool, payload: &[u8]) -> Option<()> {
    let descriptor = Vp8Descriptor::parse(payload)?;
    if is_first != descriptor.starts_frame {
        return None;
    }
    let data = payload.get(usize::from(descriptor.len)..)?;
    if is_first {
        assembly.is_key = data.first()? & 1 == 0;
    }
    assembly.data.extend(data);
    Some(())
}

fn add_vp9(assembly: &mut Assembly, is_first: bool, payload: &[u8]) -> Option<()> {
    let descriptor = Vp9Descriptor::parse(payload)?;
    let end = assembly.layer_ends.last().copied().unwrap_or(0);
    let begins = end == assembly.data.len();
    if begins != descriptor.starts_frame || assembly.layer_ends.len() >= SUPERFRAME_FRAMES_MAX {
        return None;
    }
    if is_first {
        assembly.is_key = descriptor.starts_key_picture();
    } else if assembly.data.is_empty() {
        return None;
    }
    let at = assembly.data.len();
    assembly
        .data
        .extend(payload.get(usize::from(descriptor.len)..)?);
    if descriptor.starts_frame && assembly.data.len() == at {
        return None;
    }
    if descriptor.ends_frame {
        assembly.layer_ends.push(assembly.data.len());
    }
    Some(())
}

/// Tells decoders where the frames of a superframe are (VP9 bitstream, annex B).
fn write_superframe_index(assembly: &mut Assembly) {
    const SIZE_BYTES: usize = 4;
    let frames = assembly.layer_ends.len();
    let marker = 0b1100_0000 | ((SIZE_BYTES - 1) << 3) as u8 | (frames - 1) as u8;
    let mut start = 0;
    let mut index = vec![marker];
    for end in &assembly.layer_ends {
        let size = u32::try_from(end - start).unwrap_or(u32::MAX);
        index.extend(size.to_le_bytes());
        start = *end;
    }
    index.push(marker);
    assembly.data.extend(index);
}

fn add_h264(assembly: &mut Assembly, payload: &[u8]) -> Option<()> {
    let (indicator, rest) = payload.split_first()?;
    match nal_type(payload) {
        1..NAL_STAP_A => {
            close_unit(assembly, false)?;
            push_unit(&mut assembly.data, payload)
        }
        NAL_STAP_A => {
            close_unit(assembly, false)?;
            let mut rest = rest;
            while !rest.is_empty() {
                let (length, behind) = rest.split_first_chunk::<2>()?;
                let length = usize::from(u16::from_be_bytes(*length));
                let (unit, behind) = behind.split_at_checked(length)?;
                push_unit(&mut assembly.data, unit)?;
                rest = behind;
            }
            Some(())
        }
        NAL_FU_A => {
            let (header, data) = rest.split_first()?;
            if header & 0x80 != 0 {
                close_unit(assembly, false)?;
                assembly.open_unit = Some(assembly.data.len());
                assembly.data.extend([0; 4]);
                assembly.data.push(indicator & 0xe0 | header & 0x1f);
            }
            assembly.open_unit?;
            assembly.data.extend(data);
            if header & 0x40 != 0 {
                close_unit(assembly, true)?;
            }
            Some(())
        }
        _ => None,
    }
}

/// Writes the length of the fragmented unit; without one there must be none to close.
fn close_unit(assembly: &mut Assembly, is_open: bool) -> Option<()> {
    match assembly.open_unit.take() {
        None => Some(()).filter(|()| !is_open),
        Some(start) if is_open => {
            let length = u32::try_from(assembly.data.len() - start - 4).ok()?;
            assembly.data[start..start + 4].copy_from_slice(&length.to_be_bytes());
            Some(())
        }
        Some(_) => None,
    }
}

fn push_unit(data: &mut Vec<u8>, unit: &[u8]) -> Option<()> {
    data.extend(u32::try_from(unit.len()).ok()?.to_be_bytes());
    data.extend(unit);
    Some(())
}

/// AV1 RTP specification, section 4.4: `Z Y W W N - - -`, then OBU elements.
fn add_av1(assembly: &mut Assembly, payload: &[u8]) -> Option<()> {
    let (aggregation, mut rest) = payload.split_first()?;
    let continues = aggregation & 0x80 != 0;
    let goes_on = aggregation & 0x40 != 0;
    let count = aggregation >> 4 & 0x03;
    if continues != assembly.open_unit.is_some() {
        return None;
    }
    let mut number = 0u8;
    while !rest.is_empty() {
        number = number.saturating_add(1);
        let mut length = rest.len();
        if count == 0 || number < count {
            (length, rest) = read_leb128(rest)?;
        }
        let (element, behind) = rest.split_at_checked(length)?;
        rest = behind;
        // The parts of an OBU stand without size until the last has come.
        let start = assembly.open_unit.take().unwrap_or(assembly.data.len());
        assembly.data.extend(element);
        if rest.is_empty() && goes_on {
            assembly.open_unit = Some(start);
        } else {
            close_obu(&mut assembly.data, start)?;
        }
    }
    Some(())
}

/// Gives the OBU that begins at `start` a size, or drops it if files do not hold its kind.
fn close_obu(data: &mut Vec<u8>, start: usize) -> Option<()> {
    let bytes = data.split_off(start);
    if bytes.is_empty() {
        return Some(());
    }
    let (obu, _) = Obu::split(&bytes)?;
    if !matches!(
        obu.kind(),
        OBU_TEMPORAL_DELIMITER | OBU_TILE_LIST | OBU_PADDING
    ) {
        obu.write_sized(data);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T: RtpTime = RtpTime(9000);

    #[test]
    fn frame_with_a_hole_costs_all_up_to_the_next_key_frame() {
        let mut depacketizer = Depacketizer::new(Codec::Vp8);
        let key = [0x10, 0, 0, 0, 0x9d, 0x01, 0x2a];
        let inter = [0x10, 1, 2, 3];
        depacketizer.handle_payload(true, RtpTime(0), true, &inter);
        assert_eq!(depacketizer.poll_frame(), None, "nothing to begin with");
        depacketizer.handle_payload(true, RtpTime(1), true, &key);
        depacketizer.handle_payload(true, RtpTime(2), true, &inter);
        depacketizer.handle_payload(false, RtpTime(4), true, &inter);
        depacketizer.handle_payload(true, RtpTime(5), true, &inter);
        depacketizer.handle_payload(true, RtpTime(6), true, &key);

        let frames: Vec<_> = std::iter::from_fn(|| depacketizer.poll_frame())
            .map(|frame| (frame.timestamp.0, frame.is_key))
            .collect();
        assert_eq!(frames, [(1, true), (2, false), (6, true)]);
        assert_eq!(depacketizer.dropped(), 3);
    }

    #[test]
    fn vp9_layers_become_one_superframe() {
        let mut depacketizer = Depacketizer::new(Codec::Vp9);
        // I P L F B E V Z: layer indices, begin and end; then TID U SID D and TL0PICIDX.
        for (spatial, marker) in [(0u8, false), (1, true)] {
            let payload = [0b0010_1100, spatial << 1, 0, 7, 7, 7];
            depacketizer.handle_payload(true, T, marker, &payload);
        }
        let frame = depacketizer.poll_frame().unwrap();
        assert!(frame.is_key);
        assert_eq!(frame.data.len(), 6 + 10);
        assert_eq!(frame.data[6], frame.data[15]);
    }

    #[test]
    fn h264_fragments_and_aggregates_become_length_prefixed() {
        let mut depacketizer = Depacketizer::new(Codec::H264);
        depacketizer.handle_payload(true, T, false, &[0x78, 0, 2, 0x67, 1, 0, 2, 0x68, 2]);
        depacketizer.handle_payload(true, T, false, &[0x7c, 0x85, 3]);
        depacketizer.handle_payload(true, T, true, &[0x7c, 0x45, 4]);
        let frame = depacketizer.poll_frame().unwrap();
        assert!(frame.is_key);
        let units: Vec<_> = nal_units(&frame.data).map(<[u8]>::to_vec).collect();
        assert_eq!(units, [vec![0x67, 1], vec![0x68, 2], vec![0x65, 3, 4]]);
    }

    proptest! {
        #[test]
        fn any_payloads_are_taken(
            codec in prop::sample::select(vec![Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::H264, Codec::Opus]),
            payloads in prop::collection::vec(
                (any::<bool>(), 0u32..3, any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        ) {
            let mut depacketizer = Depacketizer::new(codec);
            for (is_continuous, timestamp, marker, payload) in payloads {
                depacketizer.handle_payload(is_continuous, RtpTime(timestamp), marker, &payload);
                while let Some(frame) = depacketizer.poll_frame() {
                    prop_assert!(!frame.data.is_empty());
                }
            }
        }
    }
}
