//! What a client is answered.

use serde_json::{Map, Value, json};

use super::STREAM_ID;

/// The answer to a request that succeeded.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Response {
    /// To `joinRoom`: who was there before, in the order in which they joined.
    Joined(Vec<Peer>),
    /// To `publishVideo` and `receiveVideoFrom`.
    SdpAnswer(String),
    /// To everything else.
    Empty,
    /// To `customRequest`: whatever the application says.
    Custom(Value),
}

impl Response {
    /// The result on the wire. The session layer puts an array under `value` and adds the session id.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Joined(peers) => peers.iter().map(Peer::to_value).collect(),
            Self::SdpAnswer(sdp) => json!({ "sdpAnswer": sdp }),
            Self::Empty => json!({}),
            Self::Custom(value) => value.clone(),
        }
    }
}

/// A participant as a newcomer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User name.
    pub id: String,
    /// Ids of the streams it publishes. `None` is left out on the wire, which is how deployed
    /// clients tell a participant that does not publish.
    pub streams: Option<Vec<String>>,
}

impl Peer {
    /// A participant that publishes its one stream, or does not.
    pub fn new(id: impl Into<String>, streaming: bool) -> Self {
        Self {
            id: id.into(),
            streams: streaming.then(|| vec![STREAM_ID.to_owned()]),
        }
    }

    /// The member of the join result.
    pub fn to_value(&self) -> Value {
        let mut members = Map::new();
        members.insert("id".to_owned(), json!(self.id));
        if let Some(streams) = &self.streams {
            members.insert("streams".to_owned(), stream_list(streams));
        }
        Value::Object(members)
    }

    /// Reads a member of the join result; `None` if it has no `id`.
    pub fn parse(value: &Value) -> Option<Self> {
        Some(Self {
            id: value.get("id")?.as_str()?.to_owned(),
            streams: value.get("streams").and_then(parse_stream_list),
        })
    }
}

/// `[{"id":…},…]`
pub(super) fn stream_list(streams: &[String]) -> Value {
    streams.iter().map(|id| json!({ "id": id })).collect()
}

pub(super) fn parse_stream_list(value: &Value) -> Option<Vec<String>> {
    let ids = value.as_array()?.iter();
    ids.map(|stream| Some(stream.get("id")?.as_str()?.to_owned()))
        .collect()
}
