//! What the application asks of the engine: elements, negotiation, connections.
//!
//! The methods have the shapes of [`media::MediaServer`]. Negotiation follows one pattern: the pure
//! functions of [`sdp`](super::sdp) agree on something, [`Engine::apply`] makes it so.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use media::{
    BandwidthLimits, ElementId, ElementKind, Error, ErrorKind, Event, EventSender, IceCandidate,
    MediaKind, OfferOptions, PipelineId, StreamStats,
};
use rand::Rng;
use smallvec::SmallVec;

use super::Engine;
use super::certificate::Fingerprint;
use super::dtls::Dtls;
use super::endpoint::{Endpoint, Negotiation, Tracks};
use super::graph::{ElementKey, Role};
use super::ice::{Credentials, IceLite};
use super::sdp::{
    self, Candidate, Codec, Description, LocalParameters, LocalSsrcs, Negotiated, OfferedSections,
    SdpError, Section, TRANSPORTS_MAX, TransportDescription,
};
use super::source::{Source, SourceKey};
use super::subscriber::{FirstNumbers, Subscriber, SubscriberKey};
use super::transport::{Session, Transport, TransportKey};

/// Largest data-channel message, in bytes: what Chromium and Firefox use between themselves.
const MESSAGE_BYTES_MAX: u32 = 256 * 1024;

/// Codecs of our offers, in their order.
const CODECS: [Codec; 7] = [
    Codec::Opus,
    Codec::Pcmu,
    Codec::Pcma,
    Codec::Vp8,
    Codec::H264,
    Codec::Vp9,
    Codec::Av1,
];

/// A transport of an agreement that is not applied yet.
enum PreparedTransport {
    /// One that goes on.
    Continued(TransportKey),
    Fresh(Box<Transport>),
}

impl Engine {
    /// Makes a pipeline. A pipeline of this core has no failures of its own to tell.
    pub fn create_pipeline(&mut self, _now: Instant, _events: EventSender) -> PipelineId {
        let number: u64 = rand::random();
        let id = PipelineId::new(format!(
            "{:04x}{number:016x}_kurento.MediaPipeline",
            self.worker
        ));
        self.graph.add_pipeline(id.clone());
        id
    }

    /// Makes any element but an RTP endpoint, for which there is [`Engine::create_rtp_endpoint`].
    pub fn create_element(
        &mut self,
        _now: Instant,
        pipeline: &PipelineId,
        kind: ElementKind,
        events: EventSender,
    ) -> Result<ElementId, Error> {
        let id = Self::element_id(pipeline, &kind);
        let role = match kind {
            ElementKind::WebRtcEndpoint { .. } => Role::Endpoint,
            ElementKind::RtpEndpoint => {
                return Err(Error::Unsupported {
                    element: id,
                    operation: "create",
                });
            }
            _ => Role::PassThrough,
        };
        let key = self
            .graph
            .add_element(id.clone(), pipeline, role, events.clone())?;
        self.step();
        match kind {
            ElementKind::WebRtcEndpoint { data_channels } => {
                let endpoint = Endpoint {
                    data_channels,
                    session: u64::from(rand::random::<u32>()),
                    ..Endpoint::default()
                };
                self.endpoints.insert(key, endpoint);
            }
            // A filter cannot run here. Applications abort whole calls when creating one fails, so it
            // lets media pass unchanged and says so.
            ElementKind::Other(class) => events.send(Event::Error {
                kind: ErrorKind::StreamFailed,
                description: format!("{class} cannot process media here; it passes unchanged"),
                code: 1,
            }),
            _ => {}
        }
        Ok(id)
    }

    pub(super) fn element_id(pipeline: &PipelineId, kind: &ElementKind) -> ElementId {
        let number: u64 = rand::random();
        let class = kind.class_name();
        ElementId::new(format!("{pipeline}/{number:016x}_kurento.{class}"))
    }

