//! Reading transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1): [`Feedback`].
//! The receiving side that writes it is [`crate::transport_feedback`].

use crate::rtp::Seq;

/// Statuses read from one feedback. One that fills an MTU can claim 65 535; browsers report at most every 250 ms, some
/// hundreds of packets. Too low → honest feedback is refused; too high → a hostile receiver makes us search.
const STATUS_COUNT_MAX: u16 = 4_096;

/// Bytes before the chunks.
const HEADER_LEN: usize = 8;

const TICK_MICROS: i64 = 250;
/// The reference time counts these, modulo 2^24.
const REFERENCE_MICROS: i64 = 64_000;
const REFERENCE_ROUND: i64 = 1 << 24;

const SMALL_DELTA: u8 = 1;
const LARGE_DELTA: u8 = 2;

/// One feedback packet, without its two SSRCs: what [`crate::rtcp::Packet::TransportFeedback`] holds.
#[derive(Clone, Copy, Debug)]
pub struct Feedback<'a> {
    base: Seq,
    count: u16,
    /// Units of 64 ms, 24 bits.
    reference: u32,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

/// What a receiver says about one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Transport-wide number.
    pub seq: Seq,
    /// Time of arrival after the feedback's reference time, µs; `None` if it has not arrived.
    pub arrival_micros: Option<i64>,
}

impl<'a> Feedback<'a> {
    /// Reads a feedback; `None` if it claims more than it has room for.
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let [b0, b1, c0, c1, r0, r1, r2, _] = *body.first_chunk::<HEADER_LEN>()?;
        let count = u16::from_be_bytes([c0, c1]);
        if count > STATUS_COUNT_MAX {
            return None;
        }
        let rest = &body[HEADER_LEN..];
        let (mut chunks_len, mut symbols_left, mut deltas_len) = (0, count, 0);
        while symbols_left > 0 {
            let chunk = Chunk::read(rest.get(chunks_len..)?)?;
            chunks_len += 2;
            let used = chunk.len().min(symbols_left);
            deltas_len += chunk.deltas_len(used);
            symbols_left -= used;
        }
        let (chunks, deltas) = rest.split_at(chunks_len);
        Some(Self {
            base: Seq(u16::from_be_bytes([b0, b1])),
            count,
            reference: u32::from_be_bytes([0, r0, r1, r2]),
            chunks,
            deltas: deltas.get(..deltas_len)?,
        })
    }

    /// The reference time in µs of the receiver's clock, unrolled to be the nearest to `last`, the one before.
    pub fn reference_micros(&self, last: Option<i64>) -> i64 {
        let reference = i64::from(self.reference);
        let Some(last) = last.map(|micros| micros / REFERENCE_MICROS) else {
            return reference * REFERENCE_MICROS;
        };
        let half = REFERENCE_ROUND / 2;
        let step = (reference - last + half).rem_euclid(REFERENCE_ROUND) - half;
        (last + step) * REFERENCE_MICROS
    }

    /// The statuses in order of their numbers.
    pub fn statuses(&self) -> Statuses<'a> {
        Statuses {
            seq: self.base,
            left: self.count,
            chunks: self.chunks,
            symbols: Chunk(0).symbols(),
            symbols_left: 0,
            deltas: self.deltas,
            micros: 0,
        }
    }
}

#[inline]
fn delta_len(symbol: u8) -> usize {
    match symbol {
        SMALL_DELTA => 1,
        LARGE_DELTA => 2,
        _ => 0,
    }
}

/// Symbols of several packets in two bytes.
#[derive(Clone, Copy, Debug)]
struct Chunk(u16);

impl Chunk {
    fn read(bytes: &[u8]) -> Option<Self> {
        bytes
            .first_chunk()
            .map(|bytes| Self(u16::from_be_bytes(*bytes)))
    }

    #[inline]
    fn len(self) -> u16 {
        match self.0 >> 14 {
            0b10 => 14,
            0b11 => 7,
            _ => self.0 & 0x1fff,
        }
    }

    /// Bytes that tell when the first `count` packets arrived.
    fn deltas_len(self, count: u16) -> usize {
        let mut symbols = self.symbols();
        if self.0 >> 15 == 0 {
            return usize::from(count) * delta_len(symbols.next());
        }
        (0..count).map(|_| delta_len(symbols.next())).sum()
    }

    #[inline]
    fn symbols(self) -> Symbols {
        let bits = u32::from(self.0) << 16;
        match self.0 >> 14 {
            0b10 => Symbols {
                bits: bits << 2,
                width: 1,
                step: 1,
            },
            0b11 => Symbols {
                bits: bits << 2,
                width: 2,
                step: 2,
            },
            _ => Symbols {
                bits: bits << 1,
                width: 2,
                step: 0,
            },
        }
    }
}

/// The symbols of a chunk, one after the other.
#[derive(Clone, Copy, Debug)]
struct Symbols {
    /// The next is in the highest bits.
    bits: u32,
    width: u8,
    /// Bits to the one after it; 0 if all are the same.
    step: u8,
}

impl Symbols {
    #[inline]
    fn next(&mut self) -> u8 {
        let symbol = self.bits >> (32 - u32::from(self.width));
        self.bits <<= self.step;
        // Of two bits at most.
        symbol as u8
    }
}

