//! `sim`: scenarios of the simulator, with fixed seeds and new ones.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use media_bench::scenario::{Budget, FIXED_SEEDS, Measure, Row, SCENARIOS, Scenario, Table};
use serde::Serialize;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seeds of each scenario: those of the tests first, then ones drawn at random.
    #[arg(long, value_name = "N", default_value_t = FIXED_SEEDS.len())]
    seeds: usize,
    /// Only this scenario; may be repeated.
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// Only this seed, and tell what happened, line by line.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Write one JSON object per line of the table into this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Scenarios with what they do, for the help.
pub(crate) fn list() -> String {
    let lines = SCENARIOS
        .iter()
        .map(|scenario| format!("  {:<16}{}\n", scenario.name, scenario.about));
    format!("Scenarios:\n{}", lines.collect::<String>())
}

/// Runs what is asked for; false if the median of a measure is not within its budget.
#[expect(clippy::print_stdout, reason = "the table is the output")]
pub(crate) fn command(options: &Options) -> io::Result<bool> {
    let scenarios = chosen(&options.scenario)?;
    let seeds = match options.seed {
        Some(seed) => vec![seed],
        None => seeds(options.seeds),
    };
    let runs: Vec<_> = scenarios
        .iter()
        .flat_map(|scenario| seeds.iter().map(move |seed| (*scenario, *seed)))
        .collect();
    let tells = options.seed.is_some();
    let mut table = Table::default();
    for ((scenario, seed), (measures, timeline)) in runs.iter().zip(run(&runs)) {
        if tells {
            println!("{}, seed {seed}", scenario.name);
            for line in timeline {
                println!("{line}");
            }
        }
        table.add(scenario.name, *seed, &measures);
    }
    print!("{table}");
    for row in table.rows() {
        for (seed, value) in row.misses() {
            println!(
                "missed: {}, {}: {value:.3} {}; media-bench sim --scenario {} --seed {seed}",
                row.scenario, row.metric, row.unit, row.scenario
            );
        }
    }
    if let Some(path) = &options.json {
        let mut file = File::create(path)?;
        for row in table.rows() {
            serde_json::to_writer(&mut file, &Line::new(row))?;
            writeln!(file)?;
        }
    }
    Ok(table.rows().iter().all(Row::is_met))
}

fn chosen(names: &[String]) -> io::Result<Vec<&'static Scenario>> {
    if names.is_empty() {
        return Ok(SCENARIOS.iter().collect());
    }
    let unknown = |name| io::Error::other(format!("there is no scenario {name}\n{}", list()));
    names
        .iter()
        .map(|name| Scenario::find(name).ok_or_else(|| unknown(name)))
        .collect()
}

fn seeds(count: usize) -> Vec<u64> {
    let fixed = FIXED_SEEDS.iter().copied();
    let drawn = std::iter::repeat_with(|| u64::from(rand::random::<u32>()));
    fixed.chain(drawn).take(count).collect()
}

/// Runs all on every core, in the order given.
fn run(runs: &[(&'static Scenario, u64)]) -> Vec<(Vec<Measure>, Vec<String>)> {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {eta} {msg}");
    let progress = ProgressBar::new(runs.len() as u64);
    progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let index = next.fetch_add(1, Ordering::Relaxed)
                    && let Some((scenario, seed)) = runs.get(index)
                {
                    progress.set_message(scenario.name);
                    let outcome = scenario.run(*seed);
                    progress.inc(1);
                    let mut done = done.lock().expect("nobody panics with it");
                    done.push((index, (outcome.measures, outcome.timeline)));
                }
            });
        }
    });
    progress.finish_and_clear();
    let mut done = done.into_inner().expect("nobody panics with it");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

/// A row as JSON. Values that never were are null.
#[derive(Serialize)]
struct Line {
    scenario: &'static str,
    metric: &'static str,
    unit: &'static str,
    median: f64,
    worst: f64,
    at_least: Option<f64>,
    at_most: Option<f64>,
    met: bool,
    values: Vec<SeedValue>,
}

#[derive(Serialize)]
struct SeedValue {
    seed: u64,
    value: f64,
}

impl Line {
    fn new(row: &Row) -> Self {
        let (at_least, at_most) = match row.budget {
            Budget::AtLeast(least) => (Some(least), None),
            Budget::AtMost(most) => (None, Some(most)),
            Budget::None => (None, None),
        };
        let values = row.values.iter();
        Self {
            scenario: row.scenario,
            metric: row.metric,
            unit: row.unit,
            median: row.median(),
            worst: row.worst(),
            at_least,
            at_most,
            met: row.is_met(),
            values: values
                .map(|(seed, value)| SeedValue {
                    seed: *seed,
                    value: *value,
                })
                .collect(),
        }
    }
}
