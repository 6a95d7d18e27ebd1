//! Where sockets, sessions and rooms meet: the shared [`jsonrpc::Sessions`] and whom to wake when it
//! has something to do.
//!
//! Read [`Gateway`] first. Locks are taken in one order only: the rooms' before the gateway's. Nothing
//! here calls the rooms.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use jsonrpc::{
    Close, CloseCode, Config, EndReason, Event, Frame, Outgoing, Reply, SessionId, SessionKey,
    Sessions, SocketId, TooManySockets, Work,
};
use parking_lot::Mutex;
use room::protocol::Notification;
use room::{Application, ParticipantId};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// The sessions of the server, shared by sockets, session tasks and rooms.
pub(crate) struct Gateway {
    state: Mutex<State>,
    /// The next timeout may have moved.
    timeout_moved: Notify,
}

struct State {
    sessions: Sessions,
    sockets_opened: u64,
    writers: HashMap<SocketId, Arc<Notify>>,
    tasks: HashMap<SessionKey, TaskHandle>,
}

/// The gateway's side of a session task.
struct TaskHandle {
    work: mpsc::Sender<Work>,
    ended: CancellationToken,
}

/// A session that needs a task.
pub(crate) struct NewSession {
    pub(crate) key: SessionKey,
    pub(crate) id: SessionId,
    /// Requests, one at a time.
    pub(crate) work: mpsc::Receiver<Work>,
    /// The participant must leave.
    pub(crate) ended: CancellationToken,
}

/// Counts for the metrics page.
pub(crate) struct Population {
    pub(crate) sockets: usize,
    pub(crate) sessions: usize,
}

impl Gateway {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            state: Mutex::new(State {
                sessions: Sessions::new(config),
                sockets_opened: 0,
                writers: HashMap::new(),
                tasks: HashMap::new(),
            }),
            timeout_moved: Notify::new(),
        }
    }

    /// Registers a socket; the notifier tells when [`poll_transmit`](Self::poll_transmit) has
    /// something for it.
    pub(crate) fn open(&self) -> Result<(SocketId, Arc<Notify>), TooManySockets> {
        let mut state = self.state.lock();
        state.sockets_opened += 1;
        let socket = SocketId(state.sockets_opened);
        state.sessions.handle_opened(socket)?;
        let writer = Arc::new(Notify::new());
        state.writers.insert(socket, writer.clone());
        Ok((socket, writer))
    }

    pub(crate) fn closed(&self, socket: SocketId) {
        self.change(|state| {
            state.sessions.handle_closed(Instant::now(), socket);
            state.writers.remove(&socket);
        });
    }

    /// Passes a frame on. The caller runs the task of the session that it may have opened.
    pub(crate) fn receive(&self, socket: SocketId, frame: Frame) -> Option<NewSession> {
        self.change(|state| state.sessions.handle_frame(Instant::now(), socket, frame))
    }

    pub(crate) fn poll_transmit(&self, socket: SocketId) -> Option<Outgoing> {
        self.state.lock().sessions.poll_transmit(socket)
    }

    /// Answers the request in progress.
    pub(crate) fn answer(&self, session: SessionKey, reply: &Reply) {
        self.change(|state| state.sessions.answer(Instant::now(), session, reply));
    }

    /// The next request may come.
    pub(crate) fn finish(&self, session: SessionKey) {
        self.change(|state| state.sessions.finish(session));
    }

    /// Ends a session whose request hit a defect.
    pub(crate) fn abort(&self, session: SessionKey) {
        let close = Close::new(CloseCode::InternalError, "internal error");
        self.change(|state| state.sessions.close_session(session, close));
    }

    /// Ends all sessions and closes all sockets.
    pub(crate) fn shut_down(&self) {
        self.change(|state| state.sessions.shut_down("the server goes down"));
    }

    pub(crate) fn population(&self) -> Population {
        let state = self.state.lock();
        Population {
            sockets: state.sessions.sockets(),
            sessions: state.sessions.sessions(),
        }
    }

    /// Handles timeouts for ever.
    pub(crate) async fn run_timeouts(&self) {
        loop {
            let deadline = self.state.lock().sessions.poll_timeout();
            let sleep = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {
                    self.change(|state| state.sessions.handle_timeout(Instant::now()));
                }
                () = self.timeout_moved.notified() => {}
            }
        }
    }

    /// Makes a change and does what follows from it. One change opens at most one session.
    fn change(&self, change: impl FnOnce(&mut State)) -> Option<NewSession> {
        let mut state = self.state.lock();
        let timeout = state.sessions.poll_timeout();
        change(&mut state);
        let opened = state.handle_events();
        if state.sessions.poll_timeout() != timeout {
            self.timeout_moved.notify_one();
        }
        opened
    }
}

impl State {
    fn handle_events(&mut self) -> Option<NewSession> {
        let mut opened = None;
        while let Some(event) = self.sessions.poll_event() {
            match event {
                Event::Opened { key, id } => opened = Some(self.handle_session_opened(key, id)),
                Event::Work(work) => {
                    if let Some(task) = self.tasks.get(&work.key) {
                        // Room for one is enough: the next comes when this one is finished.
                        let _ = task.work.try_send(work);
                    }
                }
                Event::Ended { key, reason, .. } => self.handle_session_ended(key, reason),
                Event::Transmit(socket) => {
                    if let Some(writer) = self.writers.get(&socket) {
                        writer.notify_one();
                    }
                }
            }
        }
        opened
    }

    fn handle_session_opened(&mut self, key: SessionKey, id: SessionId) -> NewSession {
        let (sender, work) = mpsc::channel(1);
        let ended = CancellationToken::new();
        let task = TaskHandle {
            work: sender,
            ended: ended.clone(),
        };
        self.tasks.insert(key, task);
        NewSession {
            key,
            id,
            work,
            ended,
        }
    }

    fn handle_session_ended(&mut self, key: SessionKey, reason: EndReason) {
        tracing::info!(session = %key, reason = reason.as_str(), "session ended");
        metrics::counter!("tertulia_sessions_ended_total", "reason" => reason.as_str())
            .increment(1);
        if let Some(task) = self.tasks.remove(&key) {
            task.ended.cancel();
        }
    }
}

impl Application for Gateway {
    fn notify(&self, receivers: &[ParticipantId], notification: Notification) {
        // Encoded once for the whole room.
        let text = jsonrpc::notification(notification.method(), &notification.params());
        self.change(|state| {
            for receiver in receivers {
                if let Some(session) = state.sessions.key_of(receiver.as_str()) {
                    state.sessions.notify(session, &text);
                }
            }
        });
    }

    fn close_session(&self, participant: &ParticipantId) {
        let close = Close::new(CloseCode::Normal, "");
        self.change(|state| {
            if let Some(session) = state.sessions.key_of(participant.as_str()) {
                state.sessions.close_session(session, close);
            }
        });
    }
}
