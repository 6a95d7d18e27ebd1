//! Sessions between sockets and the code that answers requests.
//!
//! Read [`Sessions`] first. `requests` orders what comes in, `outbox` what goes out.
//! Deliberately absent: the sockets and tasks themselves, and any notion of rooms.

mod config;
mod event;
mod id;
mod outbox;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

pub use config::{Config, Limits};
pub use event::{Close, CloseCode, EndReason, Event, Outgoing, Work};
pub use id::{SessionId, SessionKey, SocketId};

use crate::frame::{Content, Frame, Id, Request};
use crate::params::Params;
use crate::reply::{self, Reply, RpcError, Text};
use config::{PING_INTERVAL_DEFAULT, PING_INTERVAL_MAX, PING_INTERVAL_MIN, PING_INTERVALS_MISSED};
use event::Body;
use outbox::{Message, Outbox, Overflow};
use requests::{Admission, Fingerprint, Requests};

/// The server has as many sockets as it is prepared to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {0} connections are in use")]
pub struct TooManySockets(pub usize);

/// All sessions of a server: who is connected over which socket, whose request is in progress, and
/// what is on its way to whom.
///
/// After every call that takes `&mut self`, drain [`poll_event`](Self::poll_event), and call
/// [`handle_timeout`](Self::handle_timeout) at the time that [`poll_timeout`](Self::poll_timeout)
/// tells.
///
/// Replies and notifications of a session share one queue, so a client sees them in the order in
/// which [`answer`](Self::answer) and [`notify`](Self::notify) were called. The queue moves with
/// the session when its client comes back on another socket. What had already been handed to the
/// lost socket is not repeated: nothing tells whether the client got it.
#[derive(Debug)]
pub struct Sessions {
    config: Config,
    sockets: HashMap<SocketId, Socket>,
    sessions: HashMap<SessionKey, Session>,
    /// Hashed with a secret key, so the time of a look-up tells nothing about existing ids.
    keys: HashMap<SessionId, SessionKey>,
    timers: BTreeSet<(Instant, Timer)>,
    events: VecDeque<Event>,
    opened: u64,
    fingerprints: RandomState,
}

#[derive(Debug, Default)]
struct Socket {
    session: Option<SessionKey>,
    outbox: Outbox,
    watchdog: Option<Watchdog>,
    /// Sent after the outbox. Once set, the socket takes nothing in.
    close: Option<Close>,
    /// The close frame was handed out.
    finished: bool,
}

#[derive(Clone, Copy, Debug)]
struct Watchdog {
    interval: Duration,
    /// Set by a ping on this very socket, not inherited from the session's former one.
    fixed: bool,
    deadline: Option<Instant>,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    attachment: Attachment,
    requests: Requests,
}

#[derive(Debug)]
enum Attachment {
    Socket(SocketId),
    Lost(Lost),
}

/// What a session remembers until its client comes back.
#[derive(Debug)]
struct Lost {
    deadline: Instant,
    watch_interval: Option<Duration>,
    /// `Err` once something had to be dropped.
    missed: Result<Outbox, Overflow>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Watchdog(SocketId),
    Grace(SessionKey),
}

