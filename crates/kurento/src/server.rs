//! The server half: a Kurento Media Server's protocol and object model over any
//! [`MediaServer`](media::MediaServer).
//!
//! Read [`Server`] first: frames in, frames out, media calls as [`Work`]. [`Service`] drives it on
//! tokio. Deliberately absent: sockets, clocks, and media.

mod cache;
mod config;
mod connection;
mod description;
mod emission;
mod endpoints;
mod files;
mod hubs;
mod lifecycle;
mod manager;
mod media_events;
mod objects;
mod operations;
mod requests;
mod sdes;
mod service;
mod sessions;
mod statistics;
mod transactions;
mod view;
mod wiring;
mod work;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

pub use config::{Config, Unsupported};
pub use connection::{ClientFrame, Close, ConnectionId, Outgoing, TooManyConnections};
pub use service::Service;
pub use work::{Call, JobId, ObjectKey, Reply, Work};

use self::cache::CacheKey;
use self::connection::{Connection, Connections};
use self::objects::Objects;
use self::requests::{Answer, Origin};
use self::sessions::{SessionName, Sessions};
use self::transactions::Transaction;
use self::work::After;

/// The state machine between connections and a media server.
///
/// What comes in goes to a `handle_*`; what must go out is fetched with
/// [`poll_effect`](Self::poll_effect) and [`poll_transmit`](Self::poll_transmit) after each.
/// Requests of one connection are handled strictly one after the other.
#[derive(Debug)]
pub struct Server {
    config: Config,
    clock: Clock,
    /// Told to clients so that they recognise a restart.
    id: String,
    connections: Connections,
    sessions: Sessions,
    objects: Objects,
    jobs: HashMap<JobId, Job>,
    jobs_begun: u64,
    effects: VecDeque<Effect>,
    next_sweep: Instant,
    totals: Totals,
}

/// What happened since the beginning, for a monitor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Frames of clients.
    pub requests: u64,
    /// Those of them that were answered by an error.
    pub refusals: u64,
    /// Events that were sent.
    pub events: u64,
}

/// What the driver has to do.
#[derive(Debug)]
pub enum Effect {
    /// There is something to send on that connection, or to read from it again.
    Transmit(ConnectionId),
    /// Calls to make; their results go to [`Server::handle_replies`].
    Work(Work),
    /// An element is no longer needed.
    ReleaseElement(media::ElementId),
    /// A pipeline is no longer needed, nor is what is in it.
    ReleasePipeline(media::PipelineId),
}

/// A request that waits for the media server.
#[derive(Debug)]
struct Job {
    origin: Origin,
    /// Connections that repeated the request meanwhile.
    repeated_by: Vec<ConnectionId>,
    session: SessionName,
    after: After,
    transaction: Option<Transaction>,
}

/// The time of day, without asking for it.
#[derive(Debug)]
struct Clock {
    now: Instant,
    start: Instant,
    start_unix: Duration,
}

impl Clock {
    fn unix(&self) -> Duration {
        self.start_unix + self.now.saturating_duration_since(self.start)
    }

