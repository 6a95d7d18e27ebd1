//! Missing packets and when to ask for them: [`MissingPackets`].

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::rtp::{ExtendedSeq, Seq};

/// Missing packets kept. Too low → a burst of loss costs a key frame that retransmission could save; too high → a
/// hostile or broken source makes us send and search long lists. 500 packets are about a second of 5 Mbit/s.
const MISSING_MAX: usize = 500;

/// Wait before the first request. Too low → packets that merely overtook each other are asked for; too high → repairs
/// come later than the jitter buffer plays.
const REORDER_WAIT: Duration = Duration::from_millis(5);

/// Requests per packet before it is given up. Too low → a lost retransmission costs a key frame; too high → bandwidth
/// for pictures that are too old to show.
const REQUESTS_MAX: u8 = 10;

/// Round trip to assume before one is measured. Too low → every packet is asked for twice; too high → the second
/// request comes late.
const RTT_DEFAULT: Duration = Duration::from_millis(100);

/// Bounds of the time between two requests for one packet, whatever the round trip is said to be. Too low → requests
/// pile up while the answer is on its way; too high → lost retransmissions are found late.
const RETRY_INTERVAL_MIN: Duration = Duration::from_millis(20);
const RETRY_INTERVAL_MAX: Duration = Duration::from_millis(400);

/// The holes in a stream, ascending.
#[derive(Clone, Debug, Default)]
pub(super) struct MissingPackets {
    packets: VecDeque<Missing>,
    /// Not later than the earliest `next_at`.
    next_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    seq: u64,
    next_at: Instant,
    requests: u8,
}

impl MissingPackets {
    /// Notes a hole above all others; false if it is too large to be repaired, with all others forgotten.
    pub(super) fn add(&mut self, now: Instant, seqs: Range<u64>) -> bool {
        let count = (seqs.end - seqs.start) as usize;
        if self.packets.len() + count > MISSING_MAX {
            self.clear();
            return false;
        }
        let next_at = now + REORDER_WAIT;
        self.packets.extend(seqs.map(|seq| Missing {
            seq,
            next_at,
            requests: 0,
        }));
        self.next_at = Some(self.next_at.map_or(next_at, |at| at.min(next_at)));
        true
    }

    /// Notes a hole below all others; false as for [`Self::add`].
    pub(super) fn add_below(&mut self, now: Instant, seqs: Range<u64>) -> bool {
        let above = std::mem::take(&mut self.packets);
        let added = self.add(now, seqs);
        if added && self.packets.len() + above.len() <= MISSING_MAX {
            self.packets.extend(above);
            return true;
        }
        self.clear();
        false
    }

    /// Notes that a packet has come.
    pub(super) fn remove(&mut self, seq: u64) {
        if let Ok(at) = self
            .packets
            .binary_search_by_key(&seq, |missing| missing.seq)
        {
            self.packets.remove(at);
            if self.packets.is_empty() {
                self.next_at = None;
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.packets.clear();
        self.next_at = None;
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next_at
    }

    /// Appends what to ask for; true if a packet was given up.
    pub(super) fn poll(&mut self, now: Instant, rtt: Option<Duration>, out: &mut Vec<Seq>) -> bool {
        if self.next_at.is_none_or(|at| now < at) {
            return false;
        }
        let interval = rtt
            .unwrap_or(RTT_DEFAULT)
            .clamp(RETRY_INTERVAL_MIN, RETRY_INTERVAL_MAX);
        let before = self.packets.len();
        let mut earliest: Option<Instant> = None;
        self.packets.retain_mut(|missing| {
            if now >= missing.next_at {
                if missing.requests == REQUESTS_MAX {
                    return false;
                }
                missing.requests += 1;
                missing.next_at = now + interval;
                out.push(ExtendedSeq(missing.seq).seq());
            }
            earliest = Some(earliest.map_or(missing.next_at, |at| at.min(missing.next_at)));
            true
        });
        self.next_at = earliest;
        self.packets.len() < before
    }
}
