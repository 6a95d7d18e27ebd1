//! Viewers that come, and publishers that change what they send.

use super::{FRAMES, SWITCH_MAX, TOP, publisher, viewer, wide};

use crate::model::{PublisherConfig, Stage, VideoConfig, ViewerConfig, ViewerId};
use crate::network::{LinkConfig, RateSchedule};
use crate::scenario::measure::{Measures, freeze, reached_after, share_of_height};
use crate::scenario::{Outcome, secs};

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

pub(in crate::scenario) fn join_middle(seed: u64) -> Outcome {
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

pub(in crate::scenario) fn join_storm(seed: u64) -> Outcome {
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

pub(in crate::scenario) fn new_resolution(seed: u64) -> Outcome {
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

pub(in crate::scenario) fn layer_stops(seed: u64) -> Outcome {
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

pub(in crate::scenario) fn small_uplink(seed: u64) -> Outcome {
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
