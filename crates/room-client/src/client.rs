//! The client's side of the protocol as a state machine: requests, heartbeat, reconnection.
//!
//! Read [`Client`] first. Deliberately absent: sockets, clocks and tasks, which belong to its owner.

mod back_off;
mod config;
mod event;
mod message;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use room::protocol::{Request, Response, RoomError};
use serde_json::{Map, Value, json};

pub use config::Config;
pub use event::{CloseReason, Event, Notice, Output, RequestId};

use crate::Error;
use back_off::BackOff;
use config::{CLOSE_TIMEOUT, FRAME_BYTES_MAX, HEARTBEAT_MIN, OPEN_TIMEOUT, REQUESTS_MAX};
use message::{Expected, Incoming};

/// One connection to a server, over as many sockets as it takes.
///
/// The owner passes in what happens (`handle_*`, [`request`](Self::request), [`close`](Self::close))
/// and afterwards takes out what must be done ([`poll_output`](Self::poll_output)), what to tell the
/// application ([`poll_event`](Self::poll_event)), both until they are empty, and when to come back
/// ([`poll_timeout`](Self::poll_timeout)).
///
/// The *session* outlives the socket: its id comes with the server's answers and is presented by
/// `connect` on the next socket. A request is answered, fails, or times out, whatever happens to the
/// sockets; on a resumed session it is sent again byte for byte, by which a server knows what it has
/// done already.
#[derive(Debug)]
pub struct Client {
    config: Config,
    state: State,
    /// A first attempt that fails is not repeated: the address is probably wrong.
    ever_opened: bool,
    session_id: Option<String>,
    next_id: u32,
    /// All have the same time to live, so that the first one is the first to time out.
    pending: BTreeMap<RequestId, Pending>,
    extra_params: Map<String, Value>,
    ping_at: Option<Instant>,
    give_up_at: Option<Instant>,
    back_off: BackOff,
    outputs: VecDeque<Output>,
    events: VecDeque<Event>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// A socket is opening.
    Opening {
        deadline: Instant,
    },
    /// Requests wait until `connect` is answered and, after it, the ping. Between the two comes what
    /// was missed, answers included: what these settle must not be asked again.
    Resuming {
        is_connected: bool,
        ping: Option<RequestId>,
    },
    Open,
    /// There is no socket.
    Lost {
        retry_at: Instant,
    },
    /// `closeSession` is on its way.
    Closing {
        deadline: Instant,
    },
    Closed(CloseReason),
}

#[derive(Debug)]
struct Pending {
    method: &'static str,
    frame: String,
    deadline: Instant,
    purpose: Purpose,
}

/// Whom an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Application(Expected),
    Ping,
    Connect,
    CloseSession,
}

impl Purpose {
    /// True if the request means nothing on another socket.
    fn is_of_socket(self) -> bool {
        !matches!(self, Self::Application(_))
    }
}

impl Client {
    /// A client that wants its first socket. `seed` decides the jitter between connection attempts.
    pub fn new(now: Instant, config: Config, seed: u64) -> Self {
        let config = Config {
            heartbeat: config.heartbeat.map(|interval| interval.max(HEARTBEAT_MIN)),
            ..config
        };
        Self {
            config,
            state: State::Opening {
                deadline: now + OPEN_TIMEOUT,
            },
            ever_opened: false,
            session_id: None,
            next_id: 0,
            pending: BTreeMap::new(),
            extra_params: Map::new(),
            ping_at: None,
            give_up_at: None,
            back_off: BackOff::new(seed),
            outputs: VecDeque::from([Output::OpenSocket]),
            events: VecDeque::new(),
        }
    }

    /// The id of the server's session, a secret; `None` before the server told it.
    pub fn session_id(&self) -> Option<&str> {
        self.session_id.as_deref()
    }

