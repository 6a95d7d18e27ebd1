//! The beginning of a connection: is somebody there, does it know us, what is it.

use std::time::Instant;

use media::{Error, Event};
use serde_json::{Map, Value};

use super::{DIAL_DEADLINE, Link, Machine, Output, PING_INTERVAL, Purpose, Told, ping_params};
use crate::fault::Fault;

/// What happens on a new connection, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum Greeting {
    Ping,
    /// Only if there was a session.
    Connect,
    Info,
}

impl Machine {
    pub(super) fn greet(&mut self, now: Instant, step: Greeting) {
        let (method, params) = match step {
            Greeting::Ping => ("ping", ping_params()),
            Greeting::Connect => ("connect", Map::new()),
            Greeting::Info => {
                let mut params = Map::new();
                params.insert("object".to_owned(), "manager_ServerManager".into());
                params.insert("operation".to_owned(), "getInfo".into());
                ("invoke", params)
            }
        };
        let deadline = Some(now + DIAL_DEADLINE);
        let id = self.add(method, params, Purpose::Greeting(step), deadline);
        self.transmit(id);
    }

    pub(super) fn greeted(&mut self, now: Instant, step: Greeting, answer: Result<Value, Fault>) {
        match (step, answer) {
            (Greeting::Ping, Ok(_)) if self.session.is_some() => self.greet(now, Greeting::Connect),
            (Greeting::Ping | Greeting::Connect, Ok(_)) => self.greet(now, Greeting::Info),
            (Greeting::Connect, Err(fault)) if fault.code == Fault::INVALID_SESSION => {
                self.lose_everything();
                self.greet(now, Greeting::Info);
            }
            (Greeting::Info, Ok(info)) => {
                let version = info.get("version").and_then(Value::as_str);
                self.version = version.map(ToOwned::to_owned);
                self.come_up(now);
            }
            (_, Err(fault)) => {
                self.hang_up = Some(format!("it answers the greeting by an error: {fault}"));
            }
        }
    }

    fn come_up(&mut self, now: Instant) {
        if std::mem::replace(&mut self.told, Told::Up) != Told::Up {
            let (server, version) = (&self.name, self.version());
            tracing::info!(server, version, "a Kurento Media Server is up");
        }
        self.failures = 0;
        self.is_known = true;
        self.lost_at = None;
        self.link = Link::Up {
            ping_at: now + PING_INTERVAL,
        };
        let waiting: Vec<_> = self.requests.keys().copied().collect();
        for id in waiting {
            self.transmit(id);
        }
    }

    /// The server has forgotten the session, after a restart or because we were away: what it had made is gone.
    pub(super) fn lose_everything(&mut self) {
        tracing::warn!(
            server = self.name,
            "what was made on a Kurento Media Server is lost, because it was restarted or away too long"
        );
        self.session = None;
        let watches = std::mem::take(&mut self.watches);
        for (_, watch) in watches.into_iter().filter(|(id, _)| !id.contains('/')) {
            let lost = Event::Error {
                kind: media::ErrorKind::ServerLost,
                description: "the media server has lost what was made on it, join again".to_owned(),
                code: Fault::INVALID_SESSION,
            };
            self.outputs.push_back(Output::Event(watch.events, lost));
        }
        let lost =
            || Error::Unavailable("the media server has lost what was made on it".to_owned());
        self.deadlines.clear();
        for id in std::mem::take(&mut self.requests).into_keys() {
            self.outputs.push_back(Output::Answered(id, Err(lost())));
        }
    }
}
