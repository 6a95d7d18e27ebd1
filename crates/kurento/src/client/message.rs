//! Frames of a server, as its client reads them.

use serde_json::{Map, Value};

use crate::fault::Fault;

/// One frame of a server.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Message {
    /// The answer to the request with that id.
    Response {
        /// Ours are numbers; anything else is an answer to nobody.
        id: Option<u64>,
        outcome: Result<Value, Fault>,
    },
    Event {
        object: String,
        kind: String,
        data: Map<String, Value>,
    },
}

impl Message {
    /// `None`: neither a response nor an event that can be understood.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let Value::Object(mut message) = serde_json::from_str(text).ok()? else {
            return None;
        };
        if message.get("method").and_then(Value::as_str) == Some("onEvent") {
            let mut params = message.remove("params")?;
            let event = params.get_mut("value")?.as_object_mut()?;
            let Some(Value::String(object)) = event.remove("object") else {
                return None;
            };
            let Some(Value::String(kind)) = event.remove("type") else {
                return None;
            };
            let Some(Value::Object(data)) = event.remove("data") else {
                return None;
            };
            return Some(Self::Event { object, kind, data });
        }
        let id = message.get("id").and_then(Value::as_u64);
        let error = message.get("error").map(Fault::from_value);
        let outcome = match (error, message.remove("result")) {
            (Some(error), None) => Err(error),
            (None, Some(result)) => Ok(result),
            _ => return None,
        };
        Some(Self::Response { id, outcome })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::wire;

    #[test]
    fn a_response_has_either_result_or_error() {
        let none = [
            r#"{"id":1}"#,
            r#"{"id":1,"result":1,"error":{"code":1}}"#,
            r#"{"method":"onEvent","params":{"value":{"object":"x","type":"y"}}}"#,
            "[]",
            "",
        ];
        for text in none {
            assert_eq!(Message::parse(text), None, "{text}");
        }
        let outcome = Ok(Value::Null);
        assert_eq!(
            Message::parse(r#"{"id":1,"jsonrpc":"2.0","result":null}"#),
            Some(Message::Response {
                id: Some(1),
                outcome
            })
        );
    }

    #[test]
    fn deep_nesting_is_no_message() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(Message::parse(&deep), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in any::<String>()) {
            let _ = Message::parse(&text);
        }

        #[test]
        fn any_members_are_read_without_panic(
            id in "[-0-9.eE\"a-z\\[\\]{}]{0,8}",
            params in "[-0-9.\"a-z:,\\[\\]{}]{0,24}",
        ) {
            let _ = Message::parse(&format!(r#"{{"id":{id},"result":{params}}}"#));
            let _ = Message::parse(&format!(r#"{{"method":"onEvent","params":{{"value":{params}}}}}"#));
        }

        #[test]
        fn messages_are_read_as_they_were_written(id in any::<u64>(), code in any::<i32>(), text in any::<String>()) {
            let fault = Fault::kurento(code, text.clone());
            let written = wire::response(&id.into(), Err(&fault)).to_string();
            let outcome = Err(fault);
            prop_assert_eq!(Message::parse(&written), Some(Message::Response { id: Some(id), outcome }));
            let data = json!({ "text": text }).as_object().cloned().unwrap();
            let written = wire::event(&text, "Error", data.clone()).to_string();
            let kind = "Error".to_owned();
            prop_assert_eq!(Message::parse(&written), Some(Message::Event { object: text, kind, data }));
        }
    }
}
