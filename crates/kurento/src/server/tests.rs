//! The state machine alone: frames in, frames out, in simulated time.

mod events;
mod files;
mod hostile;
mod refusals;
mod requests;
mod sessions;

use media::{
    ElementId, EndpointStats, Event, IceCandidate, IceState, MediaKind, MediaState, Parameter,
    PipelineId,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const PERIOD: Duration = Duration::from_secs(240);

/// A server over a media server that agrees to everything at once, and remembers what it was asked.
struct Desk {
    server: Server,
    now: Instant,
    calls: Vec<Call>,
    released: usize,
    /// Calls are not made while it is set.
    holds: bool,
    held: Vec<Work>,
    made: u64,
    ids: u64,
    /// Every description of the media server.
    description: String,
}

impl Desk {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let now = Instant::now();
        Self {
            server: Server::new(config, now, Duration::from_secs(1_700_000_000)),
            now,
            calls: Vec::new(),
            released: 0,
            holds: false,
            held: Vec::new(),
            made: 0,
            ids: 0,
            description: "v=0\r\nm=audio 9 X 0\r\na=mid:0\r\na=sendrecv\r\n".to_owned(),
        }
    }

    fn open(&mut self) -> ConnectionId {
        self.server.handle_opened(self.now).unwrap()
    }

    fn send(&mut self, connection: ConnectionId, text: &str) {
        let frame = ClientFrame::parse(text);
        self.server.handle_frame(self.now, connection, frame);
        self.act();
    }

    fn act(&mut self) {
        while let Some(effect) = self.server.poll_effect() {
            match effect {
                Effect::Transmit(_) => {}
                Effect::ReleaseElement(_) | Effect::ReleasePipeline(_) => self.released += 1,
                Effect::Work(work) if self.holds => self.held.push(work),
                Effect::Work(work) => self.work(work),
            }
        }
    }

    fn work(&mut self, work: Work) {
        let replies = work.calls.iter().map(|call| Ok(self.reply(call))).collect();
        self.calls.extend(work.calls);
        self.server.handle_replies(self.now, work.job, replies);
    }

    fn reply(&mut self, call: &Call) -> Reply {
        self.made += 1;
        match call {
            Call::CreatePipeline { .. } => Reply::Pipeline(PipelineId::new(self.made.to_string())),
            Call::CreateElement { .. } | Call::CreateCustomElement { .. } => {
                Reply::Element(ElementId::new(self.made.to_string()))
            }
            Call::ProcessOffer { .. } | Call::GenerateOffer { .. } | Call::ProcessAnswer { .. } => {
                Reply::Text(self.description.clone())
            }
            Call::Stats { .. } => Reply::Stats(EndpointStats::default()),
            Call::Query { .. } => {
                let ms = |ms| Parameter::Integer(ms);
                let told = [
                    ("position", ms(700)),
                    ("duration", ms(3000)),
                    ("isSeekable", Parameter::Flag(true)),
                    ("seekableEnd", ms(3000)),
                ];
                let told = told.map(|(name, value)| (name.to_owned(), value));
                Reply::Values(told.into())
            }
            Call::MeasureCpu { .. } => Reply::CpuPercent(1.5),
            Call::MeasureMemory => Reply::MemoryKib(7),
            _ => Reply::Nothing,
        }
    }

    fn release_held(&mut self) {
        self.holds = false;
        for work in std::mem::take(&mut self.held) {
            self.work(work);
        }
        self.act();
    }

    /// Every message that waits for a connection.
    fn messages(&mut self, connection: ConnectionId) -> Vec<Value> {
        let server = &mut self.server;
        let outgoing = std::iter::from_fn(|| server.poll_transmit(connection));
        outgoing
            .map(|outgoing| match outgoing {
                Outgoing::Text(text) => serde_json::from_str(&text).unwrap(),
                Outgoing::Close(close) => json!({ "close": close.code }),
            })
            .collect()
    }

    fn ask(&mut self, connection: ConnectionId, method: &str, params: Value) -> Value {
        self.ids += 1;
        let request =
            json!({ "jsonrpc": "2.0", "id": self.ids, "method": method, "params": params });
        self.send(connection, &request.to_string());
        let messages = self.messages(connection);
        let mut answers = messages.into_iter().filter(|m| m["method"].is_null());
        answers.next().expect("every request is answered")
    }

    fn create(&mut self, connection: ConnectionId, class: &str, parameters: Value) -> String {
        let params = json!({ "type": class, "constructorParams": parameters });
        let answer = self.ask(connection, "create", params);
        let id = answer["result"]["value"].as_str();
        id.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    fn invoke(
        &mut self,
        connection: ConnectionId,
        object: &str,
        operation: &str,
        parameters: Value,
    ) -> Value {
        let params = json!({
            "object": object, "operation": operation, "operationParams": parameters,
        });
        let mut answer = self.ask(connection, "invoke", params);
        match answer.get("error") {
            Some(error) => error["code"].clone(),
            None => answer["result"]["value"].take(),
        }
    }

    fn subscribe(&mut self, connection: ConnectionId, object: &str, event: &str) -> Value {
        self.ask(
            connection,
            "subscribe",
            json!({ "object": object, "type": event }),
        )
    }

    fn events(&mut self, connection: ConnectionId) -> Vec<(String, Value)> {
        let messages = self.messages(connection).into_iter();
        let events = messages.filter(|message| message["method"] == "onEvent");
        events
            .map(|mut event| {
                let event = &mut event["params"]["value"];
                (
                    event["type"].as_str().unwrap().to_owned(),
                    event["data"].take(),
                )
            })
            .collect()
    }

    fn sleep(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.server.poll_timeout() <= end {
            self.now = self.server.poll_timeout();
            self.server.handle_timeout(self.now);
            self.act();
        }
        self.now = end;
    }

    /// Something happens to the object that was created last.
    fn happen(&mut self, event: Event) {
        let key = self.calls.iter().rev().find_map(|call| match call {
            Call::CreateElement { object, .. } | Call::CreateCustomElement { object, .. } => {
                Some(*object)
            }
            _ => None,
        });
        self.server
            .handle_media_event(self.now, key.unwrap(), event);
        self.act();
    }
}

fn in_pipeline(pipeline: &str) -> Value {
    json!({ "mediaPipeline": pipeline })
}
