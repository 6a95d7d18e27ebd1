//! Asking a publisher for key frames, no more often than it can bear: [`KeyFrameRequests`].

use std::time::{Duration, Instant};

/// Least time between two requests to one source, whoever wants them. Too low → encoders burst key frames and choke
/// the uplink, and a hostile viewer can cause that; too high → a viewer who joins stares at black.
const REQUEST_INTERVAL: Duration = Duration::from_millis(500);

/// Longest wait before an unanswered request is repeated; the wait doubles from [`REQUEST_INTERVAL`]. Too low → a
/// camera that is off is pestered; too high → one lost request costs that much.
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(2);

/// Key-frame requests towards one source: coalesces those of all subscribers, throttles, and repeats what is
/// not answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyFrameRequests {
    asked_at: Option<Instant>,
    /// Someone waits for a key frame.
    wanted: bool,
    /// Wait before the next request.
    interval: Duration,
    requests: u64,
}

impl KeyFrameRequests {
    /// Notes that a subscriber needs a key frame; true if the publisher should be asked at once. If not,
    /// [`Self::poll`] says so later, unless a key frame comes first.
    pub fn handle_request(&mut self, now: Instant) -> bool {
        self.wanted = true;
        self.interval = REQUEST_INTERVAL;
        self.ask_if_due(now)
    }

    /// Notes that the source sent a key frame: nobody waits any longer.
    #[inline]
    pub fn handle_key_frame(&mut self) {
        self.wanted = false;
    }

    /// Withdraws the request: nobody watches any longer.
    pub fn cancel(&mut self) {
        self.wanted = false;
    }

    /// True if the publisher should be asked: first for a request that came too early, then as a repetition.
    pub fn poll(&mut self, now: Instant) -> bool {
        let due = self.ask_if_due(now);
        if due {
            self.interval = (self.interval * 2).min(RETRY_INTERVAL_MAX);
        }
        due
    }

    /// When [`Self::poll`] has something to say; `None` if nobody waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.wanted { self.due_at() } else { None }
    }

    /// Requests sent so far.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    fn ask_if_due(&mut self, now: Instant) -> bool {
        let due = self.wanted && self.due_at().is_none_or(|at| now >= at);
        if due {
            self.asked_at = Some(now);
            self.requests += 1;
        }
        due
    }

    fn due_at(&self) -> Option<Instant> {
        self.asked_at.map(|at| at + self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn requests_of_many_subscribers_become_one() {
        let start = Instant::now();
        let mut requests = KeyFrameRequests::default();
        assert!(requests.handle_request(start));
        assert!((1..500).all(|ms| !requests.handle_request(at(start, ms))));
        assert_eq!(requests.requests(), 1);
    }

    #[test]
    fn early_request_is_kept_for_later() {
        let start = Instant::now();
        let mut requests = KeyFrameRequests::default();
        assert!(requests.handle_request(start));
        requests.handle_key_frame();
        assert_eq!(requests.poll_timeout(), None);
        assert!(!requests.handle_request(at(start, 100)));
        assert_eq!(requests.poll_timeout(), Some(at(start, 500)));
        assert!(!requests.poll(at(start, 499)));
        assert!(requests.poll(at(start, 500)));
    }

    #[test]
    fn unanswered_request_is_repeated_less_and_less_often() {
        let start = Instant::now();
        let mut requests = KeyFrameRequests::default();
        requests.handle_request(start);
        let mut asked = vec![];
        for ms in 1..10_000 {
            if requests.poll(at(start, ms)) {
                asked.push(ms);
            }
        }
        assert_eq!(asked, [500, 1500, 3500, 5500, 7500, 9500]);
    }

    #[test]
    fn key_frame_ends_the_repetition() {
        let start = Instant::now();
        let mut requests = KeyFrameRequests::default();
        requests.handle_request(start);
        requests.handle_key_frame();
        assert!(!requests.poll(at(start, 5000)));
        assert!(requests.handle_request(at(start, 5000)));
    }
}
