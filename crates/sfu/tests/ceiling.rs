//! What the publisher of one stream is asked for on behalf of its viewers.

use std::time::Duration;

use media::{BandwidthLimits, Kilobits};
use media_bench::model::{
    PublisherConfig, PublisherId, Stage, StreamConfig, VideoConfig, ViewerConfig, ViewerId,
};
use media_bench::network::{LinkConfig, RateSchedule};

const SECOND: Duration = Duration::from_secs(1);
const FAST: u64 = 20_000_000;
const RATE_MAX: u64 = 1_500_000;
/// Of 30 pictures per second, those that a viewer sees at least whose publisher follows the path.
const FLUENT: f64 = 24.0;

struct Bed {
    stage: Stage,
    publisher: PublisherId,
    worker: usize,
}

impl Bed {
    /// One stream that costs between 80 kbit/s and [`RATE_MAX`]. Viewers are on the worker with the index.
    fn new(worker: usize) -> Self {
        let mut stage = Stage::with_workers(3, worker + 1);
        let fast = || LinkConfig::steady(FAST);
        let access = stage.add_access(fast(), fast());
        let mut video = VideoConfig::simulcast().plain(2);
        video.layers[0] = StreamConfig {
            rate_min: 80_000,
            rate_max: RATE_MAX,
            ..video.layers[0]
        };
        let publisher = stage.publish(access, PublisherConfig::new(video));
        Self {
            stage,
            publisher,
            worker,
        }
    }

    /// A viewer behind a path with rates in kbit/s from seconds on.
    fn watch(&mut self, rates: &[(u32, u64)]) -> ViewerId {
        let rates = rates.iter();
        let rates: Vec<_> = rates
            .map(|(at, kbps)| (*at * SECOND, kbps * 1000))
            .collect();
        let down = LinkConfig {
            rate: RateSchedule::steps(&rates),
            ..LinkConfig::steady(FAST)
        };
        let access = self.stage.add_access(LinkConfig::steady(FAST), down);
        let config = ViewerConfig::default();
        let (worker, publisher) = (self.worker, self.publisher);
        self.stage.watch_on(worker, access, publisher, config, None)
    }

    fn rate(&self) -> u64 {
        self.stage.publisher(self.publisher).rates()[0]
    }

    /// Pictures seen in the last seconds, per second.
    fn frames_per_second(&self, viewer: ViewerId, window: Duration) -> f64 {
        let now = self.stage.began_at() + self.stage.elapsed();
        let playback = self.stage.viewer(viewer).playback();
        let shown = playback.map_or(&[][..], |playback| playback.shown());
        let shown = shown.iter().rev();
        let recent = shown.take_while(|it| now.saturating_duration_since(it.at) < window);
        recent.count() as f64 / window.as_secs_f64()
    }
}

#[test]
fn publisher_whose_viewers_are_slow_sends_less() {
    for worker in [0, 1] {
        let mut bed = Bed::new(worker);
        let slower = bed.watch(&[(0, 250)]);
        let slow = bed.watch(&[(0, 600)]);
        bed.stage.run_for(40 * SECOND);
        // What the best of them can take; the other gets nothing rather than too much.
        let rate = bed.rate();
        assert!((200_000..600_000).contains(&rate), "{rate}");
        let fps = bed.frames_per_second(slow, 20 * SECOND);
        assert!(fps > FLUENT, "{fps}");
        bed.stage.leave(slow);
        bed.stage.run_for(30 * SECOND);
        let rate = bed.rate();
        assert!((80_000..250_000).contains(&rate), "{rate}");
        let fps = bed.frames_per_second(slower, 20 * SECOND);
        assert!(fps > FLUENT, "{fps}");
    }
}

#[test]
fn one_slow_viewer_does_not_spoil_it_for_the_others() {
    for worker in [0, 1] {
        let mut bed = Bed::new(worker);
        bed.watch(&[(0, 250)]);
        let fast = bed.watch(&[(0, 5_000)]);
        bed.stage.run_for(30 * SECOND);
        let rate = bed.rate();
        assert!(rate > RATE_MAX * 9 / 10, "{rate}");
        assert!(bed.frames_per_second(fast, 20 * SECOND) > 28.0);
    }
}

#[test]
fn publisher_sends_more_when_a_path_recovers() {
    for worker in [0, 1] {
        let mut bed = Bed::new(worker);
        let viewer = bed.watch(&[(0, 5_000), (20, 300), (45, 5_000)]);
        bed.stage.run_until(20 * SECOND);
        assert!(bed.rate() > RATE_MAX * 9 / 10, "{}", bed.rate());
        bed.stage.run_until(45 * SECOND);
        assert!(bed.rate() < 300_000, "{}", bed.rate());
        let fps = bed.frames_per_second(viewer, 10 * SECOND);
        assert!(fps > FLUENT, "{fps}");
        bed.stage.run_until(75 * SECOND);
        assert!(bed.rate() > RATE_MAX * 8 / 10, "{}", bed.rate());
    }
}

#[test]
fn limits_of_the_application_come_first() {
    let mut bed = Bed::new(0);
    bed.watch(&[(0, 200)]);
    let client = bed.stage.client_of(bed.publisher);
    let simulation = &mut bed.stage.simulation;
    let element = simulation.element(client).clone();
    let limits = BandwidthLimits {
        min_video_recv: Some(Kilobits(400)),
        max_video_recv: Some(Kilobits(600)),
        ..BandwidthLimits::default()
    };
    let now = simulation.now();
    let set = simulation.engine_on(0).set_bandwidth(now, &element, limits);
    set.expect("the publisher has an endpoint");
    bed.stage.run_for(30 * SECOND);
    let rate = bed.rate();
    assert!((300_000..=400_000).contains(&rate), "{rate}");
}
