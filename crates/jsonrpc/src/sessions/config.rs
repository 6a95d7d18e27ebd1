//! What an operator may choose, and the limits on what a client can make the server hold.

use std::time::Duration;

use crate::reply::Style;

/// Settings of [`Sessions`](super::Sessions).
#[derive(Clone, Debug)]
pub struct Config {
    /// How long a session waits for its client after the socket is lost. Too short: a phone that
    /// changes networks is thrown out of its room. Too long: others stare at a frozen picture.
    pub grace: Duration,
    /// How messages are written.
    pub style: Style,
    /// What clients can make the server hold.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(10),
            style: Style::default(),
            limits: Limits::default(),
        }
    }
}

/// Bounds on everything that clients can fill.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open sockets, with or without a session.
    pub sockets: usize,
    /// Sessions, those without a socket included. More than sockets, so that reconnecting clients do
    /// not compete with their own sessions.
    pub sessions: usize,
    /// Messages waiting for one socket, or for one session without a socket. Too low: a burst of
    /// joins in a big room closes clients on slow lines. Too high: dead clients hold memory.
    pub outbox_frames: usize,
    /// The same in bytes. Must hold several frames of the largest size, or one user's long chat
    /// message throws out everybody whose line is slower.
    pub outbox_bytes: usize,
    /// Requests of one session waiting for their turn. A client that enters a room of 50 publishers
    /// sends some thousand candidates at once.
    pub queue_requests: usize,
    /// The same in bytes.
    pub queue_bytes: usize,
    /// Answers of one session kept for retransmitted requests.
    pub answers: usize,
    /// The same in bytes.
    pub answers_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sockets: 10_000,
            sessions: 20_000,
            outbox_frames: 2_048,
            outbox_bytes: 8 << 20,
            queue_requests: 2_048,
            queue_bytes: 4 << 20,
            answers: 32,
            answers_bytes: 256 << 10,
        }
    }
}

/// How long after its answer a repeated request counts as retransmitted. Too low: a phone whose
/// retransmission crossed the answer runs its request twice. Too high: Android applications that
/// reuse ids find a deliberate repetition swallowed.
pub(crate) const RETRANSMISSION_WINDOW: Duration = Duration::from_secs(5);

/// How long answers are kept for a client that comes back on another socket and repeats what it has
/// no answer to. Too low: with a network that was silent for a ping watchdog and a grace period, a
/// request runs twice. Too high: memory of every session.
pub(crate) const ANSWERS_KEPT: Duration = Duration::from_secs(30);

/// Interval between pings that a client announces if it announces none.
pub(crate) const PING_INTERVAL_DEFAULT: Duration = Duration::from_secs(20);
/// Announced intervals are raised to this: below, scheduling jitter would look like silence.
pub(crate) const PING_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Announced intervals are lowered to this: above, the watchdog has no point.
pub(crate) const PING_INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// Missed pings until a socket counts as dead.
pub(crate) const PING_INTERVALS_MISSED: u32 = 3;