    /// Answers an offer, the first one or one that renegotiates.
    pub fn process_offer(
        &mut self,
        now: Instant,
        id: &ElementId,
        offer: &str,
    ) -> Result<String, Error> {
        let key = self.endpoint_key(id, "processOffer")?;
        let endpoint = &self.endpoints[&key];
        if let Some(ports) = endpoint.ports {
            return self.process_plain_offer(now, key, &ports, offer);
        }
        let previous = match &endpoint.negotiation {
            Negotiation::Fresh => None,
            Negotiation::Done(negotiated) => Some(&**negotiated),
            _ => return Err(Error::AlreadyNegotiated),
        };
        let local = self.local_parameters(endpoint);
        let (answer, negotiated) = contained(|| {
            let description = Description::parse(offer)?;
            sdp::answer(&description, &local, previous)
        })?;
        self.finish(now, key, &answer, negotiated)
    }

    /// Makes an offer.
    pub fn generate_offer(
        &mut self,
        _now: Instant,
        id: &ElementId,
        options: OfferOptions,
    ) -> Result<String, Error> {
        let key = self.endpoint_key(id, "generateOffer")?;
        let endpoint = &self.endpoints[&key];
        if let Some(ports) = endpoint.ports {
            return self.generate_plain_offer(key, &ports, options);
        }
        let Negotiation::Fresh = endpoint.negotiation else {
            return Err(Error::AlreadyNegotiated);
        };
        let local = self.local_parameters(endpoint);
        let sections = OfferedSections {
            audio: options.audio,
            video: options.video,
            send: true,
            receive: true,
        };
        let (text, pending) = sdp::offer(&local, sections);
        let offer = sdp::embed_candidates(&text, &self.candidates);
        if let Some(endpoint) = self.endpoints.get_mut(&key) {
            endpoint.negotiation = Negotiation::Offered(Box::new(pending));
            endpoint.local_description.clone_from(&offer);
        }
        Ok(offer)
    }

    /// Applies the answer to our offer. Returns our description.
    pub fn process_answer(
        &mut self,
        now: Instant,
        id: &ElementId,
        answer: &str,
    ) -> Result<String, Error> {
        let key = self.endpoint_key(id, "processAnswer")?;
        let endpoint = &self.endpoints[&key];
        if let Some(ports) = endpoint.ports {
            return self.process_plain_answer(now, key, &ports, answer);
        }
        let pending = match &endpoint.negotiation {
            Negotiation::Offered(pending) => pending,
            Negotiation::Fresh => return Err(Error::NoOffer),
            _ => return Err(Error::AlreadyNegotiated),
        };
        let negotiated = contained(|| pending.accept_answer(answer))?;
        let offer = endpoint.local_description.clone();
        self.apply(now, key, negotiated)?;
        Ok(offer)
    }

    /// Reports our candidates, at once or as soon as there is a transport.
    pub fn gather_candidates(&mut self, _now: Instant, id: &ElementId) -> Result<(), Error> {
        let key = self.web_endpoint_key(id, "gatherCandidates")?;
        if let Some(endpoint) = self.endpoints.get_mut(&key) {
            endpoint.gather = true;
        }
        self.signal_candidates(key);
        Ok(())
    }

