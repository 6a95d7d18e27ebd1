//! How long to wait before trying again.

use std::time::Duration;

use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// The first attempt follows quickly: most sockets break on a working network.
const FIRST_MAX: Duration = Duration::from_millis(500);
/// Doubles with each attempt.
const SECOND_MAX: Duration = Duration::from_secs(1);
/// Too short: a restarting server is flooded. Too long: the grace period ends between two attempts.
const MAX: Duration = Duration::from_secs(5);

/// Delays that grow, with a jitter that keeps the clients of a restarted server from returning all
/// at once.
#[derive(Debug)]
pub(super) struct BackOff {
    attempt: u32,
    random: StdRng,
}

impl BackOff {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            attempt: 0,
            random: StdRng::seed_from_u64(seed),
        }
    }

    pub(super) fn reset(&mut self) {
        self.attempt = 0;
    }

    pub(super) fn next_delay(&mut self) -> Duration {
        let random = self.random.random::<f64>();
        let attempt = self.attempt;
        self.attempt = attempt.saturating_add(1);
        delay(attempt, random)
    }
}

/// `random` is in [0, 1).
fn delay(attempt: u32, random: f64) -> Duration {
    match attempt.checked_sub(1) {
        None => FIRST_MAX.mul_f64(random),
        Some(doublings) => {
            let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
            let longest = SECOND_MAX.saturating_mul(factor).min(MAX);
            longest.mul_f64(0.5 + random / 2.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_limit() {
        let table = [
            (0, 0, 500),
            (1, 500, 1000),
            (2, 1000, 2000),
            (3, 2000, 4000),
            (4, 2500, 5000),
            (31, 2500, 5000),
            (32, 2500, 5000),
            (33, 2500, 5000),
            (u32::MAX, 2500, 5000),
        ];
        for (attempt, least_ms, most_ms) in table {
            assert_eq!(delay(attempt, 0.0).as_millis(), least_ms, "{attempt}");
            assert_eq!(delay(attempt, 1.0).as_millis(), most_ms, "{attempt}");
        }
    }
}
