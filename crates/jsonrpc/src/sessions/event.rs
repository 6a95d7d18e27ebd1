//! What comes out of [`Sessions`](super::Sessions).

use std::borrow::Cow;

use super::{SessionId, SessionKey, SocketId};
use crate::frame::{Frame, Request};
use crate::reply::Text;

/// Something to be done by the owner of sockets and tasks.
#[derive(Clone, Debug)]
pub enum Event {
    /// A session exists. Comes before its first [`Work`].
    Opened {
        /// Whose.
        key: SessionKey,
        /// Its secret, which is also the participant id.
        id: SessionId,
    },
    /// A request whose turn has come. The next one of the session comes only after
    /// [`finish`](super::Sessions::finish).
    Work(Work),
    /// A session is gone and its participant must leave, even if a request is in progress.
    Ended {
        /// Whose.
        key: SessionKey,
        /// Its secret, which is also the participant id.
        id: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// [`poll_transmit`](super::Sessions::poll_transmit) has something for this socket.
    Transmit(SocketId),
}

/// A request to be carried out for a session.
#[derive(Clone, Debug)]
pub struct Work {
    /// Whose; for [`answer`](super::Sessions::answer) and [`finish`](super::Sessions::finish).
    pub key: SessionKey,
    pub(crate) body: Body,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Parsed(Request),
    /// Had to wait, and waited as text: a parsed tree can take 24 times the memory.
    Text(Box<str>),
}

impl Work {
    /// Method and parameters. May parse, so call it where nobody waits for the sessions.
    pub fn into_request(self) -> Request {
        match self.body {
            Body::Parsed(request) => request,
            Body::Text(text) => {
                let request = Frame::parse(text).into_request();
                request.expect("the text was parsed before it had to wait")
            }
        }
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// The client or the server closed it in good order.
    Closed,
    /// The client did not come back in time after its socket was lost.
    GraceExpired,
    /// The client did not read what was sent to it.
    SlowReader,
    /// The client piled up more requests than the server holds.
    TooManyRequests,
    /// The client came back, but not all that it missed could be kept.
    MissedTooMuch,
    /// The server stops.
    Shutdown,
}

impl EndReason {
    /// A word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::GraceExpired => "grace_expired",
            Self::SlowReader => "slow_reader",
            Self::TooManyRequests => "too_many_requests",
            Self::MissedTooMuch => "missed_too_much",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What to do next with a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Send a text frame.
    Text(Text),
    /// Close the socket. Nothing follows.
    Close(Close),
}

/// A WebSocket close frame (RFC 6455, section 5.5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// For the client's program.
    pub code: CloseCode,
    /// For humans; at most 123 bytes.
    pub reason: Cow<'static, str>,
}

/// Why a socket is closed (RFC 6455, section 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 1000: done.
    Normal,
    /// 1001: the server goes down.
    GoingAway,
    /// 1008: the client exceeds a limit.
    Policy,
    /// 1011: the server has a defect.
    InternalError,
    /// 1013: the server is full.
    TryAgainLater,
}

impl CloseCode {
    /// The number on the wire.
    pub fn as_u16(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::Policy => 1008,
            Self::InternalError => 1011,
            Self::TryAgainLater => 1013,
        }
    }
}

impl Close {
    /// A close frame with a fixed reason.
    pub fn new(code: CloseCode, reason: &'static str) -> Self {
        Self {
            code,
            reason: Cow::Borrowed(reason),
        }
    }
}
