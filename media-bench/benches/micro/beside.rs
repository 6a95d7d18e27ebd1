//! A step beside its floor: [`Table`].

use std::fmt;
use std::time::{Duration, Instant};

/// Samples of each, taken in turns so that a disturbance meets both.
const SAMPLES: usize = 61;

/// Length of a sample. Too short: the clock itself weighs. Too long: each holds a disturbance.
const SAMPLE_TIME: Duration = Duration::from_micros(500);

/// Medians of both, in nanoseconds.
struct Row {
    name: String,
    ours: f64,
    floor: f64,
    /// What the floor is.
    floor_name: &'static str,
}

/// All that was measured.
pub(super) struct Table {
    filters: Vec<String>,
    rows: Vec<Row>,
}

impl Table {
    /// Rows whose name holds a word of the command line; all if there is none.
    pub(super) fn from_arguments() -> Self {
        let words = std::env::args().skip(1);
        Self {
            filters: words.filter(|word| !word.starts_with('-')).collect(),
            rows: Vec::new(),
        }
    }

    /// True if a step of this name shall be measured.
    pub(super) fn wants(&self, name: &str) -> bool {
        let mut filters = self.filters.iter();
        self.filters.is_empty() || filters.any(|filter| name.contains(filter.as_str()))
    }

    /// Measures a step and its floor.
    pub(super) fn measure(
        &mut self,
        name: &str,
        floor_name: &'static str,
        mut ours: impl FnMut(),
        mut floor: impl FnMut(),
    ) {
        if !self.wants(name) {
            return;
        }
        let (our_rounds, floor_rounds) = (rounds(&mut ours), rounds(&mut floor));
        let samples: Vec<_> = (0..SAMPLES)
            .map(|_| {
                (
                    sample(our_rounds, &mut ours),
                    sample(floor_rounds, &mut floor),
                )
            })
            .collect();
        self.add(name, floor_name, samples);
    }

    /// Takes samples of a step and its floor, in nanoseconds.
    pub(super) fn add(&mut self, name: &str, floor_name: &'static str, samples: Vec<(f64, f64)>) {
        let (ours, floor) = samples.into_iter().unzip();
        self.rows.push(Row {
            name: name.to_owned(),
            ours: median(ours),
            floor: median(floor),
            floor_name,
        });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<34}{:>10}{:>10}{:>8}  floor is",
            "median, ns", "ours", "floor", "ratio"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:<34}{:>10.1}{:>10.1}{:>8.2}  {}",
                row.name,
                row.ours,
                row.floor,
                row.ours / row.floor,
                row.floor_name
            )?;
        }
        Ok(())
    }
}

/// How often something fits into a sample.
fn rounds(step: &mut impl FnMut()) -> u32 {
    let mut rounds = 1;
    loop {
        let spent = Duration::from_nanos((sample(rounds, step) * f64::from(rounds)) as u64);
        if spent >= SAMPLE_TIME || rounds > u32::MAX / 2 {
            return rounds;
        }
        rounds *= 2;
    }
}

fn sample(rounds: u32, step: &mut impl FnMut()) -> f64 {
    let began = Instant::now();
    for _ in 0..rounds {
        step();
    }
    began.elapsed().as_nanos() as f64 / f64::from(rounds)
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(0.0)
}
