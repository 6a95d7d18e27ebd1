//! Making true what was negotiated: transports, tracks, and the routes between them.
//!
//! [`Engine::apply`] is the one way in. Deliberately absent: what was agreed, which the pure functions of
//! [`sdp`](super::sdp) say.

use std::time::Instant;

use media::{BandwidthLimits, Error, Event, MediaKind};
use rand::Rng;
use smallvec::SmallVec;

use super::Engine;
use super::certificate::Fingerprint;
use super::dtls::Dtls;
use super::endpoint::{Negotiation, Tracks};
use super::graph::ElementKey;
use super::ice::IceLite;
use super::sdp::{Negotiated, Section, TransportDescription};
use super::source::{Source, SourceKey};
use super::subscriber::{FirstNumbers, Subscriber, SubscriberKey};
use super::transport::{Session, Transport, TransportKey};

/// A transport of an agreement that is not applied yet.
enum PreparedTransport {
    /// One that goes on.
    Continued(TransportKey),
    Fresh(Box<Transport>),
}

impl Engine {
    /// Makes what was agreed true: transports, incoming and outgoing tracks, routes. All that can be
    /// refused is found out before anything changes.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        key: ElementKey,
        negotiated: Negotiated,
    ) -> Result<(), Error> {
        // Waiting packets are numbered and named by what was agreed before.
        self.media.forward_all(now);
        let prepared = negotiated
            .transports
            .iter()
            .map(|description| self.prepare_transport(now, key, description))
            .collect::<Result<Vec<_>, _>>()?;
        let Some(endpoint) = self.endpoints.get_mut(&key) else {
            return Ok(());
        };
        let former = std::mem::take(&mut endpoint.transports);
        let with_data = self.data_transport(&former);
        let mut transports: SmallVec<[TransportKey; 1]> = SmallVec::new();
        for (prepared, description) in prepared.into_iter().zip(&negotiated.transports) {
            transports.push(match prepared {
                PreparedTransport::Continued(transport) => {
                    self.renew_transport(transport, description);
                    transport
                }
                PreparedTransport::Fresh(transport) => self.add_transport(*transport, description),
            });
            self.step();
        }
        let dropped = || former.iter().filter(|key| !transports.contains(key));
        for transport in dropped() {
            self.say_goodbye(now, *transport);
            self.forget_transport(*transport);
            self.step();
        }
        if let Some(endpoint) = self.endpoints.get_mut(&key) {
            endpoint.transports.clone_from(&transports);
        }
        for kind in [MediaKind::Audio, MediaKind::Video] {
            self.apply_section(key, kind, negotiated.accepted(kind));
            self.step();
        }
        for transport in dropped() {
            self.remove_transport(*transport);
            self.step();
        }
        let data = negotiated.accepted(MediaKind::Data);
        for (index, transport) in transports.iter().enumerate() {
            let state = &mut self.media.transports[transport.0];
            state.data = data
                .filter(|section| section.transport == index)
                .and_then(|section| section.data);
            if state.data.is_none() {
                state.sctp = None;
            }
            state.start_data(now);
        }
        let is_data_over = with_data.is_some() && self.data_transport(&transports) != with_data;
        if let Some(endpoint) = self.endpoints.get_mut(&key) {
            if is_data_over {
                endpoint.channels.clear();
            }
            endpoint.negotiation = Negotiation::Done(Box::new(negotiated));
            if endpoint.gather {
                self.signal_candidates(key);
            }
        }
        for transport in transports {
            self.arm(transport);
        }
        self.rewire_around(now, key);
        Ok(())
    }

    /// Follows a change of what an endpoint can send and receive.
    pub(super) fn rewire_around(&mut self, now: Instant, key: ElementKey) {
        for kind in MediaKind::ALL {
            self.rewire(now, key, kind);
            for sink in self.graph.receivers(key, kind) {
                self.rewire_endpoint(now, sink, kind);
            }
        }
    }

    fn prepare_transport(
        &self,
        now: Instant,
        owner: ElementKey,
        description: &TransportDescription,
    ) -> Result<PreparedTransport, Error> {
        if let Some(before) = description.continues {
            let key = self.endpoints[&owner].transports.get(before).copied();
            let is_alive = |key: &TransportKey| {
                let transport = self.media.transports.get(key.0);
                transport.is_some_and(|transport| !transport.closed)
            };
            return key
                .filter(|key| is_alive(key) && !description.dtls_restarted)
                .map(PreparedTransport::Continued)
                .ok_or_else(|| {
                    Error::Sdp(
                        "a transport that has ended or changes its certificate cannot go on"
                            .to_owned(),
                    )
                });
        }
        let mut ice = IceLite::new(description.local_ice.clone(), now);
        ice.set_remote(description.remote_ice.clone());
        let dtls = Dtls::new(
            description.dtls_role,
            &self.config.certificate,
            fingerprint(description)?,
            now,
        )
        .map_err(|error| Error::Unavailable(error.to_string()))?;
        let events = self.graph.element(owner).events.clone();
        let session = Session::Secure {
            ice: Box::new(ice),
            dtls: Box::new(dtls),
        };
        let transport = Transport::new(owner, events, session);
        Ok(PreparedTransport::Fresh(Box::new(transport)))
    }

    fn add_transport(
        &mut self,
        transport: Transport,
        description: &TransportDescription,
    ) -> TransportKey {
        let key = TransportKey(self.media.transports.insert(transport));
        let ufrag = description.local_ice.ufrag().to_owned();
        self.ufrags.insert(ufrag, key);
        self.join_downlink(key);
        key
    }

    /// ICE restart: new credentials beside the old ones until the peer uses them.
    fn renew_transport(&mut self, key: TransportKey, description: &TransportDescription) {
        let transport = &mut self.media.transports[key.0];
        let Some(ice) = transport.ice_mut().filter(|_| description.ice_restarted) else {
            return;
        };
        let unused = ice.restart(
            description.local_ice.clone(),
            Some(description.remote_ice.clone()),
        );
        if let Some(unused) = unused {
            self.ufrags.remove(unused.ufrag());
        }
        let ufrag = description.local_ice.ufrag().to_owned();
        self.ufrags.insert(ufrag, key);
    }

    /// Makes, renews or ends the tracks of one kind. A track does not move to another transport: there a
    /// new one begins, since the keys are new.
    pub(super) fn apply_section(
        &mut self,
        key: ElementKey,
        kind: MediaKind,
        section: Option<&Section>,
    ) {
        let endpoint = &self.endpoints[&key];
        let limits = endpoint.limits;
        let mut tracks = endpoint.tracks(kind);
        let section = section.filter(|section| !section.codecs.is_empty());
        let transport = section.map(|section| endpoint.transports[section.transport]);
        if let Some(source) = tracks.source
            && transport != Some(self.media.sources[source.0].transport)
        {
            self.media.fall_silent(source);
            self.remove_source(source);
            tracks.source = None;
        }
        if let Some(subscriber) = tracks.subscriber
            && transport != Some(self.media.subscribers[subscriber.0].transport)
        {
            self.remove_subscriber(subscriber);
            tracks.subscriber = None;
        }
        let Some((section, transport)) = section.zip(transport) else {
            return self.set_tracks(key, kind, tracks);
        };
        match tracks.source {
            Some(source) if section.receive => {
                self.media.sources[source.0].renegotiate(section.clone());
            }
            Some(source) => {
                self.media.fall_silent(source);
                self.remove_source(source);
                tracks.source = None;
            }
            None if section.receive => {
                let source = Source::new(transport, section.clone(), &limits);
                let source = SourceKey(self.media.sources.insert(source));
                self.step();
                self.media.transports[transport.0].sources.push(source);
                tracks.source = Some(source);
            }
            None => {}
        }
        match tracks.subscriber {
            // Also if it sends nothing for a while: its SSRC stays, and on one SSRC numbers must go on.
            Some(subscriber) => {
                self.media.subscribers[subscriber.0].renegotiate(section.clone());
            }
            None if section.send => {
                tracks.subscriber = self.add_subscriber(key, transport, section, &limits);
            }
            None => {}
        }
        self.set_tracks(key, kind, tracks);
    }

    fn set_tracks(&mut self, key: ElementKey, kind: MediaKind, tracks: Tracks) {
        if let Some(endpoint) = self.endpoints.get_mut(&key)
            && let Some(slot) = endpoint.tracks_mut(kind)
        {
            *slot = tracks;
        }
    }

    fn add_subscriber(
        &mut self,
        key: ElementKey,
        transport: TransportKey,
        section: &Section,
        limits: &BandwidthLimits,
    ) -> Option<SubscriberKey> {
        let events = self.graph.element(key).events.clone();
        let mut random = rand::rng();
        let first = FirstNumbers {
            seq: random.random(),
            timestamp: random.random(),
            repair_seq: random.random(),
        };
        let mut subscriber = Subscriber::new(transport, section.clone(), events, &first)?;
        subscriber.limits = *limits;
        subscriber.delivery = self.endpoints[&key].delivery;
        let subscriber = SubscriberKey(self.media.subscribers.insert(subscriber));
        self.step();
        let transport = &mut self.media.transports[transport.0];
        transport.subscribers.push(subscriber);
        Some(subscriber)
    }

    pub(super) fn remove_source(&mut self, key: SourceKey) {
        let source = self.media.sources.remove(key.0);
        self.step();
        for subscriber in source.subscribers {
            self.media.subscribers[subscriber.0].attach(None);
        }
        for trunk in source.trunks {
            self.media.trunks[trunk.0].source = None;
        }
        if let Some(transport) = self.media.transports.get_mut(source.transport.0) {
            transport.sources.retain(|other| *other != key);
            transport.retire(|stream| stream.source == key);
        }
    }

    pub(super) fn remove_subscriber(&mut self, key: SubscriberKey) {
        let subscriber = self.media.subscribers.remove(key.0);
        let dropped = &mut self.media.counters.dropped;
        dropped.add(&subscriber.subscription.drops);
        self.step();
        if let Some(source) = subscriber.source {
            self.media.sources[source.0].remove_subscriber(key);
            self.media.tell_limit(source);
        }
        if let Some(transport) = self.media.transports.get_mut(subscriber.transport.0) {
            transport.subscribers.retain(|other| *other != key);
        }
    }

    /// Follows a change of what feeds `sink`.
    pub(super) fn rewire(&mut self, now: Instant, sink: ElementKey, kind: MediaKind) {
        for endpoint in self.graph.affected(sink, kind) {
            self.rewire_endpoint(now, endpoint, kind);
        }
    }

    pub(super) fn rewire_endpoint(&mut self, now: Instant, sink: ElementKey, kind: MediaKind) {
        if let Some(&trunk) = self.trunks.get(&sink) {
            return self.rewire_trunk(trunk);
        }
        let Some(subscriber_key) = self
            .endpoints
            .get(&sink)
            .and_then(|endpoint| endpoint.tracks(kind).subscriber)
        else {
            return;
        };
        let source_key = self.source_for(sink, kind);
        let former = self.media.subscribers[subscriber_key.0].source;
        if let Some(former) = former.filter(|former| Some(*former) != source_key) {
            self.media.sources[former.0].remove_subscriber(subscriber_key);
            self.media.tell_limit(former);
        }
        self.step();
        let subscriber = &mut self.media.subscribers[subscriber_key.0];
        subscriber.attach(source_key.map(|key| (key, &self.media.sources[key.0])));
        self.step();
        let Some(source_key) = source_key else {
            return;
        };
        let source = &mut self.media.sources[source_key.0];
        if !source.subscribers.contains(&subscriber_key) {
            source.subscribers.push(subscriber_key);
        }
        self.media.tell_limit(source_key);
        self.step();
        let transport = self.media.subscribers[subscriber_key.0].transport;
        self.media.divide_for(now, transport);
        self.media.request_key_frame(now, subscriber_key);
        self.step();
        self.arm_source_of(subscriber_key);
    }

    /// What the graph feeds a sink with, if the sink may send it on.
    pub(super) fn source_for(&self, sink: ElementKey, kind: MediaKind) -> Option<SourceKey> {
        let subscriber = self.endpoints.get(&sink)?.tracks(kind).subscriber?;
        if !self.media.subscribers[subscriber.0].section.send {
            return None;
        }
        let origin = self.graph.origin(sink, kind)?;
        self.endpoints.get(&origin)?.tracks(kind).source
    }

    /// A request of a subscriber may have set a deadline for its publisher's transport.
    pub(super) fn arm_source_of(&mut self, subscriber: SubscriberKey) {
        let Some(source) = self.media.subscribers[subscriber.0].source else {
            return;
        };
        self.arm(self.media.sources[source.0].transport);
    }

    /// Tells the peer that this is the end.
    pub(super) fn say_goodbye(&mut self, now: Instant, key: TransportKey) {
        let Some(transport) = self.media.transports.get_mut(key.0) else {
            return;
        };
        if let Session::Plain(_) = transport.session {
            return self.media.send_goodbye(key);
        }
        if let Some(dtls) = transport.dtls_mut() {
            dtls.close(now);
            let mut notices = Vec::new();
            transport.drive(now, &mut self.media.outbox, &mut notices);
        }
    }

    /// Forgets the addresses and deadlines of a transport.
    pub(super) fn forget_transport(&mut self, key: TransportKey) {
        self.last_flow = None;
        let Some(transport) = self.media.transports.get_mut(key.0) else {
            return;
        };
        self.timers.arm(key.0, &mut transport.armed, None);
        match &transport.session {
            Session::Secure { ice, .. } => {
                for ufrag in ice.ufrags() {
                    self.ufrags.remove(ufrag);
                }
                for flow in ice.flows() {
                    self.forgotten
                        .extend(self.flows.remove(&flow).map(|_| flow));
                }
            }
            Session::Plain(peer) => {
                self.plain_ports.remove(&peer.local_port());
            }
            Session::Mirror { .. } => {}
        }
    }

    pub(super) fn signal_candidates(&self, key: ElementKey) {
        let candidates = self.endpoints[&key].signaled_candidates(&self.candidates);
        if candidates.is_empty() {
            return;
        }
        let events = &self.graph.element(key).events;
        for candidate in candidates {
            events.send(Event::IceCandidateFound(candidate));
        }
        events.send(Event::IceGatheringDone);
    }
}

fn fingerprint(description: &TransportDescription) -> Result<Fingerprint, Error> {
    description
        .remote_fingerprints
        .first()
        .cloned()
        .ok_or_else(|| Error::Sdp("no usable fingerprint".to_owned()))
}
