//! Which element feeds which: the media graph of every pipeline, resolved into routes.
//!
//! [`Graph`] holds elements and connections by kind of media. Pass-through elements exist only here:
//! [`Graph::receivers`] and [`Graph::origin`] look through them, so they cost nothing per packet.
//! Deliberately absent: packets, transports, and what an endpoint negotiated.

use media::{ElementId, Error, EventSender, MediaKind, PipelineId};
use rustc_hash::FxHashMap;
use slab::Slab;

/// Elements of one pipeline, without those that lead from and to other workers: of these there are as many as
/// connections want. Too low: a large room with filters does not fit. Too high: one client of
/// the media server can exhaust memory.
const ELEMENTS_PER_PIPELINE_MAX: usize = 20_000;

/// Pass-through elements in a row. Too low: long filter chains go silent. Too high: a cycle built on
/// purpose costs more per connect.
const CHAIN_MAX: usize = 64;

/// Handle of an element; valid until it is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ElementKey(usize);

/// What an element does with media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Talks to a peer: media enters and leaves the graph here.
    Endpoint,
    /// Sends on what it gets.
    PassThrough,
    /// Stands in for an element of another worker: its media enters the graph here.
    Mirror,
    /// Leads to another worker: media leaves the graph here.
    Trunk,
}

impl Role {
    /// True for what somebody asked for.
    fn is_own(self) -> bool {
        matches!(self, Self::Endpoint | Self::PassThrough)
    }
}

/// The elements of one pipeline.
#[derive(Debug, Default)]
struct Siblings {
    /// What somebody asked for.
    own: Vec<ElementKey>,
    /// Mirrors and trunks.
    relays: Vec<ElementKey>,
}

impl Siblings {
    fn list(&mut self, role: Role) -> &mut Vec<ElementKey> {
        match role.is_own() {
            true => &mut self.own,
            false => &mut self.relays,
        }
    }
}

/// One element.
#[derive(Debug)]
pub(super) struct Element {
    pub(super) id: ElementId,
    pub(super) pipeline: PipelineId,
    pub(super) role: Role,
    pub(super) events: EventSender,
    /// Who feeds this element, by kind.
    feeders: [Option<ElementKey>; 3],
    /// Whom this element feeds, by kind.
    sinks: [Vec<ElementKey>; 3],
}

/// Every pipeline of one worker.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// With the elements of each.
    pipelines: FxHashMap<PipelineId, Siblings>,
    elements: Slab<Element>,
    by_id: FxHashMap<ElementId, ElementKey>,
}

fn slot(kind: MediaKind) -> usize {
    kind as usize
}

impl Graph {
    pub(super) fn add_pipeline(&mut self, id: PipelineId) {
        self.pipelines.insert(id, Siblings::default());
    }

    pub(super) fn add_element(
        &mut self,
        id: ElementId,
        pipeline: &PipelineId,
        role: Role,
        events: EventSender,
    ) -> Result<ElementKey, Error> {
        let siblings = self
            .pipelines
            .get_mut(pipeline)
            .ok_or_else(|| Error::PipelineNotFound(pipeline.clone()))?;
        if role.is_own() && siblings.own.len() >= ELEMENTS_PER_PIPELINE_MAX {
            return Err(Error::Full(format!(
                "a pipeline holds at most {ELEMENTS_PER_PIPELINE_MAX} elements"
            )));
        }
        let key = ElementKey(self.elements.insert(Element {
            id: id.clone(),
            pipeline: pipeline.clone(),
            role,
            events,
            feeders: [None; 3],
            sinks: [Vec::new(), Vec::new(), Vec::new()],
        }));
        siblings.list(role).push(key);
        self.by_id.insert(id, key);
        Ok(key)
    }

    pub(super) fn key(&self, id: &ElementId) -> Result<ElementKey, Error> {
        self.by_id
            .get(id)
            .copied()
            .ok_or_else(|| Error::ElementNotFound(id.clone()))
    }

    pub(super) fn element(&self, key: ElementKey) -> &Element {
        &self.elements[key.0]
    }

    #[cfg(test)]
    pub(super) fn element_count(&self) -> usize {
        self.elements.len()
    }

