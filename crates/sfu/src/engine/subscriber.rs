//! One outgoing track: what is sent to a peer in one media section.
//!
//! [`Subscriber`] ties the decisions of `forwarding` to what the peer negotiated: SSRCs, payload
//! types, extension ids. Deliberately absent: which source feeds it, which is the graph's to say.

use std::time::Instant;

use forwarding::codec::Codec;
use forwarding::history::Stored;
use forwarding::rewriter::{Origin, Rewriter};
use forwarding::rtp::{
    ClockRate, ExtendedSeq, ExtensionId, HeaderTemplate, NegotiatedExtensions, PayloadType,
    RtpTime, Seq, Ssrc,
};
use forwarding::selector::Selector;
use forwarding::send::{SendConfig, SendStream};
use forwarding::subscription::Subscription;
use media::{
    BandwidthLimits, Delivery, Direction, EventSender, MediaKind, PauseReason, StreamStats,
    VideoDelivery,
};
use smallvec::SmallVec;

use super::ceiling::Room;
use super::sdp::{CodecDescription, Section, codec_match};
use super::source::{Source, SourceKey};
use super::transport::TransportKey;

/// Handle of a subscriber; valid until its endpoint is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SubscriberKey(pub(super) usize);

/// How a codec of the source is sent to this peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) payload_type: PayloadType,
    /// For retransmissions on their own SSRC.
    pub(super) repair: Option<PayloadType>,
    /// Of the timestamps.
    pub(super) clock_rate: ClockRate,
}

/// One outgoing track.
pub(super) struct Subscriber {
    pub(super) events: EventSender,
    pub(super) transport: TransportKey,
    pub(super) kind: MediaKind,
    pub(super) section: Section,
    pub(super) ssrc: Ssrc,
    pub(super) source: Option<SourceKey>,
    pub(super) subscription: Subscription,
    pub(super) send: SendStream,
    pub(super) template: HeaderTemplate,
    /// Header of retransmissions, if they have an SSRC of their own.
    pub(super) repair_template: Option<HeaderTemplate>,
    /// A lost packet is sent again as it was, byte by byte, if it has this number or a later one. What was
    /// sent before would be written differently today.
    repeats_from: Option<ExtendedSeq>,
    pub(super) pli_count: u64,
    pub(super) fir_count: u64,
    /// By index of the source's codec; `None` if this peer does not know it.
    pub(super) mappings: SmallVec<[Option<Mapping>; 8]>,
    /// The application was told that the codec does not fit.
    pub(super) mismatch_told: bool,
    pub(super) limits: BandwidthLimits,
    /// What its peer wants.
    pub(super) delivery: Delivery,
    /// When it was sent what others had seen before.
    pub(super) caught_up_at: Option<Instant>,
    /// A packet that is held: the next one tells if it ends its picture.
    pub(super) open_ended: Option<OpenEnded>,
    /// The stream that its peer should see if all were sent that nobody watches.
    pub(super) hoped: Option<Ssrc>,
    /// What the way to its peer has room for.
    pub(super) room: Room,
    /// When that was found out.
    pub(super) room_at: Option<Instant>,
    /// When it was too little last.
    pub(super) short_at: Option<Instant>,
    /// Why nothing is sent.
    pub(super) paused: Option<PauseReason>,
    /// What the application was told of its video.
    pub(super) told: Option<VideoDelivery>,
    /// Its peer tells which packets arrive, by their transport-wide numbers.
    pub(super) reports_arrivals: bool,
    /// Latest REMB of the peer, in bit/s.
    pub(super) remb_bps: Option<u64>,
    /// When it was measured last, and how many bytes had been sent by then.
    measured: Option<(Instant, u64)>,
    sent_bps: Option<u64>,
}

/// A packet that has its number and was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenEnded {
    /// The id of its layer.
    pub(super) layer: Ssrc,
    /// Its number there.
    pub(super) seq: ExtendedSeq,
    /// Its number towards the subscriber.
    pub(super) sent_as: ExtendedSeq,
    /// Its picture is over if nothing has come by then.
    pub(super) until: Instant,
}

impl OpenEnded {
    /// True if it is this packet of a layer.
    pub(super) fn is(self, origin: Origin) -> bool {
        (self.layer, self.seq) == (origin.ssrc, origin.seq)
    }
}

