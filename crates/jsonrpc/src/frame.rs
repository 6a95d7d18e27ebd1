//! One incoming text frame: a request, or something to be ignored or refused.

use std::fmt;

use serde_json::{Map, Number, Value};

use crate::params::{self, Params};
use crate::reply::RpcError;

/// The number that ties a response to its request.
///
/// Any integer a JSON parser can hold exactly, so that it is echoed as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(i128);

impl Id {
    /// Reads an id with the coercions that existing clients rely on: numeric strings become
    /// integers and decimals are truncated.
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => Self::from_number(number),
            Value::String(text) => text.parse::<i64>().ok().map(Self::from),
            _ => None,
        }
    }

    fn from_number(number: &Number) -> Option<Self> {
        let exact = number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from));
        exact.map(Self).or_else(|| {
            let truncated = number.as_f64()?.trunc();
            let fits = truncated.abs() < i64::MAX as f64;
            fits.then_some(Self(truncated as i128))
        })
    }
}

impl From<i64> for Id {
    fn from(id: i64) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Absent: the method runs and nothing is answered.
    pub id: Option<Id>,
    /// As the client wrote it; primitives other than strings in their JSON form.
    pub method: String,
    /// Without `sessionId`, which belongs to the session layer.
    pub params: Params,
    /// `params.sessionId` as text.
    pub session_id: Option<String>,
}

/// Why a frame has no consequence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ignored {
    /// Not JSON, or nested deeper than the parser allows (128 levels).
    #[error("not JSON: {0}")]
    NotJson(String),
    /// JSON, but an array or a primitive. Batches are not part of the room protocol.
    #[error("not a JSON object")]
    NotAnObject,
    /// No `method`: a response. Java clients answer notifications they do not know with an error.
    #[error("a response, and nothing was asked")]
    Response,
    /// `method` is null, an object or an array.
    #[error("method is not a name")]
    InvalidMethod,
    /// `id` is present but no number, so there is nothing to answer to.
    #[error("id is not a number")]
    InvalidId,
}

/// One text frame of a client, parsed.
///
/// Parsing is separate from [`Sessions::handle_frame`](crate::Sessions::handle_frame) so that a huge
/// frame costs the reader of its socket, not everybody who waits for the sessions.
#[derive(Clone, Debug)]
pub struct Frame {
    pub(crate) text: Box<str>,
    pub(crate) content: Content,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Request(Request),
    Refused { id: Option<Id>, error: RpcError },
    Ignored(Ignored),
}

impl Frame {
    /// Parses any text.
    pub fn parse(text: impl Into<Box<str>>) -> Self {
        let text = text.into();
        let content = parse(&text).unwrap_or_else(Content::Ignored);
        Self { text, content }
    }

    /// Why the frame will have no consequence, if so; for the log.
    pub fn ignored(&self) -> Option<&Ignored> {
        match &self.content {
            Content::Ignored(reason) => Some(reason),
            _ => None,
        }
    }

    /// The request in the frame, if there is one with acceptable `params`.
    pub fn request(&self) -> Option<&Request> {
        match &self.content {
            Content::Request(request) => Some(request),
            _ => None,
        }
    }

    pub(crate) fn into_request(self) -> Option<Request> {
        match self.content {
            Content::Request(request) => Some(request),
            _ => None,
        }
    }
}

fn parse(text: &str) -> Result<Content, Ignored> {
    let value: Value = serde_json::from_str(text).map_err(|e| Ignored::NotJson(e.to_string()))?;
    let Value::Object(mut object) = value else {
        return Err(Ignored::NotAnObject);
    };
    let method = match object.get("method") {
        None => return Err(Ignored::Response),
        Some(method) => params::primitive_text(method).ok_or(Ignored::InvalidMethod)?,
    };
    let id = match object.get("id") {
        None => None,
        Some(id) => Some(Id::from_value(id).ok_or(Ignored::InvalidId)?),
    };
    let mut params = match object.remove("params") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(params)) => params,
        Some(other) => {
            let error = not_an_object(&other);
            return Ok(Content::Refused { id, error });
        }
    };
    let session_id = match params.shift_remove("sessionId") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(other) => Some(other.to_string()),
    };
    Ok(Content::Request(Request {
        id,
        method,
        params: Params::from(params),
        session_id,
    }))
}

