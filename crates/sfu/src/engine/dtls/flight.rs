//! Retransmission of our last handshake flight (RFC 6347 section 4.2.4).
//!
//! [`Flight`] says when to send a copy, and makes one if all of it is plaintext: a copy differs in its
//! record numbers only, so that the peer does not take it for a replay. Encrypted records have to
//! be made afresh by rtc-dtls.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::gate::{RECORD_HEADER_SIZE, Record};

/// First wait for an answer; doubled each time. Too low: copies on every slow path. Too high: a lost
/// datagram delays a join. RFC 6347 has 1 s, browsers use 50 ms.
const TIMEOUT_FIRST: Duration = Duration::from_millis(250);
/// Longest wait between two copies. Too high: few attempts before the handshake gives up.
const TIMEOUT_MAX: Duration = Duration::from_secs(4);
/// Copies are at least so far apart, whatever the peer repeats. Too low: browsers, which repeat after
/// 50 ms, make us send everything twice on a slow path, and a flood is answered in kind. Too high: slower
/// recovery.
const REPETITION_INTERVAL: Duration = Duration::from_millis(150);
/// Copies of one flight. Bounds what a peer can make us send.
const COPIES_MAX: u32 = 20;

/// Copies of a flight that rtc-dtls makes before it gives up.
const FRESH_COPIES_MAX: u32 = 7;

/// The datagrams that the peer has to answer.
pub(super) struct Flight {
    datagrams: Vec<BytesMut>,
    /// The next one to push begins a flight.
    is_acknowledged: bool,
    sent_at: Option<Instant>,
    timeout: Duration,
    copies: u32,
    /// Next number of a plaintext record, over all flights.
    sequence_number: u64,
}

impl Flight {
    pub(super) fn new() -> Self {
        Self {
            datagrams: Vec::new(),
            is_acknowledged: false,
            sent_at: None,
            timeout: TIMEOUT_FIRST,
            copies: 0,
            sequence_number: 0,
        }
    }

    /// Gives the plaintext records of a datagram numbers that were not used yet.
    pub(super) fn number(&mut self, datagram: &mut BytesMut) {
        let mut at = 0;
        while let Some(record) = Record::split_off(&mut &datagram[at..]) {
            let (size, is_plain) = (record.bytes.len(), record.epoch == 0);
            if is_plain {
                // Epoch 0, then 48 bits.
                datagram[at + 3..at + RECORD_HEADER_SIZE - 2]
                    .copy_from_slice(&self.sequence_number.to_be_bytes());
                self.sequence_number += 1;
            }
            at += size;
        }
    }

    /// Adds a datagram just sent.
    pub(super) fn push(&mut self, now: Instant, datagram: &BytesMut) {
        if self.is_acknowledged {
            self.is_acknowledged = false;
            self.datagrams.clear();
        }
        self.datagrams.push(datagram.clone());
        self.sent_at = Some(now);
        self.timeout = TIMEOUT_FIRST;
        self.copies = 0;
    }

    /// The peer has begun to answer: it repeats itself until it is done, we need not.
    pub(super) fn acknowledge(&mut self) {
        self.is_acknowledged = true;
        self.sent_at = None;
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.sent_at
            .filter(|_| self.copies < COPIES_MAX)
            .map(|at| at + self.timeout)
    }

    /// True if a copy has to be sent, because the peer is silent.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        let is_due = self.poll_timeout().is_some_and(|at| now >= at);
        if is_due {
            self.timeout = (self.timeout * 2).min(TIMEOUT_MAX);
            self.note_copy(now);
        }
        is_due
    }

    /// True if a copy has to be sent, because the peer repeats itself: it has not heard us.
    pub(super) fn handle_repetition(&mut self, now: Instant) -> bool {
        let is_due = self.copies < COPIES_MAX
            && self
                .sent_at
                .is_some_and(|at| now.duration_since(at) >= REPETITION_INTERVAL);
        if is_due {
            self.note_copy(now);
        }
        is_due
    }

    fn note_copy(&mut self, now: Instant) {
        self.copies += 1;
        self.sent_at = Some(now);
    }

    /// True if rtc-dtls should be asked for the copy.
    pub(super) fn wants_fresh_records(&self) -> bool {
        let is_encrypted = self.datagrams.iter().any(|datagram| {
            let mut rest = &datagram[..];
            std::iter::from_fn(|| Record::split_off(&mut rest)).any(|record| record.epoch > 0)
        });
        is_encrypted && self.copies <= FRESH_COPIES_MAX
    }

    /// Copies the flight, with new numbers on the plaintext records.
    pub(super) fn copy_to(&mut self, transmits: &mut VecDeque<BytesMut>) {
        for index in 0..self.datagrams.len() {
            let mut copy = self.datagrams[index].clone();
            self.number(&mut copy);
            transmits.push_back(copy);
        }
    }
}
