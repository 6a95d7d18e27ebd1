//! Measures of many seeds as a table.

use std::fmt;

use super::{Budget, Measure};

/// One measure of one scenario over all seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The scenario.
    pub scenario: &'static str,
    /// What was measured.
    pub metric: &'static str,
    /// Of the values.
    pub unit: &'static str,
    /// What the median should be.
    pub budget: Budget,
    /// By seed.
    pub values: Vec<(u64, f64)>,
}

impl Row {
    fn sorted(&self) -> Vec<f64> {
        let mut values: Vec<_> = self.values.iter().map(|(_, value)| *value).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// The median; of an even number the worse of two.
    pub fn median(&self) -> f64 {
        let values = self.sorted();
        let place = match self.budget {
            Budget::AtLeast(_) => values.len().saturating_sub(1) / 2,
            _ => values.len() / 2,
        };
        values.get(place).copied().unwrap_or(f64::NAN)
    }

    /// The worst value; the largest if nothing says what is bad.
    pub fn worst(&self) -> f64 {
        let values = self.sorted();
        let worst = match self.budget {
            Budget::AtLeast(_) => values.first(),
            _ => values.last(),
        };
        worst.copied().unwrap_or(f64::NAN)
    }

    /// True if the median is within the budget.
    pub fn is_met(&self) -> bool {
        self.budget.is_met(self.median())
    }

    /// Seeds whose value is not within the budget.
    pub fn misses(&self) -> impl Iterator<Item = (u64, f64)> + '_ {
        let values = self.values.iter().copied();
        values.filter(|(_, value)| !self.budget.is_met(*value))
    }
}

/// All measures.
#[derive(Clone, Debug, Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// Adds the measures of one run.
    pub fn add(&mut self, scenario: &'static str, seed: u64, measures: &[Measure]) {
        for measure in measures {
            let value = (seed, measure.value);
            let row = self
                .0
                .iter_mut()
                .find(|row| (row.scenario, row.metric) == (scenario, measure.metric));
            match row {
                Some(row) => row.values.push(value),
                None => self.0.push(Row {
                    scenario,
                    metric: measure.metric,
                    unit: measure.unit,
                    budget: measure.budget,
                    values: vec![value],
                }),
            }
        }
    }

    /// Its rows in the order in which they were added.
    pub fn rows(&self) -> &[Row] {
        &self.0
    }
}

const COLUMNS: [(&str, usize); 6] = [
    ("scenario", 16),
    ("metric", 34),
    ("median", 12),
    ("worst", 12),
    ("budget", 10),
    ("met", 5),
];

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_line(f, COLUMNS.map(|(heading, _)| heading.to_owned()))?;
        let mut scenario = "";
        for row in &self.0 {
            let budget = match row.budget {
                Budget::AtLeast(least) => format!("≥ {least}"),
                Budget::AtMost(most) => format!("≤ {most}"),
                Budget::None => "–".to_owned(),
            };
            let met = match (row.budget, row.is_met()) {
                (Budget::None, _) => "",
                (_, true) => "yes",
                (_, false) => "NO",
            };
            let name = if scenario == row.scenario {
                ""
            } else {
                row.scenario
            };
            scenario = row.scenario;
            let number = |value: f64| format!("{} {}", short(value), row.unit);
            write_line(
                f,
                [
                    name.to_owned(),
                    row.metric.to_owned(),
                    number(row.median()),
                    number(row.worst()),
                    budget,
                    met.to_owned(),
                ],
            )?;
        }
        Ok(())
    }
}

fn write_line(f: &mut fmt::Formatter<'_>, cells: [String; COLUMNS.len()]) -> fmt::Result {
    for (cell, (_, width)) in cells.iter().zip(COLUMNS) {
        write!(f, "{cell:<width$}")?;
    }
    writeln!(f)
}

/// Three digits that matter.
fn short(value: f64) -> String {
    if value.is_infinite() {
        return "never".to_owned();
    }
    match value.abs() {
        size if size >= 100.0 || value == value.trunc() => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_decides_and_misses_are_told() {
        let mut table = Table::default();
        for (seed, value) in [(1, 0.9), (2, 0.8), (3, 0.95), (4, 0.7)] {
            let measure = Measure {
                metric: "share",
                unit: "",
                value,
                budget: Budget::AtLeast(0.85),
            };
            table.add("steady", seed, &[measure]);
        }
        let row = &table.rows()[0];
        assert_eq!((row.median(), row.worst(), row.is_met()), (0.8, 0.7, false));
        assert!(row.misses().eq([(2, 0.8), (4, 0.7)]));
    }
}
