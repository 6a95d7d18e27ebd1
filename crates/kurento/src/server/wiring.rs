//! Connections between elements, and which media flow over them.

use std::collections::{BTreeMap, BTreeSet};

use media::MediaKind;
use serde_json::{Value, json};

use super::Server;
use super::objects::{Object, flow_index};
use super::requests::{Answer, Outcome, Step};
use super::work::{After, Call, ObjectKey};
use crate::fault::Fault;
use crate::model::marshal::{Arguments, register};
use crate::model::{Class, EventType, core, elements, events};

/// Connections into one element. Media flows over three of them.
const CONNECTIONS_PER_SINK_MAX: usize = 64;
/// Connections out of one element: three to each of as many elements as a pipeline may have. Too low: a large broadcast
/// is refused. Too high: listing them holds up everybody.
const CONNECTIONS_PER_SOURCE_MAX: usize = 60_000;
/// Bytes of the name of a pad; real ones have some ten. Too low: odd clients are refused. Too high: thousands of
/// connections keep it, and one request lists them all.
const PAD_BYTES_MAX: usize = 64;
/// The name of the one pad of each kind that carries media. Others can be connected, as on the real
/// server, where they wait for a pad that never comes.
const DEFAULT: &str = "default";

/// One connection of one kind.
#[derive(Clone, Debug)]
pub(super) struct Link {
    source: ObjectKey,
    sink: ObjectKey,
    kind: MediaKind,
    source_description: String,
    sink_description: String,
}

type Place = (ObjectKey, MediaKind, String);

/// Every connection: a place has one source, a source feeds any number of places.
#[derive(Debug, Default)]
pub(super) struct Wires {
    sources: BTreeMap<Place, (ObjectKey, String)>,
    sinks: BTreeMap<ObjectKey, BTreeSet<Place>>,
    /// Inside of hubs: which port feeds a port.
    pub(super) routes: BTreeMap<(ObjectKey, MediaKind), ObjectKey>,
    /// Inside of mixers: whose sounds a port was connected to, in that order. Some may be gone.
    pub(super) sounds: BTreeMap<ObjectKey, Vec<ObjectKey>>,
}

impl Wires {
    /// Connects; returns what was there before.
    fn insert(&mut self, link: &Link) -> Option<Link> {
        let former = self.remove(link);
        let place = link.place();
        let source = (link.source, link.source_description.clone());
        self.sources.insert(place.clone(), source);
        self.sinks.entry(link.source).or_default().insert(place);
        former
    }

    /// Empties the place of a link; returns what was there.
    fn remove(&mut self, link: &Link) -> Option<Link> {
        let place = link.place();
        let (source, source_description) = self.sources.remove(&place)?;
        if let Some(places) = self.sinks.get_mut(&source) {
            places.remove(&place);
            if places.is_empty() {
                self.sinks.remove(&source);
            }
        }
        Some(Link {
            source,
            source_description,
            ..link.clone()
        })
    }

    fn links_into(&self, sink: ObjectKey) -> Vec<Link> {
        let first = (sink, MediaKind::Audio, String::new());
        let from_first = self.sources.range(first..);
        let own = from_first.take_while(|((key, ..), _)| *key == sink);
        own.map(|(place, source)| Link::new(place, source))
            .collect()
    }

    /// Where media of an element goes.
    pub(super) fn sinks_of(&self, source: ObjectKey) -> BTreeSet<ObjectKey> {
        let links = self.links_from(source).into_iter();
        links
            .filter(Link::carries_media)
            .map(|link| link.sink)
            .collect()
    }

    fn links_from(&self, source: ObjectKey) -> Vec<Link> {
        let places = self.sinks.get(&source).into_iter().flatten();
        let links = places.filter_map(|place| {
            let source = self.sources.get(place)?;
            Some(Link::new(place, source))
        });
        links.collect()
    }

    /// What an element is connected to, once for each connection.
    pub(super) fn fed_by(
        &self,
        source: ObjectKey,
    ) -> impl Iterator<Item = (ObjectKey, MediaKind)> + '_ {
        let places = self.sinks.get(&source).into_iter().flatten();
        places.map(|(sink, kind, _)| (*sink, *kind))
    }
}

