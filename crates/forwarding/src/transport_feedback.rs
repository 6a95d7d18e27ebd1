//! Transport-wide congestion control, receiver's side (draft-holmer-rmcat-transport-wide-cc-extensions-01):
//! [`TransportFeedback`] notes when each packet of a transport arrived and tells its sender.

mod write;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::rtp::{Seq, Ssrc, Unroller};

/// Time between two feedbacks. Too low → feedback eats the downlink; too high → the sender's estimator reacts late
/// (libwebrtc sends every 50 to 250 ms).
const INTERVAL: Duration = Duration::from_millis(100);

/// How long a due feedback waits for the next packet, to be sent when the sender's thread is awake anyway. Too low →
/// many wake-ups; too high → the last packets before a pause are reported late.
const PATIENCE: Duration = Duration::from_millis(25);

/// Numbers waiting to be reported. A publisher sends perhaps a hundred packets per interval; one that jumps further
/// ahead than this starts a fresh report instead of thousands of losses.
const PENDING_MAX: usize = 2_000;

/// Numbers waiting that make a feedback due at once. Too low → many small feedbacks; too high → one does not fit its
/// datagram.
const PENDING_URGENT: usize = 200;

/// Numbers by which a packet may be late and still be reported. Too low → reordering looks like loss; too high →
/// feedback repeats much that was told.
const LATE_MAX: u64 = 128;

/// Notes arrivals and writes feedback. One per transport, whatever streams it carries.
#[derive(Clone, Debug, Default)]
pub struct TransportFeedback {
    unroller: Unroller,
    /// Number of the first of `pending`; continues where the last report ended, so that losses between are told.
    base: Option<u64>,
    /// Arrival time of number `base + index`; `None` if it has not arrived.
    pending: VecDeque<Option<Instant>>,
    /// Time zero of the reference times.
    epoch: Option<Instant>,
    /// From when on a packet makes feedback leave; `None` if nothing waits.
    due_at: Option<Instant>,
    count: u8,
}

impl TransportFeedback {
    /// Notes the arrival of the packet with this transport-wide number.
    #[inline]
    pub fn handle_packet(&mut self, now: Instant, seq: Seq) {
        let Some(extended) = self.unroller.unroll(seq) else {
            return;
        };
        let mut base = *self.base.get_or_insert(extended.0);
        // Reported as lost, but only late: told again, so that reordering does not look like loss. Of the numbers
        // between, those that were reported as received stay so for the sender.
        if let Some(back) = base.checked_sub(extended.0).filter(|back| *back > 0) {
            if back > LATE_MAX {
                return;
            }
            (0..back).for_each(|_| self.pending.push_front(None));
            base = extended.0;
            self.base = Some(base);
        }
        let mut index = (extended.0 - base) as usize;
        if index >= PENDING_MAX {
            self.pending.clear();
            self.base = Some(extended.0);
            index = 0;
        }
        if index >= self.pending.len() {
            self.pending.resize(index + 1, None);
        }
        self.pending[index].get_or_insert(now);
        self.epoch.get_or_insert(now);
        let due_at = self.due_at.get_or_insert(now + INTERVAL);
        if self.pending.len() >= PENDING_URGENT {
            *due_at = now.min(*due_at);
        }
    }

    /// Appends one RTCP feedback packet to `out` if it is time; true if so. Call until it is false.
    ///
    /// `sender` is our SSRC, `media` that of any stream of the transport.
    pub fn poll(&mut self, now: Instant, sender: Ssrc, media: Ssrc, out: &mut Vec<u8>) -> bool {
        let (Some(epoch), Some(base)) = (self.epoch, self.base) else {
            return false;
        };
        if !self.is_due(now) || self.pending.is_empty() {
            return false;
        }
        let feedback = write::Feedback {
            sender,
            media,
            base: Seq(base as u16),
            count: self.count,
            epoch,
        };
        let written = write::write(out, &feedback, &self.pending);
        self.count = self.count.wrapping_add(1);
        self.pending.drain(..written);
        self.base = Some(base + written as u64);
        if self.pending.is_empty() {
            self.due_at = None;
        }
        true
    }

    /// True if [`Self::poll`] has something to say: to be asked after each packet.
    #[inline]
    pub fn is_due(&self, now: Instant) -> bool {
        self.due_at.is_some_and(|at| now >= at)
    }

    /// When [`Self::poll`] is to be called if no packet comes until then.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due_at.map(|at| at + PATIENCE)
    }
}

#[cfg(test)]
mod tests;
