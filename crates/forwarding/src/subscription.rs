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
            Verdict::Forward => match self.rewriter.rewrite(now, packet) {
                Some(rewritten) => return Some(rewritten),
                None => DropReason::TooLate,
            },
            Verdict::Start => return Some(self.rewriter.start(now, packet)),
            Verdict::Drop(reason) => reason,
        };
        self.drops.count(reason);
        None
    }
}
