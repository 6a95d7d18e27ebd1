//! What leaves a publisher: [`Uplink`] numbers, paces, seals and repeats packets, and learns from feedback what its
//! path carries.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use forwarding::congestion::{EstimatorConfig, PathId, SendEstimator};
use forwarding::pacer::{Pacer, PacketClass};
use forwarding::rate::Bitrate;
use forwarding::rtp::{
    ClockRate, ExtendedSeq, ExtensionId, HEADER_LEN_MAX, HeaderFields, HeaderTemplate,
    NegotiatedExtensions, PayloadType, RawExtension, RtpTime, Seq, Ssrc,
};
use forwarding::send::{SendConfig, SendStream};
use sfu::engine::clock::Clock;

use super::packetizer::Packet;
use crate::peer::{Peer, layer_extensions};

/// Packets leave faster than the estimate by this factor (libwebrtc: `kDefaultPaceMultiplier`).
const PACE: f64 = 2.5;

/// How long packets are kept for repetition, as browsers do.
const HISTORY: Duration = Duration::from_secs(1);

/// How an outgoing stream looks on the wire.
#[derive(Clone, Debug)]
pub(super) struct OutgoingConfig {
    pub(super) ssrc: Ssrc,
    pub(super) payload_type: u8,
    /// SSRC and payload type of repetitions.
    pub(super) repair: Option<(Ssrc, u8)>,
    pub(super) mid: &'static str,
    pub(super) rid: Option<&'static str>,
    pub(super) extensions: NegotiatedExtensions,
    /// The server takes dependency descriptors.
    pub(super) dependency: bool,
    pub(super) clock_rate: ClockRate,
    pub(super) first_seq: u16,
    pub(super) first_timestamp: u32,
    pub(super) class: PacketClass,
}

/// A packet that was sent, or will be.
#[derive(Clone, Debug)]
struct Kept {
    seq: ExtendedSeq,
    at: Instant,
    timestamp: RtpTime,
    audio_level: Option<u8>,
    packet: Packet,
}

struct Repair {
    payload_type: u8,
    template: HeaderTemplate,
    next: ExtendedSeq,
}

struct Outgoing {
    config: OutgoingConfig,
    template: HeaderTemplate,
    repair: Option<Repair>,
    next: ExtendedSeq,
    kept: VecDeque<Kept>,
    send: SendStream,
}

/// What waits in the pacer.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    stream: usize,
    seq: ExtendedSeq,
    is_repair: bool,
}

/// The sending half of a publisher.
pub(super) struct Uplink {
    clock: Clock,
    streams: Vec<Outgoing>,
    estimator: SendEstimator,
    pacer: Pacer<Waiting>,
    transport_seq: u16,
    is_controlled: bool,
    pub(super) repeated: u64,
}

impl Uplink {
    pub(super) fn new(clock: Clock, start: Bitrate, is_controlled: bool) -> Self {
        let estimator = SendEstimator::new(EstimatorConfig {
            start,
            ..EstimatorConfig::default()
        });
        Self {
            clock,
            streams: Vec::new(),
            pacer: Pacer::new(estimator.bitrate()),
            estimator,
            transport_seq: 0,
            is_controlled,
            repeated: 0,
        }
    }

    pub(super) fn add(&mut self, config: OutgoingConfig) -> usize {
        let mid = config.mid.as_bytes();
        let repair = config.repair.map(|(ssrc, payload_type)| Repair {
            payload_type,
            template: HeaderTemplate::new(ssrc, mid, &config.extensions),
            next: ExtendedSeq(u64::from(config.first_seq ^ 0x2aaa)),
        });
        self.streams.push(Outgoing {
            template: HeaderTemplate::new(config.ssrc, mid, &config.extensions),
            repair,
            next: ExtendedSeq(u64::from(config.first_seq)),
            kept: VecDeque::new(),
            send: SendStream::new(SendConfig {
                ssrc: config.ssrc,
                clock_rate: config.clock_rate,
                rtx_first_seq: Seq(0),
            }),
            config,
        });
        self.streams.len() - 1
    }

    /// What the path carries, bit/s; everything if nobody tells.
    pub(super) fn estimate(&self) -> u64 {
        match self.is_controlled {
            true => self.estimator.bitrate().0,
            false => u64::MAX,
        }
    }

    pub(super) fn set_demand(&mut self, demand: u64) {
        self.estimator.set_demand(Bitrate(demand));
    }

    pub(super) fn ssrc(&self, stream: usize) -> Ssrc {
        self.streams[stream].config.ssrc
    }

    pub(super) fn stream_of(&self, ssrc: Ssrc) -> Option<usize> {
        let mut streams = self.streams.iter();
        streams.position(|stream| stream.config.ssrc == ssrc)
    }

    pub(super) fn send_stream(&mut self, stream: usize) -> &mut SendStream {
        &mut self.streams[stream].send
    }

    /// Takes what an encoder made; it leaves when the pacer lets it.
    pub(super) fn push(
        &mut self,
        now: Instant,
        stream: usize,
        captured: Duration,
        audio_level: Option<u8>,
        packets: Vec<Packet>,
    ) {
        let outgoing = &mut self.streams[stream];
        let ticks = outgoing.config.clock_rate.ticks(captured);
        let timestamp = RtpTime(outgoing.config.first_timestamp).wrapping_add(ticks);
        while (outgoing.kept.front()).is_some_and(|kept| now - kept.at > HISTORY) {
            outgoing.kept.pop_front();
        }
        for packet in packets {
            let seq = outgoing.next;
            outgoing.next = seq.next();
            let size_bytes = packet.payload.len();
            let waiting = Waiting {
                stream,
                seq,
                is_repair: false,
            };
            if self
                .pacer
                .push(outgoing.config.class, size_bytes, waiting)
                .is_err()
            {
                continue;
            }
            outgoing.send.handle_sent(now, timestamp, 1, size_bytes);
            outgoing.kept.push_back(Kept {
                seq,
                at: now,
                timestamp,
                audio_level,
                packet,
            });
        }
    }

