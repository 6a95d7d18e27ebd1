//! The sans-I/O media core of one worker: elements, transports, and the way of every packet.
//!
//! Read [`Engine`] first. It is fed with datagrams, commands and time, and leaves datagrams in an
//! [`Outbox`]. Method families: `handle_*` for what comes in, verbs for commands
//! ([`Engine::create_pipeline`] and so on), `poll_timeout` and `poll_transmits` for what must go out. Engines of one
//! process share pipelines by what they tell each other ([`relay`]).
//!
//! **Invariant.** Nobody is believed before authentication: STUN must prove our password, DTLS and media
//! count only from a 5-tuple that ICE has validated, and a stream is bound after SRTP has opened a
//! packet of it. Plain RTP, which has none of this, comes through a door of its own
//! ([`Engine::handle_plain_datagram`]). A panic while a transport's packet is handled closes that transport only, and
//! replaces a mirror; one in a command releases the element that the command is about ([`Engine::contain`]).
//!
//! Deliberately absent: sockets, threads, clocks.

mod ceiling;
pub mod certificate;
pub mod clock;
mod commands;
mod containment;
pub mod counters;
mod data;
mod delivery;
mod demand;
mod downlink;
pub mod dtls;
mod endpoint;
mod feedback;
pub mod flow;
mod forward;
mod graph;
mod handshakes;
pub mod ice;
pub mod ids;
mod levels;
mod local;
mod media_path;
mod negotiated;
pub mod outbox;
mod outgoing;
mod path;
mod plain;
pub mod relay;
mod requests;
mod route;
mod rtp_endpoint;
pub mod sctp;
pub mod sdp;
mod source;
mod speaking;
pub mod srtp;
mod subscriber;
#[cfg(test)]
mod tests;
pub mod timers;
mod transport;
mod waiting;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Instant;

use forwarding::rtp::{PacketKind, is_rtcp};
use media::{DtlsState, ErrorKind, Event, MediaState};
use rustc_hash::FxHashMap;
use slab::Slab;

use certificate::Certificate;
use clock::Clock;
pub use containment::Subject;
use counters::{Counters, Discard};
use downlink::{DownlinkKey, Group};
use endpoint::Endpoint;
use flow::Flow;
use forward::OUTBOX_BYTES;
use graph::{ElementKey, Graph};
use handshakes::HandshakeQueue;
use ice::{StunOutcome, local_ufrag};
pub use local::LocalTrack;
use media_path::MediaPath;
use outbox::Outbox;
use relay::{Dispatch, Mirror, MirrorId, TrunkKey};
pub use rtp_endpoint::RtpPorts;
use sdp::{Candidate, Codec};
use timers::Timers;
use transport::{Notice, Protection, Session, TransportKey};
use waiting::Waiting;

/// Transports whose deadlines are served in one turn. Too low: retransmissions lag on a busy worker.
/// Too high: media waits behind them.
const TIMEOUTS_PER_TURN_MAX: usize = 256;

/// Datagrams of DTLS handshakes that are served in one turn, up to 300 µs each. Too low: a join storm is worked off
/// slowly. Too high: media waits for it.
const HANDSHAKE_DATAGRAMS_PER_TURN: usize = 2;

/// What an [`Engine`] needs to know.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// For DTLS; one for all transports.
    pub certificate: Certificate,
    /// Our addresses as peers can reach them, most preferred first.
    pub candidates: Vec<SocketAddr>,
    /// TCP is accepted on the same addresses.
    pub ice_tcp: bool,
    /// Listed first in every answer, whatever the peer prefers.
    pub preferred_video_codec: Option<Codec>,
    /// Ties monotonic to wall-clock time.
    pub clock: Clock,
}

