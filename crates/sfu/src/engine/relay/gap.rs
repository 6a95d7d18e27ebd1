//! When packets lost on the way to another worker are worth a key frame: [`Gap`].

use std::time::{Duration, Instant};

/// After a request, until the next one for the same way. It doubles while gaps recur. Too short: a worker that cannot
/// keep up is sent key frames, the largest pictures of all, and keeps up even less. Too long: viewers look at a still.
const PAUSE_MIN: Duration = Duration::from_millis(500);

/// The longest pause. Too short: as [`PAUSE_MIN`], for overload that lasts. Too long: viewers wait although it is over.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// What is missing on one way, and what was done about it.
#[derive(Debug, Default)]
pub(super) struct Gap {
    /// Packets were lost, and no key frame came or was asked for since.
    is_open: bool,
    asked_at: Option<Instant>,
    /// After `asked_at`.
    pause: Duration,
}

impl Gap {
    /// A packet found no room.
    pub(super) fn handle_lost(&mut self) {
        self.is_open = true;
    }

    /// A packet went through. True if a key frame must be asked for: not before there is room for it, since the other
    /// worker may have stalled for long, and the publisher must not be asked all the while.
    pub(super) fn handle_passed(&mut self, now: Instant, is_key_frame: bool) -> bool {
        if !self.is_open {
            return false;
        }
        let since = (self.asked_at).map(|at| now.saturating_duration_since(at));
        if is_key_frame {
            self.is_open = false;
            return false;
        }
        if since.is_some_and(|since| since < self.pause) {
            return false;
        }
        let recurs = since.is_some_and(|since| since < self.pause * 2);
        self.pause = match recurs {
            true => (self.pause * 2).min(PAUSE_MAX),
            false => PAUSE_MIN,
        };
        self.asked_at = Some(now);
        self.is_open = false;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loses and passes packets in turns for some time. Returns when key frames are asked for, in ms.
    fn overload(gap: &mut Gap, now: Instant, duration_ms: u64) -> Vec<u64> {
        let times = (0..duration_ms).step_by(10);
        let asks = times.filter(|at| {
            gap.handle_lost();
            gap.handle_passed(now + Duration::from_millis(*at), false)
        });
        asks.collect()
    }

    #[test]
    fn gaps_that_recur_ask_less_and_less() {
        let (mut gap, now) = (Gap::default(), Instant::now());
        let asked = overload(&mut gap, now, 39_000);
        assert_eq!(asked, [0, 500, 1500, 3500, 7500, 15_500, 23_500, 31_500]);
        // Once it is over, the next gap is one like the first.
        let later = now + Duration::from_secs(60);
        assert_eq!(overload(&mut gap, later, 1000), [0, 500]);
    }

    #[test]
    fn gap_in_the_pause_is_not_forgotten() {
        let (mut gap, now) = (Gap::default(), Instant::now());
        let mut passed = |at, lost, is_key_frame| {
            if lost {
                gap.handle_lost();
            }
            gap.handle_passed(now + Duration::from_millis(at), is_key_frame)
        };
        assert!(!passed(0, false, false), "nothing is missing");
        assert!(passed(10, true, false));
        assert!(!passed(100, true, false), "too early");
        assert!(!passed(200, false, false));
        assert!(passed(510, false, false), "now it is time");
        assert!(!passed(600, true, true), "this one will do");
        assert!(!passed(5000, false, false));
    }
}
