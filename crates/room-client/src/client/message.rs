//! Frames: what is written, and how leniently what comes is read.

use room::protocol::{Notification, Peer, Request, Response, RoomError, code};
use serde_json::{Map, Value};

use super::RequestId;
use crate::Error;

/// Characters of an answer quoted in an error.
const QUOTED_CHARS_MAX: usize = 100;

/// A frame in the member order of the original JavaScript client.
pub(super) fn encode(method: &str, params: Option<Value>, id: RequestId) -> String {
    let mut members = Map::new();
    members.insert("jsonrpc".to_owned(), "2.0".into());
    members.insert("method".to_owned(), method.into());
    if let Some(params) = params {
        members.insert("params".to_owned(), params);
    }
    members.insert("id".to_owned(), id.0.into());
    Value::Object(members).to_string()
}

/// Parameters of a request with what the application adds to all; the request's own win.
pub(super) fn params(request: &Request, extra: &Map<String, Value>) -> Option<Value> {
    let params = request.params();
    if extra.is_empty() {
        return params;
    }
    let mut members = match params {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    };
    for (key, value) in extra {
        if !members.contains_key(key) {
            members.insert(key.clone(), value.clone());
        }
    }
    Some(Value::Object(members))
}

/// A frame of the server.
#[derive(Debug)]
pub(super) enum Incoming {
    Notification(Notification),
    Answer {
        id: RequestId,
        session_id: Option<String>,
        /// `Ok(None)` if there is neither result nor error.
        outcome: Result<Option<Value>, RoomError>,
    },
}

impl Incoming {
    /// `None` if the frame means nothing to a client.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let Ok(Value::Object(mut members)) = serde_json::from_str(text) else {
            return None;
        };
        if let Some(method) = members.get("method") {
            let params = members.get("params");
            return Some(Self::Notification(notification(method.as_str()?, params)));
        }
        let id = request_id(members.get("id")?)?;
        let error = members.remove("error").filter(|error| !error.is_null());
        let result = members.remove("result");
        let session_id = [&result, &error]
            .into_iter()
            .find_map(|member| Some(member.as_ref()?.get("sessionId")?.as_str()?.to_owned()));
        let outcome = match error {
            Some(error) => Err(room_error(&error)),
            None => Ok(result),
        };
        Some(Self::Answer {
            id,
            session_id,
            outcome,
        })
    }
}

/// A notification; one that lacks a parameter is passed on as it came.
fn notification(method: &str, params: Option<&Value>) -> Notification {
    Notification::parse(method, params).unwrap_or_else(|_| Notification::Custom {
        method: method.to_owned(),
        params: params
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default(),
    })
}

fn request_id(id: &Value) -> Option<RequestId> {
    let number = match id {
        Value::Number(number) => number.as_u64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    u32::try_from(number).ok().map(RequestId)
}

fn room_error(error: &Value) -> RoomError {
    let number = error.get("code").and_then(Value::as_i64);
    let code = number.and_then(|code| i32::try_from(code).ok());
    let message = match error.get("message") {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => quoted(error),
    };
    RoomError::new(code.unwrap_or(code::UNCAUGHT), message)
}

/// Which result a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Peers,
    SdpAnswer,
    Nothing,
    Anything,
}

impl Expected {
    pub(super) fn of(request: &Request) -> Self {
        match request {
            Request::JoinRoom { .. } => Self::Peers,
            Request::PublishVideo { .. } | Request::ReceiveVideoFrom { .. } => Self::SdpAnswer,
            Request::CustomRequest(_) => Self::Anything,
            _ => Self::Nothing,
        }
    }

    /// Reads the result of `method`.
    pub(super) fn read(
        self,
        method: &'static str,
        result: Option<Value>,
    ) -> Result<Response, Error> {
        let result = result.unwrap_or(Value::Null);
        let response = match self {
            Self::Peers => peers(&result).map(Response::Joined),
            Self::SdpAnswer => sdp_answer(&result).map(Response::SdpAnswer),
            Self::Nothing => return Ok(Response::Empty),
            Self::Anything => return Ok(Response::Custom(custom(result))),
        };
        response.ok_or_else(|| Error::Malformed {
            method,
            answer: quoted(&result),
        })
    }
}

