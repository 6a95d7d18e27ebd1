//! What was sent on one transport and is not reported yet: [`SentPackets`].

use crate::rtp::{Seq, Unroller};

/// First size of the table; it doubles while the packets it would push out are young.
const LEN_START: usize = 128;

/// Packets remembered at most, a power of two: four seconds at 10 Mbit/s. Too low → feedback over slow paths finds
/// nothing; too high → 24 bytes each for every transport.
const LEN_MAX: usize = 4_096;

/// Age at which a packet that no feedback has named may be forgotten, µs. Too low → feedback on slow paths finds
/// nothing; too high → memory.
const YOUNG_MICROS: i64 = 2_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pending,
    Lost,
    Arrived,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    seq: u64,
    sent_micros: i64,
    size_bytes: u32,
    /// Bytes sent with it and before it.
    sent_bytes: u64,
    cluster: u16,
    state: State,
}

/// A packet that the receiver reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reported {
    pub(super) sent_micros: i64,
    pub(super) size_bytes: u32,
    /// The probe it was part of; 0 for none.
    pub(super) cluster: u16,
    /// It was said to be missing before.
    pub(super) was_lost: bool,
}

/// Ring of sent packets by transport-wide number.
#[derive(Clone, Debug, Default)]
pub(super) struct SentPackets {
    /// By number modulo length, a power of two; empty until the first packet.
    table: Vec<Option<Entry>>,
    unroller: Unroller,
    sent_bytes: u64,
    /// The same at the latest packet that feedback has named: what is said of the ones before may have been lost.
    reported_bytes: u64,
}

impl SentPackets {
    pub(super) fn handle_sent(&mut self, now_micros: i64, seq: Seq, size_bytes: u32, cluster: u16) {
        // Numbers are given in order, so a step back is another round.
        let seq = match self.unroller.highest() {
            Some(_) => self.unroller.unroll_forward(seq).0,
            None => self.unroller.unroll(seq).map_or(0, |seq| seq.0),
        };
        self.grow(now_micros, seq);
        let place = self.place(seq);
        self.sent_bytes += u64::from(size_bytes);
        self.table[place] = Some(Entry {
            seq,
            sent_micros: now_micros,
            size_bytes,
            sent_bytes: self.sent_bytes,
            cluster,
            state: State::Pending,
        });
    }

    /// The packet is said to have arrived: what it was, if that is news.
    pub(super) fn arrive(&mut self, seq: Seq) -> Option<Reported> {
        self.report(seq, State::Arrived)
    }

    /// The packet is said to be missing: what it was, if that is news.
    pub(super) fn lose(&mut self, seq: Seq) -> Option<Reported> {
        self.report(seq, State::Lost)
    }

    /// Bytes sent after the latest packet that feedback has named.
    pub(super) fn in_flight_bytes(&self) -> u64 {
        self.sent_bytes - self.reported_bytes
    }

    fn report(&mut self, seq: Seq, state: State) -> Option<Reported> {
        let highest = self.unroller.highest()?;
        let seq = self.unroller.peek(seq).filter(|seq| *seq <= highest)?.0;
        let place = self.place(seq);
        let entry = self.table[place]
            .as_mut()
            .filter(|entry| entry.seq == seq)?;
        let is_news = match (entry.state, state) {
            (State::Pending, _) => true,
            // It was late.
            (State::Lost, State::Arrived) => true,
            _ => false,
        };
        if !is_news {
            return None;
        }
        let was_lost = entry.state == State::Lost;
        self.reported_bytes = self.reported_bytes.max(entry.sent_bytes);
        entry.state = state;
        Some(Reported {
            sent_micros: entry.sent_micros,
            size_bytes: entry.size_bytes,
            cluster: entry.cluster,
            was_lost,
        })
    }

    fn place(&self, seq: u64) -> usize {
        seq as usize & (self.table.len() - 1)
    }

    fn grow(&mut self, now_micros: i64, seq: u64) {
        if self.table.is_empty() {
            self.table.resize(LEN_START, None);
            return;
        }
        let is_young = |entry: Entry| {
            entry.state == State::Pending && now_micros - entry.sent_micros < YOUNG_MICROS
        };
        if self.table.len() >= LEN_MAX || !self.table[self.place(seq)].is_some_and(is_young) {
            return;
        }
        let larger = vec![None; self.table.len() * 2];
        for entry in std::mem::replace(&mut self.table, larger)
            .into_iter()
            .flatten()
        {
            let place = self.place(entry.seq);
            self.table[place] = Some(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_reported_once_and_may_arrive_after_being_lost() {
        let mut sent = SentPackets::default();
        assert_eq!(sent.arrive(Seq(7)), None);
        for (index, seq) in [65_534, 65_535, 0, 1].into_iter().enumerate() {
            sent.handle_sent(index as i64, Seq(seq), 100, 0);
        }
        assert_eq!(sent.in_flight_bytes(), 400);
        assert_eq!(sent.arrive(Seq(65_535)).unwrap().sent_micros, 1);
        assert_eq!(sent.arrive(Seq(65_535)), None);
        assert_eq!(sent.lose(Seq(65_535)), None);
        assert!(sent.lose(Seq(0)).is_some());
        assert_eq!(sent.lose(Seq(0)), None);
        assert_eq!(sent.arrive(Seq(0)).unwrap().sent_micros, 2);
        assert_eq!(sent.arrive(Seq(2)), None, "never sent");
        assert_eq!(sent.in_flight_bytes(), 100);
        assert!(sent.arrive(Seq(1)).is_some());
        assert_eq!(sent.in_flight_bytes(), 0, "whatever became of the first");
    }

    #[test]
    fn memory_grows_with_what_is_in_flight_up_to_the_limit() {
        let mut sent = SentPackets::default();
        for number in 0..100_000u32 {
            sent.handle_sent(i64::from(number), Seq(number as u16), 1, 0);
        }
        assert_eq!(sent.table.len(), LEN_MAX);
        let mut sent = SentPackets::default();
        for number in 0..1000u32 {
            sent.handle_sent(i64::from(number), Seq(number as u16), 1, 0);
            sent.arrive(Seq(number as u16));
        }
        assert_eq!(sent.table.len(), LEN_START);
    }
}
