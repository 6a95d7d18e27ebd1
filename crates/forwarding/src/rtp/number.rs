//! Identifiers and wrapping numbers of RTP. [`ExtendedSeq`] is what the rest of the crate computes with.

use std::fmt;

/// Synchronisation source (RFC 3550, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ssrc(pub u32);

impl fmt::Display for Ssrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// RTP payload type, 0..=127.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PayloadType(pub u8);

/// Identifier of a header extension as negotiated by `a=extmap`: 1..=14, or to 255 in the two-byte form (RFC 8285).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtensionId(pub u8);

/// RTP sequence number, modulo 2^16 (RFC 3550, section 5.1).
///
/// Has no order on purpose: [`Seq::is_after`] compares on the circle, [`ExtendedSeq`] has a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seq(pub u16);

impl Seq {
    /// True if `self` follows `other` by less than half the number space.
    #[inline]
    pub fn is_after(self, other: Self) -> bool {
        matches!(self.0.wrapping_sub(other.0), 1..0x8000)
    }

    /// The number `count` steps further on.
    #[inline]
    #[must_use]
    pub fn wrapping_add(self, count: u16) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// Steps forward from `other` to `self`, 0..=65535.
    #[inline]
    pub fn steps_from(self, other: Self) -> u16 {
        self.0.wrapping_sub(other.0)
    }
}

/// RTP timestamp, modulo 2^32, in units of the codec's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RtpTime(pub u32);

impl RtpTime {
    /// True if `self` follows `other` by less than half the number space.
    #[inline]
    pub fn is_after(self, other: Self) -> bool {
        matches!(self.0.wrapping_sub(other.0), 1..0x8000_0000)
    }

    /// The timestamp `ticks` later.
    #[inline]
    #[must_use]
    pub fn wrapping_add(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }

    /// Ticks forward from `other` to `self`; a step backwards is a number near 2^32.
    #[inline]
    pub fn ticks_from(self, other: Self) -> u32 {
        self.0.wrapping_sub(other.0)
    }
}

/// Sequence number that does not wrap: roll-over count in bits 16..48, [`Seq`] in bits 0..16.
///
/// The same layout as the SRTP packet index (RFC 3711, section 3.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtendedSeq(pub u64);

impl ExtendedSeq {
    /// The part that goes on the wire.
    #[inline]
    pub fn seq(self) -> Seq {
        Seq(self.0 as u16)
    }

    /// How often the sequence number has wrapped.
    #[inline]
    pub fn roll_over_count(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// The number after this one.
    #[inline]
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Turns [`Seq`] into [`ExtendedSeq`]: of all numbers with the same low bits, the one nearest to the highest so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unroller {
    highest: Option<ExtendedSeq>,
}

impl Unroller {
    /// The highest number so far.
    #[inline]
    pub fn highest(&self) -> Option<ExtendedSeq> {
        self.highest
    }

    /// Extends `seq` and remembers it if it is the highest. The first number gets roll-over count 0;
    /// `None` for a number that would lie before the first round.
    #[inline]
    pub fn unroll(&mut self, seq: Seq) -> Option<ExtendedSeq> {
        let extended = self.peek(seq)?;
        self.highest = self.highest.max(Some(extended));
        Some(extended)
    }

    /// Extends `seq` without remembering it.
    #[inline]
    pub fn peek(&self, seq: Seq) -> Option<ExtendedSeq> {
        let Some(highest) = self.highest else {
            return Some(ExtendedSeq(u64::from(seq.0)));
        };
        let step = seq.steps_from(highest.seq()) as i16;
        highest
            .0
            .checked_add_signed(i64::from(step))
            .map(ExtendedSeq)
    }

    /// Extends `seq` to the first number *after* the highest: for a source that restarted its numbering.
    pub fn unroll_forward(&mut self, seq: Seq) -> ExtendedSeq {
        let extended = match self.highest {
            Some(highest) => {
                ExtendedSeq(highest.0 + u64::from(seq.steps_from(highest.next().seq())) + 1)
            }
            None => ExtendedSeq(u64::from(seq.0)),
        };
        self.highest = Some(extended);
        extended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_on_the_circle() {
        let rows = [
            (1, 0, true),
            (0, 1, false),
            (0, 0, false),
            (0, 65535, true),
            (65535, 0, false),
            (0x7fff, 0, true),
            (0x8000, 0, false),
            (100, 65000, true),
        ];
        for (a, b, expected) in rows {
            assert_eq!(Seq(a).is_after(Seq(b)), expected, "{a} after {b}");
        }
        assert!(RtpTime(0).is_after(RtpTime(u32::MAX)));
        assert!(!RtpTime(u32::MAX).is_after(RtpTime(0)));
        assert!(!RtpTime(0x8000_0000).is_after(RtpTime(0)));
    }

    #[test]
    fn unrolls_to_the_nearest_number() {
        // (numbers seen before, number, expected)
        let rows: &[(&[u16], u16, Option<u64>)] = &[
            (&[], 7, Some(7)),
            (&[7], 8, Some(8)),
            (&[7], 5, Some(5)),
            (&[65535], 0, Some(0x1_0000)),
            (&[65535, 0], 65534, Some(65534)),
            (&[65000, 20000], 10, Some(0x1_0000 + 10)),
            (&[3], 65535, None),
            (&[0, 30000, 60000, 20000], 60001, Some(60001)),
            (&[0], 0x7fff, Some(0x7fff)),
            (&[0], 0x8000, None),
        ];
        for (before, seq, expected) in rows {
            let mut unroller = Unroller::default();
            for seq in *before {
                unroller.unroll(Seq(*seq));
            }
            assert_eq!(
                unroller.unroll(Seq(*seq)),
                expected.map(ExtendedSeq),
                "{before:?} {seq}"
            );
        }
    }

    #[test]
    fn restart_never_goes_back() {
        let rows = [
            (100, 101, 101),
            (100, 100, 0x1_0064),
            (100, 99, 0x1_0063),
            (65535, 0, 0x1_0000),
        ];
        for (highest, seq, expected) in rows {
            let mut unroller = Unroller::default();
            unroller.unroll(Seq(highest));
            assert_eq!(
                unroller.unroll_forward(Seq(seq)),
                ExtendedSeq(expected),
                "{highest} {seq}"
            );
        }
    }

    #[test]
    fn extended_number_has_the_srtp_layout() {
        let extended = ExtendedSeq(0x0001_0002_0003);
        assert_eq!(
            (extended.roll_over_count(), extended.seq()),
            (0x0001_0002, Seq(3))
        );
    }
}
