//! Sessions in simulated time.

mod bounds;
mod connecting;
mod random;
mod requests;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::config::{PING_INTERVAL_MAX, RETRANSMISSION_WINDOW};
use super::*;
use crate::reply::notification;

const A: SocketId = SocketId(1);

const B: SocketId = SocketId(2);

/// A server with a clock of its own, and a log of what it did.
struct Server {
    sessions: Sessions,
    now: Instant,
    work: Vec<(SessionKey, Request)>,
    opened: Vec<(SessionKey, String)>,
    ended: Vec<(SessionKey, EndReason)>,
}

impl Server {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let mut server = Self {
            sessions: Sessions::new(Config {
                limits,
                ..Config::default()
            }),
            now: Instant::now(),
            work: vec![],
            opened: vec![],
            ended: vec![],
        };
        for socket in [A, B] {
            server.sessions.handle_opened(socket).unwrap();
        }
        server
    }

    fn drain(&mut self) {
        while let Some(event) = self.sessions.poll_event() {
            match event {
                Event::Opened { key, id } => self.opened.push((key, id.as_str().to_owned())),
                Event::Work(work) => self.work.push((work.key, work.into_request())),
                Event::Ended { key, reason, .. } => self.ended.push((key, reason)),
                Event::Transmit(_) => {}
            }
        }
    }

    fn receive(&mut self, socket: SocketId, text: &str) {
        let frame = Frame::parse(text);
        self.sessions.handle_frame(self.now, socket, frame);
        self.drain();
    }

    fn reconnect(&mut self, socket: SocketId, id: &str) -> Vec<String> {
        let text = format!(r#"{{"method":"connect","params":{{"sessionId":"{id}"}},"id":9}}"#);
        self.receive(socket, &text);
        self.sent(socket)
    }

    fn lose(&mut self, socket: SocketId) {
        self.sessions.handle_closed(self.now, socket);
        self.drain();
    }

    fn open(&mut self, socket: SocketId) {
        self.sessions.handle_opened(socket).unwrap();
    }

    /// Lets time pass, with every timeout at its exact time.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(deadline) = self.sessions.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(deadline);
            self.sessions.handle_timeout(self.now);
        }
        self.now = end;
        self.drain();
    }

    fn respond(&mut self, key: SessionKey, reply: Reply) {
        self.sessions.answer(self.now, key, &reply);
        self.sessions.finish(key);
        self.drain();
    }

    fn leave(&mut self, key: SessionKey) {
        self.sessions.answer(self.now, key, &Ok(json!({})));
        let close = Close::new(CloseCode::Normal, "");
        self.sessions.close_session(key, close);
        self.sessions.finish(key);
        self.drain();
    }

    fn notify(&mut self, key: SessionKey, name: &str) {
        self.sessions.notify(key, &notification(name, &json!({})));
        self.drain();
    }

    /// Everything on its way to a socket.
    fn outgoing(&mut self, socket: SocketId) -> Vec<Outgoing> {
        std::iter::from_fn(|| self.sessions.poll_transmit(socket)).collect()
    }

    fn sent(&mut self, socket: SocketId) -> Vec<String> {
        let texts = self
            .outgoing(socket)
            .into_iter()
            .filter_map(|out| match out {
                Outgoing::Text(text) => Some(text.to_string()),
                Outgoing::Close(_) => None,
            });
        texts.collect()
    }

    /// A session on `socket` with an answered request.
    fn join(&mut self, socket: SocketId) -> (SessionKey, String) {
        self.receive(socket, r#"{"method":"joinRoom","id":1}"#);
        let (key, id) = self.opened.last().unwrap().clone();
        self.respond(key, Ok(json!([])));
        self.sent(socket);
        self.work.clear();
        (key, id)
    }

    fn methods(&self) -> Vec<&str> {
        self.work
            .iter()
            .map(|(_, request)| request.method.as_str())
            .collect()
    }
}

fn closed(code: CloseCode, reason: &'static str) -> Outgoing {
    Outgoing::Close(Close::new(code, reason))
}

fn method(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap();
    value["method"].as_str().unwrap().to_owned()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
