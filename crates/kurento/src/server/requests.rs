//! Requests: which session each belongs to, which method it calls, and how it is answered.

mod references;

use serde_json::{Map, Value, json};

use super::cache::{CacheKey, Cached as CachedAnswer};
use super::sessions::{SESSION_ID_BYTES_MAX, SessionName};
use super::transactions::Progress;
use super::work::{After, Call};
use super::{Cached, ConnectionId, Job, Server};
use crate::fault::Fault;
use crate::model::marshal::scalar_text;
use crate::uuid;
use crate::wire::{self, Request};

/// The outcome of a request.
pub(super) type Answer = Result<Outcome, Fault>;

/// What a method that succeeded says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// `result.value`, beside the session.
    Value(Value),
    /// Other members beside the session; often none.
    Members(Map<String, Value>),
    /// No result at all.
    Null,
}

/// How far a method got.
#[derive(Debug)]
pub(super) enum Step {
    Done(Answer),
    Media { calls: Vec<Call>, after: After },
}

/// Who asked, and how the answer finds back.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) connection: ConnectionId,
    /// `None`: a notification.
    pub(super) id: Option<Value>,
    pub(super) cache_key: Cached,
}

/// `params` of a request, as an object.
#[derive(Debug, Default)]
pub(super) struct Params {
    pub(super) members: Map<String, Value>,
    /// Neither sent nor made up by adding a session.
    missing: bool,
}

impl Server {
    pub(super) fn handle_request(
        &mut self,
        connection: ConnectionId,
        request: Result<Request, Fault>,
    ) {
        let Request { id, method, params } = match request {
            Ok(request) => request,
            Err(fault) => {
                self.totals.refusals += 1;
                let text = wire::response(&Value::Null, Err(&fault)).to_string();
                return self.send(connection, text);
            }
        };
        let mut origin = Origin {
            connection,
            id,
            cache_key: None,
        };
        let (params, session) = match self.read_params(connection, params) {
            Ok(read) => read,
            Err(fault) => return self.answer(origin, Err(fault), None),
        };
        if let Some(session) = &session {
            self.sessions.refresh(session);
            if self.repeat(&mut origin, &method, &params, session) {
                return;
            }
        }
        let (step, session) = match self.assign_session(&method, &params, session) {
            Ok(session) => match method.as_str() {
                "transaction" => return self.begin_transaction(origin, params, session),
                _ => (self.run(&method, &params, session.as_ref()), session),
            },
            Err(fault) => (Step::Done(Err(fault)), None),
        };
        match step {
            Step::Done(answer) => self.answer(origin, answer, session),
            Step::Media { calls, after } => {
                let session = session.expect("methods that call media have a session");
                let job = Job {
                    origin,
                    repeated_by: Vec::new(),
                    session,
                    after,
                    transaction: None,
                };
                self.begin(job, calls);
            }
        }
    }

    /// Makes an object of `params` and puts the session in it: the one sent, or the connection's.
    fn read_params(
        &self,
        connection: ConnectionId,
        params: Value,
    ) -> Result<(Params, Option<SessionName>), Fault> {
        let mut params = match params {
            Value::Null => Params {
                members: Map::new(),
                missing: true,
            },
            Value::Object(members) => Params {
                members,
                missing: false,
            },
            _ => {
                let message =
                    "Unexpected error while processing method: 'params' should be an object";
                return Err(Fault::rpc(Fault::INTERNAL, message));
            }
        };
        let named = params.members.remove("sessionId");
        let named = named.as_ref().and_then(scalar_text);
        if named
            .as_ref()
            .is_some_and(|id| id.len() > SESSION_ID_BYTES_MAX)
        {
            let message = "'sessionId' parameter is too long";
            return Err(Fault::rpc(Fault::PARAMETER, message));
        }
        let named: Option<SessionName> = named.map(Into::into);
        let own = self.connections.get(connection);
        let own = own.and_then(|connection| connection.session.clone());
        let session = named.or(own);
        params.missing &= session.is_none();
        Ok((params, session))
    }

    /// Answers a request that came before as it was answered then. False if it did not.
    fn repeat(
        &mut self,
        origin: &mut Origin,
        method: &str,
        params: &Params,
        session: &SessionName,
    ) -> bool {
        let Some(id) = origin.id.as_ref().filter(|_| self.config.request_cache) else {
            return false;
        };
        let key = CacheKey::new(id, method, &params.members);
        origin.cache_key = Some(key);
        match self.sessions.cached(self.clock.now, session, key) {
            None => false,
            Some(CachedAnswer::Answer(text)) => {
                self.deliver(origin.connection, &text, Some(session));
                true
            }
            Some(CachedAnswer::InProgress(job)) => {
                let Some(job) = self.jobs.get_mut(&job) else {
                    return false;
                };
                job.repeated_by.push(origin.connection);
                if let Some(state) = self.connections.get_mut(origin.connection) {
                    state.busy = true;
                }
                true
            }
        }
    }

    /// Which session a method runs in: most make one if there is none.
    fn assign_session(
        &self,
        method: &str,
        params: &Params,
        session: Option<SessionName>,
    ) -> Result<Option<SessionName>, Fault> {
        let makes_session = match method {
            "ping" => return Ok(session),
            "connect" => return Ok(session),
            "create" | "invoke" | "subscribe" | "describe" | "release" | "transaction" => true,
            "unsubscribe" | "ref" | "unref" | "keepAlive" | "closeSession" => false,
            _ => return Err(Fault::rpc(Fault::METHOD_NOT_FOUND, "Method not found.")),
        };
        if params.missing {
            return Err(Fault::kurento(
                Fault::INVALID_PARAMS,
                "'params' is required",
            ));
        }
        match session {
            Some(session) => Ok(Some(session)),
            None if makes_session => Ok(Some(uuid::random().into())),
            None => Err(missing("sessionId")),
        }
    }

