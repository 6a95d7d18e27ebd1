//! Paths of every rate, steady or not, for one viewer or several.

use forwarding::codec::Codec;
use media::{Delivery, PeerId};

use super::{DELAY, FRAMES, SWITCH_MAX, TOP, fitting_rate, pair, publisher, viewer, wide};

use crate::model::{PublisherId, Stage, StreamConfig, VideoConfig, ViewerConfig};
use crate::network::{LinkConfig, QueueLimit, RateSchedule};
use crate::scenario::measure::{
    Measures, below_rate_after, delivered_rate, drained_after, freeze, in_time, pictures, queue_ms,
    reached_after, share_of_height, switch_delays,
};
use crate::scenario::{Codecs, Outcome, secs};

pub(in crate::scenario) fn steady_small(seed: u64, capacity: u64) -> Outcome {
    let mut stage = Stage::new(seed);
    let layer = |height, share: f64| StreamConfig {
        height,
        rate_min: (share * capacity as f64 / 2.0) as u64,
        rate_max: (share * capacity as f64) as u64,
    };
    let video = VideoConfig {
        layers: vec![layer(180, 0.25), layer(360, 0.7), layer(720, 2.0)],
        frames_per_second: 15.0,
        ..VideoConfig::simulcast()
    };
    let fitting = fitting_rate(&video, capacity, false);
    let source = publisher(&mut stage, video);
    let config = ViewerConfig {
        audio: false,
        ..ViewerConfig::default()
    };
    let down = LinkConfig::steady(capacity);
    let (viewer, access) = viewer(&mut stage, source, down, config);
    stage.run_until(secs(40.0));
    let mut measures = Measures::default();
    let rate = delivered_rate(&stage, access, 10.0, 40.0);
    measures.at_least("used of what fits", "", 0.85, rate / fitting);
    measures.tell("used of the capacity", "", rate / capacity as f64);
    measures.standing_queue(&stage, access, 50.0);
    measures.tell(
        "queue, 95 %",
        "ms",
        queue_ms(&stage, access, 10.0, 40.0, 0.95),
    );
    measures.at_most(
        "longest freeze",
        "s",
        0.5,
        freeze(&stage, viewer, 10.0, 40.0),
    );
    measures.soundness(&stage, &[viewer]);
    measures.finish(&stage, source, &[(viewer, access)])
}

/// Cameras whose layers fill any path: the smallest of all take a fifth of it, the best twice as much.
pub(in crate::scenario) fn steady(seed: u64, capacity: u64) -> Outcome {
    let mut stage = Stage::new(seed);
    let access = stage.add_access(wide(), LinkConfig::steady(capacity));
    let video = VideoConfig::simulcast().scaled(capacity as f64 / 3e6);
    let sources = [(); 4].map(|()| publisher(&mut stage, video.clone()));
    let config = ViewerConfig {
        audio: false,
        ..ViewerConfig::default()
    };
    let viewers =
        sources.map(|source| stage.watch(access, source, config.clone(), Some(PeerId(1))));
    stage.run_until(secs(40.0));
    let mut measures = Measures::default();
    let rate = delivered_rate(&stage, access, 10.0, 40.0);
    measures.at_least("used of the capacity", "", 0.85, rate / capacity as f64);
    measures.standing_queue(&stage, access, 50.0);
    measures.tell(
        "queue, 95 %",
        "ms",
        queue_ms(&stage, access, 10.0, 40.0, 0.95),
    );
    let frozen = viewers.map(|viewer| freeze(&stage, viewer, 10.0, 40.0));
    measures.at_most(
        "longest freeze",
        "s",
        0.5,
        frozen.into_iter().fold(0.0, f64::max),
    );
    measures.soundness(&stage, &viewers);
    measures.finish(&stage, sources[0], &viewers.map(|viewer| (viewer, access)))
}

