//! The near end of the way to another worker: a sink that passes on what its element takes in.

use std::time::Instant;

use forwarding::allocation::Level;
use forwarding::rate::Bitrate;
use forwarding::rtp::Ssrc;
use media::{ElementId, EventSender, MediaKind};
use slab::Slab;

use super::gap::Gap;
use super::{
    Content, LayerDescription, LayerIds, Layers, Limits, MirrorId, News, Outgoing, PacketHead,
    TrackDescription,
};
use crate::engine::Engine;
use crate::engine::ceiling::Room;
use crate::engine::counters::RelayDrop;
use crate::engine::graph::{ElementKey, Role};
use crate::engine::media_path::{Arrived, MediaPath};
use crate::engine::source::{Layer, Source, SourceKey};
use crate::engine::transport::TransportKey;

/// Handle of a trunk; valid until its mirror or its element is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) struct TrunkKey(pub(in crate::engine) usize);

/// The way from one element to its mirror on another worker, for one kind of media.
#[derive(Debug)]
pub(in crate::engine) struct Trunk {
    /// Its place in the graph.
    pub(in crate::engine) element: ElementKey,
    pub(in crate::engine) kind: MediaKind,
    to: usize,
    mirror: MirrorId,
    pub(in crate::engine) source: Option<SourceKey>,
    /// The layers that do not cross.
    unwanted: LayerIds,
    /// For those who watch the mirror.
    pub(in crate::engine) limit: Option<Bitrate>,
    /// What the best of them has room for.
    pub(in crate::engine) room: Room,
    gap: Gap,
}

impl Trunk {
    /// True if packets of a layer cross.
    pub(in crate::engine) fn takes(&self, layer: Ssrc) -> bool {
        !self.unwanted.contains(&layer)
    }
}

impl Source {
    fn describe_layers(&self) -> Layers {
        let describe = |layer: &Layer, levels: &[Level]| LayerDescription {
            id: layer.id,
            reference: layer.receive.reference_point(),
            levels: levels.to_vec(),
            is_asleep: self.levels.is_asleep(layer.id),
        };
        let ranked = self.levels.streams();
        let sent = ranked.filter_map(|id| {
            let layer = &self.layers[self.layer_of(id)?];
            Some(describe(layer, layer.meter.levels()))
        });
        let is_silent = |layer: &&Layer| !self.levels.streams().any(|id| id == layer.id);
        let silent = self.layers.iter().filter(is_silent);
        sent.chain(silent.map(|layer| describe(layer, &[])))
            .collect()
    }
}

/// What those may be sent at most who watch a source from other workers.
pub(in crate::engine) fn trunk_limits<'a>(
    trunks: &'a Slab<Trunk>,
    source: &'a Source,
) -> impl Iterator<Item = Bitrate> + 'a {
    let keys = source.trunks.iter();
    keys.filter_map(|key| trunks[key.0].limit)
}

impl MediaPath {
    /// Passes a packet on to the workers that have sinks for it.
    pub(in crate::engine) fn relay(&mut self, key: SourceKey, arrived: &Arrived<'_>) {
        let (packet, descriptor) = (&arrived.packet, arrived.descriptor);
        // No header extension is longer.
        let Ok(descriptor_len) = u8::try_from(descriptor.len()) else {
            return;
        };
        let dispatch = &mut self.dispatch;
        let start = dispatch.bytes.len();
        let mut is_taken = false;
        for &trunk_key in &self.sources[key.0].trunks {
            let trunk = &self.trunks[trunk_key.0];
            if !trunk.takes(packet.ssrc) {
                continue;
            }
            // Before a parcel refers to it: after a panic in here, it would get what comes next, of whatever room.
            if !std::mem::replace(&mut is_taken, true) {
                dispatch.bytes.extend_from_slice(descriptor);
                dispatch.bytes.extend_from_slice(arrived.payload);
            }
            dispatch.parcels.push(Outgoing {
                to: trunk.to,
                content: Content::Packet {
                    trunk: trunk_key,
                    head: PacketHead {
                        mirror: trunk.mirror,
                        codec: arrived.codec,
                        descriptor_len,
                        packet: *packet,
                    },
                    payload: start..start + descriptor.len() + arrived.payload.len(),
                },
            });
        }
    }

    /// Tells the other workers which layers of a source can be had.
    pub(in crate::engine) fn describe_layers(&mut self, key: SourceKey) {
        let source = &self.sources[key.0];
        for trunk in &source.trunks {
            let trunk = &self.trunks[trunk.0];
            let news = News::Layers(source.describe_layers());
            self.dispatch.tell(trunk.to, trunk.mirror, news);
        }
    }

    /// Passes on what a transport's peer has reported of its clocks, and what its layers cost.
    pub(in crate::engine) fn relay_reports(&mut self, key: TransportKey) {
        let transport = &self.transports[key.0];
        for source_key in &transport.sources {
            let source = &self.sources[source_key.0];
            for trunk in &source.trunks {
                let trunk = &self.trunks[trunk.0];
                let news = News::Reported {
                    layers: source.describe_layers(),
                    clock: transport.publisher_clock,
                };
                self.dispatch.tell(trunk.to, trunk.mirror, news);
            }
        }
    }
}

