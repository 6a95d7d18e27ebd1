//! Arguments, read by their declared types with the leniency of the real server.
//!
//! Read [`arguments`] first. Deliberately absent: looking up the objects that arguments name.

use serde_json::{Map, Value, json};

use super::{Enumeration, Kind, Need, Parameter, Register};
use crate::fault::Fault;

/// Bytes of a text that an object keeps: names, tags, addresses. Too low: long URIs are refused. Too
/// high: every object can cost that much, several times.
pub(crate) const TEXT_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a session description. A browser's offer with ten video sections has about 60 000.
pub(crate) const DESCRIPTION_BYTES_MAX: usize = 256 * 1024;

/// Arguments of one call by name, each of the declared type. Optional ones may be absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Arguments(Map<String, Value>);

impl Arguments {
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    /// A text, empty if absent.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// A text that the caller may have left out.
    pub(crate) fn optional_text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// A number, 0 if absent.
    pub(crate) fn integer(&self, name: &str) -> i64 {
        self.0.get(name).and_then(Value::as_i64).unwrap_or_default()
    }

    /// A truth value, false if absent.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.0
            .get(name)
            .and_then(Value::as_bool)
            .unwrap_or_default()
    }
}

/// Reads the arguments of a constructor: what is left out has its default.
pub(crate) fn constructor_arguments(
    parameters: &[Parameter],
    given: &Map<String, Value>,
) -> Result<Arguments, Fault> {
    let mut arguments = Map::new();
    for parameter in parameters {
        match present(given, parameter.name) {
            Some(value) => {
                let value = argument(parameter, value)?;
                arguments.insert(parameter.name.to_owned(), value);
            }
            None => fill_in(&mut arguments, parameter, "parameter")?,
        }
    }
    Ok(Arguments(arguments))
}

/// Reads the arguments of a method. Optional ones count only as a prefix: the first that is left
/// out hides those behind it.
pub(crate) fn method_arguments(
    parameters: &[Parameter],
    given: &Value,
) -> Result<Arguments, Fault> {
    let empty = Map::new();
    let given = given.as_object().unwrap_or(&empty);
    let mut arguments = Map::new();
    let mut hidden = false;
    for parameter in parameters {
        let value = present(given, parameter.name);
        let required = parameter.need == Need::Required;
        match value.filter(|_| required || !hidden) {
            Some(value) => {
                let value = argument(parameter, value)?;
                arguments.insert(parameter.name.to_owned(), value);
            }
            None => {
                hidden |= !required;
                fill_in(&mut arguments, parameter, "parameter")?;
            }
        }
    }
    Ok(Arguments(arguments))
}

/// The real server takes null for zero, "" or false, whatever is asked for; here it is absence.
fn present<'a>(given: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    given.get(name).filter(|value| !value.is_null())
}

fn fill_in(
    arguments: &mut Map<String, Value>,
    parameter: &Parameter,
    what: &str,
) -> Result<(), Fault> {
    match parameter.need {
        Need::Required => return Err(mistyped(parameter, what)),
        Need::Optional => {}
        Need::Default(text) => {
            arguments.insert(parameter.name.to_owned(), constant(text));
        }
    }
    Ok(())
}

/// A value of a table.
pub(crate) fn constant(text: &str) -> Value {
    serde_json::from_str(text).expect("tables hold JSON, which a test checks")
}

fn argument(parameter: &Parameter, value: &Value) -> Result<Value, Fault> {
    convert(parameter.kind, value)?.ok_or_else(|| mistyped(parameter, "parameter"))
}

fn mistyped(parameter: &Parameter, what: &str) -> Fault {
    let (name, kind) = (parameter.name, word(parameter.kind));
    Fault::marshall(format!("'{name}' {what} should be a {kind}"))
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Enumeration(_) | Kind::Object(_) => "string",
        Kind::Integer => "integer",
        Kind::Long => "int64",
        Kind::Float | Kind::Double => "double",
        Kind::Flag => "boolean",
        Kind::Register(_) => "object",
        Kind::List(_) => "list",
        Kind::Map(_) => "map",
    }
}

