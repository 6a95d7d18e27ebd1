//! The protocol from the client's side, without I/O: one session over one connection after another.

mod greeting;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use media::{Error, Event, EventSender};
use serde_json::{Map, Value, json};

use self::greeting::Greeting;
use super::message::Message;
use super::translation::{self, Watch};
use crate::fault::Fault;

/// How long a call may take. Longer than the room's own patience would be of no use.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// How often a quiet server is asked whether it is there. It keeps a session for four minutes at
/// least; asking more often finds a dead connection sooner.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long the answer to that may take before the connection counts as dead. Too low: a busy server
/// loses its connections. Too high: rooms wait for one that is gone.
const PING_DEADLINE: Duration = Duration::from_secs(10);
/// How long dialling and greeting may take, each.
pub(super) const DIAL_DEADLINE: Duration = Duration::from_secs(10);
/// Pause after a connection that was up. Too low: a server that drops every client is dialled all the
/// time. Too high: a short break of the network becomes a long one.
const PAUSE_AFTER_LOSS: Duration = Duration::from_millis(50);
/// First pause after a failed attempt. It doubles up to [`PAUSE_MAX`], and there is no last attempt.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Failed attempts after which a server that was never reached counts as down, two seconds if they fail at once. Too low:
/// one that was started together with us is taken for absent. Too high: users wait for the refusal.
const FIRST_ATTEMPTS: u32 = 4;
/// Too low: a server that is starting is flooded. Too high: a room waits after it is back.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// Requests that wait for an answer. Above it calls fail at once, as the server is not keeping up.
const REQUESTS_MAX: usize = 20_000;
/// How long a server keeps a session without a connection, at most. When it is over, all is lost even if the
/// server is still there, and rooms that wait for it need not wait any longer.
const SESSION_LIFE_MAX: Duration = Duration::from_secs(480);
const INTERVAL_TOLD_MS: u64 = 240_000;

/// A request, named as on the wire. Never used twice in a session: the server keeps answers by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RequestId(u64);

/// What a request is for, as far as that matters when its answer comes.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    Call,
    /// Makes an object, whose events go there.
    Create(EventSender),
    /// Nobody waits: a release, or what clears up after a call that was given up.
    Release,
    /// Was [`Create`](Self::Create), and its caller is gone.
    Orphan,
    Greeting(Greeting),
    Ping,
}

#[derive(Debug)]
struct Request {
    method: &'static str,
    params: Map<String, Value>,
    purpose: Purpose,
    deadline: Option<Instant>,
    /// On the present connection.
    sent: bool,
}

/// How it stands with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// Dial again then.
    Down {
        until: Instant,
    },
    Dialing,
    Greeting,
    Up {
        ping_at: Instant,
    },
}

/// What the driver has to do, or pass on.
#[derive(Debug)]
pub(super) enum Output {
    Answered(RequestId, Result<Value, Error>),
    Event(EventSender, Event),
}

/// What the driver should do about the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Dial,
    /// For that reason. [`Machine::handle_disconnected`] wants to hear it.
    HangUp(String),
    Nothing,
}

/// What the log says about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Up,
    Down,
}

#[derive(Debug)]
pub(super) struct Machine {
    /// For the log.
    name: String,
    told: Told,
    link: Link,
    /// Why the connection is of no use any more, while the driver still has it.
    hang_up: Option<String>,
    /// Attempts that failed since the server was last there.
    failures: u32,
    /// The server was there, or [`FIRST_ATTEMPTS`] have failed.
    is_known: bool,
    session: Option<String>,
    /// When the server was last there, if it is not.
    lost_at: Option<Instant>,
    ids: u64,
    requests: BTreeMap<RequestId, Request>,
    deadlines: BTreeSet<(Instant, RequestId)>,
    watches: HashMap<String, Watch>,
    version: Option<String>,
    outbox: VecDeque<String>,
    outputs: VecDeque<Output>,
}