impl Link {
    fn new(place: &Place, source: &(ObjectKey, String)) -> Self {
        let (sink, kind, sink_description) = place.clone();
        let (source, source_description) = source.clone();
        Self {
            source,
            sink,
            kind,
            source_description,
            sink_description,
        }
    }

    fn place(&self) -> Place {
        (self.sink, self.kind, self.sink_description.clone())
    }

    fn carries_media(&self) -> bool {
        self.source_description == DEFAULT && self.sink_description == DEFAULT
    }
}

impl Server {
    pub(super) fn connect_elements(
        &mut self,
        source: ObjectKey,
        arguments: &Arguments,
    ) -> Result<Step, Fault> {
        let (links, kind) = self.read_links(source, arguments)?;
        let sink = links[0].sink;
        let (from, to) = (self.objects.known(source)?, self.objects.known(sink)?);
        if from.pipeline != to.pipeline {
            let message = "Media elements do not share pipeline";
            return Err(Fault::kurento(Fault::CONNECT, message));
        }
        let wires = &self.objects.wires;
        if wires.links_into(sink).len() >= CONNECTIONS_PER_SINK_MAX {
            return Err(Fault::full("connections", CONNECTIONS_PER_SINK_MAX));
        }
        if wires.sinks.get(&source).map_or(0, BTreeSet::len) >= CONNECTIONS_PER_SOURCE_MAX {
            return Err(Fault::full("connections", CONNECTIONS_PER_SOURCE_MAX));
        }
        match (from.output(), to.input()) {
            (Some(source), Some(sink)) if links[0].carries_media() => Ok(Step::Media {
                calls: vec![Call::Connect {
                    source: source.clone(),
                    sink: sink.clone(),
                    kind,
                }],
                after: After::Connected(links),
            }),
            _ => Ok(Step::Done(self.connected_elements(links))),
        }
    }

    pub(super) fn disconnect_elements(
        &mut self,
        source: ObjectKey,
        arguments: &Arguments,
    ) -> Result<Step, Fault> {
        let (links, kind) = self.read_links(source, arguments)?;
        let (from, to) = (
            self.objects.known(source)?,
            self.objects.known(links[0].sink)?,
        );
        match (from.output(), to.input()) {
            (Some(source), Some(sink))
                if links[0].carries_media() && from.pipeline == to.pipeline =>
            {
                Ok(Step::Media {
                    calls: vec![Call::Disconnect {
                        source: source.clone(),
                        sink: sink.clone(),
                        kind,
                    }],
                    after: After::Disconnected(links),
                })
            }
            _ => Ok(Step::Done(self.disconnected_elements(links))),
        }
    }

    /// One link for each kind that is meant, at least one.
    fn read_links(
        &self,
        source: ObjectKey,
        arguments: &Arguments,
    ) -> Result<(Vec<Link>, Option<MediaKind>), Fault> {
        let sink = arguments.text("sink");
        let sink = self.objects.find_as("sink", sink, &core::MEDIA_ELEMENT)?;
        let description = |name| {
            let text = arguments.optional_text(name).unwrap_or(DEFAULT);
            if text.len() > PAD_BYTES_MAX {
                return Err(super::lifecycle::too_long(name));
            }
            Ok(text.to_owned())
        };
        let kind = kind_of(arguments);
        let link = Link {
            source,
            sink,
            kind: MediaKind::Audio,
            source_description: description("sourceMediaDescription")?,
            sink_description: description("sinkMediaDescription")?,
        };
        let kinds = kind.map_or_else(|| MediaKind::ALL.to_vec(), |kind| vec![kind]);
        let links = kinds.into_iter().map(|kind| Link {
            kind,
            ..link.clone()
        });
        Ok((links.collect(), kind))
    }

