//! What classes, events and types exist, as tables.
//!
//! Read [`Class`] first. Lookup, the reading of arguments ([`marshal`]), `describe` and the module
//! descriptors ([`descriptor`]) all work from the tables of [`core`], [`elements`] and [`filters`].
//! Deliberately absent: what any operation does.

pub(crate) mod core;
pub(crate) mod descriptor;
pub(crate) mod elements;
pub(crate) mod enumerations;
pub(crate) mod events;
pub(crate) mod filters;
pub(crate) mod marshal;
pub(crate) mod registers;

use std::fmt;

pub(crate) use self::events::EventType;

/// A unit in which a media server is shipped. Ids and type names say `kurento` for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Module {
    Core,
    Elements,
    Filters,
}

impl Module {
    pub(crate) const ALL: [Self; 3] = [Self::Core, Self::Elements, Self::Filters];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Elements => "elements",
            Self::Filters => "filters",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|module| module.name() == name)
    }

    /// The classes of the module, bases before what derives from them.
    pub(crate) fn classes(self) -> &'static [&'static Class] {
        match self {
            Self::Core => core::CLASSES,
            Self::Elements => elements::CLASSES,
            Self::Filters => filters::CLASSES,
        }
    }

    /// Names of the classes that can be created, in alphabetical order.
    pub(crate) fn factories(self) -> Vec<&'static str> {
        let classes = self.classes().iter();
        let mut names: Vec<_> = classes
            .filter(|class| class.constructor.is_some())
            .map(|class| class.name)
            .collect();
        names.sort_unstable();
        names
    }
}

/// A remote class: its own members, and what it derives from.
pub(crate) struct Class {
    pub(crate) name: &'static str,
    pub(crate) parent: Option<&'static Self>,
    /// `None`: cannot be created.
    pub(crate) constructor: Option<&'static [Parameter]>,
    pub(crate) properties: &'static [Property],
    pub(crate) methods: &'static [Method],
    pub(crate) events: &'static [&'static EventType],
}

/// The value of an object that is read, and perhaps written, by accessors.
pub(crate) struct Property {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) access: Access,
    /// What the property has before it is set, as JSON; `None` if it is computed.
    pub(crate) initial: Option<&'static str>,
    /// Former names, which 6.x clients still use.
    pub(crate) aliases: &'static [&'static str],
}

/// Which accessors a property has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}

/// A method that is no accessor.
pub(crate) struct Method {
    pub(crate) name: &'static str,
    pub(crate) parameters: &'static [Parameter],
    pub(crate) result: Option<Kind>,
}

/// A named argument, or a member of a register.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) need: Need,
}

/// Whether a parameter may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Required,
    /// Left out, it stays absent.
    Optional,
    /// Left out, it has this value, as JSON.
    Default(&'static str),
}

