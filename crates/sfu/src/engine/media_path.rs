//! The state that packets touch, and the way of an RTP packet through it.
//!
//! [`MediaPath::handle_rtp`] is the first half of the walk: find the stream, unprotect, update what is known
//! about it, keep it. [`MediaPath::forward`] is the second: one loop over the subscribers of what was
//! kept. Nothing on either allocates in steady state, locks, or waits.
//! Deliberately absent: signaling, which changes this state between packets only.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use forwarding::codec::{Vp8Patch, inspect};
use forwarding::packet::SourcePacket;
use forwarding::receive::Arrival;
use forwarding::rewriter::Rewritten;
use forwarding::rtp::{
    AbsSendTime, ExtendedSeq, ExtensionId, HEADER_LEN_MAX, Header, HeaderFields, HeaderTemplate,
    PayloadType, Seq, Ssrc,
};
use forwarding::selector::DropReason;
use media::{ErrorKind, Event, MediaKind};
use slab::Slab;

use super::clock::Clock;
use super::counters::{Counters, Discard};
use super::flow::{Flow, FlowProtocol};
use super::outbox::Outbox;
use super::relay::{Dispatch, Trunk};
use super::source::{Payload, Source, SourceKey};
use super::srtp::ReceiveIndex;
use super::subscriber::{Subscriber, SubscriberKey};
use super::transport::{INBOUND_STREAMS_MAX, Inbound, Protection, Transport, TransportKey};
use super::waiting::Waiting;

/// Tells in the first byte of a header that padding ends the packet (RFC 3550, section 5.1).
const PADDING_BIT: u8 = 0x20;

/// Length of the original sequence number in a retransmission.
const ORIGINAL_LEN: usize = 2;

/// Bytes in the outbox that are sent before more is sealed: they are still in the second-level cache when
/// the kernel copies them. Too low: short system calls. Too high: cache misses, and the first subscriber waits
/// while packets are sealed for the last.
pub(super) const OUTBOX_BYTES: usize = 160 * 1024;

/// Everything that packets touch.
pub(super) struct MediaPath {
    pub(super) clock: Clock,
    pub(super) transports: Slab<Transport>,
    pub(super) sources: Slab<Source>,
    pub(super) subscribers: Slab<Subscriber>,
    /// For [`Layer::id`](super::source::Layer::id).
    pub(super) layers_made: u32,
    pub(super) outbox: Outbox,
    pub(super) counters: Counters,
    /// Numbers to ask a publisher for again, kept for its memory.
    pub(super) missing: Vec<Seq>,
    pub(super) waiting: Waiting,
    /// The ways to sinks on other workers.
    pub(super) trunks: Slab<Trunk>,
    /// For other workers.
    pub(super) dispatch: Dispatch,
    /// Subscribers' transports for which forwarding panicked, to be closed.
    pub(super) broken: Vec<TransportKey>,
}

/// An authenticated packet whose stream is known.
struct Bound {
    source: SourceKey,
    layer: usize,
    repair: bool,
    /// Nothing was received of the stream before.
    is_first: bool,
}

/// A packet about to be written for one subscriber.
struct Outgoing<'a> {
    template: &'a HeaderTemplate,
    ssrc: Ssrc,
    /// Number on the wire, with roll-overs: the SRTP packet index.
    index: ExtendedSeq,
    /// In a retransmission, the number that was lost (RFC 4588, section 4).
    original: Option<Seq>,
    payload_type: PayloadType,
    abs_send_time: AbsSendTime,
    transport_seq: u16,
    packet: &'a SourcePacket,
    rewritten: Rewritten,
    payload: &'a [u8],
    /// Bytes that make the packet as long as others of its run (RFC 3550, section 5.1).
    padding: u8,
}

