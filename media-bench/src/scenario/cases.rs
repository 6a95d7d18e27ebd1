//! What happens in each scenario, and what is measured.

mod changes;
mod faults;
mod rates;

use crate::model::{
    Access, PublisherConfig, PublisherId, Stage, VideoConfig, ViewerConfig, ViewerId,
};
use crate::network::LinkConfig;
use crate::scenario::measure::Measures;
use crate::scenario::{Outcome, secs};

pub(super) use self::changes::{
    join_middle, join_storm, layer_stops, new_resolution, small_uplink,
};
pub(super) use self::faults::{
    feedback_lost, jitter, loss, loss_both, loss_burst, loss_uplink, reorder,
};
pub(super) use self::rates::{
    bufferbloat, cellular, nine_streams, old_viewer, sizes_chosen, steady, steady_small, step,
    switches, two_viewers,
};

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
