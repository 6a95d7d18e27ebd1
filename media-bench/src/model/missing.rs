//! What a receiver asks for again: [`Missing`], in the manner of libwebrtc's `NackRequester`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use forwarding::rtp::Seq;

/// Between requests for the same packet: a receiver that does not know the round trip takes this for it.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Requests for one packet.
const REQUESTS_MAX: u8 = 10;

/// Packets asked for at a time; beyond, a key frame is asked for instead.
const MISSING_MAX: usize = 1_000;

/// Between looks at what is due.
const TICK: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug)]
struct Entry {
    next_at: Instant,
    requests: u8,
}

/// Gaps in one stream.
#[derive(Debug, Default)]
pub(super) struct Missing {
    highest: Option<u64>,
    entries: BTreeMap<u64, Entry>,
    tick_at: Option<Instant>,
    gave_up: bool,
}

impl Missing {
    /// Notes that a packet came.
    pub(super) fn handle_packet(&mut self, now: Instant, seq: u64) {
        let Some(highest) = self.highest.filter(|highest| seq > *highest) else {
            self.highest = self.highest.or(Some(seq));
            self.entries.remove(&seq);
            return;
        };
        self.highest = Some(seq);
        let entry = Entry {
            next_at: now,
            requests: 0,
        };
        if (seq - highest) as usize + self.entries.len() > MISSING_MAX {
            self.entries.clear();
            self.gave_up = true;
            return;
        }
        self.entries
            .extend((highest + 1..seq).map(|seq| (seq, entry)));
        if seq > highest + 1 {
            self.tick_at = Some(now);
        }
    }

    /// Forgets what lies before a packet: nobody waits for it.
    pub(super) fn forget_before(&mut self, seq: u64) {
        self.entries = self.entries.split_off(&seq);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.tick_at.filter(|_| !self.entries.is_empty())
    }

    /// What to ask for.
    pub(super) fn poll(&mut self, now: Instant) -> Vec<Seq> {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.tick_at = Some(now + TICK);
        let mut due = Vec::new();
        self.entries.retain(|seq, entry| {
            if entry.next_at > now {
                return true;
            }
            if entry.requests == REQUESTS_MAX {
                self.gave_up = true;
                return false;
            }
            entry.requests += 1;
            entry.next_at = now + RETRY_INTERVAL;
            due.push(Seq(*seq as u16));
            true
        });
        due
    }

    /// True once after something was given up.
    pub(super) fn take_given_up(&mut self) -> bool {
        std::mem::take(&mut self.gave_up)
    }
}