    /// Elements that somebody asked for.
    pub(super) fn own_elements(&self) -> usize {
        let elements = self.elements.iter();
        elements.filter(|(_, it)| it.role.is_own()).count()
    }

    pub(super) fn has_pipeline(&self, id: &PipelineId) -> bool {
        self.pipelines.contains_key(id)
    }

    /// Who feeds an element.
    pub(super) fn feeder(&self, key: ElementKey, kind: MediaKind) -> Option<ElementKey> {
        self.element(key).feeders[slot(kind)]
    }

    /// True if an element feeds anybody.
    pub(super) fn has_sinks(&self, key: ElementKey, kind: MediaKind) -> bool {
        !self.element(key).sinks[slot(kind)].is_empty()
    }

    /// Those of a role whom an element feeds itself.
    pub(super) fn sinks_of(&self, key: ElementKey, kind: MediaKind, role: Role) -> Vec<ElementKey> {
        let sinks = self.element(key).sinks[slot(kind)].iter().copied();
        sinks
            .filter(|sink| self.element(*sink).role == role)
            .collect()
    }

    /// Has an element feed nobody.
    pub(super) fn cut_sinks(&mut self, key: ElementKey, kind: MediaKind) {
        for sink in std::mem::take(&mut self.elements[key.0].sinks[slot(kind)]) {
            self.elements[sink.0].feeders[slot(kind)] = None;
        }
    }

    /// Takes the elements of a pipeline off its list, to remove them one by one; none if it does not exist.
    pub(super) fn take_elements(&mut self, pipeline: &PipelineId) -> Vec<ElementKey> {
        let siblings = self.pipelines.get_mut(pipeline);
        let Siblings { mut own, relays } = siblings.map(std::mem::take).unwrap_or_default();
        own.extend(relays);
        own
    }

    /// Feeds `sink` from `source`, replacing what fed it before.
    pub(super) fn connect(
        &mut self,
        source: ElementKey,
        sink: ElementKey,
        kind: MediaKind,
    ) -> Result<(), Error> {
        if self.element(source).pipeline != self.element(sink).pipeline {
            return Err(Error::DifferentPipelines);
        }
        self.cut_feeder(sink, kind);
        self.elements[sink.0].feeders[slot(kind)] = Some(source);
        self.elements[source.0].sinks[slot(kind)].push(sink);
        Ok(())
    }

    /// Cuts `sink` off `source`, if `source` feeds it.
    pub(super) fn disconnect(&mut self, source: ElementKey, sink: ElementKey, kind: MediaKind) {
        if self.element(sink).feeders[slot(kind)] == Some(source) {
            self.cut_feeder(sink, kind);
        }
    }

    /// Removes an element with its connections.
    pub(super) fn remove_element(&mut self, key: ElementKey) {
        for kind in MediaKind::ALL {
            self.cut_feeder(key, kind);
            self.cut_sinks(key, kind);
        }
        let element = self.elements.remove(key.0);
        self.by_id.remove(&element.id);
        if let Some(siblings) = self.pipelines.get_mut(&element.pipeline) {
            siblings.list(element.role).retain(|other| *other != key);
        }
    }

    /// Removes a pipeline, whose elements are gone already.
    pub(super) fn remove_pipeline(&mut self, id: &PipelineId) {
        self.pipelines.remove(id);
    }

    pub(super) fn contains(&self, key: ElementKey) -> bool {
        self.elements.contains(key.0)
    }

    /// All elements.
    pub(super) fn keys(&self) -> impl Iterator<Item = ElementKey> {
        self.elements.iter().map(|(key, _)| ElementKey(key))
    }

    /// The elements of a pipeline by what the elements say themselves.
    pub(super) fn all_of(&self, pipeline: &PipelineId) -> Vec<ElementKey> {
        let keys = self.keys();
        keys.filter(|key| self.element(*key).pipeline == *pipeline)
            .collect()
    }

