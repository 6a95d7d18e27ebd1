//! What a peer publishes: one stream of synthetic media, its retransmissions, and what comes back about it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use forwarding::codec::Codec;
use forwarding::rtcp::ReportBlock;
use forwarding::rtp::{
    AbsSendTime, ClockRate, ExtendedSeq, HEADER_LEN_MAX, HeaderFields, HeaderTemplate,
    NegotiatedExtensions, PayloadType, RtpTime, Seq, Ssrc,
};
use forwarding::send::{SendConfig, SendStream};
use media::MediaKind;
use sfu::engine::srtp::Sealer;

use crate::payload::{self, PAYLOAD_LEN_MIN, Picture, Stamp};

/// Packets kept for retransmission. Too low: loss on a slow path is not repaired. Too high: memory for
/// each of thousands of peers.
const SENT_MAX: usize = 512;

/// Numbers of NACKs kept for tests.
const NACKED_MAX: usize = 10_000;

/// How a stream is sent by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between frames.
    pub interval: Duration,
    /// Packets of a frame.
    pub packets: u16,
    /// Payload bytes of a packet.
    pub packet_bytes: usize,
}

impl Pace {
    /// Opus at 20 ms and 40 kbit/s.
    pub const AUDIO: Self = Self {
        interval: Duration::from_millis(20),
        packets: 1,
        packet_bytes: 100,
    };

    /// Video at 25 frames per second and 0.72 Mbit/s.
    pub const VIDEO: Self = Self {
        interval: Duration::from_millis(40),
        packets: 3,
        packet_bytes: 1_200,
    };
}

/// What came back about a stream.
#[derive(Clone, Debug, Default)]
pub struct Feedback {
    /// PLIs.
    pub picture_losses: u64,
    /// FIRs.
    pub full_intra_requests: u64,
    /// NACK packets.
    pub nacks: u64,
    /// Numbers asked for, in order, the first ones only.
    pub nacked: Vec<Seq>,
    /// Packets sent again.
    pub retransmitted: u64,
    /// Receiver report blocks.
    pub reports: u64,
    /// The latest one.
    pub report: Option<ReportBlock>,
}

/// A packet in the clear.
struct Sent {
    seq: ExtendedSeq,
    header_len: usize,
    packet: Vec<u8>,
}

/// Retransmissions on an SSRC of their own.
struct Repair {
    ssrc: u32,
    payload_type: u8,
    template: HeaderTemplate,
    next: ExtendedSeq,
}

/// What a stream begins with.
pub(super) struct OutgoingConfig<'a> {
    pub(super) kind: MediaKind,
    pub(super) codec: Codec,
    pub(super) payload_type: u8,
    pub(super) rtx_payload_type: Option<u8>,
    pub(super) ssrcs: [u32; 2],
    pub(super) mid: &'a str,
    pub(super) extensions: NegotiatedExtensions,
    pub(super) first_seq: u16,
    pub(super) first_timestamp: u32,
}

/// What differs from moment to moment, for all streams of a peer.
#[derive(Clone, Copy)]
pub(super) struct Sending {
    pub(super) now: Instant,
    pub(super) abs_send_time: AbsSendTime,
    pub(super) sent_micros: u64,
}

/// One published stream.
pub(super) struct Outgoing {
    pub(super) kind: MediaKind,
    codec: Codec,
    pub(super) ssrc: u32,
    payload_type: u8,
    template: HeaderTemplate,
    repair: Option<Repair>,
    next: ExtendedSeq,
    clock_rate: ClockRate,
    first_timestamp: RtpTime,
    began: Instant,
    picture_id: u16,
    tl0_picture_index: u8,
    number: u32,
    pub(super) send: SendStream,
    sent: VecDeque<Sent>,
    pace: Option<(Pace, Instant)>,
    pub(super) wants_key_frame: bool,
    pub(super) feedback: Feedback,
}

