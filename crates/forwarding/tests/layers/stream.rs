//! Publishers with layers: what an encoder would send, packet by packet, and what each frame refers to.

use forwarding::codec::Codec;

/// How a publisher encodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// VP8, three temporal layers.
    Vp8,
    /// H264 without layers.
    H264,
    /// VP9 SVC, three spatial and temporal layers; spatial ones meet in key pictures only.
    Vp9Key,
    /// AV1 SVC, three spatial and temporal layers.
    Av1,
    /// The same, spatial layers meet in key pictures only.
    Av1Key,
}

impl Mode {
    pub(crate) fn codec(self) -> Codec {
        match self {
            Self::Vp8 => Codec::Vp8,
            Self::H264 => Codec::H264,
            Self::Vp9Key => Codec::Vp9,
            Self::Av1 | Self::Av1Key => Codec::Av1,
        }
    }

    pub(crate) fn spatial_layers(self) -> u8 {
        match self {
            Self::Vp8 | Self::H264 => 1,
            Self::Vp9Key | Self::Av1 | Self::Av1Key => 3,
        }
    }
}

/// One packet with the truth about its frame.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) seq: u64,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) payload: Vec<u8>,
    pub(crate) descriptor: Vec<u8>,
    /// Index into [`Publisher::frames`].
    pub(crate) frame: usize,
}

/// A frame of one spatial layer.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) spatial: u8,
    pub(crate) temporal: u8,
    /// What a decoder must have decoded.
    pub(crate) references: Vec<usize>,
    /// Its packets' numbers.
    pub(crate) packets: Vec<u64>,
}

/// One RTP stream of an encoder.
pub(crate) struct Publisher {
    mode: Mode,
    pub(crate) frames: Vec<Frame>,
    seq: u64,
    timestamp: u32,
    picture_id: u16,
    tl0: u8,
    /// Pictures since the key frame.
    pictures: usize,
    /// Frames of the last picture of each temporal layer, by spatial layer.
    last: [[Option<usize>; 3]; 3],
}

/// Temporal layer of a picture by its place among four.
const PATTERN: [u8; 4] = [0, 2, 1, 2];

impl Publisher {
    pub(crate) fn new(mode: Mode, number: u64) -> Self {
        Self {
            mode,
            frames: Vec::new(),
            seq: 100 + 60_000 * number,
            timestamp: 1_000_000 * number as u32,
            picture_id: 32_700 + 10 * number as u16,
            tl0: 250,
            pictures: 0,
            last: [[None; 3]; 3],
        }
    }

    /// The packets of the next picture, each spatial layer in `packets_per_frame` packets.
    pub(crate) fn picture(&mut self, key: bool, packets_per_frame: usize) -> Vec<Sent> {
        let key = key || self.frames.is_empty();
        if key {
            self.pictures = 0;
            self.last = [[None; 3]; 3];
        }
        let place = self.pictures % 4;
        let cycle = self.pictures / 4;
        let temporal = match self.mode {
            Mode::H264 => 0,
            _ => PATTERN[place],
        };
        let mut packets = Vec::new();
        if temporal == 0 {
            self.tl0 = self.tl0.wrapping_add(1);
        }
        for spatial in 0..self.mode.spatial_layers() {
            let last = self.last[usize::from(spatial)];
            // A picture of the top layer refers to the one before it in time, others to the one below. VP8 in this
            // pattern refers to its own layer, too, in every other cycle, which makes it no switching point.
            let mut references = Vec::new();
            if !key {
                let own = (temporal == 0 || self.mode == Mode::Vp8 && cycle % 2 == 1)
                    .then_some(last[usize::from(temporal)]);
                let below = match (temporal, place) {
                    (0, _) => None,
                    (_, 3) => last[1],
                    _ => last[0],
                };
                references.extend(own.flatten().into_iter().chain(below));
            }
            let inter_layer = match self.mode {
                Mode::Av1 => true,
                _ => key,
            };
            if spatial > 0 && inter_layer {
                references.push(self.frames.len() - 1);
            }
            let index = self.frames.len();
            let first = self.seq;
            for number in 0..packets_per_frame {
                let is_first = number == 0;
                let is_last = number + 1 == packets_per_frame;
                let place = Place {
                    key,
                    spatial,
                    temporal,
                    is_first,
                    is_last,
                    place,
                    sync: temporal > 0 && place != 3 && cycle.is_multiple_of(2),
                };
                packets.push(Sent {
                    seq: self.seq,
                    timestamp: self.timestamp,
                    marker: is_last && spatial + 1 == self.mode.spatial_layers(),
                    payload: self.payload(&place),
                    descriptor: self.descriptor(&place, index),
                    frame: index,
                });
                self.seq += 1;
            }
            self.frames.push(Frame {
                spatial,
                temporal,
                references,
                packets: (first..self.seq).collect(),
            });
            self.last[usize::from(spatial)][usize::from(temporal)] = Some(index);
        }
        self.timestamp = self.timestamp.wrapping_add(3000);
        self.picture_id = self.picture_id.wrapping_add(1) & 0x7fff;
        self.pictures += 1;
        packets
    }

