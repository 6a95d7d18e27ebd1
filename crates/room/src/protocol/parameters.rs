//! Parameters of a request, read with the coercions of Gson.
//!
//! Deployed clients depend on them: one sends every index as a string.

use serde_json::{Map, Value};

use super::RoomError;

/// The `params` member of a request.
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a>(Option<&'a Map<String, Value>>);

impl<'a> Parameters<'a> {
    /// Takes `params` as received; absent and `null` are the same.
    pub fn new(params: Option<&'a Value>) -> Result<Self, RoomError> {
        match params {
            None | Some(Value::Null) => Ok(Self(None)),
            Some(Value::Object(members)) => Ok(Self(Some(members))),
            Some(other) => Err(exception(
                "com.google.gson.JsonSyntaxException",
                format!(
                    "Expected a com.google.gson.JsonObject but was com.google.gson.{}",
                    class(other)
                ),
            )),
        }
    }

    /// A member as it is, `null` included.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.0?.get(key)
    }

    /// All members.
    pub fn members(&self) -> Map<String, Value> {
        self.0.cloned().unwrap_or_default()
    }

    /// A string that must be there.
    pub fn string(&self, key: &str) -> Result<String, RoomError> {
        text(self.required(key)?)
    }

    /// A string that may be absent or `null`.
    pub fn optional_string(&self, key: &str) -> Result<Option<String>, RoomError> {
        self.get(key)
            .filter(|value| !value.is_null())
            .map(text)
            .transpose()
    }

    /// A truth value, false if absent.
    pub fn boolean(&self, key: &str) -> Result<bool, RoomError> {
        match self.get(key).map(single).transpose()? {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => Ok(text(other)?.eq_ignore_ascii_case("true")),
        }
    }

    /// A small index that must be there.
    pub fn index(&self, key: &str) -> Result<u16, RoomError> {
        let value = single(self.required(key)?)?;
        let index = match value {
            Value::Number(number) => number.as_f64().and_then(truncated),
            other => text(other)?.trim().parse().ok(),
        };
        index.ok_or_else(|| {
            let shown = text(value).unwrap_or_default();
            exception(
                "java.lang.NumberFormatException",
                format!("For input string: \"{shown}\""),
            )
        })
    }

    /// A number that may be absent or `null`, between the two of `range` or one of them.
    pub fn number_within(
        &self,
        key: &str,
        (first, last): (u16, u16),
    ) -> Result<Option<u16>, RoomError> {
        if self.get(key).is_none_or(Value::is_null) {
            return Ok(None);
        }
        let number = self.index(key)?;
        if !(first..=last).contains(&number) {
            return Err(RoomError::out_of_range(key, first, last));
        }
        Ok(Some(number))
    }

    fn required(&self, key: &str) -> Result<&'a Value, RoomError> {
        self.get(key)
            .ok_or_else(|| RoomError::missing_parameter(key))
    }
}

/// A primitive's text.
fn text(value: &Value) -> Result<String, RoomError> {
    match single(value)? {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(exception(
            "java.lang.UnsupportedOperationException",
            class(other),
        )),
    }
}

/// Unwraps arrays of one element, as deep as they go.
fn single(mut value: &Value) -> Result<&Value, RoomError> {
    while let Value::Array(elements) = value {
        let [element] = elements.as_slice() else {
            return Err(exception(
                "java.lang.IllegalStateException",
                format!("Array must have size 1, but has size {}", elements.len()),
            ));
        };
        value = element;
    }
    Ok(value)
}

fn truncated(number: f64) -> Option<u16> {
    let whole = number.trunc();
    (0.0..=f64::from(u16::MAX))
        .contains(&whole)
        .then_some(whole as u16)
}

fn exception(class: &str, message: impl AsRef<str>) -> RoomError {
    RoomError::new(
        super::code::UNCAUGHT,
        format!("{class}:{}", message.as_ref()),
    )
}

/// Gson's name of a JSON type.
fn class(value: &Value) -> &'static str {
    match value {
        Value::Null => "JsonNull",
        Value::Array(_) => "JsonArray",
        Value::Object(_) => "JsonObject",
        Value::Bool(_) | Value::Number(_) | Value::String(_) => "JsonPrimitive",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn check<T: PartialEq + std::fmt::Debug>(
        read: impl Fn(&Parameters<'_>) -> Result<T, RoomError>,
        rows: Vec<(Value, Result<T, &str>)>,
    ) {
        for (value, expected) in rows {
            let params = json!({ "key": value });
            let read = read(&Parameters::new(Some(&params)).unwrap());
            assert_eq!(
                read.map_err(|error| error.message),
                expected.map_err(str::to_owned),
                "{value}"
            );
        }
    }

    #[test]
    fn strings_are_coerced() {
        check(
            |params| params.string("key"),
            vec![
                (json!("text"), Ok("text".to_owned())),
                (json!(5), Ok("5".to_owned())),
                (json!(true), Ok("true".to_owned())),
                (json!(["one"]), Ok("one".to_owned())),
                (
                    json!({}),
                    Err("java.lang.UnsupportedOperationException:JsonObject"),
                ),
                (
                    json!(null),
                    Err("java.lang.UnsupportedOperationException:JsonNull"),
                ),
                (
                    json!([]),
                    Err("java.lang.IllegalStateException:Array must have size 1, but has size 0"),
                ),
                (
                    json!([1, 2]),
                    Err("java.lang.IllegalStateException:Array must have size 1, but has size 2"),
                ),
            ],
        );
    }

    #[test]
    fn truth_values_are_coerced() {
        check(
            |params| params.boolean("key"),
            vec![
                (json!(true), Ok(true)),
                (json!("TRUE"), Ok(true)),
                (json!("1"), Ok(false)),
                (json!("yes"), Ok(false)),
                (json!(1), Ok(false)),
                (json!([true]), Ok(true)),
                (
                    json!(null),
                    Err("java.lang.UnsupportedOperationException:JsonNull"),
                ),
            ],
        );
    }

    #[test]
    fn indices_are_coerced() {
        check(
            |params| params.index("key"),
            vec![
                (json!(1), Ok(1)),
                (json!("1"), Ok(1)),
                (json!(1.7), Ok(1)),
                (json!(["2"]), Ok(2)),
                (
                    json!("abc"),
                    Err("java.lang.NumberFormatException:For input string: \"abc\""),
                ),
                (
                    json!(-1),
                    Err("java.lang.NumberFormatException:For input string: \"-1\""),
                ),
                (
                    json!(70000),
                    Err("java.lang.NumberFormatException:For input string: \"70000\""),
                ),
            ],
        );
    }

    #[test]
    fn missing_parameters_are_named() {
        let params = Parameters::new(Some(&Value::Null)).unwrap();
        assert_eq!(
            params.string("room").unwrap_err().message,
            "java.lang.RuntimeException:Request element 'room' is missing"
        );
        assert_eq!(
            Parameters::new(Some(&json!([1]))).unwrap_err().message,
            "com.google.gson.JsonSyntaxException:Expected a com.google.gson.JsonObject but was com.google.gson.JsonArray"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(json in "[\\[\\]{}\",:0-9a-z.eE+-]{0,40}") {
            if let Ok(value) = serde_json::from_str::<Value>(&json) {
                let params = json!({ "key": value });
                let params = Parameters::new(Some(&params)).unwrap();
                let _ = params.string("key");
                let _ = params.boolean("key");
                let _ = params.index("key");
            }
        }
    }
}
