//! Datagrams waiting to leave: one byte arena and the list of what lies in it, in order.
//!
//! [`Outbox`] is emptied by the worker once a turn. Datagrams are written where they leave from, so
//! nothing is copied between sealing and the socket. Deliberately absent: pacing.

use std::ops::Range;

use super::flow::Flow;

/// Bytes the arena starts with. Too low: it grows once more in the first seconds of a busy worker.
/// Too high: idle memory.
const ARENA_BYTES_START: usize = 64 * 1024;

/// One datagram of an [`Outbox`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it goes.
    pub flow: Flow,
    /// Where its bytes lie in [`Outbox::bytes`].
    pub range: Range<usize>,
}

/// Datagrams in the order in which they must leave.
#[derive(Debug)]
pub struct Outbox {
    arena: Vec<u8>,
    datagrams: Vec<Datagram>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            arena: Vec::with_capacity(ARENA_BYTES_START),
            datagrams: Vec::new(),
        }
    }
}

impl Outbox {
    /// The waiting datagrams, oldest first. Neighbours with the same flow and size may leave as one
    /// segmented send; their bytes are adjacent.
    pub fn datagrams(&self) -> &[Datagram] {
        &self.datagrams
    }

    /// The bytes of one datagram, or of several adjacent ones.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.arena[range]
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Queues a copy of `bytes`.
    pub fn push(&mut self, flow: Flow, bytes: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        self.datagrams.push(Datagram {
            flow,
            range: start..self.arena.len(),
        });
    }

    /// Queues a datagram of at most `len_max` bytes that `write` makes in place. `write` gets a
    /// zeroed or recycled buffer and returns how much of it counts; `None` queues nothing.
    pub fn push_with(
        &mut self,
        flow: Flow,
        len_max: usize,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let start = self.arena.len();
        self.arena.resize(start + len_max, 0);
        let written = write(&mut self.arena[start..]);
        self.arena.truncate(start + written.unwrap_or(0));
        if written.is_some() {
            self.datagrams.push(Datagram {
                flow,
                range: start..self.arena.len(),
            });
        }
        written.is_some()
    }

    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.datagrams.clear();
    }
}