    pub(super) fn connected_elements(&mut self, links: Vec<Link>) -> Answer {
        let mut flows = false;
        for link in &links {
            let (source, sink) = (self.objects.get(link.source), self.objects.get(link.sink));
            let (Some(source), Some(sink)) = (source, sink) else {
                continue;
            };
            flows |= source.flows.any() || sink.flows.any();
            if let Some(former) = self.objects.wires.insert(link) {
                self.emit_link(&former, &events::ELEMENT_DISCONNECTED);
            }
            self.emit_link(link, &events::ELEMENT_CONNECTED);
        }
        if let Some(link) = links.first() {
            let mixers = [&elements::COMPOSITE, &elements::ALPHA_BLENDING];
            self.complain_about_mixing(link.sink, &mixers, "");
            if flows {
                self.refresh_flows_around(link.sink);
            }
        }
        Ok(Outcome::Value(Value::Null))
    }

    /// Tells once that a hub would have to mix, if it is one of these, and what happens instead.
    pub(super) fn complain_about_mixing(
        &mut self,
        port: ObjectKey,
        mixers: &[&'static Class],
        instead: &str,
    ) {
        let Some(object) = self.objects.get_mut(port) else {
            return;
        };
        let (parent, complained) = (object.parent, object.complained);
        let hub = parent.and_then(|parent| self.objects.get(parent));
        let mixes = hub.is_some_and(|hub| mixers.iter().any(|mixer| hub.class.is(mixer)));
        if !mixes || complained {
            return;
        }
        let class = hub.map_or("", |hub| hub.class.name);
        let description = format!("{class} mixing requires transcoding, not available{instead}");
        if let Some(object) = self.objects.get_mut(port) {
            object.complained = true;
        }
        self.emit_error(port, "UNEXPECTED_ELEMENT_ERROR", 1, &description);
    }

    pub(super) fn disconnected_elements(&mut self, links: Vec<Link>) -> Answer {
        for link in &links {
            let place = link.place();
            let wired = self.objects.wires.sources.get(&place);
            if wired.is_some_and(|(source, _)| *source == link.source) {
                self.objects.wires.remove(link);
            }
            self.emit_link(link, &events::ELEMENT_DISCONNECTED);
        }
        if let Some(link) = links.first() {
            let sink = self.objects.get(link.sink);
            if sink.is_some_and(|sink| sink.flows.any()) {
                self.refresh_flows_around(link.sink);
            }
        }
        Ok(Outcome::Value(Value::Null))
    }

    /// Cuts everything around an object that is released. Returns the ports of hubs that heard it.
    pub(super) fn unwire(&mut self, object: ObjectKey) -> Vec<ObjectKey> {
        let wires = &mut self.objects.wires;
        let mut links = wires.links_into(object);
        links.extend(wires.links_from(object));
        let mut heard_by = Vec::new();
        wires.routes.retain(|(port, kind), source| {
            if *source == object && *kind == MediaKind::Audio {
                heard_by.push(*port);
            }
            *port != object && *source != object
        });
        wires.sounds.remove(&object);
        for link in links {
            // A loop appears in both lists.
            if self.objects.wires.remove(&link).is_some() {
                self.emit_link(&link, &events::ELEMENT_DISCONNECTED);
            }
        }
        heard_by
    }

    fn emit_link(&mut self, link: &Link, event: &'static EventType) {
        let own = json!({
            "sink": self.objects.id(link.sink),
            "mediaType": kind_name(link.kind),
            "sourceMediaDescription": link.source_description,
            "sinkMediaDescription": link.sink_description,
        });
        self.emit(link.source, event, own);
    }

    /// The connections into an element, or those out of it.
    pub(super) fn connections_of(
        &self,
        object: ObjectKey,
        into: bool,
        arguments: &Arguments,
    ) -> Value {
        let links = if into {
            self.objects.wires.links_into(object)
        } else {
            self.objects.wires.links_from(object)
        };
        let (kind, description) = (kind_of(arguments), arguments.optional_text("description"));
        let meant = links.into_iter().filter(|link| {
            let own = if into {
                &link.sink_description
            } else {
                &link.source_description
            };
            kind.is_none_or(|kind| kind == link.kind)
                && description.is_none_or(|description| description == own)
        });
        let values = meant.map(|link| {
            let members = json!({
                "source": self.objects.id(link.source),
                "sink": self.objects.id(link.sink),
                "type": kind_name(link.kind),
                "sourceDescription": link.source_description,
                "sinkDescription": link.sink_description,
            });
            register("ElementConnectionData", members)
        });
        values.collect()
    }

    pub(super) fn refresh_flows_around(&mut self, object: ObjectKey) {
        if let Some(pipeline) = self.objects.get(object).and_then(|object| object.pipeline) {
            self.refresh_flows(pipeline);
        }
    }

    /// Finds out where media flow in a pipeline, and tells what changed.
    pub(super) fn refresh_flows(&mut self, pipeline: ObjectKey) {
        let members = self.objects.subtree(pipeline);
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let (into, out) = self.flows(&members, kind);
            for key in &members {
                self.note_flow(*key, kind, into.contains(key), out.contains(key));
            }
        }
    }

