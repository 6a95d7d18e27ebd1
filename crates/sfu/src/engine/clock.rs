//! What an instant is on the clocks that RTP and RTCP carry.

use std::time::{Duration, Instant};

use forwarding::rtp::{AbsSendTime, NtpTime};

/// Ties monotonic time to NTP time, once.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// An instant.
    pub at: Instant,
    /// The same moment as NTP time.
    pub ntp: NtpTime,
}

impl Clock {
    /// The NTP time of `now`, which is not before the tie.
    pub fn ntp(&self, now: Instant) -> NtpTime {
        self.ntp
            .wrapping_add(now.saturating_duration_since(self.at))
    }

    /// The first whole multiple of `step` that is not before `at`, counted from the tie: what is due at about
    /// the same time is done at the same time.
    pub fn round_up(&self, at: Instant, step: Duration) -> Instant {
        let since = at.saturating_duration_since(self.at).as_nanos();
        let over = since % step.as_nanos().max(1);
        match u64::try_from(over) {
            Ok(0) | Err(_) => at,
            Ok(over) => at + step - Duration::from_nanos(over),
        }
    }

    /// `now` in the form of the header extension.
    pub fn abs_send_time(&self, now: Instant) -> AbsSendTime {
        AbsSendTime::from_elapsed(now.saturating_duration_since(self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_rounded_to_later_ones() {
        let at = Instant::now();
        let clock = Clock {
            at,
            ntp: NtpTime(0),
        };
        let millis = Duration::from_millis;
        for (moment, rounded) in [(0, 0), (1, 50), (50, 50), (51, 100), (1_049, 1_050)] {
            let found = clock.round_up(at + millis(moment), millis(50));
            assert_eq!(found, at + millis(rounded), "{moment} ms");
        }
    }
}