    pub(super) fn handle_nack(&mut self, media: Ssrc, seqs: impl Iterator<Item = Seq>) {
        let Some(stream) = self.stream_of(media) else {
            return;
        };
        for seq in seqs {
            let mut kept = self.streams[stream].kept.iter();
            let Some(kept) = kept.find(|kept| kept.seq.seq() == seq) else {
                continue;
            };
            let waiting = Waiting {
                stream,
                seq: kept.seq,
                is_repair: true,
            };
            let size_bytes = kept.packet.payload.len();
            let pushed = self
                .pacer
                .push(PacketClass::Retransmission, size_bytes, waiting);
            self.repeated += u64::from(pushed.is_ok());
        }
    }

    pub(super) fn handle_feedback(&mut self, now: Instant, content: &[u8]) {
        self.estimator.handle_feedback(now, PathId(0), content);
    }

    pub(super) fn handle_remb(&mut self, remb: Bitrate) {
        self.estimator.handle_remb(remb);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.estimator.poll_timeout(), self.pacer.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Sends what may leave.
    pub(super) fn handle_timeout(&mut self, now: Instant, peer: &mut Peer) {
        self.estimator.handle_timeout(now);
        if self.is_controlled {
            let pace = self.estimator.bitrate().scaled(PACE);
            let probe = self.estimator.probe_rate().unwrap_or_default();
            self.pacer.set_rate(pace.max(probe));
        } else {
            self.pacer.set_rate(Bitrate::from_kbps(30_000));
        }
        while let Some(waiting) = self.pacer.poll(now) {
            self.transmit(now, peer, waiting);
        }
        if self.is_controlled {
            while self.estimator.poll_padding(now).is_some() {
                // Something sent before is as good as padding.
                let Some(sent) = self.pad(now, peer) else {
                    break;
                };
                self.pacer.handle_sent(now, sent);
            }
        }
    }

    fn pad(&mut self, now: Instant, peer: &mut Peer) -> Option<usize> {
        let repairing = |stream: &&Outgoing| stream.repair.is_some();
        let mut streams = (0..).zip(&self.streams);
        let (stream, seq) = streams
            .by_ref()
            .filter(|(_, stream)| repairing(stream))
            .find_map(|(at, stream)| Some((at, stream.kept.back()?.seq)))?;
        let waiting = Waiting {
            stream,
            seq,
            is_repair: true,
        };
        self.transmit(now, peer, waiting)
    }

    fn transmit(&mut self, now: Instant, peer: &mut Peer, waiting: Waiting) -> Option<usize> {
        let outgoing = &mut self.streams[waiting.stream];
        let at = (outgoing.kept.iter()).position(|kept| kept.seq == waiting.seq)?;
        let kept = &outgoing.kept[at];
        let config = &outgoing.config;
        let is_repair = waiting.is_repair && outgoing.repair.is_some();
        let (template, index, payload_type) = match &mut outgoing.repair {
            Some(repair) if waiting.is_repair => {
                let index = repair.next;
                repair.next = index.next();
                (&repair.template, index, repair.payload_type)
            }
            _ => (&outgoing.template, kept.seq, config.payload_type),
        };
        let mut raw = Vec::new();
        if let Some(rid) = config.rid {
            let id = match is_repair {
                true => layer_extensions::REPAIRED_RID,
                false => layer_extensions::RID,
            };
            raw.push(raw_extension(id, rid.as_bytes()));
        }
        if let Some(dependency) = kept
            .packet
            .dependency
            .as_ref()
            .filter(|_| config.dependency)
        {
            raw.push(raw_extension(layer_extensions::DEPENDENCY, dependency));
        }
        let fields = HeaderFields {
            seq: index.seq(),
            timestamp: kept.timestamp,
            marker: kept.packet.marker,
            payload_type: PayloadType(payload_type),
            abs_send_time: self.clock.abs_send_time(now),
            transport_seq: self.transport_seq,
            audio_level: kept.audio_level,
            video_orientation: None,
            raw: &raw,
        };
        let raw_len: usize = raw.iter().map(|raw| raw.data.len() + 2).sum();
        let mut packet = vec![0; HEADER_LEN_MAX + raw_len + 3];
        let header_len = template.write(&mut packet, &fields)?;
        packet.truncate(header_len);
        if is_repair {
            packet.extend_from_slice(&kept.seq.seq().0.to_be_bytes());
        }
        packet.extend_from_slice(&kept.packet.payload);
        peer.send_rtp_at(index, header_len, &packet);
        if config.extensions.transport_seq.is_some() {
            let seq = Seq(self.transport_seq);
            self.estimator
                .handle_sent(now, PathId(0), seq, &[packet.len() as u16]);
            self.transport_seq = self.transport_seq.wrapping_add(1);
        }
        Some(packet.len())
    }
}

fn raw_extension(id: ExtensionId, data: &[u8]) -> RawExtension<'_> {
    RawExtension { id, data }
}
