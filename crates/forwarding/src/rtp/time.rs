//! Clocks that appear on the wire: NTP, codec clocks, abs-send-time. None of them is read here.

use std::time::Duration;

/// NTP timestamp: seconds since 1900 in the upper 32 bits, fraction in the lower 32 (RFC 3550, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// The middle 32 bits, as used in LSR and DLSR: seconds modulo 2^16 and a 16-bit fraction.
    #[inline]
    pub fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// The time `duration` later; wraps in 2036 as NTP does.
    #[must_use]
    pub fn wrapping_add(self, duration: Duration) -> Self {
        Self(self.0.wrapping_add(duration_to_ntp(duration)))
    }

    /// Signed distance from `other` to `self` in units of 2^-32 s.
    pub fn units_from(self, other: Self) -> i64 {
        self.0.wrapping_sub(other.0) as i64
    }
}

fn duration_to_ntp(duration: Duration) -> u64 {
    let fraction = (u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000;
    (duration.as_secs() << 32).wrapping_add(fraction)
}

/// Ticks per second of a codec's RTP clock: 90000 for video, 48000 for Opus, 8000 for G.711.
///
/// Never zero, so it can divide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClockRate(std::num::NonZeroU32);

impl ClockRate {
    /// All video codecs.
    pub const VIDEO: Self = Self::constant(90_000);
    /// Opus (RFC 7587, section 4.1).
    pub const OPUS: Self = Self::constant(48_000);
    /// G.711 and the other narrow-band codecs.
    pub const NARROW_BAND: Self = Self::constant(8_000);

    /// A clock of `hertz`; `None` for zero.
    pub const fn new(hertz: u32) -> Option<Self> {
        match std::num::NonZeroU32::new(hertz) {
            Some(hertz) => Some(Self(hertz)),
            None => None,
        }
    }

    const fn constant(hertz: u32) -> Self {
        Self::new(hertz).expect("the constants of this type are not zero")
    }

    /// Ticks per second.
    #[inline]
    pub fn hertz(self) -> u32 {
        self.0.get()
    }

    /// Ticks in `duration`, rounded down, modulo 2^32.
    #[inline]
    pub fn ticks(self, duration: Duration) -> u32 {
        let whole = duration.as_secs().wrapping_mul(u64::from(self.hertz()));
        let part = u64::from(duration.subsec_nanos()) * u64::from(self.hertz()) / 1_000_000_000;
        whole.wrapping_add(part) as u32
    }

    /// Ticks in a signed span of 2^-32 s units, modulo 2^32.
    pub fn ticks_of_ntp(self, units: i64) -> u32 {
        ((i128::from(units) * i128::from(self.hertz())) >> 32) as u32
    }

    /// How long `ticks` take.
    pub fn duration(self, ticks: u32) -> Duration {
        Duration::from_nanos(u64::from(ticks) * 1_000_000_000 / u64::from(self.hertz()))
    }
}

/// Value of the abs-send-time extension: 24 bits, seconds as 6.18 fixed point, wraps every 64 s
/// (<http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time>).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AbsSendTime(pub u32);

impl AbsSendTime {
    /// Time since any epoch that stays the same for the connection; receivers look at differences only.
    #[inline]
    pub fn from_elapsed(elapsed: Duration) -> Self {
        let fraction = (u64::from(elapsed.subsec_nanos()) << 18) / 1_000_000_000;
        Self((((elapsed.as_secs() << 18) | fraction) & 0xff_ffff) as u32)
    }

    /// Reads the three bytes of the extension.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [a, b, c] => Some(Self(u32::from_be_bytes([0, *a, *b, *c]))),
            _ => None,
        }
    }

    /// The three bytes of the extension.
    #[inline]
    pub fn to_bytes(self) -> [u8; 3] {
        let [_, a, b, c] = self.0.to_be_bytes();
        [a, b, c]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_wrap_and_round_down() {
        let rows = [
            (ClockRate::VIDEO, Duration::from_millis(1000), 90_000),
            (ClockRate::VIDEO, Duration::from_micros(33_333), 2_999),
            (ClockRate::OPUS, Duration::from_millis(20), 960),
            (ClockRate::NARROW_BAND, Duration::from_millis(20), 160),
            (ClockRate::VIDEO, Duration::ZERO, 0),
            (
                ClockRate::VIDEO,
                Duration::from_secs(47_722),
                (47_722u64 * 90_000 % (1 << 32)) as u32,
            ),
        ];
        for (rate, duration, expected) in rows {
            assert_eq!(rate.ticks(duration), expected, "{rate:?} {duration:?}");
        }
        assert_eq!(ClockRate::new(0), None);
    }

    #[test]
    fn ntp_spans_become_ticks_in_both_directions() {
        let second = 1i64 << 32;
        assert_eq!(ClockRate::VIDEO.ticks_of_ntp(second), 90_000);
        assert_eq!(
            ClockRate::VIDEO.ticks_of_ntp(-second),
            0u32.wrapping_sub(90_000)
        );
        assert_eq!(ClockRate::OPUS.ticks_of_ntp(second / 50), 959);
    }

    #[test]
    fn ntp_wraps() {
        let end = NtpTime(u64::MAX);
        assert_eq!(end.wrapping_add(Duration::from_secs(1)).0, (1 << 32) - 1);
        assert_eq!(NtpTime(0).units_from(end), 1);
        assert_eq!(NtpTime(0x1122_3344_5566_7788).middle(), 0x3344_5566);
    }

    #[test]
    fn abs_send_time_wraps_after_64_seconds() {
        let rows = [
            (Duration::ZERO, 0),
            (Duration::from_secs(1), 1 << 18),
            (Duration::from_millis(500), 1 << 17),
            (Duration::from_secs(64), 0),
            (Duration::from_secs(65), 1 << 18),
        ];
        for (elapsed, expected) in rows {
            let value = AbsSendTime::from_elapsed(elapsed);
            assert_eq!(value.0, expected);
            assert_eq!(AbsSendTime::from_bytes(&value.to_bytes()), Some(value));
        }
    }
}