impl Sessions {
    /// No sessions yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            sockets: HashMap::new(),
            sessions: HashMap::new(),
            keys: HashMap::new(),
            timers: BTreeSet::new(),
            events: VecDeque::new(),
            opened: 0,
            fingerprints: RandomState::new(),
        }
    }

    /// Number of open sockets.
    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Number of sessions, with and without a socket.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The session with this wire id.
    pub fn key_of(&self, id: &str) -> Option<SessionKey> {
        self.keys.get(id).copied()
    }

    /// A socket was accepted. If the server is full the caller closes it.
    pub fn handle_opened(&mut self, socket: SocketId) -> Result<(), TooManySockets> {
        if self.sockets.len() >= self.config.limits.sockets {
            return Err(TooManySockets(self.config.limits.sockets));
        }
        self.sockets.insert(socket, Socket::default());
        Ok(())
    }

    /// A socket is gone, for whatever reason. Its session waits for the client to come back.
    pub fn handle_closed(&mut self, now: Instant, socket: SocketId) {
        self.detach(now, socket);
        if let Some(state) = self.sockets.remove(&socket) {
            self.cancel_watchdog(socket, state.watchdog);
        }
    }

    /// A text frame arrived.
    pub fn handle_frame(&mut self, now: Instant, socket: SocketId, frame: Frame) {
        let Some(state) = self.sockets.get(&socket) else {
            return;
        };
        if state.close.is_some() {
            return;
        }
        match frame.content {
            Content::Ignored(_) => {}
            Content::Refused { id, error } => self.refuse(socket, id, &error),
            Content::Request(request) => match request.method.as_str() {
                "ping" => self.ping(now, socket, &request),
                "connect" => self.connect(now, socket, request),
                "closeSession" => self.close_session_by_client(socket, request.id),
                _ => self.room_request(now, socket, request, frame.text),
            },
        }
    }

    /// Answers the request of `key` that is in progress; further answers to it are ignored. The next
    /// request waits for [`finish`](Self::finish).
    pub fn answer(&mut self, now: Instant, key: SessionKey, reply: &Reply) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let (id, style) = (&session.id, self.config.style);
        let encode = |request| reply::response(request, reply, id, style);
        let answer = session.requests.answer(now, encode, &self.config.limits);
        if let Some(text) = answer {
            self.deliver(key, text);
        }
    }

    /// The request in progress needs no more work; the next one starts.
    pub fn finish(&mut self, key: SessionKey) {
        let session = self.sessions.get_mut(&key);
        if let Some(text) = session.and_then(|session| session.requests.start_next()) {
            let body = Body::Text(text);
            self.events.push_back(Event::Work(Work { key, body }));
        }
    }

    /// Ends a session, and closes its socket after what is on its way to it.
    pub fn close_session(&mut self, key: SessionKey, close: Close) {
        let socket = self.socket_of(key);
        self.end(key, EndReason::Closed);
        if let Some(socket) = socket {
            self.close(socket, close);
        }
    }

    /// Sends a message to the client of a session, or keeps it until the client is back. Ignored if
    /// the session is gone.
    pub fn notify(&mut self, key: SessionKey, text: &Text) {
        self.deliver(key, text.clone());
    }

    /// Ends all sessions and closes all sockets after what is on its way to them.
    pub fn shut_down(&mut self, reason: &'static str) {
        let keys: Vec<_> = self.sessions.keys().copied().collect();
        for key in keys {
            self.end(key, EndReason::Shutdown);
        }
        let sockets: Vec<_> = self.sockets.keys().copied().collect();
        for socket in sockets {
            self.close(socket, Close::new(CloseCode::GoingAway, reason));
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(deadline, _)| *deadline)
    }

    /// Closes sockets that fell silent and ends sessions whose client did not come back.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(deadline, timer)) = self.timers.first() {
            if deadline > now {
                return;
            }
            self.timers.pop_first();
            match timer {
                Timer::Watchdog(socket) => self.handle_silence(now, socket),
                Timer::Grace(key) => self.end(key, EndReason::GraceExpired),
            }
        }
    }

    /// What the caller has to do next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What to send on a socket. [`Event::Transmit`] tells that there is something.
    pub fn poll_transmit(&mut self, socket: SocketId) -> Option<Outgoing> {
        let state = self.sockets.get_mut(&socket)?;
        if let Some(text) = state.outbox.pop() {
            return Some(Outgoing::Text(text));
        }
        let close = state.close.clone().filter(|_| !state.finished)?;
        state.finished = true;
        Some(Outgoing::Close(close))
    }
}

