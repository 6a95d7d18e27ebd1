//! RTP endpoints: plain RTP with gateways and cameras, without ICE and DTLS; with SRTP if SDES gives the keys.
//!
//! [`Engine::create_rtp_endpoint`] gets ports that its caller has opened, and gives them back through
//! [`Engine::poll_released_ports`] when the endpoint is gone. Every media section becomes a transport
//! with a pair of these ports; beyond that, tracks and routes are those of WebRTC endpoints.
//!
//! **Invariant.** Only the peer's datagrams count, as [`PlainPeer`] tells them; but source addresses can
//! be forged, and media is sent to wherever the description says, unasked. Descriptions must therefore come
//! from an application that is trusted. With SDES, who sends must have the key too.
//! Deliberately absent: renegotiation, and an end of a
//! session for silence, since who only receives need not send anything.

use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use forwarding::rtcp::Packets;
use forwarding::rtp::Header;
use media::{
    ElementId, ElementKind, Error, EventSender, MediaKind, OfferOptions, PipelineId, Sdes,
};

use super::Engine;
use super::commands::contained;
use super::counters::Discard;
use super::endpoint::{Endpoint, Negotiation};
use super::flow::Flow;
use super::graph::{ElementKey, Role};
use super::ids;
use super::plain::{Origin, Part, PlainPeer};
use super::sdp::{self, CryptoKey, Description, OfferedSections, PlainNegotiated, PlainPorts};
use super::srtp::KeyingMaterial;
use super::transport::{Protection, Session, Transport, TransportKey};

/// Ports opened for one RTP endpoint. Each is even, and the next one is open for RTCP. No other endpoint of the engine
/// has the same number, not even at another address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPorts {
    /// Address of the sockets; may be the unspecified one.
    pub bound: IpAddr,
    /// What the peer is told.
    pub told: PlainPorts,
}

impl RtpPorts {
    fn local(&self, kind: MediaKind) -> SocketAddr {
        let port = match kind {
            MediaKind::Audio => self.told.audio,
            MediaKind::Video | MediaKind::Data => self.told.video,
        };
        SocketAddr::new(self.bound, port)
    }
}

impl Engine {
    /// Makes an RTP endpoint. The ports belong to the engine from here on, even if this fails.
    pub fn create_rtp_endpoint(
        &mut self,
        _now: Instant,
        pipeline: &PipelineId,
        ports: RtpPorts,
        sdes: Option<Sdes>,
        events: EventSender,
    ) -> Result<ElementId, Error> {
        let local_key = sdes.as_ref().map(CryptoKey::of);
        let ipv6 = ports.bound.is_ipv6();
        let kind = ElementKind::RtpEndpoint { sdes, ipv6 };
        let id = ids::element(pipeline, self.worker, &kind);
        let added = self
            .graph
            .add_element(id.clone(), pipeline, Role::Endpoint, events);
        let key = match added {
            Ok(key) => key,
            Err(error) => {
                self.released_ports.push(ports);
                return Err(error);
            }
        };
        self.endpoints.insert(
            key,
            Endpoint {
                session: u64::from(rand::random::<u32>()),
                ports: Some(ports),
                key: local_key,
                ..Endpoint::default()
            },
        );
        Ok(id)
    }

    /// Ports whose endpoint is gone. Close them once what waits in the outbox has left.
    pub fn poll_released_ports(&mut self) -> Option<RtpPorts> {
        self.released_ports.pop()
    }

