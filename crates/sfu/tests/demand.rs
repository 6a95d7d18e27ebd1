//! Which simulcast streams a publisher is told that anybody watches, and what its viewers get meanwhile.

use std::time::Duration;

use media::{Delivery, Event, VideoDelivery, VideoLayer, VideoPriority};
use media_bench::model::{PublisherConfig, PublisherId, Stage, VideoConfig};
use media_bench::model::{ViewerConfig, ViewerId};
use media_bench::network::{LinkConfig, RateSchedule};

const SECOND: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);
const FAST: u64 = 20_000_000;

const BEST: Delivery = Delivery {
    audio: true,
    video: true,
    height_max: None,
    frame_rate_max: None,
    priority: VideoPriority::Normal,
    layer_max: None,
};

/// Pictures no higher than those of the smallest stream.
const SMALL: Delivery = Delivery {
    height_max: Some(180),
    ..BEST
};

/// A publisher of three streams.
struct Bed {
    stage: Stage,
    publisher: PublisherId,
    worker: usize,
    obeys: bool,
    events_seen: usize,
    /// Which streams are wanted, lowest first, each time that it was told.
    told: Vec<[bool; 3]>,
}

impl Bed {
    /// Viewers are on the worker with the index.
    fn new(worker: usize, obeys: bool) -> Self {
        let mut stage = Stage::with_workers(1, worker + 1);
        let fast = || LinkConfig::steady(FAST);
        let access = stage.add_access(fast(), fast());
        let publisher = stage.publish(access, PublisherConfig::new(VideoConfig::simulcast()));
        Self {
            stage,
            publisher,
            worker,
            obeys,
            events_seen: 0,
            told: Vec::new(),
        }
    }

    fn watch(&mut self, down: LinkConfig) -> ViewerId {
        let access = self.stage.add_access(LinkConfig::steady(FAST), down);
        let config = ViewerConfig::default();
        let (worker, publisher) = (self.worker, self.publisher);
        self.stage.watch_on(worker, access, publisher, config, None)
    }

    fn wish(&mut self, viewer: ViewerId, delivery: Delivery) {
        let client = self.stage.client(viewer);
        let simulation = &mut self.stage.simulation;
        let element = simulation.element(client).clone();
        let now = simulation.now();
        let engine = simulation.engine_on(self.worker);
        let told = engine.set_delivery(now, &element, delivery);
        told.expect("the viewer has an endpoint");
    }

    fn run_for(&mut self, duration: Duration) {
        let end = self.stage.elapsed() + duration;
        while self.stage.elapsed() < end {
            self.stage.run_for(STEP);
            let told = self.stage.told_of(self.publisher);
            for told in &told[self.events_seen..] {
                if let Event::LayerDemandChanged(layers) = &told.event {
                    let rids: Vec<_> = layers.iter().map(|layer| layer.rid.as_str()).collect();
                    assert_eq!(rids, ["q", "h", "f"]);
                    self.told.push([0, 1, 2].map(|layer| layers[layer].wanted));
                }
            }
            self.events_seen = told.len();
            if let Some(wanted) = self.told.last().filter(|_| self.obeys) {
                for (layer, wanted) in wanted.iter().enumerate() {
                    let publisher = self.stage.publisher_mut(self.publisher);
                    publisher.enable(layer, *wanted);
                }
            }
        }
    }

    /// Lets time pass until the viewer sees pictures of a height. Returns how long that took.
    fn wait_for(&mut self, viewer: ViewerId, height: u16) -> Duration {
        let began = self.stage.elapsed();
        while self.height(viewer) != Some(height) {
            self.run_for(STEP);
            let waited = self.stage.elapsed() - began;
            let (seen, told) = (self.height(viewer), &self.told);
            assert!(waited < 30 * SECOND, "{seen:?} of {height}, {told:?}");
        }
        self.stage.elapsed() - began
    }

    fn height(&self, viewer: ViewerId) -> Option<u16> {
        let playback = self.stage.viewer(viewer).playback()?;
        playback.shown().last().map(|picture| picture.height)
    }

    /// The longest time without a picture in the last seconds.
    fn longest_gap(&self, viewer: ViewerId, window: Duration) -> Duration {
        let now = self.stage.began_at() + self.stage.elapsed();
        let playback = self.stage.viewer(viewer).playback();
        let shown = playback.map_or(&[][..], |playback| playback.shown());
        let times = shown.iter().map(|picture| picture.at);
        let times = times.filter(|at| now.saturating_duration_since(*at) < window);
        let times: Vec<_> = times.chain([now]).collect();
        let gaps = times
            .windows(2)
            .map(|pair| pair[1].saturating_duration_since(pair[0]));
        gaps.max().unwrap_or(window)
    }
}