/// The media core of one worker.
pub struct Engine {
    config: EngineConfig,
    candidates: Vec<Candidate>,
    worker: usize,
    graph: Graph,
    endpoints: FxHashMap<ElementKey, Endpoint>,
    /// The ways to participants who have several endpoints.
    groups: FxHashMap<Group, DownlinkKey>,
    media: MediaPath,
    /// Who answers to an ICE user name fragment of ours.
    ufrags: FxHashMap<String, TransportKey>,
    /// Validated 5-tuples.
    flows: FxHashMap<Flow, TransportKey>,
    /// Flows that were validated and are not any more, until they are taken.
    forgotten: Vec<Flow>,
    /// The flow before: datagrams come in bursts.
    last_flow: Option<(Flow, TransportKey)>,
    /// Who has a port for plain RTP, by its number.
    plain_ports: FxHashMap<u16, TransportKey>,
    released_ports: Vec<RtpPorts>,
    /// By their places in the graph.
    trunks: FxHashMap<ElementKey, TrunkKey>,
    /// The same by the worker and the mirror that they lead to.
    trunks_by_mirror: FxHashMap<(usize, MirrorId), TrunkKey>,
    mirrors: FxHashMap<MirrorId, Mirror>,
    /// For [`MirrorId`].
    mirrors_made: u64,
    timers: Timers,
    /// Datagrams of handshakes that go on, whose cryptography costs as much as thousands of packets.
    handshakes: HandshakeQueue,
    /// The outbox was handed out.
    is_taken: bool,
    /// Kept for their memory.
    stun_reply: Vec<u8>,
    notices: Vec<Notice>,
    /// Until a command panics on purpose.
    #[cfg(test)]
    steps_left: std::cell::Cell<Option<usize>>,
}

impl Engine {
    /// An engine without elements. `worker` becomes part of the ids it gives.
    pub fn new(config: EngineConfig, worker: usize) -> Self {
        let udp = config.candidates.iter();
        let candidates = (0..=u8::MAX)
            .zip(udp.clone())
            .map(|(index, address)| Candidate::host_udp(*address, index));
        let tcp = (0..=u8::MAX)
            .zip(udp.filter(|_| config.ice_tcp))
            .map(|(index, address)| Candidate::host_tcp(*address, index));
        Self {
            candidates: candidates.chain(tcp).collect(),
            worker,
            graph: Graph::default(),
            endpoints: FxHashMap::default(),
            groups: FxHashMap::default(),
            media: MediaPath {
                clock: config.clock,
                transports: Slab::new(),
                sources: Slab::new(),
                subscribers: Slab::new(),
                downlinks: Slab::new(),
                layers_made: 0,
                outbox: Outbox::default(),
                counters: Counters::default(),
                missing: Vec::new(),
                waiting: Waiting::default(),
                trunks: Slab::new(),
                dispatch: Dispatch::default(),
                unarmed: Vec::new(),
                arriving: None,
                grants: Vec::new(),
                broken: Vec::new(),
            },
            ufrags: FxHashMap::default(),
            flows: FxHashMap::default(),
            forgotten: Vec::new(),
            last_flow: None,
            plain_ports: FxHashMap::default(),
            released_ports: Vec::new(),
            trunks: FxHashMap::default(),
            trunks_by_mirror: FxHashMap::default(),
            mirrors: FxHashMap::default(),
            mirrors_made: 0,
            timers: Timers::new(config.clock.at),
            handshakes: HandshakeQueue::default(),
            is_taken: false,
            stun_reply: Vec::new(),
            notices: Vec::new(),
            #[cfg(test)]
            steps_left: std::cell::Cell::default(),
            config,
        }
    }

    /// Takes one UDP datagram, or one frame of a TCP connection. `datagram` is used as scratch space.
    pub fn handle_datagram(&mut self, now: Instant, flow: Flow, datagram: &mut [u8]) {
        let kind = PacketKind::of(datagram);
        let key = match kind {
            PacketKind::Stun => local_ufrag(datagram)
                .ok()
                .and_then(|ufrag| self.ufrags.get(ufrag).copied())
                .ok_or(Discard::Stun),
            PacketKind::Dtls | PacketKind::Rtp | PacketKind::Rtcp => {
                self.transport_of(flow).ok_or(Discard::NotValidated)
            }
            _ => Err(Discard::Unknown),
        };
        let key = match key {
            Ok(key) => key,
            Err(reason) => return self.media.counters.discard(reason),
        };
        let handled = catch_unwind(AssertUnwindSafe(|| match kind {
            PacketKind::Stun => self.handle_stun(now, key, flow, datagram),
            PacketKind::Dtls if self.media.transports[key.0].connected => {
                self.handle_dtls(now, key, datagram);
                Ok(())
            }
            PacketKind::Dtls => self.handshakes.push(now, flow, datagram),
            _ if is_rtcp(datagram) => self.media.handle_rtcp(now, key, datagram),
            _ => self.media.handle_rtp(now, key, datagram),
        }));
        self.settle(now, key, handled);
    }

