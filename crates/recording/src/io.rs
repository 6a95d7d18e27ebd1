//! Threads: one for each recorder and each player, so that a slow disk delays its own file only.
//!
//! [`RecorderThread`] and [`PlayerThread`] take commands; what they need of the media server is a few functions.
//! Dropping one ends its thread, after a recording has been completed.

mod player;
mod recorder;

pub use player::{PlayerLink, PlayerNotice, PlayerThread, Playing};
pub use recorder::{Profile, RecorderLink, RecorderNotice, RecorderThread};

use std::io::{self, ErrorKind};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forwarding::rtp::NtpTime;

/// Commands that wait for a thread. Too low: an application's bursts are refused. Too high: memory.
const COMMANDS_MAX: usize = 64;

/// How often packets are looked for, which nobody announces. Too low: wake-ups. Too high: larger rings, late feedback.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The beginning of 1970 in NTP time (RFC 5905, section 6).
const NTP_UNIX_EPOCH_SECONDS: u64 = 2_208_988_800;

/// Passes the oldest packet that waits on; false if there is none.
pub type Take = Box<dyn FnMut(&mut dyn FnMut(&[u8])) -> bool + Send>;

/// Takes something, on the thread of the file.
pub type Give<T> = Box<dyn FnMut(T) + Send>;

/// Told that something is done, on the thread of the file.
pub type Done = Box<dyn FnOnce() + Send>;

/// The thread does not take commands: it is busy, or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the thread of this file is busy")]
pub struct Busy;

/// Something went wrong with a file or stream, in Kurento's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Kurento's name of the failure.
    pub kind: &'static str,
    /// Kurento's number of the failure.
    pub code: i32,
    /// For humans.
    pub description: String,
}

impl Failure {
    fn new(kind: &'static str, code: i32, description: impl ToString) -> Self {
        Self {
            kind,
            code,
            description: description.to_string(),
        }
    }

    fn of_write(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Self::new("RESOURCE_ERROR_NO_SPACE_LEFT", 14, error)
            }
            _ => Self::new("RESOURCE_ERROR_WRITE", 10, error),
        }
    }
}

fn ntp_now() -> NtpTime {
    // A system clock before 1970 is wrong by any measure; only differences matter then.
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    NtpTime(NTP_UNIX_EPOCH_SECONDS << 32).wrapping_add(since_1970)
}
