//! [`Subscription`]: selector, rewriter and drop counters of one subscriber, as the fan-out loop uses them.

use std::time::Instant;

use crate::packet::SourcePacket;
use crate::rewriter::{Rewriter, Rewritten};
use crate::selector::{DropCounters, DropReason, Selector, Verdict};

/// One outgoing stream's decisions. The fields are public: the parts are independent, and only
/// [`Self::handle_packet`] ties them together.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Send or drop.
    pub selector: Selector,
    /// The numbers of what is sent.
    pub rewriter: Rewriter,
    /// What was dropped.
    pub drops: DropCounters,
}

impl Subscription {
    /// A subscription that has forwarded nothing.
    pub fn new(selector: Selector, rewriter: Rewriter) -> Self {
        Self {
            selector,
            rewriter,
            drops: DropCounters::default(),
        }
    }

    /// The decision about one packet: its outgoing numbers, or `None` (counted) if it is not sent.
    #[inline]
    pub fn handle_packet(&mut self, now: Instant, packet: &SourcePacket) -> Option<Rewritten> {
        let reason = match self.selector.select(packet) {
            Verdict::Sift => match self.sift(now, packet) {
                Ok(rewritten) => return Some(rewritten),
                Err(reason) => reason,
            },
            Verdict::Forward if packet.frame.empty && self.rewriter.leave_out(packet) => {
                DropReason::Padding
            }
            Verdict::Forward => match self.rewriter.rewrite(now, packet) {
                Some(rewritten) => return Some(rewritten),
                None => DropReason::TooLate,
            },
            Verdict::Start => {
                let bounds = self.selector.bounds();
                return Some(self.rewriter.start_with(now, packet, bounds));
            }
            Verdict::Drop(reason) => reason,
        };
        self.drops.count(reason);
        None
    }

    /// The decision where layers are left out. A packet in order is the selector's; a late one follows what was
    /// decided when its place in the outgoing stream was given: if its layer was left out, it goes out empty.
    fn sift(&mut self, now: Instant, packet: &SourcePacket) -> Result<Rewritten, DropReason> {
        if self.rewriter.is_late(packet) {
            self.selector.handle_late(packet);
            return self.rewriter.replay(packet).ok_or(DropReason::TooLate);
        }
        let admitted = self.selector.admit(packet);
        let bounds = self.selector.bounds();
        if bounds != self.rewriter.bounds() {
            self.rewriter.rebound(packet, bounds);
        }
        if !admitted || packet.frame.empty {
            self.rewriter.leave_out(packet);
            return Err(match packet.frame.empty {
                true => DropReason::Padding,
                false => DropReason::LayerLimit,
            });
        }
        let rewritten = self.rewriter.rewrite(now, packet);
        rewritten.ok_or(DropReason::TooLate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Codec, inspect};
    use crate::rtp::{ClockRate, RtpTime, Seq, Ssrc};
    use crate::test_support::{key, video};

    const A: Ssrc = Ssrc(1);

    fn subscription() -> Subscription {
        let mut selector = Selector::new(Codec::Vp8);
        selector.choose(Some(A));
        Subscription::new(
            selector,
            Rewriter::new(ClockRate::VIDEO, Seq(10), RtpTime(0)),
        )
    }

    fn seq(rewritten: Option<Rewritten>) -> Option<u64> {
        rewritten.map(|rewritten| rewritten.seq.0)
    }

    #[test]
    fn forwarding_starts_at_the_key_frame_and_counts_the_rest() {
        let now = Instant::now();
        let mut subscription = subscription();
        assert_eq!(subscription.handle_packet(now, &video(A, 1)), None);
        assert_eq!(seq(subscription.handle_packet(now, &key(A, 3))), Some(10));
        assert_eq!(seq(subscription.handle_packet(now, &video(A, 4))), Some(11));
        assert_eq!(subscription.handle_packet(now, &video(A, 2)), None);
        assert_eq!(subscription.drops.of(DropReason::WaitingForKeyFrame), 1);
        assert_eq!(subscription.drops.of(DropReason::TooLate), 1);
    }

    #[test]
    fn padding_in_order_is_left_out_and_late_padding_fills_its_gap() {
        let now = Instant::now();
        let padding = |seq| SourcePacket {
            frame: inspect(Codec::Vp8, &[]),
            ..video(A, seq)
        };
        let mut subscription = subscription();
        subscription.handle_packet(now, &key(A, 1));
        assert_eq!(subscription.handle_packet(now, &padding(2)), None);
        assert_eq!(seq(subscription.handle_packet(now, &video(A, 3))), Some(11));
        assert_eq!(seq(subscription.handle_packet(now, &video(A, 5))), Some(13));
        assert_eq!(seq(subscription.handle_packet(now, &padding(4))), Some(12));
        assert_eq!(subscription.drops.of(DropReason::Padding), 1);
    }
}
