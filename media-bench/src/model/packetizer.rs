//! Frames as RTP payloads: [`Packetizer`] writes the descriptors of VP8 (RFC 7741), VP9 in flexible mode (RFC 9628),
//! and AV1 with its dependency descriptor (AV1 RTP payload specification, appendix A).

use forwarding::codec::Codec;

use super::encoder::Frame;
use super::truth::TRUTH_LEN;

/// Payload bytes of a packet at most.
const PAYLOAD_BYTES_MAX: usize = 1_100;

const TEMPORAL_LAYERS: u8 = 3;

/// Templates of the dependency structure for each spatial layer: a key frame's, and one for each temporal layer.
const TEMPLATES_PER_LAYER: u8 = 1 + TEMPORAL_LAYERS;

/// Indications of a frame for a decode target.
const NOT_PRESENT: u32 = 0;
const DISCARDABLE: u32 = 1;
const SWITCH: u32 = 2;
const REQUIRED: u32 = 3;

/// A packet without its header.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) payload: Vec<u8>,
    pub(super) marker: bool,
    /// Dependency descriptor.
    pub(super) dependency: Option<Vec<u8>>,
}

/// Numbers the pictures of one stream.
#[derive(Debug)]
pub(super) struct Packetizer {
    codec: Codec,
    picture_id: u16,
    tl0_picture_index: u8,
    frame_number: u16,
    /// Spatial layers of the latest key frame.
    spatial_layers: u8,
    /// Frame numbers by picture, for the distance to references; the latest last.
    numbered: Vec<(u32, u8, u16)>,
}

/// Frames that may be referred to: two rounds of pictures in three spatial layers.
const NUMBERED_MAX: usize = 64;

impl Packetizer {
    pub(super) fn new(codec: Codec, first: u16) -> Self {
        Self {
            codec,
            picture_id: first & 0x7fff,
            tl0_picture_index: first as u8,
            frame_number: first,
            spatial_layers: 1,
            numbered: Vec::new(),
        }
    }

    /// Writes the packets of one picture, which has a frame in each of its spatial layers.
    pub(super) fn packetize(&mut self, frames: &[Frame], width_of: fn(u16) -> u16) -> Vec<Packet> {
        let Some(first) = frames.first() else {
            return Vec::new();
        };
        if first.is_key {
            self.spatial_layers = frames.len() as u8;
        }
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        if first.truth.temporal == 0 {
            self.tl0_picture_index = self.tl0_picture_index.wrapping_add(1);
        }
        let heights: Vec<_> = frames.iter().map(|frame| frame.truth.height).collect();
        let mut packets = Vec::new();
        for frame in frames {
            self.frame_number = self.frame_number.wrapping_add(1);
            if self.numbered.len() == NUMBERED_MAX {
                self.numbered.remove(0);
            }
            let id = frame.truth.frame;
            self.numbered
                .push((id.picture, id.spatial, self.frame_number));
            let count = frame.size_bytes.div_ceil(PAYLOAD_BYTES_MAX).max(1);
            let each = frame.size_bytes / count;
            for index in 0..count {
                let place = (index == 0, index + 1 == count);
                let mut payload = self.descriptor(frame, place, &heights, width_of);
                let mut truth = frame.truth;
                truth.packet = index as u16;
                truth.packets = count as u16;
                truth.write(&mut payload);
                let size = each.max(payload.len());
                payload.resize(size, 0);
                packets.push(Packet {
                    payload,
                    marker: frame.is_marked && place.1,
                    dependency: (self.codec == Codec::Av1).then(|| self.dependency(frame, place)),
                });
            }
        }
        packets
    }

