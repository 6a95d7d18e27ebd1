//! An encoder in layers: [`Encoder`] says which frames a picture consists of, what they refer to and how large they
//! are.
//!
//! Three temporal layers in the pattern of browsers (0 2 1 2), whose first picture of each round is of the base. Key
//! frames are several times as large as others; those behind pay for it, as rate control makes them. A scalable encoder
//! may leave out the frame of any layer of a picture that is not a key frame.

use forwarding::codec::{Codec, SPATIAL_LAYERS_MAX};
use rand::Rng;
use rand::rngs::StdRng;

use super::truth::{FrameId, Truth};

/// Size of a key frame in frames of average size.
const KEY_FRAME_SIZE: f64 = 5.0;

/// Frames over which a large one is made up for.
const REPAY_FRAMES: f64 = 10.0;

/// Of the average size, what a frame of a picture with motion differs by at most.
const NOISE: f64 = 0.25;

/// Smallest frame.
const FRAME_BYTES_MIN: usize = 60;

/// Temporal layer of each picture of a round.
const PATTERN: [u8; 4] = [0, 2, 1, 2];

/// Share of the rate in each temporal layer.
const TEMPORAL_SHARES: [f64; 3] = [0.4, 0.2, 0.4];

/// Pictures per round in each temporal layer.
const PICTURES_PER_ROUND: [f64; 3] = [1.0, 1.0, 2.0];

/// A round is repeated with a switching point in its middle layer every so many rounds.
const SYNC_ROUNDS: u32 = 2;

/// One simulcast stream, or one spatial layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    /// Pixels.
    pub height: u16,
    /// It is not worth sending below, bit/s.
    pub rate_min: u64,
    /// What it takes at its best, bit/s.
    pub rate_max: u64,
}

/// A frame of one spatial layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) truth: Truth,
    pub(super) size_bytes: usize,
    pub(super) is_key: bool,
    /// It refers to the base temporal layer only.
    pub(super) is_switching_point: bool,
    /// It refers to the spatial layer below of the same picture.
    pub(super) is_inter_layer: bool,
    /// Distance in pictures to what it refers to in its own layer.
    pub(super) differences: [u8; 2],
    pub(super) is_last_of_picture: bool,
    /// It has the marker bit.
    pub(super) is_marked: bool,
}

/// One encoder: of a simulcast stream, or of a scalable one with several spatial layers.
#[derive(Debug)]
pub(super) struct Encoder {
    source: u32,
    picture: u32,
    /// Pictures since the key frame.
    position: u32,
    /// Picture that last updated each temporal layer, by spatial layer.
    latest: [[u32; 2]; SPATIAL_LAYERS_MAX],
    /// Share of the frames that are left out.
    skips: f64,
    is_libvpx: bool,
    debt_bytes: f64,
    /// Spatial layers of the picture before.
    layers_before: usize,
    pub(super) wants_key_frame: bool,
}

impl Encoder {
    pub(super) fn new(source: u32, codec: Codec, skips: f64) -> Self {
        Self {
            source,
            picture: 0,
            position: 0,
            latest: [[0; 2]; SPATIAL_LAYERS_MAX],
            skips,
            is_libvpx: codec == Codec::Vp9,
            debt_bytes: 0.0,
            layers_before: 0,
            wants_key_frame: true,
        }
    }

