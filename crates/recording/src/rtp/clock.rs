//! From RTP timestamps to the time of a file, so that sound and pictures of one peer stay together.
//!
//! A [`MediaClock`] for each track counts from the arrival of the first packet, until a sender report says when that
//! packet was taken (RFC 3550, section 6.4.1). Reports of all tracks are on one [`WallClock`].

use std::time::{Duration, Instant};

use forwarding::rtp::{ClockRate, NtpTime, RtpTime};

/// How much a sender report may move a track that is being written. Clocks drift by less. Too low: drift is not
/// followed. Too high: a wrong report makes frames jump.
const SLEW: i64 = 10_000_000;

/// Sender reports that contradict what is known by more than this are not followed, nanoseconds.
const DISAGREEMENT_MAX: i64 = 5_000_000_000;

/// Ties the clock of sender reports to the one of this process, by the first report.
#[derive(Debug, Default)]
pub struct WallClock {
    tie: Option<(NtpTime, i64)>,
}

impl WallClock {
    /// What `ntp` is on our clock, in nanoseconds, if a report of that time comes at `now`.
    fn local(&mut self, now: i64, ntp: NtpTime) -> i64 {
        let (known, local) = *self.tie.get_or_insert((ntp, now));
        // Units of 2^-32 s.
        let units = i128::from(ntp.units_from(known));
        let nanoseconds = (units * 1_000_000_000) >> 32;
        local.saturating_add(i64::try_from(nanoseconds).unwrap_or(i64::MAX))
    }
}

/// The clock of one track.
#[derive(Debug)]
pub struct MediaClock {
    epoch: Instant,
    rate: ClockRate,
    /// A timestamp, without roll-over, and its time in nanoseconds since the epoch.
    anchor: Option<(i64, i64)>,
    last: Option<(RtpTime, i64)>,
    /// A report has been followed.
    is_reported: bool,
    /// Frames are being written: no more jumps.
    is_settled: bool,
}

impl MediaClock {
    /// A clock that counts from `epoch`.
    pub fn new(epoch: Instant, rate: ClockRate) -> Self {
        Self {
            epoch,
            rate,
            anchor: None,
            last: None,
            is_reported: false,
            is_settled: false,
        }
    }

    /// Nanoseconds since the epoch of a packet's timestamp; negative if it was taken before. `now` is when it came.
    pub fn time(&mut self, now: Instant, timestamp: RtpTime) -> i64 {
        let ticks = self.unroll(timestamp);
        let anchor = match self.anchor {
            Some(anchor) => anchor,
            None => *self
                .anchor
                .insert((ticks, nanoseconds_between(self.epoch, now))),
        };
        anchor.1.saturating_add(self.nanoseconds(ticks - anchor.0))
    }

    /// Follows a sender report that came at `now`.
    pub fn handle_report(
        &mut self,
        now: Instant,
        wall: &mut WallClock,
        ntp: NtpTime,
        timestamp: RtpTime,
    ) {
        let reported = wall.local(nanoseconds_between(self.epoch, now), ntp);
        let ticks = self.unroll(timestamp);
        let Some((anchor_ticks, anchor_time)) = self.anchor else {
            self.anchor = Some((ticks, reported));
            self.is_reported = true;
            return;
        };
        let known = anchor_time.saturating_add(self.nanoseconds(ticks - anchor_ticks));
        let difference = reported.saturating_sub(known);
        if difference.saturating_abs() > DISAGREEMENT_MAX {
            return;
        }
        let step = match self.is_settled {
            true => difference.clamp(-SLEW, SLEW),
            false => difference,
        };
        self.anchor = Some((ticks, known.saturating_add(step)));
        self.is_reported = true;
    }

    /// True if a sender report has been followed.
    pub fn is_reported(&self) -> bool {
        self.is_reported
    }

    /// Has reports move the track by little at a time from here on.
    pub fn settle(&mut self) {
        self.is_settled = true;
    }

    fn unroll(&mut self, timestamp: RtpTime) -> i64 {
        let ticks = match self.last {
            None => i64::from(timestamp.0),
            Some((last, ticks)) => {
                ticks.saturating_add(i64::from(timestamp.ticks_from(last) as i32))
            }
        };
        self.last = Some((timestamp, ticks));
        ticks
    }

    fn nanoseconds(&self, ticks: i64) -> i64 {
        let nanoseconds = i128::from(ticks) * 1_000_000_000 / i128::from(self.rate.hertz());
        i64::try_from(nanoseconds).unwrap_or(i64::MAX)
    }
}

fn nanoseconds_between(from: Instant, to: Instant) -> i64 {
    let since = |from: Instant, to: Instant| {
        let duration: Duration = to.saturating_duration_since(from);
        i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
    };
    since(from, to) - since(to, from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn ntp(seconds: f64) -> NtpTime {
        NtpTime((seconds * 2f64.powi(32)) as u64)
    }

    #[test]
    fn time_goes_on_over_the_end_of_the_number_space() {
        let epoch = Instant::now();
        let mut clock = MediaClock::new(epoch, ClockRate::VIDEO);
        let first = RtpTime(u32::MAX - 44_999);
        assert_eq!(clock.time(epoch, first), 0);
        assert_eq!(clock.time(epoch, RtpTime(45_000)), SECOND);
        assert_eq!(clock.time(epoch, RtpTime(0)), SECOND / 2);
    }

    #[test]
    fn reports_bring_late_video_to_its_sound() {
        let epoch = Instant::now();
        let mut wall = WallClock::default();
        let mut audio = MediaClock::new(epoch, ClockRate::OPUS);
        let mut video = MediaClock::new(epoch, ClockRate::VIDEO);
        // Both were taken at the same moment; video came 300 ms later.
        audio.time(epoch, RtpTime(1000));
        let late = epoch + Duration::from_millis(300);
        assert_eq!(video.time(late, RtpTime(5000)), 300_000_000);

        audio.handle_report(late, &mut wall, ntp(100.0), RtpTime(1000));
        video.handle_report(late, &mut wall, ntp(100.0), RtpTime(5000));

        let sound = audio.time(late, RtpTime(1000 + 48_000));
        let picture = video.time(late, RtpTime(5000 + 90_000));
        assert_eq!(sound, picture);
    }

    #[test]
    fn settled_track_moves_by_little() {
        let epoch = Instant::now();
        let mut wall = WallClock::default();
        let mut clock = MediaClock::new(epoch, ClockRate::VIDEO);
        clock.handle_report(epoch, &mut wall, ntp(10.0), RtpTime(0));
        clock.settle();
        clock.handle_report(epoch, &mut wall, ntp(12.0), RtpTime(90_000));
        assert_eq!(clock.time(epoch, RtpTime(90_000)), SECOND + SLEW);
        clock.handle_report(epoch, &mut wall, ntp(900.0), RtpTime(90_000));
        assert_eq!(clock.time(epoch, RtpTime(90_000)), SECOND + SLEW);
    }
}