/// The type of a value.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Text,
    /// 32 bits.
    Integer,
    /// 64 bits.
    Long,
    /// 32 bits on the other side.
    Float,
    Double,
    Flag,
    Enumeration(&'static Enumeration),
    Register(&'static Register),
    Object(&'static Class),
    List(&'static Self),
    Map(&'static Self),
}

/// A set of symbols.
#[derive(Debug)]
pub(crate) struct Enumeration {
    pub(crate) name: &'static str,
    pub(crate) symbols: &'static [&'static str],
}

/// A structure that is passed by value.
pub(crate) struct Register {
    pub(crate) name: &'static str,
    pub(crate) extends: Option<&'static Self>,
    pub(crate) properties: &'static [Parameter],
}

/// What the name of an operation stands for.
#[derive(Clone, Copy)]
pub(crate) enum Operation {
    Get(&'static Property),
    Set(&'static Property),
    /// With the class that declares the method, as names repeat.
    Call(&'static Class, &'static Method),
}

impl Class {
    /// The class that `create` makes for a plain or qualified name.
    pub(crate) fn creatable(name: &str) -> Option<&'static Self> {
        let plain = name.strip_prefix("kurento.").unwrap_or(name);
        Self::all().find(|class| class.name == plain && class.constructor.is_some())
    }

    pub(crate) fn all() -> impl Iterator<Item = &'static Self> {
        let modules = Module::ALL.into_iter();
        modules.flat_map(|module| module.classes().iter().copied())
    }

    /// The class itself, then what it derives from, nearest first.
    pub(crate) fn lineage(&'static self) -> impl Iterator<Item = &'static Self> {
        std::iter::successors(Some(self), |class| class.parent)
    }

    pub(crate) fn is(&'static self, base: &Self) -> bool {
        self.lineage().any(|class| std::ptr::eq(class, base))
    }

    /// Finds a method or accessor, the most derived first.
    pub(crate) fn operation(&'static self, name: &str) -> Option<Operation> {
        self.lineage().find_map(|class| {
            let method = class.methods.iter().find(|method| method.name == name);
            let call = method.map(|method| Operation::Call(class, method));
            call.or_else(|| {
                let properties = class.properties.iter();
                let mut accessors = properties.filter_map(|property| property.accessor(name));
                accessors.next()
            })
        })
    }

    /// Finds an event by any of its names; says under which name it is to be sent.
    pub(crate) fn event(&'static self, name: &str) -> Option<(&'static EventType, &'static str)> {
        let mut types = self.lineage().flat_map(|class| class.events.iter());
        types.find_map(|event| Some((*event, event.names().find(|known| *known == name)?)))
    }
}

impl Property {
    fn accessor(&'static self, operation: &str) -> Option<Operation> {
        let read = operation.strip_prefix("get");
        if read.is_some_and(|name| self.is_accessed_as(name)) {
            return Some(Operation::Get(self));
        }
        let written = operation.strip_prefix("set")?;
        let writable = self.access == Access::ReadWrite && self.is_accessed_as(written);
        writable.then_some(Operation::Set(self))
    }

    /// `Mtu` accesses `mtu`.
    fn is_accessed_as(&self, accessed: &str) -> bool {
        let mut names = std::iter::once(&self.name).chain(self.aliases);
        names.any(|name| {
            let (mut own, mut other) = (name.chars(), accessed.chars());
            let first = own.next().map(|first| first.to_ascii_uppercase());
            first == other.next() && own.eq(other)
        })
    }
}

impl Register {
    /// The register of that name, be it one that clients never send.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        let all = registers::ALL.iter().copied();
        all.into_iter().find(|register| register.name == name)
    }

    pub(crate) fn lineage(&'static self) -> impl Iterator<Item = &'static Self> {
        std::iter::successors(Some(self), |register| register.extends)
    }

    /// Every member, inherited ones first.
    pub(crate) fn members(&'static self) -> impl Iterator<Item = &'static Parameter> {
        let mut lineage: Vec<_> = self.lineage().collect();
        lineage.reverse();
        lineage
            .into_iter()
            .flat_map(|register| register.properties.iter())
    }
}

impl fmt::Debug for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Shorthands in which the tables are written.
pub(crate) mod table {
    use super::{Access, Class, EventType, Kind, Method, Need, Parameter, Property};

    pub(crate) const fn required(name: &'static str, kind: Kind) -> Parameter {
        let need = Need::Required;
        Parameter { name, kind, need }
    }

    pub(crate) const fn optional(name: &'static str, kind: Kind) -> Parameter {
        let need = Need::Optional;
        Parameter { name, kind, need }
    }

    pub(crate) const fn default(name: &'static str, kind: Kind, value: &'static str) -> Parameter {
        let need = Need::Default(value);
        Parameter { name, kind, need }
    }

    pub(crate) const fn method(
        name: &'static str,
        parameters: &'static [Parameter],
        result: Option<Kind>,
    ) -> Method {
        Method {
            name,
            parameters,
            result,
        }
    }

    /// A property that is computed whenever it is read.
    pub(crate) const fn computed(name: &'static str, kind: Kind) -> Property {
        Property {
            name,
            kind,
            access: Access::Read,
            initial: None,
            aliases: &[],
        }
    }

    /// A property that is stored as it was set.
    pub(crate) const fn stored(name: &'static str, kind: Kind, initial: &'static str) -> Property {
        aliased(name, kind, initial, &[])
    }

    pub(crate) const fn aliased(
        name: &'static str,
        kind: Kind,
        initial: &'static str,
        aliases: &'static [&'static str],
    ) -> Property {
        Property {
            name,
            kind,
            access: Access::ReadWrite,
            initial: Some(initial),
            aliases,
        }
    }

    /// A property that the constructor sets.
    pub(crate) const fn fixed(name: &'static str, kind: Kind) -> Property {
        Property {
            name,
            kind,
            access: Access::Read,
            initial: Some("null"),
            aliases: &[],
        }
    }

    /// A class without members of its own.
    pub(crate) const fn class(name: &'static str, parent: &'static Class) -> Class {
        Class {
            name,
            parent: Some(parent),
            constructor: None,
            properties: &[],
            methods: &[],
            events: NO_EVENTS,
        }
    }

    const NO_EVENTS: &[&EventType] = &[];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_found_along_the_lineage() {
        let endpoint = Class::creatable("kurento.WebRtcEndpoint").unwrap();
        for (operation, found) in [
            ("getICECandidatePairs", true),
            ("getMaxVideoSendBandwidth", true),
            ("setMaxVideoSendBandwidth", true),
            ("getName", true),
            ("getChilds", true),
            ("setMaxOuputBitrate", true),
            ("setOutputBitrate", true),
            ("getExternalAddress", true),
            ("setId", false),
            ("setIceConnectionState", false),
            ("getmtu", false),
            ("play", false),
            ("get", false),
            ("", false),
        ] {
            assert_eq!(
                endpoint.operation(operation).is_some(),
                found,
                "{operation}"
            );
        }
    }

    #[test]
    fn events_are_found_under_the_names_of_both_generations() {
        let endpoint = Class::creatable("WebRtcEndpoint").unwrap();
        for name in ["IceCandidateFound", "OnIceCandidate"] {
            let (event, sent_as) = endpoint.event(name).unwrap();
            assert_eq!((event.name, sent_as), ("IceCandidateFound", name));
        }
        let pass_through = Class::creatable("PassThrough").unwrap();
        assert!(pass_through.event("IceCandidateFound").is_none());
        assert!(pass_through.event("Error").is_some());
    }

    #[test]
    fn abstract_classes_cannot_be_created() {
        for name in ["MediaElement", "ServerManager", "Hub", "Filter", "", "nope"] {
            assert!(Class::creatable(name).is_none(), "{name}");
        }
    }

    #[test]
    fn initial_values_and_defaults_are_json() {
        for class in Class::all() {
            let initial = class.properties.iter().filter_map(|p| p.initial);
            let parameters = class.constructor.unwrap_or_default().iter();
            let methods = class.methods.iter().flat_map(|m| m.parameters.iter());
            let defaults = parameters.chain(methods).filter_map(|p| match p.need {
                Need::Default(text) => Some(text),
                _ => None,
            });
            for text in initial.chain(defaults) {
                assert!(serde_json::from_str::<serde_json::Value>(text).is_ok());
            }
        }
    }
}
