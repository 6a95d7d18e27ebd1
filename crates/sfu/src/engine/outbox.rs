//! Datagrams waiting to leave: one byte arena and the runs that lie in it, in order.
//!
//! [`Outbox`] is emptied by the worker many times a turn. Datagrams are written where they leave from,
//! so nothing is copied between sealing and the socket, and neighbours for one peer grow into one
//! [`Run`], which the kernel can take by one call. Deliberately absent: pacing.

use std::ops::Range;

use super::flow::Flow;

/// Bytes the arena starts with. Too low: it grows once more in the first seconds of a busy worker.
/// Too high: idle memory.
const ARENA_BYTES_START: usize = 64 * 1024;

/// Bytes of the arena that are kept when it is emptied. Too low: a busy worker allocates again and again. Too
/// high: one burst costs memory for good.
const ARENA_BYTES_KEPT: usize = 1024 * 1024;

/// Datagrams of one run: what Linux segments by one call (`UDP_MAX_SEGMENTS`).
const RUN_DATAGRAMS_MAX: usize = 64;

/// Bytes of one run: the kernel takes a run for one UDP datagram, whose length has 16 bits and includes
/// headers.
const RUN_BYTES_MAX: usize = 65_000;

/// Datagrams of one flow, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where they go.
    pub flow: Flow,
    /// Where their bytes lie in [`Outbox::bytes`].
    pub range: Range<usize>,
    /// The length of each datagram but the last, which may be shorter. At least 1.
    pub segment_bytes: usize,
}

impl Run {
    /// Number of datagrams.
    pub fn datagrams(&self) -> usize {
        self.range.len().div_ceil(self.segment_bytes).max(1)
    }
}

/// Datagrams in the order in which they must leave.
#[derive(Debug)]
pub struct Outbox {
    /// Its length is that of the longest content so far: what was written once need not be zeroed again.
    arena: Vec<u8>,
    filled: usize,
    runs: Vec<Run>,
    /// Datagrams that the last run still takes.
    room: usize,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            arena: Vec::with_capacity(ARENA_BYTES_START),
            filled: 0,
            runs: Vec::new(),
            room: 0,
        }
    }
}

impl Outbox {
    /// What waits, oldest first.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The datagrams of [`Self::runs`], one by one.
    pub fn datagrams(&self) -> impl Iterator<Item = (Flow, &[u8])> {
        self.runs.iter().flat_map(|run| {
            let bytes = &self.arena[run.range.clone()];
            bytes
                .chunks(run.segment_bytes)
                .map(|datagram| (run.flow, datagram))
        })
    }

    /// The bytes of a run, or of a part of it.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.arena[range]
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes waiting.
    pub fn len_bytes(&self) -> usize {
        self.filled
    }

    /// Queues a copy of `bytes`.
    pub fn push(&mut self, flow: Flow, bytes: &[u8]) {
        self.push_with(&flow, bytes.len(), |out| {
            out.copy_from_slice(bytes);
            Some(bytes.len())
        });
    }

    /// Queues a datagram of at most `len_max` bytes that `write` makes in place. `write` gets a
    /// zeroed or recycled buffer and returns how much of it counts; `None` queues nothing.
    pub fn push_with(
        &mut self,
        flow: &Flow,
        len_max: usize,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let end = self.filled + len_max;
        if end > self.arena.len() {
            self.arena.resize(end, 0);
        }
        let Some(len) = write(&mut self.arena[self.filled..end]) else {
            return false;
        };
        self.note(flow, len);
        true
    }

    /// Forgets everything, keeping memory for as much again within reason.
    pub fn clear(&mut self) {
        self.filled = 0;
        self.arena.truncate(ARENA_BYTES_KEPT);
        self.arena.shrink_to(ARENA_BYTES_KEPT);
        self.runs.clear();
        self.room = 0;
    }

    /// Adds the next `len` bytes of the arena to the runs.
    fn note(&mut self, flow: &Flow, len: usize) {
        let start = self.filled;
        self.filled += len;
        if let Some(run) = self.runs.last_mut()
            && self.room > 0
            && (1..=run.segment_bytes).contains(&len)
            && run.range.len() + len <= RUN_BYTES_MAX
            && run.flow == *flow
        {
            run.range.end += len;
            // A shorter one is the last.
            self.room = if len == run.segment_bytes {
                self.room - 1
            } else {
                0
            };
            return;
        }
        self.runs.push(Run {
            flow: *flow,
            range: start..self.filled,
            segment_bytes: len.max(1),
        });
        self.room = if len > 0 { RUN_DATAGRAMS_MAX - 1 } else { 0 };
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

    /// Datagrams as (peer, length in bytes); runs as (peer, length in bytes, number of datagrams).
    #[track_caller]
    fn check(datagrams: &[(u16, usize)], expected: &[(u16, usize, usize)]) {
        let mut outbox = Outbox::default();
        for (number, &(peer, len)) in (0..).zip(datagrams) {
            outbox.push(flow(peer), &vec![number; len]);
        }
        let runs: Vec<_> = outbox
            .runs()
            .iter()
            .map(|run| (run.flow.remote.port(), run.range.len(), run.datagrams()))
            .collect();
        assert_eq!(runs, expected, "{datagrams:?}");
        let sent: Vec<_> = outbox
            .datagrams()
            .map(|(flow, bytes)| (flow.remote.port(), bytes.len()))
            .collect();
        let whole = datagrams.iter().filter(|(_, len)| *len > 0);
        assert!(sent.iter().eq(whole), "{sent:?}");
        assert!(outbox.bytes(0..outbox.len_bytes()).is_sorted());
    }

    #[test]
    fn runs_have_one_peer_and_one_size() {
        check(&[(1, 100), (1, 100), (1, 100)], &[(1, 300, 3)]);
        check(&[(1, 100), (1, 101), (1, 101)], &[(1, 100, 1), (1, 202, 2)]);
        check(
            &[(1, 100), (1, 100), (2, 70), (2, 70)],
            &[(1, 200, 2), (2, 140, 2)],
        );
        check(
            &[(1, 100), (2, 100), (1, 100)],
            &[(1, 100, 1), (2, 100, 1), (1, 100, 1)],
        );
    }

    #[test]
    fn what_a_panic_left_unfinished_does_not_leave() {
        let mut outbox = Outbox::default();
        outbox.push(flow(1), b"sealed");
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            outbox.push_with(&flow(1), 6, |out| {
                out.copy_from_slice(b"secret");
                panic!("on purpose")
            })
        }));
        assert!(broken.is_err());
        outbox.push(flow(1), b"sealed");

        let sent: Vec<_> = outbox.datagrams().map(|(_, bytes)| bytes).collect();
        assert_eq!(sent, [b"sealed", b"sealed"]);
    }

    #[test]
    fn shorter_datagram_ends_a_run() {
        check(
            &[(1, 100), (1, 100), (1, 40), (1, 40)],
            &[(1, 240, 3), (1, 40, 1)],
        );
    }

    #[test]
    fn empty_datagram_travels_alone() {
        check(
            &[(1, 0), (1, 10), (1, 0)],
            &[(1, 0, 1), (1, 10, 1), (1, 0, 1)],
        );
    }

    #[test]
    fn runs_keep_to_the_limits_of_the_kernel() {
        check(&[(1, 1); 65], &[(1, 64, 64), (1, 1, 1)]);
        check(&[(1, 1300); 60], &[(1, 65_000, 50), (1, 13_000, 10)]);
    }
}
