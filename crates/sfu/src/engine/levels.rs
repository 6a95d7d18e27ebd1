//! The qualities in which a track can be had: [`Levels`].
//!
//! Measured from what comes, now and then; smoothed, because a key frame doubles the rate of a second. A stream that is
//! silent while others of its track are not has been stopped by its sender and cannot be had. When all are silent, as
//! with a still screen, nothing is known to have changed.

use std::time::{Duration, Instant};

use forwarding::allocation::Level;
use forwarding::codec::{LayerId, PictureHeights};
use forwarding::layer_meter::LayerMeter;
use forwarding::packet::SourcePacket;
use forwarding::rate::Bitrate;
use forwarding::rtp::Ssrc;
use smallvec::SmallVec;

use super::source::LAYERS_MAX;

/// Least time between two measurements. Too low: sums over all layers for nothing. Too high: who watches a layer that
/// has stopped sees a still picture for as long.
const INTERVAL: Duration = Duration::from_millis(250);

/// A stream that is behind others of its track by this has stopped. Too low: one of few frames a second comes and goes.
/// Too high: its viewers see a still picture for as long.
const SILENCE: Duration = Duration::from_millis(700);

/// Time constant of rates. Too low: a key frame looks like a better picture that no longer fits. Too high: what is
/// allotted lags behind what is sent.
const SMOOTHING: Duration = Duration::from_secs(2);

/// What is known of one stream.
#[derive(Debug, Default)]
pub(super) struct StreamMeter {
    meter: LayerMeter,
    /// As measured last.
    levels: SmallVec<[Level; 4]>,
    began_at: Option<Instant>,
    measured_at: Option<Instant>,
    arrived_at: Option<Instant>,
    /// The highest rate so far.
    peak: Bitrate,
    pub(super) heights: PictureHeights,
}

impl StreamMeter {
    /// Takes note of a packet.
    pub(super) fn handle_packet(&mut self, now: Instant, packet: &SourcePacket, bytes: usize) {
        self.meter.handle_packet(now, packet, bytes);
        self.arrived_at = Some(now);
    }

    /// What another engine has measured.
    pub(super) fn set_levels(&mut self, now: Instant, levels: &[Level]) {
        self.levels = SmallVec::from_slice(levels);
        self.arrived_at = Some(now);
    }

    pub(super) fn levels(&self) -> &[Level] {
        &self.levels
    }

    fn measure(&mut self, now: Instant, scratch: &mut Vec<Level>) {
        scratch.clear();
        let heights = self.heights;
        self.meter
            .levels(now, 0, |spatial| heights.of(spatial), scratch);
        if scratch.is_empty() {
            return;
        }
        let began_at = *self.began_at.get_or_insert(now);
        let since = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
        // A mean of all that was measured, until that is long enough to be forgotten.
        let span = since(began_at).min(SMOOTHING.as_secs_f64());
        let elapsed = self.measured_at.map_or(span, since);
        let weight = if elapsed < span { elapsed / span } else { 1.0 };
        for level in scratch.iter_mut() {
            let former = self.levels.iter().find(|former| former.top == level.top);
            if let Some(former) = former {
                let (was, is) = (former.bitrate.0 as f64, level.bitrate.0 as f64);
                level.bitrate = Bitrate((was + weight * (is - was)) as u64);
            }
        }
        self.measured_at = Some(now);
        self.levels = SmallVec::from_slice(scratch);
        let rates = self.levels.iter().map(|level| level.bitrate);
        self.peak = rates.chain([self.peak]).max().unwrap_or_default();
    }
}

/// The levels of one track, worst first.
#[derive(Debug, Default)]
pub(super) struct Levels {
    list: Vec<Level>,
    /// Ids of the streams that can be had, by [`Level::stream`].
    streams: SmallVec<[Ssrc; LAYERS_MAX]>,
    scratch: Vec<Level>,
    due_at: Option<Instant>,
    /// Another engine measures.
    is_told: bool,
}

impl Levels {
    pub(super) fn list(&self) -> &[Level] {
        &self.list
    }

