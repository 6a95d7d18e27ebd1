//! Loss that comes without a queue: [`LossControl`] finds out whether it is congestion.
//!
//! A radio link loses packets whatever is sent; a policer, or a bottleneck with a short buffer, loses what is too much.
//! A number does not tell them apart, a trial does: send a fifth less for a while. If the loss goes away it was
//! congestion, and the capacity is known; if it stays, it is a property of the path and nothing to react to.

use super::throughput::LossMeter;

/// Loss beyond what the path is known to have that asks for a trial. Too low → trials by chance; too high → a
/// policer is driven into that much loss for ever.
const TRIAL_FROM: f64 = 0.08;
/// Of the rate, during a trial. Too low → it costs more; too high → the difference drowns in chance.
const TRIAL_RATE: f64 = 0.8;
/// Length of a trial, µs, round trip not included: until the window of the meter holds nothing older, and a little
/// more.
const TRIAL_MICROS: i64 = 1_300_000;
/// Time between two trials, µs. Too low → a lossy path is on trial always; too high → a policer is noticed late.
const TRIAL_INTERVAL: i64 = 5_000_000;

/// Loss beyond what the path is known to have that needs no trial.
const FALL_FROM: f64 = 0.3;
/// Time between two decreases, µs, round trip not included.
const FALL_INTERVAL: i64 = 300_000;

/// Weight of a report by which the known loss follows one that is less.
const FLOOR_WEIGHT: f64 = 0.02;

#[derive(Clone, Copy, Debug)]
struct Trial {
    ends_at: i64,
    /// Rate and loss before.
    rate: f64,
    loss: f64,
}

/// What loss says about the rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Advice {
    /// Nothing.
    Free,
    /// It must not grow.
    Hold,
    /// It should fall to this, bits per second.
    Fall(f64),
    /// Loss is the path's: it may return to this.
    Return(f64),
    /// Loss was congestion: what is sent is what the path carries.
    Full,
}

/// Follows the loss and makes trials.
#[derive(Clone, Debug)]
pub(super) struct LossControl {
    pub(super) meter: LossMeter,
    /// Loss that the path has whatever is sent, 0 to 1.
    floor: f64,
    trial: Option<Trial>,
    trial_due: i64,
    fell_at: i64,
}

impl Default for LossControl {
    fn default() -> Self {
        Self {
            meter: LossMeter::default(),
            floor: 0.0,
            trial: None,
            trial_due: i64::MIN,
            fell_at: i64::MIN / 2,
        }
    }
}

impl LossControl {
    /// Loss that the path has whatever is sent, 0 to 1.
    pub(super) fn floor(&self) -> f64 {
        self.floor
    }

    /// True if the rate may grow and be probed.
    pub(super) fn is_free(&self) -> bool {
        self.trial.is_none() && self.meter.share() <= self.floor + TRIAL_FROM
    }

    /// The queue showed congestion: a trial would measure that.
    pub(super) fn cancel_trial(&mut self) {
        self.trial = None;
    }

    /// After a report, while the queue is short. `rate` is the estimate, bits per second.
    pub(super) fn update(&mut self, now: i64, rtt: i64, rate: f64) -> Advice {
        let loss = self.meter.share();
        if let Some(trial) = self.trial {
            if now < trial.ends_at {
                return Advice::Hold;
            }
            self.trial = None;
            self.trial_due = now + TRIAL_INTERVAL;
            // What is left of congestion's loss when less is sent.
            let if_congested =
                (1.0 - (1.0 - trial.loss) / TRIAL_RATE).max(self.floor.min(trial.loss));
            if loss < (trial.loss + if_congested) / 2.0 {
                return Advice::Full;
            }
            self.floor = loss;
            return Advice::Return(trial.rate);
        }
        if loss < self.floor {
            self.floor += FLOOR_WEIGHT * (loss - self.floor);
        }
        let excess = loss - self.floor;
        if excess > FALL_FROM && now - self.fell_at > rtt + FALL_INTERVAL {
            self.fell_at = now;
            return Advice::Fall(rate * (1.0 - 0.5 * excess));
        }
        if excess <= TRIAL_FROM {
            return Advice::Free;
        }
        if now < self.trial_due {
            return Advice::Hold;
        }
        self.trial = Some(Trial {
            ends_at: now + rtt + TRIAL_MICROS,
            rate,
            loss,
        });
        Advice::Fall(rate * TRIAL_RATE)
    }

    /// The path is another.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs until the first trial is over, over a path that loses as `loss` says of a rate; the advice at its end and
    /// the floor.
    fn trial(loss: impl Fn(f64) -> f64) -> (Advice, f64) {
        let mut control = LossControl::default();
        let mut rate = 1e6;
        for report in 0..100 {
            let now = 100_000 * report;
            let lost = (100.0 * loss(rate)).round() as i64;
            control.meter.handle_report(now, lost, 100 - lost as u32);
            match control.update(now, 50_000, rate) {
                Advice::Fall(to) => rate = to,
                Advice::Free | Advice::Hold => {}
                end => return (end, control.floor()),
            }
        }
        (Advice::Free, control.floor())
    }

    #[test]
    fn loss_of_the_path_is_told_from_loss_of_congestion() {
        for share in [0.1, 0.2, 0.3] {
            let (advice, floor) = trial(|_| share);
            assert_eq!(advice, Advice::Return(1e6), "{share}");
            assert!((floor - share).abs() < 0.01, "{floor} of {share}");
        }
        for capacity in [0.88e6, 0.8e6, 0.72e6] {
            let (advice, floor) = trial(|rate| (1.0 - capacity / rate).max(0.0));
            assert_eq!((advice, floor), (Advice::Full, 0.0), "{capacity}");
        }
        assert_eq!(trial(|_| 0.05), (Advice::Free, 0.0));
    }

    #[test]
    fn heavy_loss_needs_no_trial() {
        let mut control = LossControl::default();
        for _ in 0..4 {
            control.meter.handle_report(0, 60, 40);
        }
        assert_eq!(control.update(0, 50_000, 1e6), Advice::Fall(0.7e6));
    }
}
