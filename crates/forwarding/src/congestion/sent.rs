//! What was sent on one transport and is not reported yet: [`SentPackets`].

use crate::rtp::Seq;

/// First size of the table; it doubles while more than half of it is in flight.
const LEN_START: usize = 64;

/// Size until the first report: who never reports need not cost more. Too low → the first report over a slow path finds
/// nothing; too high → memory.
const LEN_UNREPORTED_MAX: usize = 512;

/// Packets remembered at most, a power of two below 2^15: four seconds at 10 Mbit/s. Too low → feedback over slow paths
/// finds nothing; too high → 8 bytes each for every transport.
const LEN_MAX: usize = 4_096;

/// Age from which packets that no feedback has named get no more room, µs. Too low → feedback on slow paths finds
/// nothing; too high → memory.
const YOUNG_MICROS: i64 = 2_000_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// It has arrived, or was never sent.
    #[default]
    Settled,
    Pending,
    Lost,
}

/// Eight of them share a cache line: a packet for a thousand subscribers touches a thousand tables.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// When it was sent, modulo 2^32 µs.
    sent_micros: u32,
    size_bytes: u16,
    cluster: u8,
    state: State,
}

/// A packet that the receiver reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reported {
    pub(super) sent_micros: i64,
    pub(super) size_bytes: u32,
    /// The probe it was part of; 0 for none.
    pub(super) cluster: u8,
    /// It was said to be missing before.
    pub(super) was_lost: bool,
}

/// Ring of sent packets by transport-wide number.
#[derive(Clone, Debug, Default)]
pub(super) struct SentPackets {
    /// By number modulo length, a power of two: the numbers up to `latest`. Empty until the first packet.
    table: Vec<Entry>,
    latest: Option<Seq>,
    /// When the latest was sent.
    sent_micros: i64,
    /// Numbers after the latest that feedback has named; at most all of the table. What is said of those before may
    /// have been lost.
    unreported: usize,
    in_flight_bytes: u64,
    has_report: bool,
}

impl SentPackets {
    /// Numbers are given in order, so a step back is another round.
    #[inline]
    pub(super) fn handle_sent(&mut self, now_micros: i64, seq: Seq, size_bytes: u16, cluster: u8) {
        let is_next = self
            .latest
            .is_some_and(|latest| latest.wrapping_add(1) == seq);
        if !is_next {
            self.skip_to(seq);
        }
        if 2 * self.unreported >= self.table.len() {
            self.make_room(now_micros);
        }
        self.sent_micros = now_micros;
        let entry = Entry {
            sent_micros: now_micros as u32,
            size_bytes,
            cluster,
            state: State::Pending,
        };
        self.push(seq, entry);
    }

    /// The packet is said to have arrived: what it was, if that is news.
    #[inline]
    pub(super) fn arrive(&mut self, seq: Seq) -> Option<Reported> {
        self.report(seq, State::Settled)
    }

    /// The packet is said to be missing: what it was, if that is news.
    pub(super) fn lose(&mut self, seq: Seq) -> Option<Reported> {
        self.report(seq, State::Lost)
    }

    /// Bytes sent after the latest packet that feedback has named.
    pub(super) fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    #[inline]
    fn report(&mut self, seq: Seq, state: State) -> Option<Reported> {
        let back = usize::from(self.latest?.steps_from(seq));
        if back >= self.table.len() {
            return None;
        }
        let place = self.place(seq);
        let entry = self.table[place];
        let is_news = match entry.state {
            State::Pending => true,
            // It was late.
            State::Lost => state == State::Settled,
            State::Settled => false,
        };
        if !is_news {
            return None;
        }
        self.table[place].state = state;
        self.has_report = true;
        for named in (back..self.unreported).rev() {
            self.in_flight_bytes -= u64::from(self.back(named).size_bytes);
        }
        self.unreported = self.unreported.min(back);
        let age = (self.sent_micros as u32).wrapping_sub(entry.sent_micros);
        Some(Reported {
            sent_micros: self.sent_micros - i64::from(age),
            size_bytes: u32::from(entry.size_bytes),
            cluster: entry.cluster,
            was_lost: entry.state == State::Lost,
        })
    }

    #[inline]
    fn push(&mut self, seq: Seq, entry: Entry) {
        let place = self.place(seq);
        let oldest = std::mem::replace(&mut self.table[place], entry);
        self.latest = Some(seq);
        self.in_flight_bytes += u64::from(entry.size_bytes);
        if self.unreported == self.table.len() {
            self.in_flight_bytes -= u64::from(oldest.size_bytes);
        } else {
            self.unreported += 1;
        }
    }

