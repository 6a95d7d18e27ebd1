//! The qualities in which a track can be had: [`Levels`].
//!
//! Measured from what comes, now and then; smoothed, because a key frame doubles the rate of a second. A stream that is
//! silent while others of its track are not has been stopped by its sender and cannot be had, unless it sleeps only
//! because nobody watches it ([`super::demand`]). When all are silent, as with a still screen, nothing is known to have
//! changed.

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

/// A stream that is behind others of its track by this is not measured: what is remembered of it must not be what it
/// cost while it ended. Too low: one of few frames a second is never measured. Too high: too little is remembered.
const LAG: Duration = Duration::from_millis(300);

/// Time constant of rates. Too low: a key frame looks like a better picture that no longer fits. Too high: what is
/// allotted lags behind what is sent.
const SMOOTHING: Duration = Duration::from_secs(2);

/// What comes with each payload on the wire, bytes: IPv4 and UDP, RTP with its extensions, SRTP's tag. Too low: small
/// pictures at many frames per second cost more than is given for them. Too high: capacity is unused.
const WRAPPING_BYTES: usize = 28 + 12 + 16 + 16;

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
    /// If it is silent, it is because its sender was told that nobody watches it: it may be asked for.
    pub(super) may_sleep: bool,
}

impl StreamMeter {
    /// Takes note of a packet.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        packet: &SourcePacket,
        payload_bytes: usize,
    ) {
        let bytes = payload_bytes + WRAPPING_BYTES;
        self.meter.handle_packet(now, packet, bytes);
        self.arrived_at = Some(now);
    }

    /// What another engine has measured.
    pub(super) fn set_levels(&mut self, now: Instant, levels: &[Level]) {
        self.levels = SmallVec::from_slice(levels);
        self.arrived_at = Some(now);
    }

    /// How long it has been silent while others of its track were not.
    fn lag(&self, newest: Option<Instant>) -> Option<Duration> {
        Some(newest?.saturating_duration_since(self.arrived_at?))
    }

    pub(super) fn levels(&self) -> &[Level] {
        &self.levels
    }

    fn measure(&mut self, now: Instant, scratch: &mut Vec<Level>) {
        scratch.clear();
        let heights = self.heights;
        self.meter
            .levels(now, 0, |spatial| heights.of(spatial), scratch);
        // At few frames a second there may be none in the window that the others build on.
        if scratch
            .first()
            .is_none_or(|least| least.top != LayerId::BASE)
        {
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
        // One that has just come is not smoothed as those are that it contains.
        for index in 1..scratch.len() {
            let (below, level) = scratch.split_at_mut(index);
            let contained = below.iter().filter(|it| level[0].top.includes(it.top));
            let least = contained.map(|it| it.bitrate).max();
            level[0].bitrate = level[0].bitrate.max(least.unwrap_or_default());
        }
        self.measured_at = Some(now);
        self.levels = SmallVec::from_slice(scratch);
        let rates = self.levels.iter().map(|level| level.bitrate);
        self.peak = rates.chain([self.peak]).max().unwrap_or_default();
    }
}

/// What is known of one stream, for [`Levels`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer<'a> {
    pub(super) id: Ssrc,
    pub(super) levels: &'a [Level],
    /// It is not sent, but would be if somebody wanted it.
    pub(super) is_asleep: bool,
}

/// The levels of one track, worst first.
#[derive(Debug, Default)]
pub(super) struct Levels {
    list: Vec<Level>,
    /// The same and those of streams that sleep; empty if none does.
    all: Vec<Level>,
    /// Ids of the streams that can be had or asked for, by [`Level::stream`].
    streams: SmallVec<[Ssrc; LAYERS_MAX]>,
    /// Which of them sleep, in the same order.
    asleep: SmallVec<[bool; LAYERS_MAX]>,
    scratch: Vec<Level>,
    due_at: Option<Instant>,
    /// Another engine measures.
    is_told: bool,
}

impl Levels {
    /// What can be had.
    pub(super) fn list(&self) -> &[Level] {
        &self.list
    }

    /// What could be had if all were asked for that sleep.
    pub(super) fn all(&self) -> &[Level] {
        match self.has_sleepers() {
            true => &self.all,
            false => &self.list,
        }
    }

    /// True if a stream sleeps.
    pub(super) fn has_sleepers(&self) -> bool {
        self.asleep.contains(&true)
    }

