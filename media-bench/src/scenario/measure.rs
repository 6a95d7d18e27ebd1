//! What is read off a stage: shares, queues, freezes, layers.

use std::time::Duration;

use media::Event;

use super::{Measure, Outcome, secs};
use crate::model::{Access, PublisherId, Sample, Stage, ViewerId};

/// Between lines of a timeline.
const LINE_INTERVAL: f64 = 0.5;

/// What a measure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
    /// For information.
    None,
}

impl Budget {
    /// True if a value is within it.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
            Self::None => true,
        }
    }
}

/// Collects the measures of a run.
#[derive(Default)]
pub(super) struct Measures(Vec<Measure>);

impl Measures {
    pub(super) fn at_least(
        &mut self,
        metric: &'static str,
        unit: &'static str,
        least: f64,
        value: f64,
    ) {
        self.add(metric, unit, Budget::AtLeast(least), value);
    }

    pub(super) fn at_most(
        &mut self,
        metric: &'static str,
        unit: &'static str,
        most: f64,
        value: f64,
    ) {
        self.add(metric, unit, Budget::AtMost(most), value);
    }

    pub(super) fn tell(&mut self, metric: &'static str, unit: &'static str, value: f64) {
        self.add(metric, unit, Budget::None, value);
    }

    fn add(&mut self, metric: &'static str, unit: &'static str, budget: Budget, value: f64) {
        self.0.push(Measure {
            metric,
            unit,
            value,
            budget,
        });
    }

    /// What holds for every viewer whatever happens: what is sent can be decoded by its numbers and references.
    pub(super) fn soundness(&mut self, stage: &Stage, viewers: &[ViewerId]) {
        let (mut faults, mut jumps) = (0, 0);
        for viewer in viewers {
            if let Some(playback) = stage.viewer(*viewer).playback() {
                let counters = playback.counters();
                faults +=
                    counters.misnumbered + counters.corrupt + counters.faulty + counters.unmarked;
                jumps += counters.timestamp_jumps;
            }
        }
        self.at_most("frames made undecodable", "", 0.0, faults as f64);
        self.at_most("timestamp jumps", "", 0.0, jumps as f64);
        let panics = stage.simulation.engine.counters().panics;
        self.at_most("panics", "", 0.0, panics as f64);
    }

    /// Median of the queue from 10 to 40 s, at most so many ms.
    pub(super) fn standing_queue(&mut self, stage: &Stage, access: Access, most: f64) {
        let queue = queue_ms(stage, access, 10.0, 40.0, 0.5);
        self.at_most("standing queue", "ms", most, queue);
    }

    pub(super) fn finish(
        self,
        stage: &Stage,
        publisher: PublisherId,
        watched: &[(ViewerId, Access)],
    ) -> Outcome {
        Outcome {
            measures: self.0,
            timeline: timeline(stage, publisher, watched),
        }
    }
}

/// Readings between two times, s.
fn between(stage: &Stage, access: Access, from: f64, to: f64) -> &[Sample] {
    let samples = stage.samples(access);
    let place = |seconds: f64| samples.partition_point(|sample| sample.at < secs(seconds));
    &samples[place(from)..place(to)]
}

/// Mean rate that arrived, bit/s on the wire.
pub(super) fn delivered_rate(stage: &Stage, access: Access, from: f64, to: f64) -> f64 {
    let samples = between(stage, access, from, to);
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return 0.0;
    };
    let bytes = last.counters.delivered_bytes - first.counters.delivered_bytes;
    let time = (last.at - first.at).as_secs_f64();
    8.0 * bytes as f64 / time.max(0.001)
}

/// Quantile of the queue, ms.
pub(super) fn queue_ms(stage: &Stage, access: Access, from: f64, to: f64, quantile: f64) -> f64 {
    let samples = between(stage, access, from, to);
    let mut queues: Vec<_> = samples.iter().map(|sample| sample.queue).collect();
    queues.sort_unstable();
    let place = (quantile * queues.len().saturating_sub(1) as f64) as usize;
    queues
        .get(place)
        .map_or(0.0, |queue| 1e3 * queue.as_secs_f64())
}

