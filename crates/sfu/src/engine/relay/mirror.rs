//! The far end of the way from another worker: an element's stand-in, which feeds the sinks here.

use std::time::Instant;

use forwarding::packet::SourcePacket;
use forwarding::rate::Bitrate;
use forwarding::rtcp::SenderInfo;
use forwarding::rtp::Ssrc;
use forwarding::send::{PublisherClock, ReferencePoint};
use media::{BandwidthLimits, ElementId, Error, EventSender, MediaKind, PipelineId};

use super::{
    LayerDescription, LayerIds, Limits, MirrorId, News, PacketHead, TrackDescription, trunk_limits,
};
use crate::engine::Engine;
use crate::engine::counters::Discard;
use crate::engine::endpoint::Endpoint;
use crate::engine::graph::{ElementKey, Role};
use crate::engine::ids;
use crate::engine::media_path::{Arrived, MediaPath};
use crate::engine::source::{Source, SourceKey};
use crate::engine::transport::{Session, Transport, TransportKey};

/// How often a mirror is replaced because of bugs before its sinks are cut off. Too low: they freeze for good because of
/// a few odd packets. Too high: a publisher that knows the bug keeps two workers busy with it.
pub(in crate::engine) const RENEWALS_MAX: u8 = 8;

/// A mirror of one element of another worker, for one kind of media.
#[derive(Debug)]
pub(in crate::engine) struct Mirror {
    /// The stand-in, which the mirrors of all kinds share.
    pub(in crate::engine) element: ElementKey,
    pub(in crate::engine) kind: MediaKind,
    from: usize,
    /// Owns the track; `None` for data.
    pub(in crate::engine) transport: Option<TransportKey>,
    /// How many mirrors it is the replacement of, one after the other.
    renewals: u8,
}

impl MediaPath {
    /// Takes a packet of a mirrored track through to its subscribers.
    pub(super) fn handle_relayed(
        &mut self,
        now: Instant,
        key: TransportKey,
        head: &PacketHead,
        payload: &[u8],
    ) -> Result<(), Discard> {
        let source_key = *self.transports[key.0]
            .sources
            .first()
            .ok_or(Discard::UnknownStream)?;
        let source = &mut self.sources[source_key.0];
        let position = source
            .layer_of_ssrc(head.packet.ssrc)
            .ok_or(Discard::UnknownStream)?;
        if usize::from(head.codec) >= source.section.codecs.len() {
            return Err(Discard::UnknownPayload);
        }
        let (descriptor, payload) = payload
            .split_at_checked(usize::from(head.descriptor_len))
            .ok_or(Discard::Malformed)?;
        let layer = &mut source.layers[position];
        let arrived = Arrived {
            codec: head.codec,
            packet: SourcePacket {
                ssrc: layer.id,
                frame: layer.describe(head.packet.frame, descriptor),
                ..head.packet
            },
            descriptor,
            payload,
        };
        self.counters.rtp_relay_received += 1;
        self.keep(now, source_key, position, &arrived)
    }

    /// Asks the worker of a mirrored layer for a key frame, if the session is a mirror's.
    pub(in crate::engine) fn want_key_frame(&mut self, key: TransportKey, layer: Ssrc) -> bool {
        let Session::Mirror { from, id, .. } = self.transports[key.0].session else {
            return false;
        };
        let news = News::KeyFrameWanted { layer };
        self.dispatch.tell(from, id, news);
        true
    }

    /// What those who watch a source may be sent at most.
    pub(in crate::engine) fn viewers_limit(&self, source: &Source) -> Option<Bitrate> {
        if source.layers.len() > 1 {
            // Each gets what it may.
            return None;
        }
        let subscribers = source.subscribers.iter();
        subscribers
            .filter_map(|key| self.subscribers[key.0].limits.max_video_send)
            .map(|limit| Bitrate::from_kbps(u64::from(limit.0)))
            .chain(trunk_limits(&self.trunks, source))
            .min()
    }

    /// Passes a change of [`Self::viewers_limit`] or [`Self::viewers_ceiling`] on, if the source is a mirrored one.
    pub(in crate::engine) fn tell_limit(&mut self, key: SourceKey) {
        let source = &self.sources[key.0];
        let transport = source.transport.0;
        let Session::Mirror { from, id, told } = self.transports[transport].session else {
            return;
        };
        let limits = Limits {
            configured: self.viewers_limit(source),
            room: self.viewers_ceiling(source),
        };
        if told != Some(limits) {
            let told = Some(limits);
            self.transports[transport].session = Session::Mirror { from, id, told };
            self.dispatch.tell(from, id, News::Limited(limits));
        }
    }