pub(in crate::scenario) fn step(seed: u64, codecs: Codecs) -> Outcome {
    let video = match codecs {
        Codecs::Vp8 => VideoConfig::simulcast(),
        Codecs::Vp9 => VideoConfig::scalable(Codec::Vp9),
        // The layers of scalable video add up.
        Codecs::Av1 => VideoConfig::scalable(Codec::Av1),
    };
    let down = LinkConfig {
        rate: RateSchedule::steps(&[
            (secs(0.0), 3_000_000),
            (secs(20.0), 300_000),
            (secs(40.0), 3_000_000),
        ]),
        ..LinkConfig::steady(3_000_000)
    };
    let pair = pair(seed, video, down, 60.0);
    let (stage, viewer, access) = (&pair.stage, pair.viewer, pair.access);
    let mut measures = Measures::default();
    measures.at_least(
        "best layer before the step",
        "",
        0.9,
        share_of_height(stage, viewer, TOP, 12.0, 20.0),
    );
    measures.at_most(
        "under the capacity after",
        "s",
        1.0,
        below_rate_after(stage, access, 20.0, 300_000.0),
    );
    measures.at_most(
        "queue drained after",
        "s",
        2.0,
        drained_after(stage, access, 20.0, 50),
    );
    measures.at_most("longest freeze", "s", 1.0, freeze(stage, viewer, 5.0, 60.0));
    measures.tell(
        "standing queue at 300 kbit/s",
        "ms",
        queue_ms(stage, access, 25.0, 40.0, 0.5),
    );
    measures.tell(
        "used at 300 kbit/s",
        "",
        delivered_rate(stage, access, 30.0, 40.0) / 300_000.0,
    );
    measures.at_most(
        "best layer again after",
        "s",
        8.0,
        reached_after(stage, viewer, 40.0, TOP, FRAMES),
    );
    pair.finish(measures)
}

pub(in crate::scenario) fn bufferbloat(seed: u64) -> Outcome {
    let down = LinkConfig {
        queue: QueueLimit::Delay(secs(2.0)),
        ..LinkConfig::steady(1_000_000)
    };
    let pair = pair(seed, VideoConfig::simulcast(), down, 40.0);
    let (stage, viewer, access) = (&pair.stage, pair.viewer, pair.access);
    let mut measures = Measures::default();
    measures.standing_queue(stage, access, 50.0);
    measures.at_most(
        "queue, 95 %",
        "ms",
        200.0,
        queue_ms(stage, access, 10.0, 40.0, 0.95),
    );
    let fitting = fitting_rate(&VideoConfig::simulcast(), 1_000_000, true);
    let rate = delivered_rate(stage, access, 10.0, 40.0);
    measures.tell("used of what fits", "", rate / fitting);
    measures.at_most("longest freeze", "s", 1.0, freeze(stage, viewer, 5.0, 40.0));
    pair.finish(measures)
}

pub(in crate::scenario) fn nine_streams(seed: u64) -> Outcome {
    let mut stage = Stage::new(seed);
    let access = stage.add_access(wide(), LinkConfig::steady(3_000_000));
    let sources: Vec<_> = (0..9)
        .map(|_| publisher(&mut stage, VideoConfig::simulcast()))
        .collect();
    let watch = |source: &PublisherId| {
        stage.watch(access, *source, ViewerConfig::default(), Some(PeerId(1)))
    };
    let viewers: Vec<_> = sources.iter().map(watch).collect();
    stage.run_until(secs(40.0));
    let mut measures = Measures::default();
    let rate = delivered_rate(&stage, access, 10.0, 40.0);
    measures.at_least("used of the capacity", "", 0.85, rate / 3e6);
    measures.standing_queue(&stage, access, 50.0);
    let frozen = viewers
        .iter()
        .map(|viewer| freeze(&stage, *viewer, 10.0, 40.0));
    measures.at_most("longest freeze", "s", 1.0, frozen.fold(0.0, f64::max));
    let counts: Vec<_> = viewers
        .iter()
        .map(|viewer| pictures(&stage, *viewer).len() as f64)
        .collect();
    let least = counts.iter().copied().fold(f64::INFINITY, f64::min);
    measures.tell("pictures of the poorest stream", "/s", least / 40.0);
    measures.soundness(&stage, &viewers);
    let watched: Vec<_> = viewers.iter().map(|viewer| (*viewer, access)).collect();
    measures.finish(&stage, sources[0], &watched)
}

