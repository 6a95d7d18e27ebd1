//! `sim`: scenarios of the simulator, with fixed seeds and new ones.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use media_bench::scenario::{
    Budget, FIXED_SEEDS, Outcome, Row, SCENARIOS, Scenario, Table, run_all,
};
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
    for ((scenario, seed), outcome) in runs.iter().zip(run(&runs)) {
        if tells {
            println!("{}, seed {seed}", scenario.name);
            for line in outcome.timeline {
                println!("{line}");
            }
        }
        table.add(scenario.name, *seed, &outcome.measures);
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

fn run(runs: &[(&'static Scenario, u64)]) -> Vec<Outcome> {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {eta} {msg}");
    let progress = ProgressBar::new(runs.len() as u64);
    progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let outcomes = run_all(runs, |scenario| {
        progress.set_message(scenario.name);
        progress.inc(1);
    });
    progress.finish_and_clear();
    outcomes
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
