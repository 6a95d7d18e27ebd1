//! What comes out of the state machine.

use room::protocol::{Notification, Response};

use crate::Error;

/// Names a request of one [`Client`](super::Client): the `id` on the wire, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(super) u32);

impl RequestId {
    /// The number on the wire.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// What the owner of the socket must do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a socket to the server; there is none.
    OpenSocket,
    /// Send a text frame.
    Send(String),
    /// Close the socket, be it open or still opening, and report nothing more of it.
    CloseSocket,
}

/// What the application gets.
#[derive(Debug)]
pub enum Event {
    /// A request is done; there is exactly one such event per request.
    Answer {
        /// What [`Client::request`](super::Client::request) returned.
        id: RequestId,
        /// The answer, of the variant that belongs to the request.
        outcome: Result<Response, Error>,
    },
    /// Something happened unasked.
    Notice(Notice),
}

/// What happens unasked.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// The server tells something. A notification that is unknown or lacks a parameter comes as
    /// [`Notification::Custom`].
    Notification(Notification),
    /// The socket is lost. Requests wait; the client tries to come back.
    Reconnecting,
    /// The socket is back and the session goes on: same room, same media, unanswered requests are
    /// sent again. Servers other than Tertulia have lost the notifications meant for the meantime.
    Resumed,
    /// The socket is back, but the server no longer knows the session: the application must join
    /// again and negotiate all its media anew. Requests without an answer have failed.
    SessionLost,
    /// Nothing comes after this.
    Closed(CloseReason),
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The application closed it.
    #[error("closed by the application")]
    Requested,
    /// The application left the room, after which the server ends the session.
    #[error("the room was left")]
    Left,
    /// The server could not be reached any more.
    #[error("the server cannot be reached")]
    Unreachable,
    /// The application did not take its notices.
    #[error("too many notices were not taken")]
    NoticesUntaken,
}