impl Outgoing<'_> {
    /// Writes the header and seals the payload straight into the outbox. Only the few bytes of the
    /// payload that differ by subscriber are copied.
    fn seal(&self, protection: &Protection, flow: Flow, outbox: &mut Outbox) -> bool {
        let fields = HeaderFields {
            seq: self.index.seq(),
            timestamp: self.rewritten.timestamp,
            marker: self.packet.marker,
            payload_type: self.payload_type,
            abs_send_time: self.abs_send_time,
            transport_seq: self.transport_seq,
            audio_level: self.packet.audio_level,
            video_orientation: self.packet.video_orientation,
            raw: &[],
        };
        let overhead = protection.rtp_overhead();
        let padding = usize::from(self.padding);
        let room = HEADER_LEN_MAX + ORIGINAL_LEN + self.payload.len() + padding + overhead;
        outbox.push_with(flow, room, |out| {
            let header_len = self.template.write(out, &fields)?;
            let mut front = header_len;
            if let Some(Seq(original)) = self.original {
                out[front..front + ORIGINAL_LEN].copy_from_slice(&original.to_be_bytes());
                front += ORIGINAL_LEN;
            }
            let mut tail = self.payload;
            if let Some(patch) = self.rewritten.vp8 {
                let (start, rest) = tail.split_at(tail.len().min(Vp8Patch::REACH));
                out[front..front + start.len()].copy_from_slice(start);
                patch.apply(&mut out[front..front + start.len()]);
                front += start.len();
                tail = rest;
            }
            if padding > 0 {
                out[0] |= PADDING_BIT;
                out[front..front + tail.len()].copy_from_slice(tail);
                front += tail.len();
                out[front..front + padding].fill(0);
                front += padding;
                out[front - 1] = self.padding;
                tail = &[];
            }
            let sealed = front + tail.len() + overhead;
            protection.seal_rtp_from(self.index, self.ssrc, header_len, tail, &mut out[..sealed]);
            Some(sealed)
        })
    }
}

/// The media of a packet, retransmission headers taken off.
struct Opened<'a> {
    seq: Seq,
    codec: u8,
    payload_type: PayloadType,
    payload: &'a [u8],
}

impl MediaPath {
    /// Takes one RTP packet of a transport's peer through to every subscriber.
    pub(super) fn handle_rtp(
        &mut self,
        now: Instant,
        key: TransportKey,
        datagram: &mut [u8],
    ) -> Result<(), Discard> {
        let taken = self.take_rtp(now, key, datagram);
        // Last, so that nothing is asked for which this packet brought.
        if self.transports[key.0].feedback.is_due(now) {
            self.send_feedback(now, key);
        }
        taken
    }

    fn take_rtp(
        &mut self,
        now: Instant,
        key: TransportKey,
        datagram: &mut [u8],
    ) -> Result<(), Discard> {
        let (bound, len) = self.open(now, key, datagram)?;
        let packet = &datagram[..len];
        let header = Header::parse(packet).map_err(|_| Discard::Malformed)?;
        self.counters.rtp_received += 1;

        let transport = &mut self.transports[key.0];
        transport.touch(now);
        let source = &mut self.sources[bound.source.0];
        if let Some(seq) = transport_seq(source, &header) {
            transport.feedback.handle_packet(now, seq);
        }

        let opened = read(source, &header, bound.repair)?;
        let layer = &mut source.layers[bound.layer];
        let codec = source.section.codecs[usize::from(opened.codec)].codec;
        let size_bytes = opened.payload.len();
        let receive = &mut layer.receive;
        let arrival = match bound.repair {
            false => receive.handle_packet(now, opened.seq, header.timestamp(), size_bytes),
            true => receive.handle_retransmission(now, opened.seq, size_bytes),
        };
        let Arrival::New(seq) = arrival else {
            return match bound.repair {
                true => Err(Discard::UselessRetransmission),
                false => Ok(()),
            };
        };
        source.active = true;
        let extensions = &source.section.extensions;
        let byte_of = |id: Option<u8>| {
            let data = header.extension(ExtensionId(id?))?;
            data.first().copied()
        };
        let arrived = SourcePacket {
            ssrc: layer.id,
            seq,
            timestamp: header.timestamp(),
            marker: header.marker(),
            payload_type: opened.payload_type,
            frame: inspect(codec, opened.payload),
            audio_level: byte_of(extensions.audio_level),
            video_orientation: byte_of(extensions.video_orientation),
        };
        let (codec, payload) = (opened.codec, opened.payload);
        self.keep(now, bound.source, bound.layer, codec, &arrived, payload)?;
        if bound.is_first && !arrived.frame.key_frame {
            // The key frame that began the stream is lost, or came before we listened.
            self.request_key_frame_of(now, bound.source, arrived.ssrc);
        }
        Ok(())
    }