    fn payload(&self, place: &Place) -> Vec<u8> {
        let [high, low] = (self.picture_id | 0x8000).to_be_bytes();
        match self.mode {
            Mode::Vp8 => {
                let first = if place.is_first { 0x90 } else { 0x80 };
                let layer = place.temporal << 6 | u8::from(place.sync) << 5;
                let inter = u8::from(!place.key);
                vec![first, 0xe0, high, low, self.tl0, layer, inter]
            }
            Mode::H264 => match (place.key, place.is_first) {
                (true, true) => vec![0x7c, 0x85, 0],
                (true, false) => vec![0x7c, 0x05, 0],
                (false, true) => vec![0x7c, 0x81, 0],
                (false, false) => vec![0x7c, 0x01, 0],
            },
            Mode::Vp9Key => {
                let mut first = 0xa0;
                first |= u8::from(!place.key) << 6;
                first |= u8::from(place.is_first) << 3 | u8::from(place.is_last) << 2;
                let up = u8::from(place.temporal < 2);
                let inter_layer = u8::from(place.key && place.spatial > 0);
                let layer = place.temporal << 5 | up << 4 | place.spatial << 1 | inter_layer;
                vec![first, high, low, layer, self.tl0]
            }
            Mode::Av1 | Mode::Av1Key => {
                let continued = u8::from(!place.is_first) << 7;
                let starts_sequence = place.key && place.is_first && place.spatial == 0;
                vec![continued | 0x10 | u8::from(starts_sequence) << 3, 0x30]
            }
        }
    }

    fn descriptor(&self, place: &Place, index: usize) -> Vec<u8> {
        let full = match self.mode {
            Mode::Av1 => true,
            Mode::Av1Key => false,
            _ => return Vec::new(),
        };
        let [high, low] = (index as u16).to_be_bytes();
        let template = 5 * place.spatial
            + match (place.key, place.place) {
                (true, _) => 0,
                (_, 0) => 1,
                (_, 2) => 2,
                (_, 1) => 3,
                _ => 4,
            };
        let first = u8::from(place.is_first) << 7 | u8::from(place.is_last) << 6 | template;
        let mut bytes = vec![first, high, low];
        if place.key && place.is_first && place.spatial == 0 {
            bytes.extend(structure(full));
        }
        bytes
    }
}

struct Place {
    key: bool,
    spatial: u8,
    temporal: u8,
    is_first: bool,
    is_last: bool,
    place: usize,
    sync: bool,
}

/// Extended fields with the structure of three spatial and temporal layers: per spatial layer five templates, key,
/// T0, T1, and T2 twice.
fn structure(full: bool) -> Vec<u8> {
    let mut bits = Vec::new();
    let mut put = |value: u32, count: u32| {
        bits.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
    };
    put(0b10000, 5);
    put(0, 6);
    put(9 - 1, 5);
    // Steps between templates: same layer 0, next temporal 1, next spatial 2, end 3.
    for spatial in 0..3 {
        for step in [0, 1, 1, 0] {
            put(step, 2);
        }
        put(if spatial == 2 { 3 } else { 2 }, 2);
    }
    for spatial in 0..3u32 {
        for (template, temporal) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2)] {
            for target in 0..9u32 {
                let (target_spatial, target_temporal) = (target / 3, target % 3);
                let own = target_spatial == spatial;
                let used = own || target_spatial > spatial && (template == 0 || full);
                let indication = match (used && target_temporal >= temporal, own) {
                    (false, _) => 0,
                    (true, _) if template == 0 => 2,
                    (true, false) => 3,
                    (true, true) if temporal == 0 => 2,
                    (true, true) if target_temporal > temporal => 2,
                    (true, true) => 1,
                };
                put(indication, 2);
            }
        }
    }
    for spatial in 0..3 {
        for template in 0..5 {
            let back = [None, Some(12), Some(6), Some(3), Some(3)][template];
            let below = (spatial > 0 && (template == 0 || full)).then_some(1);
            for difference in back.into_iter().chain(below) {
                put(1, 1);
                put(difference - 1, 4);
            }
            put(0, 1);
        }
    }
    // No chains (a number below ten), no sizes.
    put(0, 3);
    put(0, 1);
    bits.chunks(8)
        .map(|chunk| {
            let byte = chunk.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
            byte << (8 - chunk.len())
        })
        .collect()
}
