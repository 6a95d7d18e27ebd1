//! Request parameters, read with the coercions of the Gson library, on which clients came to rely:
//! Android sends `sdpMLineIndex` as a string, others send numbers where names are expected.

use serde_json::{Map, Number, Value};

use crate::reply::RpcError;

/// The `params` object of a request; empty when the client sent none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params(Map<String, Value>);

impl From<Map<String, Value>> for Params {
    fn from(params: Map<String, Value>) -> Self {
        Self(params)
    }
}

impl Params {
    /// True if the client sent `key`, be it null.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The parameter as it came.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// All parameters as they came.
    pub fn into_object(self) -> Map<String, Value> {
        self.0
    }

    /// A required text: a string, or the text of a number or boolean.
    pub fn string(&self, key: &str) -> Result<String, RpcError> {
        string(self.required(key)?)
    }

    /// As [`string`](Self::string), where absent and null mean "none".
    pub fn nullable_string(&self, key: &str) -> Result<Option<String>, RpcError> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => string(value).map(Some),
        }
    }

    /// A required truth value: `true`, or the string "true" in any case. Every other primitive is
    /// false.
    pub fn bool(&self, key: &str) -> Result<bool, RpcError> {
        bool(self.required(key)?)
    }

    /// As [`bool`](Self::bool), with a value for an absent parameter. Null is refused.
    pub fn bool_or(&self, key: &str, absent: bool) -> Result<bool, RpcError> {
        self.0.get(key).map_or(Ok(absent), bool)
    }

    /// A required 32-bit integer: a number, truncated and wrapped, or a string of digits.
    pub fn int(&self, key: &str) -> Result<i32, RpcError> {
        int(self.required(key)?)
    }

    fn required(&self, key: &str) -> Result<&Value, RpcError> {
        self.0.get(key).ok_or_else(|| RpcError::missing(key))
    }
}

/// The text of a primitive; nothing for null, objects and arrays.
pub(crate) fn primitive_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn string(value: &Value) -> Result<String, RpcError> {
    let value = element(value)?;
    Ok(primitive_text(value).expect("element() lets only primitives through"))
}

fn bool(value: &Value) -> Result<bool, RpcError> {
    Ok(match element(value)? {
        Value::Bool(value) => *value,
        Value::String(text) => text.eq_ignore_ascii_case("true"),
        _ => false,
    })
}

fn int(value: &Value) -> Result<i32, RpcError> {
    let not_a_number = |text: &str| {
        RpcError::uncaught(
            "java.lang.NumberFormatException",
            format_args!("For input string: \"{text}\""),
        )
    };
    match element(value)? {
        Value::Number(number) => Ok(wrapped(number)),
        Value::String(text) => text.parse().map_err(|_| not_a_number(text)),
        other => Err(not_a_number(&other.to_string())),
    }
}

/// Java's narrowing of a number to 32 bits.
fn wrapped(number: &Number) -> i32 {
    let wide = number
        .as_i64()
        .or_else(|| number.as_u64().map(|value| value as i64))
        .or_else(|| number.as_f64().map(|value| value as i64));
    wide.unwrap_or(0) as i32
}