/// Random numbers a new outgoing stream begins with (RFC 3550, section 5.1).
pub(super) struct FirstNumbers {
    pub(super) seq: u16,
    pub(super) timestamp: u32,
    pub(super) repair_seq: u16,
}

impl Subscriber {
    pub(super) fn new(
        transport: TransportKey,
        section: Section,
        events: EventSender,
        first: &FirstNumbers,
    ) -> Option<Self> {
        // A guess, until packets of the source tell its codec.
        let codec = section.codecs.first()?;
        let clock = ClockRate::new(codec.clock_rate)?;
        let ssrc = Ssrc(section.local_ssrc);
        let (template, repair_template) = templates(&section);
        Some(Self {
            events,
            transport,
            kind: section.kind,
            ssrc,
            source: None,
            subscription: Subscription::new(
                Selector::new(match section.kind {
                    MediaKind::Video => Codec::Vp8,
                    MediaKind::Audio | MediaKind::Data => Codec::Opus,
                }),
                Rewriter::new(clock, Seq(first.seq & 0x7fff), RtpTime(first.timestamp)),
            ),
            send: SendStream::new(SendConfig {
                ssrc,
                clock_rate: clock,
                rtx_first_seq: Seq(first.repair_seq & 0x7fff),
            }),
            template,
            repair_template,
            repeats_from: None,
            pli_count: 0,
            fir_count: 0,
            mappings: SmallVec::new(),
            mismatch_told: false,
            limits: BandwidthLimits::default(),
            delivery: Delivery::default(),
            caught_up_at: None,
            open_ended: None,
            hoped: None,
            room: Room::Unknown,
            room_at: None,
            short_at: None,
            paused: None,
            told: None,
            reports_arrivals: reports_arrivals(&section),
            remb_bps: None,
            measured: None,
            sent_bps: None,
            section,
        })
    }

    /// Takes over what a renegotiation of the same section agreed on.
    pub(super) fn renegotiate(&mut self, section: Section) {
        (self.template, self.repair_template) = templates(&section);
        self.reports_arrivals = reports_arrivals(&section);
        self.section = section;
        self.repeat_later_only();
    }

    /// Feeds this track from `source`, or from nothing.
    pub(super) fn attach(&mut self, source: Option<(SourceKey, &Source)>) {
        let former = std::mem::replace(&mut self.source, source.map(|(key, _)| key));
        if self.source != former {
            self.subscription.selector.aim(None);
            self.open_ended = None;
            self.hoped = None;
            self.room = Room::Unknown;
            self.short_at = None;
            self.paused = None;
            self.told = None;
        }
        self.mismatch_told = false;
        self.repeat_later_only();
        self.mappings.clear();
        let Some((_, source)) = source else {
            return;
        };
        self.mappings
            .extend(source.section.codecs.iter().map(|codec| {
                let format = codec_match(codec, &self.section.codecs)?;
                Some(Mapping {
                    payload_type: PayloadType(format.payload_type),
                    repair: format
                        .rtx_payload_type
                        .filter(|_| self.repair_template.is_some())
                        .map(PayloadType),
                    clock_rate: ClockRate::new(codec.clock_rate)?,
                })
            }));
        if let Some(codec) = source.codec {
            self.follow_codec(codec);
        }
    }

    fn repeat_later_only(&mut self) {
        let next = self.subscription.rewriter.next_seq();
        self.repeats_from = repeats_plainly(&self.section).then_some(next);
    }

    /// True if a packet that was sent under number `sent_as` may be sent again on the SSRC of the media: two packets of one
    /// index must be one packet.
    pub(super) fn may_repeat(&self, sent_as: ExtendedSeq, stored: &Stored<'_>) -> bool {
        let packet = stored.packet;
        // What follows may have changed its marker.
        let is_open_ended = packet.frame.ends_layer_frame() && !packet.marker;
        // What came since may have changed how it is described.
        let is_described = self.section.extensions.dependency_descriptor.is_some()
            && !stored.descriptor.is_empty();
        self.repeats_from.is_some_and(|from| sent_as >= from) && !is_open_ended && !is_described
    }