impl Outgoing {
    pub(super) fn new(now: Instant, config: &OutgoingConfig<'_>) -> Self {
        let [ssrc, rtx_ssrc] = config.ssrcs;
        let mid = config.mid.as_bytes();
        let repair = config.rtx_payload_type.map(|payload_type| Repair {
            ssrc: rtx_ssrc,
            payload_type,
            template: HeaderTemplate::new(Ssrc(rtx_ssrc), mid, &config.extensions),
            next: ExtendedSeq(u64::from(config.first_seq ^ 0x1555)),
        });
        let clock_rate = config.codec.clock_rate();
        Self {
            kind: config.kind,
            codec: config.codec,
            ssrc,
            payload_type: config.payload_type,
            template: HeaderTemplate::new(Ssrc(ssrc), mid, &config.extensions),
            repair,
            next: ExtendedSeq(u64::from(config.first_seq)),
            clock_rate,
            first_timestamp: RtpTime(config.first_timestamp),
            began: now,
            picture_id: config.first_seq & 0x7fff,
            tl0_picture_index: config.first_seq as u8,
            number: 0,
            send: SendStream::new(SendConfig {
                ssrc: Ssrc(ssrc),
                clock_rate,
                rtx_first_seq: Seq(0),
            }),
            sent: VecDeque::new(),
            pace: None,
            wants_key_frame: true,
            feedback: Feedback::default(),
        }
    }

    /// The number that the next packet gets.
    pub(super) fn next_seq(&self) -> Seq {
        self.next.seq()
    }

    /// The next number, which no packet of this stream gets then.
    pub(super) fn take_seq(&mut self) -> ExtendedSeq {
        let taken = self.next;
        self.next = taken.next();
        taken
    }

    pub(super) fn packets_made(&self) -> u32 {
        self.number
    }

    /// Of media and of retransmissions.
    pub(super) fn payload_types(&self) -> (u8, Option<u8>) {
        let repair = self.repair.as_ref();
        (self.payload_type, repair.map(|repair| repair.payload_type))
    }

    pub(super) fn set_pace(&mut self, now: Instant, pace: Option<Pace>) {
        self.pace = pace.map(|pace| (pace, now));
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.pace.map(|(_, at)| at)
    }

    /// The frame that is due, if one is.
    pub(super) fn poll_frame(&mut self, now: Instant) -> Option<Pace> {
        let (pace, at) = self.pace.as_mut().filter(|(_, at)| *at <= now)?;
        *at = (*at + pace.interval).max(now);
        Some(*pace)
    }

    /// Sends a frame of so many packets.
    pub(super) fn send_frame(
        &mut self,
        sending: &Sending,
        pace: &Pace,
        transport_seq: &mut u16,
        sealer: &Sealer,
        out: &mut VecDeque<Vec<u8>>,
    ) {
        let key = std::mem::take(&mut self.wants_key_frame);
        let elapsed = sending.now.saturating_duration_since(self.began);
        let timestamp = self
            .first_timestamp
            .wrapping_add(self.clock_rate.ticks(elapsed));
        let last = pace.packets.saturating_sub(1);
        for index in 0..pace.packets {
            let picture = Picture {
                key,
                first: index == 0,
                picture_id: self.picture_id,
                tl0_picture_index: self.tl0_picture_index,
            };
            let fields = HeaderFields {
                seq: self.next.seq(),
                timestamp,
                marker: self.kind == MediaKind::Video && index == last,
                payload_type: PayloadType(self.payload_type),
                abs_send_time: sending.abs_send_time,
                transport_seq: *transport_seq,
                audio_level: (self.kind == MediaKind::Audio).then_some(0x80 | 30),
                video_orientation: None,
                raw: &[],
            };
            *transport_seq = transport_seq.wrapping_add(1);
            let stamp = Stamp {
                source: self.ssrc,
                number: self.number,
                sent_micros: sending.sent_micros,
            };
            let ssrc = self.ssrc;
            let sent = self.write(&fields, &picture, &stamp, pace.packet_bytes);
            out.push_back(seal(sealer, sent.seq, ssrc, sent));
            self.send
                .handle_sent(sending.now, timestamp, 1, pace.packet_bytes);
        }
        self.picture_id = self.picture_id.wrapping_add(1) & 0x7fff;
        self.tl0_picture_index = self.tl0_picture_index.wrapping_add(1);
    }

