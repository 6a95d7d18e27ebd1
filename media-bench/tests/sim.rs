//! Every scenario of the simulator with fixed seeds: its budgets hold.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use media_bench::scenario::{Budget, FIXED_SEEDS, SCENARIOS, Scenario, Table};

/// What is worse than its budget, by scenario and measure, and the bound that holds instead. One that is within its
/// budget must not be here.
const TOLERATED: &[(&str, &str, Budget)] = &[
    // A key frame of 10 kB alone takes 120 ms through 700 kbit/s.
    ("switches", "key frame after, median", Budget::AtMost(0.3)),
];

/// Runs scenarios with all fixed seeds, on every core.
fn run(scenarios: &[&'static Scenario]) -> Table {
    let runs: Vec<_> = scenarios
        .iter()
        .flat_map(|scenario| FIXED_SEEDS.map(|seed| (*scenario, seed)))
        .collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((scenario, seed)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let measures = scenario.run(*seed).measures;
                    done.lock().expect("nobody panics with it").push((
                        scenario.name,
                        *seed,
                        measures,
                    ));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("nobody panics with it");
    done.sort_by_key(|(name, seed, _)| (SCENARIOS.iter().position(|it| it.name == *name), *seed));
    let mut table = Table::default();
    for (name, seed, measures) in done {
        table.add(name, seed, &measures);
    }
    table
}

/// Asserts the budgets of the scenarios whose names begin with one of these.
fn check(beginnings: &[&str]) {
    let is_meant = |name: &str| beginnings.iter().any(|it| name.starts_with(it));
    let scenarios: Vec<_> = SCENARIOS.iter().filter(|it| is_meant(it.name)).collect();
    let table = run(&scenarios);
    let mut faults = Vec::new();
    for row in table.rows() {
        let tolerated = TOLERATED
            .iter()
            .find(|(scenario, metric, _)| (*scenario, *metric) == (row.scenario, row.metric));
        let is_fine = match tolerated {
            Some((.., bound)) => bound.is_met(row.median()),
            None => row.is_met(),
        };
        if tolerated.is_some() && row.is_met() {
            faults.push(format!(
                "{} of {} needs no tolerance: {:?}",
                row.metric, row.scenario, row.values
            ));
        }
        if !is_fine {
            faults.push(format!(
                "{} of {}: {:?}",
                row.metric, row.scenario, row.values
            ));
        }
    }
    assert!(faults.is_empty(), "{}\n\n{table}", faults.join("\n"));
}

/// Scenarios that the tests below name.
const STEADY: [&str; 3] = ["steady", "bufferbloat", "nine-streams"];
const CHANGING: [&str; 3] = ["step", "switches", "cellular"];
const LOSSY: [&str; 4] = ["loss", "jitter", "reorder", "feedback"];
const JOINING: [&str; 2] = ["join", "two-viewers"];
const PUBLISHING: [&str; 4] = [
    "new-resolution",
    "layer-stops",
    "small-uplink",
    "old-viewer",
];

#[test]
fn steady_path_is_used_without_a_queue() {
    check(&STEADY);
}

#[test]
fn changing_path_is_followed() {
    check(&CHANGING);
}

#[test]
fn loss_and_jitter_are_made_up_for() {
    check(&LOSSY);
}

#[test]
fn viewers_do_not_harm_each_other() {
    check(&JOINING);
}

#[test]
fn whatever_the_publisher_does_is_followed() {
    check(&PUBLISHING);
}

#[test]
fn every_scenario_is_asserted() {
    let names = [&STEADY[..], &CHANGING, &LOSSY, &JOINING, &PUBLISHING].concat();
    for scenario in SCENARIOS {
        let is_named = names.iter().any(|name| scenario.name.starts_with(name));
        assert!(is_named, "{}", scenario.name);
    }
}

#[test]
fn same_seed_gives_the_same_run() {
    let scenario = Scenario::find("loss-burst").unwrap();
    let (one, other) = (scenario.run(7), scenario.run(7));
    assert_eq!(one.measures, other.measures);
    assert_eq!(one.timeline, other.timeline);
}