    /// Has a layer cross, if the source is a mirrored one.
    pub(in crate::engine) fn want(&mut self, key: SourceKey, layer: Ssrc) {
        let source = &mut self.sources[key.0];
        let Some(position) = source.layer_of(layer) else {
            return;
        };
        let wanted = source.layers[position].ssrc;
        let before = source.unwanted.len();
        source.unwanted.retain(|unwanted| *unwanted != wanted);
        if source.unwanted.len() != before {
            self.tell_unwanted(key);
        }
    }

    /// Has only those layers cross that somebody sees or should see, if the source is a mirrored one.
    pub(in crate::engine) fn settle_wanted(&mut self, key: SourceKey) {
        let source = &self.sources[key.0];
        let Session::Mirror { .. } = self.transports[source.transport.0].session else {
            return;
        };
        let layers = source.layers.iter();
        let unwanted = layers.filter(|layer| !self.is_wanted(source, layer.id));
        let unwanted: LayerIds = unwanted.map(|layer| layer.ssrc).collect();
        if source.unwanted != unwanted {
            self.sources[key.0].unwanted = unwanted;
            self.tell_unwanted(key);
        }
    }

    fn tell_unwanted(&mut self, key: SourceKey) {
        let source = &self.sources[key.0];
        if let Session::Mirror { from, id, .. } = self.transports[source.transport.0].session {
            let news = News::Unwanted(source.unwanted.clone());
            self.dispatch.tell(from, id, news);
        }
    }

    /// Has a mirrored track take the layers that can be had.
    fn take_layers(&mut self, now: Instant, key: SourceKey, layers: &[LayerDescription]) {
        let source = &mut self.sources[key.0];
        let first_made = self.layers_made;
        self.layers_made = first_made.wrapping_add(layers.len() as u32);
        let ids = (0..).map(|made| Ssrc(first_made.wrapping_add(made)));
        let described = layers.iter().zip(ids);
        let described =
            described.map(|(layer, id)| (layer.id, &layer.levels[..], layer.is_asleep, id));
        source.mirror_layers(now, described);
        for described in layers {
            if let Some(reference) = described.reference {
                source.take_reference(now, described.id, reference);
            }
        }
    }
}

impl Source {
    fn take_reference(&mut self, now: Instant, layer: Ssrc, reference: ReferencePoint) {
        if let Some(layer) = self.layer_of_ssrc(layer) {
            // What the publisher has sent is reported on by the engine that receives it.
            let info = SenderInfo {
                ntp: reference.ntp,
                timestamp: reference.timestamp,
                packets: 0,
                octets: 0,
            };
            self.layers[layer].receive.handle_sender_report(now, &info);
        }
    }
}

impl Engine {
    /// The element with an id, or its stand-in if it lives on another worker.
    pub(in crate::engine) fn element_or_mirror(
        &mut self,
        id: &ElementId,
        pipeline: &PipelineId,
    ) -> Result<ElementKey, Error> {
        let found = self.graph.key(id);
        if found.is_ok() || !self.is_foreign(id) {
            return found;
        }
        if ids::pipeline_of(id) != *pipeline {
            return Err(Error::DifferentPipelines);
        }
        let events = EventSender::discard();
        let key = self
            .graph
            .add_element(id.clone(), pipeline, Role::Mirror, events)?;
        self.step();
        self.endpoints.insert(key, Endpoint::default());
        Ok(key)
    }

    /// True for an element of another worker.
    pub(in crate::engine) fn is_foreign(&self, id: &ElementId) -> bool {
        ids::worker_of_element(id).is_some_and(|worker| worker != self.worker)
    }

    /// Makes and ends mirrors of an element as sinks for them come and go, if it is a stand-in.
    pub(in crate::engine) fn tend_mirrors(&mut self, key: ElementKey) {
        if !self.graph.contains(key) || self.graph.element(key).role != Role::Mirror {
            return;
        }
        let mut is_needed = false;
        for kind in MediaKind::ALL {
            let is_wanted = self.graph.has_sinks(key, kind);
            is_needed |= is_wanted;
            let slots = &self.endpoints[&key].mirrors;
            match (is_wanted, slots[kind as usize]) {
                (true, None) => self.add_mirror(key, kind, 0),
                (false, Some(id)) => self.remove_mirror(id),
                _ => {}
            }
            self.step();
        }
        if !is_needed {
            self.endpoints.remove(&key);
            self.graph.remove_element(key);
        }
    }

