//! Two result files side by side: what changed, and whether that means anything.
//!
//! Read [`Change`] first. A verdict needs several runs of both, and a change larger than what runs of the
//! same server differ by.

use crate::record::Record;

/// Runs of a scenario on each side that a verdict needs. Too low: chance is taken for a change. Too high:
/// hours of measuring.
const RUNS_FOR_VERDICT: usize = 3;

/// A figure of a record.
struct Figure {
    name: &'static str,
    of: fn(&Record) -> Option<f64>,
    /// Less of it is better.
    less_is_better: bool,
    decimals: usize,
}

const FIGURES: [Figure; 9] = [
    Figure {
        name: "ns per packet",
        of: |record| record.cpu_ns_per_forwarded_packet,
        less_is_better: true,
        decimals: 0,
    },
    Figure {
        name: "server CPU %",
        of: |record| record.server_cpu_percent,
        less_is_better: true,
        decimals: 2,
    },
    Figure {
        name: "delivered",
        of: |record| (record.subscribers > 0).then_some(record.delivered_ratio),
        less_is_better: false,
        decimals: 5,
    },
    Figure {
        name: "latency p50, µs",
        of: |record| record.latency_us.map(|latency| latency.p50),
        less_is_better: true,
        decimals: 0,
    },
    Figure {
        name: "latency p95, µs",
        of: |record| record.latency_us.map(|latency| latency.p95),
        less_is_better: true,
        decimals: 0,
    },
    Figure {
        name: "latency p99, µs",
        of: |record| record.latency_us.map(|latency| latency.p99),
        less_is_better: true,
        decimals: 0,
    },
    Figure {
        name: "join p50, ms",
        of: |record| record.join_ms.map(|join| join.p50),
        less_is_better: true,
        decimals: 1,
    },
    Figure {
        name: "join p95, ms",
        of: |record| record.join_ms.map(|join| join.p95),
        less_is_better: true,
        decimals: 1,
    },
    Figure {
        name: "KB per subscriber",
        of: |record| record.rss_bytes_per_subscriber.map(|bytes| bytes / 1024.0),
        less_is_better: true,
        decimals: 1,
    },
];

/// Median and range of one figure over the runs of a scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Runs {
    count: usize,
    median: f64,
    least: f64,
    most: f64,
}

impl Runs {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => (values[middle - 1] + values[middle]) / 2.0,
        };
        Some(Self {
            count: values.len(),
            median,
            least,
            most,
        })
    }

    fn range(&self) -> f64 {
        self.most - self.least
    }
}

/// What can be said of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Better,
    Worse,
    /// Within what runs of the same server differ by.
    Within,
    /// Too few runs to know that.
    TooFewRuns,
}

/// One figure of one scenario in both files.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Change {
    old: Runs,
    new: Runs,
    less_is_better: bool,
}

impl Change {
    /// Of the median, as a share of the old one.
    fn share(&self) -> f64 {
        match self.new.median - self.old.median {
            0.0 => 0.0,
            change => change / self.old.median,
        }
    }

    /// The wider range of both, as a share of the old median.
    fn spread(&self) -> f64 {
        match self.old.range().max(self.new.range()) {
            0.0 => 0.0,
            range => range / self.old.median,
        }
    }

    fn verdict(&self) -> Verdict {
        let is_apart = self.new.least > self.old.most || self.new.most < self.old.least;
        if self.old.count.min(self.new.count) < RUNS_FOR_VERDICT {
            Verdict::TooFewRuns
        } else if !is_apart || self.share().abs() <= self.spread() {
            Verdict::Within
        } else if (self.new.median < self.old.median) == self.less_is_better {
            Verdict::Better
        } else {
            Verdict::Worse
        }
    }
}

