//! Closed loops of estimator, pacer and a simulated link: how much of the capacity is used, how long queues are, how
//! fast a change is followed. Budgets are asserted for fixed seeds; the whole table is printed.

#![expect(clippy::print_stdout, reason = "the table is for reading")]

#[path = "congestion/world.rs"]
mod world;

use std::time::Duration;

use media_bench::network::{ActiveQueue, LinkConfig, Loss, QueueLimit, RateSchedule};
use world::{Media, World};

const SEEDS: [u64; 3] = [1, 2, 3];

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Where trouble on the way back is no matter.
fn back() -> LinkConfig {
    LinkConfig::steady(10_000_000)
}

fn elastic(config: LinkConfig, seed: u64, seconds: f64) -> World {
    let mut world = World::new(config, back(), seed);
    world.add(Media::Elastic(20_000_000), 1, Duration::ZERO);
    world.run(secs(seconds));
    world
}

/// One line of the table.
struct Row {
    scenario: String,
    metric: &'static str,
    unit: &'static str,
    /// By seed.
    values: Vec<f64>,
    /// At least, at most.
    budget: (f64, f64),
}

impl Row {
    fn median(&self) -> f64 {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    fn is_met(&self) -> bool {
        (self.budget.0..=self.budget.1).contains(&self.median())
    }
}

#[derive(Default)]
struct Table(Vec<Row>);

impl Table {
    fn at_least(&mut self, scenario: &str, metric: &'static str, budget: f64, values: Vec<f64>) {
        self.add(scenario, metric, "", (budget, f64::INFINITY), values);
    }

    fn at_most(
        &mut self,
        scenario: &str,
        metric: &'static str,
        unit: &'static str,
        budget: f64,
        values: Vec<f64>,
    ) {
        self.add(scenario, metric, unit, (0.0, budget), values);
    }

    /// Without a budget.
    fn tell(&mut self, scenario: &str, metric: &'static str, unit: &'static str, values: Vec<f64>) {
        self.add(
            scenario,
            metric,
            unit,
            (f64::NEG_INFINITY, f64::INFINITY),
            values,
        );
    }

    fn add(
        &mut self,
        scenario: &str,
        metric: &'static str,
        unit: &'static str,
        budget: (f64, f64),
        values: Vec<f64>,
    ) {
        self.0.push(Row {
            scenario: scenario.to_owned(),
            metric,
            unit,
            values,
            budget,
        });
    }