    /// Takes one UDP datagram that came to a port of an RTP endpoint.
    pub fn handle_plain_datagram(&mut self, now: Instant, flow: Flow, datagram: &mut [u8]) {
        let part = Part::of_port(flow.local.port());
        let Some(&key) = self.plain_ports.get(&(flow.local.port() & !1)) else {
            return self.media.counters.discard(Discard::NotValidated);
        };
        let handled = catch_unwind(AssertUnwindSafe(|| {
            let origin = self.origin(key, flow, part)?;
            let is_secured = self.media.transports[key.0]
                .protection
                .as_ref()
                .is_some_and(|protection| protection.profile().is_some());
            // Without keys there is nothing else to tell a peer by; with keys, what it sends is.
            if !is_secured {
                self.admit(now, key, flow, part, origin, Some(datagram))?;
            }
            match part {
                Part::Rtp => self.media.handle_rtp(now, key, datagram),
                Part::Rtcp => self.media.handle_rtcp(now, key, datagram),
            }?;
            match is_secured {
                true => self.admit(now, key, flow, part, origin, None),
                false => Ok(()),
            }
        }));
        self.settle(now, key, handled);
    }

    /// Who sent a datagram; strangers are refused.
    fn origin(&self, key: TransportKey, flow: Flow, part: Part) -> Result<Origin, Discard> {
        let Session::Plain(peer) = &self.media.transports[key.0].session else {
            return Err(Discard::NotValidated);
        };
        match peer.origin(flow.remote, part) {
            Origin::Stranger => Err(Discard::NotValidated),
            origin => Ok(origin),
        }
    }

    /// Takes the sender of a datagram for the peer, if it is none that proved itself only if it looks like media.
    fn admit(
        &mut self,
        now: Instant,
        key: TransportKey,
        flow: Flow,
        part: Part,
        origin: Origin,
        unproved: Option<&[u8]>,
    ) -> Result<(), Discard> {
        let media = &mut self.media;
        let transport = &mut media.transports[key.0];
        let Session::Plain(peer) = &mut transport.session else {
            return Err(Discard::NotValidated);
        };
        match origin {
            Origin::Peer => {}
            Origin::Stranger => return Err(Discard::NotValidated),
            Origin::Unknown => {
                let mut sources = transport.sources.iter().map(|key| &media.sources[key.0]);
                let is_media = match (unproved, part) {
                    (None, _) => true,
                    (Some(datagram), Part::Rtp) => {
                        let header = Header::parse(datagram).map_err(|_| Discard::Malformed)?;
                        // A peer that only receives opens the way with packets of any kind.
                        transport.sources.is_empty()
                            || sources.any(|source| source.payload(header.payload_type()).is_some())
                    }
                    (Some(datagram), Part::Rtcp) => {
                        matches!(Packets::new(datagram).next(), Some(Ok(_)))
                    }
                };
                if !is_media {
                    return Err(Discard::NotValidated);
                }
                peer.learn(flow.remote, part);
                transport.flow = peer.rtp_flow();
            }
        }
        if !std::mem::replace(&mut transport.connected, true) {
            self.handle_connected(now, key);
        }
        Ok(())
    }

    /// As [`Engine::endpoint_key`], for what plain RTP does not have.
    pub(super) fn web_endpoint_key(
        &self,
        id: &ElementId,
        operation: &'static str,
    ) -> Result<ElementKey, Error> {
        let key = self.endpoint_key(id, operation)?;
        if self.endpoints[&key].ports.is_some() {
            return Err(Error::Unsupported {
                element: id.clone(),
                operation,
            });
        }
        Ok(key)
    }

    /// As [`Engine::process_offer`].
    pub(super) fn process_plain_offer(
        &mut self,
        now: Instant,
        key: ElementKey,
        ports: &RtpPorts,
        offer: &str,
    ) -> Result<String, Error> {
        let endpoint = &self.endpoints[&key];
        let Negotiation::Fresh = endpoint.negotiation else {
            return Err(Error::AlreadyNegotiated);
        };
        let local = self.local_parameters(endpoint);
        let (answer, negotiated) = contained(|| {
            let description = Description::parse(offer)?;
            Ok(sdp::answer_plain(
                &description,
                &local,
                &ports.told,
                endpoint.key.as_ref(),
            ))
        })?;
        self.apply_plain(now, key, ports, &negotiated)?;
        Ok(answer)
    }