/// Seconds until what is sent in 200 ms stays at or below a rate for half a second.
pub(super) fn below_rate_after(stage: &Stage, access: Access, from: f64, rate: f64) -> f64 {
    let samples = between(stage, access, from, 1e6);
    let (window, hold) = (4, 10);
    let is_below = |at: usize| {
        let (before, now) = (&samples[at - window], &samples[at]);
        let bits = 8.0 * (now.counters.sent_bytes - before.counters.sent_bytes) as f64;
        bits / (now.at - before.at).as_secs_f64() <= 1.05 * rate
    };
    let last = samples.len().saturating_sub(hold);
    let found = (window..last).find(|at| (*at..at + hold).all(is_below));
    found.map_or(f64::INFINITY, |at| {
        (samples[at - window].at.as_secs_f64() - from).max(0.0)
    })
}

/// Seconds until a queue that filled is shorter than `ms` again.
pub(super) fn drained_after(stage: &Stage, access: Access, from: f64, ms: u64) -> f64 {
    let samples = between(stage, access, from, from + 15.0);
    let limit = Duration::from_millis(ms);
    let Some(full) = samples.iter().position(|sample| sample.queue > limit) else {
        return 0.0;
    };
    let drained = samples[full..].iter().find(|sample| sample.queue <= limit);
    drained.map_or(f64::INFINITY, |sample| sample.at.as_secs_f64() - from)
}

/// Times of pictures seen, s, with their heights.
pub(super) fn pictures(stage: &Stage, viewer: ViewerId) -> Vec<(f64, u16)> {
    let Some(playback) = stage.viewer(viewer).playback() else {
        return Vec::new();
    };
    let shown = playback.shown().iter();
    shown
        .map(|picture| {
            let at = (picture.at - stage.began_at()).as_secs_f64();
            (at, picture.height)
        })
        .collect()
}

/// Longest time without a new picture, s.
pub(super) fn freeze(stage: &Stage, viewer: ViewerId, from: f64, to: f64) -> f64 {
    let times = pictures(stage, viewer).into_iter().map(|(at, _)| at);
    let within = times.filter(|at| (from..to).contains(at));
    let times: Vec<_> = [from].into_iter().chain(within).chain([to]).collect();
    times
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .fold(0.0, f64::max)
}

/// Share of the pictures that had at least a height.
pub(super) fn share_of_height(
    stage: &Stage,
    viewer: ViewerId,
    height: u16,
    from: f64,
    to: f64,
) -> f64 {
    let pictures = pictures(stage, viewer);
    let within = pictures.iter().filter(|(at, _)| (from..to).contains(at));
    let (mut all, mut fitting) = (0, 0);
    for (_, seen) in within {
        all += 1;
        fitting += u32::from(*seen >= height);
    }
    f64::from(fitting) / f64::from(all.max(1))
}

/// Seconds until a second of pictures has a height, and nine tenths of a rate of pictures.
pub(super) fn reached_after(
    stage: &Stage,
    viewer: ViewerId,
    from: f64,
    height: u16,
    per_second: f64,
) -> f64 {
    let pictures = pictures(stage, viewer);
    let good: Vec<_> = pictures
        .iter()
        .filter(|(_, seen)| *seen >= height)
        .collect();
    let found = good.iter().enumerate().find(|(index, (at, _))| {
        *at >= from
            && good[*index..]
                .iter()
                .take_while(|(later, _)| *later < at + 1.0)
                .count() as f64
                >= 0.9 * per_second
    });
    found.map_or(f64::INFINITY, |(_, (at, _))| at - from)
}

/// Share of the frames that were decoded in time, of several viewers.
pub(super) fn in_time(stage: &Stage, viewers: &[ViewerId]) -> f64 {
    let (mut expected, mut in_time) = (0, 0);
    for viewer in viewers {
        if let Some(playback) = stage.viewer(*viewer).playback() {
            expected += playback.counters().expected();
            in_time += playback.counters().in_time;
        }
    }
    in_time as f64 / (expected.max(1)) as f64
}

