//! The way of datagrams from one worker to one other: two rings without locks or allocation.
//!
//! [`ring`] makes both ends. What does not fit is refused; nobody waits.

use std::time::Instant;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::engine::flow::Flow;

/// Bytes of datagrams under way to one worker. Too low: a burst that the other takes a moment to fetch is lost.
/// Too high: stale media after a stall.
const BYTES_MAX: usize = 128 * 1024;

/// The same with very many workers: a key frame of a good camera.
const BYTES_MIN: usize = 32 * 1024;

/// Bytes of all rings to one worker. There is a ring for every pair of workers: too high, and a machine with
/// a hundred cores spends a gigabyte on them.
const BYTES_PER_WORKER: usize = 2 * 1024 * 1024;

/// Bytes of a datagram with sound; a ring has headers for as many as fill it.
const SOUND_BYTES: usize = 128;

/// Share of a ring that is left to datagrams of validated flows, one in so many. A check must be handed
/// over before anybody knows whether it is worth anything, and a flood of them must not displace media.
const RESERVED_SHARE: usize = 2;

#[derive(Clone, Copy, Debug)]
struct Header {
    received_at: Instant,
    flow: Flow,
    len: usize,
}

/// The end of the worker which received the datagrams.
pub(super) struct Sender {
    headers: Producer<Header>,
    bytes: Producer<u8>,
}

/// The end of the worker to which they belong.
pub(super) struct Receiver {
    headers: Consumer<Header>,
    bytes: Consumer<u8>,
    /// A datagram that lay around the end of the ring.
    joined: Vec<u8>,
}

/// Both ends of an empty ring, one of as many to the same worker as it has others beside it.
pub(super) fn ring(others: usize) -> (Sender, Receiver) {
    let capacity = (BYTES_PER_WORKER / others.max(1)).clamp(BYTES_MIN, BYTES_MAX);
    let (headers, received_headers) = RingBuffer::new(capacity / SOUND_BYTES);
    let (bytes, received_bytes) = RingBuffer::new(capacity);
    let receiver = Receiver {
        headers: received_headers,
        bytes: received_bytes,
        joined: Vec::new(),
    };
    (Sender { headers, bytes }, receiver)
}

impl Sender {
    /// False if there is no room, of which a datagram that is not `proven` to come from a validated flow
    /// may take less.
    pub(super) fn push(
        &mut self,
        received_at: Instant,
        flow: Flow,
        datagram: &[u8],
        proven: bool,
    ) -> bool {
        let (reserved_headers, reserved_bytes) = if proven {
            (0, 0)
        } else {
            let (headers, bytes) = (self.headers.buffer(), self.bytes.buffer());
            (
                headers.capacity() / RESERVED_SHARE,
                bytes.capacity() / RESERVED_SHARE,
            )
        };
        if self.headers.slots() <= reserved_headers
            || self.bytes.slots() < reserved_bytes + datagram.len()
        {
            return false;
        }
        let header = Header {
            received_at,
            flow,
            len: datagram.len(),
        };
        // The header comes last: whoever sees it finds the bytes.
        self.bytes.push_entire_slice(datagram).is_ok() && self.headers.push(header).is_ok()
    }
}

impl Receiver {
    pub(super) fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// Passes the oldest datagram to `handle`, and tells when it was received; `None` if there is none.
    pub(super) fn pop(&mut self, handle: impl FnOnce(Flow, &mut [u8])) -> Option<Instant> {
        let Header {
            received_at,
            flow,
            len,
        } = self.headers.pop().ok()?;
        let mut bytes = self
            .bytes
            .read_chunk(len)
            .expect("the bytes are written before the header");
        match bytes.as_mut_slices() {
            (datagram, []) => handle(flow, datagram),
            (head, tail) => {
                self.joined.clear();
                self.joined.extend_from_slice(head);
                self.joined.extend_from_slice(tail);
                handle(flow, &mut self.joined);
            }
        }
        bytes.commit_all();
        Some(received_at)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::engine::flow::FlowProtocol;

    fn flow(port: u16) -> Flow {
        Flow {
            protocol: FlowProtocol::Udp,
            local: (Ipv4Addr::LOCALHOST, 7100).into(),
            remote: (Ipv4Addr::LOCALHOST, port).into(),
        }
    }

    #[test]
    fn datagrams_of_any_length_arrive_unchanged_and_in_order() {
        let (mut sender, mut receiver) = ring(1);
        let datagram = |number: u16| vec![number as u8; usize::from(number) * 7 % 1500];
        for number in 1..2000 {
            assert!(sender.push(Instant::now(), flow(number), &datagram(number), true));
            if number % 3 != 0 {
                continue;
            }
            for expected in number - 2..=number {
                let popped = receiver.pop(|from, bytes| {
                    assert_eq!((from, &*bytes), (flow(expected), &datagram(expected)[..]));
                });
                assert!(popped.is_some());
            }
            assert!(receiver.is_empty() && receiver.pop(|_, _| panic!("it is empty")).is_none());
        }
        assert!(!receiver.joined.is_empty(), "none lay around the end");
    }

    #[test]
    fn full_ring_refuses_whole_datagrams_and_recovers() {
        for len in [0, 100, 1200, 65_000] {
            let (mut sender, mut receiver) = ring(1);
            let mut taken = 0;
            while sender.push(Instant::now(), flow(1), &vec![7; len], true) {
                taken += 1;
            }
            let expected = BYTES_MAX.checked_div(len).unwrap_or(usize::MAX);
            assert_eq!(taken, expected.min(BYTES_MAX / SOUND_BYTES), "{len}");
            for _ in 0..taken {
                assert!(
                    receiver
                        .pop(|_, bytes| assert_eq!(bytes, vec![7; len]))
                        .is_some()
                );
            }
            assert!(
                receiver
                    .pop(|_, _| panic!("there is one too many"))
                    .is_none()
            );
            assert!(sender.push(Instant::now(), flow(1), &vec![7; len], false));
        }
    }

    #[test]
    fn rings_of_many_workers_are_smaller() {
        let capacity = |others| ring(others).0.bytes.buffer().capacity();
        assert_eq!(capacity(15), BYTES_MAX);
        assert_eq!(capacity(31), BYTES_PER_WORKER / 31);
        assert_eq!(capacity(127), BYTES_MIN);
    }

    #[test]
    fn unproven_datagrams_leave_room_for_media() {
        for len in [20, 1200] {
            let (mut sender, _receiver) = ring(1);
            while sender.push(Instant::now(), flow(1), &vec![0; len], false) {}
            let mut media = 0;
            while sender.push(Instant::now(), flow(2), &vec![0; len], true) {
                media += 1;
            }
            let all = BYTES_MAX / len.max(SOUND_BYTES);
            assert!(media >= all / RESERVED_SHARE, "{media} of {all}");
        }
    }
}
