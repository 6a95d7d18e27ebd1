//! What the application asks of the engine: elements, negotiation, connections.
//!
//! The methods have the shapes of [`media::MediaServer`]. Negotiation follows one pattern: the pure
//! functions of [`sdp`] agree on something, [`negotiated`](mod@super::negotiated) makes it so.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use media::{
    BandwidthLimits, Delivery, ElementId, ElementKind, EndpointStats, Error, ErrorKind, Event,
    EventSender, IceCandidate, MediaKind, OfferOptions, PipelineId,
};
use rand::Rng;

use super::Engine;
use super::endpoint::{Endpoint, Negotiation};
use super::graph::{ElementKey, Role};
use super::ice::Credentials;
use super::ids;
use super::sctp::Sctp;
use super::sdp::{
    self, Candidate, Codec, Description, LocalParameters, LocalSsrcs, Negotiated, OfferedSections,
    SdpError, TRANSPORTS_MAX,
};

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

impl Engine {
    /// Makes a pipeline. A pipeline of this core has no failures of its own to tell.
    pub fn create_pipeline(&mut self, _now: Instant, _events: EventSender) -> PipelineId {
        let id = ids::pipeline(self.worker);
        self.graph.add_pipeline(id.clone());
        id
    }

    /// Makes place for elements of a pipeline that was made on another worker.
    pub fn add_branch(&mut self, pipeline: &PipelineId) {
        if !self.graph.has_pipeline(pipeline) {
            self.graph.add_pipeline(pipeline.clone());
        }
    }

    /// Makes any element but an RTP endpoint, for which there is [`Engine::create_rtp_endpoint`].
    pub fn create_element(
        &mut self,
        _now: Instant,
        pipeline: &PipelineId,
        kind: ElementKind,
        events: EventSender,
    ) -> Result<ElementId, Error> {
        let id = ids::element(pipeline, self.worker, &kind);
        let role = match kind {
            ElementKind::WebRtcEndpoint { .. } => Role::Endpoint,
            ElementKind::RtpEndpoint { .. } => {
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
            ElementKind::WebRtcEndpoint {
                data_channels,
                peer,
            } => {
                let endpoint = Endpoint {
                    data_channels,
                    peer,
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

    /// Makes an endpoint describe itself from here on as Kurento's do, which leave out what they do not know.
    pub fn be_strict(&mut self, id: &ElementId) {
        let key = self.graph.key(id).ok();
        if let Some(endpoint) = key.and_then(|key| self.endpoints.get_mut(&key)) {
            endpoint.strict = true;
        }
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
        // Candidates that were told along with the offer are not told again.
        let gathers = self
            .endpoints
            .get_mut(&key)
            .map(|endpoint| std::mem::take(&mut endpoint.gather));
        let applied = self.apply(now, key, negotiated);
        if let (Some(endpoint), Some(gathers)) = (self.endpoints.get_mut(&key), gathers) {
            endpoint.gather = gathers;
        }
        applied.map(|()| offer)
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

    /// Feeds one element from another, which may live on another worker. The sink must live here.
    pub fn connect(
        &mut self,
        now: Instant,
        source: &ElementId,
        sink: &ElementId,
        kind: Option<MediaKind>,
    ) -> Result<(), Error> {
        let sink = self.graph.key(sink)?;
        let pipeline = self.graph.element(sink).pipeline.clone();
        let source = self.element_or_mirror(source, &pipeline)?;
        for kind in kinds(kind) {
            let former = self.graph.feeder(sink, kind);
            self.graph.connect(source, sink, kind)?;
            self.step();
            self.rewire(now, sink, kind);
            if let Some(former) = former.filter(|former| *former != source) {
                self.tend_mirrors(former);
            }
        }
        self.tend_mirrors(source);
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
        let source = match self.graph.key(source) {
            // Without a stand-in it feeds nobody here.
            Err(_) if self.is_foreign(source) => return self.graph.key(sink).map(|_| ()),
            source => source?,
        };
        let sink = self.graph.key(sink)?;
        for kind in kinds(kind) {
            self.graph.disconnect(source, sink, kind);
            self.step();
            self.rewire(now, sink, kind);
        }
        self.tend_mirrors(source);
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
            let subscriber = &mut self.media.subscribers[subscriber.0];
            subscriber.limits = limits;
            if let Some(source) = subscriber.source {
                self.media.tell_limit(source);
            }
        }
        Ok(())
    }

    /// Says what the peer of an endpoint wants to be sent, now and after later negotiations.
    pub fn set_delivery(
        &mut self,
        now: Instant,
        id: &ElementId,
        delivery: Delivery,
    ) -> Result<(), Error> {
        let key = self.endpoint_key(id, "setDelivery")?;
        let Some(endpoint) = self.endpoints.get_mut(&key) else {
            return Ok(());
        };
        endpoint.delivery = delivery;
        let tracks = [endpoint.audio, endpoint.video];
        for subscriber in tracks.into_iter().filter_map(|tracks| tracks.subscriber) {
            let it = &mut self.media.subscribers[subscriber.0];
            it.delivery = delivery;
            let transport = it.transport;
            self.media.divide_for(now, transport);
            self.media.tell_delivery(subscriber);
        }
        Ok(())
    }

    /// Counters of an endpoint.
    pub fn stats(&mut self, _now: Instant, id: &ElementId) -> Result<EndpointStats, Error> {
        let key = self.endpoint_key(id, "getStats")?;
        let endpoint = &self.endpoints[&key];
        let mut stats = EndpointStats::default();
        for tracks in [endpoint.audio, endpoint.video] {
            if let Some(source) = tracks.source {
                stats.streams.extend(self.media.sources[source.0].stats());
            }
            if let Some(subscriber) = tracks.subscriber {
                stats
                    .streams
                    .push(self.media.subscribers[subscriber.0].stats());
            }
        }
        let data = self.data_transport(&endpoint.transports);
        let sctp = data.and_then(|key| self.media.transports[key.0].sctp.as_deref());
        stats
            .channels
            .extend(sctp.into_iter().flat_map(Sctp::stats));
        Ok(stats)
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
            // What stands for elements of other workers goes with those here that need it.
            if self.graph.contains(key) {
                self.release(now, key);
            }
        }
        self.graph.remove_pipeline(id);
    }

    pub(super) fn release(&mut self, now: Instant, key: ElementKey) {
        if self.graph.element(key).role == Role::Trunk {
            return self.end_trunk(key);
        }
        for kind in MediaKind::ALL {
            for trunk in self.graph.sinks_of(key, kind, Role::Trunk) {
                self.end_trunk(trunk);
            }
        }
        let mirrors = self.endpoints.get(&key).map(|endpoint| endpoint.mirrors);
        for mirror in mirrors.into_iter().flatten().flatten() {
            self.remove_mirror(mirror);
        }
        let feeders = MediaKind::ALL.map(|kind| self.graph.feeder(key, kind));
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
                self.remove_transport(*transport);
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
        for feeder in feeders.into_iter().flatten() {
            self.tend_mirrors(feeder);
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
            audio_kbps_max: endpoint.limits.max_audio_recv.map(|limit| limit.0),
            video_kbps_max: endpoint.limits.max_video_recv.map(|limit| limit.0),
            transport_cc: true,
            strict: endpoint.strict,
        }
    }
}

fn kinds(kind: Option<MediaKind>) -> impl Iterator<Item = MediaKind> {
    MediaKind::ALL
        .into_iter()
        .filter(move |each| kind.is_none_or(|kind| kind == *each))
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