impl Engine {
    /// Begins to pass on what an element takes in, or says once more what that is.
    pub(super) fn handle_subscribed(
        &mut self,
        now: Instant,
        from: usize,
        mirror: MirrorId,
        element: &ElementId,
        kind: MediaKind,
    ) {
        if let Some(trunk) = self.trunk_of(from, mirror) {
            return self.describe(trunk);
        }
        let Ok(source) = self.graph.key(element) else {
            return self.media.dispatch.tell(from, mirror, News::Ended);
        };
        let pipeline = self.graph.element(source).pipeline.clone();
        let id = ElementId::new(format!("{element}>{from:04x}{:016x}", mirror.0));
        let added = self
            .graph
            .add_element(id, &pipeline, Role::Trunk, EventSender::discard());
        let connected = added.and_then(|key| {
            let connected = self.graph.connect(source, key, kind);
            if connected.is_err() {
                self.graph.remove_element(key);
            }
            connected.map(|()| key)
        });
        let key = match connected {
            Ok(key) => key,
            Err(error) => {
                tracing::warn!(%error, "cannot pass media on to another worker");
                return self.media.dispatch.tell(from, mirror, News::Ended);
            }
        };
        self.step();
        let trunk = TrunkKey(self.media.trunks.insert(Trunk {
            element: key,
            kind,
            to: from,
            mirror,
            source: None,
            unwanted: LayerIds::new(),
            limit: None,
            room: Room::Unknown,
            gap: Gap::default(),
        }));
        self.trunks.insert(key, trunk);
        self.trunks_by_mirror.insert((from, mirror), trunk);
        self.rewire(now, key, kind);
    }

    pub(super) fn trunk_of(&self, to: usize, mirror: MirrorId) -> Option<TrunkKey> {
        self.trunks_by_mirror.get(&(to, mirror)).copied()
    }

    /// Stops passing on.
    pub(super) fn handle_unsubscribed(&mut self, from: usize, mirror: MirrorId) {
        if let Some(trunk) = self.trunk_of(from, mirror) {
            self.remove_trunk(trunk);
        }
    }

    /// Somebody who watches the mirror needs a key frame.
    pub(super) fn handle_wanted(
        &mut self,
        now: Instant,
        from: usize,
        mirror: MirrorId,
        layer: Ssrc,
    ) {
        let trunk = self.trunk_of(from, mirror);
        if let Some(source) = trunk.and_then(|trunk| self.media.trunks[trunk.0].source) {
            self.media.request_key_frame_of(now, source, layer);
            self.arm(self.media.sources[source.0].transport);
        }
    }

    /// Those who watch the mirror see other layers.
    pub(super) fn handle_unwanted(
        &mut self,
        now: Instant,
        from: usize,
        mirror: MirrorId,
        layers: LayerIds,
    ) {
        if let Some(trunk) = self.trunk_of(from, mirror) {
            let trunk = &mut self.media.trunks[trunk.0];
            trunk.unwanted = layers;
            if let Some(source) = trunk.source {
                self.media.settle_wanted(source);
                self.media.settle_demand(now, source);
            }
        }
    }

    pub(super) fn handle_limited(
        &mut self,
        now: Instant,
        from: usize,
        mirror: MirrorId,
        limits: Limits,
    ) {
        if let Some(trunk) = self.trunk_of(from, mirror) {
            let trunk = &mut self.media.trunks[trunk.0];
            trunk.limit = limits.configured;
            trunk.room = limits.room;
            if let Some(source) = trunk.source {
                self.media.tell_limit(source);
                self.media.hurry_remb(now, source);
            }
        }
    }

    /// Takes note of what became of a packet.
    pub(super) fn handle_passed(
        &mut self,
        now: Instant,
        key: TrunkKey,
        head: &PacketHead,
        is_passed: bool,
    ) {
        let media = &mut self.media;
        match is_passed {
            true => media.counters.rtp_relayed += 1,
            false => media.counters.drop_relayed(RelayDrop::Full),
        }
        let trunk = media.trunks.get_mut(key.0);
        let Some(trunk) = trunk.filter(|trunk| trunk.mirror == head.mirror) else {
            return;
        };
        if !is_passed {
            return trunk.gap.handle_lost();
        }
        if trunk.gap.handle_passed(now, head.packet.frame.key_frame)
            && let Some(source) = trunk.source
        {
            media.request_key_frame_of(now, source, head.packet.ssrc);
            let transport = media.sources[source.0].transport;
            self.arm(transport);
        }
    }