    fn add_mirror(&mut self, element: ElementKey, kind: MediaKind, renewals: u8) {
        let name = self.graph.element(element).id.clone();
        let Some(from) = ids::worker_of_element(&name) else {
            return;
        };
        let id = MirrorId(self.mirrors_made);
        self.mirrors_made += 1;
        let transport = (kind != MediaKind::Data).then(|| {
            let session = Session::Mirror {
                from,
                id,
                told: Some(Limits::NONE),
            };
            let transport = Transport::new(element, EventSender::discard(), session);
            TransportKey(self.media.transports.insert(transport))
        });
        self.step();
        if let Some(endpoint) = self.endpoints.get_mut(&element) {
            endpoint.transports.extend(transport);
            endpoint.mirrors[kind as usize] = Some(id);
        }
        self.step();
        self.mirrors.insert(
            id,
            Mirror {
                element,
                kind,
                from,
                transport,
                renewals,
            },
        );
        self.subscribe(id, false);
    }

    /// Tells the element's worker that there is a mirror.
    fn subscribe(&mut self, id: MirrorId, again: bool) {
        let mirror = &self.mirrors[&id];
        let news = News::Subscribed {
            element: self.graph.element(mirror.element).id.clone(),
            kind: mirror.kind,
            again,
        };
        self.media.dispatch.tell(mirror.from, id, news);
    }

    /// Ends a mirror here and, on the other worker, its trunk.
    pub(in crate::engine) fn remove_mirror(&mut self, id: MirrorId) {
        let Some(mirror) = self.mirrors.remove(&id) else {
            return;
        };
        let dispatch = &mut self.media.dispatch;
        dispatch.tell(mirror.from, id, News::Unsubscribed);
        self.step();
        let Some(endpoint) = self.endpoints.get_mut(&mirror.element) else {
            return;
        };
        endpoint.mirrors[mirror.kind as usize] = None;
        let Some(transport) = mirror.transport else {
            return;
        };
        endpoint.transports.retain(|key| *key != transport);
        let tracks = endpoint.tracks_mut(mirror.kind);
        let source = tracks.and_then(|tracks| tracks.source.take());
        if let Some(source) = source {
            self.remove_source(source);
        }
        self.step();
        self.forget_transport(transport);
        self.remove_transport(transport);
    }

    pub(super) fn handle_described(
        &mut self,
        now: Instant,
        from: usize,
        id: MirrorId,
        track: Option<Box<TrackDescription>>,
    ) {
        let Some(mirror) = self.mirrors.get(&id) else {
            // In case that the other engine has not been told.
            return self.media.dispatch.tell(from, id, News::Unsubscribed);
        };
        let (element, kind) = (mirror.element, mirror.kind);
        let Some(transport) = mirror.transport else {
            return;
        };
        // Waiting packets are numbered and named by what was described before.
        self.media.forward_all(now);
        match track {
            Some(track) => self.take_track(now, element, kind, transport, *track),
            None => {
                let tracks = self.endpoints.get_mut(&element);
                let tracks = tracks.and_then(|endpoint| endpoint.tracks_mut(kind));
                if let Some(source) = tracks.and_then(|tracks| tracks.source.take()) {
                    self.remove_source(source);
                }
            }
        }
        self.step();
        for sink in self.graph.receivers(element, kind) {
            self.rewire_endpoint(now, sink, kind);
        }
    }

    fn take_track(
        &mut self,
        now: Instant,
        element: ElementKey,
        kind: MediaKind,
        transport: TransportKey,
        track: TrackDescription,
    ) {
        let Some(endpoint) = self.endpoints.get_mut(&element) else {
            return;
        };
        let key = match endpoint.tracks(kind).source {
            Some(key) => {
                let source = &mut self.media.sources[key.0];
                source.renegotiate(track.section);
                source.unwanted.clear();
                key
            }
            None => {
                let source = Source::new(transport, track.section, &BandwidthLimits::default());
                let key = SourceKey(self.media.sources.insert(source));
                self.media.transports[transport.0].sources.push(key);
                if let Some(tracks) = endpoint.tracks_mut(kind) {
                    tracks.source = Some(key);
                }
                key
            }
        };
        self.step();
        self.media.transports[transport.0].publisher_clock = track.clock;
        let source = &mut self.media.sources[key.0];
        if let Some(codec) = track.codec
            && usize::from(codec) < source.section.codecs.len()
        {
            source.begin_codec(codec);
        }
        self.media.take_layers(now, key, &track.layers);
    }