#[test]
fn stream_that_nobody_watches_rests_until_somebody_would() {
    for (worker, obeys) in [(0, true), (0, false), (1, true), (1, false)] {
        let mut bed = Bed::new(worker, obeys);
        let viewer = bed.watch(LinkConfig::steady(FAST));
        bed.run_for(15 * SECOND);
        assert_eq!(bed.height(viewer), Some(720));

        bed.wish(viewer, SMALL);
        bed.run_for(10 * SECOND);
        assert_eq!(
            bed.told.last(),
            Some(&[true, false, false]),
            "{worker} {obeys}"
        );
        assert_eq!(bed.height(viewer), Some(180));
        let rates = bed.stage.publisher(bed.publisher).rates();
        assert_eq!((rates[1] > 0, rates[2] > 0), (!obeys, !obeys));
        // However long that is.
        let told = bed.told.len();
        bed.run_for(60 * SECOND);
        assert_eq!(bed.told.len(), told);

        bed.wish(viewer, BEST);
        let took = bed.wait_for(viewer, 720);
        assert!(took < 6 * SECOND, "{took:?}");
        bed.run_for(10 * SECOND);
        assert_eq!(bed.height(viewer), Some(720));
        let gap = bed.longest_gap(viewer, 85 * SECOND);
        assert!(gap < SECOND / 2, "{gap:?}");
        assert_eq!(bed.told.last(), Some(&[true, false, true]));
    }
}

#[test]
fn first_viewer_wakes_what_nobody_has_watched() {
    let mut bed = Bed::new(0, true);
    bed.run_for(20 * SECOND);
    assert_eq!(bed.told.last(), Some(&[true, false, false]));
    let viewer = bed.watch(LinkConfig::steady(FAST));
    let took = bed.wait_for(viewer, 720);
    assert!(took < 10 * SECOND, "{took:?}");
}

#[test]
fn viewer_on_a_path_that_recovers_is_not_stuck_with_what_is_sent() {
    for worker in [0, 1] {
        let mut bed = Bed::new(worker, true);
        let rates = [(0, FAST), (15, 250_000), (60, FAST)];
        let rates = rates.map(|(at, rate)| (at * SECOND, rate));
        let down = LinkConfig {
            rate: RateSchedule::steps(&rates),
            ..LinkConfig::steady(FAST)
        };
        let viewer = bed.watch(down);
        bed.run_for(15 * SECOND);
        assert_eq!(bed.height(viewer), Some(720));
        bed.run_for(45 * SECOND);
        assert_eq!(bed.height(viewer), Some(180));
        // Probes may let it hope for the middle one.
        assert!(bed.told.last().is_some_and(|wanted| !wanted[2]));
        let took = bed.wait_for(viewer, 720);
        assert!(took < 20 * SECOND, "{took:?}");
    }
}

#[test]
fn forced_layer_keeps_its_number_while_others_rest() {
    let mut bed = Bed::new(0, true);
    let viewer = bed.watch(LinkConfig::steady(FAST));
    bed.run_for(15 * SECOND);
    for (spatial, height) in [(0, 180), (1, 360), (2, 720), (1, 360)] {
        let layer = VideoLayer {
            spatial,
            temporal: u8::MAX,
        };
        let delivery = Delivery {
            layer_max: Some(layer),
            ..BEST
        };
        bed.wish(viewer, delivery);
        bed.wait_for(viewer, height);
        bed.run_for(10 * SECOND);
        assert_eq!(bed.height(viewer), Some(height));
        let told = bed.stage.told(viewer).iter().rev();
        let sent = told.filter_map(|told| match told.event {
            Event::VideoDeliveryChanged(VideoDelivery::Sent {
                layer,
                spatial_layers,
                ..
            }) => Some((layer.spatial, spatial_layers)),
            _ => None,
        });
        assert_eq!(sent.clone().next(), Some((spatial, 3)));
    }
}

#[test]
fn wishes_that_change_all_the_time_bring_few_changes() {
    let mut bed = Bed::new(0, true);
    let viewer = bed.watch(LinkConfig::steady(FAST));
    bed.run_for(15 * SECOND);
    let wish = |turn: usize| if turn.is_multiple_of(2) { SMALL } else { BEST };
    for (turns, every) in [(300, STEP), (10, 6 * SECOND)] {
        for turn in 0..turns {
            bed.wish(viewer, wish(turn));
            bed.run_for(every);
        }
    }
    assert!(bed.told.len() <= 25, "{}", bed.told.len());
}
