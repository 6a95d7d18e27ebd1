//! From a source to one subscriber: [`Route`], with everything at hand that its packets touch.
//!
//! Decides, numbers, holds back what may not leave yet, and sends. Built once for a run of packets. The last packet of a
//! frame in a lower layer is held until the next one of its layer tells if it ends its picture, or none comes
//! ([`MediaPath::release_held`]).

use std::time::{Duration, Instant};

use forwarding::codec::Follower;
use forwarding::codec::dependency::DEPENDENCY_GROWTH_MAX;
use forwarding::history::Stored;
use forwarding::pacer::PacketClass;
use forwarding::packet::SourcePacket;
use forwarding::rewriter::Rewritten;
use forwarding::rtp::{
    AbsSendTime, ExtensionId, HEADER_LEN_MAX, PayloadType, RawExtension, RtpTime, Seq, Ssrc,
};
use forwarding::selector::DropReason;
use forwarding::send::aligned_offset;
use media::{ErrorKind, Event, MediaKind};
use slab::Slab;
use smallvec::SmallVec;

use super::clock::Clock;
use super::counters::Counters;
use super::downlink::{Downlink, Membership, Paced, PacedPacket};
use super::flow::{Flow, FlowProtocol};
use super::media_path::MediaPath;
use super::outbox::Outbox;
use super::outgoing::Outgoing;
use super::source::{Layer, Payload, Source};
use super::subscriber::{Mapping, OpenEnded, Subscriber, SubscriberKey};
use super::transport::{Protection, Transport, TransportKey};
use super::waiting::WAITING_MAX;

/// The longest header extension, and what rewriting may add to it.
const DESCRIPTOR_MAX: usize = 255 + DEPENDENCY_GROWTH_MAX;

/// What IPv4 and UDP add to a packet on the wire, bytes.
const DATAGRAM_BYTES: usize = 28;

/// Padding that a packet without payload can have (RFC 3550, section 5.1).
const PADDING_MAX: usize = 255;

/// Time without a packet after which a picture is over. Too low: upper layers that come late belong to a picture that was
/// shown without them, and what refers to them cannot be decoded. Too high: the last picture before a pause, as of a
/// shared screen, is seen late, and beyond the age of the history not at all.
const HELD_MAX: Duration = Duration::from_millis(300);

/// What every route leads through.
pub(super) struct Lanes<'a> {
    pub(super) clock: &'a Clock,
    pub(super) transports: &'a mut Slab<Transport>,
    pub(super) subscribers: &'a mut Slab<Subscriber>,
    pub(super) downlinks: &'a mut Slab<Downlink>,
    pub(super) outbox: &'a mut Outbox,
    pub(super) counters: &'a mut Counters,
}

impl<'a> Lanes<'a> {
    /// The route to a subscriber, which must exist.
    pub(super) fn route(self, now: Instant, key: SubscriberKey) -> Route<'a> {
        let subscriber = &mut self.subscribers[key.0];
        let transport = &mut self.transports[subscriber.transport.0];
        let way = transport.downlink.map(|membership| {
            let downlink = &mut self.downlinks[membership.downlink.0];
            (downlink, membership)
        });
        Route {
            now,
            key,
            abs_send_time: self.clock.abs_send_time(now),
            may_pad: subscriber.may_pad(),
            is_paced: way.as_ref().is_some_and(|(way, _)| way.is_paced()),
            subscriber,
            transport,
            way,
            outbox: self.outbox,
            counters: self.counters,
            sent: Sent::default(),
            has_queued: false,
            is_burst: false,
        }
    }
}

/// Lays the route to a subscriber beside what it takes packets from.
macro_rules! route {
    ($path:ident, $now:expr, $key:expr) => {
        Lanes {
            clock: &$path.clock,
            transports: &mut $path.transports,
            subscribers: &mut $path.subscribers,
            downlinks: &mut $path.downlinks,
            outbox: &mut $path.outbox,
            counters: &mut $path.counters,
        }
        .route($now, $key)
    };
}
pub(super) use route;

