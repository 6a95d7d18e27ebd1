//! Packets that are lost, late or in another order.

use super::{Pair, TOP, pair, publisher, viewer, wide};

use crate::model::{PublisherConfig, Stage, VideoConfig, ViewerConfig};
use crate::network::{LinkConfig, Loss};
use crate::scenario::measure::{
    Measures, delay_ms, delivered_rate, freeze, in_time, share_of_height,
};
use crate::scenario::{Outcome, secs};

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

pub(in crate::scenario) fn loss(seed: u64, share: f64) -> Outcome {
    let down = lossy(Loss::Random(share));
    let pair = pair(seed, VideoConfig::simulcast(), down, 40.0);
    let least = (share <= 0.1).then_some(0.98);
    let measures = loss_measures(&pair, least);
    pair.finish(measures)
}

pub(in crate::scenario) fn loss_both(seed: u64) -> Outcome {
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

pub(in crate::scenario) fn loss_burst(seed: u64) -> Outcome {
    let down = lossy(Loss::Burst {
        begins: 0.01,
        ends: 0.2,
        loss: 1.0,
    });
    let pair = pair(seed, VideoConfig::simulcast(), down, 40.0);
    let measures = loss_measures(&pair, Some(0.97));
    pair.finish(measures)
}

pub(in crate::scenario) fn loss_uplink(seed: u64) -> Outcome {
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

pub(in crate::scenario) fn jitter(seed: u64) -> Outcome {
    let down = LinkConfig {
        jitter: secs(0.2),
        ..LinkConfig::steady(5_000_000)
    };
    let pair = pair(seed, VideoConfig::simulcast(), down, 40.0);
    let measures = smooth_measures(&pair, 0.98, 0.5);
    pair.finish(measures)
}

pub(in crate::scenario) fn reorder(seed: u64) -> Outcome {
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

pub(in crate::scenario) fn feedback_lost(seed: u64) -> Outcome {
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
    measures.standing_queue(&pair.stage, access, 50.0);
    pair.finish(measures)
}
