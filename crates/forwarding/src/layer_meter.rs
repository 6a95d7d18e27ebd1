//! What the layers of one received stream cost: [`LayerMeter`], the source of [`crate::allocation::Level`]s.

use std::time::Instant;

use crate::allocation::Level;
use crate::codec::LayerId;
use crate::packet::SourcePacket;
use crate::rate::{Bitrate, RateMeter};
use crate::rtp::RtpTime;

/// Layers measured: four spatial with four temporal ones, more than any encoder in use sends. Too low → upper layers
/// are not offered; too high → 136 bytes each, for a publisher that names them all.
const LAYERS_MAX: usize = 16;

/// One layer, without those below it.
#[derive(Clone, Copy, Debug)]
struct Layer {
    id: LayerId,
    bytes: RateMeter,
    /// Counts each picture as [`FRAME_UNIT`].
    frames: RateMeter,
    picture: Option<RtpTime>,
}

/// Weight of a picture in a [`RateMeter`]: 125 bytes a picture are 1000 bit/s at one per second.
const FRAME_UNIT: usize = 125;

/// Rates of the layers of one stream, over the last second. A stream without layers is one layer.
#[derive(Clone, Debug, Default)]
pub struct LayerMeter {
    /// In order of their ids.
    layers: Vec<Layer>,
}

impl LayerMeter {
    /// Takes note of a packet; allocates only for a layer that was not seen before.
    #[inline]
    pub fn handle_packet(&mut self, now: Instant, packet: &SourcePacket, size_bytes: usize) {
        let id = packet.frame.layer().unwrap_or(LayerId::BASE);
        let layer = match self.layers.binary_search_by_key(&id, |layer| layer.id) {
            Ok(place) => &mut self.layers[place],
            Err(_) if self.layers.len() >= LAYERS_MAX => return,
            Err(place) => {
                let layer = Layer {
                    id,
                    bytes: RateMeter::default(),
                    frames: RateMeter::default(),
                    picture: None,
                };
                self.layers.insert(place, layer);
                &mut self.layers[place]
            }
        };
        layer.bytes.add(now, size_bytes);
        if layer.picture.replace(packet.timestamp) != Some(packet.timestamp) {
            layer.frames.add(now, FRAME_UNIT);
        }
    }