/// The methods of the session layer.
impl Sessions {
    fn ping(&mut self, now: Instant, socket: SocketId, request: &Request) {
        if let Some(state) = self.sockets.get_mut(&socket) {
            let watchdog = state.watchdog.get_or_insert(Watchdog {
                interval: PING_INTERVAL_DEFAULT,
                fixed: false,
                deadline: None,
            });
            if !watchdog.fixed {
                watchdog.fixed = true;
                watchdog.interval = announced_interval(&request.params);
            }
            self.arm_watchdog(now, socket);
        }
        if let Some(id) = request.id {
            let pong = reply::value_response(id, "pong", request.session_id.as_deref());
            self.send_to_socket(socket, pong);
        }
    }

    fn connect(&mut self, now: Instant, socket: SocketId, request: Request) {
        let Request { id, session_id, .. } = request;
        let Some(wanted) = session_id else {
            match self.session_at(socket) {
                Ok(key) => self.answer_connect(key, id, "OK"),
                Err(error) => self.refuse(socket, id, &error),
            }
            return;
        };
        let Some(key) = self.key_of(&wanted) else {
            return self.refuse(socket, id, &RpcError::reconnection());
        };
        if self.has_missed_too_much(key) {
            self.end(key, EndReason::MissedTooMuch);
            let error = RpcError::outside(
                RpcError::RECONNECTION,
                "reconnection error: too many messages were missed, join again",
            );
            return self.refuse(socket, id, &error);
        }
        let missed = self.rebind(now, key, socket);
        self.answer_connect(key, id, "reconnection successful");
        if let Some(state) = self.sockets.get_mut(&socket) {
            state.outbox.append(missed);
            self.events.push_back(Event::Transmit(socket));
        }
    }

    /// Moves a session to `socket`; returns what its client has missed.
    fn rebind(&mut self, now: Instant, key: SessionKey, socket: SocketId) -> Outbox {
        if self.socket_of(key) == Some(socket) {
            return Outbox::default();
        }
        self.detach(now, socket);
        if let Some(former) = self.socket_of(key) {
            self.detach(now, former);
            let reason = "the session moved to another connection";
            self.close(former, Close::new(CloseCode::Normal, reason));
        }
        let session = self.sessions.get_mut(&key).expect("key_of() found it");
        let attachment = std::mem::replace(&mut session.attachment, Attachment::Socket(socket));
        let Attachment::Lost(lost) = attachment else {
            unreachable!("detached above if it had a socket");
        };
        session.requests.handle_resumed(now);
        self.timers.remove(&(lost.deadline, Timer::Grace(key)));
        let state = self.sockets.get_mut(&socket).expect("its frame is handled");
        state.outbox.disown();
        state.session = Some(key);
        if let (None, Some(interval)) = (state.watchdog, lost.watch_interval) {
            state.watchdog = Some(Watchdog {
                interval,
                fixed: false,
                deadline: None,
            });
        }
        self.arm_watchdog(now, socket);
        lost.missed.unwrap_or_default()
    }

    fn answer_connect(&mut self, key: SessionKey, id: Option<Id>, outcome: &str) {
        let Some(id) = id else { return };
        let Some(session) = self.sessions.get(&key) else {
            return;
        };
        let text = reply::value_response(id, outcome, Some(session.id.as_str()));
        if let Some(socket) = self.socket_of(key) {
            self.send_to_socket(socket, text);
        }
    }

    fn has_missed_too_much(&self, key: SessionKey) -> bool {
        let attachment = self.sessions.get(&key).map(|session| &session.attachment);
        matches!(attachment, Some(Attachment::Lost(lost)) if lost.missed.is_err())
    }

    /// Ends the session of the socket, if there is one; a session of somebody else cannot be named.
    fn close_session_by_client(&mut self, socket: SocketId, id: Option<Id>) {
        if let Some(key) = self.sockets.get(&socket).and_then(|state| state.session) {
            self.end(key, EndReason::Closed);
        }
        if let Some(id) = id {
            self.send_to_socket(socket, reply::bye_response(id));
        }
        self.close(socket, Close::new(CloseCode::Normal, ""));
    }
}

