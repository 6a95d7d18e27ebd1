//! What a publisher is told it may send: [`ReceiverEstimate`], the value of REMB.
//!
//! Where transport-wide feedback is negotiated, the publisher's own estimator decides and REMB is a cap. Where it is
//! not, this loss-driven estimate is the only brake (draft-ietf-rmcat-gcc-02, section 6). A delay-based estimate is
//! deliberately absent.

use std::time::{Duration, Instant};

use crate::rate::Bitrate;

/// Value before anything is measured. Too low → publishers whose own estimator has found more are held back (browsers
/// send 720p at up to 2.5 Mbit/s); too high → a weak uplink without that estimator is flooded until the first losses
/// are reported.
const START: Bitrate = Bitrate::from_kbps(5_000);

/// No publisher is told less: below this no codec gives a picture, and the estimate could not recover.
const FLOOR: Bitrate = Bitrate::from_kbps(30);

/// Loss above which the estimate goes down and below which it goes up, in 1/256 (10 % and 2 %).
const LOSS_HIGH: u8 = 26;
const LOSS_LOW: u8 = 5;

/// Growth per second without loss. Too low → a picture stays poor long after congestion; too high → it swings.
const GROWTH_PER_SECOND: f64 = 0.08;

/// The estimate exceeds what is received at most by this factor. Too low → the publisher cannot grow; too high → after
/// minutes of a still picture the estimate says nothing.
const HEADROOM: f64 = 2.0;

/// Time between two REMBs. Too low → feedback eats bandwidth; too high → congestion lasts longer.
const REMB_INTERVAL: Duration = Duration::from_secs(1);

/// A value below this share of the last one sent is told at once, so that congestion ends soon.
const URGENT_DECREASE: f64 = 0.97;

/// Bounds that the application sets; `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BitrateLimits {
    /// Never announce less, except where it exceeds `max`.
    pub min: Option<Bitrate>,
    /// Never announce more.
    pub max: Option<Bitrate>,
}

/// Estimate of what one publisher's uplink carries, from reported loss.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverEstimate {
    limits: BitrateLimits,
    /// What viewers can take, if they shall bound the publisher.
    viewers: Option<Bitrate>,
    estimate: Bitrate,
    updated_at: Option<Instant>,
    sent: Option<(Instant, Bitrate)>,
}

impl ReceiverEstimate {
    /// An estimate that knows nothing yet: 5 Mbit/s, or the maximum if that is more.
    pub fn new(limits: BitrateLimits) -> Self {
        let estimate = limits.max.map_or(START, |max| max.max(START));
        Self {
            limits,
            viewers: None,
            estimate,
            updated_at: None,
            sent: None,
        }
    }

    /// Changes the bounds.
    pub fn set_limits(&mut self, limits: BitrateLimits) {
        self.limits = limits;
    }

    /// Sets what viewers can take; `None` if they shall not bound the publisher.
    pub fn set_viewers(&mut self, bitrate: Option<Bitrate>) {
        self.viewers = bitrate;
    }

    /// Takes note of a report interval: its loss in 1/256 and what was received meanwhile.
    pub fn handle_report(&mut self, now: Instant, fraction_lost: u8, received: Bitrate) {
        let updated_at = self.updated_at.replace(now).unwrap_or(now);
        let elapsed = now.saturating_duration_since(updated_at).min(REMB_INTERVAL);
        if fraction_lost > LOSS_HIGH {
            let base = self.estimate.min(received.scaled(HEADROOM)).max(received);
            self.estimate = base.scaled(1.0 - 0.5 * f64::from(fraction_lost) / 256.0);
        } else if fraction_lost < LOSS_LOW && received.scaled(HEADROOM) >= self.estimate {
            self.estimate = self
                .estimate
                .scaled(1.0 + GROWTH_PER_SECOND * elapsed.as_secs_f64());
        }
        let ceiling = self.limits.max.unwrap_or(Bitrate(u64::MAX)).max(START);
        self.estimate = self.estimate.clamp(FLOOR, ceiling);
    }

    /// The value to announce: the estimate, not above the viewers' or the maximum, not below the minimum.
    pub fn bitrate(&self) -> Bitrate {
        let capped = self.estimate.min(self.viewers.unwrap_or(Bitrate(u64::MAX)));
        let floored = capped.max(self.limits.min.unwrap_or(FLOOR)).max(FLOOR);
        floored.min(self.limits.max.unwrap_or(Bitrate(u64::MAX)))
    }