    /// Removes elements of which nothing else is believed, and derives what the graph knows of the others from
    /// the pipeline and the feeders that each of them has.
    pub(super) fn expel(&mut self, doomed: &[ElementKey]) {
        for key in doomed {
            self.elements.try_remove(key.0);
        }
        let pipelines = &mut self.pipelines;
        self.elements
            .retain(|_, element| pipelines.contains_key(&element.pipeline));
        for siblings in pipelines.values_mut() {
            *siblings = Siblings::default();
        }
        self.by_id.clear();
        let mut edges = Vec::new();
        for (key, element) in &self.elements {
            let key = ElementKey(key);
            self.by_id.insert(element.id.clone(), key);
            if let Some(siblings) = pipelines.get_mut(&element.pipeline) {
                siblings.list(element.role).push(key);
            }
            for kind in MediaKind::ALL {
                let feeder = element.feeders[slot(kind)].filter(|feeder| {
                    let feeder = self.elements.get(feeder.0);
                    feeder.is_some_and(|feeder| feeder.pipeline == element.pipeline)
                });
                edges.push((key, slot(kind), feeder));
            }
        }
        for (_, element) in &mut self.elements {
            element.sinks.iter_mut().for_each(Vec::clear);
        }
        for (sink, kind, feeder) in edges {
            self.elements[sink.0].feeders[kind] = feeder;
            if let Some(feeder) = feeder {
                self.elements[feeder.0].sinks[kind].push(sink);
            }
        }
    }

    /// The endpoints and trunks that get what `origin` takes in, through any number of pass-through elements.
    pub(super) fn receivers(&self, origin: ElementKey, kind: MediaKind) -> Vec<ElementKey> {
        let mut found = Vec::new();
        let mut front = vec![(origin, 0)];
        while let Some((key, depth)) = front.pop() {
            for &sink in &self.element(key).sinks[slot(kind)] {
                match self.element(sink).role {
                    Role::Endpoint | Role::Trunk => found.push(sink),
                    Role::PassThrough if depth < CHAIN_MAX => front.push((sink, depth + 1)),
                    Role::PassThrough | Role::Mirror => {}
                }
            }
        }
        found
    }

    /// The endpoint, or its stand-in, whose incoming media reaches `sink`, if any.
    pub(super) fn origin(&self, sink: ElementKey, kind: MediaKind) -> Option<ElementKey> {
        let mut key = sink;
        for _ in 0..=CHAIN_MAX {
            key = self.element(key).feeders[slot(kind)]?;
            if matches!(self.element(key).role, Role::Endpoint | Role::Mirror) {
                return Some(key);
            }
        }
        None
    }

    /// The endpoints whose input may change when the input of `key` does: itself, or those behind it.
    pub(super) fn affected(&self, key: ElementKey, kind: MediaKind) -> Vec<ElementKey> {
        match self.element(key).role {
            Role::Endpoint | Role::Trunk => vec![key],
            Role::PassThrough | Role::Mirror => self.receivers(key, kind),
        }
    }

