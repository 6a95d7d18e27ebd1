//! Bit rates: the unit and a meter.

use std::time::{Duration, Instant};

/// Bits per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bitrate(pub u64);

impl Bitrate {
    /// From thousands of bits per second.
    pub const fn from_kbps(kbps: u64) -> Self {
        Self(kbps * 1000)
    }

    /// This rate times `factor`, which must not be negative.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor) as u64)
    }
}

/// In a second, which they cover.
const BUCKETS: usize = 10;
const BUCKET_NANOS: u32 = 1_000_000_000 / BUCKETS as u32;
const BUCKET: Duration = Duration::from_nanos(BUCKET_NANOS as u64);

/// Bytes over the last second, in tenths.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateMeter {
    bytes: [u32; BUCKETS],
    started_at: Option<Instant>,
    /// Number of the bucket being filled, counted from `started_at`.
    bucket: u64,
    /// Compared with each packet's time, which is cheaper than a division.
    bucket_ends_at: Option<Instant>,
}

impl RateMeter {
    /// Counts `size_bytes` at `now`.
    #[inline]
    pub fn add(&mut self, now: Instant, size_bytes: usize) {
        self.move_to(now);
        let bucket = &mut self.bytes[(self.bucket % BUCKETS as u64) as usize];
        *bucket = bucket.saturating_add(size_bytes as u32);
    }

    /// The rate over the last second, or since the first byte if that is less.
    pub fn rate(&mut self, now: Instant) -> Bitrate {
        let Some(started_at) = self.started_at else {
            return Bitrate(0);
        };
        self.move_to(now);
        let bytes: u64 = self.bytes.iter().map(|bytes| u64::from(*bytes)).sum();
        let since_start = now.saturating_duration_since(started_at);
        let into_bucket =
            since_start.saturating_sub(BUCKET * (self.bucket.min(u64::from(u32::MAX)) as u32));
        let window = since_start
            .min(BUCKET * (BUCKETS as u32 - 1) + into_bucket)
            .max(BUCKET);
        Bitrate(bytes * 8 * 1000 / window.as_millis().max(1) as u64)
    }

    #[inline]
    fn move_to(&mut self, now: Instant) {
        if self.bucket_ends_at.is_none_or(|at| now >= at) {
            self.open_bucket(now);
        }
    }

    fn open_bucket(&mut self, now: Instant) {
        let started_at = *self.started_at.get_or_insert(now);
        let elapsed = now.saturating_duration_since(started_at);
        // Each meter of each stream comes here ten times a second; a quotient of 128 bits would be what it costs.
        let (seconds, nanos) = (elapsed.as_secs(), elapsed.subsec_nanos());
        let target = seconds * BUCKETS as u64 + u64::from(nanos / BUCKET_NANOS);
        for skipped in 1..=target.saturating_sub(self.bucket).min(BUCKETS as u64) {
            self.bytes[((self.bucket + skipped) % BUCKETS as u64) as usize] = 0;
        }
        self.bucket = target;
        let left = BUCKET_NANOS - nanos % BUCKET_NANOS;
        self.bucket_ends_at = Some(now + Duration::from_nanos(left.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_follows_the_last_second() {
        let start = Instant::now();
        let mut meter = RateMeter::default();
        assert_eq!(meter.rate(start), Bitrate(0));
        for ms in 0..3000 {
            meter.add(start + Duration::from_millis(ms), 125);
        }
        let Bitrate(rate) = meter.rate(start + Duration::from_millis(3000));
        assert!((950_000..=1_050_000).contains(&rate), "{rate}");
        let Bitrate(later) = meter.rate(start + Duration::from_millis(3500));
        assert!((400_000..=600_000).contains(&later), "{later}");
        assert_eq!(meter.rate(start + Duration::from_secs(3600)), Bitrate(0));
    }

    #[test]
    fn first_packets_do_not_look_like_a_flood() {
        let start = Instant::now();
        let mut meter = RateMeter::default();
        meter.add(start, 1250);
        assert_eq!(meter.rate(start), Bitrate(100_000));
    }
}