    /// The value to send, if it is time or the value has gone down.
    pub fn poll(&mut self, now: Instant) -> Option<Bitrate> {
        let bitrate = self.bitrate();
        let due = self.sent.is_none_or(|(at, sent)| {
            now.saturating_duration_since(at) >= REMB_INTERVAL
                || bitrate < sent.scaled(URGENT_DECREASE)
        });
        if !due {
            return None;
        }
        self.sent = Some((now, bitrate));
        Some(bitrate)
    }

    /// When [`Self::poll`] has something to say at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sent.map(|(at, _)| at + REMB_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BitrateLimits = BitrateLimits {
        min: None,
        max: None,
    };

    /// Reports every 100 ms of a link that loses what exceeds `capacity`; the publisher sends what it is told.
    fn run(estimate: &mut ReceiverEstimate, start: Instant, seconds: u64, capacity: Bitrate) {
        for tick in 1..=seconds * 10 {
            let sent = estimate.bitrate();
            let received = sent.min(capacity);
            let lost = 256 - 256 * received.0 / sent.0;
            estimate.handle_report(
                start + Duration::from_millis(100 * tick),
                lost.min(255) as u8,
                received,
            );
        }
    }

    #[test]
    fn starts_above_what_browsers_send() {
        assert!(ReceiverEstimate::new(LIMITS).bitrate() >= Bitrate::from_kbps(2_500));
    }

    #[test]
    fn loss_brings_the_value_near_what_the_link_carries() {
        let start = Instant::now();
        let mut estimate = ReceiverEstimate::new(LIMITS);
        run(&mut estimate, start, 5, Bitrate::from_kbps(600));
        let Bitrate(value) = estimate.bitrate();
        assert!((400_000..=700_000).contains(&value), "{value}");
    }

    #[test]
    fn recovers_when_the_loss_ends() {
        let start = Instant::now();
        let mut estimate = ReceiverEstimate::new(LIMITS);
        run(&mut estimate, start, 5, Bitrate::from_kbps(600));
        run(
            &mut estimate,
            start + Duration::from_secs(5),
            60,
            Bitrate::from_kbps(100_000),
        );
        assert!(
            estimate.bitrate() >= Bitrate::from_kbps(4_000),
            "{:?}",
            estimate.bitrate()
        );
    }

    #[test]
    fn total_loss_never_falls_below_the_floor() {
        let now = Instant::now();
        let mut estimate = ReceiverEstimate::new(LIMITS);
        for _ in 0..1000 {
            estimate.handle_report(now, 255, Bitrate(0));
        }
        assert_eq!(estimate.bitrate(), FLOOR);
    }

    #[test]
    fn limits_and_viewers_bound_the_value() {
        let kbps = |kbps| Some(Bitrate::from_kbps(kbps));
        // (min, max, viewers, expected kbit/s)
        let rows = [
            (None, None, None, 5_000),
            (None, kbps(500), None, 500),
            (None, kbps(8_000), None, 8_000),
            (None, None, kbps(300), 300),
            (kbps(400), None, kbps(300), 400),
            (kbps(400), kbps(350), kbps(300), 350),
            (None, None, kbps(1), 30),
        ];
        for (min, max, viewers, expected) in rows {
            let mut estimate = ReceiverEstimate::new(BitrateLimits { min, max });
            estimate.set_viewers(viewers);
            assert_eq!(
                estimate.bitrate(),
                Bitrate::from_kbps(expected),
                "{min:?} {max:?} {viewers:?}"
            );
        }
    }

    #[test]
    fn value_is_sent_each_second_and_at_once_when_it_falls() {
        let start = Instant::now();
        let mut estimate = ReceiverEstimate::new(LIMITS);
        assert_eq!(estimate.poll(start), Some(START));
        assert_eq!(estimate.poll(start + Duration::from_millis(999)), None);
        assert_eq!(
            estimate.poll_timeout(),
            Some(start + Duration::from_secs(1))
        );
        assert_eq!(estimate.poll(start + Duration::from_secs(1)), Some(START));
        estimate.set_viewers(Some(Bitrate::from_kbps(300)));
        assert_eq!(
            estimate.poll(start + Duration::from_millis(1001)),
            Some(Bitrate::from_kbps(300))
        );
        estimate.set_viewers(None);
        assert_eq!(estimate.poll(start + Duration::from_millis(1002)), None);
    }
}
