//! Frames: one JSON-RPC 2.0 message each.
//!
//! Read [`parse_request`] for what a server gets. Deliberately absent: what methods mean.

use serde_json::{Map, Value, json};

use crate::fault::Fault;

/// A request, or a notification if it has no id.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    /// Echoed as it came: number, string or boolean. `None` for a notification.
    pub(crate) id: Option<Value>,
    pub(crate) method: String,
    /// As it came; `Null` if absent.
    pub(crate) params: Value,
}

/// Reads one frame of a client.
pub(crate) fn parse_request(text: &str) -> Result<Request, Fault> {
    let value: Value =
        serde_json::from_str(text).map_err(|_| Fault::rpc(Fault::PARSE_ERROR, "Parse error."))?;
    request_of(value).ok_or_else(invalid_request)
}

/// Reads an operation of a transaction, which is a request inside of one.
pub(crate) fn request_of(value: Value) -> Option<Request> {
    let Value::Object(mut object) = value else {
        return None;
    };
    if object.get("jsonrpc")?.as_str()? != "2.0" {
        return None;
    }
    let id = match object.remove("id") {
        None | Some(Value::Null) => None,
        Some(Value::Array(_) | Value::Object(_)) => return None,
        Some(id) => Some(id),
    };
    let Some(Value::String(method)) = object.remove("method") else {
        return None;
    };
    let params = object.remove("params").unwrap_or(Value::Null);
    Some(Request { id, method, params })
}

/// What an unreadable request is answered with.
pub(crate) fn invalid_request() -> Fault {
    Fault::rpc(Fault::INVALID_REQUEST, "Invalid JSON-RPC request.")
}

/// The response to a request.
pub(crate) fn response(id: &Value, outcome: Result<Value, &Fault>) -> Value {
    match outcome {
        Ok(result) => json!({ "id": id, "jsonrpc": "2.0", "result": result }),
        Err(fault) => json!({ "id": id, "jsonrpc": "2.0", "error": fault.to_value() }),
    }
}

/// An event on its way to a client.
pub(crate) fn event(object: &str, name: &str, data: Map<String, Value>) -> Value {
    json!({
        "jsonrpc": "2.0",
        "method": "onEvent",
        "params": { "value": { "data": data, "object": object, "type": name } },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_kept_as_they_came() {
        for id in [
            "0",
            "-1",
            "1.5",
            "18446744073709551615",
            r#""x""#,
            r#""""#,
            "true",
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
            let request = parse_request(&text).unwrap();
            assert_eq!(request.id.unwrap().to_string(), id);
        }
        for text in [
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","method":"ping"}"#,
        ] {
            assert_eq!(parse_request(text).unwrap().id, None);
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (text, code) in [
            ("", -32700),
            ("this is not JSON", -32700),
            ("{'jsonrpc':'2.0','id':17,'method':'ping'}", -32700),
            (r#"{"jsonrpc":"2.0","id":16,"method":"ping"} x"#, -32700),
            ("[]", -32600),
            (r#"[{"jsonrpc":"2.0","id":6,"method":"ping"}]"#, -32600),
            ("null", -32600),
            ("5", -32600),
            (r#"{"id":2,"method":"ping"}"#, -32600),
            (r#"{"jsonrpc":"1.0","id":2,"method":"ping"}"#, -32600),
            (r#"{"jsonrpc":2,"id":2,"method":"ping"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":2}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":2,"method":5}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, -32600),
        ] {
            assert_eq!(parse_request(text).unwrap_err().code, code, "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_no_json() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(parse_request(&deep).unwrap_err().code, -32700);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in any::<String>()) {
            let _ = parse_request(&text);
        }

        #[test]
        fn any_members_are_read_without_panic(
            id in "[-0-9.eE\"a-z\\[\\]{}]{0,8}",
            params in "[-0-9.\"a-z:,\\[\\]{}]{0,24}",
        ) {
            let _ = parse_request(&format!(r#"{{"jsonrpc":"2.0","method":"m","id":{id},"params":{params}}}"#));
        }
    }
}