/// `None`: the value is of another kind.
fn convert(kind: Kind, value: &Value) -> Result<Option<Value>, Fault> {
    Ok(match kind {
        Kind::Text | Kind::Object(_) => scalar_text(value).map(Value::String),
        Kind::Integer => integer(value)
            .and_then(|number| i32::try_from(number).ok())
            .map(Value::from),
        Kind::Long => integer(value).map(Value::from),
        Kind::Float | Kind::Double => real(value).map(Value::from),
        Kind::Flag => flag(value).map(Value::Bool),
        Kind::Enumeration(enumeration) => match scalar_text(value) {
            Some(symbol) => Some(symbol_of(enumeration, symbol)?),
            None => None,
        },
        Kind::Register(register) => match value {
            Value::Object(members) => Some(structure(register, members)?),
            _ => None,
        },
        Kind::List(kind) => match value {
            Value::Array(items) => items
                .iter()
                .map(|item| convert(*kind, item))
                .collect::<Result<Option<Vec<_>>, _>>()?
                .map(Value::Array),
            _ => None,
        },
        Kind::Map(kind) => match value {
            Value::Object(members) => {
                let items = members.iter().map(|(name, item)| {
                    let item = convert(*kind, item)?;
                    Ok(item.map(|item| (name.clone(), item)))
                });
                items
                    .collect::<Result<Option<Map<_, _>>, Fault>>()?
                    .map(Value::Object)
            }
            _ => None,
        },
    })
}

