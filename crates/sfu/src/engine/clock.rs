//! What an instant is on the clocks that RTP and RTCP carry.

use std::time::Instant;

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

    /// `now` in the form of the header extension.
    pub fn abs_send_time(&self, now: Instant) -> AbsSendTime {
        AbsSendTime::from_elapsed(now.saturating_duration_since(self.at))
    }
}
