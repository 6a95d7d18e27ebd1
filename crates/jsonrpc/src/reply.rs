//! Outgoing messages, in the exact bytes that the original server writes: key order, `sessionId`
//! last, null members dropped, and only U+2028 and U+2029 escaped beyond what JSON demands.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::frame::Id;
use crate::sessions::SessionId;

/// An encoded message. Shared, because one notification goes to a whole room.
pub type Text = Arc<str>;

/// The outcome of a request: any JSON value, or an error.
pub type Reply = Result<Value, RpcError>;

/// A failed request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct RpcError {
    /// The number clients switch on.
    pub code: i32,
    /// The text clients show.
    pub message: String,
    /// True for errors that a handler reports; they carry the session id on the wire. Failures of
    /// the layers around it do not.
    pub names_session: bool,
}

impl RpcError {
    /// Code of a failure that no handler reported: a missing or mistyped parameter, an unsupported
    /// request.
    pub const UNCAUGHT: i32 = -1;
    /// Code of a `connect` that names a session that does not exist.
    pub const RECONNECTION: i32 = 40007;
    /// Code for a method that does not exist (JSON-RPC 2.0, section 5.1).
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// Code for a server that cannot take another session (JSON-RPC 2.0, section 5.1,
    /// implementation-defined).
    pub const SERVER_FULL: i32 = -32000;

    /// An error that the handler of a request reports.
    pub fn handled(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            names_session: true,
        }
    }

    /// A failure in the words of the original server, `<java class>:<message>`.
    pub fn uncaught(class: &str, message: impl fmt::Display) -> Self {
        Self {
            code: Self::UNCAUGHT,
            message: format!("{class}:{message}"),
            names_session: false,
        }
    }

    /// A required parameter is absent.
    pub fn missing(key: &str) -> Self {
        Self::uncaught(
            "java.lang.RuntimeException",
            format_args!("Request element '{key}' is missing"),
        )
    }

    /// The method does not exist.
    pub fn method_not_found(method: &str) -> Self {
        Self::outside(
            Self::METHOD_NOT_FOUND,
            format!("Method not found: {method}"),
        )
    }

    /// The session named by `connect` does not exist.
    pub(crate) fn reconnection() -> Self {
        Self::outside(Self::RECONNECTION, "reconnection error")
    }

    pub(crate) fn outside(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            names_session: false,
        }
    }
}

/// Which of two equally valid ways of writing is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Add the empty top-level `data` that the original appends to the errors of handlers. Every
    /// known client ignores it.
    pub strict_bytes: bool,
}

