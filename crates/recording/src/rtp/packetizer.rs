//! Payloads out of frames: the other way of [`Depacketizer`](super::Depacketizer).

use forwarding::codec::Codec;

use crate::stream_header::{
    NAL_IDR, NAL_PPS, NAL_SPS, OBU_PADDING, OBU_TEMPORAL_DELIMITER, OBU_TILE_LIST, Obu, nal_type,
    nal_units, obus, write_leb128,
};
use crate::track::TrackFormat;

/// Bytes of one payload. With headers, extensions and encryption it must fit a path of 1280 bytes. Too low: more packets.
/// Too high: packets are fragmented or lost.
pub const PAYLOAD_BYTES_MAX: usize = 1100;

/// Frames of one stream to payloads.
#[derive(Debug)]
pub struct Packetizer {
    codec: Codec,
    /// Parameter sets that files keep beside the frames (H.264).
    parameter_sets: Vec<Vec<u8>>,
    /// Bytes of the lengths before NAL units in the frames of the file, 1 to 4.
    length_bytes: usize,
    picture: u16,
}

impl Packetizer {
    /// For frames of a track.
    pub fn new(format: &TrackFormat) -> Self {
        let (length_bytes, parameter_sets) = match format.codec {
            Codec::H264 => read_avc_configuration(&format.configuration).unwrap_or((4, Vec::new())),
            _ => (4, Vec::new()),
        };
        Self {
            codec: format.codec,
            parameter_sets,
            length_bytes,
            picture: 0,
        }
    }

    /// Passes the payloads of a frame on, in order; the flag is the marker bit, set on the last one.
    pub fn packetize(&mut self, frame: &[u8], is_key: bool, mut pass: impl FnMut(&[u8], bool)) {
        if frame.is_empty() {
            return;
        }
        match self.codec {
            Codec::Vp8 => self.packetize_vp8(frame, &mut pass),
            Codec::Vp9 => self.packetize_vp9(frame, is_key, &mut pass),
            Codec::H264 => self.packetize_h264(frame, &mut pass),
            Codec::Av1 => packetize_av1(frame, is_key, &mut pass),
            // The marker would mean the beginning of speech.
            _ => pass(frame, false),
        }
        self.picture = self.picture.wrapping_add(1) & 0x7fff;
    }

    fn packetize_vp8(&self, frame: &[u8], pass: &mut impl FnMut(&[u8], bool)) {
        let [high, low] = (self.picture | 0x8000).to_be_bytes();
        let mut payload = Vec::with_capacity(PAYLOAD_BYTES_MAX);
        let mut parts = frame.chunks(PAYLOAD_BYTES_MAX - 4).peekable();
        let mut start = 0x10;
        while let Some(part) = parts.next() {
            payload.clear();
            payload.extend([0x80 | start, 0x80, high, low]);
            payload.extend(part);
            pass(&payload, parts.peek().is_none());
            start = 0;
        }
    }

    fn packetize_vp9(&self, frame: &[u8], is_key: bool, pass: &mut impl FnMut(&[u8], bool)) {
        const PICTURE_ID: u8 = 0x80;
        const INTER_PICTURE: u8 = 0x40;
        const BEGIN: u8 = 0x08;
        const END: u8 = 0x04;
        const NOT_REFERENCED_ABOVE: u8 = 0x01;
        let [high, low] = (self.picture | 0x8000).to_be_bytes();
        let inter = if is_key { 0 } else { INTER_PICTURE };
        let mut payload = Vec::with_capacity(PAYLOAD_BYTES_MAX);
        let mut parts = frame.chunks(PAYLOAD_BYTES_MAX - 3).peekable();
        let mut begin = BEGIN;
        while let Some(part) = parts.next() {
            let is_last = parts.peek().is_none();
            let end = if is_last { END } else { 0 };
            payload.clear();
            payload.push(PICTURE_ID | inter | begin | end | NOT_REFERENCED_ABOVE);
            payload.extend([high, low]);
            payload.extend(part);
            pass(&payload, is_last);
            begin = 0;
        }
    }

