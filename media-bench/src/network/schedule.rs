//! A rate that changes over time: [`RateSchedule`].

use std::time::Duration;

/// Bits per second in steps. Before the first step its rate holds already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateSchedule {
    /// Start of each step and its rate, in order; at least one.
    steps: Vec<(Duration, u64)>,
    /// After this time it begins anew.
    period: Option<Duration>,
}

impl RateSchedule {
    /// One rate for ever.
    pub fn constant(bits_per_second: u64) -> Self {
        Self::steps(&[(Duration::ZERO, bits_per_second)])
    }

    /// Rates from their times on. No rate is below 1 bit/s.
    ///
    /// # Panics
    /// Without steps, or if they are not in order.
    pub fn steps(steps: &[(Duration, u64)]) -> Self {
        assert!(!steps.is_empty(), "a link has a rate");
        assert!(steps.is_sorted_by_key(|(at, _)| *at), "steps are in order");
        let steps = steps.iter().map(|(at, rate)| (*at, (*rate).max(1)));
        Self {
            steps: steps.collect(),
            period: None,
        }
    }

    /// A trace of rates, each for `interval`, again and again.
    ///
    /// # Panics
    /// If the trace is empty or the interval zero.
    pub fn trace(interval: Duration, rates: &[u64]) -> Self {
        assert!(!interval.is_zero(), "time passes");
        let steps: Vec<_> = (0..)
            .zip(rates)
            .map(|(index, rate)| (interval * index, *rate))
            .collect();
        Self {
            period: Some(interval * steps.len() as u32),
            ..Self::steps(&steps)
        }
    }

    /// The rate at a time.
    pub fn at(&self, time: Duration) -> u64 {
        self.step(time).0
    }

    /// When `size_bytes` that begin at `start` are through.
    pub fn finish(&self, start: Duration, size_bytes: usize) -> Duration {
        let mut bits = 8.0 * size_bytes as f64;
        let mut time = start;
        loop {
            let (rate, ends) = self.step(time);
            let needed = Duration::from_secs_f64((bits / rate as f64).min(1e9));
            match ends {
                Some(ends) if time + needed > ends => {
                    bits -= (ends - time).as_secs_f64() * rate as f64;
                    time = ends;
                }
                _ => return time + needed,
            }
        }
    }

    /// The rate at a time, and the time until which it holds.
    fn step(&self, time: Duration) -> (u64, Option<Duration>) {
        let rounds = match self.period {
            Some(period) => (time.as_nanos() / period.as_nanos()) as u32,
            None => 0,
        };
        let round = self.period.unwrap_or_default() * rounds;
        let within = time - round;
        let next = self.steps.partition_point(|(at, _)| *at <= within);
        let rate = self.steps[next.saturating_sub(1)].1;
        let ends = match self.steps.get(next) {
            Some((at, _)) => Some(round + *at),
            None => self.period.map(|period| round + period),
        };
        (rate, ends)
    }
}