/// A packet that should go to every subscriber of its source.
pub(super) struct Arrival<'a> {
    pub(super) packet: &'a SourcePacket,
    /// Where it is kept, if it still is.
    pub(super) kept: Option<(&'a Layer, Stored<'a>)>,
    /// Index into the codecs of the source.
    pub(super) codec: u8,
    /// What makes it as long as others of its run.
    pub(super) padding: u8,
}

/// What has left, to be told to whom it concerns once for a run.
#[derive(Default)]
struct Sent {
    /// Sizes on the wire with what IP and UDP add, bytes.
    sizes: SmallVec<[u16; WAITING_MAX]>,
    /// Those that were not repetitions, and the timestamp of the last.
    packets: u64,
    payload_bytes: usize,
    timestamp: Option<RtpTime>,
}

/// The way of packets to one subscriber. What it has sent is told by [`Self::settle`].
#[must_use]
pub(super) struct Route<'a> {
    now: Instant,
    key: SubscriberKey,
    abs_send_time: AbsSendTime,
    may_pad: bool,
    pub(super) subscriber: &'a mut Subscriber,
    transport: &'a mut Transport,
    way: Option<(&'a mut Downlink, Membership)>,
    outbox: &'a mut Outbox,
    counters: &'a mut Counters,
    /// Packets have to wait for their turn.
    is_paced: bool,
    sent: Sent,
    /// Packets wait in the pacer that was empty before.
    has_queued: bool,
    /// Whatever the estimate, bursts are spread.
    pub(super) is_burst: bool,
}

