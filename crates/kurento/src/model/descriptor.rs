//! Descriptors of modules, which `getKmd` gives to tools that generate clients.

use serde_json::{Value, json};

use super::{
    Access, Class, Enumeration, EventType, Kind, Method, Module, Need, Parameter, Property,
    Register, enumerations, registers,
};

/// The descriptor of a module, as text.
pub(crate) fn of(module: Module, version: &str) -> String {
    let classes = module.classes();
    let events = classes.iter().flat_map(|class| class.events.iter());
    let (enumerations, registers) = match module {
        Module::Core => (enumerations::CORE, registers::ALL),
        Module::Elements => (enumerations::ELEMENTS, &[][..]),
        Module::Filters => (&[][..], &[][..]),
    };
    let mut types: Vec<_> = enumerations.iter().map(|item| enumeration(item)).collect();
    types.extend(registers.iter().map(|item| register(item)));
    let descriptor = json!({
        "name": module.name(),
        "version": version,
        "code": { "kmd": { "java": { "packageName": "org.kurento.client" } } },
        "remoteClasses": classes.iter().map(|item| class(item)).collect::<Vec<_>>(),
        "complexTypes": types,
        "events": events.map(|item| event(item)).collect::<Vec<_>>(),
    });
    descriptor.to_string()
}

fn class(class: &Class) -> Value {
    let mut value = json!({
        "name": class.name,
        "properties": class.properties.iter().map(property).collect::<Vec<_>>(),
        "methods": class.methods.iter().map(method).collect::<Vec<_>>(),
        "events": class.events.iter().map(|event| event.name).collect::<Vec<_>>(),
    });
    if let Some(parent) = class.parent {
        value["extends"] = parent.name.into();
    }
    match class.constructor {
        Some(parameters) => {
            let parameters: Vec<_> = parameters.iter().map(parameter).collect();
            value["constructor"] = json!({ "params": parameters });
        }
        None => value["abstract"] = true.into(),
    }
    value
}

fn property(property: &Property) -> Value {
    let mut value = json!({ "name": property.name, "type": type_name(property.kind) });
    if property.access == Access::Read {
        value["readOnly"] = true.into();
    }
    value
}

fn method(method: &Method) -> Value {
    let mut value = json!({
        "name": method.name,
        "params": method.parameters.iter().map(parameter).collect::<Vec<_>>(),
    });
    if let Some(kind) = method.result {
        value["return"] = json!({ "type": type_name(kind) });
    }
    value
}

fn parameter(parameter: &Parameter) -> Value {
    let mut value = json!({ "name": parameter.name, "type": type_name(parameter.kind) });
    match parameter.need {
        Need::Required => {}
        Need::Optional => value["optional"] = true.into(),
        Need::Default(text) => {
            value["optional"] = true.into();
            value["defaultValue"] = super::marshal::constant(text);
        }
    }
    value
}

fn enumeration(enumeration: &Enumeration) -> Value {
    json!({ "typeFormat": "ENUM", "name": enumeration.name, "values": enumeration.symbols })
}

fn register(register: &Register) -> Value {
    let properties: Vec<_> = register.properties.iter().map(parameter).collect();
    let mut value =
        json!({ "typeFormat": "REGISTER", "name": register.name, "properties": properties });
    if let Some(base) = register.extends {
        value["extends"] = base.name.into();
    }
    value
}

fn event(event: &EventType) -> Value {
    let base = if event.names_itself {
        "Media"
    } else {
        "RaiseBase"
    };
    let properties: Vec<_> = event.properties.iter().map(parameter).collect();
    json!({ "name": event.name, "extends": base, "properties": properties })
}

fn type_name(kind: Kind) -> String {
    match kind {
        Kind::Text => "String".to_owned(),
        Kind::Integer => "int".to_owned(),
        Kind::Long => "int64".to_owned(),
        Kind::Float => "float".to_owned(),
        Kind::Double => "double".to_owned(),
        Kind::Flag => "boolean".to_owned(),
        Kind::Enumeration(enumeration) => enumeration.name.to_owned(),
        Kind::Register(register) => register.name.to_owned(),
        Kind::Object(class) => class.name.to_owned(),
        Kind::List(kind) => format!("{}[]", type_name(*kind)),
        Kind::Map(kind) => format!("{}<>", type_name(*kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_name_every_class() {
        for module in Module::ALL {
            let text = of(module, "7.3.0");
            let descriptor: Value = serde_json::from_str(&text).unwrap();
            let classes = descriptor["remoteClasses"].as_array().unwrap();
            assert_eq!(classes.len(), module.classes().len());
        }
    }
}