pub(in crate::scenario) fn two_viewers(seed: u64, video: VideoConfig) -> Outcome {
    // What an encoder leaves out of the best layer nobody can see.
    let least = if video.skips > 0.0 { 0.65 } else { 0.98 };
    let heights: Vec<_> = video.layers.iter().map(|layer| layer.height).collect();
    let mut stage = Stage::new(seed);
    let source = publisher(&mut stage, video);
    let mut add = |rate| {
        viewer(
            &mut stage,
            source,
            LinkConfig::steady(rate),
            ViewerConfig::default(),
        )
    };
    let (poor, good) = (add(300_000), add(5_000_000));
    stage.run_until(secs(30.0));
    let mut measures = Measures::default();
    measures.at_least(
        "best layer at 5 Mbit/s",
        "",
        least,
        share_of_height(&stage, good.0, heights[2], 20.0, 30.0),
    );
    let beyond = share_of_height(&stage, poor.0, heights[1], 20.0, 30.0);
    measures.at_most("too large at 300 kbit/s", "", 0.02, beyond);
    for (metric, (viewer, _)) in [
        ("longest freeze at 5 Mbit/s", good),
        ("longest freeze at 300 kbit/s", poor),
    ] {
        measures.at_most(metric, "s", 0.5, freeze(&stage, viewer, 5.0, 30.0));
    }
    measures.soundness(&stage, &[poor.0, good.0]);
    measures.finish(&stage, source, &[poor, good])
}

pub(in crate::scenario) fn cellular(seed: u64) -> Outcome {
    const KBPS: [u64; 24] = [
        2500, 1800, 1200, 600, 400, 900, 1600, 2200, 3000, 2600, 1100, 500, 700, 1500, 2100, 2800,
        1900, 800, 450, 1300, 2400, 2900, 2000, 1000,
    ];
    let rates = KBPS.map(|kbps| 1_000 * kbps);
    let down = LinkConfig {
        rate: RateSchedule::trace(secs(0.5), &rates),
        queue: QueueLimit::Delay(secs(0.5)),
        delay: secs(0.03),
        jitter: secs(0.01),
        ..LinkConfig::steady(1)
    };
    let pair = pair(seed, VideoConfig::simulcast(), down, 60.0);
    let (stage, viewer, access) = (&pair.stage, pair.viewer, pair.access);
    let mut measures = Measures::default();
    measures.at_most("longest freeze", "s", 1.0, freeze(stage, viewer, 5.0, 60.0));
    measures.at_least(
        "frames decoded in time",
        "",
        0.95,
        in_time(stage, &[viewer]),
    );
    measures.tell(
        "queue, 95 %",
        "ms",
        queue_ms(stage, access, 10.0, 60.0, 0.95),
    );
    let mean = rates.iter().sum::<u64>() as f64 / rates.len() as f64;
    let rate = delivered_rate(stage, access, 10.0, 60.0);
    measures.tell("used of the mean capacity", "", rate / mean);
    pair.finish(measures)
}

/// Time that a switch may take over a path that has just become narrow: at 700 kbit/s a key frame of 10 kB alone takes
/// 130 ms, and it waits behind what was sent before anybody could know.
const NARROWED_SWITCH_MAX: f64 = 0.3;