    fn cut_feeder(&mut self, sink: ElementKey, kind: MediaKind) {
        if let Some(source) = self.elements[sink.0].feeders[slot(kind)].take() {
            self.elements[source.0].sinks[slot(kind)].retain(|other| *other != sink);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bed {
        graph: Graph,
        pipeline: PipelineId,
    }

    impl Bed {
        fn new() -> Self {
            let mut graph = Graph::default();
            let pipeline = PipelineId::new("p");
            graph.add_pipeline(pipeline.clone());
            Self { graph, pipeline }
        }

        fn add(&mut self, name: &str, role: Role) -> ElementKey {
            self.graph
                .add_element(
                    ElementId::new(name),
                    &self.pipeline,
                    role,
                    EventSender::discard(),
                )
                .unwrap()
        }
    }

    #[test]
    fn routes_look_through_pass_throughs() {
        let mut bed = Bed::new();
        let publisher = bed.add("publisher", Role::Endpoint);
        let filter = bed.add("filter", Role::PassThrough);
        let fan_out = bed.add("fan-out", Role::PassThrough);
        let viewers = [bed.add("a", Role::Endpoint), bed.add("b", Role::Endpoint)];
        let graph = &mut bed.graph;
        graph.connect(publisher, filter, MediaKind::Video).unwrap();
        graph.connect(filter, fan_out, MediaKind::Video).unwrap();
        for viewer in viewers {
            graph.connect(fan_out, viewer, MediaKind::Video).unwrap();
        }

        let mut found = graph.receivers(publisher, MediaKind::Video);
        found.sort();
        assert_eq!(found, viewers);
        assert_eq!(graph.origin(viewers[1], MediaKind::Video), Some(publisher));
        assert_eq!(graph.origin(viewers[1], MediaKind::Audio), None);

        graph.disconnect(publisher, filter, MediaKind::Video);
        assert_eq!(graph.origin(viewers[0], MediaKind::Video), None);
    }

    #[test]
    fn a_sink_has_one_source_per_kind() {
        let mut bed = Bed::new();
        let first = bed.add("first", Role::Endpoint);
        let second = bed.add("second", Role::Endpoint);
        let sink = bed.add("sink", Role::Endpoint);
        let graph = &mut bed.graph;
        graph.connect(first, sink, MediaKind::Audio).unwrap();
        graph.connect(second, sink, MediaKind::Audio).unwrap();

        assert_eq!(graph.origin(sink, MediaKind::Audio), Some(second));
        assert!(graph.receivers(first, MediaKind::Audio).is_empty());
        graph.disconnect(first, sink, MediaKind::Audio);
        assert_eq!(graph.origin(sink, MediaKind::Audio), Some(second));
    }

    #[test]
    fn a_cycle_of_pass_throughs_ends() {
        let mut bed = Bed::new();
        let one = bed.add("one", Role::PassThrough);
        let two = bed.add("two", Role::PassThrough);
        bed.graph.connect(one, two, MediaKind::Audio).unwrap();
        bed.graph.connect(two, one, MediaKind::Audio).unwrap();

        assert!(bed.graph.receivers(one, MediaKind::Audio).is_empty());
        assert_eq!(bed.graph.origin(one, MediaKind::Audio), None);
    }

    #[test]
    fn removing_an_element_cuts_both_sides() {
        let mut bed = Bed::new();
        let publisher = bed.add("publisher", Role::Endpoint);
        let fan_out = bed.add("fan-out", Role::PassThrough);
        let viewer = bed.add("viewer", Role::Endpoint);
        let graph = &mut bed.graph;
        graph.connect(publisher, fan_out, MediaKind::Audio).unwrap();
        graph.connect(fan_out, viewer, MediaKind::Audio).unwrap();

        graph.remove_element(fan_out);

        assert!(graph.receivers(publisher, MediaKind::Audio).is_empty());
        assert_eq!(graph.origin(viewer, MediaKind::Audio), None);
        assert!(graph.key(&ElementId::new("fan-out")).is_err());
    }

    #[test]
    fn what_leads_to_other_workers_takes_nobodys_place() {
        let mut bed = Bed::new();
        for number in 0..ELEMENTS_PER_PIPELINE_MAX {
            bed.add(&format!("m{number}"), Role::Mirror);
            bed.add(&format!("e{number}"), Role::Endpoint);
        }
        assert_eq!(bed.graph.own_elements(), ELEMENTS_PER_PIPELINE_MAX);
        let mut add = |role| {
            let (id, events) = (ElementId::new("last"), EventSender::discard());
            bed.graph.add_element(id, &bed.pipeline, role, events)
        };
        assert!(matches!(add(Role::Endpoint), Err(Error::Full(_))));
        assert!(matches!(add(Role::PassThrough), Err(Error::Full(_))));
        let trunk = add(Role::Trunk).unwrap();
        bed.graph.remove_element(trunk);
        bed.graph.expel(&[]);
        let elements = bed.graph.take_elements(&bed.pipeline);
        assert_eq!(elements.len(), 2 * ELEMENTS_PER_PIPELINE_MAX);
    }

    #[test]
    fn pipelines_do_not_mix() {
        let mut bed = Bed::new();
        let here = bed.add("here", Role::Endpoint);
        let other = PipelineId::new("other");
        bed.graph.add_pipeline(other.clone());
        let there = bed
            .graph
            .add_element(
                ElementId::new("there"),
                &other,
                Role::Endpoint,
                EventSender::discard(),
            )
            .unwrap();
        assert_eq!(
            bed.graph.connect(here, there, MediaKind::Audio),
            Err(Error::DifferentPipelines)
        );
    }
}