    /// The track that a mirror feeds.
    fn mirrored(&self, id: MirrorId) -> Option<(SourceKey, TransportKey)> {
        let transport = self.mirrors.get(&id)?.transport?;
        let source = self.media.transports.get(transport.0)?.sources.first()?;
        Some((*source, transport))
    }

    pub(super) fn handle_layers(
        &mut self,
        now: Instant,
        id: MirrorId,
        layers: &[LayerDescription],
    ) {
        // The other engine asks for the key frame that they are seen from.
        if let Some((source, _)) = self.mirrored(id) {
            self.media.forward_all(now);
            self.media.take_layers(now, source, layers);
            self.media.divide_all(now, source);
        }
    }

    pub(super) fn handle_reported(
        &mut self,
        now: Instant,
        id: MirrorId,
        layers: &[LayerDescription],
        clock: PublisherClock,
    ) {
        let Some((key, transport)) = self.mirrored(id) else {
            return;
        };
        self.media.transports[transport.0].publisher_clock = clock;
        self.media.forward_all(now);
        self.media.take_layers(now, key, layers);
        self.media.settle_wanted(key);
        self.media.tell_limit(key);
        self.media.relay_reports(transport);
    }

    /// Puts another mirror in the place of one that met a bug, here or on the other side.
    pub(in crate::engine) fn renew_mirror(&mut self, now: Instant, id: MirrorId) {
        let Some(mirror) = self.mirrors.get(&id) else {
            return;
        };
        if mirror.renewals >= RENEWALS_MAX {
            tracing::error!("a mirror meets one bug after the other; cutting its sinks off");
            return self.handle_ended(now, id);
        }
        let (element, kind, renewals) = (mirror.element, mirror.kind, mirror.renewals + 1);
        self.media.forward_all(now);
        self.remove_mirror(id);
        self.step();
        self.add_mirror(element, kind, renewals);
    }

    /// The element is gone, and with it what it fed.
    pub(super) fn handle_ended(&mut self, now: Instant, id: MirrorId) {
        let Some(mirror) = self.mirrors.get(&id) else {
            return;
        };
        let (element, kind) = (mirror.element, mirror.kind);
        self.media.forward_all(now);
        let behind = self.graph.receivers(element, kind);
        self.graph.cut_sinks(element, kind);
        for sink in behind {
            self.rewire_endpoint(now, sink, kind);
        }
        self.tend_mirrors(element);
    }

    /// Keeps mirrors that belong to a stand-in; see [`Engine::contain`].
    pub(in crate::engine) fn mend_mirrors(&mut self) {
        let (graph, endpoints) = (&self.graph, &mut self.endpoints);
        let (transports, dispatch) = (&self.media.transports, &mut self.media.dispatch);
        self.mirrors.retain(|id, mirror| {
            let endpoint = endpoints.get(&mirror.element);
            let is_kept = graph.contains(mirror.element)
                && graph.element(mirror.element).role == Role::Mirror
                && endpoint.is_some_and(|endpoint| {
                    let listed = |key: TransportKey| {
                        endpoint.transports.contains(&key) && transports.contains(key.0)
                    };
                    endpoint.mirrors[mirror.kind as usize] == Some(*id)
                        && mirror.transport.is_none_or(listed)
                });
            if !is_kept {
                dispatch.tell(mirror.from, *id, News::Unsubscribed);
            }
            is_kept
        });
        let mirrors = &self.mirrors;
        for (key, endpoint) in endpoints {
            for slot in &mut endpoint.mirrors {
                *slot = slot.filter(|id| mirrors.contains_key(id));
            }
            if graph.contains(*key) && graph.element(*key).role == Role::Mirror {
                let listed = endpoint.mirrors.iter().flatten();
                let owned = listed.filter_map(|id| mirrors[id].transport);
                endpoint.transports = owned.collect();
            }
        }
    }

    /// Makes what [`Self::mend_mirrors`] found missing, and asks to be told anew what the others are of.
    pub(in crate::engine) fn renew_mirrors(&mut self) {
        for id in self.mirrors.keys().copied().collect::<Vec<_>>() {
            self.subscribe(id, true);
            let transport = self.mirrors[&id].transport;
            let transport = transport.and_then(|key| self.media.transports.get_mut(key.0));
            if let Some(Session::Mirror { told, .. }) = transport.map(|it| &mut it.session) {
                *told = None;
            }
            if let Some((source, _)) = self.mirrored(id) {
                self.media.tell_limit(source);
            }
        }
        let stand_ins: Vec<_> = self
            .graph
            .keys()
            .filter(|key| self.graph.element(*key).role == Role::Mirror)
            .collect();
        for key in stand_ins {
            self.tend_mirrors(key);
        }
    }
}
