//! Connections, and which session each belongs to.

use std::collections::{HashMap, VecDeque};

use super::sessions::SessionName;
use crate::fault::Fault;
use crate::wire::{self, Request};

/// Frames of one connection that wait while a request is in progress. Too low: a flood of candidates
/// crawls. Too high: memory for a client that never waits for answers.
const FRAMES_WAITING_MAX: usize = 256;
/// The driver stops reading here. Above it only what is in its hands already may come.
const FRAMES_WANTED_MAX: usize = 128;
/// Bytes of those frames.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Messages on their way to a client that does not read. Releasing a big pipeline makes thousands
/// of events at once.
const OUTBOX_FRAMES_MAX: usize = 50_000;
/// Bytes of those messages.
const OUTBOX_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One WebSocket connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(u64);

/// The server has as many connections as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} connections are open")]
pub struct TooManyConnections(pub usize);

/// Something to put on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// One text frame.
    Text(String),
    /// The end; nothing comes after it.
    Close(Close),
}

/// Why a connection is closed (RFC 6455, section 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// The WebSocket status.
    pub code: u16,
    /// For humans.
    pub reason: &'static str,
}

impl Close {
    /// The address has another path than the server's.
    pub const INVALID_PATH: Self = Self::new(1002, "Invalid path");
    /// A frame exceeds [`ClientFrame::BYTES_MAX`].
    pub const TOO_BIG: Self = Self::new(1009, "message is too big");
    pub(super) const GOING_AWAY: Self = Self::new(1001, "the server goes down");
    pub(super) const TOO_MANY_REQUESTS: Self = Self::new(1008, "too many requests are waiting");
    pub(super) const TOO_SLOW: Self = Self::new(1008, "messages are not read");

    const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason }
    }
}

/// One text or binary frame of a client, parsed.
///
/// Parsing is separate from [`Server::handle_frame`](super::Server::handle_frame) so that a huge frame
/// costs the reader of its connection, not everybody who waits for the server.
#[derive(Clone, Debug)]
pub struct ClientFrame {
    size_bytes: usize,
    pub(super) content: Result<Request, Fault>,
}

impl ClientFrame {
    /// Bytes of a frame above which its connection should be closed. A session description has at
    /// most some hundred thousand; a transaction may hold several.
    pub const BYTES_MAX: usize = 4 * 1024 * 1024;

    /// Parses any text.
    pub fn parse(text: &str) -> Self {
        Self {
            size_bytes: text.len(),
            content: wire::parse_request(text),
        }
    }
}

/// All open connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    opened: u64,
    open: HashMap<ConnectionId, Connection>,
    /// Where the events of a session go.
    routes: HashMap<SessionName, ConnectionId>,
}

#[derive(Debug, Default)]
pub(super) struct Connection {
    pub(super) session: Option<SessionName>,
    /// A request of it waits for the media server.
    pub(super) busy: bool,
    waiting: VecDeque<ClientFrame>,
    waiting_bytes: usize,
    outbox: VecDeque<String>,
    outbox_bytes: usize,
    close: Option<Close>,
    closed: bool,
}

/// A bound was reached.
#[derive(Debug)]
pub(super) struct Overflow;

impl Connections {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn open(&mut self, max: usize) -> Result<ConnectionId, TooManyConnections> {
        if self.open.len() >= max {
            return Err(TooManyConnections(max));
        }
        self.opened += 1;
        let id = ConnectionId(self.opened);
        self.open.insert(id, Connection::default());
        Ok(id)
    }

    /// Forgets a connection; returns the session that lost it.
    pub(super) fn close(&mut self, id: ConnectionId) -> Option<SessionName> {
        let session = self.open.remove(&id)?.session?;
        (self.routes.get(&session) == Some(&id)).then(|| {
            self.routes.remove(&session);
            session
        })
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.open.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.open.get_mut(&id)
    }

    pub(super) fn route(&self, session: &SessionName) -> Option<ConnectionId> {
        self.routes.get(session).copied()
    }

    /// Ties a connection and a session together; what either was tied to is let go.
    pub(super) fn associate(&mut self, id: ConnectionId, session: &SessionName) {
        let Some(connection) = self.open.get_mut(&id) else {
            return;
        };
        let former = connection.session.replace(session.clone());
        if let Some(former) = former.filter(|former| former != session) {
            self.routes.remove(&former);
        }
        let former = self.routes.insert(session.clone(), id);
        let former = former.filter(|former| *former != id);
        if let Some(connection) = former.and_then(|former| self.open.get_mut(&former)) {
            connection.session = None;
        }
    }
}

impl Connection {
    pub(super) fn wants_frames(&self) -> bool {
        self.close.is_none() && self.waiting.len() < FRAMES_WANTED_MAX
    }

    pub(super) fn enqueue(&mut self, frame: ClientFrame) -> Result<(), Overflow> {
        if self.close.is_some() {
            return Ok(());
        }
        let bytes = self.waiting_bytes + frame.size_bytes;
        let full = self.waiting.len() >= FRAMES_WAITING_MAX || bytes > WAITING_BYTES_MAX;
        if full && !self.waiting.is_empty() {
            return Err(Overflow);
        }
        self.waiting_bytes = bytes;
        self.waiting.push_back(frame);
        Ok(())
    }

    /// The frame to handle now, if any.
    pub(super) fn next_frame(&mut self) -> Option<ClientFrame> {
        if self.busy || self.close.is_some() {
            return None;
        }
        let frame = self.waiting.pop_front()?;
        self.waiting_bytes -= frame.size_bytes;
        Some(frame)
    }

    pub(super) fn push(&mut self, text: String) -> Result<(), Overflow> {
        if self.close.is_some() {
            return Ok(());
        }
        let bytes = self.outbox_bytes + text.len();
        if self.outbox.len() >= OUTBOX_FRAMES_MAX || bytes > OUTBOX_BYTES_MAX {
            return Err(Overflow);
        }
        self.outbox_bytes = bytes;
        self.outbox.push_back(text);
        Ok(())
    }

    /// Ends the connection after what is on its way.
    pub(super) fn shut(&mut self, close: Close) {
        self.close.get_or_insert(close);
        self.waiting.clear();
    }

    /// Ends the connection without what is on its way.
    pub(super) fn abort(&mut self, close: Close) {
        self.outbox.clear();
        self.shut(close);
    }

    pub(super) fn poll(&mut self) -> Option<Outgoing> {
        if let Some(text) = self.outbox.pop_front() {
            self.outbox_bytes = self.outbox_bytes.saturating_sub(text.len());
            return Some(Outgoing::Text(text));
        }
        let close = self.close.filter(|_| !self.closed)?;
        self.closed = true;
        Some(Outgoing::Close(close))
    }
}
