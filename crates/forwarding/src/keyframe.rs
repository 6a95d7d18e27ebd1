//! Asking a publisher for key frames, no more often than it can bear: [`KeyFrameRequests`].

use std::time::{Duration, Instant};

use crate::packet::SourcePacket;
use crate::rtp::ExtendedSeq;

/// Least time between two requests to one source, whoever wants them. Too low → encoders burst key frames and choke
/// the uplink, and a hostile viewer can cause that; too high → a viewer who joins stares at black.
const REQUEST_INTERVAL: Duration = Duration::from_millis(500);

/// Longest wait before an unanswered request is repeated; the wait doubles from [`REQUEST_INTERVAL`]. Too low → a
/// camera that is off is pestered; too high → one lost request costs that much.
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(2);

/// Least time from a request to a track until it is asked for the sake of a better picture. Too low → those who join
/// one after the other, and see more a moment later, cost a key frame each; too high → they see a small picture for as
/// long.
const WISH_INTERVAL: Duration = Duration::from_millis(1_200);

/// Key-frame requests towards one source: coalesces those of all subscribers, throttles, and repeats what is
/// not answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyFrameRequests {
    asked_at: Option<Instant>,
    /// Someone waits for a key frame.
    wanted: bool,
    /// Those who wait see something, and can wait until then.
    patient_until: Option<Instant>,
    /// Wait before the next request.
    interval: Duration,
    requests: u64,
}

impl KeyFrameRequests {
    /// Notes that a subscriber needs a key frame; true if the publisher should be asked at once. If not,
    /// [`Self::poll`] says so later, unless a key frame comes first.
    pub fn handle_request(&mut self, now: Instant) -> bool {
        self.wanted = true;
        self.patient_until = None;
        self.interval = REQUEST_INTERVAL;
        self.ask_if_due(now)
    }

    /// As [`Self::handle_request`], for a subscriber that sees a picture and would see a better one. `asked_at` is when
    /// any stream of the track was asked last: most encoders answer with a key frame in each.
    pub fn handle_wish(&mut self, now: Instant, asked_at: Option<Instant>) -> bool {
        if !self.wanted {
            self.wanted = true;
            self.interval = REQUEST_INTERVAL;
            self.patient_until = asked_at.map(|at| at + WISH_INTERVAL);
        }
        self.ask_if_due(now)
    }

    /// When the source was asked last.
    pub fn asked_at(&self) -> Option<Instant> {
        self.asked_at
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
            self.patient_until = None;
            self.requests += 1;
        }
        due
    }

    fn due_at(&self) -> Option<Instant> {
        let throttled = self.asked_at.map(|at| at + self.interval);
        throttled.max(self.patient_until)
    }
}

/// Bytes behind a key frame up to which a late joiner gets them at once. Too low → most who join wait for a key frame
/// of their own; too high → the burst takes longer to arrive than that would.
const CATCH_UP_BYTES_MAX: usize = 150_000;

/// Age of a key frame up to which a late joiner starts from it. Too low and too high: as above, for streams of few
/// bits; and histories keep no more than a second.
const CATCH_UP_AGE_MAX: Duration = Duration::from_millis(800);

/// Packets that may be missing since the key frame: on their way as retransmissions, or padding, which is not kept.
/// More are a loss that the joiner would suffer under.
const CATCH_UP_HOLES_MAX: u64 = 4;

/// Where a source's last key frame began, so that who joins shortly after it can start from the history.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastKeyFrame {
    began: Option<(Instant, ExtendedSeq)>,
    newest: u64,
    packets: u64,
    bytes: usize,
}

impl LastKeyFrame {
    /// Takes note of a packet that is new, in order or late.
    #[inline]
    pub fn handle_packet(&mut self, now: Instant, packet: &SourcePacket, payload_bytes: usize) {
        let is_later = self.began.is_none_or(|(_, seq)| packet.seq > seq);
        // H264 tells a key frame by each of its parameter sets and slices.
        let continues = self.newest + 1 == packet.seq.0 && !packet.frame.starts_frame;
        if packet.frame.key_frame && is_later && !continues {
            *self = Self {
                began: Some((now, packet.seq)),
                newest: packet.seq.0,
                packets: 0,
                bytes: 0,
            };
        }
        if is_later {
            self.newest = self.newest.max(packet.seq.0);
        }
        self.packets += 1;
        self.bytes = self.bytes.saturating_add(payload_bytes);
    }

    /// When it arrived.
    pub fn began_at(&self) -> Option<Instant> {
        self.began.map(|(at, _)| at)
    }

    /// The numbers of the key frame and of all since: what to show a subscription that [waits for
    /// one](crate::selector::Selector::awaits_key_frame), in order, as far as the history has them. `None` if asking
    /// for another key frame is better.
    pub fn catch_up(&self, now: Instant) -> Option<impl Iterator<Item = ExtendedSeq> + use<>> {
        let (at, first) = self.began?;
        let holes = (self.newest + 1 - first.0).saturating_sub(self.packets);
        let is_worth = now.saturating_duration_since(at) <= CATCH_UP_AGE_MAX
            && self.bytes <= CATCH_UP_BYTES_MAX
            && holes <= CATCH_UP_HOLES_MAX;
        is_worth.then(|| (first.0..=self.newest).map(ExtendedSeq))
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
    fn wish_for_a_better_picture_waits_for_those_of_others() {
        let start = Instant::now();
        let mut requests = KeyFrameRequests::default();
        assert!(requests.handle_wish(start, None));
        requests.handle_key_frame();
        assert!(!requests.handle_wish(at(start, 600), Some(at(start, 200))));
        assert_eq!(requests.poll_timeout(), Some(at(start, 1_400)));
        // Again and again is not later.
        assert!(!requests.handle_wish(at(start, 700), Some(at(start, 600))));
        assert_eq!(requests.poll_timeout(), Some(at(start, 1_400)));
        // Who sees nothing does not wait, and all get what is sent.
        assert!(requests.handle_request(at(start, 800)));
        requests.handle_key_frame();
        assert_eq!(requests.poll_timeout(), None);
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

    #[test]
    fn late_joiner_starts_from_a_recent_key_frame() {
        use crate::rtp::Ssrc;
        use crate::test_support::{key, video};
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut last = LastKeyFrame::default();
        last.handle_packet(start, &video(Ssrc(1), 9), 1000);
        assert!(last.catch_up(start).is_none());
        last.handle_packet(start, &key(Ssrc(1), 10), 1000);
        last.handle_packet(start, &video(Ssrc(1), 12), 1000);
        let numbers = |now| Some(last.catch_up(now)?.map(|seq| seq.0).collect::<Vec<_>>());
        assert_eq!(numbers(at(800)), Some(vec![10, 11, 12]));
        assert_eq!(numbers(at(801)), None);
        let mut lossy = last;
        lossy.handle_packet(start, &video(Ssrc(1), 17), 1000);
        assert!(lossy.catch_up(start).is_none());
        last.handle_packet(start, &video(Ssrc(1), 13), CATCH_UP_BYTES_MAX);
        assert!(last.catch_up(start).is_none());
    }
}