    /// Keeps a packet, and has it wait for its subscribers. `codec` is an index into the codecs of the source.
    pub(super) fn keep(
        &mut self,
        now: Instant,
        key: SourceKey,
        layer: usize,
        codec: u8,
        packet: &SourcePacket,
        payload: &[u8],
    ) -> Result<(), Discard> {
        let source = &mut self.sources[key.0];
        let layer = &mut source.layers[layer];
        // Padding that probes the path is not worth repeating; the subscribers' numbers close up.
        if !packet.frame.empty && !layer.history.insert(now, packet, payload) {
            return Err(Discard::TooLate);
        }
        if packet.frame.key_frame && source.kind == MediaKind::Video {
            layer.key_frames.handle_key_frame();
        }
        if source.codec != Some(codec) {
            self.forward_all(now);
            self.follow_codec(key, codec);
        }
        let source = &self.sources[key.0];
        if !source.trunks.is_empty() {
            self.relay(key, codec, packet, payload);
        }
        let source = &self.sources[key.0];
        if !source.subscribers.is_empty() {
            if self.waiting.is_full() {
                self.forward_all(now);
            }
            let kind = self.sources[key.0].kind;
            let len = payload.len();
            self.waiting.push(kind, key, codec, packet, len);
        }
        Ok(())
    }

    /// The publisher began to send another of its codecs.
    fn follow_codec(&mut self, key: SourceKey, codec: u8) {
        let source = &mut self.sources[key.0];
        source.begin_codec(codec);
        for subscriber in &source.subscribers {
            self.subscribers[subscriber.0].follow_codec(codec);
        }
    }

    /// The one loop over the subscribers: takes what waits to each of them, until all is done or the outbox
    /// is full. Packets that came together for one subscriber leave together.
    pub(super) fn forward(&mut self, now: Instant) {
        while let Some(source_key) = self.waiting.source() {
            let position = self.waiting.next_subscriber();
            let source = self.sources.get(source_key.0);
            let Some(&subscriber) = source.and_then(|source| source.subscribers.get(position))
            else {
                self.waiting.finish_source();
                continue;
            };
            let forwarded = catch_unwind(AssertUnwindSafe(|| {
                self.forward_run(now, source_key, subscriber);
            }));
            if forwarded.is_err() {
                let transport = self.subscribers.get(subscriber.0).map(|it| it.transport);
                self.broken.extend(transport);
            }
            if self.outbox.len_bytes() >= OUTBOX_BYTES {
                return;
            }
        }
    }

    /// As [`Self::forward`], however much there is: before something changes that waiting packets rely on.
    pub(super) fn forward_all(&mut self, now: Instant) {
        while self.waiting.source().is_some() {
            self.forward(now);
        }
    }

    /// Takes what waits of one source to one subscriber.
    fn forward_run(&mut self, now: Instant, source: SourceKey, subscriber: SubscriberKey) {
        let source = &self.sources[source.0];
        let subscriber = &mut self.subscribers[subscriber.0];
        let transport = &mut self.transports[subscriber.transport.0];
        let abs_send_time = self.clock.abs_send_time(now);
        // Runs are for UDP, and old gateways need not know padding.
        let is_cut = |flow: Flow, protection: &Protection| {
            flow.protocol == FlowProtocol::Udp && matches!(protection, Protection::Keys { .. })
        };
        let may_pad = subscriber.may_pad();
        for waiting in self.waiting.run() {
            let packet = &waiting.packet;
            let Some(mapping) = subscriber.mapping(waiting.codec) else {
                self.counters.rtp_withheld += 1;
                let drops = &mut subscriber.subscription.drops;
                drops.count(DropReason::NotNegotiated);
                tell_mismatch(subscriber, source, waiting.codec);
                continue;
            };
            let (Some(flow), Some(protection)) = (transport.flow, &transport.protection) else {
                self.counters.rtp_withheld += 1;
                continue;
            };
            let Some(payload) = source.plaintext(packet) else {
                self.counters.rtp_withheld += 1;
                continue;
            };
            let Some(rewritten) = subscriber.subscription.handle_packet(now, packet) else {
                self.counters.rtp_withheld += 1;
                continue;
            };
            let outgoing = Outgoing {
                template: &subscriber.template,
                ssrc: subscriber.ssrc,
                index: rewritten.seq,
                original: None,
                payload_type: mapping.payload_type,
                abs_send_time,
                transport_seq: transport.transport_seq,
                packet,
                rewritten,
                payload,
                padding: match may_pad && is_cut(flow, protection) {
                    true => waiting.padding,
                    false => 0,
                },
            };
            if outgoing.seal(protection, flow, &mut self.outbox) {
                transport.transport_seq = transport.transport_seq.wrapping_add(1);
                let send = &mut subscriber.send;
                send.handle_sent(now, rewritten.timestamp, payload.len());
                self.counters.rtp_forwarded += 1;
            }
        }
    }

