//! Packet indices of incoming packets: the roll-over counter and the window against replay.
//!
//! Read [`ReceiveIndex`]. Nothing here changes before a packet has been authenticated: every `accept` comes after it.

use super::open::OpenError;

/// Words of the replay window of an RTP stream: 1024 packets, about a second of high-rate video. Too small →
/// late retransmissions on the same SSRC are lost; too large → memory per stream.
const RTP_WINDOW_WORDS: usize = 16;

/// What a receiver remembers of one incoming RTP stream (SSRC): its highest packet index, and which of the last 1024
/// indices it has seen (RFC 3711, sections 3.3.1 and 3.3.2).
///
/// A packet index is 48 bits: roll-over counter, then sequence number. A fresh state takes the first packet that
/// authenticates with roll-over counter zero as the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiveIndex {
    window: ReplayWindow<RTP_WINDOW_WORDS>,
}

impl ReceiveIndex {
    /// The highest authenticated packet index, if there was a packet.
    #[must_use]
    pub fn highest(&self) -> Option<u64> {
        self.window.highest
    }

    /// The most plausible packet index of a sequence number (RFC 3711, section 3.3.1).
    #[must_use]
    pub fn estimate(&self, sequence_number: u16) -> u64 {
        const HALF: u16 = 1 << 15;
        let Some(highest) = self.window.highest else {
            return u64::from(sequence_number);
        };
        let last = highest as u16;
        let roll_over = highest >> 16;
        let roll_over = if last < HALF && sequence_number.saturating_sub(last) > HALF {
            // Nothing precedes roll-over counter zero: there, a far jump forward is the only reading.
            roll_over.saturating_sub(1)
        } else if last >= HALF && last - HALF > sequence_number {
            roll_over + 1
        } else {
            roll_over
        };
        roll_over << 16 | u64::from(sequence_number)
    }

    pub(super) fn check(&self, index: u64) -> Result<(), OpenError> {
        self.window.check(index)
    }

    pub(super) fn accept(&mut self, index: u64) {
        self.window.accept(index);
    }
}

/// The indices seen among the last `WORDS * 64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReplayWindow<const WORDS: usize> {
    highest: Option<u64>,
    /// A ring: bit `index % (WORDS * 64)` tells whether `index` was seen.
    seen: [u64; WORDS],
}

impl<const WORDS: usize> Default for ReplayWindow<WORDS> {
    fn default() -> Self {
        Self {
            highest: None,
            seen: [0; WORDS],
        }
    }
}

impl<const WORDS: usize> ReplayWindow<WORDS> {
    const SIZE: u64 = WORDS as u64 * 64;

    pub(super) fn check(&self, index: u64) -> Result<(), OpenError> {
        let Some(age) = self.highest.and_then(|highest| highest.checked_sub(index)) else {
            return Ok(());
        };
        let (word, mask) = Self::position(index);
        if age >= Self::SIZE {
            Err(OpenError::TooOld)
        } else if self.seen[word] & mask != 0 {
            Err(OpenError::Replayed)
        } else {
            Ok(())
        }
    }

    /// Marks an index that [`check`](Self::check) let pass and that belongs to an authenticated packet.
    pub(super) fn accept(&mut self, index: u64) {
        if let Some(highest) = self.highest
            && index > highest
        {
            self.forget(highest + 1, index - highest);
        }
        self.highest = self.highest.max(Some(index));
        let (word, mask) = Self::position(index);
        self.seen[word] |= mask;
    }

    /// Clears `count` indices from `first` on: their bits still tell of indices one window earlier.
    fn forget(&mut self, first: u64, count: u64) {
        if count >= Self::SIZE {
            self.seen = [0; WORDS];
            return;
        }
        for index in first..first + count {
            let (word, mask) = Self::position(index);
            self.seen[word] &= !mask;
        }
    }

    fn position(index: u64) -> (usize, u64) {
        ((index / 64) as usize % WORDS, 1 << (index % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check_estimate(highest: u64, sequence_number: u16, expected: u64) {
        let mut state = ReceiveIndex::default();
        state.accept(highest);
        assert_eq!(state.estimate(sequence_number), expected);
    }

    #[test]
    fn estimate_follows_the_nearest_roll_over() {
        check_estimate(0x0_0000, 0x0001, 0x0_0001);
        check_estimate(0x0_ffff, 0x0000, 0x1_0000);
        check_estimate(0x0_ffff, 0x7ffe, 0x1_7ffe);
        check_estimate(0x0_ffff, 0x7fff, 0x0_7fff);
        check_estimate(0x0_ffff, 0x8000, 0x0_8000);
        check_estimate(0x1_0000, 0xffff, 0x0_ffff);
        check_estimate(0x1_0000, 0x8001, 0x0_8001);
        check_estimate(0x1_0000, 0x8000, 0x1_8000);
        check_estimate(0x5_7fff, 0xffff, 0x5_ffff);
        check_estimate(0x5_8000, 0x0000, 0x5_0000);
        check_estimate(0x5_8001, 0x0000, 0x6_0000);
    }

    #[test]
    fn estimate_never_goes_below_roll_over_zero() {
        check_estimate(0x0_0001, 0xffff, 0x0_ffff);
        check_estimate(0x0_0010, 0x9000, 0x0_9000);
    }

    #[test]
    fn first_packet_starts_at_roll_over_zero() {
        assert_eq!(ReceiveIndex::default().estimate(0xfffe), 0xfffe);
        assert_eq!(ReceiveIndex::default().highest(), None);
    }

    #[test]
    fn window_ends_1024_packets_back() {
        let mut state = ReceiveIndex::default();
        state.accept(5000);
        assert_eq!(state.check(5000), Err(OpenError::Replayed));
        assert_eq!(state.check(5000 - 1023), Ok(()));
        assert_eq!(state.check(5000 - 1024), Err(OpenError::TooOld));
        state.accept(5000 - 1023);
        assert_eq!(state.check(5000 - 1023), Err(OpenError::Replayed));
        assert_eq!(state.highest(), Some(5000));
    }

    proptest! {
        #[test]
        fn window_agrees_with_a_set(steps in prop::collection::vec(0_u64..400, 1..600), jump in 0_u64..5000) {
            let mut window = ReplayWindow::<2>::default();
            let mut seen = std::collections::BTreeSet::new();
            let mut base = 1000;
            for (nth, step) in steps.into_iter().enumerate() {
                base += if nth == 300 { jump } else { 3 };
                let index = base + step - 200;
                let highest = seen.last().copied().unwrap_or(0);
                let expected = if seen.contains(&index) && highest - index < 128 {
                    Err(OpenError::Replayed)
                } else if highest >= index + 128 {
                    Err(OpenError::TooOld)
                } else {
                    Ok(())
                };
                prop_assert_eq!(window.check(index), expected);
                if expected.is_ok() {
                    window.accept(index);
                    seen.insert(index);
                }
            }
        }
    }
}
