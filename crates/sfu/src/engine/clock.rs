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

    /// The first moment after `now` that lies `offset` behind a whole multiple of `period`, counted from the tie.
    pub fn next_slot(&self, now: Instant, period: Duration, offset: Duration) -> Instant {
        let period_ns = period.as_nanos().max(1);
        let since_ns = now.saturating_duration_since(self.at).as_nanos();
        let offset_ns = offset.as_nanos() % period_ns;
        let into_ns = (since_ns + period_ns - offset_ns) % period_ns;
        let left_ns = u64::try_from(period_ns - into_ns).unwrap_or(u64::MAX);
        now + Duration::from_nanos(left_ns)
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
    fn slots_keep_their_distance() {
        let at = Instant::now();
        let clock = Clock {
            at,
            ntp: NtpTime(0),
        };
        let millis = Duration::from_millis;
        for (now, offset, next) in [
            (0, 0, 1_000),
            (0, 50, 50),
            (50, 50, 1_050),
            (51, 50, 1_050),
            (1_049, 50, 1_050),
            (7_300, 950, 7_950),
            (7_300, 1_950, 7_950),
        ] {
            let found = clock.next_slot(at + millis(now), millis(1_000), millis(offset));
            assert_eq!(found, at + millis(next), "{offset} ms, at {now} ms");
        }
    }
}
