//! Datagrams waiting to leave: one byte arena and the runs that lie in it, in order.
//!
//! [`Outbox`] is emptied by the worker many times a turn. Datagrams are written where they leave from,
//! so nothing is copied between sealing and the socket, and neighbours for one peer grow into one
//! [`Run`], which the kernel can take by one call. A datagram that lies elsewhere may close a run ([`Outbox::join`]).
//! Deliberately absent: pacing.

#[cfg(test)]
mod tests;

use std::ops::Range;

use super::flow::{Flow, FlowProtocol};

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

/// Bytes of a run that a datagram which lay before it may close: a picture of 1.2 Mbit/s. Too low: more messages. Too
/// high: sound waits behind pictures on narrow paths, here 48 ms at 1 Mbit/s; it does anyway if it comes a moment after one.
const CLOSED_BYTES_MAX: usize = 6_000;

/// Datagrams of one flow, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where they go.
    pub flow: Flow,
    /// Where their bytes lie in [`Outbox::bytes`].
    pub range: Range<usize>,
    /// The length of each datagram but the last, which may be shorter. At least 1.
    pub segment_bytes: usize,
    /// The run that it may leave with, as [`Outbox::join`] said: the earlier one closes the later one.
    partner: Option<usize>,
}

impl Run {
    /// Number of datagrams.
    pub fn datagrams(&self) -> usize {
        self.range.len().div_ceil(self.segment_bytes).max(1)
    }

    /// True if one more datagram may be the last.
    fn takes(&self, closing: &Self) -> bool {
        let len = self.range.len();
        (1..=CLOSED_BYTES_MAX).contains(&len)
            && len.is_multiple_of(self.segment_bytes)
            && len < RUN_DATAGRAMS_MAX * self.segment_bytes
            && closing.range.len() <= self.segment_bytes
    }
}

/// Where a datagram lies, until its outbox is emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    filling: u64,
    run: usize,
}

/// What leaves at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure<'a> {
    /// Datagrams that lie one behind the other.
    pub run: &'a Run,
    /// One that lies elsewhere and is the last. It is not empty, not longer than those of the run, and all of those
    /// have one length.
    pub closing: Option<&'a Run>,
}

impl Departure<'_> {
    /// Number of datagrams.
    pub fn datagrams(&self) -> usize {
        self.run.datagrams() + usize::from(self.closing.is_some())
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
    /// Times it was emptied.
    filling: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            arena: Vec::with_capacity(ARENA_BYTES_START),
            filled: 0,
            runs: Vec::new(),
            room: 0,
            filling: 0,
        }
    }
}

impl Outbox {
    /// What waits, oldest first.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// What waits, in the order in which it leaves. A run that something closes leaves where that lies; with `may_join`
    /// false each run leaves by itself.
    pub fn departures(&self, may_join: bool) -> impl Iterator<Item = Departure<'_>> {
        let runs = self.runs.iter().enumerate();
        runs.filter_map(move |(index, run)| {
            if let Some(partner) = run.partner.filter(|_| may_join) {
                let is_closing = index < partner;
                let partner = &self.runs[partner];
                let (closing, run) = match is_closing {
                    true => (run, partner),
                    false => (partner, run),
                };
                if run.takes(closing) {
                    let closing = Some(closing);
                    return is_closing.then_some(Departure { run, closing });
                }
            }
            Some(Departure { run, closing: None })
        })
    }

    /// The datagrams one by one, in the order of [`Self::departures`] where runs may join.
    pub fn datagrams(&self) -> impl Iterator<Item = (Flow, &[u8])> {
        self.departures(true).flat_map(|leaving| {
            let Departure { run, closing } = leaving;
            let bytes = &self.arena[run.range.clone()];
            let closing = closing.map(|closing| &self.arena[closing.range.clone()]);
            let datagrams = bytes.chunks(run.segment_bytes).chain(closing);
            datagrams.map(|datagram| (run.flow, datagram))
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

    /// Where the datagram lies that was queued last, which may close a later run. If it has become part of a closed one,
    /// that is not closed after all: what closes it comes first.
    pub fn place(&mut self) -> Place {
        let run = self.runs.len().saturating_sub(1);
        if let Some(partner) = self.runs.last_mut().and_then(|last| last.partner.take()) {
            self.runs[partner].partner = None;
        }
        Place {
            filling: self.filling,
            run,
        }
    }

    /// Lets a datagram close the run that was queued last, which then leaves where the datagram lies, before all that was
    /// queued between them. Both do as they would otherwise if they do not fit together in the end.
    pub fn join(&mut self, closing: Place) {
        let last = self.runs.len().saturating_sub(1);
        if closing.filling != self.filling {
            return;
        }
        // Fails if the datagram is part of the run.
        let Ok([closing_run, run]) = self.runs.get_disjoint_mut([closing.run, last]) else {
            return;
        };
        let is_alone = (1..=closing_run.segment_bytes).contains(&closing_run.range.len());
        let is_free = closing_run.partner.is_none() && run.partner.is_none();
        let is_way = closing_run.flow == run.flow && run.flow.protocol == FlowProtocol::Udp;
        if is_alone && is_free && is_way {
            closing_run.partner = Some(last);
            run.partner = Some(closing.run);
        }
    }

    /// Forgets everything, keeping memory for as much again within reason.
    pub fn clear(&mut self) {
        self.filled = 0;
        self.arena.truncate(ARENA_BYTES_KEPT);
        self.arena.shrink_to(ARENA_BYTES_KEPT);
        self.runs.clear();
        self.room = 0;
        self.filling += 1;
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
            partner: None,
        });
        self.room = if len > 0 { RUN_DATAGRAMS_MAX - 1 } else { 0 };
    }
}