impl Machine {
    /// `name` is what the log calls the server.
    pub(super) fn new(now: Instant, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            told: Told::Nothing,
            link: Link::Down { until: now },
            hang_up: None,
            failures: 0,
            is_known: false,
            session: None,
            lost_at: None,
            ids: 0,
            requests: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            watches: HashMap::new(),
            version: None,
            outbox: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Whether the server answers.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// Whether the server was reached, or tried for so long that it counts as down.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// What the server said it is, when it was last there.
    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Asks for something. While the server is known to be down that fails at once, so that a user is
    /// told instead of kept waiting.
    pub(super) fn request(
        &mut self,
        now: Instant,
        method: &'static str,
        params: Map<String, Value>,
        purpose: Purpose,
    ) -> Result<RequestId, Error> {
        let matters = !matches!(purpose, Purpose::Release);
        if matters && self.failures > 0 && !self.is_up() {
            let message = "the Kurento Media Server cannot be reached";
            return Err(Error::Unavailable(message.to_owned()));
        }
        if self.requests.len() >= REQUESTS_MAX {
            let message = "too many requests wait for the Kurento Media Server";
            return Err(Error::Unavailable(message.to_owned()));
        }
        let deadline = matters.then(|| now + CALL_DEADLINE);
        let id = self.add(method, params, purpose, deadline);
        if self.is_up() {
            self.transmit(id);
        }
        Ok(id)
    }

    /// The caller is gone. What it asked to be made is released once it is known.
    pub(super) fn abandon(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        if matches!(request.purpose, Purpose::Create(_)) && request.sent {
            request.purpose = Purpose::Orphan;
            if let Some(deadline) = request.deadline.take() {
                self.deadlines.remove(&(deadline, id));
            }
        } else {
            self.take(id);
        }
    }

    /// Releases an object with what is below it, now or when the server is back.
    pub(super) fn release(&mut self, now: Instant, object: &str) {
        self.forget(object);
        let mut params = Map::new();
        params.insert("object".to_owned(), object.into());
        if self
            .request(now, "release", params, Purpose::Release)
            .is_err()
        {
            tracing::warn!(object, "a release is lost; its pipeline's may follow");
        }
    }

    fn forget(&mut self, object: &str) {
        self.watches.remove(object);
        if !object.contains('/') {
            let below = format!("{object}/");
            self.watches.retain(|id, _| !id.starts_with(&below));
        }
    }

    /// What the driver should do about the connection.
    pub(super) fn poll_wish(&mut self, now: Instant) -> Wish {
        if let Some(reason) = self.hang_up.take() {
            return Wish::HangUp(reason);
        }
        match self.link {
            Link::Down { until } if until <= now => {
                self.link = Link::Dialing;
                Wish::Dial
            }
            _ => Wish::Nothing,
        }
    }

    /// A connection is up.
    pub(super) fn handle_connected(&mut self, now: Instant) {
        self.link = Link::Greeting;
        self.hang_up = None;
        self.greet(now, Greeting::Ping);
    }

    /// Dialling failed, or the connection broke, for that reason.
    pub(super) fn handle_disconnected(&mut self, now: Instant, reason: &str) {
        let was_up = self.is_up();
        self.tell_down(reason);
        if was_up {
            self.lost_at = Some(now);
        } else {
            self.failures = self.failures.saturating_add(1);
            self.is_known |= self.failures >= FIRST_ATTEMPTS;
        }
        self.hang_up = None;
        self.outbox.clear();
        let requests = self.requests.iter();
        let own: Vec<_> = requests
            .filter(|(_, request)| matches!(request.purpose, Purpose::Greeting(_) | Purpose::Ping))
            .map(|(id, _)| *id)
            .collect();
        for id in own {
            self.take(id);
        }
        for request in self.requests.values_mut() {
            request.sent = false;
        }
        let pause = if was_up {
            PAUSE_AFTER_LOSS
        } else {
            self.pause()
        };
        self.link = Link::Down { until: now + pause };
    }

    /// Once, however many attempts follow.
    fn tell_down(&mut self, reason: &str) {
        let server = &self.name;
        if std::mem::replace(&mut self.told, Told::Down) == Told::Down {
            tracing::debug!(server, reason, "a Kurento Media Server is still down");
        } else {
            tracing::warn!(
                server,
                reason,
                "a Kurento Media Server is down; it is dialled until it is back"
            );
        }
    }

    fn pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        (PAUSE_MIN * (1 << doublings)).min(PAUSE_MAX)
    }

    /// A frame arrived.
    pub(super) fn handle_frame(&mut self, now: Instant, text: &str) {
        match Message::parse(text) {
            Some(Message::Event { object, kind, data }) => self.handle_event(&object, &kind, &data),
            Some(Message::Response { id, outcome }) => {
                if let Some(id) = id.map(RequestId) {
                    self.handle_answer(now, id, outcome);
                }
            }
            None => tracing::debug!("a frame of the Kurento Media Server makes no sense"),
        }
    }

    fn handle_event(&mut self, object: &str, kind: &str, data: &Map<String, Value>) {
        let Some(watch) = self.watches.get_mut(object) else {
            return;
        };
        if let Some(event) = translation::event(watch, kind, data) {
            self.outputs
                .push_back(Output::Event(watch.events.clone(), event));
        }
    }