pub(in crate::scenario) fn switches(seed: u64) -> Outcome {
    let steps: Vec<_> = (0..6)
        .map(|index| {
            let rate = if index % 2 == 0 { 4_000_000 } else { 700_000 };
            (secs(10.0 * f64::from(index)), rate)
        })
        .collect();
    let down = LinkConfig {
        rate: RateSchedule::steps(&steps),
        // Nothing is lost, so every fault is of the server's making.
        queue: QueueLimit::Bytes(10_000_000),
        ..LinkConfig::steady(1)
    };
    let pair = pair(seed, VideoConfig::simulcast(), down, 60.0);
    let (stage, viewer) = (&pair.stage, pair.viewer);
    let playback = stage.viewer(viewer).playback();
    let undecodable = playback.map_or(0, |playback| playback.counters().undecodable);
    let mut measures = Measures::default();
    measures.at_most("frames without references", "", 0.0, undecodable as f64);
    let mut delays = switch_delays(stage, pair.publisher, viewer, DELAY);
    delays.sort_by(f64::total_cmp);
    measures.at_least("changes of the layer", "", 3.0, delays.len() as f64);
    let median = delays.get(delays.len() / 2).copied();
    measures.at_most(
        "key frame after, median",
        "s",
        NARROWED_SWITCH_MAX,
        median.unwrap_or(f64::INFINITY),
    );
    measures.tell(
        "key frame after, worst",
        "s",
        delays.last().copied().unwrap_or(f64::INFINITY),
    );
    measures.at_most("longest freeze", "s", 1.0, freeze(stage, viewer, 5.0, 60.0));
    pair.finish(measures)
}

pub(in crate::scenario) fn sizes_chosen(seed: u64) -> Outcome {
    let mut pair = pair(
        seed,
        VideoConfig::simulcast(),
        LinkConfig::steady(5_000_000),
        10.0,
    );
    let mut wishes = Vec::new();
    for (height, at) in [180, 720, 360, 180, 360, 720].iter().cycle().zip(5..25) {
        // Not in step with the frames.
        let at = 2.0 * f64::from(at) + 0.007 * f64::from(at);
        pair.stage.run_until(secs(at));
        let delivery = Delivery {
            height_max: Some(*height),
            ..Delivery::default()
        };
        pair.stage.wish(pair.viewer, delivery);
        wishes.push((at, *height));
    }
    pair.stage.run_until(secs(60.0));
    let pictures = pictures(&pair.stage, pair.viewer);
    let seen_after = |(wished_at, height): &(f64, u16)| {
        let found = pictures
            .iter()
            .find(|(at, seen)| at > wished_at && seen == height);
        found.map_or(f64::INFINITY, |(at, _)| at - wished_at)
    };
    let mut delays: Vec<_> = wishes.iter().map(seen_after).collect();
    delays.sort_by(f64::total_cmp);
    let mut measures = Measures::default();
    let [median, worst] = [delays[delays.len() / 2], delays[delays.len() - 1]];
    measures.at_most("seen after, median", "s", SWITCH_MAX, median);
    measures.at_most("seen after, worst", "s", SWITCH_MAX, worst);
    let frozen = freeze(&pair.stage, pair.viewer, 10.0, 60.0);
    measures.at_most("longest freeze", "s", SWITCH_MAX, frozen);
    pair.finish(measures)
}

pub(in crate::scenario) fn old_viewer(seed: u64) -> Outcome {
    let mut stage = Stage::new(seed);
    let source = publisher(&mut stage, VideoConfig::simulcast());
    let link = LinkConfig::steady(1_000_000);
    let watched = viewer(&mut stage, source, link, ViewerConfig::old());
    stage.run_until(secs(40.0));
    let (viewer, access) = watched;
    let mut measures = Measures::default();
    measures.at_most(
        "longest freeze",
        "s",
        1.0,
        freeze(&stage, viewer, 10.0, 40.0),
    );
    measures.standing_queue(&stage, access, 100.0);
    let fitting = fitting_rate(&VideoConfig::simulcast(), 1_000_000, true);
    let rate = delivered_rate(&stage, access, 20.0, 40.0);
    measures.tell("used of what fits", "", rate / fitting);
    measures.soundness(&stage, &[viewer]);
    measures.finish(&stage, source, &[watched])
}