    /// Draws the conclusions from how the handling of a datagram ended.
    fn settle(
        &mut self,
        now: Instant,
        key: TransportKey,
        handled: thread::Result<Result<(), Discard>>,
    ) {
        match handled {
            Ok(Ok(())) => self.arm(key),
            Ok(Err(reason)) => {
                self.media.counters.discard(reason);
                self.arm(key);
            }
            Err(_) => self.abandon(now, key),
        }
        self.abandon_broken(now);
    }

    /// Closes the transports for which forwarding met a bug.
    fn abandon_broken(&mut self, now: Instant) {
        while let Some(key) = self.media.broken.pop() {
            self.abandon(now, key);
        }
    }

    /// True if ICE has validated the flow for a transport here.
    pub fn has_flow(&self, flow: Flow) -> bool {
        self.flows.contains_key(&flow)
    }

    /// The next flow that was validated and is not any more. It may have been validated again since; see
    /// [`Self::has_flow`].
    pub fn poll_forgotten_flow(&mut self) -> Option<Flow> {
        self.forgotten.pop()
    }

    /// Takes note that a TCP connection ended, or that another engine has validated the flow for a
    /// newer session.
    pub fn handle_flow_closed(&mut self, now: Instant, flow: Flow) {
        let Some(key) = self.transport_of(flow) else {
            return;
        };
        self.forget_flow(flow);
        self.media.transports[key.0].flow_closed(flow);
        self.drive(now, key);
    }