    fn finish(self) {
        println!("| scenario | metric | median | values | budget | met |");
        println!("|---|---|---|---|---|---|");
        for row in &self.0 {
            let budget = match row.budget {
                (f64::NEG_INFINITY, f64::INFINITY) => "–".to_owned(),
                (low, f64::INFINITY) => format!("≥ {low}"),
                (_, high) => format!("≤ {high}"),
            };
            let values: Vec<_> = row
                .values
                .iter()
                .map(|value| format!("{value:.2}"))
                .collect();
            println!(
                "| {} | {} | {:.2} {} | {} | {} | {} |",
                row.scenario,
                row.metric,
                row.median(),
                row.unit,
                values.join(" "),
                budget,
                if row.is_met() { "yes" } else { "NO" },
            );
        }
        let missed: Vec<_> = self.0.iter().filter(|row| !row.is_met()).collect();
        let missed: Vec<_> = missed
            .iter()
            .map(|row| format!("{}: {}", row.scenario, row.metric))
            .collect();
        assert!(missed.is_empty(), "budgets missed: {missed:?}");
    }
}

fn each<T>(run: impl Fn(u64) -> T) -> Vec<T> {
    SEEDS.into_iter().map(run).collect()
}

fn shares_and_queues(
    table: &mut Table,
    scenario: &str,
    config: &LinkConfig,
    share: f64,
    queue: f64,
) {
    let worlds = each(|seed| elastic(config.clone(), seed, 40.0));
    table.at_least(
        scenario,
        "share of capacity",
        share,
        worlds.iter().map(|world| world.share(10.0, 40.0)).collect(),
    );
    table.at_most(
        scenario,
        "standing queue",
        "ms",
        queue,
        worlds
            .iter()
            .map(|world| world.queue_ms(10.0, 40.0, 0.5))
            .collect(),
    );
    let lost = worlds.iter().map(|world| 100.0 * world.lost()).collect();
    table.tell(scenario, "lost", "%", lost);
    table.tell(
        scenario,
        "queue, 95 %",
        "ms",
        worlds
            .iter()
            .map(|world| world.queue_ms(10.0, 40.0, 0.95))
            .collect(),
    );
}

#[test]
fn steady_links_are_used_without_a_queue() {
    let mut table = Table::default();
    for kbps in [100, 200, 300, 500, 1_000, 2_000, 3_000, 5_000] {
        let scenario = format!("steady {kbps} kbit/s");
        shares_and_queues(
            &mut table,
            &scenario,
            &LinkConfig::steady(1000 * kbps),
            0.85,
            50.0,
        );
    }
    table.finish();
}

fn stepping(queue: QueueLimit) -> LinkConfig {
    let rate = RateSchedule::steps(&[
        (secs(0.0), 3_000_000),
        (secs(20.0), 300_000),
        (secs(40.0), 3_000_000),
    ]);
    LinkConfig {
        rate,
        queue,
        ..LinkConfig::steady(1)
    }
}

#[test]
fn steps_are_followed() {
    let mut table = Table::default();
    let queues = [
        ("queue of 300 ms", QueueLimit::Delay(ms(300)), 2.0),
        // It is full before the first report of the step is here, and takes 1.6 s to drain if nothing is sent at all.
        ("queue of 60 kB", QueueLimit::Bytes(60_000), 2.5),
    ];
    for (name, queue, drained) in queues {
        let medias = [
            ("elastic", Media::Elastic(20_000_000)),
            (
                "layers",
                Media::Layered(vec![100_000, 200_000, 500_000, 1_500_000, 2_500_000]),
            ),
        ];
        for (media_name, media) in medias {
            let worlds = each(|seed| {
                let mut world = World::new(stepping(queue), back(), seed);
                world.add(media.clone(), 1, Duration::ZERO);
                world.run(secs(60.0));
                world
            });
            let scenario = format!("3 M → 300 k → 3 M, {name}, {media_name}");
            let by = |metric: fn(&World) -> f64| worlds.iter().map(metric).collect::<Vec<_>>();
            table.at_most(
                &scenario,
                "under capacity after",
                "s",
                1.0,
                by(|world| world.below_capacity_after(20.0)),
            );
            table.at_most(
                &scenario,
                "queue drained after",
                "s",
                drained,
                by(|world| world.drained_after(20.0, 20)),
            );
            table.at_most(
                &scenario,
                "90 % of the best layer after",
                "s",
                8.0,
                by(|world| world.reached_after(40.0, 2_290_000)),
            );
            table.at_least(
                &scenario,
                "share before",
                0.8,
                by(|world| world.share(12.0, 20.0)),
            );
        }
    }
    table.finish();
}

#[test]
fn good_path_is_found_soon() {
    let mut table = Table::default();
    for kbps in [300, 1_000, 3_000, 10_000] {
        let worlds = each(|seed| elastic(LinkConfig::steady(1000 * kbps), seed, 20.0));
        let scenario = format!("start at {kbps} kbit/s");
        let found = |world: &World| world.reached_after(0.0, 800 * kbps);
        table.at_most(
            &scenario,
            "80 % found after",
            "s",
            3.0,
            worlds.iter().map(found).collect(),
        );
    }
    table.finish();
}

#[test]
fn trouble_that_is_no_congestion_is_ridden_out() {
    let mut table = Table::default();
    let steady = LinkConfig::steady;
    for percent in [1, 5, 10, 20] {
        let config = LinkConfig {
            loss: Loss::Random(f64::from(percent) / 100.0),
            ..steady(1_000_000)
        };
        shares_and_queues(
            &mut table,
            &format!("1 M, {percent} % loss"),
            &config,
            0.9 * (1.0 - f64::from(percent) / 100.0),
            50.0,
        );
    }
    let burst = Loss::Burst {
        begins: 0.002,
        ends: 0.2,
        loss: 0.8,
    };
    let config = LinkConfig {
        loss: burst,
        ..steady(1_000_000)
    };
    shares_and_queues(&mut table, "1 M, bursts of loss", &config, 0.85, 50.0);
    for reorders in [false, true] {
        let config = LinkConfig {
            jitter: ms(200),
            jitter_reorders: reorders,
            ..steady(1_000_000)
        };
        let name = if reorders {
            "1 M, 200 ms jitter with reordering"
        } else {
            "1 M, 200 ms jitter"
        };
        shares_and_queues(&mut table, name, &config, 0.7, 100.0);
    }
    let config = LinkConfig {
        jitter: ms(30),
        ..steady(1_000_000)
    };
    shares_and_queues(&mut table, "1 M, 30 ms jitter", &config, 0.85, 50.0);
    let config = LinkConfig {
        reorder: 0.05,
        reorder_delay: ms(30),
        duplicate: 0.02,
        ..steady(1_000_000)
    };
    shares_and_queues(
        &mut table,
        "1 M, reordering and duplicates",
        &config,
        0.85,
        50.0,
    );
    let config = LinkConfig {
        delay: ms(150),
        ..steady(1_000_000)
    };
    shares_and_queues(&mut table, "1 M, 300 ms round trip", &config, 0.85, 50.0);
    table.finish();
}

#[test]
fn queues_of_others_making_are_kept_short() {
    let mut table = Table::default();
    let steady = LinkConfig::steady;
    let config = LinkConfig {
        queue: QueueLimit::Delay(secs(2.0)),
        ..steady(1_000_000)
    };
    shares_and_queues(&mut table, "1 M, queue of 2 s", &config, 0.85, 50.0);
    let active = ActiveQueue {
        target: ms(5),
        interval: ms(100),
    };
    let config = LinkConfig {
        active_queue: Some(active),
        ..steady(1_000_000)
    };
    shares_and_queues(&mut table, "1 M, CoDel", &config, 0.85, 50.0);
    // One and a half packets: whatever leaves in a burst is lost, and no rate helps.
    let config = LinkConfig {
        queue: QueueLimit::Delay(ms(15)),
        ..steady(1_000_000)
    };
    shares_and_queues(&mut table, "1 M, queue of 15 ms", &config, 0.7, 50.0);
    let config = LinkConfig {
        queue: QueueLimit::Delay(ms(30)),
        ..steady(1_000_000)
    };
    shares_and_queues(&mut table, "1 M, queue of 30 ms", &config, 0.85, 50.0);
    let rates =
        [1_500, 900, 600, 1_200, 2_000, 400, 800, 1_800, 1_000, 500].map(|kbps| 1000 * kbps);
    let config = LinkConfig {
        rate: RateSchedule::trace(ms(1500), &rates),
        ..steady(1)
    };
    shares_and_queues(&mut table, "cellular-like trace", &config, 0.6, 60.0);
    table.finish();
}

#[test]
fn bottleneck_is_shared() {
    let mut table = Table::default();
    let config = LinkConfig::steady(3_000_000);
    // One participant, a connection per stream, one estimate.
    let worlds = each(|seed| {
        let mut world = World::new(config.clone(), back(), seed);
        world.add(Media::Elastic(20_000_000), 9, Duration::ZERO);
        world.run(secs(60.0));
        world
    });
    table.at_least(
        "3 M, 9 connections of one group",
        "share of capacity",
        0.85,
        worlds.iter().map(|it| it.share(10.0, 60.0)).collect(),
    );
    table.at_most(
        "3 M, 9 connections of one group",
        "standing queue",
        "ms",
        50.0,
        worlds
            .iter()
            .map(|it| it.queue_ms(10.0, 60.0, 0.5))
            .collect(),
    );
    let worlds = each(|seed| {
        let mut world = World::new(config.clone(), back(), seed);
        for flow in 0..3 {
            world.add(Media::Elastic(20_000_000), 1, secs(f64::from(flow) * 10.0));
        }
        world.run(secs(120.0));
        world
    });
    table.at_least(
        "3 M, three estimates",
        "share of capacity",
        0.85,
        worlds.iter().map(|it| it.share(40.0, 120.0)).collect(),
    );
    table.at_most(
        "3 M, three estimates",
        "standing queue",
        "ms",
        50.0,
        worlds
            .iter()
            .map(|it| it.queue_ms(40.0, 120.0, 0.5))
            .collect(),
    );
    let least = |world: &World| {
        world
            .shares_of_flows(60.0, 120.0)
            .into_iter()
            .fold(1.0, f64::min)
    };
    table.at_least(
        "3 M, three estimates",
        "least share of a flow",
        0.2,
        worlds.iter().map(least).collect(),
    );
    table.finish();
}

#[test]
fn feedback_that_is_lost_does_little_harm() {
    let mut table = Table::default();
    let worlds = each(|seed| {
        let lossy = LinkConfig {
            loss: Loss::Random(0.3),
            ..back()
        };
        let mut world = World::new(LinkConfig::steady(1_000_000), lossy, seed);
        world.add(Media::Elastic(20_000_000), 1, Duration::ZERO);
        world.run(secs(40.0));
        world
    });
    table.at_least(
        "1 M, 30 % of feedback lost",
        "share of capacity",
        0.8,
        worlds.iter().map(|it| it.share(10.0, 40.0)).collect(),
    );
    table.at_most(
        "1 M, 30 % of feedback lost",
        "standing queue",
        "ms",
        50.0,
        worlds
            .iter()
            .map(|it| it.queue_ms(10.0, 40.0, 0.5))
            .collect(),
    );
    table.finish();
}