    /// Ids of the streams that can be had or asked for, the smallest first.
    pub(super) fn streams(&self) -> impl Iterator<Item = Ssrc> + '_ {
        self.streams.iter().copied()
    }

    /// True if the stream sleeps.
    pub(super) fn is_asleep(&self, stream: Ssrc) -> bool {
        let mut streams = self.streams.iter().zip(&self.asleep);
        streams.any(|(id, asleep)| *id == stream && *asleep)
    }

    /// The stream of a level.
    pub(super) fn stream_of(&self, level: &Level) -> Option<Ssrc> {
        self.streams.get(usize::from(level.stream)).copied()
    }

    /// The index in `list`, one of ours, of the level that has all of a stream up to `limit`.
    pub(super) fn position(&self, list: &[Level], stream: Ssrc, limit: LayerId) -> Option<usize> {
        list.iter()
            .rposition(|level| self.stream_of(level) == Some(stream) && limit.includes(level.top))
    }

    /// How many picture sizes there are, those included that sleep.
    pub(super) fn sizes(&self) -> u8 {
        let sizes = self.all().iter().map(|level| level.size() + 1);
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
        let newest = known.iter().filter_map(|(_, meter)| meter.arrived_at).max();
        for (_, meter) in &mut known {
            match meter.lag(newest) {
                Some(lag) if lag >= LAG => meter.measured_at = Some(now),
                _ => meter.measure(now, &mut self.scratch),
            }
        }
        let is_silent =
            |meter: &StreamMeter| meter.lag(newest).is_none_or(|silence| silence >= SILENCE);
        known.retain(|(_, meter)| {
            !meter.levels.is_empty() && (meter.may_sleep || !is_silent(meter))
        });
        known.sort_by_key(|(_, meter)| (meter.heights.largest(), meter.peak));
        self.replace(known.iter().map(|(id, meter)| Offer {
            id: *id,
            levels: meter.levels(),
            is_asleep: is_silent(meter),
        }))
    }

    /// Takes over what another engine has measured, in the order of ranks.
    pub(super) fn tell<'a>(&mut self, streams: impl Iterator<Item = Offer<'a>>) {
        self.is_told = true;
        self.replace(streams);
    }

    fn replace<'a>(&mut self, streams: impl Iterator<Item = Offer<'a>>) -> bool {
        let former = std::mem::take(&mut self.streams);
        let were_asleep = std::mem::take(&mut self.asleep);
        self.list.clear();
        self.all.clear();
        for (offer, stream) in streams.zip(0..) {
            self.streams.push(offer.id);
            self.asleep.push(offer.is_asleep);
            let levels = offer.levels.iter();
            let levels = levels.map(|level| Level { stream, ..*level });
            if !offer.is_asleep {
                self.list.extend(levels.clone());
            }
            self.all.extend(levels);
        }
        self.streams != former || self.asleep != were_asleep
    }
}

#[cfg(test)]
mod tests {
    use forwarding::codec::{Codec, FrameInfo, inspect};
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
        let levels = &bed.levels;
        let position = |id| levels.position(levels.list(), Ssrc(id), LayerId::HIGHEST);
        assert_eq!(position(0), Some(2));
        assert_eq!(position(9), None);
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
    fn stream_that_sleeps_is_remembered() {
        let mut bed = Bed::new(3);
        bed.run(200, &[500, 1_000, 3_000]);
        let before = bed.levels.list().to_vec();
        bed.meters[2].may_sleep = true;
        assert_eq!(bed.run(500, &[500, 1_000, 0]), 1);
        assert_eq!(bed.streams(), [0, 1, 2]);
        assert!(bed.levels.is_asleep(Ssrc(2)) && !bed.levels.is_asleep(Ssrc(1)));
        let (list, all) = (bed.levels.list(), bed.levels.all());
        assert_eq!((list.len(), all.len(), bed.levels.sizes()), (2, 3, 3));
        let ratio = all[2].bitrate.0 as f64 / before[2].bitrate.0 as f64;
        assert!((0.9..=1.0).contains(&ratio), "{ratio}");
        // It wakes, and costs about as much as before from the beginning.
        assert_eq!(bed.run(10, &[500, 1_000, 3_000]), 1);
        let all = bed.levels.list();
        let ratio = all[2].bitrate.0 as f64 / before[2].bitrate.0 as f64;
        assert!((0.7..=1.1).contains(&ratio), "{ratio}");
        bed.run(50, &[500, 1_000, 0]);
        bed.meters[2].may_sleep = false;
        assert_eq!(bed.run(50, &[500, 1_000, 0]), 1);
        assert_eq!(bed.streams(), [0, 1]);
    }

    #[test]
    fn levels_without_the_base_layer_are_not_measured() {
        let mut meter = StreamMeter::default();
        let mut scratch = Vec::new();
        let began_at = Instant::now();
        let packet = |seq, temporal: u8| SourcePacket {
            ssrc: Ssrc(1),
            seq: ExtendedSeq(seq),
            timestamp: RtpTime(seq as u32),
            marker: true,
            payload_type: PayloadType(96),
            frame: inspect(Codec::Vp9, &[0xac, 5, temporal << 5, 0]),
            audio_level: None,
            video_orientation: None,
        };
        for (seq, temporal) in (0..).zip([0, 2, 1, 2].repeat(8)) {
            let now = began_at + Duration::from_millis(50 * seq);
            meter.handle_packet(now, &packet(seq, temporal), 1_000);
            meter.measure(now, &mut scratch);
        }
        let before = meter.levels().to_vec();
        assert_eq!(before.len(), 3);
        assert!(before.is_sorted_by_key(|level| level.bitrate));
        // Of the next two seconds only one frame of an upper layer comes.
        let later = began_at + Duration::from_millis(3_600);
        meter.handle_packet(later, &packet(33, 2), 1_000);
        meter.measure(later, &mut scratch);
        assert_eq!(meter.levels(), before);
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
