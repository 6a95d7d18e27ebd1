//! From the engine's outbox to the sockets: runs of datagrams that can leave by one system call.
//!
//! The outbox holds packet by packet what each subscriber gets; [`Transmitter`] turns that into
//! subscriber by subscriber. The order within a flow is kept, the order between flows is not.

use std::time::Instant;

use rustc_hash::FxHashMap;

use super::UdpPorts;
use super::tcp::TcpFlows;
use crate::engine::flow::{Flow, FlowProtocol};
use crate::engine::outbox::{Datagram, Outbox};
use crate::metrics::SocketCounters;

/// Bytes of one run: the kernel takes a run for one UDP datagram, whose length has 16 bits and includes
/// headers.
const RUN_BYTES_MAX: usize = 65_000;

/// Sends what waits in an outbox. Holds nothing between two calls but memory.
#[derive(Default)]
pub(super) struct Transmitter {
    /// The first datagram of each flow, as an index into those of the outbox.
    firsts: Vec<usize>,
    /// The next datagram of the same flow, by index of a datagram.
    nexts: Vec<Option<usize>>,
    /// The latest datagram of each flow.
    latest: FxHashMap<Flow, usize>,
    /// A run whose datagrams lie apart in the outbox. A copy is cheap beside a system call.
    gathered: Vec<u8>,
}

/// Datagrams of one flow that leave by one send.
struct Run<'a> {
    bytes: &'a [u8],
    /// The length of each datagram but the last, which may be shorter.
    segment_bytes: usize,
    /// Where the flow goes on.
    rest: Option<usize>,
}

/// Bytes waiting in the outbox.
pub(super) fn len_bytes(outbox: &Outbox) -> usize {
    outbox.datagrams().last().map_or(0, |last| last.range.end)
}

impl Transmitter {
    /// Sends all of `outbox`.
    pub(super) fn send(
        &mut self,
        now: Instant,
        outbox: &Outbox,
        ports: &mut UdpPorts,
        tcp: &mut TcpFlows,
        counters: &mut SocketCounters,
    ) {
        let datagrams = outbox.datagrams();
        self.group(datagrams);
        for index in 0..self.firsts.len() {
            let mut next = Some(self.firsts[index]);
            while let Some(at) = next {
                let flow = &datagrams[at].flow;
                match (flow.protocol, ports.sender(flow.local)) {
                    (FlowProtocol::Udp, Some(port)) => {
                        let run = self.run(outbox, at, port.segments_max());
                        port.send(now, flow, run.bytes, run.segment_bytes, counters);
                        next = run.rest;
                        continue;
                    }
                    (FlowProtocol::Udp, None) => counters.udp_refused += 1,
                    (FlowProtocol::Tcp, _) => {
                        tcp.send(flow, outbox.bytes(datagrams[at].range.clone()), counters);
                    }
                }
                next = self.nexts[at];
            }
        }
        tcp.flush(now, counters);
    }

    /// Chains the datagrams of each flow.
    fn group(&mut self, datagrams: &[Datagram]) {
        self.firsts.clear();
        self.nexts.clear();
        self.nexts.resize(datagrams.len(), None);
        self.latest.clear();
        for (index, datagram) in datagrams.iter().enumerate() {
            match self.latest.insert(datagram.flow, index) {
                Some(before) => self.nexts[before] = Some(index),
                None => self.firsts.push(index),
            }
        }
    }

    /// The run that begins with datagram `first`: all as long as that one, except that the last may be
    /// shorter.
    fn run<'a>(&'a mut self, outbox: &'a Outbox, first: usize, segments_max: usize) -> Run<'a> {
        let datagrams = outbox.datagrams();
        let head = &datagrams[first].range;
        let segment_bytes = head.len();
        let (mut end, mut len_bytes, mut length) = (head.end, segment_bytes, 1);
        let mut is_adjacent = true;
        let mut rest = self.nexts[first];
        while let Some(at) = rest {
            let range = &datagrams[at].range;
            let fits = (1..=segment_bytes).contains(&range.len())
                && len_bytes + range.len() <= RUN_BYTES_MAX
                && length < segments_max;
            if !fits {
                break;
            }
            is_adjacent &= range.start == end;
            end = range.end;
            len_bytes += range.len();
            length += 1;
            rest = self.nexts[at];
            if range.len() < segment_bytes {
                break;
            }
        }
        let bytes = if is_adjacent {
            outbox.bytes(head.start..end)
        } else {
            self.gather(outbox, first, length)
        };
        Run {
            bytes,
            segment_bytes,
            rest,
        }
    }