    /// Checks a candidate of the peer. An ICE-lite agent only answers checks, so nothing is kept of it.
    pub fn add_ice_candidate(
        &mut self,
        _now: Instant,
        id: &ElementId,
        candidate: &IceCandidate,
    ) -> Result<(), Error> {
        let key = self.web_endpoint_key(id, "addIceCandidate")?;
        if candidate.candidate.is_empty() {
            return Ok(());
        }
        Candidate::parse(&candidate.candidate)
            .map_err(|error| Error::Candidate(error.to_string()))?;
        let index = usize::from(candidate.sdp_m_line_index);
        match &self.endpoints[&key].negotiation {
            Negotiation::Done(negotiated)
                if negotiated
                    .transport_for(index, &candidate.sdp_mid)
                    .is_none() =>
            {
                Err(Error::Candidate("no such media section".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Feeds one element from another.
    pub fn connect(
        &mut self,
        now: Instant,
        source: &ElementId,
        sink: &ElementId,
        kind: Option<MediaKind>,
    ) -> Result<(), Error> {
        let (source, sink) = (self.graph.key(source)?, self.graph.key(sink)?);
        for kind in kinds(kind) {
            self.graph.connect(source, sink, kind)?;
            self.step();
            self.rewire(now, sink, kind);
        }
        Ok(())
    }

    /// Cuts one element off another.
    pub fn disconnect(
        &mut self,
        now: Instant,
        source: &ElementId,
        sink: &ElementId,
        kind: Option<MediaKind>,
    ) -> Result<(), Error> {
        let (source, sink) = (self.graph.key(source)?, self.graph.key(sink)?);
        for kind in kinds(kind) {
            self.graph.disconnect(source, sink, kind);
            self.step();
            self.rewire(now, sink, kind);
        }
        Ok(())
    }

    /// Bounds the video of an endpoint, now and after later negotiations.
    pub fn set_bandwidth(
        &mut self,
        _now: Instant,
        id: &ElementId,
        limits: BandwidthLimits,
    ) -> Result<(), Error> {
        let key = self.endpoint_key(id, "setBandwidth")?;
        let Some(endpoint) = self.endpoints.get_mut(&key) else {
            return Ok(());
        };
        endpoint.limits = limits;
        if let Some(source) = endpoint.video.source {
            self.media.sources[source.0].limit(&limits);
        }
        if let Some(subscriber) = endpoint.video.subscriber {
            self.media.subscribers[subscriber.0].limits = limits;
        }
        Ok(())
    }

    /// Counters of every RTP stream of an endpoint.
    pub fn stats(&mut self, _now: Instant, id: &ElementId) -> Result<Vec<StreamStats>, Error> {
        let key = self.endpoint_key(id, "getStats")?;
        let endpoint = &self.endpoints[&key];
        let mut streams = Vec::new();
        for tracks in [endpoint.audio, endpoint.video] {
            if let Some(source) = tracks.source {
                streams.extend(self.media.sources[source.0].stats());
            }
            if let Some(subscriber) = tracks.subscriber {
                streams.push(self.media.subscribers[subscriber.0].stats());
            }
        }
        Ok(streams)
    }

    /// Releases an element. Unknown ids are ignored.
    pub fn release_element(&mut self, now: Instant, id: &ElementId) {
        let Ok(key) = self.graph.key(id) else {
            return;
        };
        self.release(now, key);
    }

    /// Releases a pipeline with its elements. Unknown ids are ignored.
    pub fn release_pipeline(&mut self, now: Instant, id: &PipelineId) {
        for key in self.graph.take_elements(id) {
            self.release(now, key);
        }
        self.graph.remove_pipeline(id);
    }

    fn release(&mut self, now: Instant, key: ElementKey) {
        let behind = MediaKind::ALL.map(|kind| self.graph.receivers(key, kind));
        if let Some(endpoint) = self.endpoints.get(&key) {
            let transports = endpoint.transports.clone();
            let tracks = [endpoint.audio, endpoint.video];
            for transport in &transports {
                self.say_goodbye(now, *transport);
                self.step();
                self.forget_transport(*transport);
            }
            for tracks in tracks {
                if let Some(source) = tracks.source {
                    self.remove_source(source);
                }
                if let Some(subscriber) = tracks.subscriber {
                    self.remove_subscriber(subscriber);
                }
            }
            for transport in &transports {
                self.media.transports.remove(transport.0);
                self.step();
            }
            if let Some(endpoint) = self.endpoints.remove(&key) {
                self.released_ports.extend(endpoint.ports);
            }
        }
        self.step();
        self.graph.remove_element(key);
        for (kind, sinks) in MediaKind::ALL.into_iter().zip(behind) {
            for sink in sinks.into_iter().filter(|sink| *sink != key) {
                self.rewire_endpoint(now, sink, kind);
            }
        }
    }

    /// Ends a negotiation that had our description last.
    fn finish(
        &mut self,
        now: Instant,
        key: ElementKey,
        local: &str,
        negotiated: Negotiated,
    ) -> Result<String, Error> {
        let local = sdp::embed_candidates(local, &self.candidates);
        self.apply(now, key, negotiated)?;
        if let Some(endpoint) = self.endpoints.get_mut(&key) {
            endpoint.local_description.clone_from(&local);
        }
        Ok(local)
    }

    /// Makes what was agreed true: transports, incoming and outgoing tracks, routes. All that can be
    /// refused is found out before anything changes.
    fn apply(
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
            self.media.transports.remove(transport.0);
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
        let transport = Transport::new(owner, events, Session::Secure { ice, dtls });
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
        let subscriber = SubscriberKey(self.media.subscribers.insert(subscriber));
        self.step();
        let transport = &mut self.media.transports[transport.0];
        transport.subscribers.push(subscriber);
        Some(subscriber)
    }

    fn remove_source(&mut self, key: SourceKey) {
        let source = self.media.sources.remove(key.0);
        self.step();
        for subscriber in source.subscribers {
            self.media.subscribers[subscriber.0].attach(None);
        }
        if let Some(transport) = self.media.transports.get_mut(source.transport.0) {
            transport.sources.retain(|other| *other != key);
            transport.retire(|stream| stream.source == key);
        }
    }

    fn remove_subscriber(&mut self, key: SubscriberKey) {
        let subscriber = self.media.subscribers.remove(key.0);
        let dropped = &mut self.media.counters.dropped;
        dropped.add(&subscriber.subscription.drops);
        self.step();
        if let Some(source) = subscriber.source {
            self.media.sources[source.0].remove_subscriber(key);
        }
        if let Some(transport) = self.media.transports.get_mut(subscriber.transport.0) {
            transport.subscribers.retain(|other| *other != key);
        }
    }

    /// Follows a change of what feeds `sink`.
    fn rewire(&mut self, now: Instant, sink: ElementKey, kind: MediaKind) {
        for endpoint in self.graph.affected(sink, kind) {
            self.rewire_endpoint(now, endpoint, kind);
        }
    }

    fn rewire_endpoint(&mut self, now: Instant, sink: ElementKey, kind: MediaKind) {
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
    fn say_goodbye(&mut self, now: Instant, key: TransportKey) {
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
        self.timers.arm(key, &mut transport.armed, None);
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
        }
    }

    fn signal_candidates(&self, key: ElementKey) {
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

    pub(super) fn endpoint_key(
        &self,
        id: &ElementId,
        operation: &'static str,
    ) -> Result<ElementKey, Error> {
        let key = self.graph.key(id)?;
        if !self.endpoints.contains_key(&key) {
            return Err(Error::Unsupported {
                element: id.clone(),
                operation,
            });
        }
        Ok(key)
    }

    pub(super) fn local_parameters(&self, endpoint: &Endpoint) -> LocalParameters {
        let mut random = rand::rng();
        LocalParameters {
            session_id: endpoint.session,
            ice: std::array::from_fn::<_, TRANSPORTS_MAX, _>(|_| Credentials::random(self.worker)),
            ice_lite: true,
            fingerprint: self.config.certificate.fingerprint().clone(),
            ssrcs: LocalSsrcs {
                audio: random.random(),
                video: random.random(),
                video_rtx: random.random(),
            },
            cname: format!("tertulia-{:08x}", endpoint.session),
            stream_id: format!("{:08x}", endpoint.session),
            data_channels: endpoint.data_channels,
            max_message_size: MESSAGE_BYTES_MAX,
            preferred_video_codec: self.config.preferred_video_codec,
            codecs: CODECS.to_vec(),
            audio_kbps_max: None,
            video_kbps_max: endpoint.limits.max_video_recv.map(|limit| limit.0),
            transport_cc: true,
            strict: false,
        }
    }
}

fn kinds(kind: Option<MediaKind>) -> impl Iterator<Item = MediaKind> {
    MediaKind::ALL
        .into_iter()
        .filter(move |each| kind.is_none_or(|kind| kind == *each))
}

fn fingerprint(description: &TransportDescription) -> Result<Fingerprint, Error> {
    description
        .remote_fingerprints
        .first()
        .cloned()
        .ok_or_else(|| Error::Sdp("no usable fingerprint".to_owned()))
}

/// Reads text of a peer. A bug of ours met on the way costs this call only: nothing has changed yet.
pub(super) fn contained<T>(read: impl FnOnce() -> Result<T, SdpError>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(read))
        .map_err(|_| {
            tracing::error!("a session description caused a panic; refusing it");
            Error::Sdp("Error parsing SDP".to_owned())
        })?
        .map_err(refused)
}

fn refused(error: SdpError) -> Error {
    if let SdpError::Malformed(reason) = &error {
        tracing::debug!(reason, "session description refused");
    }
    Error::Sdp(error.to_string())
}
