//! The state that packets touch, and the first half of an RTP packet's way through it.
//!
//! [`MediaPath::handle_rtp`] finds the stream, unprotects, updates what is known about it, and keeps the packet. The
//! second half is [`super::forward`]. Nothing on either allocates in steady state, locks, or waits.
//! Deliberately absent: signaling, which changes this state between packets only.

use std::time::Instant;

use forwarding::allocation::Grant;
use forwarding::codec::inspect;
use forwarding::packet::SourcePacket;
use forwarding::receive::Arrival;
use forwarding::rtp::{ExtensionId, Header, PayloadType, Seq, Ssrc};
use media::{Event, MediaKind};
use slab::Slab;

use super::clock::Clock;
use super::counters::{Counters, Discard};
use super::downlink::Downlink;
use super::outbox::Outbox;
use super::relay::{Dispatch, Trunk};
use super::source::{Payload, Source, SourceKey};
use super::srtp::ReceiveIndex;
use super::subscriber::Subscriber;
use super::transport::{INBOUND_STREAMS_MAX, Inbound, Transport, TransportKey};
use super::waiting::Waiting;

/// Everything that packets touch.
pub(super) struct MediaPath {
    pub(super) clock: Clock,
    pub(super) transports: Slab<Transport>,
    pub(super) sources: Slab<Source>,
    pub(super) subscribers: Slab<Subscriber>,
    /// The ways to participants.
    pub(super) downlinks: Slab<Downlink>,
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
    /// Transports whose deadlines have to be looked at.
    pub(super) unarmed: Vec<TransportKey>,
    /// The layer of which a key frame is being taken in: it need not be asked for.
    pub(super) arriving: Option<Ssrc>,
    /// Kept for its memory.
    pub(super) grants: Vec<Grant>,
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

/// A packet that is new.
pub(super) struct Arrived<'a> {
    /// Index into the codecs of the source.
    pub(super) codec: u8,
    pub(super) packet: SourcePacket,
    /// What describes its frame; may be empty.
    pub(super) descriptor: &'a [u8],
    /// In the clear.
    pub(super) payload: &'a [u8],
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
        source.quiet_reports = 0;
        if !std::mem::replace(&mut source.flowing, true) {
            let (kind, flowing) = (source.kind, true);
            let event = Event::MediaFlowInChanged { kind, flowing };
            transport.events.send(event);
        }
        let extensions = &source.section.extensions;
        let byte_of = |id: Option<u8>| {
            let data = header.extension(ExtensionId(id?))?;
            data.first().copied()
        };
        let descriptor = extensions
            .dependency_descriptor
            .and_then(|id| header.extension(ExtensionId(id)))
            .unwrap_or_default();
        let packet = SourcePacket {
            ssrc: layer.id,
            seq,
            timestamp: header.timestamp(),
            marker: header.marker(),
            payload_type: opened.payload_type,
            frame: layer.describe(inspect(codec, opened.payload), descriptor),
            audio_level: byte_of(extensions.audio_level),
            video_orientation: byte_of(extensions.video_orientation),
        };
        let arrived = Arrived {
            codec: opened.codec,
            packet,
            descriptor,
            payload: opened.payload,
        };
        if let Some(level) = packet.audio_level {
            self.hear(now, bound.source, level);
        }
        self.keep(now, bound.source, bound.layer, &arrived)?;
        if bound.is_first && !packet.frame.key_frame {
            // The key frame that began the stream is lost, or came before we listened.
            self.request_key_frame_of(now, bound.source, packet.ssrc);
        }
        Ok(())
    }

    /// Keeps a packet, and has it wait for its subscribers.
    pub(super) fn keep(
        &mut self,
        now: Instant,
        key: SourceKey,
        layer: usize,
        arrived: &Arrived<'_>,
    ) -> Result<(), Discard> {
        let Arrived {
            codec,
            packet,
            descriptor,
            payload,
        } = arrived;
        let source = &mut self.sources[key.0];
        let format = source.section.codecs[usize::from(*codec)].codec;
        // Padding that probes the path is not worth repeating; the subscribers' numbers close up.
        if !packet.frame.empty {
            source.layers[layer].measure(now, format, packet, payload);
            // Before it is kept: who waits for a key frame must not be shown this one twice.
            if source.measure(now) {
                self.arriving = packet.frame.key_frame.then_some(packet.ssrc);
                self.divide_all(now, key);
                self.arriving = None;
            }
            let layer = &mut self.sources[key.0].layers[layer];
            let history = &mut layer.history;
            if !history.insert_described(now, packet, descriptor, payload) {
                return Err(Discard::TooLate);
            }
            let last = &mut layer.last_key_frame;
            last.handle_packet(now, packet, payload.len());
        }
        let source = &mut self.sources[key.0];
        if packet.frame.key_frame && source.kind == MediaKind::Video {
            source.layers[layer].key_frames.handle_key_frame();
        }
        if source.codec != Some(*codec) {
            self.forward_all(now);
            self.follow_codec(key, *codec);
        }
        let source = &self.sources[key.0];
        if !source.trunks.is_empty() {
            self.relay(key, arrived);
        }
        let source = &self.sources[key.0];
        if !source.subscribers.is_empty() {
            if self.waiting.is_full() {
                self.forward_all(now);
            }
            let kind = self.sources[key.0].kind;
            self.waiting.push(kind, key, *codec, packet, payload.len());
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
        let bound = self.bind(now, key, &header, index)?;
        Ok((bound, len))
    }

    /// Assigns an SSRC seen for the first time to a negotiated section.
    fn bind(
        &mut self,
        now: Instant,
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
        // There are only so many that are announced.
        let is_announced = announced(&self.sources[source_key.0]);
        if !is_announced && !self.transports[key.0].may_begin_stream(now) {
            return Err(Discard::UnknownStream);
        }
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
            self.describe_layers(source_key);
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