/// Text, or the text of a number or truth value.
pub(crate) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let number = number.as_f64()?;
            let whole = number.fract() == 0.0 && number.abs() < i64::MAX as f64;
            whole.then_some(number as i64)
        }),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn real(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn symbol_of(enumeration: &Enumeration, symbol: String) -> Result<Value, Fault> {
    if enumeration.symbols.contains(&symbol.as_str()) {
        Ok(symbol.into())
    } else {
        let name = enumeration.name;
        Err(Fault::marshall(format!("Invalid value for '{name}'")))
    }
}

/// Reads a register. The markers, if there, may name one that extends the declared one.
fn structure(declared: &'static Register, members: &Map<String, Value>) -> Result<Value, Fault> {
    let register = match (members.get("__type__"), members.get("__module__")) {
        (Some(Value::String(name)), Some(Value::String(module))) => {
            let named = Register::named(name).filter(|_| module == "kurento");
            let named = named.ok_or_else(|| {
                let message = format!("Type {name} does not exist in module {module}");
                Fault::kurento(Fault::UNEXPECTED, message)
            })?;
            if !named.lineage().any(|base| std::ptr::eq(base, declared)) {
                let message = format!("Type {name} is not compatible");
                return Err(Fault::kurento(Fault::UNEXPECTED, message));
            }
            named
        }
        _ => declared,
    };
    let mut read = Map::new();
    for property in register.members() {
        match present(members, property.name) {
            Some(value) => {
                let value = convert(property.kind, value)?;
                let value = value.ok_or_else(|| mistyped(property, "property"))?;
                read.insert(property.name.to_owned(), value);
            }
            None => fill_in(&mut read, property, "property")?,
        }
    }
    Ok(marked(register.name, read))
}

/// A register on the wire: its members and the two markers that clients need.
pub(crate) fn marked(name: &str, mut members: Map<String, Value>) -> Value {
    members.insert("__module__".to_owned(), "kurento".into());
    members.insert("__type__".to_owned(), name.into());
    Value::Object(members)
}

/// As [`marked`], for a literal.
pub(crate) fn register(name: &str, members: Value) -> Value {
    match members {
        Value::Object(members) => marked(name, members),
        _ => json!({ "__module__": "kurento", "__type__": name }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Class, Operation};
    use super::*;

    fn call(class: &str, operation: &str, given: &Value) -> Result<Arguments, Fault> {
        let class = Class::creatable(class).unwrap();
        let Some(Operation::Call(_, method)) = class.operation(operation) else {
            panic!("{operation} is no method");
        };
        method_arguments(method.parameters, given)
    }

    #[test]
    fn refusals_have_the_texts_of_the_real_server() {
        let endpoint = "WebRtcEndpoint";
        let candidate = |candidate: Value| json!({ "candidate": candidate });
        for (operation, given, message) in [
            ("addTag", json!(["x"]), "'key' parameter should be a string"),
            (
                "addTag",
                json!({ "key": {} }),
                "'key' parameter should be a string",
            ),
            ("connect", json!({}), "'sink' parameter should be a string"),
            (
                "connect",
                json!({ "sink": "x", "mediaType": 3 }),
                "Invalid value for 'MediaType'",
            ),
            (
                "isMediaFlowingIn",
                json!({}),
                "'mediaType' parameter should be a string",
            ),
            (
                "addIceCandidate",
                candidate(json!("x")),
                "'candidate' parameter should be a object",
            ),
            (
                "addIceCandidate",
                json!(null),
                "'candidate' parameter should be a object",
            ),
            (
                "addIceCandidate",
                candidate(json!({ "candidate": "" })),
                "'sdpMid' property should be a string",
            ),
            (
                "addIceCandidate",
                candidate(json!({ "__type__": "Nope", "__module__": "kurento" })),
                "Type Nope does not exist in module kurento",
            ),
            (
                "addIceCandidate",
                candidate(json!({ "__type__": "Tag", "__module__": "kurento" })),
                "Type Tag is not compatible",
            ),
            (
                "closeDataChannel",
                json!({ "channelId": "x" }),
                "'channelId' parameter should be a integer",
            ),
            (
                "closeDataChannel",
                json!({ "channelId": 1e10 }),
                "'channelId' parameter should be a integer",
            ),
        ] {
            let refused = call(endpoint, operation, &given).unwrap_err();
            assert_eq!(refused.message, message);
        }
    }

    #[test]
    fn scalars_may_come_as_text() {
        let given = json!({ "label": 5, "ordered": "false", "maxPacketLifeTime": "7" });
        let arguments = call("WebRtcEndpoint", "createDataChannel", &given).unwrap();
        assert_eq!(arguments.text("label"), "5");
        assert!(!arguments.flag("ordered"));
        assert_eq!(arguments.integer("maxPacketLifeTime"), 7);
        assert_eq!(arguments.integer("maxRetransmits"), -1);
    }

    #[test]
    fn optional_arguments_count_as_a_prefix() {
        let given = json!({ "sink": "x", "sinkMediaDescription": "y" });
        let arguments = call("PassThrough", "connect", &given).unwrap();
        assert_eq!(arguments.optional_text("sinkMediaDescription"), None);
    }

    #[test]
    fn defaults_of_registers_are_filled_in() {
        let given = json!({ "options": { "offerToReceiveVideo": false } });
        let arguments = call("WebRtcEndpoint", "generateOffer", &given).unwrap();
        let expected = json!({
            "offerToReceiveAudio": true,
            "offerToReceiveVideo": false,
            "__module__": "kurento",
            "__type__": "OfferOptions",
        });
        assert_eq!(arguments.value("options"), Some(&expected));
    }

    proptest! {
        #[test]
        fn any_arguments_are_read_without_panic(text in "[-0-9.\"a-zA-Z_:,\\[\\]{}]{0,40}") {
            if let Ok(given) = serde_json::from_str::<Value>(&text) {
                for class in Class::all() {
                    for method in class.methods {
                        let _ = method_arguments(method.parameters, &given);
                        for parameter in method.parameters {
                            let given = json!({ parameter.name: given });
                            let _ = method_arguments(method.parameters, &given);
                        }
                    }
                }
            }
        }
    }
}