/// The array is under `value`, or is the result itself where no session layer wrapped it.
fn peers(result: &Value) -> Option<Vec<Peer>> {
    let members = result
        .as_array()
        .or_else(|| result.get("value")?.as_array())?;
    // A nameless peer cannot be asked for anything.
    Some(members.iter().filter_map(Peer::parse).collect())
}

fn sdp_answer(result: &Value) -> Option<String> {
    Some(result.get("sdpAnswer")?.as_str()?.to_owned())
}

/// What the server's application answered, before the session layer wrapped it.
fn custom(mut result: Value) -> Value {
    if let Value::Object(members) = &mut result {
        members.shift_remove("sessionId");
        let is_wrapped = |value: &Value| !value.is_object() && !value.is_null();
        if members.len() == 1 && members.get("value").is_some_and(is_wrapped) {
            return members.remove("value").unwrap_or_default();
        }
    }
    result
}

fn quoted(value: &Value) -> String {
    value.to_string().chars().take(QUOTED_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn peers_are_read_leniently() {
        let alice = Peer::new("alice", true);
        let table = [
            (json!({ "value": [], "sessionId": "S" }), Some(vec![])),
            (
                json!({ "value": [{ "id": "alice", "streams": [{ "id": "webcam" }] }] }),
                Some(vec![alice.clone()]),
            ),
            (
                json!([{ "id": "alice", "streams": [{ "id": "webcam" }], "more": 1 }]),
                Some(vec![alice.clone()]),
            ),
            (
                json!({ "value": [{ "id": "carol" }, { "name": "x" }, null, 5] }),
                Some(vec![Peer::new("carol", false)]),
            ),
            (json!({ "value": "none" }), None),
            (json!({}), None),
            (json!(null), None),
        ];
        for (result, expected) in table {
            assert_eq!(peers(&result), expected, "{result}");
        }
    }

    #[test]
    fn custom_results_lose_their_wrapping() {
        let table = [
            (json!({ "sessionId": "S" }), json!({})),
            (json!({ "value": [1], "sessionId": "S" }), json!([1])),
            (json!({ "value": 5, "sessionId": "S" }), json!(5)),
            (
                json!({ "value": {}, "sessionId": "S" }),
                json!({ "value": {} }),
            ),
            (
                json!({ "value": 5, "more": 6 }),
                json!({ "value": 5, "more": 6 }),
            ),
            (json!("bare"), json!("bare")),
        ];
        for (result, expected) in table {
            assert_eq!(custom(result.clone()), expected, "{result}");
        }
    }

    #[test]
    fn errors_are_read_leniently() {
        let table = [
            (json!({ "code": 104, "message": "m", "data": {} }), 104, "m"),
            (
                json!({ "code": 3_000_000_000_u64, "message": "m" }),
                -1,
                "m",
            ),
            (json!({ "message": 5 }), -1, "5"),
            (json!("text"), -1, "\"text\""),
            (json!({}), -1, "{}"),
        ];
        for (error, code, message) in table {
            assert_eq!(room_error(&error), RoomError::new(code, message), "{error}");
        }
    }

    #[test]
    fn meaningless_frames_are_none() {
        for text in [
            "",
            "5",
            "[]",
            "{",
            "{}",
            r#"{"id":-1,"result":{}}"#,
            r#"{"id":null,"error":{}}"#,
            r#"{"id":4294967296,"result":{}}"#,
            r#"{"method":5}"#,
            r#"{"method":null,"id":1}"#,
        ] {
            assert!(Incoming::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn known_notification_without_its_parameter_is_passed_on() {
        let Some(Incoming::Notification(notification)) =
            Incoming::parse(r#"{"method":"participantJoined","params":{"user":"bob"}}"#)
        else {
            panic!("a notification");
        };
        assert_eq!(notification.method(), "participantJoined");
        assert_eq!(notification.params(), json!({ "user": "bob" }));
        assert!(matches!(notification, Notification::Custom { .. }));
    }
}
