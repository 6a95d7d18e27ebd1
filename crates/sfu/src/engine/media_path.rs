//! The state that packets touch, and the way of an RTP packet through it.
//!
//! [`MediaPath::handle_rtp`] is the walk: find the stream, unprotect, update what is known about it,
//! then one loop over the subscribers. Nothing on it allocates in steady state, locks, or waits.
//! Deliberately absent: signaling, which changes this state between packets only.

use std::time::Instant;

use forwarding::codec::{Codec, Vp8Patch, inspect};
use forwarding::{
    AbsSendTime, Arrival, ExtensionId, HEADER_LEN_MAX, Header, HeaderFields, PayloadType, Rewritten,
    Seq, SourcePacket, Ssrc,
};
use media::{ErrorKind, Event, MediaKind};
use slab::Slab;

use super::clock::Clock;
use super::counters::{Counters, Discard};
use super::outbox::Outbox;
use super::source::{Payload, Source, SourceKey};
use super::srtp::{OpenError, ReceiveIndex};
use super::subscriber::{Mapping, Subscriber};
use super::transport::{INBOUND_STREAMS_MAX, Inbound, Transport, TransportKey};

/// Everything that packets touch.
pub(super) struct MediaPath {
    pub(super) clock: Clock,
    pub(super) transports: Slab<Transport>,
    pub(super) sources: Slab<Source>,
    pub(super) subscribers: Slab<Subscriber>,
    pub(super) outbox: Outbox,
    pub(super) counters: Counters,
}

/// An authenticated packet whose stream is known.
struct Bound {
    source: SourceKey,
    layer: usize,
    repair: bool,
}

/// The media of a packet, retransmission headers taken off.
struct Opened<'a> {
    seq: Seq,
    codec: u8,
    payload_type: PayloadType,
    payload: &'a [u8],
}

