//! From the engine's outbox to the sockets: runs of datagrams that can leave by one system call.

use std::time::Instant;

use super::stand_in::Engine;
use super::stand_in::outbox::{Datagram, Outbox};
use super::tcp::TcpFlows;
use super::udp::UdpPort;
use crate::engine::flow::FlowProtocol;
use crate::metrics::SocketCounters;

/// Bytes of one run: the kernel takes a run for one UDP datagram, whose length has 16 bits and includes
/// headers.
const RUN_BYTES_MAX: usize = 65_000;

/// Bytes waiting in the outbox.
pub(super) fn len_bytes(outbox: &Outbox) -> usize {
    outbox.datagrams().last().map_or(0, |last| last.range.end)
}

/// Sends all that waits in the engine's outbox.
pub(super) fn flush(
    now: Instant,
    engine: &mut Engine,
    ports: &mut [UdpPort],
    tcp: &mut TcpFlows,
    counters: &mut SocketCounters,
) {
    let outbox = engine.transmits();
    if outbox.is_empty() {
        return;
    }
    let mut rest = outbox.datagrams();
    while let [first, ..] = rest {
        let flow = &first.flow;
        let mut taken = 1;
        match flow.protocol {
            FlowProtocol::Tcp => tcp.send(flow, outbox.bytes(first.range.clone()), counters),
            FlowProtocol::Udp => match ports.iter_mut().find(|port| port.serves(flow.local.ip())) {
                Some(port) => {
                    taken = run_length(rest, port.segments_max());
                    let bytes = outbox.bytes(first.range.start..rest[taken - 1].range.end);
                    port.send(now, flow, bytes, first.range.len(), counters);
                }
                None => counters.udp_refused += 1,
            },
        }
        rest = &rest[taken..];
    }
    tcp.flush(now, counters);
    engine.clear_transmits();
}

/// How many datagrams from the first on can leave by one segmented send: same flow, adjacent bytes, all
/// as long as the first, except that the last may be shorter. At least 1.
fn run_length(datagrams: &[Datagram], segments_max: usize) -> usize {
    let [first, rest @ ..] = datagrams else {
        return 0;
    };
    let segment_bytes = first.range.len();
    let mut length = 1;
    let mut end = first.range.end;
    for next in rest {
        let fits = next.flow == first.flow
            && next.range.start == end
            && (1..=segment_bytes).contains(&next.range.len())
            && next.range.end - first.range.start <= RUN_BYTES_MAX
            && length < segments_max;
        if !fits {
            break;
        }
        length += 1;
        end = next.range.end;
        if next.range.len() < segment_bytes {
            break;
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::flow::Flow;

    /// Datagrams as (peer, length in bytes).
    fn check(datagrams: &[(u16, usize)], segments_max: usize, expected: &[usize]) {
        let mut outbox = Outbox::default();
        for &(peer, len) in datagrams {
            let flow = Flow {
                protocol: FlowProtocol::Udp,
                local: ([10, 0, 0, 1], 7100).into(),
                remote: ([10, 0, 0, 2], peer).into(),
            };
            outbox.push(flow, &vec![0; len]);
        }
        let mut rest = outbox.datagrams();
        let mut lengths = Vec::new();
        while !rest.is_empty() {
            let length = run_length(rest, segments_max);
            lengths.push(length);
            rest = &rest[length..];
        }
        assert_eq!(lengths, expected, "{datagrams:?}");
    }

    #[test]
    fn runs_have_one_peer_and_one_size() {
        check(&[(1, 100), (1, 100), (1, 100)], 64, &[3]);
        check(&[(1, 100), (2, 100), (1, 100)], 64, &[1, 1, 1]);
        check(&[(1, 100), (1, 101), (1, 101)], 64, &[1, 2]);
        check(&[(1, 100), (1, 100), (2, 100), (2, 100)], 64, &[2, 2]);
    }

    #[test]
    fn shorter_datagram_ends_a_run() {
        check(&[(1, 100), (1, 100), (1, 40), (1, 40)], 64, &[3, 1]);
    }

    #[test]
    fn empty_datagram_travels_alone() {
        check(&[(1, 0), (1, 0), (1, 10), (1, 0)], 64, &[1, 1, 1, 1]);
    }

    #[test]
    fn runs_keep_to_the_limits_of_the_kernel() {
        check(&[(1, 100); 5], 2, &[2, 2, 1]);
        check(&[(1, 100); 3], 1, &[1, 1, 1]);
        check(&[(1, 1300); 60], 64, &[50, 10]);
    }
}
