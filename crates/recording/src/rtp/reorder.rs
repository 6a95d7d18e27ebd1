//! Putting packets in order, and waiting a while for those that were lost on the publisher's way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use forwarding::rtp::{Seq, Unroller};

/// How long a gap is waited for. A retransmission takes one or two round trips of the publisher. Too low: frames are
/// lost that were about to be repaired. Too high: more packets are held, and a loss is noticed late.
const GAP_WAIT: Duration = Duration::from_millis(400);

/// Packets that are held while a gap is waited for. At 5 Mbit/s that is one second. Too low: gaps of fast streams are
/// given up early. Too high: memory.
const PACKETS_MAX: usize = 512;

/// A packet in its place.
#[derive(Debug, PartialEq, Eq)]
pub struct Arrived<P> {
    /// Nothing is missing between this packet and the one before.
    pub is_continuous: bool,
    /// The packet.
    pub packet: P,
}

/// The packets of one stream.
#[derive(Debug)]
pub struct Reorder<P> {
    unroller: Unroller,
    /// Number of the next packet.
    next: Option<u64>,
    /// Packets behind a gap, by number, with the time they came.
    waiting: BTreeMap<u64, (Instant, P)>,
    has_gap: bool,
}

impl<P> Default for Reorder<P> {
    fn default() -> Self {
        Self {
            unroller: Unroller::default(),
            next: None,
            waiting: BTreeMap::new(),
            has_gap: false,
        }
    }
}

impl<P> Reorder<P> {
    /// Takes a packet. One that comes too late or twice is dropped.
    pub fn handle_packet(&mut self, now: Instant, seq: Seq, packet: P) {
        let Some(number) = self.unroller.unroll(seq) else {
            return;
        };
        let number = number.0;
        let next = *self.next.get_or_insert(number);
        if number >= next {
            self.waiting.entry(number).or_insert((now, packet));
        }
    }

    /// The next packet, if it is there, or if those before it are not waited for any more.
    pub fn poll_packet(&mut self, now: Instant) -> Option<Arrived<P>> {
        let entry = self.waiting.first_entry()?;
        let (number, arrived) = (*entry.key(), entry.get().0);
        let is_next = self.next.is_none_or(|next| next == number);
        let is_given_up = now.saturating_duration_since(arrived) >= GAP_WAIT;
        if !is_next && !is_given_up && self.waiting.len() < PACKETS_MAX {
            return None;
        }
        let (_, (_, packet)) = self.waiting.pop_first()?;
        self.next = Some(number + 1);
        Some(Arrived {
            is_continuous: is_next && !std::mem::take(&mut self.has_gap),
            packet,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that come, by milliseconds, and what leaves in the end as (number, continuous).
    #[track_caller]
    fn check(arrivals: &[(u64, u16)], until_ms: u64, expected: &[(u16, bool)]) {
        let start = Instant::now();
        let mut reorder = Reorder::default();
        let mut left = Vec::new();
        for at in 0..=until_ms {
            let now = start + Duration::from_millis(at);
            for (_, seq) in arrivals.iter().filter(|(due, _)| *due == at) {
                reorder.handle_packet(now, Seq(*seq), *seq);
            }
            while let Some(arrived) = reorder.poll_packet(now) {
                left.push((arrived.packet, arrived.is_continuous));
            }
        }
        assert_eq!(left, expected);
    }

    #[test]
    fn order_is_restored_within_the_wait() {
        check(
            &[(0, 65_535), (1, 1), (2, 0), (3, 0)],
            10,
            &[(65_535, true), (0, true), (1, true)],
        );
    }

    #[test]
    fn gap_is_given_up_and_told() {
        check(
            &[(0, 7), (1, 9), (2, 10), (500, 8)],
            600,
            &[(7, true), (9, false), (10, true)],
        );
    }

    #[test]
    fn gap_is_not_waited_for_with_too_much_behind_it() {
        let mut arrivals = vec![(0, 1)];
        arrivals.extend((3..3 + PACKETS_MAX as u16).map(|seq| (1, seq)));
        let mut expected = vec![(1, true), (3, false)];
        expected.extend((4..3 + PACKETS_MAX as u16).map(|seq| (seq, true)));
        check(&arrivals, 2, &expected);
    }
}