/// The primitive that a value stands for: itself, or the only element of an array.
fn element(value: &Value) -> Result<&Value, RpcError> {
    let unsupported =
        |class: &str| RpcError::uncaught("java.lang.UnsupportedOperationException", class);
    match value {
        Value::Null => Err(unsupported("JsonNull")),
        Value::Object(_) => Err(unsupported("JsonObject")),
        // Recursion ends: the parser bounds nesting.
        Value::Array(elements) => match elements.as_slice() {
            [only] => element(only),
            _ => Err(RpcError::uncaught(
                "java.lang.IllegalStateException",
                format_args!("Array must have size 1, but has size {}", elements.len()),
            )),
        },
        primitive => Ok(primitive),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OBJECT: &str = "java.lang.UnsupportedOperationException:JsonObject";
    const NULL: &str = "java.lang.UnsupportedOperationException:JsonNull";

    fn params(value: &Value) -> Params {
        let mut params = Map::new();
        params.insert("k".to_owned(), value.clone());
        params.into()
    }

    fn size(count: usize) -> String {
        format!("java.lang.IllegalStateException:Array must have size 1, but has size {count}")
    }

    fn number_format(text: &str) -> String {
        format!("java.lang.NumberFormatException:For input string: \"{text}\"")
    }

    fn message(error: RpcError) -> String {
        assert_eq!(error.code, RpcError::UNCAUGHT);
        error.message
    }

    #[test]
    fn strings_are_coerced() {
        let table = [
            (json!("a"), Ok("a".to_owned())),
            (json!(""), Ok(String::new())),
            (json!(5), Ok("5".to_owned())),
            (json!(1.5), Ok("1.5".to_owned())),
            (json!(true), Ok("true".to_owned())),
            (json!(["a"]), Ok("a".to_owned())),
            (json!([["a"]]), Ok("a".to_owned())),
            (json!({}), Err(OBJECT.to_owned())),
            (json!(null), Err(NULL.to_owned())),
            (json!([]), Err(size(0))),
            (json!(["a", "b"]), Err(size(2))),
        ];
        for (value, expected) in table {
            assert_eq!(
                params(&value).string("k").map_err(message),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn booleans_are_coerced() {
        let table = [
            (json!(true), Ok(true)),
            (json!(false), Ok(false)),
            (json!("true"), Ok(true)),
            (json!("TRUE"), Ok(true)),
            (json!("yes"), Ok(false)),
            (json!("1"), Ok(false)),
            (json!(1), Ok(false)),
            (json!([true]), Ok(true)),
            (json!({}), Err(OBJECT.to_owned())),
            (json!(null), Err(NULL.to_owned())),
            (json!([]), Err(size(0))),
        ];
        for (value, expected) in table {
            assert_eq!(
                params(&value).bool("k").map_err(message),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn integers_are_coerced() {
        let table = [
            (json!(0), Ok(0)),
            (json!("0"), Ok(0)),
            (json!("-3"), Ok(-3)),
            (json!(1.9), Ok(1)),
            (json!(3_000_000_000_i64), Ok(-1_294_967_296)),
            (json!(u64::MAX), Ok(-1)),
            (json!([4]), Ok(4)),
            (json!("abc"), Err(number_format("abc"))),
            (json!(""), Err(number_format(""))),
            (json!("1.5"), Err(number_format("1.5"))),
            (json!("99999999999"), Err(number_format("99999999999"))),
            (json!(true), Err(number_format("true"))),
            (json!({}), Err(OBJECT.to_owned())),
            (json!(null), Err(NULL.to_owned())),
            (json!([1, 2, 3]), Err(size(3))),
        ];
        for (value, expected) in table {
            assert_eq!(
                params(&value).int("k").map_err(message),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn missing_parameter_is_named() {
        let error = Params::default().string("room").unwrap_err();
        assert_eq!(
            error.message,
            "java.lang.RuntimeException:Request element 'room' is missing"
        );
    }

    #[test]
    fn optional_parameters_have_defaults() {
        let empty = Params::default();
        assert_eq!(empty.bool_or("k", false), Ok(false));
        assert_eq!(empty.bool_or("k", true), Ok(true));
        assert_eq!(params(&json!("True")).bool_or("k", false), Ok(true));
        assert_eq!(
            params(&json!(null)).bool_or("k", false).map_err(message),
            Err(NULL.to_owned())
        );
        assert_eq!(empty.nullable_string("k"), Ok(None));
        assert_eq!(params(&json!(null)).nullable_string("k"), Ok(None));
        assert_eq!(
            params(&json!(1)).nullable_string("k"),
            Ok(Some("1".to_owned()))
        );
    }
}