    /// Sends a packet again that a subscriber missed: on the SSRC for retransmissions (RFC 4588) if
    /// there is one, else as it was. `None` if that is not possible or not due.
    pub(super) fn retransmit(
        &mut self,
        now: Instant,
        subscriber: SubscriberKey,
        seq: Seq,
    ) -> Option<()> {
        let subscriber = &mut self.subscribers[subscriber.0];
        let origin = subscriber.subscription.rewriter.unmap(seq)?;
        let source = &self.sources[subscriber.source?.0];
        let layer = &source.layers[source.layer_of(origin.ssrc)?];
        let stored = layer.history.get(origin.seq)?;
        let Some(Payload::Media(codec)) = source.payload(stored.packet.payload_type) else {
            return None;
        };
        let mapping = subscriber.mapping(codec)?;
        let rewritten = subscriber.subscription.rewriter.replay(stored.packet)?;
        let transport = &mut self.transports[subscriber.transport.0];
        let (flow, protection) = (transport.flow?, transport.protection.as_ref()?);
        let repair = mapping.repair.zip(subscriber.repair_template.as_ref());
        if repair.is_none() && !subscriber.may_repeat(rewritten.seq) {
            return None;
        }
        let payload = stored.payload;
        if !subscriber
            .send
            .retransmit(now, rewritten.seq.seq(), payload.len())
        {
            return None;
        }
        let (template, ssrc, index, original, payload_type) = match repair {
            Some((payload_type, template)) => (
                template,
                Ssrc(subscriber.section.local_rtx_ssrc?),
                subscriber.send.next_rtx_seq(),
                Some(rewritten.seq.seq()),
                payload_type,
            ),
            None => (
                &subscriber.template,
                subscriber.ssrc,
                rewritten.seq,
                None,
                mapping.payload_type,
            ),
        };
        let outgoing = Outgoing {
            template,
            ssrc,
            index,
            original,
            payload_type,
            abs_send_time: self.clock.abs_send_time(now),
            transport_seq: transport.transport_seq,
            packet: stored.packet,
            rewritten,
            payload,
            padding: 0,
        };
        if outgoing.seal(protection, flow, &mut self.outbox) {
            transport.transport_seq = transport.transport_seq.wrapping_add(1);
            self.counters.rtp_retransmitted += 1;
        }
        Some(())
    }

    /// Unprotects a packet in place and finds its stream, binding an SSRC that is seen for the first
    /// time only after the packet has proved authentic.
    fn open(
        &mut self,
        now: Instant,
        key: TransportKey,
        datagram: &mut [u8],
    ) -> Result<(Bound, usize), Discard> {
        let header = Header::parse_protected(datagram).map_err(|_| Discard::Malformed)?;
        let (ssrc, header_len) = (header.ssrc(), header.header_len());
        let transport = &mut self.transports[key.0];
        let position = transport.inbound_of(ssrc);
        let Some(protection) = &transport.protection else {
            return Err(Discard::NoKeys);
        };
        if let Some(position) = position {
            let stream = &mut transport.inbound[position];
            let len = protection.open_rtp(&mut stream.index, header_len, datagram)?;
            let bound = Bound {
                source: stream.source,
                layer: stream.layer,
                repair: stream.repair,
                is_first: false,
            };
            return Ok((bound, len));
        }
        let mut index = transport.former_index(ssrc);
        let len = protection.open_rtp(&mut index, header_len, datagram)?;
        let header = Header::parse(&datagram[..len]).map_err(|_| Discard::Malformed)?;
        // A stream that this one replaces takes its history along.
        self.forward_all(now);
        let bound = self.bind(key, &header, index)?;
        Ok((bound, len))
    }