/// Iterator over the statuses of a [`Feedback`].
#[derive(Clone, Debug)]
pub struct Statuses<'a> {
    seq: Seq,
    left: u16,
    chunks: &'a [u8],
    /// Of the chunk in use, and how many are left of them.
    symbols: Symbols,
    symbols_left: u16,
    deltas: &'a [u8],
    micros: i64,
}

impl Statuses<'_> {
    fn open_chunk(&mut self) -> Option<()> {
        while self.symbols_left == 0 {
            let chunk = Chunk::read(self.chunks)?;
            self.chunks = &self.chunks[2..];
            (self.symbols, self.symbols_left) = (chunk.symbols(), chunk.len());
        }
        Some(())
    }
}

impl Iterator for Statuses<'_> {
    type Item = Status;

    #[inline]
    fn next(&mut self) -> Option<Status> {
        self.left = self.left.checked_sub(1)?;
        if self.symbols_left == 0 {
            self.open_chunk()?;
        }
        self.symbols_left -= 1;
        let ticks = match self.symbols.next() {
            SMALL_DELTA => {
                let (ticks, rest) = self.deltas.split_first()?;
                self.deltas = rest;
                Some(i64::from(*ticks))
            }
            LARGE_DELTA => {
                let (ticks, rest) = self.deltas.split_first_chunk()?;
                self.deltas = rest;
                Some(i64::from(i16::from_be_bytes(*ticks)))
            }
            _ => None,
        };
        let arrival_micros = ticks.map(|ticks| {
            self.micros += ticks * TICK_MICROS;
            self.micros
        });
        let seq = self.seq;
        self.seq = seq.wrapping_add(1);
        Some(Status {
            seq,
            arrival_micros,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::rtcp::{Packet, Packets};
    use crate::rtp::Ssrc;
    use crate::transport_feedback::TransportFeedback;

    #[test]
    fn every_kind_of_chunk_is_read() {
        // Base 0xfffe, 17 statuses, reference 2: seven of two bits, a run of two lost, eight of one bit.
        let body = [
            0xff,
            0xfe,
            0,
            17,
            0,
            0,
            2,
            9, // header
            0b1101_0010,
            0b0000_0001, // received, lost, large, lost, lost, lost, received
            0b0000_0000,
            0b0000_0010, // a run
            0b1010_0000,
            0b0100_0000, // received, then one more at the end
            4,
            0xff,
            0xfc,
            8,
            1,
            2, // deltas: 4, -4, 8, 1, 2
        ];
        let feedback = Feedback::read(&body).unwrap();
        assert_eq!(feedback.reference_micros(None), 128_000);
        let found: Vec<_> = feedback
            .statuses()
            .filter_map(|status| Some((status.seq.0, status.arrival_micros?)))
            .collect();
        let expected = [(0xfffe, 1000), (0, 0), (4, 2000), (7, 2250), (14, 2750)];
        assert_eq!(found, expected);
        assert_eq!(feedback.statuses().count(), 17);
        for len in 0..body.len() {
            assert!(Feedback::read(&body[..len]).is_none(), "{len} bytes");
        }
    }

    #[test]
    fn reference_time_is_unrolled_to_the_nearest() {
        let with = |reference: u32| {
            let [_, r0, r1, r2] = reference.to_be_bytes();
            let body = [0, 0, 0, 0, r0, r1, r2, 0];
            move |last: i64| {
                Feedback::read(&body)
                    .unwrap()
                    .reference_micros(Some(last * 64_000))
                    / 64_000
            }
        };
        assert_eq!(with(5)(4), 5);
        assert_eq!(with(0)((1 << 24) - 1), 1 << 24);
        assert_eq!(with((1 << 24) - 1)(1 << 24), (1 << 24) - 1);
        assert_eq!(with(7)(10), 7);
    }

    #[test]
    fn too_many_statuses_are_refused() {
        let [high, low] = (STATUS_COUNT_MAX + 1).to_be_bytes();
        assert!(Feedback::read(&[0, 0, high, low, 0, 0, 0, 0, 0x1f, 0xff]).is_none());
    }

    proptest! {
        #[test]
        fn what_our_receiver_writes_is_read(arrivals in proptest::collection::vec(proptest::option::of(0u64..40_000), 1..300), first: u16) {
            let start = Instant::now();
            let mut receiver = TransportFeedback::default();
            let mut expected = Vec::new();
            let (mut time, mut epoch) = (0, None);
            for (index, arrival) in arrivals.iter().enumerate() {
                if let Some(micros) = arrival {
                    time += micros;
                    let seq = Seq(first.wrapping_add(index as u16));
                    receiver.handle_packet(start + Duration::from_micros(time), seq);
                    let zero = *epoch.get_or_insert(time);
                    expected.push((seq.0, (time - zero) / 250 * 250));
                }
            }
            let mut found = Vec::new();
            let mut out = Vec::new();
            while receiver.poll(start + Duration::from_secs(100), Ssrc(1), Ssrc(2), &mut out) {}
            for packet in Packets::new(&out) {
                let Packet::TransportFeedback(body) = packet.unwrap() else { unreachable!() };
                let feedback = Feedback::read(body).unwrap();
                let reference = feedback.reference_micros(None);
                found.extend(feedback.statuses().filter_map(|status| {
                    Some((status.seq.0, (reference + status.arrival_micros?) as u64))
                }));
            }
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_bytes_are_read_without_panic(body in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(feedback) = Feedback::read(&body) {
                prop_assert!(feedback.statuses().count() <= usize::from(STATUS_COUNT_MAX));
            }
        }
    }
}