    /// Appends the levels in which the stream can be had, worst first. A layer that sends nothing is not among them.
    ///
    /// Who gets all that is sent has no limit, so that packets need not be looked at for each such subscriber.
    ///
    /// `stream` is its rank among the streams of simulcast, `height` gives the height of a spatial layer's picture,
    /// pixels, 0 if it is not known. Upper spatial layers are offered with all temporal layers or all but the highest:
    /// a large picture that stutters is worse than a small one that does not.
    pub fn levels(
        &mut self,
        now: Instant,
        stream: u8,
        height: impl Fn(u8) -> u16,
        levels: &mut Vec<Level>,
    ) {
        let mut rates = [(LayerId::BASE, 0, 0); LAYERS_MAX];
        let mut count = 0;
        for layer in &mut self.layers {
            let Bitrate(bitrate) = layer.bytes.rate(now);
            if bitrate > 0 {
                rates[count] = (layer.id, bitrate, layer.frames.rate(now).0);
                count += 1;
            }
        }
        let rates = &rates[..count];
        let all: u64 = rates.iter().map(|(_, bitrate, _)| bitrate).sum();
        for (index, (limit, ..)) in rates.iter().enumerate() {
            let next_is_highest = |highest: &LayerId| limit.temporal + 1 >= highest.temporal;
            let of_spatial = rates.iter().filter(|(id, ..)| id.spatial == limit.spatial);
            let highest = of_spatial.map(|(id, ..)| *id).max();
            if limit.spatial > 0 && !highest.as_ref().is_some_and(next_is_highest) {
                continue;
            }
            let below = rates[..=index]
                .iter()
                .filter(|(id, ..)| limit.includes(*id));
            let bitrate: u64 = below.map(|(_, bitrate, _)| bitrate).sum();
            let pictures = rates
                .iter()
                .filter(|(id, ..)| id.spatial == limit.spatial && id.temporal <= limit.temporal);
            let frame_rate: u64 = pictures.map(|(_, _, frames)| (frames + 500) / 1000).sum();
            levels.push(Level {
                stream,
                top: *limit,
                limit: match bitrate == all {
                    true => LayerId::HIGHEST,
                    false => *limit,
                },
                bitrate: Bitrate(bitrate),
                height: height(limit.spatial),
                frame_rate: frame_rate.min(u64::from(u8::MAX)) as u8,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::codec::{Codec, inspect};
    use crate::rtp::Ssrc;
    use crate::test_support::video;

    /// One and a half seconds of VP9 with the layers of each picture as `(spatial, bytes)`, 40 pictures a second in the
    /// temporal pattern 0 2 1 2, and the levels at its end.
    fn levels(layers: &[(u8, usize)]) -> Vec<Level> {
        let start = Instant::now();
        let mut meter = LayerMeter::default();
        for picture in 0..60u64 {
            let now = start + Duration::from_millis(25 * picture);
            let temporal = [0, 2, 1, 2][picture as usize % 4];
            for (spatial, bytes) in layers {
                let payload = [0xa8, 5, temporal << 5 | spatial << 1, 0];
                for half in 0..2 {
                    let packet = SourcePacket {
                        frame: inspect(Codec::Vp9, &payload),
                        timestamp: RtpTime(picture as u32 * 2250),
                        ..video(Ssrc(1), 2 * picture + half)
                    };
                    meter.handle_packet(now, &packet, bytes / 2);
                }
            }
        }
        let mut levels = Vec::new();
        let end = start + Duration::from_millis(1499);
        meter.levels(end, 1, |spatial| 180 << spatial, &mut levels);
        levels
    }

    #[test]
    fn levels_add_up_what_they_need() {
        let limit = |spatial, temporal| LayerId { spatial, temporal };
        // (limit, height, kbit/s, frames per second)
        let expected = [
            (limit(0, 0), 180, 80, 10),
            (limit(0, 1), 180, 160, 20),
            (limit(0, 2), 180, 320, 40),
            (limit(1, 1), 360, 640, 20),
            (LayerId::HIGHEST, 360, 1280, 40),
        ];
        let levels = levels(&[(0, 1000), (1, 3000)]);
        assert_eq!(levels.len(), expected.len());
        for (level, (limit, height, kbps, frame_rate)) in levels.iter().zip(expected) {
            assert_eq!(
                (level.stream, level.limit, level.height),
                (1, limit, height)
            );
            // The meter counts by tenths of a second.
            let Bitrate(found) = level.bitrate;
            assert!((1000 * kbps..1060 * kbps).contains(&found), "{level:?}");
            assert!(level.frame_rate.abs_diff(frame_rate) <= 2, "{level:?}");
        }
    }

    #[test]
    fn stream_without_layers_is_one_level_and_silence_none() {
        let start = Instant::now();
        let mut meter = LayerMeter::default();
        for seq in 0..30 {
            let now = start + Duration::from_millis(33 * seq);
            meter.handle_packet(now, &video(Ssrc(1), seq), 1000);
        }
        let mut levels = Vec::new();
        meter.levels(start + Duration::from_secs(1), 0, |_| 0, &mut levels);
        assert_eq!(levels.len(), 1);
        assert_eq!(levels[0].limit, LayerId::HIGHEST);
        levels.clear();
        meter.levels(start + Duration::from_secs(9), 0, |_| 0, &mut levels);
        assert!(levels.is_empty());
    }

    #[test]
    fn layers_are_bounded() {
        let mut meter = LayerMeter::default();
        for spatial in 0..4u8 {
            for temporal in 0..8u8 {
                let payload = [0xa8, 5, temporal << 5 | spatial << 1, 0];
                let packet = SourcePacket {
                    frame: inspect(Codec::Vp9, &payload),
                    ..video(Ssrc(1), 1)
                };
                meter.handle_packet(Instant::now(), &packet, 100);
            }
        }
        assert_eq!(meter.layers.len(), LAYERS_MAX);
    }
}