impl MediaPath {
    /// Takes one SRTP packet from a validated 5-tuple through to every subscriber.
    pub(super) fn handle_rtp(
        &mut self,
        now: Instant,
        key: TransportKey,
        datagram: &mut [u8],
    ) -> Result<(), Discard> {
        let (bound, len) = self.open(key, datagram)?;
        let packet = &datagram[..len];
        let header = Header::parse(packet).map_err(|_| Discard::Malformed)?;
        self.counters.rtp_received += 1;

        let transport = &mut self.transports[key.0];
        transport.ice.touch(now);
        let source = &mut self.sources[bound.source.0];
        if let Some(seq) = transport_seq(source, &header) {
            transport.feedback.handle_packet(now, seq, header.ssrc());
        }

        let opened = read(source, &header, bound.repair)?;
        let layer = &mut source.layers[bound.layer];
        let codec = source.section.codecs[usize::from(opened.codec)].codec;
        let arrival =
            layer
                .receive
                .handle_packet(now, opened.seq, header.timestamp(), packet.len());
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
            ssrc: layer.ssrc,
            seq,
            timestamp: header.timestamp(),
            marker: header.marker(),
            payload_type: opened.payload_type,
            frame: inspect(codec, opened.payload),
            audio_level: byte_of(extensions.audio_level),
            video_orientation: byte_of(extensions.video_orientation),
        };
        layer.history.insert(now, &arrived, opened.payload);
        if arrived.frame.key_frame && source.kind == MediaKind::Video {
            layer.key_frames.handle_key_frame(now);
        }
        source.codec = Some(opened.codec);
        self.fan_out(now, bound.source, opened.codec, &arrived, opened.payload);
        Ok(())
    }

    /// The one loop over the subscribers of a track.
    fn fan_out(
        &mut self,
        now: Instant,
        source: SourceKey,
        codec: u8,
        packet: &SourcePacket,
        payload: &[u8],
    ) {
        let abs_send_time = self.clock.abs_send_time(now);
        for index in 0..self.sources[source.0].subscribers.len() {
            let key = self.sources[source.0].subscribers[index];
            let subscriber = &mut self.subscribers[key.0];
            let Some(mapping) = subscriber.mapping(codec) else {
                self.counters.rtp_withheld += 1;
                tell_mismatch(subscriber, &self.sources[source.0], codec);
                continue;
            };
            let transport = &mut self.transports[subscriber.transport.0];
            let Some((flow, keys)) = transport.outlet() else {
                self.counters.rtp_withheld += 1;
                continue;
            };
            let Some(rewritten) = subscriber.subscription.handle_packet(now, packet) else {
                self.counters.rtp_withheld += 1;
                continue;
            };
            let fields = HeaderFields {
                seq: rewritten.seq.seq(),
                timestamp: rewritten.timestamp,
                marker: packet.marker,
                payload_type: mapping.payload_type,
                abs_send_time,
                transport_seq: transport.transport_seq,
                audio_level: packet.audio_level,
                video_orientation: packet.video_orientation,
                raw: &[],
            };
            let room = HEADER_LEN_MAX + payload.len() + keys.sealer.rtp_overhead();
            let template = &subscriber.template;
            let ssrc = subscriber.ssrc;
            let queued = self.outbox.push_with(flow, room, |out| {
                let header_len = template.write(out, &fields)?;
                let body = header_len + payload.len();
                out[header_len..body].copy_from_slice(payload);
                patch(&mut out[header_len..body], rewritten.vp8);
                let sealed = body + keys.sealer.rtp_overhead();
                keys.sealer
                    .seal_rtp(rewritten.seq.0, ssrc.0, header_len, &mut out[..sealed]);
                Some(sealed)
            });
            if queued {
                transport.transport_seq = transport.transport_seq.wrapping_add(1);
                subscriber
                    .send
                    .handle_packet(now, rewritten.timestamp, payload.len());
                self.counters.rtp_forwarded += 1;
            }
        }
    }

    /// Sends a packet again that a subscriber missed: on the SSRC for retransmissions (RFC 4588) if
    /// there is one, else as it was.
    pub(super) fn retransmit(&mut self, now: Instant, subscriber: usize, seq: Seq) -> Option<()> {
        let subscriber = &mut self.subscribers[subscriber];
        let origin = subscriber.subscription.rewriter.unmap(seq)?;
        let source = &self.sources[subscriber.source?.0];
        let layer = &source.layers[source.layer_of(origin.ssrc)?];
        let stored = layer.history.get(origin.seq)?;
        let Some(Payload::Media(codec)) = source.payload(stored.packet.payload_type) else {
            return None;
        };
        let mapping = subscriber.mapping(codec)?;
        let rewritten = subscriber.subscription.rewriter.replay(stored.packet)?;
        if !subscriber
            .send
            .may_retransmit(now, rewritten.seq, stored.payload.len())
        {
            return None;
        }
        let abs_send_time = self.clock.abs_send_time(now);
        let transport = &mut self.transports[subscriber.transport.0];
        let transport_seq = transport.transport_seq;
        let (flow, keys) = transport.outlet()?;
        let fields = |mapping: Mapping, seq, payload_type: PayloadType| {
            let _ = mapping;
            HeaderFields {
                seq,
                timestamp: rewritten.timestamp,
                marker: stored.packet.marker,
                payload_type,
                abs_send_time,
                transport_seq,
                audio_level: stored.packet.audio_level,
                video_orientation: stored.packet.video_orientation,
                raw: &[],
            }
        };
        let overhead = keys.sealer.rtp_overhead();
        let payload = stored.payload;
        let room = HEADER_LEN_MAX + 2 + payload.len() + overhead;
        let sent = match (mapping.repair, &subscriber.repair_template) {
            (Some(payload_type), Some(template)) => {
                let index = subscriber.send.next_repair_seq();
                let ssrc = subscriber.section.local_rtx_ssrc?;
                let fields = fields(mapping, index.seq(), payload_type);
                self.outbox.push_with(flow, room, |out| {
                    let header_len = template.write(out, &fields)?;
                    let start = header_len + 2;
                    let body = start + payload.len();
                    // Original sequence number (RFC 4588, section 4).
                    out[header_len..start].copy_from_slice(&rewritten.seq.seq().0.to_be_bytes());
                    out[start..body].copy_from_slice(payload);
                    patch(&mut out[start..body], rewritten.vp8);
                    let sealed = body + overhead;
                    keys.sealer
                        .seal_rtp(index.0, ssrc, header_len, &mut out[..sealed]);
                    Some(sealed)
                })
            }
            _ if subscriber.repeats_plainly => {
                let fields = fields(mapping, rewritten.seq.seq(), mapping.payload_type);
                let ssrc = subscriber.ssrc.0;
                let template = &subscriber.template;
                self.outbox.push_with(flow, room, |out| {
                    let header_len = template.write(out, &fields)?;
                    let body = header_len + payload.len();
                    out[header_len..body].copy_from_slice(payload);
                    patch(&mut out[header_len..body], rewritten.vp8);
                    let sealed = body + overhead;
                    keys.sealer
                        .seal_rtp(rewritten.seq.0, ssrc, header_len, &mut out[..sealed]);
                    Some(sealed)
                })
            }
            _ => false,
        };
        if sent {
            transport.transport_seq = transport_seq.wrapping_add(1);
            self.counters.rtp_retransmitted += 1;
        }
        sent.then_some(())
    }

    /// Unprotects a packet in place and finds its stream, binding an SSRC that is seen for the first
    /// time only after the packet has proved authentic.
    fn open(&mut self, key: TransportKey, datagram: &mut [u8]) -> Result<(Bound, usize), Discard> {
        let header = Header::parse_protected(datagram).map_err(|_| Discard::Malformed)?;
        let (ssrc, header_len) = (header.ssrc(), header.header_len());
        let transport = &mut self.transports[key.0];
        let position = transport.inbound_of(ssrc);
        let Some(keys) = &transport.keys else {
            return Err(Discard::NoKeys);
        };
        if let Some(position) = position {
            let stream = &mut transport.inbound[position];
            let len = keys
                .opener
                .open_rtp(&mut stream.index, header_len, datagram)
                .map_err(reason)?;
            let bound = Bound {
                source: stream.source,
                layer: stream.layer,
                repair: stream.repair,
            };
            return Ok((bound, len));
        }
        let mut index = ReceiveIndex::default();
        let len = keys
            .opener
            .open_rtp(&mut index, header_len, datagram)
            .map_err(reason)?;
        let header = Header::parse(&datagram[..len]).map_err(|_| Discard::Malformed)?;
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
        let by_ssrc = || candidates.clone().find(|key| announced(&self.sources[key.0]));
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
        let repair = match source.payload(header.payload_type()) {
            Some(Payload::Media(_)) => false,
            Some(Payload::Repair(_)) => true,
            None => return Err(Discard::UnknownPayload),
        };
        let layer = if repair {
            repaired_layer(source, header).ok_or(Discard::UselessRetransmission)?
        } else {
            let rid = rid(source.section.extensions.rid, header);
            if rid.is_some() && !source.section.simulcast_rids.iter().any(|known| Some(known) == rid.as_ref()) {
                return Err(Discard::UnknownStream);
            }
            let layer = source.add_layer(ssrc, rid).ok_or(Discard::UnknownStream)?;
            let forwarded = source.forwarded();
            for subscriber in &source.subscribers {
                let subscription = &mut self.subscribers[subscriber.0].subscription;
                subscription.selector.choose(forwarded);
            }
            // A replaced stream's SSRC must not point at the layer of its successor.
            transport
                .inbound
                .retain(|stream| stream.source != source_key || stream.layer != layer || stream.repair);
            layer
        };
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
        return source.layer_of(Ssrc(stream.ssrc));
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

fn transport_seq(source: &Source, header: &Header<'_>) -> Option<u16> {
    let id = ExtensionId(source.section.extensions.transport_cc?);
    let data = header.extension(id)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*data))
}

fn patch(payload: &mut [u8], vp8: Option<Vp8Patch>) {
    if let Some(vp8) = vp8 {
        vp8.apply(payload);
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

fn reason(error: OpenError) -> Discard {
    match error {
        OpenError::TooShort => Discard::Malformed,
        OpenError::Replayed | OpenError::TooOld => Discard::Replayed,
        OpenError::Unauthentic => Discard::Unauthentic,
    }
}
