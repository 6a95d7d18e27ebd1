//! DTLS handshakes waiting for their turn: [`HandshakeQueue`].
//!
//! One handshake costs as much as thousands of forwarded packets. Its datagrams wait here, so that a join storm is
//! worked off between packets and never delays them. What does not fit is lost, and sent again by the peer
//! (RFC 6347, section 4.2.4).

use std::collections::VecDeque;
use std::time::Instant;

use super::counters::Discard;
use super::flow::Flow;

/// Datagrams that may wait: 50 ms of work. Too low: a join storm is slowed down by retransmissions. Too high: what is
/// served has been sent again already.
const WAITING_MAX: usize = 256;

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
        if self.waiting.len() >= WAITING_MAX || datagram.len() > DATAGRAM_BYTES_MAX {
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

    #[test]
    fn queue_keeps_order_and_is_bounded() {
        let start = Instant::now();
        let flow = Flow {
            protocol: FlowProtocol::Udp,
            local: ([10, 0, 0, 1], 7100).into(),
            remote: ([10, 0, 0, 2], 9).into(),
        };
        let mut queue = HandshakeQueue::default();
        assert_eq!(queue.waits_since(), None);
        let long = vec![22; DATAGRAM_BYTES_MAX + 1];
        assert_eq!(
            queue.push(start, flow, &long),
            Err(Discard::TooManyHandshakes)
        );
        for number in 0..WAITING_MAX {
            assert_eq!(queue.push(start, flow, &[number as u8]), Ok(()));
        }
        assert_eq!(
            queue.push(start, flow, &[1]),
            Err(Discard::TooManyHandshakes)
        );
        assert_eq!(queue.waits_since(), Some(start));
        for number in 0..WAITING_MAX {
            assert_eq!(queue.pop(), Some((flow, vec![number as u8])));
        }
        assert_eq!(queue.pop(), None);
    }
}