    /// Elements that media come into, and those that media come out of.
    fn flows(
        &self,
        members: &[ObjectKey],
        kind: MediaKind,
    ) -> (BTreeSet<ObjectKey>, BTreeSet<ObjectKey>) {
        let receives = |key: &&ObjectKey| {
            let object = self.objects.get(**key);
            let index = flow_index(kind);
            object
                .zip(index)
                .is_some_and(|(object, index)| object.receives[index])
        };
        let mut open: Vec<_> = members.iter().filter(receives).copied().collect();
        let (mut into, mut out) = (BTreeSet::new(), BTreeSet::new());
        while let Some(key) = open.pop() {
            if !out.insert(key) {
                continue;
            }
            for link in self.objects.wires.links_from(key) {
                if link.kind != kind || !link.carries_media() || !into.insert(link.sink) {
                    continue;
                }
                let routes = self.objects.wires.routes.iter();
                let routed =
                    routes.filter(|((_, routed), source)| *routed == kind && **source == link.sink);
                open.extend(routed.map(|((port, _), _)| *port));
                if self
                    .objects
                    .get(link.sink)
                    .is_some_and(Object::passes_through)
                {
                    open.push(link.sink);
                }
            }
        }
        (into, out)
    }

    fn note_flow(&mut self, key: ObjectKey, kind: MediaKind, into: bool, out: bool) {
        let (Some(index), Some(object)) = (flow_index(kind), self.objects.get_mut(key)) else {
            return;
        };
        let flows = &mut object.flows;
        let in_changed = std::mem::replace(&mut flows.into[index], into) != into;
        let out_changed = std::mem::replace(&mut flows.out[index], out) != out;
        let first_out = out && !flows.announced[index];
        flows.announced[index] |= out;
        let complains = into && object.class.is(&core::FILTER) && !object.complained;
        object.complained |= complains;
        let class = object.class.name;
        let kind = kind_name(kind);
        let flow = |flowing: bool| {
            let state = if flowing { "FLOWING" } else { "NOT_FLOWING" };
            json!({ "state": state, "padName": DEFAULT, "mediaType": kind })
        };
        if in_changed {
            self.emit(key, &events::FLOW_IN_CHANGED, flow(into));
        }
        if out_changed {
            self.emit(key, &events::FLOW_OUT_CHANGED, flow(out));
        }
        if first_out {
            let own = json!({ "state": "NOT_TRANSCODING", "binName": DEFAULT, "mediaType": kind });
            self.emit(key, &events::TRANSCODING_CHANGED, own);
        }
        self.note_activity(key);
        if complains {
            let description =
                format!("{class} needs decoded media, not available; passing through");
            self.emit_error(key, "UNEXPECTED_ELEMENT_ERROR", 1, &description);
        }
    }
}

impl Object {
    fn passes_through(&self) -> bool {
        self.class.is(&core::PASS_THROUGH) || self.class.is(&core::FILTER)
    }
}

/// The kind that `mediaType` names, if it was sent.
pub(super) fn kind_of(arguments: &Arguments) -> Option<MediaKind> {
    kind_named(arguments.optional_text("mediaType")?)
}

pub(super) fn kind_named(name: &str) -> Option<MediaKind> {
    MediaKind::ALL
        .into_iter()
        .find(|kind| kind_name(*kind) == name)
}

pub(super) fn kind_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "AUDIO",
        MediaKind::Video => "VIDEO",
        MediaKind::Data => "DATA",
    }
}