    /// As [`Engine::generate_offer`].
    pub(super) fn generate_plain_offer(
        &mut self,
        key: ElementKey,
        ports: &RtpPorts,
        options: OfferOptions,
    ) -> Result<String, Error> {
        let endpoint = &self.endpoints[&key];
        let Negotiation::Fresh = endpoint.negotiation else {
            return Err(Error::AlreadyNegotiated);
        };
        let sections = OfferedSections {
            audio: options.audio,
            video: options.video,
            send: true,
            receive: true,
        };
        let local = self.local_parameters(endpoint);
        let secret = endpoint.key.as_ref();
        let (offer, pending) = sdp::offer_plain(&local, sections, &ports.told, secret);
        if let Some(endpoint) = self.endpoints.get_mut(&key) {
            endpoint.negotiation = Negotiation::OfferedPlain(Box::new(pending));
            endpoint.local_description.clone_from(&offer);
        }
        Ok(offer)
    }

    /// As [`Engine::process_answer`].
    pub(super) fn process_plain_answer(
        &mut self,
        now: Instant,
        key: ElementKey,
        ports: &RtpPorts,
        answer: &str,
    ) -> Result<String, Error> {
        let endpoint = &self.endpoints[&key];
        let pending = match &endpoint.negotiation {
            Negotiation::OfferedPlain(pending) => pending,
            Negotiation::Fresh => return Err(Error::NoOffer),
            _ => return Err(Error::AlreadyNegotiated),
        };
        let negotiated = contained(|| pending.accept_answer(answer))?;
        let offer = endpoint.local_description.clone();
        self.apply_plain(now, key, ports, &negotiated)?;
        Ok(offer)
    }

    /// Makes what was agreed true.
    fn apply_plain(
        &mut self,
        now: Instant,
        key: ElementKey,
        ports: &RtpPorts,
        negotiated: &PlainNegotiated,
    ) -> Result<(), Error> {
        let is_reachable = |address: SocketAddr| {
            let is_mapped = address.ip() != address.ip().to_canonical();
            address.is_ipv4() == ports.bound.is_ipv4() && !is_mapped
        };
        let peers = &negotiated.transports;
        if !peers
            .iter()
            .filter(|peer| !peer.learn_address)
            .filter_map(|peer| peer.rtp)
            .all(is_reachable)
        {
            let family = if ports.bound.is_ipv4() {
                "IPv4"
            } else {
                "IPv6"
            };
            return Err(Error::Sdp(format!(
                "the peer's address must be of our family, which is {family}"
            )));
        }
        // One transport for each accepted section, in their order.
        let accepted = negotiated
            .sections
            .iter()
            .filter(|section| section.accepted);
        for (section, description) in accepted.clone().zip(peers) {
            let local = ports.local(section.kind);
            let peer = PlainPeer::new(local, description);
            let events = self.graph.element(key).events.clone();
            let flow = peer.rtp_flow();
            let local_key = self.endpoints[&key].key.as_ref();
            let keys = local_key.zip(description.key.as_ref());
            let mut transport = Transport::new(key, events, Session::Plain(peer));
            if let Some((ours, theirs)) = keys {
                let (local, remote) = (ours.master_key(), theirs.master_key());
                let keys = KeyingMaterial { local, remote };
                let protection = Protection::with_keys(keys.local.profile(), &keys);
                transport.protection = Some(protection);
            }
            transport.flow = flow;
            transport.reports_at = Some(now);
            let transport = TransportKey(self.media.transports.insert(transport));
            self.plain_ports.insert(local.port(), transport);
            self.join_downlink(transport);
            if let Some(endpoint) = self.endpoints.get_mut(&key) {
                endpoint.transports.push(transport);
            }
        }
        for section in accepted {
            self.apply_section(key, section.kind, Some(section));
        }
        if let Some(endpoint) = self.endpoints.get_mut(&key) {
            endpoint.negotiation = Negotiation::DonePlain;
            for transport in endpoint.transports.clone() {
                self.arm(transport);
            }
        }
        self.rewire_around(now, key);
        Ok(())
    }
}
