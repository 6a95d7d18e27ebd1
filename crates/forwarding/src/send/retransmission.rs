//! How much may be sent again: [`RetransmissionBudget`].

use std::time::{Duration, Instant};

use crate::rtp::Seq;

/// Bytes that may be sent again per window whatever was sent before. Too low → a slow stream cannot repair a lost key
/// frame; too high → a hostile receiver draws that much from every stream, per round trip.
const BYTES_MIN: usize = 30_000;

/// Bytes that may be sent again per byte sent in the window before, in percent: the amplification a receiver can
/// cause. Too low → bursts of loss are repaired over several round trips; too high → congestion feeds itself.
const SENT_PERCENT: usize = 60;

/// Bounds of a window, and the assumption before the round trip is known.
const WINDOW_MIN: Duration = Duration::from_millis(50);
const WINDOW_MAX: Duration = Duration::from_millis(500);
const WINDOW_DEFAULT: Duration = Duration::from_millis(100);

/// Packets remembered as just sent again, a power of two. Too low → doubled requests are answered twice; too high →
/// 24 bytes each for every stream that ever got a NACK.
const RECENT_LEN: usize = 64;

/// Per round trip: bytes sent, bytes sent again, and which.
#[derive(Clone, Debug, Default)]
pub(super) struct RetransmissionBudget {
    window_began: Option<Instant>,
    window_len: Option<Duration>,
    sent_bytes: usize,
    granted_bytes: usize,
    allowance_bytes: usize,
    /// By number modulo [`RECENT_LEN`]; empty until the first NACK.
    recent: Vec<Option<(Seq, Instant)>>,
}

impl RetransmissionBudget {
    #[inline]
    pub(super) fn handle_sent(&mut self, now: Instant, bytes: usize) {
        self.move_to(now);
        self.sent_bytes += bytes;
    }

    pub(super) fn grant(
        &mut self,
        now: Instant,
        rtt: Option<Duration>,
        seq: Seq,
        bytes: usize,
    ) -> bool {
        let window = rtt.unwrap_or(WINDOW_DEFAULT).clamp(WINDOW_MIN, WINDOW_MAX);
        self.window_len = Some(window);
        self.move_to(now);
        self.recent.resize(RECENT_LEN, None);
        let place = usize::from(seq.0) % RECENT_LEN;
        // Receivers repeat a request after a round trip, and measure that a little shorter than we do.
        let repeated = self.recent[place].is_some_and(|(recent, at)| {
            recent == seq && now.saturating_duration_since(at) < window / 2
        });
        if repeated || self.granted_bytes + bytes > self.allowance_bytes.max(BYTES_MIN) {
            return false;
        }
        self.granted_bytes += bytes;
        self.recent[place] = Some((seq, now));
        true
    }

    /// Begins another window if this one is over.
    #[inline]
    fn move_to(&mut self, now: Instant) {
        let began = *self.window_began.get_or_insert(now);
        let elapsed = now.saturating_duration_since(began);
        let len = self.window_len.unwrap_or(WINDOW_DEFAULT);
        if elapsed < len {
            return;
        }
        // After a silence the bytes of the last window say nothing about the path.
        self.allowance_bytes = if elapsed < 2 * len {
            self.sent_bytes / 100 * SENT_PERCENT
        } else {
            0
        };
        self.window_began = Some(now);
        self.sent_bytes = 0;
        self.granted_bytes = 0;
    }
}