fn not_an_object(params: &Value) -> RpcError {
    let class = match params {
        Value::Array(_) => "JsonArray",
        _ => "JsonPrimitive",
    };
    RpcError::uncaught(
        "com.google.gson.JsonSyntaxException",
        format_args!(
            "Expected a com.google.gson.JsonObject but was com.google.gson.{class}; at path $"
        ),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(text: &str) -> Request {
        Frame::parse(text).into_request().unwrap()
    }

    #[test]
    fn ids_are_coerced_to_integers() {
        let table = [
            (r#"0"#, Some("0")),
            (r#"-7"#, Some("-7")),
            (r#""5""#, Some("5")),
            (r#""-5""#, Some("-5")),
            (r#"1.7"#, Some("1")),
            (r#"-1.7"#, Some("-1")),
            (r#"3000000000"#, Some("3000000000")),
            (r#"18446744073709551615"#, Some("18446744073709551615")),
            (r#"1e3"#, Some("1000")),
            (r#"1e300"#, None),
            (r#""x""#, None),
            (r#""""#, None),
            (r#"null"#, None),
            (r#"true"#, None),
            (r#"[1]"#, None),
            (r#"{}"#, None),
        ];
        for (id, expected) in table {
            let frame = Frame::parse(format!(r#"{{"method":"m","id":{id}}}"#));
            match expected {
                Some(text) => assert_eq!(frame.request().unwrap().id.unwrap().to_string(), text),
                None => assert_eq!(frame.ignored(), Some(&Ignored::InvalidId), "{id}"),
            }
        }
    }

    #[test]
    fn missing_id_is_no_id() {
        assert_eq!(request(r#"{"method":"leaveRoom"}"#).id, None);
    }

    #[test]
    fn method_may_be_any_primitive() {
        for (method, expected) in [(r#""a""#, "a"), ("5", "5"), ("true", "true")] {
            let text = format!(r#"{{"method":{method},"id":1}}"#);
            assert_eq!(request(&text).method, expected);
        }
        for method in ["null", "{}", "[]", r#"["a"]"#] {
            let frame = Frame::parse(format!(r#"{{"method":{method},"id":1}}"#));
            assert_eq!(frame.ignored(), Some(&Ignored::InvalidMethod), "{method}");
        }
    }

    #[test]
    fn what_is_no_request_is_ignored() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let deep_params = format!(
            r#"{{"method":"m","params":{{"a":{}{}}}}}"#,
            r#"{"a":"#.repeat(50_000),
            "}".repeat(50_000)
        );
        for text in [
            "",
            " ",
            "{",
            "\u{0}",
            "{\"method\":\"\\ud800\"}",
            &deep,
            &deep_params,
        ] {
            assert!(matches!(
                Frame::parse(text).ignored(),
                Some(Ignored::NotJson(_))
            ));
        }
        for text in [
            "[]",
            r#"[{"method":"ping","id":1}]"#,
            "1",
            "null",
            r#""ping""#,
        ] {
            assert_eq!(Frame::parse(text).ignored(), Some(&Ignored::NotAnObject));
        }
        for text in [
            "{}",
            r#"{"id":1,"result":{},"jsonrpc":"2.0"}"#,
            r#"{"error":{"code":-32601,"message":"x"},"jsonrpc":"2.0"}"#,
        ] {
            assert_eq!(Frame::parse(text).ignored(), Some(&Ignored::Response));
        }
    }

    #[test]
    fn absent_and_null_params_are_empty() {
        assert_eq!(
            request(r#"{"method":"m","id":1}"#).params,
            Params::default()
        );
        assert_eq!(
            request(r#"{"method":"m","id":1,"params":null}"#).params,
            Params::default()
        );
    }

    #[test]
    fn params_of_another_type_are_refused() {
        for (params, class) in [
            ("[]", "JsonArray"),
            ("\"x\"", "JsonPrimitive"),
            ("1", "JsonPrimitive"),
        ] {
            let frame = Frame::parse(format!(r#"{{"method":"m","id":1,"params":{params}}}"#));
            let Content::Refused { id, error } = frame.content else {
                panic!("{params} was accepted");
            };
            assert_eq!(id, Some(Id::from(1)));
            assert_eq!(
                error.message,
                format!(
                    "com.google.gson.JsonSyntaxException:Expected a com.google.gson.JsonObject but \
                     was com.google.gson.{class}; at path $"
                )
            );
        }
    }

    #[test]
    fn session_id_is_taken_out_of_params() {
        let table = [
            (r#""abc""#, Some("abc")),
            ("5", Some("5")),
            ("true", Some("true")),
            ("null", None),
        ];
        for (session_id, expected) in table {
            let text =
                format!(r#"{{"method":"m","id":1,"params":{{"sessionId":{session_id},"a":1}}}}"#);
            let request = request(&text);
            assert_eq!(request.session_id.as_deref(), expected);
            assert!(!request.params.has("sessionId"));
            assert!(request.params.has("a"));
        }
    }

    #[test]
    fn duplicate_and_unknown_members_are_harmless() {
        let request = request(
            r#"{"jsonrpc":"1.0","method":"a","method":"b","id":1,"id":2,"x":{},"params":{"k":1,"k":2}}"#,
        );
        assert_eq!(request.method, "b");
        assert_eq!(request.id, Some(Id::from(2)));
        assert_eq!(request.params.int("k"), Ok(2));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text in any::<String>()) {
            let _ = Frame::parse(text);
        }

        #[test]
        fn any_members_are_parsed_without_panic(
            id in "[-0-9.eE\"a-z\\[\\]{}]{0,8}",
            params in "[-0-9.\"a-z:,\\[\\]{}]{0,24}",
        ) {
            let _ = Frame::parse(format!(r#"{{"method":"m","id":{id},"params":{params}}}"#));
            let _ = Frame::parse(format!(r#"{{"method":"m","id":1,"params":{params}}}"#));
        }

        #[test]
        fn integer_ids_survive(id in any::<i64>()) {
            let frame = Frame::parse(format!(r#"{{"method":"m","id":{id}}}"#));
            prop_assert_eq!(frame.request().unwrap().id, Some(Id::from(id)));
        }
    }
}