    fn write(
        &mut self,
        fields: &HeaderFields<'_>,
        picture: &Picture,
        stamp: &Stamp,
        payload_bytes: usize,
    ) -> &Sent {
        let payload_bytes = payload_bytes.max(PAYLOAD_LEN_MIN);
        let recycled = (self.sent.len() == SENT_MAX)
            .then(|| self.sent.pop_front())
            .flatten();
        let mut packet = recycled.map(|sent| sent.packet).unwrap_or_default();
        packet.resize(HEADER_LEN_MAX + payload_bytes, 0);
        let header_len = self
            .template
            .write(&mut packet, fields)
            .expect("there is room for the longest header");
        packet.truncate(header_len + payload_bytes);
        payload::write(self.codec, picture, stamp, &mut packet[header_len..]);
        self.sent.push_back(Sent {
            seq: self.next,
            header_len,
            packet,
        });
        self.next = self.next.next();
        self.number = self.number.wrapping_add(1);
        self.sent.back().expect("pushed above")
    }

    pub(super) fn handle_nack(&mut self, seqs: impl Iterator<Item = Seq>) -> Vec<Seq> {
        self.feedback.nacks += 1;
        let seqs: Vec<_> = seqs.collect();
        let room = NACKED_MAX - self.feedback.nacked.len();
        self.feedback.nacked.extend(seqs.iter().take(room));
        seqs
    }

    /// Sends a packet again: as a retransmission if those were negotiated, else as it was.
    pub(super) fn retransmit(
        &mut self,
        sending: &Sending,
        seq: Seq,
        transport_seq: &mut u16,
        sealer: &Sealer,
    ) -> Option<Vec<u8>> {
        let sent = self.sent.iter().find(|sent| sent.seq.seq() == seq)?;
        self.feedback.retransmitted += 1;
        let Some(repair) = &mut self.repair else {
            return Some(seal(sealer, sent.seq, self.ssrc, sent));
        };
        let original = &sent.packet;
        let fields = HeaderFields {
            seq: repair.next.seq(),
            timestamp: RtpTime(u32::from_be_bytes([
                original[4],
                original[5],
                original[6],
                original[7],
            ])),
            marker: original[1] & 0x80 != 0,
            payload_type: PayloadType(repair.payload_type),
            abs_send_time: sending.abs_send_time,
            transport_seq: *transport_seq,
            audio_level: None,
            video_orientation: None,
            raw: &[],
        };
        *transport_seq = transport_seq.wrapping_add(1);
        let mut packet = vec![0; HEADER_LEN_MAX];
        let header_len = repair.template.write(&mut packet, &fields)?;
        packet.truncate(header_len);
        packet.extend_from_slice(&seq.0.to_be_bytes());
        packet.extend_from_slice(&original[sent.header_len..]);
        let index = repair.next;
        repair.next = index.next();
        let sent = Sent {
            seq: index,
            header_len,
            packet,
        };
        Some(seal(sealer, index, repair.ssrc, &sent))
    }
}

fn seal(sealer: &Sealer, index: ExtendedSeq, ssrc: u32, sent: &Sent) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(sent.packet.len() + sealer.rtp_overhead());
    sealed.extend_from_slice(&sent.packet);
    sealed.resize(sent.packet.len() + sealer.rtp_overhead(), 0);
    sealer.seal_rtp(index.0, ssrc, sent.header_len, &mut sealed);
    sealed
}