    /// Encodes a picture in layers of these heights and rates, lowest first.
    pub(super) fn encode(
        &mut self,
        layers: &[(u16, u64)],
        frames_per_second: f64,
        captured_micros: u64,
        random: &mut StdRng,
    ) -> Vec<Frame> {
        // A layer that returns has nothing to refer to.
        let is_key = std::mem::take(&mut self.wants_key_frame) || layers.len() > self.layers_before;
        self.layers_before = layers.len();
        if is_key {
            self.position = 0;
        }
        let at = self.position as usize % PATTERN.len();
        let temporal = PATTERN[at];
        let round = self.position / PATTERN.len() as u32;
        let is_synced = round.is_multiple_of(SYNC_ROUNDS);
        let is_switching_point = is_key || at < 2 || at == 2 && is_synced;
        let rate: u64 = layers.iter().map(|(_, rate)| rate).sum();
        let average = rate as f64 / 8.0 / frames_per_second;
        let size = self.picture_bytes(is_key, temporal, average, random);
        let id = |picture, spatial| FrameId {
            source: self.source,
            picture,
            spatial,
        };
        let mut frames = Vec::with_capacity(layers.len());
        for (spatial, (height, layer_rate)) in (0..).zip(layers) {
            let is_left_out = !is_key && self.skips > 0.0 && random.random_bool(self.skips);
            if is_left_out {
                continue;
            }
            let [base, middle] = self.latest[usize::from(spatial)];
            let references: &[u32] = match is_key {
                true => &[],
                // Where the middle layer was left out, what it had before is not referred to.
                false if is_switching_point || middle < base => &[base],
                false => &[middle, base],
            };
            let mut differences = [0; 2];
            for (difference, reference) in differences.iter_mut().zip(references) {
                *difference = (self.picture - reference) as u8;
            }
            let mut all: Vec<_> = references.iter().map(|it| id(*it, spatial)).collect();
            let is_inter_layer = is_key && spatial > 0;
            if is_inter_layer {
                all.push(id(self.picture, spatial - 1));
            }
            let share = *layer_rate as f64 / rate.max(1) as f64;
            let frame = id(self.picture, spatial);
            frames.push(Frame {
                truth: Truth::new(frame, temporal, *height, captured_micros, &all),
                size_bytes: ((size * share) as usize).max(FRAME_BYTES_MIN),
                is_key,
                is_switching_point,
                is_inter_layer,
                differences,
                is_last_of_picture: false,
                is_marked: false,
            });
            let latest = &mut self.latest[usize::from(spatial)];
            if is_key {
                *latest = [self.picture; 2];
            } else if temporal < 2 {
                latest[usize::from(temporal)] = self.picture;
            }
        }
        if let Some(last) = frames.last_mut() {
            last.is_last_of_picture = true;
            // libvpx says so of its highest layer only.
            last.is_marked =
                !self.is_libvpx || usize::from(last.truth.frame.spatial) + 1 == layers.len();
            self.picture += 1;
        }
        self.position += 1;
        frames
    }

    fn picture_bytes(
        &mut self,
        is_key: bool,
        temporal: u8,
        average: f64,
        random: &mut StdRng,
    ) -> f64 {
        if is_key {
            self.debt_bytes += (KEY_FRAME_SIZE - 1.0) * average;
            return KEY_FRAME_SIZE * average;
        }
        let layer = usize::from(temporal);
        let share = TEMPORAL_SHARES[layer] / PICTURES_PER_ROUND[layer] * PATTERN.len() as f64;
        let due = average * share;
        let repaid = (self.debt_bytes / REPAY_FRAMES).min(due / 2.0);
        self.debt_bytes -= repaid;
        (due - repaid) * random.random_range(1.0 - NOISE..1.0 + NOISE)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn rate_is_kept_and_frames_refer_to_lower_layers_only() {
        let mut random = StdRng::seed_from_u64(1);
        let mut encoder = Encoder::new(0, Codec::Vp9, 0.0);
        let mut bytes = 0;
        let mut temporal = std::collections::HashMap::new();
        for picture in 0..300 {
            let frames = encoder.encode(&[(180, 100_000), (360, 200_000)], 30.0, 0, &mut random);
            assert_eq!(frames[0].is_key, picture == 0);
            for frame in frames {
                bytes += frame.size_bytes;
                temporal.insert(frame.truth.frame, frame.truth.temporal);
                for reference in frame.truth.references() {
                    assert!(temporal[&reference] <= frame.truth.temporal);
                    assert!(!frame.is_switching_point || frame.is_key || temporal[&reference] == 0);
                }
            }
        }
        let rate = bytes as f64 * 8.0 / 10.0;
        assert!((270_000.0..330_000.0).contains(&rate), "{rate}");
    }
}