    fn gather(&mut self, outbox: &Outbox, first: usize, length: usize) -> &[u8] {
        self.gathered.clear();
        let chain = std::iter::successors(Some(first), |at| self.nexts[*at]);
        for at in chain.take(length) {
            let range = outbox.datagrams()[at].range.clone();
            self.gathered.extend_from_slice(outbox.bytes(range));
        }
        &self.gathered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Datagrams as (peer, length in bytes); runs as (peer, length in bytes, number of datagrams).
    fn check(datagrams: &[(u16, usize)], segments_max: usize, expected: &[(u16, usize, usize)]) {
        let mut outbox = Outbox::default();
        for (number, &(peer, len)) in (0..).zip(datagrams) {
            let flow = Flow {
                protocol: FlowProtocol::Udp,
                local: ([10, 0, 0, 1], 7100).into(),
                remote: ([10, 0, 0, 2], peer).into(),
            };
            outbox.push(flow, &vec![number; len]);
        }
        let mut transmitter = Transmitter::default();
        transmitter.group(outbox.datagrams());
        let mut runs = Vec::new();
        for first in transmitter.firsts.clone() {
            let mut next = Some(first);
            while let Some(at) = next {
                let peer = outbox.datagrams()[at].flow.remote.port();
                let run = transmitter.run(&outbox, at, segments_max);
                assert!(run.bytes.is_sorted(), "order is kept");
                let length = run.bytes.len().div_ceil(run.segment_bytes.max(1)).max(1);
                runs.push((peer, run.bytes.len(), length));
                next = run.rest;
            }
        }
        assert_eq!(runs, expected, "{datagrams:?}");
    }

    #[test]
    fn runs_have_one_peer_and_one_size() {
        check(&[(1, 100), (1, 100), (1, 100)], 64, &[(1, 300, 3)]);
        check(
            &[(1, 100), (1, 101), (1, 101)],
            64,
            &[(1, 100, 1), (1, 202, 2)],
        );
        check(
            &[(1, 100), (1, 100), (2, 70), (2, 70)],
            64,
            &[(1, 200, 2), (2, 140, 2)],
        );
    }

    #[test]
    fn fan_out_of_several_packets_leaves_peer_by_peer() {
        check(
            &[
                (1, 100),
                (2, 100),
                (3, 80),
                (1, 100),
                (2, 100),
                (3, 81),
                (1, 90),
            ],
            64,
            &[(1, 290, 3), (2, 200, 2), (3, 80, 1), (3, 81, 1)],
        );
    }

    #[test]
    fn shorter_datagram_ends_a_run() {
        check(
            &[(1, 100), (1, 100), (1, 40), (1, 40)],
            64,
            &[(1, 240, 3), (1, 40, 1)],
        );
    }

    #[test]
    fn empty_datagram_travels_alone() {
        check(
            &[(1, 0), (1, 0), (1, 10), (1, 0)],
            64,
            &[(1, 0, 1), (1, 0, 1), (1, 10, 1), (1, 0, 1)],
        );
    }

    #[test]
    fn runs_keep_to_the_limits_of_the_kernel() {
        check(&[(1, 100); 5], 2, &[(1, 200, 2), (1, 200, 2), (1, 100, 1)]);
        check(&[(1, 100); 3], 1, &[(1, 100, 1), (1, 100, 1), (1, 100, 1)]);
        check(&[(1, 1300); 60], 64, &[(1, 65_000, 50), (1, 13_000, 10)]);
    }
}