    /// Follows a change of what feeds a trunk, or of what that is.
    pub(in crate::engine) fn rewire_trunk(&mut self, key: TrunkKey) {
        let trunk = &self.media.trunks[key.0];
        let origin = self.graph.origin(trunk.element, trunk.kind);
        let source = origin
            .and_then(|origin| self.endpoints.get(&origin))
            .and_then(|endpoint| endpoint.tracks(trunk.kind).source);
        let former = trunk.source;
        if let Some(former) = former.filter(|former| Some(*former) != source) {
            self.media.sources[former.0].remove_trunk(key);
            self.media.tell_limit(former);
        }
        self.step();
        let trunk = &mut self.media.trunks[key.0];
        if trunk.source != source {
            trunk.unwanted.clear();
        }
        trunk.source = source;
        if let Some(source) = source {
            let trunks = &mut self.media.sources[source.0].trunks;
            if !trunks.contains(&key) {
                trunks.push(key);
            }
            self.media.tell_limit(source);
        }
        self.step();
        self.describe(key);
    }

    /// Tells the other engine what comes from here on.
    fn describe(&mut self, key: TrunkKey) {
        let trunk = &self.media.trunks[key.0];
        if trunk.kind == MediaKind::Data {
            return;
        }
        let track = trunk.source.map(|source| {
            let source = &self.media.sources[source.0];
            Box::new(TrackDescription {
                section: source.section.clone(),
                codec: source.codec,
                layers: source.describe_layers(),
                clock: self.media.transports[source.transport.0].publisher_clock,
            })
        });
        let (to, mirror) = (trunk.to, trunk.mirror);
        self.media.dispatch.tell(to, mirror, News::Described(track));
    }

    /// Ends a trunk whose element goes, and with it the mirror.
    pub(in crate::engine) fn end_trunk(&mut self, element: ElementKey) {
        if let Some(&key) = self.trunks.get(&element) {
            let trunk = &self.media.trunks[key.0];
            let (to, mirror) = (trunk.to, trunk.mirror);
            self.media.dispatch.tell(to, mirror, News::Ended);
            self.remove_trunk(key);
        }
    }

    fn remove_trunk(&mut self, key: TrunkKey) {
        let trunk = self.media.trunks.remove(key.0);
        self.step();
        self.trunks.remove(&trunk.element);
        self.trunks_by_mirror.remove(&(trunk.to, trunk.mirror));
        if let Some(source) = trunk.source {
            self.media.sources[source.0].remove_trunk(key);
            self.media.tell_limit(source);
        }
        self.step();
        if self.graph.contains(trunk.element) {
            self.graph.remove_element(trunk.element);
        }
    }

    /// Sends an application's message on to other workers, if `sink` is the way to one.
    pub(in crate::engine) fn relay_message(
        &mut self,
        sink: ElementKey,
        label: &str,
        binary: bool,
        data: &[u8],
    ) -> bool {
        self.tell_through(sink, || News::Message {
            label: label.to_owned(),
            binary,
            data: data.to_vec(),
        })
    }

    /// As [`Self::relay_message`], for the news that a channel was opened.
    pub(in crate::engine) fn relay_channel(&mut self, sink: ElementKey, label: &str) -> bool {
        self.tell_through(sink, || News::ChannelOpened {
            label: label.to_owned(),
        })
    }

    fn tell_through(&mut self, sink: ElementKey, news: impl FnOnce() -> News) -> bool {
        let Some(trunk) = self.trunks.get(&sink) else {
            return false;
        };
        let trunk = &self.media.trunks[trunk.0];
        self.media.dispatch.tell(trunk.to, trunk.mirror, news());
        true
    }

    /// Keeps trunks that have their place in the graph and somebody who feeds them; see
    /// [`Engine::contain`].
    pub(in crate::engine) fn mend_trunks(&mut self) {
        self.trunks.clear();
        self.trunks_by_mirror.clear();
        let (graph, dispatch) = (&mut self.graph, &mut self.media.dispatch);
        let (trunks, by_mirror) = (&mut self.trunks, &mut self.trunks_by_mirror);
        self.media.trunks.retain(|key, trunk| {
            trunk.source = None;
            let is_kept = graph.contains(trunk.element)
                && graph.element(trunk.element).role == Role::Trunk
                && graph.feeder(trunk.element, trunk.kind).is_some()
                && !trunks.contains_key(&trunk.element);
            if is_kept {
                trunks.insert(trunk.element, TrunkKey(key));
                by_mirror.insert((trunk.to, trunk.mirror), TrunkKey(key));
            } else {
                // If its element is gone too, that is found out when another is asked for.
                dispatch.tell(trunk.to, trunk.mirror, News::Broken);
            }
            is_kept
        });
        let orphans: Vec<_> = graph
            .keys()
            .filter(|key| graph.element(*key).role == Role::Trunk && !trunks.contains_key(key))
            .collect();
        for orphan in orphans {
            graph.remove_element(orphan);
        }
        for key in self.trunks.values().copied().collect::<Vec<_>>() {
            self.rewire_trunk(key);
        }
    }
}