    /// Leaves out numbers that others have.
    #[cold]
    fn skip_to(&mut self, seq: Seq) {
        let Some(latest) = self.latest else {
            self.table.resize(LEN_START, Entry::default());
            return;
        };
        let skipped = seq.steps_from(latest.wrapping_add(1));
        if usize::from(skipped) >= self.table.len() {
            self.table.fill(Entry::default());
            self.unreported = 0;
            self.in_flight_bytes = 0;
            return;
        }
        for back in (1..=skipped).rev() {
            self.push(Seq(seq.0.wrapping_sub(back)), Entry::default());
        }
    }

    #[cold]
    fn make_room(&mut self, now_micros: i64) {
        let len_max = match self.has_report {
            true => LEN_MAX,
            false => LEN_UNREPORTED_MAX,
        };
        let len = self.table.len();
        let Some(latest) = self.latest.filter(|_| len < len_max && self.unreported > 0) else {
            return;
        };
        let oldest = self.back(self.unreported - 1).sent_micros;
        if i64::from((now_micros as u32).wrapping_sub(oldest)) >= YOUNG_MICROS {
            return;
        }
        let larger = vec![Entry::default(); len * 2];
        let smaller = std::mem::replace(&mut self.table, larger);
        // At most LEN_MAX.
        for back in 0..len as u16 {
            let seq = Seq(latest.0.wrapping_sub(back));
            let place = self.place(seq);
            self.table[place] = smaller[usize::from(seq.0) & (len - 1)];
        }
    }

    /// The packet so many before the latest.
    fn back(&self, steps: usize) -> Entry {
        let latest = self.latest.map_or(0, |latest| usize::from(latest.0));
        self.table[latest.wrapping_sub(steps) & (self.table.len() - 1)]
    }

    #[inline]
    fn place(&self, seq: Seq) -> usize {
        usize::from(seq.0) & (self.table.len() - 1)
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
        assert_eq!(sent.arrive(Seq(65_533)), None, "never sent");
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
        assert!(sent.arrive(Seq(65_534)).is_some(), "late");
    }

    #[test]
    fn numbers_left_out_were_not_sent() {
        for skipped in [1, 60, 1_000, 65_535] {
            let mut sent = SentPackets::default();
            sent.handle_sent(0, Seq(10), 100, 0);
            let next = Seq(10).wrapping_add(skipped).wrapping_add(1);
            sent.handle_sent(1, next, 50, 0);
            assert_eq!(sent.arrive(Seq(next.0.wrapping_sub(1))), None, "{skipped}");
            assert_eq!(sent.arrive(next).unwrap().size_bytes, 50, "{skipped}");
            assert_eq!(sent.in_flight_bytes(), 0, "{skipped}");
        }
    }

    #[test]
    fn times_are_right_beyond_32_bits() {
        let mut sent = SentPackets::default();
        let late = (1 << 32) - 1;
        sent.handle_sent(late, Seq(0), 1, 0);
        sent.handle_sent(late + 2, Seq(1), 1, 0);
        assert_eq!(sent.arrive(Seq(0)).unwrap().sent_micros, late);
        assert_eq!(sent.arrive(Seq(1)).unwrap().sent_micros, late + 2);
    }

    /// Sends packets of a byte 1 µs apart, of which a report names the one that many before, and returns the size of
    /// the table.
    #[track_caller]
    fn check_len(packets: u32, reported_after: Option<u32>) -> usize {
        let mut sent = SentPackets::default();
        for number in 0..packets {
            sent.handle_sent(i64::from(number), Seq(number as u16), 1, 0);
            if let Some(named) = reported_after.and_then(|after| number.checked_sub(after)) {
                let reported = sent.arrive(Seq(named as u16)).unwrap();
                assert_eq!(reported.sent_micros, i64::from(named));
                assert_eq!(sent.in_flight_bytes(), u64::from(number - named));
            }
        }
        sent.table.len()
    }

    #[test]
    fn memory_grows_with_what_is_in_flight_up_to_the_limit() {
        assert_eq!(check_len(100_000, None), LEN_UNREPORTED_MAX);
        assert_eq!(check_len(100_000, Some(0)), LEN_START);
        assert_eq!(check_len(100_000, Some(100)), 256);
        assert_eq!(check_len(100_000, Some(400)), 1_024);
        let mut sent = SentPackets::default();
        for number in 0..100_000u32 {
            sent.handle_sent(i64::from(number), Seq(number as u16), 1, 0);
            if number == 0 {
                sent.arrive(Seq(0));
            }
        }
        assert_eq!(sent.table.len(), LEN_MAX);
        assert_eq!(sent.in_flight_bytes(), LEN_MAX as u64);
    }
}