    /// Ids of the streams that can be had, the smallest first.
    pub(super) fn streams(&self) -> impl Iterator<Item = Ssrc> + '_ {
        self.streams.iter().copied()
    }

    /// The stream of a level.
    pub(super) fn stream_of(&self, level: &Level) -> Option<Ssrc> {
        self.streams.get(usize::from(level.stream)).copied()
    }

    /// The index of the level that has all of a stream up to `limit`.
    pub(super) fn position(&self, stream: Ssrc, limit: LayerId) -> Option<usize> {
        self.list.iter().rposition(|level| {
            self.stream_of(level) == Some(stream)
                && level.top.spatial <= limit.spatial
                && level.top.temporal <= limit.temporal
        })
    }

    /// How many picture sizes there are.
    pub(super) fn sizes(&self) -> u8 {
        let sizes = self.list.iter().map(|level| level.size() + 1);
        sizes.max().unwrap_or(0)
    }

    /// Has the next measurement come at once: there is another stream.
    pub(super) fn expire(&mut self) {
        self.due_at = None;
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.is_told && self.due_at.is_none_or(|at| now >= at)
    }

    /// Measures what comes. True if other streams can be had than before.
    pub(super) fn measure<'a>(
        &mut self,
        now: Instant,
        streams: impl Iterator<Item = (Ssrc, &'a mut StreamMeter)>,
    ) -> bool {
        self.due_at = Some(now + INTERVAL);
        let mut known: SmallVec<[(Ssrc, &mut StreamMeter); LAYERS_MAX]> = streams.collect();
        for (_, meter) in &mut known {
            meter.measure(now, &mut self.scratch);
        }
        let newest = known.iter().filter_map(|(_, meter)| meter.arrived_at).max();
        known.retain(|(_, meter)| {
            let silence = newest
                .zip(meter.arrived_at)
                .map(|(newest, at)| newest.saturating_duration_since(at));
            !meter.levels.is_empty() && silence.is_some_and(|silence| silence < SILENCE)
        });
        known.sort_by_key(|(_, meter)| (meter.heights.largest(), meter.peak));
        self.replace(known.iter().map(|(id, meter)| (*id, meter.levels())))
    }

    /// Takes over what another engine has measured, in the order of ranks.
    pub(super) fn tell<'a>(&mut self, streams: impl Iterator<Item = (Ssrc, &'a [Level])>) {
        self.is_told = true;
        self.replace(streams);
    }

    fn replace<'a>(&mut self, streams: impl Iterator<Item = (Ssrc, &'a [Level])>) -> bool {
        let former = std::mem::take(&mut self.streams);
        self.list.clear();
        for ((id, levels), stream) in streams.zip(0..) {
            self.streams.push(id);
            let levels = levels.iter().map(|level| Level { stream, ..*level });
            self.list.extend(levels);
        }
        self.streams != former
    }
}

#[cfg(test)]
mod tests {
    use forwarding::codec::FrameInfo;
    use forwarding::rtp::{ExtendedSeq, PayloadType, RtpTime};

    use super::*;

    struct Bed {
        now: Instant,
        meters: Vec<StreamMeter>,
        levels: Levels,
        seq: u64,
    }

    impl Bed {
        fn new(streams: usize) -> Self {
            Self {
                now: Instant::now(),
                meters: (0..streams).map(|_| StreamMeter::default()).collect(),
                levels: Levels::default(),
                seq: 0,
            }
        }

        /// Frames at 25 per second of the sizes in bytes, by stream; 0 for none. Returns how often the streams changed.
        fn run(&mut self, frames: u64, bytes: &[usize]) -> usize {
            let mut changes = 0;
            for _ in 0..frames {
                self.now += Duration::from_millis(40);
                self.seq += 1;
                for (meter, bytes) in self.meters.iter_mut().zip(bytes) {
                    let packet = SourcePacket {
                        ssrc: Ssrc(1),
                        seq: ExtendedSeq(self.seq),
                        timestamp: RtpTime(self.seq as u32),
                        marker: true,
                        payload_type: PayloadType(96),
                        frame: FrameInfo::default(),
                        audio_level: None,
                        video_orientation: None,
                    };
                    if *bytes > 0 {
                        meter.handle_packet(self.now, &packet, *bytes);
                    }
                }
                if self.levels.is_due(self.now) {
                    let streams = (0..).map(Ssrc).zip(self.meters.iter_mut());
                    changes += usize::from(self.levels.measure(self.now, streams));
                }
            }
            changes
        }

        fn streams(&self) -> Vec<u32> {
            self.levels.streams.iter().map(|id| id.0).collect()
        }
    }

    #[test]
    fn streams_are_ranked_by_height_and_rate() {
        let mut bed = Bed::new(3);
        bed.run(50, &[3_000, 500, 1_000]);
        assert_eq!(bed.streams(), [1, 2, 0]);
        assert_eq!(bed.levels.sizes(), 3);
        // A still picture: the largest costs the least.
        bed.meters[0].heights = PictureHeights([720, 0, 0, 0]);
        bed.meters[2].heights = PictureHeights([360, 0, 0, 0]);
        bed.meters[1].heights = PictureHeights([180, 0, 0, 0]);
        bed.run(200, &[100, 500, 1_000]);
        assert_eq!(bed.streams(), [1, 2, 0]);
        assert_eq!(bed.levels.position(Ssrc(0), LayerId::HIGHEST), Some(2));
        assert_eq!(bed.levels.position(Ssrc(9), LayerId::HIGHEST), None);
    }

    #[test]
    fn stream_that_stops_cannot_be_had_but_a_still_screen_can() {
        let mut bed = Bed::new(2);
        bed.run(50, &[500, 1_000]);
        assert_eq!(bed.run(100, &[0, 0]), 0);
        assert_eq!(bed.streams(), [0, 1]);
        assert_eq!(bed.run(50, &[500, 0]), 1);
        assert_eq!(bed.streams(), [0]);
        assert_eq!(bed.run(50, &[500, 1_000]), 1);
        assert_eq!(bed.streams(), [0, 1]);
    }

    #[test]
    fn key_frame_hardly_moves_the_rate() {
        let mut bed = Bed::new(1);
        bed.run(100, &[1_000]);
        let before = bed.levels.list()[0].bitrate;
        bed.run(1, &[25_000]);
        bed.run(6, &[1_000]);
        let after = bed.levels.list()[0].bitrate;
        assert!(after > before && after < before.scaled(1.3), "{after:?}");
    }
}
