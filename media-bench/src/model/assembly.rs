//! Packets to frames: [`Assembly`], by what the wire says and nothing else.

use std::collections::BTreeMap;
use std::time::Instant;

use forwarding::codec::dependency::{Dependency, DependencyReader};
use forwarding::codec::{Codec, Vp8Descriptor, Vp9Descriptor, inspect};
use forwarding::rtp::{Header, RtpTime};

use super::truth::Truth;
use crate::peer::layer_extensions;

/// Packets kept.
const PACKETS_MAX: usize = 2_000;

/// What the wire says about a frame.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire {
    Vp8 {
        is_key: bool,
        picture_id: u16,
        tl0_picture_index: u8,
        temporal: u8,
        is_sync: bool,
    },
    Vp9 {
        picture_id: u16,
        spatial: u8,
        /// Distance in pictures to what it refers to; 0: none.
        differences: [u8; 3],
        is_inter_picture: bool,
        is_inter_layer: bool,
    },
    Dependency(Dependency),
}

impl Wire {
    /// True if a decoder can begin with it.
    pub(super) fn is_key(&self) -> bool {
        match self {
            Self::Vp8 { is_key, .. } => *is_key,
            Self::Vp9 {
                spatial,
                is_inter_picture,
                ..
            } => *spatial == 0 && !is_inter_picture,
            Self::Dependency(dependency) => {
                dependency.references == 0 && dependency.layer.spatial == 0
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    timestamp: RtpTime,
    marker: bool,
    starts: bool,
    ends: bool,
    wire: Wire,
    truth: Truth,
}

/// A frame of which every packet came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) timestamp: RtpTime,
    pub(super) marker: bool,
    pub(super) wire: Wire,
    pub(super) truth: Truth,
    pub(super) completed_at: Instant,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Assembled {
    /// It waits for others.
    Waiting,
    /// It completes a frame.
    Frame(Frame),
    /// It has no payload.
    Padding,
    /// What describes it cannot be read, perhaps for want of what came with another.
    Unreadable,
    /// It cannot be read, or what lies together does not belong together.
    Faulty,
}

/// The packets of one stream.
#[derive(Debug)]
pub(super) struct Assembly {
    codec: Codec,
    reader: DependencyReader,
    pieces: BTreeMap<u64, Piece>,
}

impl Assembly {
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            codec,
            reader: DependencyReader::default(),
            pieces: BTreeMap::new(),
        }
    }

    /// Takes a packet; `payload` is that of the header, or of what it repeats.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        seq: u64,
        header: &Header<'_>,
        payload: &[u8],
    ) -> Assembled {
        if payload.is_empty() {
            return Assembled::Padding;
        }
        let dependency = match self.codec {
            Codec::Vp8 | Codec::Vp9 => None,
            _ => {
                let descriptor = header.extension(layer_extensions::DEPENDENCY);
                let Some(dependency) = descriptor.and_then(|it| self.reader.read(it)) else {
                    return Assembled::Unreadable;
                };
                Some(dependency)
            }
        };
        let Some(piece) = self.read(header, payload, dependency) else {
            return Assembled::Faulty;
        };
        self.pieces.insert(seq, piece);
        if self.pieces.len() > PACKETS_MAX {
            self.pieces.pop_first();
        }
        self.complete(now, seq)
    }

    /// True if a packet waits for others of its frame.
    pub(super) fn has(&self, seq: u64) -> bool {
        self.pieces.contains_key(&seq)
    }

    fn read(
        &self,
        header: &Header<'_>,
        payload: &[u8],
        dependency: Option<Dependency>,
    ) -> Option<Piece> {
        let truth = Truth::find(payload)?;
        let info = inspect(self.codec, payload);
        let marker = header.marker();
        let (starts, ends, wire) = match self.codec {
            Codec::Vp8 => {
                let descriptor = Vp8Descriptor::parse(payload)?;
                let wire = Wire::Vp8 {
                    is_key: info.key_frame,
                    picture_id: descriptor.picture_id?.value,
                    tl0_picture_index: descriptor.tl0_picture_index?.0,
                    temporal: descriptor.temporal_layer?,
                    is_sync: descriptor.layer_sync,
                };
                (descriptor.starts_frame, marker, wire)
            }
            Codec::Vp9 => {
                let descriptor = Vp9Descriptor::parse(payload)?;
                let wire = Wire::Vp9 {
                    picture_id: descriptor.picture_id?.value,
                    spatial: descriptor.layer?.spatial,
                    differences: vp9_differences(&descriptor, payload)?,
                    is_inter_picture: descriptor.inter_picture,
                    is_inter_layer: descriptor.inter_layer,
                };
                (descriptor.starts_frame, descriptor.ends_frame, wire)
            }
            _ => {
                let dependency = dependency?;
                let wire = Wire::Dependency(dependency);
                (dependency.starts_frame, dependency.ends_frame, wire)
            }
        };
        Some(Piece {
            timestamp: header.timestamp(),
            marker,
            starts,
            ends,
            wire,
            truth,
        })
    }

    /// The frame around a packet, if all of it is there.
    fn complete(&mut self, now: Instant, seq: u64) -> Assembled {
        let timestamp = self.pieces[&seq].timestamp;
        let belongs = |seq: u64| self.pieces.get(&seq).filter(|it| it.timestamp == timestamp);
        let (mut first, mut last) = (seq, seq);
        while belongs(first).is_some_and(|piece| !piece.starts) {
            first -= 1;
        }
        while belongs(last).is_some_and(|piece| !piece.ends) {
            last += 1;
        }
        let (Some(start), Some(end)) = (belongs(first), belongs(last)) else {
            return Assembled::Waiting;
        };
        let is_whole = (0..).zip(first..=last).all(|(place, seq)| {
            self.pieces[&seq].truth.packet == place
                && self.pieces[&seq].truth.frame == start.truth.frame
        });
        if !is_whole || u64::from(start.truth.packets) != last - first + 1 {
            return Assembled::Faulty;
        }
        let frame = Frame {
            first,
            last,
            timestamp,
            marker: end.marker,
            wire: start.wire,
            truth: start.truth,
            completed_at: now,
        };
        for seq in first..=last {
            self.pieces.remove(&seq);
        }
        Assembled::Frame(frame)
    }
}

/// P_DIFFs of flexible mode, which lie behind the first byte, the picture id and the layer.
fn vp9_differences(descriptor: &Vp9Descriptor, payload: &[u8]) -> Option<[u8; 3]> {
    let mut differences = [0; 3];
    if !(descriptor.flexible && descriptor.inter_picture) {
        return Some(differences);
    }
    let id = descriptor.picture_id?;
    let at = usize::from(id.at) + 1 + usize::from(id.long) + 1;
    for (place, byte) in differences.iter_mut().zip(payload.get(at..)?) {
        *place = byte >> 1;
        if byte & 1 == 0 {
            break;
        }
    }
    Some(differences)
}