impl Route<'_> {
    /// Takes a packet that has just arrived, or is shown again to who waits for a key frame.
    #[inline]
    pub(super) fn forward(&mut self, source: &Source, arrival: &Arrival<'_>) {
        let Arrival { packet, codec, .. } = *arrival;
        let Some(mapping) = self.subscriber.mapping(codec) else {
            let drops = &mut self.subscriber.subscription.drops;
            drops.count(DropReason::NotNegotiated);
            tell_mismatch(self.subscriber, source, codec);
            return self.withhold();
        };
        if self.transport.flow.is_none() || self.transport.protection.is_none() {
            return self.withhold();
        }
        let Some((layer, stored)) = &arrival.kept else {
            return self.withhold();
        };
        if let Some(held) = self.subscriber.open_ended
            && held.layer == packet.ssrc
            && held.seq < packet.seq
        {
            self.subscriber.open_ended = None;
            self.release(source, layer, held, false);
        }
        if packet.frame.key_frame {
            align(source, self.subscriber, layer, mapping);
        }
        let subscription = &mut self.subscriber.subscription;
        let Some(rewritten) = subscription.handle_packet(self.now, packet) else {
            return self.withhold();
        };
        let is_open_ended = subscription.rewriter.is_open_ended(packet);
        // It is a hole then, as if it were lost. What comes late of its own layer says nothing.
        let open_ended = &mut self.subscriber.open_ended;
        let is_cut_off = |held: &mut OpenEnded| held.layer != packet.ssrc;
        if open_ended.take_if(is_cut_off).is_some() {
            self.withhold();
        }
        if is_open_ended {
            self.subscriber.open_ended = Some(OpenEnded {
                layer: packet.ssrc,
                seq: packet.seq,
                sent_as: rewritten.seq,
                until: self.now + HELD_MAX,
            });
            return;
        }
        if self.hold_back(layer, stored, &rewritten) {
            return;
        }
        self.send(layer, stored, rewritten, mapping, arrival.padding);
    }

    /// Sends a packet of which it was not known if it ends its picture, unless its number has another meaning by now. If
    /// nothing comes, `is_over` says that it does.
    pub(super) fn release(
        &mut self,
        source: &Source,
        layer: &Layer,
        held: OpenEnded,
        is_over: bool,
    ) {
        let released = layer.history.get(held.seq).and_then(|stored| {
            let rewriter = &self.subscriber.subscription.rewriter;
            let mut rewritten = rewriter.replay(stored.packet)?;
            rewritten.marker |= is_over && stored.packet.frame.follower == Follower::Unknown;
            let Some(Payload::Media(codec)) = source.payload(stored.packet.payload_type) else {
                return None;
            };
            let mapping = self.subscriber.mapping(codec)?;
            (rewritten.seq == held.sent_as).then_some((stored, rewritten, mapping))
        });
        let Some((stored, rewritten, mapping)) = released else {
            return self.withhold();
        };
        if !self.hold_back(layer, &stored, &rewritten) {
            self.send(layer, &stored, rewritten, mapping, 0);
        }
    }

    /// Sends a packet whose numbers are given.
    #[inline]
    pub(super) fn send(
        &mut self,
        layer: &Layer,
        stored: &Stored<'_>,
        rewritten: Rewritten,
        mapping: Mapping,
        padding: u8,
    ) {
        let (Some(flow), Some(protection)) = (&self.transport.flow, &self.transport.protection)
        else {
            return self.withhold();
        };
        let mut described = None;
        let outgoing = Outgoing {
            template: &self.subscriber.template,
            ssrc: self.subscriber.ssrc,
            index: rewritten.seq,
            original: None,
            payload_type: mapping.payload_type,
            abs_send_time: self.abs_send_time,
            transport_seq: self.transport.transport_seq,
            packet: Some(stored.packet),
            timestamp: rewritten.timestamp,
            marker: rewritten.marker,
            patch: rewritten.vp8,
            descriptor: describe(self.subscriber, layer, stored, &rewritten, &mut described),
            payload: if rewritten.empty { &[] } else { stored.payload },
            // Runs are for UDP, and old gateways need not know padding.
            padding: match self.may_pad && is_cut(flow, protection) {
                true => padding,
                false => 0,
            },
        };
        if let Some(bytes) = outgoing.seal(protection, flow, self.outbox) {
            self.sent.packets += 1;
            self.sent.payload_bytes += stored.payload.len();
            self.sent.timestamp = Some(rewritten.timestamp);
            self.handle_sent(bytes);
            self.join();
        }
    }

    /// Lets sound close the run of the picture behind it, so that both leave by one message. Where not all fits it goes
    /// ahead, since on such a path it would wait for as long as the picture takes.
    #[inline]
    fn join(&mut self) {
        if self.subscriber.kind == MediaKind::Audio {
            self.transport.sound = Some(self.outbox.place());
        } else if let Some(sound) = self.transport.sound.take()
            && !self.is_paced
        {
            self.outbox.join(sound);
        }
    }

    /// Sends a packet again, on the SSRC for retransmissions (RFC 4588) if there is one, else as it was.
    pub(super) fn repeat(
        &mut self,
        layer: &Layer,
        stored: &Stored<'_>,
        rewritten: Rewritten,
        mapping: Mapping,
    ) -> Option<usize> {
        let flow = self.transport.flow.as_ref()?;
        let protection = self.transport.protection.as_ref()?;
        let subscriber = &mut *self.subscriber;
        let repair = mapping.repair.zip(subscriber.repair_template.as_ref());
        let (template, ssrc, index, original, payload_type) = match repair {
            Some((payload_type, template)) => (
                template,
                Ssrc(subscriber.section.local_rtx_ssrc?),
                subscriber.send.next_rtx_seq(),
                Some(rewritten.seq.seq()),
                payload_type,
            ),
            None if !subscriber.may_repeat(rewritten.seq, stored) => return None,
            None => (
                &subscriber.template,
                subscriber.ssrc,
                rewritten.seq,
                None,
                mapping.payload_type,
            ),
        };
        let mut described = None;
        let outgoing = Outgoing {
            template,
            ssrc,
            index,
            original,
            payload_type,
            abs_send_time: self.abs_send_time,
            transport_seq: self.transport.transport_seq,
            packet: Some(stored.packet),
            timestamp: rewritten.timestamp,
            marker: rewritten.marker,
            patch: rewritten.vp8,
            descriptor: describe(subscriber, layer, stored, &rewritten, &mut described),
            payload: if rewritten.empty { &[] } else { stored.payload },
            padding: 0,
        };
        let bytes = outgoing.seal(protection, flow, self.outbox)?;
        self.counters.rtp_retransmitted += 1;
        self.handle_sent(bytes);
        Some(bytes)
    }

    /// Sends a packet of padding only on the SSRC for retransmissions.
    pub(super) fn pad(&mut self, bytes: usize) -> Option<usize> {
        let flow = self.transport.flow.as_ref()?;
        let protection = self.transport.protection.as_ref()?;
        let subscriber = &mut *self.subscriber;
        let mut codecs = subscriber.section.codecs.iter();
        let payload_type = codecs.find_map(|codec| codec.rtx_payload_type)?;
        let outgoing = Outgoing {
            template: subscriber.repair_template.as_ref()?,
            ssrc: Ssrc(subscriber.section.local_rtx_ssrc?),
            index: subscriber.send.next_rtx_seq(),
            original: None,
            payload_type: PayloadType(payload_type),
            abs_send_time: self.abs_send_time,
            transport_seq: self.transport.transport_seq,
            packet: None,
            timestamp: RtpTime(0),
            marker: false,
            patch: None,
            descriptor: None,
            payload: &[],
            // At most PADDING_MAX.
            padding: bytes.min(PADDING_MAX) as u8,
        };
        let bytes = outgoing.seal(protection, flow, self.outbox)?;
        self.handle_sent(bytes);
        Some(bytes)
    }

    /// Has a packet wait if it may not leave at once; false if it may.
    #[inline]
    fn hold_back(&mut self, layer: &Layer, stored: &Stored<'_>, rewritten: &Rewritten) -> bool {
        if !self.is_paced && !self.is_burst {
            return false;
        }
        let class = match self.subscriber.kind {
            MediaKind::Audio => PacketClass::Audio,
            MediaKind::Video | MediaKind::Data => PacketClass::Video,
        };
        let packet = PacedPacket::Media {
            layer: layer.id,
            seq: stored.packet.seq,
            rewritten: *rewritten,
        };
        self.pace(class, stored.payload.len(), packet)
    }

    /// As [`Self::hold_back`], for a repetition.
    pub(super) fn hold_back_repair(&mut self, seq: Seq, payload_bytes: usize) -> bool {
        let class = PacketClass::Retransmission;
        self.pace(class, payload_bytes, PacedPacket::Repair(seq))
    }

    /// True if a repetition may be sent, of what is seen or was seen before, of the base layer or another.
    pub(super) fn may_repair(&self, is_seen: bool, is_base: bool) -> bool {
        let way = self.way.as_ref();
        way.is_none_or(|(downlink, _)| downlink.may_repair(is_seen, is_base))
    }

    /// True if the way loses so much that many a repetition does not arrive.
    pub(super) fn is_lossy(&self) -> bool {
        let way = self.way.as_ref();
        way.is_some_and(|(downlink, _)| downlink.is_lossy())
    }

    fn pace(&mut self, class: PacketClass, payload_bytes: usize, packet: PacedPacket) -> bool {
        let Some((downlink, _)) = &mut self.way else {
            return false;
        };
        let bytes = payload_bytes + HEADER_LEN_MAX;
        let may_wait = self.is_paced || self.is_burst;
        if !may_wait || downlink.pacer.pass(self.now, class, bytes) {
            return false;
        }
        self.has_queued |= downlink.pacer.is_empty();
        let paced = Paced {
            subscriber: self.key,
            ssrc: self.subscriber.ssrc,
            packet,
        };
        if downlink.pacer.push(class, bytes, paced).is_err() {
            self.counters.rtp_withheld += 1;
        }
        self.is_paced = true;
        true
    }

    #[inline]
    fn handle_sent(&mut self, bytes: usize) {
        self.transport.transport_seq = self.transport.transport_seq.wrapping_add(1);
        // A datagram is shorter than 2^16.
        self.sent.sizes.push((bytes + DATAGRAM_BYTES) as u16);
    }

    /// Ends the run. The answer is the transports whose deadlines have to be looked at, because packets wait.
    pub(super) fn settle(self) -> impl Iterator<Item = TransportKey> {
        let held_until = &mut self.transport.held_until;
        let held = self.subscriber.open_ended.filter(|_| held_until.is_none());
        let waiting = held.map(|held| {
            *held_until = Some(held.until);
            self.subscriber.transport
        });
        self.account().into_iter().chain(waiting)
    }

    fn account(self) -> Option<TransportKey> {
        if let Some(timestamp) = self.sent.timestamp {
            let send = &mut self.subscriber.send;
            let Sent {
                packets,
                payload_bytes,
                ..
            } = self.sent;
            send.handle_sent(self.now, timestamp, packets, payload_bytes);
            self.counters.rtp_forwarded += packets;
        }
        let (downlink, membership) = self.way?;
        let sizes = &self.sent.sizes;
        if !sizes.is_empty() {
            downlink.touch(self.now);
            if self.subscriber.reports_arrivals {
                let next = self.transport.transport_seq;
                let first = Seq(next.wrapping_sub(sizes.len() as u16));
                let estimator = &mut downlink.estimator;
                estimator.handle_sent(self.now, membership.path, first, sizes);
            }
        }
        self.has_queued.then(|| downlink.lead()).flatten()
    }

    fn withhold(&mut self) {
        self.counters.rtp_withheld += 1;
    }
}

