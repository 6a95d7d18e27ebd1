//! DTLS handshakes waiting for their turn: [`HandshakeQueue`].
//!
//! One handshake costs as much as thousands of forwarded packets. Its datagrams wait here, so that a join storm is
//! worked off between packets and never delays them. What does not fit is lost, and sent again by the peer
//! (RFC 6347, section 4.2.4).

use std::collections::VecDeque;
use std::time::Instant;

use super::counters::Discard;
use super::flow::Flow;

/// Datagrams that may wait: up to 80 ms of work. Too low: a join storm is slowed down by retransmissions. Too high: what is
/// served has been sent again already.
const WAITING_MAX: usize = 256;

/// Datagrams of one peer that may wait: two flights of four. Too low: handshakes with many fragments are repeated. Too
/// high: few peers keep all others out.
const WAITING_PER_FLOW_MAX: usize = 8;

/// The longest datagram kept. Flights are cut to the MTU.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// Datagrams, oldest first.
#[derive(Debug, Default)]
pub(super) struct HandshakeQueue {
    waiting: VecDeque<(Instant, Flow, Vec<u8>)>,
}

impl HandshakeQueue {
    /// Queues a copy of a datagram.
    pub(super) fn push(
        &mut self,
        now: Instant,
        flow: Flow,
        datagram: &[u8],
    ) -> Result<(), Discard> {
        let of_flow = self.waiting.iter().filter(|(_, other, _)| *other == flow);
        if self.waiting.len() >= WAITING_MAX
            || datagram.len() > DATAGRAM_BYTES_MAX
            || of_flow.count() >= WAITING_PER_FLOW_MAX
        {
            return Err(Discard::TooManyHandshakes);
        }
        self.waiting.push_back((now, flow, datagram.to_vec()));
        Ok(())
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<(Flow, Vec<u8>)> {
        let (_, flow, datagram) = self.waiting.pop_front()?;
        Some((flow, datagram))
    }

    /// Since when the oldest waits.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.waiting.front().map(|(since, ..)| *since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::flow::FlowProtocol;

    fn flow(peer: u16) -> Flow {
        Flow {
            protocol: FlowProtocol::Udp,
            local: ([10, 0, 0, 1], 7100).into(),
            remote: ([10, 0, 0, 2], peer).into(),
        }
    }

    #[test]
    fn queue_keeps_order_and_is_bounded() {
        let start = Instant::now();
        let mut queue = HandshakeQueue::default();
        let refused = Err(Discard::TooManyHandshakes);
        assert_eq!(queue.waits_since(), None);
        let long = vec![22; DATAGRAM_BYTES_MAX + 1];
        assert_eq!(queue.push(start, flow(1), &long), refused);
        for peer in 0..WAITING_MAX as u16 {
            assert_eq!(queue.push(start, flow(peer), &[1]), Ok(()));
        }
        assert_eq!(queue.push(start, flow(9999), &[1]), refused);
        assert_eq!(queue.waits_since(), Some(start));
        for peer in 0..WAITING_MAX as u16 {
            assert_eq!(queue.pop(), Some((flow(peer), vec![1])));
        }
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn one_peer_leaves_room_for_others() {
        let now = Instant::now();
        let mut queue = HandshakeQueue::default();
        for _ in 0..WAITING_PER_FLOW_MAX {
            assert_eq!(queue.push(now, flow(1), &[1]), Ok(()));
        }
        assert!(queue.push(now, flow(1), &[1]).is_err());
        assert!(queue.push(now, flow(2), &[1]).is_ok());
    }
}