    /// Why the connection is over, if it is.
    pub fn closed(&self) -> Option<CloseReason> {
        match self.state {
            State::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Parameters added to each following request, as a token that the server's application wants.
    /// A request's own parameters of the same name win.
    pub fn set_extra_params(&mut self, params: Map<String, Value>) {
        self.extra_params = params;
    }

    /// Makes a request. It waits while there is no connection.
    pub fn request(&mut self, now: Instant, request: &Request) -> RequestId {
        let params = message::params(request, &self.extra_params);
        let purpose = Purpose::Application(Expected::of(request));
        let id = self.next_id();
        let pending = self.pending(now, id, request.method(), params, purpose);
        if let Some(error) = self.refusal(&pending) {
            self.answer(id, Err(error));
            return id;
        }
        if matches!(self.state, State::Open) {
            self.outputs.push_back(Output::Send(pending.frame.clone()));
        }
        self.pending.insert(id, pending);
        id
    }

    /// Ends the session, so that others see the participant leave at once.
    pub fn close(&mut self, now: Instant) {
        match self.state {
            State::Open => {
                self.ping_at = None;
                self.state = State::Closing {
                    deadline: now + CLOSE_TIMEOUT,
                };
                self.send(now, "closeSession", None, Purpose::CloseSession);
            }
            State::Closing { .. } | State::Closed(_) => {}
            State::Opening { .. } | State::Resuming { .. } | State::Lost { .. } => {
                self.abort(CloseReason::Requested);
            }
        }
    }

    /// Ends the connection without a word to the server.
    pub fn abort(&mut self, reason: CloseReason) {
        match self.state {
            State::Closed(_) => return,
            State::Lost { .. } => {}
            _ => self.outputs.push_back(Output::CloseSocket),
        }
        self.end(reason);
    }

    /// The socket asked for is open.
    pub fn handle_opened(&mut self, now: Instant) {
        if !matches!(self.state, State::Opening { .. }) {
            return;
        }
        let is_first = !std::mem::replace(&mut self.ever_opened, true);
        match self.session_id.clone() {
            Some(session_id) => {
                let params = json!({ "sessionId": session_id });
                self.send(now, "connect", Some(params), Purpose::Connect);
                // After `connect`: the first ping of a socket sets the interval of its session.
                self.state = State::Resuming {
                    is_connected: false,
                    ping: self.start_heartbeat(now),
                };
            }
            None => {
                self.start_heartbeat(now);
                if is_first {
                    self.transmit_pending();
                } else {
                    self.start_anew();
                }
            }
        }
    }

    /// A text frame came. What is not understood is ignored.
    pub fn handle_text(&mut self, text: &str) {
        if !self.has_open_socket() {
            return;
        }
        // Not before: a server that is full opens sockets only to close them.
        self.back_off.reset();
        match Incoming::parse(text) {
            None => {}
            Some(Incoming::Notification(notification)) => {
                self.notice(Notice::Notification(notification));
            }
            Some(Incoming::Answer {
                id,
                session_id,
                outcome,
            }) => self.handle_answer(id, session_id, outcome),
        }
    }

    /// The socket is gone, or could not be opened.
    pub fn handle_closed(&mut self, now: Instant) {
        match self.state {
            State::Lost { .. } | State::Closed(_) => {}
            State::Closing { .. } => self.end(CloseReason::Requested),
            State::Opening { .. } if !self.ever_opened => self.end(CloseReason::Unreachable),
            State::Opening { .. } | State::Resuming { .. } | State::Open => {
                self.lose_socket(now);
            }
        }
    }

    /// The instant of [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let is_due = |at: Instant| at <= now;
        if self.give_up_at.is_some_and(is_due) {
            self.abort(CloseReason::Unreachable);
        }
        match self.state {
            State::Closed(_) => return,
            State::Closing { deadline } if is_due(deadline) => {
                return self.abort(CloseReason::Requested);
            }
            State::Opening { deadline } if is_due(deadline) => self.drop_socket(now),
            State::Lost { retry_at } if is_due(retry_at) => {
                self.outputs.push_back(Output::OpenSocket);
                self.state = State::Opening {
                    deadline: now + OPEN_TIMEOUT,
                };
            }
            _ => {}
        }
        self.expire_requests(now);
        if self.ping_at.is_some_and(is_due) {
            self.ping_at = self.config.heartbeat.map(|interval| now + interval);
            self.send(now, "ping", None, Purpose::Ping);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let of_state = match self.state {
            State::Opening { deadline } | State::Closing { deadline } => Some(deadline),
            State::Lost { retry_at } => Some(retry_at),
            State::Resuming { .. } | State::Open | State::Closed(_) => None,
        };
        let of_requests = self
            .pending
            .first_key_value()
            .map(|(_, first)| first.deadline);
        [of_state, of_requests, self.ping_at, self.give_up_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What to tell the application next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn refusal(&self, pending: &Pending) -> Option<Error> {
        let bytes = pending.frame.len();
        match self.state {
            State::Closed(reason) => Some(Error::Closed(reason)),
            State::Closing { .. } => Some(Error::Closed(CloseReason::Requested)),
            _ if bytes > FRAME_BYTES_MAX => Some(Error::TooLarge { bytes }),
            _ if self.pending.len() >= REQUESTS_MAX => Some(Error::TooManyRequests(REQUESTS_MAX)),
            _ => None,
        }
    }

    fn handle_answer(
        &mut self,
        id: RequestId,
        session_id: Option<String>,
        outcome: Result<Option<Value>, RoomError>,
    ) {
        let Some(Pending {
            method, purpose, ..
        }) = self.pending.remove(&id)
        else {
            return;
        };
        if session_id.is_some() {
            self.session_id = session_id;
        }
        match purpose {
            Purpose::Ping => self.resume_when_complete(),
            Purpose::CloseSession => self.abort(CloseReason::Requested),
            Purpose::Connect if outcome.is_ok() => {
                if let State::Resuming { is_connected, .. } = &mut self.state {
                    *is_connected = true;
                }
                self.resume_when_complete();
            }
            Purpose::Connect => self.start_anew(),
            Purpose::Application(expected) => {
                let has_left = method == LEAVE_ROOM && outcome.is_ok();
                let response = outcome.map_err(Error::from);
                self.answer(
                    id,
                    response.and_then(|result| expected.read(method, result)),
                );
                if has_left {
                    self.abort(CloseReason::Left);
                }
            }
        }
    }

    fn resume_when_complete(&mut self) {
        if let State::Resuming {
            is_connected: true,
            ping,
        } = self.state
            && ping.is_none_or(|id| !self.pending.contains_key(&id))
        {
            self.transmit_pending();
            self.notice(Notice::Resumed);
        }
    }

    /// The socket is back, but what was before is not known to the server.
    fn start_anew(&mut self) {
        self.session_id = None;
        let (requests, others) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, pending)| !pending.purpose.is_of_socket());
        self.pending = others;
        let mut has_left = false;
        for (id, Pending { method, .. }) in requests {
            // Who is not in the session is not in the room.
            let is_leave = method == LEAVE_ROOM;
            has_left |= is_leave;
            self.answer(
                id,
                is_leave
                    .then_some(Response::Empty)
                    .ok_or(Error::SessionLost),
            );
        }
        if has_left {
            return self.abort(CloseReason::Left);
        }
        self.transmit_pending();
        self.notice(Notice::SessionLost);
    }

    /// Opens the gate for requests and sends those that wait.
    fn transmit_pending(&mut self) {
        self.state = State::Open;
        self.give_up_at = None;
        let requests = self.pending.values();
        let requests = requests.filter(|pending| !pending.purpose.is_of_socket());
        self.outputs
            .extend(requests.map(|pending| Output::Send(pending.frame.clone())));
    }

    fn expire_requests(&mut self, now: Instant) {
        while let Some(first) = self.pending.first_entry()
            && first.get().deadline <= now
        {
            let (
                id,
                Pending {
                    method, purpose, ..
                },
            ) = first.remove_entry();
            match purpose {
                Purpose::Application(_) => self.answer(id, Err(Error::Timeout { method })),
                Purpose::Ping | Purpose::Connect => self.drop_socket(now),
                Purpose::CloseSession => {}
            }
        }
    }

    /// The first ping of a socket, if there are any.
    fn start_heartbeat(&mut self, now: Instant) -> Option<RequestId> {
        let interval = self.config.heartbeat?;
        self.ping_at = Some(now + interval);
        let params = json!({ "interval": milliseconds(interval) });
        Some(self.send(now, "ping", Some(params), Purpose::Ping))
    }

    /// Gives up a socket that seems dead, without waiting for a closing handshake.
    fn drop_socket(&mut self, now: Instant) {
        self.outputs.push_back(Output::CloseSocket);
        self.handle_closed(now);
    }

    fn lose_socket(&mut self, now: Instant) {
        let was_open = matches!(self.state, State::Open);
        self.state = State::Lost {
            retry_at: now + self.back_off.next_delay(),
        };
        self.ping_at = None;
        self.give_up_at
            .get_or_insert(now + self.config.give_up_after);
        self.pending
            .retain(|_, pending| !pending.purpose.is_of_socket());
        self.outputs
            .retain(|output| !matches!(output, Output::Send(_)));
        if was_open {
            self.notice(Notice::Reconnecting);
        }
    }

    fn end(&mut self, reason: CloseReason) {
        self.state = State::Closed(reason);
        self.ping_at = None;
        self.give_up_at = None;
        for (id, pending) in std::mem::take(&mut self.pending) {
            if !pending.purpose.is_of_socket() {
                self.answer(id, Err(Error::Closed(reason)));
            }
        }
        self.notice(Notice::Closed(reason));
    }

    fn has_open_socket(&self) -> bool {
        matches!(
            self.state,
            State::Resuming { .. } | State::Open | State::Closing { .. }
        )
    }

    fn next_id(&mut self) -> RequestId {
        let id = RequestId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        id
    }

    fn pending(
        &self,
        now: Instant,
        id: RequestId,
        method: &'static str,
        params: Option<Value>,
        purpose: Purpose,
    ) -> Pending {
        Pending {
            method,
            frame: message::encode(method, params, id),
            deadline: now + self.config.request_timeout,
            purpose,
        }
    }

    /// Sends a request of the session layer.
    fn send(
        &mut self,
        now: Instant,
        method: &'static str,
        params: Option<Value>,
        purpose: Purpose,
    ) -> RequestId {
        let id = self.next_id();
        let pending = self.pending(now, id, method, params, purpose);
        self.outputs.push_back(Output::Send(pending.frame.clone()));
        self.pending.insert(id, pending);
        id
    }

    fn answer(&mut self, id: RequestId, outcome: Result<Response, Error>) {
        self.events.push_back(Event::Answer { id, outcome });
    }

    fn notice(&mut self, notice: Notice) {
        self.events.push_back(Event::Notice(notice));
    }
}

const LEAVE_ROOM: &str = "leaveRoom";

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