    /// Runs a method, alone or inside of a transaction.
    pub(super) fn run(
        &mut self,
        method: &str,
        params: &Params,
        session: Option<&SessionName>,
    ) -> Step {
        let Some(session) = session else {
            return Step::Done(match method {
                "connect" => Ok(self.connected(&uuid::random())),
                _ => Ok(Outcome::Value("pong".into())),
            });
        };
        let answer = match method {
            "ping" => Ok(Outcome::Value("pong".into())),
            "connect" => self.connect(session),
            "keepAlive" => self.keep_alive(session),
            "create" => return self.create(params, session).unwrap_or_else(failed),
            "invoke" => return self.invoke(params, session).unwrap_or_else(failed),
            "subscribe" => self.subscribe(params, session),
            "unsubscribe" => self.unsubscribe(params, session),
            "describe" => self.describe(params, session),
            "release" => return self.release(params).unwrap_or_else(failed),
            "ref" => self.reference_object(params, session),
            "unref" => self.unreference_object(params, session),
            "closeSession" => {
                let release = params.members.get("release").and_then(Value::as_bool);
                self.close_session(session, release.unwrap_or_default());
                Ok(Outcome::Null)
            }
            _ => Err(Fault::rpc(Fault::METHOD_NOT_FOUND, "Method not found.")),
        };
        Step::Done(answer)
    }

    fn begin_transaction(&mut self, origin: Origin, params: Params, session: Option<SessionName>) {
        let session = session.expect("transactions are given a session");
        let progress = match Self::read_transaction(params) {
            Ok(transaction) => self.run_transaction(transaction, &session),
            Err(fault) => Progress::Done(Err(fault)),
        };
        match progress {
            Progress::Done(answer) => self.answer(origin, answer, Some(session)),
            Progress::Wait(transaction, calls, after) => {
                let job = Job {
                    origin,
                    repeated_by: Vec::new(),
                    session,
                    after,
                    transaction: Some(transaction),
                };
                self.begin(job, calls);
            }
        }
    }

    fn answer(&mut self, origin: Origin, answer: Answer, session: Option<SessionName>) {
        let session = match &answer {
            Ok(Outcome::Members(members)) => members
                .get("sessionId")
                .and_then(Value::as_str)
                .map(Into::into)
                .or(session),
            _ => session,
        };
        let text = self.encode(&origin, answer.as_ref(), session.as_ref());
        let tied = session.filter(|_| !matches!(answer, Err(_) | Ok(Outcome::Null)));
        self.deliver(origin.connection, &text, tied.as_ref());
    }

    /// The response as text, which is also kept for a repetition.
    pub(super) fn encode(
        &mut self,
        origin: &Origin,
        answer: Result<&Outcome, &Fault>,
        session: Option<&SessionName>,
    ) -> String {
        self.totals.refusals += u64::from(answer.is_err());
        let result = answer.map(|outcome| result(outcome, session));
        let Some(id) = &origin.id else {
            let notification = match result {
                Ok(mut result) => {
                    if let Some(members) = result.as_object_mut() {
                        members.remove("sessionId");
                    }
                    ignored_notification(result)
                }
                Err(fault) => fault.clone(),
            };
            return wire::response(&Value::Null, Err(&notification)).to_string();
        };
        let text = wire::response(id, result).to_string();
        if let (Some(key), Some(session)) = (origin.cache_key, session) {
            self.sessions
                .remember_answer(self.clock.now, session, key, &text);
        }
        text
    }
}

impl Params {
    pub(super) fn new(members: Map<String, Value>) -> Self {
        Self {
            members,
            missing: false,
        }
    }

    /// A required text of the method itself. Null counts as empty.
    pub(super) fn text(&self, name: &str) -> Result<String, Fault> {
        match self.members.get(name) {
            None => Err(missing(name)),
            Some(Value::Null) => Ok(String::new()),
            Some(value) => scalar_text(value).ok_or_else(|| {
                let message = format!("'{name}' parameter should be a string");
                Fault::rpc(Fault::PARAMETER, message)
            }),
        }
    }
}

fn missing(name: &str) -> Fault {
    let message = format!("'{name}' parameter is required");
    Fault::rpc(Fault::PARAMETER, message)
}

fn failed(fault: Fault) -> Step {
    Step::Done(Err(fault))
}

fn ignored_notification(result: Value) -> Fault {
    let message = "Ignoring response because of a notification request";
    Fault {
        data: Some(result),
        ..Fault::rpc(Fault::PARAMETER, message)
    }
}

/// The `result` member.
pub(super) fn result(outcome: &Outcome, session: Option<&SessionName>) -> Value {
    let mut members = match outcome {
        Outcome::Null => return Value::Null,
        Outcome::Members(members) => members.clone(),
        Outcome::Value(value) => {
            let mut members = Map::new();
            members.insert("value".to_owned(), value.clone());
            members
        }
    };
    if let Some(session) = session {
        members.insert("sessionId".to_owned(), json!(&**session));
    }
    Value::Object(members)
}