    /// Assigns an SSRC seen for the first time to a negotiated section.
    fn bind(
        &mut self,
        key: TransportKey,
        header: &Header<'_>,
        index: ReceiveIndex,
    ) -> Result<Bound, Discard> {
        let transport = &mut self.transports[key.0];
        let ssrc = header.ssrc();
        if transport.inbound.len() >= INBOUND_STREAMS_MAX {
            return Err(Discard::UnknownStream);
        }
        let announced = |source: &Source| {
            source
                .section
                .remote
                .iter()
                .any(|stream| stream.ssrc == ssrc.0 || stream.rtx_ssrc == Some(ssrc.0))
        };
        let mut candidates = transport.sources.iter().copied();
        let by_name = candidates
            .clone()
            .find(|key| self.sources[key.0].is_named_by(header) == Some(true));
        let by_ssrc = || {
            candidates
                .clone()
                .find(|key| announced(&self.sources[key.0]))
        };
        let source_key = by_name
            .or_else(by_ssrc)
            .or_else(|| {
                candidates.find(|key| {
                    let source = &self.sources[key.0];
                    source.payload(header.payload_type()).is_some()
                        && source.is_named_by(header).is_none()
                })
            })
            .ok_or(Discard::UnknownStream)?;
        let source = &mut self.sources[source_key.0];
        let (codec, repair) = match source.payload(header.payload_type()) {
            Some(Payload::Media(codec)) => (codec, false),
            Some(Payload::Repair(codec)) => (codec, true),
            None => return Err(Discard::UnknownPayload),
        };
        let layer = if repair {
            repaired_layer(source, header).ok_or(Discard::UselessRetransmission)?
        } else {
            let rid = rid(source.section.extensions.rid, header);
            if rid.is_some()
                && !source
                    .section
                    .simulcast_rids
                    .iter()
                    .any(|known| Some(known) == rid.as_ref())
            {
                return Err(Discard::UnknownStream);
            }
            let id = Ssrc(self.layers_made);
            let layer = source
                .add_layer(id, ssrc, rid, codec)
                .ok_or(Discard::UnknownStream)?;
            self.layers_made = self.layers_made.wrapping_add(1);
            self.follow_layers(source_key);
            layer
        };
        let transport = &mut self.transports[key.0];
        // The SSRCs of a replaced stream and of its retransmissions must not point at its successor, and
        // retransmissions that come and go must not use up the places of others.
        transport.retire(|stream| {
            stream.source == source_key && stream.layer == layer && (!repair || stream.repair)
        });
        transport.inbound_last = transport.inbound.len();
        transport.inbound.push(Inbound {
            ssrc,
            index,
            source: source_key,
            layer,
            repair,
        });
        Ok(Bound {
            source: source_key,
            layer,
            repair,
            is_first: true,
        })
    }
}

/// Takes the retransmission header off, if there is one, and looks the codec up.
fn read<'a>(source: &Source, header: &Header<'a>, repair: bool) -> Result<Opened<'a>, Discard> {
    let payload = header.payload();
    match (source.payload(header.payload_type()), repair) {
        (Some(Payload::Media(codec)), false) => Ok(Opened {
            seq: header.seq(),
            codec,
            payload_type: header.payload_type(),
            payload,
        }),
        (Some(Payload::Repair(codec)), true) => {
            // Senders probe the path with repair packets that carry padding only.
            let (original, payload) = payload
                .split_first_chunk::<2>()
                .ok_or(Discard::UselessRetransmission)?;
            Ok(Opened {
                seq: Seq(u16::from_be_bytes(*original)),
                codec,
                payload_type: PayloadType(source.description(codec).payload_type),
                payload,
            })
        }
        _ => Err(Discard::UnknownPayload),
    }
}

/// The layer that an unknown stream of retransmissions repairs.
fn repaired_layer(source: &Source, header: &Header<'_>) -> Option<usize> {
    let announced = source
        .section
        .remote
        .iter()
        .find(|stream| stream.rtx_ssrc == Some(header.ssrc().0));
    if let Some(stream) = announced {
        return source.layer_of_ssrc(Ssrc(stream.ssrc));
    }
    match rid(source.section.extensions.repaired_rid, header) {
        Some(rid) => source
            .layers
            .iter()
            .position(|layer| layer.rid.as_ref() == Some(&rid)),
        None if source.layers.len() == 1 => Some(0),
        None => None,
    }
}

fn rid(id: Option<u8>, header: &Header<'_>) -> Option<String> {
    let data = header.extension(ExtensionId(id?))?;
    std::str::from_utf8(data).ok().map(str::to_owned)
}

fn transport_seq(source: &Source, header: &Header<'_>) -> Option<Seq> {
    let id = ExtensionId(source.section.extensions.transport_cc?);
    let data = header.extension(id)?.first_chunk::<2>()?;
    Some(Seq(u16::from_be_bytes(*data)))
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