    fn handle_answer(&mut self, now: Instant, id: RequestId, outcome: Result<Value, Fault>) {
        let Some(request) = self.take(id) else {
            return;
        };
        let session = outcome
            .as_ref()
            .ok()
            .and_then(|result| result.get("sessionId"));
        if let Some(session) = session.and_then(Value::as_str) {
            self.session = Some(session.to_owned());
        }
        let value = outcome.map(|mut result| match &mut result {
            Value::Object(members) => members.remove("value").unwrap_or_default(),
            _ => Value::Null,
        });
        match request.purpose {
            Purpose::Greeting(step) => self.greeted(now, step, value),
            Purpose::Ping => {
                let ping_at = now + PING_INTERVAL;
                self.link = Link::Up { ping_at };
            }
            Purpose::Release => {}
            Purpose::Orphan => {
                if let Ok(Value::String(object)) = value {
                    self.release(now, &object);
                }
            }
            Purpose::Create(events) => {
                if let Ok(Value::String(object)) = &value {
                    self.watches.insert(object.clone(), Watch::new(events));
                }
                self.answer(id, &request.params, value);
            }
            Purpose::Call => self.answer(id, &request.params, value),
        }
    }

    fn answer(&mut self, id: RequestId, params: &Map<String, Value>, value: Result<Value, Fault>) {
        let result = value.map_err(|fault| translation::error(params, fault));
        self.outputs.push_back(Output::Answered(id, result));
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        let own = match self.link {
            Link::Down { until } => Some(until),
            Link::Up { ping_at } => Some(ping_at),
            Link::Dialing | Link::Greeting => None,
        };
        let forgotten = self.forgotten_at();
        deadline.into_iter().chain(own).chain(forgotten).min()
    }

    /// When the server, should it still be there, has forgotten the session. One that greets says so itself.
    fn forgotten_at(&self) -> Option<Instant> {
        let waits = self.session.is_some() && self.link != Link::Greeting;
        let lost_at = self.lost_at.filter(|_| waits)?;
        Some(lost_at + SESSION_LIFE_MAX)
    }

    /// Gives up what took too long, and asks a quiet server whether it is there.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(deadline, id)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            self.give_up(id);
        }
        if self.forgotten_at().is_some_and(|at| at <= now) {
            self.lose_everything();
        }
        if let Link::Up { ping_at } = self.link
            && ping_at <= now
        {
            // Its answer sets the time of the next.
            let ping_at = now + PING_INTERVAL + PING_DEADLINE;
            self.link = Link::Up { ping_at };
            let deadline = Some(now + PING_DEADLINE);
            let id = self.add("ping", ping_params(), Purpose::Ping, deadline);
            self.transmit(id);
        }
    }

    fn give_up(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(&id) else {
            return;
        };
        match request.purpose {
            Purpose::Greeting(_) | Purpose::Ping => {
                self.take(id);
                self.hang_up = Some("it does not answer in time".to_owned());
            }
            _ => {
                self.abandon(id);
                self.outputs
                    .push_back(Output::Answered(id, Err(Error::Timeout)));
            }
        }
    }

    /// What to send.
    pub(super) fn poll_transmit(&mut self) -> Option<String> {
        self.outbox.pop_front()
    }

    /// What the driver has to pass on.
    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn add(
        &mut self,
        method: &'static str,
        params: Map<String, Value>,
        purpose: Purpose,
        deadline: Option<Instant>,
    ) -> RequestId {
        self.ids += 1;
        let id = RequestId(self.ids);
        let request = Request {
            method,
            params,
            purpose,
            deadline,
            sent: false,
        };
        self.requests.insert(id, request);
        self.deadlines
            .extend(deadline.map(|deadline| (deadline, id)));
        id
    }

    fn take(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        if let Some(deadline) = request.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        Some(request)
    }

    fn transmit(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        request.sent = true;
        let mut params = request.params.clone();
        if let Some(session) = &self.session {
            params.insert("sessionId".to_owned(), session.clone().into());
        }
        let message = json!({
            "jsonrpc": "2.0",
            "id": id.0,
            "method": request.method,
            "params": params,
        });
        self.outbox.push_back(message.to_string());
    }
}

fn ping_params() -> Map<String, Value> {
    let mut params = Map::new();
    params.insert("interval".to_owned(), INTERVAL_TOLD_MS.into());
    params
}

/// Data channels of one endpoint that are open. The real server tells some changes twice.
pub(super) type OpenChannels = BTreeSet<u16>;

#[cfg(test)]
mod tests;
