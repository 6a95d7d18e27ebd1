//! Every scenario of the simulator with fixed seeds: its budgets hold.

use media_bench::scenario::{
    Budget, FIXED_SEEDS, Measure, Row, SCENARIOS, Scenario, Table, run_all,
};

/// Asserts the budgets of the scenarios whose names begin with one of these.
fn check(beginnings: &[&str]) {
    let is_meant = |name: &str| beginnings.iter().any(|it| name.starts_with(it));
    let scenarios = SCENARIOS.iter().filter(|it| is_meant(it.name));
    let runs: Vec<_> = scenarios
        .flat_map(|scenario| FIXED_SEEDS.map(|seed| (scenario, seed)))
        .collect();
    let mut table = Table::default();
    for ((scenario, seed), outcome) in runs.iter().zip(run_all(&runs, |_| ())) {
        table.add(scenario.name, *seed, &outcome.measures);
    }
    let faults = faults(&table);
    assert!(faults.is_empty(), "{}\n\n{table}", faults.join("\n"));
}

/// What is worse than its budget.
fn faults(table: &Table) -> Vec<String> {
    let worse = table.rows().iter().filter(|row| !row.is_met());
    let told = worse.map(|row| {
        let Row {
            scenario,
            metric,
            values,
            ..
        } = row;
        format!("{metric} of {scenario} is worse than its budget: {values:?}")
    });
    told.collect()
}

/// Scenarios that the tests below name.
const STEADY: [&str; 3] = ["steady", "bufferbloat", "nine-streams"];
const CHANGING: [&str; 4] = ["step", "switches", "sizes", "cellular"];
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
fn budget_is_held_by_the_median() {
    let measure = |value| Measure {
        metric: "freeze",
        unit: "s",
        value,
        budget: Budget::AtMost(1.0),
    };
    for (values, expected) in [([0.5, 1.2, 0.9], 0), ([1.2, 0.5, 1.1], 1)] {
        let mut table = Table::default();
        for (seed, value) in (1..).zip(values) {
            table.add("steady", seed, &[measure(value)]);
        }
        assert_eq!(faults(&table).len(), expected, "{values:?}");
    }
}

#[test]
fn same_seed_gives_the_same_run() {
    let scenario = Scenario::find("loss-burst").unwrap();
    let (one, other) = (scenario.run(7), scenario.run(7));
    assert_eq!(one.measures, other.measures);
    assert_eq!(one.timeline, other.timeline);
}