/// Requests of rooms.
impl Sessions {
    fn room_request(&mut self, now: Instant, socket: SocketId, request: Request, text: Box<str>) {
        let key = match self.session_for(socket, request.session_id.as_deref()) {
            Ok(key) => key,
            Err(error) => return self.refuse(socket, request.id, &error),
        };
        let fingerprint = Fingerprint(self.fingerprints.hash_one(&*text));
        let session = self.sessions.get_mut(&key).expect("session_for() found it");
        let limits = &self.config.limits;
        match session
            .requests
            .admit(now, request, text, fingerprint, limits)
        {
            Admission::Start(request) => {
                let body = Body::Parsed(request);
                self.events.push_back(Event::Work(Work { key, body }));
            }
            Admission::Queued | Admission::Repeated => {}
            Admission::AnsweredBefore(answer) => self.deliver(key, answer),
            Admission::QueueFull => {
                self.end(key, EndReason::TooManyRequests);
                let reason = "too many requests are waiting";
                self.abort(socket, Close::new(CloseCode::Policy, reason));
            }
        }
    }

    /// The session that a request on `socket` belongs to. An id that names no session is ignored,
    /// as clients may still send one that expired.
    fn session_for(
        &mut self,
        socket: SocketId,
        named: Option<&str>,
    ) -> Result<SessionKey, RpcError> {
        let named = named.and_then(|id| self.key_of(id));
        let own = self.sockets.get(&socket).and_then(|state| state.session);
        if named.is_some() && named != own {
            return Err(RpcError::outside(
                RpcError::RECONNECTION,
                "reconnection error: the session belongs to another connection, send connect first",
            ));
        }
        self.session_at(socket)
    }

    /// The session of a socket, made if there is none.
    fn session_at(&mut self, socket: SocketId) -> Result<SessionKey, RpcError> {
        let state = self.sockets.get_mut(&socket).expect("its frame is handled");
        if let Some(key) = state.session {
            return Ok(key);
        }
        if self.sessions.len() >= self.config.limits.sessions {
            return Err(RpcError::outside(
                RpcError::SERVER_FULL,
                "the server is full, try again later",
            ));
        }
        self.opened += 1;
        let key = SessionKey(self.opened);
        let id = SessionId::random();
        state.session = Some(key);
        self.keys.insert(id.clone(), key);
        self.sessions.insert(
            key,
            Session {
                id: id.clone(),
                attachment: Attachment::Socket(socket),
                requests: Requests::default(),
            },
        );
        self.events.push_back(Event::Opened { key, id });
        Ok(key)
    }
}

/// What goes out.
impl Sessions {
    fn refuse(&mut self, socket: SocketId, id: Option<Id>, error: &RpcError) {
        if let Some(id) = id {
            self.send_to_socket(socket, reply::error_response(id, error));
        }
    }

    /// Sends a message of the session to wherever its client is.
    fn deliver(&mut self, key: SessionKey, text: Text) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let message = Message {
            text,
            of_session: true,
        };
        match &mut session.attachment {
            Attachment::Socket(socket) => {
                let socket = *socket;
                self.send(socket, message);
            }
            Attachment::Lost(lost) => {
                let Ok(missed) = &mut lost.missed else { return };
                if let Err(overflow) = missed.push(message, &self.config.limits) {
                    lost.missed = Err(overflow);
                }
            }
        }
    }

    fn send_to_socket(&mut self, socket: SocketId, text: Text) {
        let message = Message {
            text,
            of_session: false,
        };
        self.send(socket, message);
    }

    fn send(&mut self, socket: SocketId, message: Message) {
        let Some(state) = self.sockets.get_mut(&socket) else {
            return;
        };
        if state.close.is_some() {
            return;
        }
        let was_empty = state.outbox.is_empty();
        match state.outbox.push(message, &self.config.limits) {
            Ok(()) if was_empty => self.events.push_back(Event::Transmit(socket)),
            Ok(()) => {}
            Err(Overflow) => {
                // The client cannot be brought up to date any more, so coming back makes no sense.
                if let Some(key) = state.session {
                    self.end(key, EndReason::SlowReader);
                }
                let reason = "the client does not read what it is sent";
                self.abort(socket, Close::new(CloseCode::Policy, reason));
            }
        }
    }

    /// Closes a socket after what is on its way to it.
    fn close(&mut self, socket: SocketId, close: Close) {
        let Some(state) = self.sockets.get_mut(&socket) else {
            return;
        };
        if state.close.is_some() {
            return;
        }
        state.close = Some(close);
        let watchdog = state.watchdog.take();
        self.cancel_watchdog(socket, watchdog);
        self.events.push_back(Event::Transmit(socket));
    }

    /// Closes a socket and drops what is on its way to it.
    fn abort(&mut self, socket: SocketId, close: Close) {
        if let Some(state) = self.sockets.get_mut(&socket) {
            state.outbox.clear();
        }
        self.close(socket, close);
    }
}