impl MediaPath {
    /// Sends what is held for the subscribers of a transport and has not been followed by anything.
    pub(super) fn release_held(&mut self, now: Instant, key: TransportKey) {
        let mut next: Option<Instant> = None;
        for subscriber in self.transports[key.0].subscribers.clone() {
            let it = &mut self.subscribers[subscriber.0];
            let Some(held) = it.open_ended.take_if(|held| held.until <= now) else {
                next = next
                    .into_iter()
                    .chain(it.open_ended.map(|it| it.until))
                    .min();
                continue;
            };
            let source = it.source.map(|source| &self.sources[source.0]);
            let found = source.and_then(|source| {
                let layer = source.layer_of(held.layer)?;
                Some((source, &source.layers[layer]))
            });
            let Some((source, layer)) = found else {
                self.counters.rtp_withheld += 1;
                continue;
            };
            let mut route = route!(self, now, subscriber);
            route.release(source, layer, held, true);
            self.unarmed.extend(route.settle());
        }
        self.transports[key.0].held_until = next;
    }
}

fn is_cut(flow: &Flow, protection: &Protection) -> bool {
    flow.protocol == FlowProtocol::Udp && matches!(protection, Protection::Keys { .. })
}

/// Writes what describes a frame for one subscriber, if it wants that and something does.
#[inline]
fn describe<'a>(
    subscriber: &Subscriber,
    layer: &Layer,
    stored: &Stored<'_>,
    rewritten: &Rewritten,
    out: &'a mut Option<[u8; DESCRIPTOR_MAX]>,
) -> Option<RawExtension<'a>> {
    if stored.descriptor.is_empty() || rewritten.empty {
        return None;
    }
    let id = ExtensionId(subscriber.section.extensions.dependency_descriptor?);
    let reader = layer.dependencies()?;
    // One that came late was read before the structure it refers to.
    let dependency = stored.packet.frame.dependency;
    let dependency = dependency.or_else(|| reader.read_again(stored.descriptor))?;
    let patch = rewritten.dependency.as_ref()?;
    let out = out.insert([0; DESCRIPTOR_MAX]);
    let len = reader.write(&dependency, patch, stored.descriptor, out)?;
    let data = &out[..len];
    Some(RawExtension { id, data })
}

/// Prepares for the case that a key frame begins another stream of the same camera: its timestamps go on where those of
/// the stream seen so far would be.
fn align(source: &Source, subscriber: &mut Subscriber, next: &Layer, mapping: Mapping) {
    let subscription = &mut subscriber.subscription;
    if subscription.selector.awaits_key_frame() != Some(next.id) {
        return;
    }
    let offset = subscription.selector.current().and_then(|current| {
        let current = &source.layers[source.layer_of(current)?];
        let old = current.receive.reference_point()?;
        let new = next.receive.reference_point()?;
        let offset = subscription.rewriter.timestamp_offset()?;
        Some(aligned_offset(offset, &old, &new, mapping.clock_rate))
    });
    if let Some(offset) = offset {
        subscription.rewriter.align(offset);
    }
}

/// Tells the application once that a subscriber cannot decode what its source sends.
fn tell_mismatch(subscriber: &mut Subscriber, source: &Source, codec: u8) {
    if std::mem::replace(&mut subscriber.mismatch_told, true) {
        return;
    }
    subscriber.events.send(Event::Error {
        kind: ErrorKind::StreamFailed,
        description: subscriber.mismatch(source.description(codec)),
        code: 1,
    });
}