    fn packetize_h264(&self, frame: &[u8], pass: &mut impl FnMut(&[u8], bool)) {
        let mut widened = Vec::new();
        let frame = match self.length_bytes {
            4 => frame,
            bytes => {
                widen_lengths(frame, bytes, &mut widened);
                &widened
            }
        };
        let kinds = || nal_units(frame).map(nal_type);
        let lacks_sets =
            kinds().any(|kind| kind == NAL_IDR) && !kinds().any(|kind| kind == NAL_SPS);
        let sets = self
            .parameter_sets
            .iter()
            .map(Vec::as_slice)
            .filter(|_| lacks_sets);
        // Delimiters and filler say nothing to receivers.
        let units = nal_units(frame).filter(|unit| !matches!(nal_type(unit), 0 | 9 | 12));
        let mut units = sets.chain(units).peekable();
        let mut payload = Vec::with_capacity(PAYLOAD_BYTES_MAX);
        while let Some(unit) = units.next() {
            let is_last = units.peek().is_none();
            if unit.len() <= PAYLOAD_BYTES_MAX {
                pass(unit, is_last);
                continue;
            }
            let header = unit[0];
            let mut parts = unit[1..].chunks(PAYLOAD_BYTES_MAX - 2).peekable();
            let mut start = 0x80;
            while let Some(part) = parts.next() {
                let ends = parts.peek().is_none();
                let end = if ends { 0x40 } else { 0 };
                payload.clear();
                payload.extend([header & 0xe0 | 28, start | end | header & 0x1f]);
                payload.extend(part);
                pass(&payload, is_last && ends);
                start = 0;
            }
        }
    }
}

/// Lengths of any size become four bytes.
fn widen_lengths(frame: &[u8], length_bytes: usize, out: &mut Vec<u8>) {
    let mut rest = frame;
    while let Some((length, behind)) = rest.split_at_checked(length_bytes) {
        let length = length
            .iter()
            .fold(0usize, |all, byte| all << 8 | usize::from(*byte));
        let Some((unit, behind)) = behind.split_at_checked(length) else {
            return;
        };
        out.extend((length as u32).to_be_bytes());
        out.extend(unit);
        rest = behind;
    }
}

/// Size of lengths, and parameter sets (ISO/IEC 14496-15, section 5.3.3.1).
fn read_avc_configuration(record: &[u8]) -> Option<(usize, Vec<Vec<u8>>)> {
    let length_bytes = usize::from(record.get(4)? & 3) + 1;
    let mut rest = record.get(5..)?;
    let mut sets = Vec::new();
    for (mask, kind) in [(0x1f, NAL_SPS), (0xff, NAL_PPS)] {
        let (count, behind) = rest.split_first()?;
        rest = behind;
        for _ in 0..count & mask {
            let (length, behind) = rest.split_first_chunk::<2>()?;
            let (unit, behind) =
                behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            if nal_type(unit) == kind {
                sets.push(unit.to_vec());
            }
            rest = behind;
        }
    }
    Some((length_bytes, sets))
}

