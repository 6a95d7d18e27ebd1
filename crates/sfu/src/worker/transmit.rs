//! From the engine's outbox to the sockets: as many runs of datagrams as one system call takes.
//!
//! Order of new packets is kept within a track.

use std::ops::Range;
use std::time::Instant;

use udp_batch::Batch;

use super::UdpPorts;
use super::tcp::TcpFlows;
use crate::engine::flow::{Flow, FlowProtocol};
use crate::engine::outbox::{Departure, Outbox};
use crate::metrics::SocketCounters;

/// Messages given to one system call. Too low: the call's own cost is shared by few. Too high: memory for
/// arguments, some 350 bytes each.
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
    /// Where one more datagram lies, which is the last; empty if there is none.
    pub(super) closing: Range<usize>,
    /// The length of each datagram but the last, which may be shorter.
    pub(super) segment_bytes: usize,
}

impl Message {
    /// Bytes of all its datagrams.
    pub(super) fn len(&self) -> usize {
        self.range.len() + self.closing.len()
    }

    /// True if there are several datagrams.
    pub(super) fn is_run(&self) -> bool {
        self.len() > self.segment_bytes
    }

    /// What leaves one after the other where it cannot at once: sound first, as if nothing had been joined.
    pub(super) fn parts(&self) -> impl Iterator<Item = Range<usize>> {
        let closing = Some(self.closing.clone()).filter(|closing| !closing.is_empty());
        closing.into_iter().chain([self.range.clone()])
    }
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
        // The same for all of the outbox, whatever is refused meanwhile.
        let may_join = ports.offload().may_join();
        for leaving in outbox.departures(may_join) {
            let run = leaving.run;
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
                counters.udp_refused += leaving.datagrams() as u64;
                continue;
            };
            for message in messages(leaving, port.segments_max()) {
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

/// Cuts a run into messages of at most `segments_max` datagrams, unless something closes it: [`UdpPort::send`] cuts what
/// is refused.
///
/// [`UdpPort::send`]: super::udp::UdpPort::send
pub(super) fn messages(
    leaving: Departure<'_>,
    segments_max: usize,
) -> impl Iterator<Item = Message> {
    let Departure { run, closing } = leaving;
    let step = match closing {
        Some(_) => run.range.len(),
        None => run.segment_bytes * segments_max.max(1),
    };
    let starts = run.range.clone().step_by(step);
    // An empty datagram is one, too.
    let empty = run.range.is_empty().then_some(run.range.start);
    starts.chain(empty).map(move |start| Message {
        flow: run.flow,
        range: start..run.range.end.min(start + step),
        closing: closing.map_or(0..0, |closing| closing.range.clone()),
        segment_bytes: run.segment_bytes,
    })
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

    #[track_caller]
    fn check(lengths: &[usize], segments_max: usize, expected: &[(usize, usize)]) {
        let mut outbox = Outbox::default();
        for len in lengths {
            outbox.push(flow(9), &vec![0; *len]);
        }
        let ranges: Vec<_> = outbox
            .departures(true)
            .flat_map(|leaving| messages(leaving, segments_max))
            .map(|message| (message.range.start, message.range.end))
            .collect();
        assert_eq!(ranges, expected);
    }

    #[test]
    fn runs_are_cut_where_the_system_takes_no_more() {
        check(&[100, 100, 100], 64, &[(0, 300)]);
        check(&[100, 100, 100], 2, &[(0, 200), (200, 300)]);
        check(&[100, 100, 90], 1, &[(0, 100), (100, 200), (200, 290)]);
        check(&[0], 64, &[(0, 0)]);
    }

    #[test]
    fn closed_run_is_one_message_of_two_parts() {
        let mut outbox = Outbox::default();
        outbox.push(flow(1), &[0; 60]);
        let sound = outbox.place();
        outbox.push(flow(2), &[0; 60]);
        outbox.push(flow(1), &[0; 100]);
        outbox.join(sound);
        outbox.push(flow(1), &[0; 100]);
        // Its bytes, if there are several datagrams, and where its parts lie.
        let describe = |message: Message| {
            let parts = message.parts().map(|part| (part.start, part.end));
            (message.len(), message.is_run(), parts.collect())
        };
        let leaving = |may_join, segments_max| -> Vec<(_, _, Vec<_>)> {
            let departures = outbox.departures(may_join);
            let messages = departures.flat_map(|leaving| messages(leaving, segments_max));
            messages.map(describe).collect()
        };

        for segments_max in [64, 1] {
            let expected = [
                (260, true, vec![(0, 60), (120, 320)]),
                (60, false, vec![(60, 120)]),
            ];
            assert_eq!(leaving(true, segments_max), expected);
        }
        let expected = [
            (60, false, vec![(0, 60)]),
            (60, false, vec![(60, 120)]),
            (200, true, vec![(120, 320)]),
        ];
        assert_eq!(leaving(false, 64), expected);
    }
}