/// The comparison as text, scenario by scenario.
pub(crate) fn compare(old: &[Record], new: &[Record]) -> String {
    let mut text = format!(
        "{:<14}{:<18}{:>12}{:>12}{:>11}{:>9}  verdict\n",
        "scenario", "figure", "old", "new", "change", "spread"
    );
    let mut names: Vec<&str> = Vec::new();
    for record in old.iter().chain(new) {
        if !names.contains(&record.scenario.as_str()) {
            names.push(&record.scenario);
        }
    }
    for name in names {
        let runs = |records: &[Record], of: fn(&Record) -> Option<f64>| {
            let records = records.iter().filter(|record| record.scenario == name);
            Runs::of(records.filter_map(of))
        };
        for figure in &FIGURES {
            let (Some(old), Some(new)) = (runs(old, figure.of), runs(new, figure.of)) else {
                continue;
            };
            let change = Change {
                old,
                new,
                less_is_better: figure.less_is_better,
            };
            text += &line(name, figure, &change);
        }
        let is_in = |records: &[Record]| records.iter().any(|record| record.scenario == name);
        if is_in(old) != is_in(new) {
            let place = if is_in(old) { "old" } else { "new" };
            text += &format!("{name:<14}only in the {place} file\n");
        }
    }
    text
}

fn line(scenario: &str, figure: &Figure, change: &Change) -> String {
    let decimals = figure.decimals;
    let verdict = match change.verdict() {
        Verdict::Better => "better".to_owned(),
        Verdict::Worse => "WORSE".to_owned(),
        Verdict::Within => "within the spread".to_owned(),
        Verdict::TooFewRuns => {
            let (old, new) = (change.old.count, change.new.count);
            format!("none: {old} and {new} runs, {RUNS_FOR_VERDICT} needed")
        }
    };
    format!(
        "{scenario:<14}{:<18}{:>12.decimals$}{:>12.decimals$}{:>+10.1}%{:>8.1}%  {verdict}\n",
        figure.name,
        change.old.median,
        change.new.median,
        change.share() * 100.0,
        change.spread() * 100.0,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(old: &[f64], new: &[f64], less_is_better: bool, expected: Verdict) {
        let runs = |values: &[f64]| Runs::of(values.iter().copied()).unwrap();
        let change = Change {
            old: runs(old),
            new: runs(new),
            less_is_better,
        };
        assert_eq!(change.verdict(), expected, "{old:?} → {new:?}");
    }

    #[test]
    fn verdict_needs_more_than_the_spread() {
        let old = [100.0, 102.0, 104.0];
        check(&old, &[90.0, 91.0, 92.0], true, Verdict::Better);
        check(&old, &[90.0, 91.0, 92.0], false, Verdict::Worse);
        check(&old, &[110.0, 111.0, 112.0], true, Verdict::Worse);
        check(&old, &[99.0, 103.0, 101.0], true, Verdict::Within);
        // Apart, but by less than each side varies.
        check(&old, &[105.0, 105.5, 106.0], true, Verdict::Within);
        // The median moved far, but one run of each is alike.
        check(&old, &[50.0, 60.0, 100.0], true, Verdict::Within);
        check(&old, &old, true, Verdict::Within);
        check(&[0.0; 3], &[0.0; 3], true, Verdict::Within);
        check(&old, &[50.0, 51.0], true, Verdict::TooFewRuns);
    }

    #[test]
    fn median_is_in_the_middle() {
        let median = |values: &[f64]| Runs::of(values.iter().copied()).map(|runs| runs.median);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn scenarios_are_compared_by_name() {
        let record = |scenario: &str, cpu| Record {
            scenario: scenario.to_owned(),
            cpu_ns_per_forwarded_packet: Some(cpu),
            ..Record::default()
        };
        let old = [record("a", 100.0), record("b", 10.0)];
        let new = [record("a", 50.0), record("c", 10.0)];
        let text = compare(&old, &new);
        let line = |start: &str| text.lines().find(|line| line.starts_with(start));
        assert!(
            line("a").is_some_and(|line| line.contains("-50.0%")),
            "{text}"
        );
        assert!(line("b").is_some_and(|line| line.ends_with("only in the old file")));
        assert!(line("c").is_some_and(|line| line.ends_with("only in the new file")));
    }
}
