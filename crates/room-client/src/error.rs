//! What can go wrong with a request or a connection.

use room::protocol::RoomError;

use crate::client::CloseReason;

/// Why a request has no answer, or a connection did not come about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server says no.
    #[error(transparent)]
    Refused(#[from] RoomError),
    /// The server answered something else than the method's result.
    #[error("malformed answer to {method}: {answer}")]
    Malformed {
        /// What was asked.
        method: &'static str,
        /// The answer, shortened.
        answer: String,
    },
    /// No answer came in time. Whether the request was carried out is unknown.
    #[error("no answer to {method} in time")]
    Timeout {
        /// What was asked.
        method: &'static str,
    },
    /// The server forgot the session, and with it the request. See
    /// [`Notice::SessionLost`](crate::Notice::SessionLost).
    #[error("the session was lost before the answer")]
    SessionLost,
    /// The connection is closed for good.
    #[error("the connection is closed: {0}")]
    Closed(CloseReason),
    /// The server would close the socket rather than take a frame of this size.
    #[error("a request of {bytes} bytes is too large")]
    TooLarge {
        /// Size of its frame.
        bytes: usize,
    },
    /// The application asks faster than the server answers.
    #[error("{0} requests wait for their answers")]
    TooManyRequests(usize),
    /// The first connection attempt failed.
    #[error("no connection: {0}")]
    Connect(Box<tokio_tungstenite::tungstenite::Error>),
    /// The first connection attempt took too long.
    #[error("no connection in time")]
    ConnectTimeout,
    /// The trust store of the operating system has no certificate.
    #[error("no trusted certificates on this system: {0}")]
    NoTrustedCertificates(String),
}