    fn descriptor(
        &self,
        frame: &Frame,
        (is_first, is_last): (bool, bool),
        heights: &[u16],
        width_of: fn(u16) -> u16,
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(TRUTH_LEN + 32);
        let [high, low] = (self.picture_id | 0x8000).to_be_bytes();
        let temporal = frame.truth.temporal;
        match self.codec {
            Codec::Vp8 => {
                let non_reference = u8::from(temporal == TEMPORAL_LAYERS - 1) << 5;
                // X and S; I, L and T.
                out.push(0x80 | non_reference | u8::from(is_first) << 4);
                let sync = u8::from(frame.is_switching_point && temporal > 0) << 5;
                let layer = temporal << 6 | sync;
                out.extend_from_slice(&[0xe0, high, low, self.tl0_picture_index, layer]);
                if is_first {
                    // Inverse key-frame flag, show_frame (RFC 6386, section 9.1).
                    out.extend_from_slice(&[0x10 | u8::from(!frame.is_key), 0, 0]);
                    if frame.is_key {
                        out.extend_from_slice(&[0x9d, 1, 0x2a]);
                        let height = frame.truth.height;
                        out.extend_from_slice(&width_of(height).to_le_bytes());
                        out.extend_from_slice(&height.to_le_bytes());
                    }
                }
            }
            Codec::Vp9 => {
                let spatial = frame.truth.frame.spatial;
                let has_structure = frame.is_key && is_first && spatial == 0;
                // Delta frames refer to their own spatial layer only.
                let for_upper = frame.is_key && !frame.is_last_of_picture;
                out.push(
                    0x80 | u8::from(!frame.is_key) << 6
                        | 0x30
                        | u8::from(is_first) << 3
                        | u8::from(is_last) << 2
                        | u8::from(has_structure) << 1
                        | u8::from(!for_upper),
                );
                out.extend_from_slice(&[high, low]);
                out.push(
                    temporal << 5
                        | u8::from(frame.is_switching_point) << 4
                        | spatial << 1
                        | u8::from(frame.is_inter_layer),
                );
                if !frame.is_key {
                    let [near, far] = frame.differences;
                    out.push(near << 1 | u8::from(far != 0));
                    if far != 0 {
                        out.push(far << 1);
                    }
                }
                if has_structure {
                    out.push((self.spatial_layers - 1) << 5 | 0x10);
                    for height in heights {
                        out.extend_from_slice(&width_of(*height).to_be_bytes());
                        out.extend_from_slice(&height.to_be_bytes());
                    }
                }
            }
            Codec::Av1 => {
                // Z and Y where an OBU goes on, one OBU, N at a new coded video sequence.
                let is_new =
                    u8::from(frame.is_key && is_first && frame.truth.frame.spatial == 0) << 3;
                out.push(u8::from(!is_first) << 7 | u8::from(!is_last) << 6 | 0x10 | is_new);
                if is_first {
                    // A sequence header, or a frame.
                    out.push(if is_new != 0 { 0x08 } else { 0x30 });
                }
            }
            _ => {}
        }
        out
    }

    fn dependency(&self, frame: &Frame, (is_first, is_last): (bool, bool)) -> Vec<u8> {
        let id = frame.truth.frame;
        let (spatial, temporal) = (id.spatial, frame.truth.temporal);
        let kind = if frame.is_key { 0 } else { 1 + temporal };
        let mut bits = Bits::default();
        bits.push(u32::from(is_first), 1);
        bits.push(u32::from(is_last), 1);
        let template = self.first_template() + spatial * TEMPLATES_PER_LAYER + kind;
        bits.push(u32::from(template), 6);
        bits.push(u32::from(self.frame_number), 16);
        let has_structure = frame.is_key && spatial == 0 && is_first;
        for flag in [has_structure, false, true, true, false] {
            bits.push(u32::from(flag), 1);
        }
        if has_structure {
            self.write_structure(&mut bits);
        }
        for (target_spatial, target_temporal) in targets(self.spatial_layers) {
            let is_for = match frame.is_key {
                true => spatial <= target_spatial,
                false => spatial == target_spatial,
            };
            let indication = match is_for && temporal <= target_temporal {
                false => NOT_PRESENT,
                true if frame.is_switching_point => SWITCH,
                true if temporal == TEMPORAL_LAYERS - 1 => DISCARDABLE,
                true => REQUIRED,
            };
            bits.push(indication, 2);
        }
        for reference in frame.truth.references() {
            let number = self.numbered.iter().find_map(|(picture, layer, number)| {
                let is_it = (*picture, *layer) == (reference.picture, reference.spatial);
                is_it.then_some(*number)
            });
            let difference = number.map(|number| self.frame_number.wrapping_sub(number));
            if let Some(difference) = difference.filter(|difference| *difference > 0) {
                bits.push(2, 2);
                bits.push(u32::from(difference - 1), 8);
            }
        }
        bits.push(0, 2);
        bits.finish()
    }

    /// Structures number their templates differently, so that packets that come late are not read by the wrong one.
    fn first_template(&self) -> u8 {
        let fewer = 0..self.spatial_layers;
        fewer.map(|layers| layers * TEMPLATES_PER_LAYER).sum()
    }