    /// Serves what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for _ in 0..HANDSHAKE_DATAGRAMS_PER_TURN {
            let Some((flow, datagram)) = self.handshakes.pop() else {
                break;
            };
            // It waited: the flow may have been forgotten, or belong to another transport by now.
            if let Some(key) = self.transport_of(flow) {
                let handled = catch_unwind(AssertUnwindSafe(|| {
                    self.handle_dtls(now, key, &datagram);
                    Ok(())
                }));
                self.settle(now, key, handled);
            }
        }
        for _ in 0..TIMEOUTS_PER_TURN_MAX {
            let Some(key) = self.timers.pop(now).map(TransportKey) else {
                return;
            };
            let served = catch_unwind(AssertUnwindSafe(|| self.handle_transport_timeout(now, key)));
            if served.is_err() {
                self.abandon(now, key);
            }
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = [self.timers.next(), self.handshakes.waits_since()];
        deadlines.into_iter().flatten().min()
    }

    /// What must be sent next; call it again until there is nothing, and at least whenever
    /// [`Self::is_brimming`] and before more time passes. What it returned before is forgotten.
    pub fn poll_transmits(&mut self, now: Instant) -> Option<&Outbox> {
        if self.is_taken {
            self.is_taken = false;
            self.media.outbox.clear();
        }
        self.media.forward(now);
        self.abandon_broken(now);
        while let Some(key) = self.media.unarmed.pop() {
            self.arm(key);
        }
        self.is_taken = !self.media.outbox.is_empty();
        self.is_taken.then_some(&self.media.outbox)
    }

    /// True if much waits to be taken by [`Self::poll_transmits`] and [`Self::poll_relayed`], so that it should
    /// be before more comes in.
    pub fn is_brimming(&self) -> bool {
        self.media.waiting.is_full()
            || self.media.dispatch.is_full()
            || self.media.outbox.len_bytes() >= OUTBOX_BYTES
    }

    /// Packets sent to subscribers since the beginning, without looking at the rest of [`Self::counters`].
    pub fn packets_forwarded(&self) -> u64 {
        self.media.counters.rtp_forwarded
    }

    /// Totals since the beginning.
    pub fn counters(&self) -> Counters {
        let mut dropped = self.media.counters.dropped;
        for (_, subscriber) in &self.media.subscribers {
            dropped.add(&subscriber.subscription.drops);
        }
        let transports = &self.media.transports;
        let mirrored = (self.mirrors.values())
            .filter_map(|mirror| mirror.transport)
            .filter(|key| transports.contains(key.0));
        Counters {
            dropped,
            transports: transports.len().saturating_sub(mirrored.count()) as u64,
            elements: self.graph.own_elements() as u64,
            mirrors: self.mirrors.len() as u64,
            trunks: self.media.trunks.len() as u64,
            ..self.media.counters
        }
    }

    fn handle_transport_timeout(&mut self, now: Instant, key: TransportKey) {
        let transport = &mut self.media.transports[key.0];
        transport.armed = None;
        if transport.ice_mut().is_some_and(|ice| ice.is_expired(now)) {
            transport.events.send(path::failed());
            self.media.counters.transports_expired += 1;
            return self.lose(key);
        }
        if transport.ice_mut().is_some_and(|ice| ice.poll_failure(now)) {
            transport.events.send(path::failed());
        }
        if let Some(dtls) = transport.dtls_mut() {
            dtls.handle_timeout(now);
        }
        if let Some(sctp) = &mut transport.sctp {
            sctp.handle_timeout(now);
        }
        self.media.handle_due(now, key);
        self.drive(now, key);
    }

    fn handle_dtls(&mut self, now: Instant, key: TransportKey, datagram: &[u8]) {
        if let Some(dtls) = self.media.transports[key.0].dtls_mut() {
            dtls.handle_datagram(now, datagram);
        }
        self.drive(now, key);
    }

    fn handle_stun(
        &mut self,
        now: Instant,
        key: TransportKey,
        flow: Flow,
        datagram: &[u8],
    ) -> Result<(), Discard> {
        let transport = &mut self.media.transports[key.0];
        let Session::Secure { ice, .. } = &mut transport.session else {
            return Err(Discard::Stun);
        };
        let expiring = ice.expiring_ufrag().map(str::to_owned);
        let outcome = ice
            .handle_stun(now, flow, datagram, &mut self.stun_reply)
            .map_err(|_| Discard::Stun)?;
        self.media.outbox.push(flow, &self.stun_reply);
        self.media.counters.stun_answered += 1;
        let StunOutcome::Checked {
            newly_valid,
            selected_changed,
            dropped,
            restarted,
        } = outcome
        else {
            return Ok(());
        };
        if selected_changed {
            transport.flow = ice.selected();
            if let Some(flow) = transport.flow {
                let was_connected = transport.connected;
                for event in path::chosen(&self.candidates, flow, was_connected) {
                    transport.events.send(event);
                }
            }
        }
        if let Some(expired) = expiring.filter(|_| restarted) {
            self.ufrags.remove(&expired);
        }
        for flow in dropped {
            self.forget_flow(flow);
        }
        if newly_valid || restarted {
            self.adopt_flow(flow, key);
        }
        self.drive(now, key);
        Ok(())
    }

    /// Binds a validated flow to its transport. A peer that re-uses a port for a new session takes the
    /// flow along.
    fn adopt_flow(&mut self, flow: Flow, key: TransportKey) {
        if let Some(former) = self.flows.insert(flow, key)
            && former != key
            && let Some(transport) = self.media.transports.get_mut(former.0)
        {
            transport.flow_closed(flow);
        }
        self.last_flow = None;
    }

    fn transport_of(&mut self, flow: Flow) -> Option<TransportKey> {
        if let Some((last, key)) = self.last_flow
            && last == flow
        {
            return Some(key);
        }
        let key = *self.flows.get(&flow)?;
        self.last_flow = Some((flow, key));
        Some(key)
    }

    fn forget_flow(&mut self, flow: Flow) {
        self.forgotten
            .extend(self.flows.remove(&flow).map(|_| flow));
        self.last_flow = None;
    }

    /// Passes on what a transport has to send and to say, and moves its deadline.
    fn drive(&mut self, now: Instant, key: TransportKey) {
        let mut notices = std::mem::take(&mut self.notices);
        if let Some(transport) = self.media.transports.get_mut(key.0) {
            transport.drive(now, &mut self.media.outbox, &mut notices);
        }
        for notice in notices.drain(..) {
            match notice {
                Notice::Connected => self.handle_connected(now, key),
                Notice::Data(event) => self.handle_data(now, key, event),
                Notice::Lost(failure) => {
                    if let Some(failure) = failure {
                        self.tell_handshake_failure(key, &failure);
                    }
                    self.lose(key);
                }
            }
        }
        self.notices = notices;
        self.arm(key);
    }

    fn handle_connected(&mut self, now: Instant, key: TransportKey) {
        let Some(transport) = self.media.transports.get_mut(key.0) else {
            return;
        };
        let counters = &mut self.media.counters;
        counters.transports_connected += 1;
        if let Some(profile) = transport.protection.as_ref().and_then(Protection::profile) {
            counters.srtp_profiles[profile.rank()] += 1;
        }
        transport.reports_at = Some(now);
        if transport.dtls_mut().is_some() {
            transport
                .events
                .send(Event::DtlsStateChanged(DtlsState::Connected));
        }
        transport
            .events
            .send(Event::MediaStateChanged(MediaState::Connected));
        for subscriber in transport.subscribers.clone() {
            self.media.request_key_frame(now, subscriber);
            self.arm_source_of(subscriber);
        }
    }

    fn tell_handshake_failure(&mut self, key: TransportKey, failure: &dtls::DtlsFailure) {
        self.media.counters.handshakes_failed += 1;
        if let Some(transport) = self.media.transports.get(key.0) {
            transport
                .events
                .send(Event::DtlsStateChanged(DtlsState::Failed));
            transport.events.send(Event::Error {
                kind: ErrorKind::Other("DTLS_HANDSHAKE_FAILED".to_owned()),
                description: failure.to_string(),
                code: 0,
            });
        }
    }

    /// The peer is gone: tells the application, and silences the transport. Its endpoint with its tracks
    /// stays until it is released.
    fn lose(&mut self, key: TransportKey) {
        let Some(transport) = self.media.transports.get_mut(key.0) else {
            return;
        };
        transport.close();
        for source in transport.sources.clone() {
            self.media.fall_silent(source);
        }
        let transport = &self.media.transports[key.0];
        transport
            .events
            .send(Event::MediaStateChanged(MediaState::Disconnected));
        self.forget_transport(key);
    }

    /// A bug of ours was met while this transport was served.
    fn abandon(&mut self, now: Instant, key: TransportKey) {
        tracing::error!("a packet of one transport caused a panic; closing that transport");
        self.media.counters.panics += 1;
        self.notices.clear();
        self.lose(key);
        let transport = self.media.transports.get(key.0);
        if let Some(&Session::Mirror { id, .. }) = transport.map(|it| &it.session) {
            // Nobody else would tell those who watch it, and the other worker.
            let owner = transport.map(|transport| transport.owner);
            let element = owner.filter(|owner| self.graph.contains(*owner));
            let subject = element.map_or(Subject::None, |element| {
                Subject::Element(self.graph.element(element).id.clone())
            });
            let _ = self.contain(&subject, |engine| {
                engine.renew_mirror(now, id);
                Ok(())
            });
        }
    }

    /// Moves the deadline of a transport to where it belongs.
    fn arm(&mut self, key: TransportKey) {
        if !self.media.transports.contains(key.0) || self.media.transports[key.0].closed {
            return;
        }
        let due = self.media.due_at(key);
        let transport = &mut self.media.transports[key.0];
        let deadline = [due, transport.poll_timeout()].into_iter().flatten().min();
        // A deadline that moved back is found out when it comes: refreshing consent with every
        // packet costs nothing here.
        let earlier = match (transport.armed, deadline) {
            (Some(armed), Some(deadline)) => deadline < armed,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if earlier {
            self.timers.arm(key.0, &mut transport.armed, deadline);
        }
    }
}