    /// Counts time by the clock of the source's codec, which is what it sends.
    pub(super) fn follow_codec(&mut self, codec: u8) {
        if let Some(mapping) = self.mapping(codec) {
            self.subscription
                .rewriter
                .set_clock_rate(mapping.clock_rate);
            self.send.set_clock_rate(mapping.clock_rate);
        }
    }

    /// True if its peer tells what its path carries.
    pub(super) fn reports_estimates(&self) -> bool {
        let mut codecs = self.section.codecs.iter();
        self.kind == MediaKind::Video && codecs.any(|codec| codec.feedback.remb)
    }

    /// True if padding may be added to a packet: one that might be sent again as it was could not get the same.
    pub(super) fn may_pad(&self) -> bool {
        self.repeats_from.is_none()
    }

    /// How the source's codec is sent to this peer.
    pub(super) fn mapping(&self, codec: u8) -> Option<Mapping> {
        self.mappings.get(usize::from(codec)).copied().flatten()
    }

    /// Measures what was sent since the last call.
    pub(super) fn measure(&mut self, now: Instant) {
        let stats = self.send.stats();
        let bytes = stats.bytes + stats.retransmitted_bytes;
        if let Some((at, before)) = self.measured.replace((now, bytes)) {
            let seconds = now.saturating_duration_since(at).as_secs_f64();
            let bits = bytes.saturating_sub(before).saturating_mul(8);
            if seconds > 0.0 {
                self.sent_bps = Some((bits as f64 / seconds) as u64);
            }
        }
    }

    /// Counters of what was sent and what the peer said about it.
    pub(super) fn stats(&self) -> StreamStats {
        let stats = self.send.stats();
        StreamStats {
            kind: self.kind,
            direction: Direction::Outbound,
            ssrc: self.ssrc.0,
            packets: stats.packets + stats.retransmitted_packets,
            bytes: stats.bytes + stats.retransmitted_bytes,
            packets_lost: i64::from(stats.lost),
            fraction_lost: stats.fraction_lost,
            jitter: stats.jitter,
            round_trip_time: stats.rtt,
            pli_count: self.pli_count,
            fir_count: self.fir_count,
            nack_count: stats.nacked,
            remb_bps: self.remb_bps,
            sent_bps: self.sent_bps,
        }
    }

    /// Why nothing can be sent, for the application.
    pub(super) fn mismatch(&self, source: &CodecDescription) -> String {
        let accepted = self
            .section
            .codecs
            .iter()
            .map(super::sdp::CodecDescription::name)
            .collect::<Vec<_>>()
            .join(", ");
        format!(
            "source {}, sink accepts {accepted}: transcoding not available",
            source.name()
        )
    }
}

/// Without an SSRC for retransmissions a lost packet is sent again as it was, byte by byte: AES-GCM
/// must never see two packets of one index (RFC 7714, section 8.1).
fn repeats_plainly(section: &Section) -> bool {
    section.kind == MediaKind::Video && section.local_rtx_ssrc.is_none()
}

/// True if packets carry transport-wide numbers, and the peer said that it reports on them.
fn reports_arrivals(section: &Section) -> bool {
    let mut codecs = section.codecs.iter();
    section.extensions.transport_cc.is_some()
        && !repeats_plainly(section)
        && codecs.any(|codec| codec.feedback.transport_cc)
}

/// Headers of media and of retransmissions. Extensions that differ by time of sending are left out
/// where packets are repeated as they were.
fn templates(section: &Section) -> (HeaderTemplate, Option<HeaderTemplate>) {
    let id = |id: Option<u8>| id.map(ExtensionId);
    let per_sending = |extension| id(extension).filter(|_| !repeats_plainly(section));
    let extensions = NegotiatedExtensions {
        mid: id(section.extensions.mid),
        abs_send_time: per_sending(section.extensions.abs_send_time),
        transport_seq: per_sending(section.extensions.transport_cc),
        audio_level: id(section.extensions.audio_level),
        video_orientation: id(section.extensions.video_orientation),
    };
    let mid = section.mid.as_deref().unwrap_or_default().as_bytes();
    let template = |ssrc| HeaderTemplate::new(Ssrc(ssrc), mid, &extensions);
    (
        template(section.local_ssrc),
        section.local_rtx_ssrc.map(template),
    )
}
