//! From the engine's outbox to the sockets: as many runs of datagrams as one system call takes.
//!
//! Order is kept within a flow.

use std::ops::Range;
use std::time::Instant;

use udp_batch::Batch;

use super::UdpPorts;
use super::tcp::TcpFlows;
use crate::engine::flow::{Flow, FlowProtocol};
use crate::engine::outbox::{Outbox, Run};
use crate::metrics::SocketCounters;

/// Messages given to one system call. Too low: the call's own cost is shared by few. Too high: memory for
/// arguments, some 300 bytes each.
const BATCH_MAX: usize = 64;

/// Sends what waits in an outbox. Holds nothing between two calls but memory.
pub(super) struct Transmitter {
    messages: Vec<Message>,
    batch: Batch,
}

/// What one system call may send as one: a datagram, or a run of datagrams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) flow: Flow,
    /// Where its bytes lie in the outbox.
    pub(super) range: Range<usize>,
    /// The length of each datagram but the last, which may be shorter.
    pub(super) segment_bytes: usize,
}

impl Transmitter {
    pub(super) fn new() -> Self {
        Self {
            messages: Vec::with_capacity(BATCH_MAX),
            batch: Batch::with_capacity(BATCH_MAX),
        }
    }

    /// Sends all of `outbox`.
    pub(super) fn send(
        &mut self,
        now: Instant,
        outbox: &Outbox,
        ports: &mut UdpPorts,
        tcp: &mut TcpFlows,
        counters: &mut SocketCounters,
    ) {
        for run in outbox.runs() {
            if run.flow.protocol == FlowProtocol::Tcp {
                for frame in outbox.bytes(run.range.clone()).chunks(run.segment_bytes) {
                    tcp.send(&run.flow, frame, counters);
                }
                continue;
            }
            if let Some(number) = run.flow.local_number() {
                for packet in outbox.bytes(run.range.clone()).chunks(run.segment_bytes) {
                    ports.rtp.taps.push(number, packet);
                }
                continue;
            }
            let Some(port) = ports.sender(run.flow.local) else {
                counters.udp_refused += run.datagrams() as u64;
                continue;
            };
            for message in messages(run, port.segments_max()) {
                let leaves_elsewhere = |first: &Message| first.flow.local != message.flow.local;
                if self.messages.len() == BATCH_MAX
                    || self.messages.first().is_some_and(leaves_elsewhere)
                {
                    self.flush(now, outbox, ports, counters);
                }
                self.messages.push(message);
            }
        }
        self.flush(now, outbox, ports, counters);
        tcp.flush(now, counters);
    }

    fn flush(
        &mut self,
        now: Instant,
        outbox: &Outbox,
        ports: &mut UdpPorts,
        counters: &mut SocketCounters,
    ) {
        let first = self.messages.first();
        if let Some(port) = first.and_then(|first| ports.sender(first.flow.local)) {
            port.send(now, outbox, &self.messages, &mut self.batch, counters);
        }
        self.messages.clear();
    }
}

/// Cuts a run into messages of at most `segments_max` datagrams.
pub(super) fn messages(run: &Run, segments_max: usize) -> impl Iterator<Item = Message> {
    let step = run.segment_bytes * segments_max.max(1);
    let starts = run.range.clone().step_by(step);
    // An empty datagram is one, too.
    let empty = run.range.is_empty().then_some(run.range.start);
    starts.chain(empty).map(move |start| Message {
        flow: run.flow,
        range: start..run.range.end.min(start + step),
        segment_bytes: run.segment_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(range: Range<usize>, segments_max: usize, expected: &[(usize, usize)]) {
        let run = Run {
            flow: Flow {
                protocol: FlowProtocol::Udp,
                local: ([10, 0, 0, 1], 7100).into(),
                remote: ([10, 0, 0, 2], 9).into(),
            },
            range,
            segment_bytes: 100,
        };
        let ranges: Vec<_> = messages(&run, segments_max)
            .map(|message| (message.range.start, message.range.end))
            .collect();
        assert_eq!(ranges, expected);
    }

    #[test]
    fn runs_are_cut_where_the_system_takes_no_more() {
        check(50..350, 64, &[(50, 350)]);
        check(50..350, 2, &[(50, 250), (250, 350)]);
        check(50..340, 1, &[(50, 150), (150, 250), (250, 340)]);
        check(50..50, 64, &[(50, 50)]);
    }
}