/// A message that no request caused. `params` should be an object.
pub fn notification(method: &str, params: &Value) -> Text {
    let mut out = String::with_capacity(64);
    out.push_str(r#"{"method":"#);
    write_string(&mut out, method);
    out.push_str(r#","params":"#);
    write_value(&mut out, params);
    out.push_str(r#","jsonrpc":"2.0"}"#);
    out.into()
}

/// The response of a session to a request.
pub(crate) fn response(id: Id, reply: &Reply, session: &SessionId, style: Style) -> Text {
    let mut out = format!(r#"{{"id":{id},"#);
    match reply {
        Ok(Value::Null) => {
            out.push_str(r#""jsonrpc":"2.0","result":"#);
            write_with_session(&mut out, &Map::new(), Some(session.as_str()));
            out.push('}');
        }
        Ok(result) => {
            out.push_str(r#""result":"#);
            write_result(&mut out, result, Some(session.as_str()));
            out.push_str(r#","jsonrpc":"2.0"}"#);
        }
        Err(error) => write_error(&mut out, error, Some(session.as_str()), style),
    }
    out.into()
}

/// `{"value":VALUE}` outside of any session; `session_id` is echoed, not checked.
pub(crate) fn value_response(id: Id, value: &str, session_id: Option<&str>) -> Text {
    let mut out = format!(r#"{{"id":{id},"result":"#);
    write_result(&mut out, &Value::from(value), session_id);
    out.push_str(r#","jsonrpc":"2.0"}"#);
    out.into()
}

/// The answer to `closeSession`: a plain string, the only unwrapped result there is.
pub(crate) fn bye_response(id: Id) -> Text {
    format!(r#"{{"id":{id},"result":"bye","jsonrpc":"2.0"}}"#).into()
}

/// An error outside of any session.
pub(crate) fn error_response(id: Id, error: &RpcError) -> Text {
    let mut out = format!(r#"{{"id":{id},"#);
    write_error(&mut out, error, None, Style::default());
    out.into()
}

fn write_error(out: &mut String, error: &RpcError, session: Option<&str>, style: Style) {
    out.push_str(r#""error":{"code":"#);
    out.push_str(&error.code.to_string());
    out.push_str(r#","message":"#);
    write_string(out, &error.message);
    if let Some(session) = session.filter(|_| error.names_session) {
        out.push_str(r#","sessionId":"#);
        write_string(out, session);
    }
    out.push_str(r#"},"jsonrpc":"2.0""#);
    if style.strict_bytes && error.names_session {
        out.push_str(r#","data":{}"#);
    }
    out.push('}');
}

fn write_result(out: &mut String, result: &Value, session: Option<&str>) {
    if let Value::Object(members) = result {
        return write_with_session(out, members, session);
    }
    out.push_str(r#"{"value":"#);
    write_value(out, result);
    if let Some(session) = session {
        out.push_str(r#","sessionId":"#);
        write_string(out, session);
    }
    out.push('}');
}

fn write_with_session(out: &mut String, members: &Map<String, Value>, session: Option<&str>) {
    out.push('{');
    let members = members.iter().filter(|(key, _)| *key != "sessionId");
    let written = write_members(out, members);
    if let Some(session) = session {
        out.push_str(if written {
            r#","sessionId":"#
        } else {
            r#""sessionId":"#
        });
        write_string(out, session);
    }
    out.push('}');
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => write_string(out, text),
        Value::Array(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(out, element);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            write_members(out, members.iter());
            out.push('}');
        }
    }
}

/// Writes the members that are not null; false if there was none.
fn write_members<'a>(
    out: &mut String,
    members: impl Iterator<Item = (&'a String, &'a Value)>,
) -> bool {
    let mut written = false;
    for (key, value) in members.filter(|(_, value)| !value.is_null()) {
        if written {
            out.push(',');
        }
        write_string(out, key);
        out.push(':');
        write_value(out, value);
        written = true;
    }
    written
}

fn write_string(out: &mut String, text: &str) {
    use fmt::Write as _;

    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '\u{2028}' | '\u{2029}' => {
                write!(out, "\\u{:04x}", u32::from(character)).expect("a String takes any text");
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const DEFAULT: Style = Style {
        strict_bytes: false,
    };
    const STRICT: Style = Style { strict_bytes: true };

    fn answer(id: i64, reply: Reply, style: Style) -> String {
        let session = SessionId::fixed("SID");
        response(Id::from(id), &reply, &session, style).to_string()
    }

    #[test]
    fn results_are_written_byte_exact() {
        let peers = json!([{"id": "alice", "streams": [{"id": "webcam"}]}, {"id": "carol"}]);
        let table = [
            (
                5,
                json!({"sdpAnswer": "v=0\r\n"}),
                r#"{"id":5,"result":{"sdpAnswer":"v=0\r\n","sessionId":"SID"},"jsonrpc":"2.0"}"#,
            ),
            (
                4,
                json!({}),
                r#"{"id":4,"result":{"sessionId":"SID"},"jsonrpc":"2.0"}"#,
            ),
            (
                0,
                peers,
                r#"{"id":0,"result":{"value":[{"id":"alice","streams":[{"id":"webcam"}]},{"id":"carol"}],"sessionId":"SID"},"jsonrpc":"2.0"}"#,
            ),
            (
                0,
                json!([]),
                r#"{"id":0,"result":{"value":[],"sessionId":"SID"},"jsonrpc":"2.0"}"#,
            ),
            (
                6,
                json!(null),
                r#"{"id":6,"jsonrpc":"2.0","result":{"sessionId":"SID"}}"#,
            ),
            (
                7,
                json!(true),
                r#"{"id":7,"result":{"value":true,"sessionId":"SID"},"jsonrpc":"2.0"}"#,
            ),
            (
                8,
                json!({"sessionId": "stale", "a": null, "b": 1.5}),
                r#"{"id":8,"result":{"b":1.5,"sessionId":"SID"},"jsonrpc":"2.0"}"#,
            ),
        ];
        for (id, result, expected) in table {
            assert_eq!(answer(id, Ok(result), DEFAULT), expected);
        }
    }

    #[test]
    fn errors_are_written_byte_exact() {
        let room = RpcError::handled(104, "User 'bob' already exists in room 'r'");
        assert_eq!(
            answer(7, Err(room.clone()), STRICT),
            r#"{"id":7,"error":{"code":104,"message":"User 'bob' already exists in room 'r'","sessionId":"SID"},"jsonrpc":"2.0","data":{}}"#
        );
        assert_eq!(
            answer(7, Err(room), DEFAULT),
            r#"{"id":7,"error":{"code":104,"message":"User 'bob' already exists in room 'r'","sessionId":"SID"},"jsonrpc":"2.0"}"#
        );
        for style in [DEFAULT, STRICT] {
            assert_eq!(
                answer(8, Err(RpcError::missing("room")), style),
                r#"{"id":8,"error":{"code":-1,"message":"java.lang.RuntimeException:Request element 'room' is missing"},"jsonrpc":"2.0"}"#
            );
            assert_eq!(
                answer(8, Err(RpcError::method_not_found("x")), style),
                r#"{"id":8,"error":{"code":-32601,"message":"Method not found: x"},"jsonrpc":"2.0"}"#
            );
        }
        assert_eq!(
            &*error_response(Id::from(9), &RpcError::reconnection()),
            r#"{"id":9,"error":{"code":40007,"message":"reconnection error"},"jsonrpc":"2.0"}"#
        );
    }

    #[test]
    fn session_layer_answers_are_written_byte_exact() {
        let table = [
            (
                value_response(Id::from(1), "pong", None),
                r#"{"id":1,"result":{"value":"pong"},"jsonrpc":"2.0"}"#,
            ),
            (
                value_response(Id::from(11), "pong", Some("SID")),
                r#"{"id":11,"result":{"value":"pong","sessionId":"SID"},"jsonrpc":"2.0"}"#,
            ),
            (
                value_response(Id::from(2), "OK", Some("SID")),
                r#"{"id":2,"result":{"value":"OK","sessionId":"SID"},"jsonrpc":"2.0"}"#,
            ),
            (
                bye_response(Id::from(3)),
                r#"{"id":3,"result":"bye","jsonrpc":"2.0"}"#,
            ),
        ];
        for (text, expected) in table {
            assert_eq!(&*text, expected);
        }
    }

    #[test]
    fn notifications_have_no_id() {
        assert_eq!(
            &*notification("participantJoined", &json!({"id": "bob"})),
            r#"{"method":"participantJoined","params":{"id":"bob"},"jsonrpc":"2.0"}"#
        );
        assert_eq!(
            &*notification("participantEvicted", &json!({})),
            r#"{"method":"participantEvicted","params":{},"jsonrpc":"2.0"}"#
        );
    }

    #[test]
    fn only_what_gson_escapes_is_escaped() {
        let text = "<a href='x'>&=\"\\/\r\n\t\u{8}\u{c}\u{1}\u{7f}\u{2028}\u{2029}é😀";
        assert_eq!(
            &*notification("m", &json!({ "k": text })),
            "{\"method\":\"m\",\"params\":{\"k\":\"<a href='x'>&=\\\"\\\\/\\r\\n\\t\\b\\f\\u0001\u{7f}\\u2028\\u2029é😀\"},\"jsonrpc\":\"2.0\"}"
        );
    }

    proptest! {
        #[test]
        fn strings_survive(text in any::<String>()) {
            let written = notification("m", &json!({ "k": text }));
            let read: Value = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(read["params"]["k"].as_str(), Some(text.as_str()));
        }
    }
}
