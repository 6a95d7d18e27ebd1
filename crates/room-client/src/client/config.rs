//! What an application may choose, and the limits on what anyone can make a client hold.

use std::time::Duration;

/// Settings of a [`Client`](super::Client).
#[derive(Clone, Debug)]
pub struct Config {
    /// Time between pings, at least a second; the server closes a socket that is silent for three of
    /// them. `None`: no pings, and a network that dies silently is noticed by a request's timeout only.
    pub heartbeat: Option<Duration>,
    /// Time from making a request to giving up on it. The same for a ping, after which the socket
    /// counts as dead. Too short: a slow media server's answer is lost, though it did what was asked.
    /// Too long: a dead network is noticed after the server's grace period is over.
    pub request_timeout: Duration,
    /// Time without a connection after which the client ceases to try. Too short: a tunnel ends the
    /// call. Too long: the application waits for a server that will not come back.
    pub give_up_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat: Some(Duration::from_secs(3)),
            request_timeout: Duration::from_secs(15),
            give_up_after: Duration::from_secs(120),
        }
    }
}

/// Shorter intervals between pings are raised to this: they would only load the server.
pub(super) const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
/// A socket that has not opened by then is given up. Too short: a slow mobile network never gets
/// through. Too long: the grace period passes while a dead route is tried.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a closing client waits for the server to say goodbye. Too short: peers see the participant
/// until the grace period is over. Too long: a program hangs on its way out.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Requests without an answer. Too low: a client that enters a room of many publishers cannot send
/// its candidates. Too high: an application that never waits fills the memory.
pub(super) const REQUESTS_MAX: usize = 4096;
/// Bytes of a request's frame. The server closes the socket on a larger one, and after each
/// reconnection would get it again.
pub(super) const FRAME_BYTES_MAX: usize = 1_000_000;
