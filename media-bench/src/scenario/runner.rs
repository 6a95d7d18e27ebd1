//! Many runs at once: [`run_all`].

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{Outcome, Scenario};

/// Runs scenarios with seeds, on every core. Calls `finished` after each, and gives what came of them in their order.
pub fn run_all(
    runs: &[(&'static Scenario, u64)],
    finished: impl Fn(&Scenario) + Sync,
) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(runs.len()));
    let work = || {
        while let index = next.fetch_add(1, Ordering::Relaxed)
            && let Some((scenario, seed)) = runs.get(index)
        {
            let outcome = scenario.run(*seed);
            finished(scenario);
            let mut done = done.lock().expect("nobody panics with it");
            done.push((index, outcome));
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut done = done.into_inner().expect("nobody panics with it");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}