/// One element for each packet, or a part of one: simple, and every OBU of a camera but the frame is small.
fn packetize_av1(unit: &[u8], is_key: bool, pass: &mut impl FnMut(&[u8], bool)) {
    const CONTINUES: u8 = 0x80;
    const GOES_ON: u8 = 0x40;
    const ONE_ELEMENT: u8 = 0x10;
    const NEW_SEQUENCE: u8 = 0x08;
    let is_sent = |obu: &Obu<'_>| {
        !matches!(
            obu.kind(),
            OBU_TEMPORAL_DELIMITER | OBU_TILE_LIST | OBU_PADDING
        )
    };
    let mut units: Vec<Vec<u8>> = Vec::new();
    for obu in obus(unit).filter(is_sent) {
        let mut bytes = obu.header[..obu.header_len].to_vec();
        bytes.extend(obu.payload);
        units.push(bytes);
    }
    let mut payload = Vec::with_capacity(PAYLOAD_BYTES_MAX);
    let mut new_sequence = if is_key { NEW_SEQUENCE } else { 0 };
    // Small ones at the front share a packet: receivers look for the sequence header before a key frame's data.
    let small = units
        .iter()
        .take_while(|bytes| bytes.len() < PAYLOAD_BYTES_MAX / 4)
        .count()
        .min(units.len().saturating_sub(1));
    let mut together = vec![new_sequence];
    for bytes in &units[..small] {
        if together.len() + bytes.len() + 2 > PAYLOAD_BYTES_MAX {
            pass(&together, false);
            new_sequence = 0;
            together = vec![0];
        }
        write_leb128(bytes.len(), &mut together);
        together.extend(bytes);
    }
    if together.len() > 1 {
        pass(&together, false);
        new_sequence = 0;
    }
    let mut units = units[small..].iter().peekable();
    while let Some(bytes) = units.next() {
        let mut parts = bytes.chunks(PAYLOAD_BYTES_MAX - 1).peekable();
        let mut continues = 0;
        while let Some(part) = parts.next() {
            let ends = parts.peek().is_none();
            let goes_on = if ends { 0 } else { GOES_ON };
            payload.clear();
            payload.push(continues | goes_on | ONE_ELEMENT | new_sequence);
            payload.extend(part);
            pass(&payload, ends && units.peek().is_none());
            continues = CONTINUES;
            new_sequence = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use forwarding::codec::inspect;
    use forwarding::rtp::RtpTime;
    use proptest::prelude::*;

    use super::super::Depacketizer;
    use super::*;

    fn format(codec: Codec) -> TrackFormat {
        TrackFormat {
            codec,
            width: 0,
            height: 0,
            channels: 0,
            profile: 0,
            configuration: Vec::new(),
        }
    }

    /// A frame that looks like one of its codec as far as packets are concerned.
    fn frame(codec: Codec, body: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        match codec {
            Codec::Vp8 => frame.push(0),
            Codec::Vp9 => frame.push(0x80),
            Codec::H264 => {
                for unit in [&[0x67, 1, 2, 3][..], &[0x68, 4], &[&[0x65], body].concat()] {
                    frame.extend((unit.len() as u32).to_be_bytes());
                    frame.extend(unit);
                }
                return frame;
            }
            Codec::Av1 => {
                for (kind, payload) in [(1u8, &[1, 2, 3][..]), (6, body)] {
                    let header = [kind << 3, 0];
                    let obu = Obu {
                        header,
                        header_len: 1,
                        payload,
                    };
                    obu.write_sized(&mut frame);
                }
                return frame;
            }
            _ => {}
        }
        frame.extend(body);
        frame
    }

    proptest! {
        #[test]
        fn frames_come_back_from_their_packets(
            codec in prop::sample::select(vec![Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::H264, Codec::Opus]),
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..5000), 1..4),
        ) {
            let mut packetizer = Packetizer::new(&format(codec));
            let mut depacketizer = Depacketizer::new(codec);
            for (number, body) in bodies.iter().enumerate() {
                let data = frame(codec, body);
                let mut is_first = true;
                packetizer.packetize(&data, true, |payload, marker| {
                    assert!(codec == Codec::Opus || payload.len() <= PAYLOAD_BYTES_MAX);
                    assert!(!is_first || inspect(codec, payload).key_frame, "{codec:?} {:?}", &payload[..payload.len().min(9)]);
                    is_first = false;
                    depacketizer.handle_payload(true, RtpTime(number as u32), marker, payload);
                });
                let back = depacketizer.poll_frame().expect("a whole frame");
                prop_assert_eq!(back.data, data);
                prop_assert!(back.is_key);
            }
        }

        #[test]
        fn any_frame_is_packetized(
            codec in prop::sample::select(vec![Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::H264, Codec::Opus]),
            configuration in prop::collection::vec(any::<u8>(), 0..30),
            data in prop::collection::vec(any::<u8>(), 0..3000),
            is_key in any::<bool>(),
        ) {
            let mut packetizer = Packetizer::new(&TrackFormat { configuration, ..format(codec) });
            packetizer.packetize(&data, is_key, |_, _| {});
        }
    }
}
