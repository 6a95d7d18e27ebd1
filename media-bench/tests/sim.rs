//! Scenarios of the simulator with fixed seeds: their budgets hold.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use media_bench::scenario::{FIXED_SEEDS, Row, SCENARIOS, Scenario, Table};

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

fn check(names: &[&str]) {
    let scenarios: Vec<_> = names
        .iter()
        .map(|name| Scenario::find(name).expect("a name of the table"))
        .collect();
    let table = run(&scenarios);
    assert!(table.rows().iter().all(Row::is_met), "\n{table}");
}

#[test]
fn media_reaches_its_viewers_soundly() {
    check(&["reorder", "loss-1", "new-resolution", "join-middle"]);
}

#[test]
fn same_seed_gives_the_same_run() {
    let scenario = Scenario::find("loss-burst").unwrap();
    let (one, other) = (scenario.run(7), scenario.run(7));
    assert_eq!(one.measures, other.measures);
    assert_eq!(one.timeline, other.timeline);
}