    /// Templates name layers only; what frames refer to, they say themselves.
    fn write_structure(&self, bits: &mut Bits) {
        let layers = self.spatial_layers;
        bits.push(u32::from(self.first_template()), 6);
        bits.push(u32::from(layers * TEMPORAL_LAYERS) - 1, 5);
        for spatial in 0..layers {
            bits.push(0, 2);
            bits.push(1, 2);
            bits.push(1, 2);
            bits.push(if spatial + 1 < layers { 2 } else { 3 }, 2);
        }
        for spatial in 0..layers {
            for kind in 0..TEMPLATES_PER_LAYER {
                for (target_spatial, target_temporal) in targets(layers) {
                    let is_there = match kind {
                        0 => spatial <= target_spatial,
                        _ => spatial == target_spatial && kind - 1 <= target_temporal,
                    };
                    bits.push(if is_there { SWITCH } else { NOT_PRESENT }, 2);
                }
            }
        }
        for _ in 0..layers * TEMPLATES_PER_LAYER {
            bits.push(0, 1);
        }
        // No chains: a zero below one more than the decode targets, which has one bit less if there are few numbers.
        let numbers = u32::from(layers * TEMPORAL_LAYERS) + 1;
        let width = u32::BITS - numbers.leading_zeros();
        let is_short = (1 << width) - numbers > 0;
        bits.push(0, width - u32::from(is_short));
        bits.push(0, 1);
    }
}

/// Decode targets: every spatial layer at every frame rate.
fn targets(spatial_layers: u8) -> impl Iterator<Item = (u8, u8)> {
    (0..spatial_layers)
        .flat_map(|spatial| (0..TEMPORAL_LAYERS).map(move |temporal| (spatial, temporal)))
}

/// Bits, the highest first.
#[derive(Debug, Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn push(&mut self, value: u32, width: u32) {
        for bit in (0..width).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> bit & 1) as u8) << (7 - self.used % 8);
            }
            self.used += 1;
        }
    }

    fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use forwarding::codec::dependency::DependencyReader;
    use forwarding::codec::inspect;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::encoder::Encoder;
    use super::*;

    const LAYERS: [(u16, u64); 3] = [(180, 150_000), (360, 500_000), (720, 1_500_000)];

    /// Looks at the packets of 40 pictures as forwarding does.
    fn each(codec: Codec, layers: &[(u16, u64)], mut look: impl FnMut(&Frame, &Packet)) {
        let mut random = StdRng::seed_from_u64(1);
        let mut encoder = Encoder::new(3, codec, 0.0);
        let mut packetizer = Packetizer::new(codec, 0xfffa);
        for picture in 0..40 {
            encoder.wants_key_frame |= picture == 25;
            let frames = encoder.encode(layers, 30.0, 0, &mut random);
            let packets = packetizer.packetize(&frames, |height| height * 16 / 9);
            let mut at = 0;
            for packet in &packets {
                look(&frames[at], packet);
                let truth = super::super::truth::Truth::find(&packet.payload).unwrap();
                assert_eq!(truth.frame, frames[at].truth.frame);
                at += usize::from(truth.packet + 1 == truth.packets);
            }
            assert!(packets.last().unwrap().marker);
        }
    }

    #[test]
    fn forwarding_reads_what_vp8_and_vp9_say() {
        each(Codec::Vp8, &LAYERS[..1], |frame, packet| {
            let info = inspect(Codec::Vp8, &packet.payload);
            assert_eq!(info.key_frame, frame.is_key && info.starts_frame);
            assert_eq!(info.temporal_layer, Some(frame.truth.temporal));
        });
        each(Codec::Vp9, &LAYERS, |frame, packet| {
            let info = inspect(Codec::Vp9, &packet.payload);
            let starts_key = frame.is_key && info.starts_frame;
            assert_eq!(info.key_frame, starts_key);
            assert_eq!(info.spatial_layer, Some(frame.truth.frame.spatial));
            assert_eq!(info.temporal_layer, Some(frame.truth.temporal));
        });
    }

    #[test]
    fn forwarding_reads_dependency_descriptors() {
        let mut reader = DependencyReader::default();
        each(Codec::Av1, &LAYERS, |frame, packet| {
            let descriptor = packet.dependency.as_ref().unwrap();
            let found = reader.read(descriptor).unwrap();
            assert_eq!(found.layer.spatial, frame.truth.frame.spatial);
            assert_eq!(found.layer.temporal, frame.truth.temporal);
            assert_eq!(
                found.references.count_ones() as usize,
                frame
                    .truth
                    .references()
                    .collect::<std::collections::HashSet<_>>()
                    .len()
            );
            let starts = found.starts_frame && frame.truth.frame.spatial == 0;
            assert_eq!(found.is_key(), frame.is_key && starts);
        });
    }
}