    fn unix_ms(&self) -> u64 {
        u64::try_from(self.unix().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Server {
    /// A server without objects. `unix` is the time since 1970 at `now`.
    pub fn new(config: Config, now: Instant, unix: Duration) -> Self {
        let clock = Clock {
            now,
            start: now,
            start_unix: unix,
        };
        Self {
            objects: Objects::new(clock.unix().as_secs()),
            next_sweep: now + config.garbage_collector_period,
            clock,
            id: crate::uuid::random(),
            connections: Connections::default(),
            sessions: Sessions::default(),
            jobs: HashMap::new(),
            jobs_begun: 0,
            effects: VecDeque::new(),
            totals: Totals::default(),
            config,
        }
    }

    /// A connection was accepted. If the server is full the caller closes it.
    pub fn handle_opened(&mut self, now: Instant) -> Result<ConnectionId, TooManyConnections> {
        self.clock.now = now;
        self.connections.open(self.config.connections_max)
    }

    /// A connection is gone, for whatever reason. Its session waits for the client to come back.
    pub fn handle_closed(&mut self, now: Instant, connection: ConnectionId) {
        self.clock.now = now;
        if let Some(session) = self.connections.close(connection) {
            self.sessions.refresh(&session);
        }
    }

    /// A text or binary frame arrived; both hold JSON.
    pub fn handle_frame(&mut self, now: Instant, connection: ConnectionId, frame: ClientFrame) {
        self.clock.now = now;
        let Some(state) = self.connections.get_mut(connection) else {
            return;
        };
        self.totals.requests += 1;
        if state.enqueue(frame).is_err() {
            self.close(connection, Close::TOO_MANY_REQUESTS);
        }
        self.advance(connection);
    }

    /// Whether another frame of that connection should be read. False while many wait, so that a
    /// fast client is slowed down by its own socket.
    pub fn wants_frames(&self, connection: ConnectionId) -> bool {
        let state = self.connections.get(connection);
        state.is_some_and(Connection::wants_frames)
    }

    /// Closes a connection after what is on its way to it, as when it asked for a wrong path.
    pub fn close(&mut self, connection: ConnectionId, close: Close) {
        if let Some(state) = self.connections.get_mut(connection) {
            state.shut(close);
            self.effects.push_back(Effect::Transmit(connection));
        }
    }

    /// The calls of a job were made: their results in order, up to the first failure.
    pub fn handle_replies(
        &mut self,
        now: Instant,
        job: JobId,
        replies: Vec<Result<Reply, media::Error>>,
    ) {
        self.clock.now = now;
        let Some(mut waiting) = self.jobs.remove(&job) else {
            return;
        };
        let after = std::mem::replace(&mut waiting.after, After::Nothing);
        let answer = self.complete(after, replies, &waiting.session);
        let Some(mut transaction) = waiting.transaction.take() else {
            return self.finish(waiting, answer);
        };
        transaction.record(answer, &waiting.session);
        match self.run_transaction(transaction, &waiting.session) {
            transactions::Progress::Done(answer) => self.finish(waiting, answer),
            transactions::Progress::Wait(transaction, calls, after) => {
                waiting.after = after;
                waiting.transaction = Some(transaction);
                self.jobs.insert(job, waiting);
                self.effects.push_back(Effect::Work(Work { job, calls }));
            }
        }
    }

    /// Something happened to what [`Call::CreatePipeline`] or [`Call::CreateElement`] made for that
    /// object.
    pub fn handle_media_event(&mut self, now: Instant, object: ObjectKey, event: media::Event) {
        self.clock.now = now;
        self.media_event(object, event);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Instant {
        self.next_sweep
    }

    /// Drops sessions that nobody used for a whole period.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock.now = now;
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + self.config.garbage_collector_period;
        let connections = &self.connections;
        let abandoned = self
            .sessions
            .sweep(now, |session| connections.route(session).is_some());
        for session in abandoned {
            self.close_session(&session, false);
        }
    }

    /// What the driver has to do next.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What to send on a connection. [`Effect::Transmit`] tells that there is something.
    pub fn poll_transmit(&mut self, connection: ConnectionId) -> Option<Outgoing> {
        self.connections.get_mut(connection)?.poll()
    }

    /// Number of open connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Number of sessions, with and without a connection.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// What was counted since the beginning.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Number of objects, the server manager included.
    pub fn objects(&self) -> usize {
        self.objects.len()
    }
}

impl Server {
    /// Handles what waits on a connection, as far as that goes without the media server.
    fn advance(&mut self, connection: ConnectionId) {
        while let Some(frame) = self
            .connections
            .get_mut(connection)
            .and_then(Connection::next_frame)
        {
            self.handle_request(connection, frame.content);
        }
        self.effects.push_back(Effect::Transmit(connection));
    }

    fn begin(&mut self, job: Job, calls: Vec<Call>) {
        self.jobs_begun += 1;
        let id = JobId(self.jobs_begun);
        if let Some(state) = self.connections.get_mut(job.origin.connection) {
            state.busy = true;
        }
        if let Some(key) = job.origin.cache_key {
            self.sessions.remember_job(&job.session, key, id);
        }
        self.jobs.insert(id, job);
        self.effects
            .push_back(Effect::Work(Work { job: id, calls }));
    }

    /// Makes calls whose results nobody waits for.
    fn call_unasked(&mut self, calls: Vec<Call>) {
        self.jobs_begun += 1;
        let job = JobId(self.jobs_begun);
        self.effects.push_back(Effect::Work(Work { job, calls }));
    }

    /// Answers a request that waited, to whoever sent and repeated it, and goes on.
    fn finish(&mut self, job: Job, answer: Answer) {
        let text = self.encode(&job.origin, answer.as_ref(), Some(&job.session));
        let mut connections = job.repeated_by;
        connections.insert(0, job.origin.connection);
        for connection in connections {
            self.deliver(connection, &text, answer.is_ok().then_some(&job.session));
            if let Some(state) = self.connections.get_mut(connection) {
                state.busy = false;
                self.advance(connection);
            }
        }
    }

    /// Sends a response; a successful one ties the connection to the session.
    fn deliver(&mut self, connection: ConnectionId, text: &str, session: Option<&SessionName>) {
        if let Some(session) = session {
            self.connections.associate(connection, session);
        }
        self.send(connection, text.to_owned());
    }

    fn send(&mut self, connection: ConnectionId, text: String) {
        let Some(state) = self.connections.get_mut(connection) else {
            return;
        };
        if state.push(text).is_err() {
            state.abort(Close::TOO_SLOW);
        }
        self.effects.push_back(Effect::Transmit(connection));
    }
}

/// Names what a cached answer belongs to.
type Cached = Option<CacheKey>;

#[cfg(test)]
mod tests;
