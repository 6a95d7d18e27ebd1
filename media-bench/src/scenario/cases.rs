//! What happens in each scenario, and what is measured.

use forwarding::codec::Codec;
use media::PeerId;

use super::measure::{
    Measures, below_rate_after, delay_ms, delivered_rate, drained_after, freeze, in_time, pictures,
    queue_ms, reached_after, share_of_height, switch_delays,
};
use super::{Codecs, Outcome, secs};
use crate::model::{
    Access, PublisherConfig, PublisherId, Stage, StreamConfig, VideoConfig, ViewerConfig, ViewerId,
};
use crate::network::{LinkConfig, Loss, QueueLimit, RateSchedule};

/// Of a path that is in nobody's way.
const WIDE: u64 = 20_000_000;

/// One way, of the paths unless a scenario says otherwise, s.
const DELAY: f64 = 0.02;

/// Height of the best layer.
const TOP: u16 = 720;

/// Frames per second of the best temporal layer.
const FRAMES: f64 = 30.0;

/// Time that a switch or a join may take: a round trip through publisher and viewer, and 100 ms.
const SWITCH_MAX: f64 = 4.0 * DELAY + 0.1;

/// Share of a path that a stream with all that belongs to it may fill.
const FITTING: f64 = 0.95;

/// Headers, tag and extensions of a packet on the wire, bytes.
const OVERHEAD_BYTES: f64 = 28.0 + 12.0 + 20.0 + 16.0;

fn wide() -> LinkConfig {
    LinkConfig::steady(WIDE)
}

fn publisher(stage: &mut Stage, video: VideoConfig) -> PublisherId {
    let access = stage.add_access(wide(), wide());
    stage.publish(access, PublisherConfig::new(video))
}

fn viewer(
    stage: &mut Stage,
    source: PublisherId,
    down: LinkConfig,
    config: ViewerConfig,
) -> (ViewerId, Access) {
    let access = stage.add_access(wide(), down);
    let viewer = stage.watch(access, source, config, None);
    (viewer, access)
}

/// One camera and one viewer behind a path, for some seconds.
fn pair(seed: u64, video: VideoConfig, down: LinkConfig, seconds: f64) -> Pair {
    let mut stage = Stage::new(seed);
    let publisher = publisher(&mut stage, video);
    let (viewer, access) = viewer(&mut stage, publisher, down, ViewerConfig::default());
    stage.run_until(secs(seconds));
    Pair {
        stage,
        publisher,
        viewer,
        access,
    }
}

struct Pair {
    stage: Stage,
    publisher: PublisherId,
    viewer: ViewerId,
    access: Access,
}

impl Pair {
    fn finish(self, mut measures: Measures) -> Outcome {
        measures.soundness(&self.stage, &[self.viewer]);
        measures.finish(&self.stage, self.publisher, &[(self.viewer, self.access)])
    }
}

/// What a stream of some rate takes on the wire.
fn wire_rate(payload_rate: f64, frames_per_second: f64) -> f64 {
    let frame_bytes = payload_rate / 8.0 / frames_per_second;
    let packets = (frame_bytes / 1_100.0).ceil().max(1.0);
    payload_rate + 8.0 * OVERHEAD_BYTES * packets * frames_per_second
}

/// The largest layer of a camera that fits a path, with its sound, on the wire.
fn fitting_rate(video: &VideoConfig, capacity: u64, has_audio: bool) -> f64 {
    let audio = if has_audio {
        wire_rate(32_000.0, 50.0)
    } else {
        0.0
    };
    let layers = video.layers.iter().flat_map(|layer| {
        [(0.4, 0.25), (0.6, 0.5), (1.0, 1.0)].map(|(share, frames)| {
            let rate = layer.rate_max as f64 * share;
            audio + wire_rate(rate, video.frames_per_second * frames)
        })
    });
    let fitting = layers.filter(|rate| *rate <= FITTING * capacity as f64);
    fitting.fold(audio, f64::max)
}