/// Life and death.
impl Sessions {
    fn socket_of(&self, key: SessionKey) -> Option<SocketId> {
        match self.sessions.get(&key)?.attachment {
            Attachment::Socket(socket) => Some(socket),
            Attachment::Lost(_) => None,
        }
    }

    /// Parts a socket from its session, which then waits for another one.
    fn detach(&mut self, now: Instant, socket: SocketId) {
        let Some(state) = self.sockets.get_mut(&socket) else {
            return;
        };
        let Some(key) = state.session.take() else {
            return;
        };
        let deadline = now + self.config.grace;
        let lost = Lost {
            deadline,
            watch_interval: state.watchdog.map(|watchdog| watchdog.interval),
            missed: Ok(state.outbox.take_of_session()),
        };
        let session = self
            .sessions
            .get_mut(&key)
            .expect("a socket names a session that exists");
        session.attachment = Attachment::Lost(lost);
        self.timers.insert((deadline, Timer::Grace(key)));
    }

    fn end(&mut self, key: SessionKey, reason: EndReason) {
        let Some(session) = self.sessions.remove(&key) else {
            return;
        };
        self.keys.remove(&session.id);
        match session.attachment {
            Attachment::Socket(socket) => {
                let state = self.sockets.get_mut(&socket);
                state.expect("a session names a socket that exists").session = None;
            }
            Attachment::Lost(lost) => {
                self.timers.remove(&(lost.deadline, Timer::Grace(key)));
            }
        }
        let id = session.id;
        self.events.push_back(Event::Ended { key, id, reason });
    }

    fn arm_watchdog(&mut self, now: Instant, socket: SocketId) {
        let Some(state) = self.sockets.get_mut(&socket) else {
            return;
        };
        let Some(watchdog) = &mut state.watchdog else {
            return;
        };
        let deadline = now + watchdog.interval * PING_INTERVALS_MISSED;
        let timer = Timer::Watchdog(socket);
        if let Some(former) = watchdog.deadline.replace(deadline) {
            self.timers.remove(&(former, timer));
        }
        self.timers.insert((deadline, timer));
    }

    fn cancel_watchdog(&mut self, socket: SocketId, watchdog: Option<Watchdog>) {
        if let Some(deadline) = watchdog.and_then(|watchdog| watchdog.deadline) {
            self.timers.remove(&(deadline, Timer::Watchdog(socket)));
        }
    }

    /// A socket without a session only pings and is left alone.
    fn handle_silence(&mut self, now: Instant, socket: SocketId) {
        let Some(state) = self.sockets.get_mut(&socket) else {
            return;
        };
        if let Some(watchdog) = &mut state.watchdog {
            watchdog.deadline = None;
        }
        if state.session.is_some() {
            self.detach(now, socket);
            let reason = "Close for not receive ping from client";
            self.close(socket, Close::new(CloseCode::Normal, reason));
        }
    }
}

fn announced_interval(params: &Params) -> Duration {
    let announced = params.int("interval").ok().filter(|&interval| interval > 0);
    announced.map_or(PING_INTERVAL_DEFAULT, |interval_ms| {
        Duration::from_millis(interval_ms.unsigned_abs().into())
            .clamp(PING_INTERVAL_MIN, PING_INTERVAL_MAX)
    })
}