/// Quantile of the time from capture to display, ms.
pub(super) fn delay_ms(stage: &Stage, viewer: ViewerId, quantile: f64) -> f64 {
    let Some(playback) = stage.viewer(viewer).playback() else {
        return f64::INFINITY;
    };
    let delays = playback.shown().iter().map(|picture| {
        let seen = (picture.at - stage.began_at()).as_micros() as u64;
        seen.saturating_sub(picture.captured_micros)
    });
    let mut delays: Vec<_> = delays.collect();
    delays.sort_unstable();
    let place = (quantile * delays.len().saturating_sub(1) as f64) as usize;
    delays
        .get(place)
        .map_or(f64::INFINITY, |micros| *micros as f64 / 1e3)
}

/// From the request for a key frame until it is seen, for each change of the height, s; `up` is the time that a request
/// takes to the publisher.
pub(super) fn switch_delays(
    stage: &Stage,
    publisher: PublisherId,
    viewer: ViewerId,
    up: f64,
) -> Vec<f64> {
    let pictures = pictures(stage, viewer);
    let counters = stage.publisher(publisher).counters();
    let asked: Vec<_> = counters
        .key_frame_requests
        .iter()
        .map(|(at, _)| (*at - stage.began_at()).as_secs_f64() - up)
        .collect();
    let changes = pictures.windows(2).filter(|pair| pair[0].1 != pair[1].1);
    let mut before = 0.0;
    let mut delays = Vec::new();
    for change in changes {
        let at = change[1].0;
        // A request long ago was for something else.
        let request = asked
            .iter()
            .find(|asked| **asked > before && **asked > at - 2.0);
        if let Some(request) = request.filter(|request| **request < at) {
            delays.push(at - request);
        }
        before = at;
    }
    delays
}

/// A line each half second: what arrived, what waits, what is seen; and what the engine said.
fn timeline(stage: &Stage, publisher: PublisherId, watched: &[(ViewerId, Access)]) -> Vec<String> {
    let mut lines = Vec::new();
    let seconds = |at: std::time::Instant| (at - stage.began_at()).as_secs_f64();
    for (number, (viewer, access)) in watched.iter().enumerate() {
        let pictures = pictures(stage, *viewer);
        let mut at = 0.0;
        while at < stage.elapsed().as_secs_f64() {
            let to = at + LINE_INTERVAL;
            let seen: Vec<_> = pictures
                .iter()
                .filter(|(seen, _)| (at..to).contains(seen))
                .collect();
            let text = format!(
                "viewer {number}: {:>7.0} kbit/s, queue {:>4.0} ms, {:>2} pictures, height {}",
                delivered_rate(stage, *access, at, to) / 1e3,
                queue_ms(stage, *access, at, to, 0.5),
                seen.len(),
                seen.last().map_or(0, |(_, height)| *height),
            );
            lines.push((to, text));
            at = to;
        }
        let changes = pictures.windows(2).filter(|pair| pair[0].1 != pair[1].1);
        for [_, (at, height)] in changes.filter_map(|pair| pair.first_chunk()) {
            lines.push((*at, format!("viewer {number}: first picture of {height}")));
        }
        for told in stage.told(*viewer) {
            if let Event::VideoDeliveryChanged(delivery) = &told.event {
                let text = format!("viewer {number}: the engine says {delivery:?}");
                lines.push((seconds(told.at), text));
            }
        }
        if let Some(playback) = stage.viewer(*viewer).playback() {
            let end = stage.elapsed().as_secs_f64();
            lines.push((end, format!("viewer {number}: {:?}", playback.counters())));
            let counters = stage.viewer(*viewer).counters();
            lines.push((end, format!("viewer {number}: {counters:?}")));
        }
    }
    let counters = stage.publisher(publisher).counters();
    for (at, layer) in &counters.key_frame_requests {
        lines.push((
            seconds(*at),
            format!("publisher: asked for a key frame of layer {layer}"),
        ));
    }
    for (at, layer) in &counters.key_frames {
        lines.push((
            seconds(*at),
            format!("publisher: key frame in layer {layer}"),
        ));
    }
    lines.sort_by(|one, other| one.0.total_cmp(&other.0));
    lines
        .into_iter()
        .map(|(at, text)| format!("{at:>8.3} {text}"))
        .collect()
}