pub(super) fn steady_small(seed: u64, capacity: u64) -> Outcome {
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
    measures.at_most(
        "standing queue",
        "ms",
        50.0,
        queue_ms(&stage, access, 10.0, 40.0, 0.5),
    );
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
pub(super) fn steady(seed: u64, capacity: u64) -> Outcome {
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
    measures.at_most(
        "standing queue",
        "ms",
        50.0,
        queue_ms(&stage, access, 10.0, 40.0, 0.5),
    );
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

pub(super) fn step(seed: u64, codecs: Codecs) -> Outcome {
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

/// 40 ms one way.
fn lossy(loss: Loss) -> LinkConfig {
    LinkConfig {
        loss,
        delay: secs(0.04),
        ..LinkConfig::steady(5_000_000)
    }
}

fn loss_measures(pair: &Pair, least: Option<f64>) -> Measures {
    let (stage, viewer) = (&pair.stage, pair.viewer);
    let mut measures = Measures::default();
    let share = in_time(stage, &[viewer]);
    match least {
        Some(least) => measures.at_least("frames decoded in time", "", least, share),
        None => measures.tell("frames decoded in time", "", share),
    }
    measures.at_most(
        "longest freeze",
        "s",
        1.0,
        freeze(stage, viewer, 5.0, stage.elapsed().as_secs_f64()),
    );
    measures.tell(
        "best layer",
        "",
        share_of_height(stage, viewer, TOP, 10.0, 1e6),
    );
    measures.tell(
        "delivered",
        "kbit/s",
        delivered_rate(stage, pair.access, 10.0, 1e6) / 1e3,
    );
    measures.tell("delay, 95 %", "ms", delay_ms(stage, viewer, 0.95));
    let counters = stage.viewer(viewer).counters();
    measures.tell("key frames asked for", "", counters.picture_losses as f64);
    measures
}

pub(super) fn loss(seed: u64, share: f64) -> Outcome {
    let down = lossy(Loss::Random(share));
    let pair = pair(seed, VideoConfig::simulcast(), down, 40.0);
    let least = (share <= 0.1).then_some(0.98);
    let measures = loss_measures(&pair, least);
    pair.finish(measures)
}

pub(super) fn loss_both(seed: u64) -> Outcome {
    let mut stage = Stage::new(seed);
    let source = publisher(&mut stage, VideoConfig::simulcast());
    let link = lossy(Loss::Random(0.1));
    let access = stage.add_access(link.clone(), link);
    let viewer = stage.watch(access, source, ViewerConfig::default(), None);
    stage.run_until(secs(40.0));
    let pair = Pair {
        stage,
        publisher: source,
        viewer,
        access,
    };
    let measures = loss_measures(&pair, Some(0.97));
    pair.finish(measures)
}

pub(super) fn loss_burst(seed: u64) -> Outcome {
    let down = lossy(Loss::Burst {
        begins: 0.01,
        ends: 0.2,
        loss: 1.0,
    });
    let pair = pair(seed, VideoConfig::simulcast(), down, 40.0);
    let measures = loss_measures(&pair, Some(0.97));
    pair.finish(measures)
}

pub(super) fn loss_uplink(seed: u64) -> Outcome {
    let mut stage = Stage::new(seed);
    let up = LinkConfig {
        loss: Loss::Random(0.05),
        ..wide()
    };
    let access = stage.add_access(up, wide());
    let source = stage.publish(access, PublisherConfig::new(VideoConfig::simulcast()));
    let viewers = [(); 3].map(|()| {
        viewer(
            &mut stage,
            source,
            LinkConfig::steady(5_000_000),
            ViewerConfig::default(),
        )
    });
    stage.run_until(secs(30.0));
    let ids = viewers.map(|(viewer, _)| viewer);
    let mut measures = Measures::default();
    measures.at_least("frames decoded in time", "", 0.98, in_time(&stage, &ids));
    let frozen = ids.map(|viewer| freeze(&stage, viewer, 5.0, 30.0));
    measures.at_most(
        "longest freeze",
        "s",
        0.5,
        frozen.into_iter().fold(0.0, f64::max),
    );
    let nacked: u64 = ids
        .iter()
        .map(|viewer| stage.viewer(*viewer).counters().nacked)
        .sum();
    let sent: u64 = ids
        .iter()
        .map(|viewer| stage.viewer(*viewer).counters().packets)
        .sum();
    let share = nacked as f64 / sent.max(1) as f64;
    measures.at_most("viewers' NACKs per packet", "", 0.1, share);
    measures.soundness(&stage, &ids);
    measures.finish(&stage, source, &viewers)
}

fn smooth_measures(pair: &Pair, least: f64, freeze_max: f64) -> Measures {
    let (stage, viewer) = (&pair.stage, pair.viewer);
    let mut measures = Measures::default();
    measures.at_least(
        "frames decoded in time",
        "",
        least,
        in_time(stage, &[viewer]),
    );
    measures.at_most(
        "longest freeze",
        "s",
        freeze_max,
        freeze(stage, viewer, 5.0, stage.elapsed().as_secs_f64()),
    );
    measures.at_least(
        "best layer",
        "",
        0.9,
        share_of_height(stage, viewer, TOP, 12.0, 1e6),
    );
    measures
}

pub(super) fn jitter(seed: u64) -> Outcome {
    let down = LinkConfig {
        jitter: secs(0.2),
        ..LinkConfig::steady(5_000_000)
    };
    let pair = pair(seed, VideoConfig::simulcast(), down, 40.0);
    let measures = smooth_measures(&pair, 0.98, 0.5);
    pair.finish(measures)
}

pub(super) fn reorder(seed: u64) -> Outcome {
    let down = LinkConfig {
        reorder: 0.05,
        reorder_delay: secs(0.03),
        duplicate: 0.01,
        ..LinkConfig::steady(5_000_000)
    };
    let pair = pair(seed, VideoConfig::simulcast(), down, 40.0);
    let measures = smooth_measures(&pair, 0.99, 0.5);
    pair.finish(measures)
}

pub(super) fn bufferbloat(seed: u64) -> Outcome {
    let down = LinkConfig {
        queue: QueueLimit::Delay(secs(2.0)),
        ..LinkConfig::steady(1_000_000)
    };
    let pair = pair(seed, VideoConfig::simulcast(), down, 40.0);
    let (stage, viewer, access) = (&pair.stage, pair.viewer, pair.access);
    let mut measures = Measures::default();
    measures.at_most(
        "standing queue",
        "ms",
        50.0,
        queue_ms(stage, access, 10.0, 40.0, 0.5),
    );
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

pub(super) fn nine_streams(seed: u64) -> Outcome {
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
    measures.at_most(
        "standing queue",
        "ms",
        50.0,
        queue_ms(&stage, access, 10.0, 40.0, 0.5),
    );
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

pub(super) fn two_viewers(seed: u64) -> Outcome {
    let mut stage = Stage::new(seed);
    let source = publisher(&mut stage, VideoConfig::simulcast());
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
        0.98,
        share_of_height(&stage, good.0, TOP, 20.0, 30.0),
    );
    let beyond = share_of_height(&stage, poor.0, 360, 20.0, 30.0);
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

/// Seconds from the end of the handshake to the first picture.
fn first_picture(stage: &Stage, viewer: ViewerId) -> f64 {
    let started = stage.viewer(viewer).started_at();
    let first = stage
        .viewer(viewer)
        .playback()
        .and_then(|playback| playback.shown().first());
    match (started, first) {
        (Some(started), Some(first)) => (first.at - started).as_secs_f64(),
        _ => f64::INFINITY,
    }
}

pub(super) fn join_middle(seed: u64) -> Outcome {
    let mut stage = Stage::new(seed);
    let source = publisher(&mut stage, VideoConfig::simulcast());
    let link = LinkConfig::steady(5_000_000);
    let first = viewer(&mut stage, source, link.clone(), ViewerConfig::default());
    // Not in step with anything.
    stage.run_until(secs(10.0 + 0.001 * (seed % 97) as f64));
    let second = viewer(&mut stage, source, link, ViewerConfig::default());
    stage.run_until(secs(25.0));
    let mut measures = Measures::default();
    measures.at_most(
        "first picture after",
        "s",
        SWITCH_MAX,
        first_picture(&stage, second.0),
    );
    measures.at_most(
        "best layer after",
        "s",
        8.0,
        reached_after(&stage, second.0, 10.0, TOP, FRAMES),
    );
    measures.at_most(
        "longest freeze of who was there",
        "s",
        0.5,
        freeze(&stage, first.0, 5.0, 25.0),
    );
    measures.soundness(&stage, &[first.0, second.0]);
    measures.finish(&stage, source, &[first, second])
}

pub(super) fn join_storm(seed: u64) -> Outcome {
    let mut stage = Stage::new(seed);
    let source = publisher(&mut stage, VideoConfig::simulcast());
    stage.run_until(secs(3.0));
    let before = stage.publisher(source).counters().key_frame_requests.len();
    let mut viewers = Vec::new();
    for joined in 0..100 {
        stage.run_until(secs(3.0 + 0.01 * f64::from(joined)));
        let link = LinkConfig::steady(5_000_000);
        viewers.push(viewer(&mut stage, source, link, ViewerConfig::default()));
    }
    stage.run_until(secs(5.0));
    let requests = stage.publisher(source).counters().key_frame_requests.len() - before;
    stage.run_until(secs(7.0));
    let mut measures = Measures::default();
    measures.at_most("key frames asked for", "", 2.0, requests as f64);
    let ids: Vec<_> = viewers.iter().map(|(viewer, _)| *viewer).collect();
    let mut waits: Vec<_> = ids.iter().map(|id| first_picture(&stage, *id)).collect();
    waits.sort_by(f64::total_cmp);
    measures.tell("first picture after, median", "s", waits[50]);
    measures.at_most("first picture after, worst", "s", 1.5, waits[99]);
    measures.soundness(&stage, &ids);
    measures.finish(&stage, source, &viewers[..1])
}

pub(super) fn new_resolution(seed: u64) -> Outcome {
    let mut stage = Stage::new(seed);
    let source = publisher(&mut stage, VideoConfig::simulcast());
    let link = LinkConfig::steady(5_000_000);
    let watched = viewer(&mut stage, source, link, ViewerConfig::default());
    for (at, heights) in [(10.0, [90, 180, 360]), (20.0, [180, 360, TOP])] {
        stage.run_until(secs(at));
        stage.publisher_mut(source).set_heights(&heights);
    }
    stage.run_until(secs(30.0));
    let viewer = watched.0;
    let mut measures = Measures::default();
    measures.at_most(
        "longest freeze",
        "s",
        0.5,
        freeze(&stage, viewer, 5.0, 30.0),
    );
    measures.at_least(
        "best layer at half the size",
        "",
        0.9,
        share_of_height(&stage, viewer, 360, 12.0, 20.0),
    );
    measures.at_least(
        "best layer in the end",
        "",
        0.9,
        share_of_height(&stage, viewer, TOP, 22.0, 30.0),
    );
    measures.soundness(&stage, &[viewer]);
    measures.finish(&stage, source, &[watched])
}

pub(super) fn layer_stops(seed: u64) -> Outcome {
    let mut stage = Stage::new(seed);
    let source = publisher(&mut stage, VideoConfig::simulcast());
    let link = LinkConfig::steady(5_000_000);
    let watched = viewer(&mut stage, source, link, ViewerConfig::default());
    for (at, enabled) in [(12.0, false), (24.0, true)] {
        stage.run_until(secs(at));
        stage.publisher_mut(source).enable(2, enabled);
    }
    stage.run_until(secs(36.0));
    let viewer = watched.0;
    let mut measures = Measures::default();
    measures.at_most(
        "longest freeze",
        "s",
        1.0,
        freeze(&stage, viewer, 5.0, 36.0),
    );
    measures.at_least(
        "next layer meanwhile",
        "",
        0.9,
        share_of_height(&stage, viewer, 360, 14.0, 24.0),
    );
    measures.at_most(
        "best layer again after",
        "s",
        8.0,
        reached_after(&stage, viewer, 24.0, TOP, FRAMES),
    );
    measures.soundness(&stage, &[viewer]);
    measures.finish(&stage, source, &[watched])
}

pub(super) fn small_uplink(seed: u64) -> Outcome {
    let mut stage = Stage::new(seed);
    let up = LinkConfig {
        rate: RateSchedule::steps(&[
            (secs(0.0), 4_000_000),
            (secs(20.0), 500_000),
            (secs(40.0), 4_000_000),
        ]),
        ..LinkConfig::steady(4_000_000)
    };
    let access = stage.add_access(up, wide());
    let source = stage.publish(access, PublisherConfig::new(VideoConfig::simulcast()));
    let link = LinkConfig::steady(5_000_000);
    let watched = viewer(&mut stage, source, link, ViewerConfig::default());
    stage.run_until(secs(65.0));
    let viewer = watched.0;
    let mut measures = Measures::default();
    measures.at_most(
        "longest freeze when it falls",
        "s",
        2.0,
        freeze(&stage, viewer, 15.0, 30.0),
    );
    measures.at_most(
        "longest freeze later",
        "s",
        0.7,
        freeze(&stage, viewer, 30.0, 65.0),
    );
    measures.at_most(
        "best layer again after",
        "s",
        20.0,
        reached_after(&stage, viewer, 40.0, TOP, FRAMES),
    );
    measures.soundness(&stage, &[viewer]);
    measures.finish(&stage, source, &[watched])
}

pub(super) fn feedback_lost(seed: u64) -> Outcome {
    let mut stage = Stage::new(seed);
    let source = publisher(&mut stage, VideoConfig::simulcast());
    let up = LinkConfig {
        loss: Loss::Random(0.3),
        ..wide()
    };
    let access = stage.add_access(up, LinkConfig::steady(3_000_000));
    let viewer = stage.watch(access, source, ViewerConfig::default(), None);
    stage.run_until(secs(40.0));
    let pair = Pair {
        stage,
        publisher: source,
        viewer,
        access,
    };
    let mut measures = smooth_measures(&pair, 0.98, 0.5);
    measures.at_most(
        "standing queue",
        "ms",
        50.0,
        queue_ms(&pair.stage, access, 10.0, 40.0, 0.5),
    );
    pair.finish(measures)
}

pub(super) fn cellular(seed: u64) -> Outcome {
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

pub(super) fn switches(seed: u64) -> Outcome {
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
        SWITCH_MAX,
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

pub(super) fn old_viewer(seed: u64) -> Outcome {
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
    measures.at_most(
        "standing queue",
        "ms",
        100.0,
        queue_ms(&stage, access, 10.0, 40.0, 0.5),
    );
    let fitting = fitting_rate(&VideoConfig::simulcast(), 1_000_000, true);
    let rate = delivered_rate(&stage, access, 20.0, 40.0);
    measures.tell("used of what fits", "", rate / fitting);
    measures.soundness(&stage, &[viewer]);
    measures.finish(&stage, source, &[watched])
}
