//! The estimate of a receiver from before transport-wide feedback: [`ReceiverEstimate`], told by REMB.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use forwarding::rate::{Bitrate, RateMeter};
use forwarding::rtp::AbsSendTime;

/// Between REMBs.
const INTERVAL: Duration = Duration::from_secs(1);

/// Queue that makes the estimate fall.
const QUEUE_MAX: Duration = Duration::from_millis(60);

/// Between two decreases.
const DECREASE_INTERVAL: Duration = Duration::from_millis(300);

const DECREASE: f64 = 0.85;
const GROWTH_PER_SECOND: f64 = 1.08;
/// Of what arrives, the estimate at most.
const BEYOND: f64 = 1.5;
const START: Bitrate = Bitrate::from_kbps(300);
/// Window of the least transit time.
const WINDOW: Duration = Duration::from_secs(10);

/// Watches arrivals.
#[derive(Debug)]
pub(super) struct ReceiverEstimate {
    meter: RateMeter,
    bitrate: Bitrate,
    /// Least transit time of each second, µs.
    least: VecDeque<(Instant, i64)>,
    /// Transit time, smoothed, µs.
    transit: f64,
    decreased_at: Option<Instant>,
    tell_at: Instant,
}

impl ReceiverEstimate {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            meter: RateMeter::default(),
            bitrate: START,
            least: VecDeque::new(),
            transit: 0.0,
            decreased_at: None,
            tell_at: now + INTERVAL,
        }
    }

    /// Notes a packet; `since` is the time since the clock of the receiver began.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        since: Duration,
        sent: AbsSendTime,
        size_bytes: usize,
    ) {
        self.meter.add(now, size_bytes);
        // Both have 24 bits of 2^-18 s, of clocks that need not agree.
        let arrived = AbsSendTime::from_elapsed(since);
        let ticks = arrived.0.wrapping_sub(sent.0) & 0x00ff_ffff;
        let micros = (i64::from(ticks) * 1_000_000) >> 18;
        match self.least.back_mut() {
            Some((at, least)) if now - *at < Duration::from_secs(1) => {
                *least = (*least).min(micros);
            }
            _ => self.least.push_back((now, micros)),
        }
        while (self.least.front()).is_some_and(|(at, _)| now - *at > WINDOW) {
            self.least.pop_front();
        }
        if self.transit == 0.0 {
            self.transit = micros as f64;
        }
        self.transit += (micros as f64 - self.transit) / 16.0;
        let least = self.least.iter().map(|(_, least)| *least).min();
        let queue = self.transit - least.unwrap_or(micros) as f64;
        let may_decrease = self
            .decreased_at
            .is_none_or(|at| now - at > DECREASE_INTERVAL);
        if queue > QUEUE_MAX.as_micros() as f64 && may_decrease {
            self.decreased_at = Some(now);
            self.bitrate = self.meter.rate(now).scaled(DECREASE).min(self.bitrate);
            self.tell_at = now;
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.tell_at
    }

    /// What to tell, if it is time.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Bitrate> {
        if self.tell_at > now {
            return None;
        }
        self.tell_at = now + INTERVAL;
        let is_calm = self.decreased_at.is_none_or(|at| now - at > INTERVAL);
        if is_calm {
            let most = self.meter.rate(now).scaled(BEYOND).max(START);
            self.bitrate = self.bitrate.scaled(GROWTH_PER_SECOND).min(most);
        }
        Some(self.bitrate)
    }
}
