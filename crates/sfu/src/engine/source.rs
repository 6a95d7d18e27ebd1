//! One published track: what a peer sends in one media section.
//!
//! [`Source`] knows what was negotiated for the section and who subscribes. Each RTP stream that
//! arrives in it is a [`Layer`]; there is more than one only with simulcast. Deliberately absent: the
//! choice between layers, which is each subscriber's.

use std::time::Instant;

use forwarding::bandwidth::{BitrateLimits, ReceiverEstimate};
use forwarding::history::{History, HistoryLimits};
use forwarding::keyframe::KeyFrameRequests;
use forwarding::packet::SourcePacket;
use forwarding::rate::Bitrate;
use forwarding::receive::{ReceiveConfig, ReceiveStream};
use forwarding::rtp::{ClockRate, ExtensionId, Header, PayloadType, Ssrc};
use media::{BandwidthLimits, Direction, MediaKind, StreamStats};
use smallvec::SmallVec;

use super::relay::TrunkKey;
use super::sdp::{CodecDescription, Section};
use super::subscriber::SubscriberKey;
use super::transport::TransportKey;

/// Simulcast streams of one track. Browsers send three. Too low: the best layer is missing. Too high:
/// a hostile publisher makes histories at will.
pub(super) const LAYERS_MAX: usize = 4;

/// Rate at which a layer is better than the one forwarded, in percent of that one's. Layers of a camera differ by three
/// times and more. Too low: layers of a still picture take turns, and each costs a key frame. Too high: the best
/// layer stays unseen.
const BETTER_PERCENT: u64 = 150;

/// Handle of a source; valid until its endpoint is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SourceKey(pub(super) usize);

/// What a payload type of the peer stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// Media in a codec, by its index in [`Section::codecs`].
    Media(u8),
    /// Retransmissions of a codec.
    Repair(u8),
}

/// One incoming RTP stream.
pub(super) struct Layer {
    /// Tells its packets from those of all other streams of the engine, before and after. An SSRC does
    /// not: two publishers may use the same, and one may use it again with other numbers.
    pub(super) id: Ssrc,
    /// On the wire.
    pub(super) ssrc: Ssrc,
    /// `None` without simulcast.
    pub(super) rid: Option<String>,
    pub(super) receive: ReceiveStream,
    pub(super) history: History,
    pub(super) key_frames: KeyFrameRequests,
    /// Packets received when layers were compared last.
    packets_compared: u64,
    /// Comparisons in a row in which no packet of it had come.
    silent_comparisons: u8,
}

/// One published track.
pub(super) struct Source {
    pub(super) transport: TransportKey,
    pub(super) kind: MediaKind,
    pub(super) section: Section,
    pub(super) layers: Vec<Layer>,
    /// Index into `layers` of the one that subscribers get.
    preferred: usize,
    pub(super) subscribers: Vec<SubscriberKey>,
    /// The ways to subscribers on other workers.
    pub(super) trunks: SmallVec<[TrunkKey; 2]>,
    pub(super) estimate: ReceiverEstimate,
    payloads: [Option<Payload>; 128],
    /// Codec of the packet before, as an index into the section's codecs.
    pub(super) codec: Option<u8>,
    /// Packets came since the last report.
    pub(super) active: bool,
    /// The application was told that packets come.
    pub(super) flowing: bool,
}

impl Source {
    pub(super) fn new(transport: TransportKey, section: Section, limits: &BandwidthLimits) -> Self {
        let mut source = Self {
            transport,
            kind: section.kind,
            section,
            layers: Vec::new(),
            preferred: 0,
            subscribers: Vec::new(),
            trunks: SmallVec::new(),
            estimate: ReceiverEstimate::new(bitrate_limits(limits)),
            payloads: [None; 128],
            codec: None,
            active: false,
            flowing: false,
        };
        source.index_payloads();
        source
    }

    /// Takes over what a renegotiation of the same section agreed on.
    pub(super) fn renegotiate(&mut self, section: Section) {
        self.section = section;
        self.codec = None;
        self.index_payloads();
    }

    fn index_payloads(&mut self) {
        self.payloads = [None; 128];
        for (codec, description) in (0..=u8::MAX).zip(&self.section.codecs) {
            let repair = description
                .rtx_payload_type
                .map(|pt| (pt, Payload::Repair(codec)));
            let media = (description.payload_type, Payload::Media(codec));
            for (payload_type, payload) in [media].into_iter().chain(repair) {
                if let Some(entry) = self.payloads.get_mut(usize::from(payload_type)) {
                    *entry = Some(payload);
                }
            }
        }
    }

    /// What a payload type stands for, if it was negotiated here.
    pub(super) fn payload(&self, payload_type: PayloadType) -> Option<Payload> {
        self.payloads
            .get(usize::from(payload_type.0))
            .copied()
            .flatten()
    }

    /// The codec by its index.
    pub(super) fn description(&self, codec: u8) -> &CodecDescription {
        &self.section.codecs[usize::from(codec)]
    }

    /// True if a packet names this section in its MID extension.
    pub(super) fn is_named_by(&self, header: &Header<'_>) -> Option<bool> {
        let id = ExtensionId(self.section.extensions.mid?);
        let mid = header.extension(id)?;
        Some(self.section.mid.as_deref().map(str::as_bytes) == Some(mid))
    }

    /// Takes note of the codec that packets come in.
    pub(super) fn begin_codec(&mut self, codec: u8) {
        self.codec = Some(codec);
        if let Some(clock_rate) = ClockRate::new(self.description(codec).clock_rate) {
            for layer in &mut self.layers {
                layer.receive.set_clock_rate(clock_rate);
            }
        }
    }

    /// The layer of an SSRC.
    pub(super) fn layer_of_ssrc(&self, ssrc: Ssrc) -> Option<usize> {
        self.layers.iter().position(|layer| layer.ssrc == ssrc)
    }

    /// The layer with an [id](Layer::id).
    pub(super) fn layer_of(&self, id: Ssrc) -> Option<usize> {
        self.layers.iter().position(|layer| layer.id == id)
    }

    /// The payload of a packet in the clear: from the history, the one place where it is kept. `None` once it
    /// is gone from there.
    pub(super) fn plaintext(&self, packet: &SourcePacket) -> Option<&[u8]> {
        if packet.frame.empty {
            return Some(&[]);
        }
        let layer = self.layers.iter().find(|layer| layer.id == packet.ssrc)?;
        layer.history.get(packet.seq).map(|stored| stored.payload)
    }

    /// Takes in an incoming stream, whose first packet is in `codec`. A sender that changes its SSRC
    /// replaces its former stream, unless both belong to simulcast by SSRC.
    pub(super) fn add_layer(
        &mut self,
        id: Ssrc,
        ssrc: Ssrc,
        rid: Option<String>,
        codec: u8,
    ) -> Option<usize> {
        let layer = self.layer(id, ssrc, rid, codec)?;
        let announced = |ssrc: Ssrc| {
            let mut streams = self.section.remote.iter();
            streams.any(|stream| stream.ssrc == ssrc.0)
        };
        let former = self.layers.iter().position(|other| {
            other.rid == layer.rid && !(announced(other.ssrc) && announced(ssrc))
        });
        match former {
            Some(position) => {
                self.layers[position] = layer;
                Some(position)
            }
            None if self.layers.len() < LAYERS_MAX => {
                self.layers.push(layer);
                Some(self.layers.len() - 1)
            }
            None => None,
        }
    }

    fn layer(&self, id: Ssrc, ssrc: Ssrc, rid: Option<String>, codec: u8) -> Option<Layer> {
        let description = self.section.codecs.get(usize::from(codec))?;
        Some(Layer {
            id,
            ssrc,
            rid,
            receive: ReceiveStream::new(ReceiveConfig {
                ssrc,
                clock_rate: ClockRate::new(description.clock_rate)?,
                nack: description.feedback.nack,
            }),
            history: History::new(match self.kind {
                MediaKind::Video => HistoryLimits::VIDEO,
                MediaKind::Audio | MediaKind::Data => HistoryLimits::AUDIO,
            }),
            key_frames: KeyFrameRequests::default(),
            packets_compared: 0,
            silent_comparisons: 0,
        })
    }

    /// Has the layers that another worker passes on, the last being the preferred one: each by its
    /// [id](Layer::id) there, which takes the place of an SSRC, and an id for it here if it is not known yet.
    pub(super) fn mirror_layers(&mut self, layers: impl Iterator<Item = (Ssrc, Ssrc)>) {
        let codec = self.codec.unwrap_or(0);
        let mut known = std::mem::take(&mut self.layers);
        for (theirs, id) in layers.take(LAYERS_MAX) {
            let layer = match known.iter().position(|layer| layer.ssrc == theirs) {
                Some(position) => Some(known.swap_remove(position)),
                None => self.layer(id, theirs, None, codec),
            };
            self.layers.extend(layer);
        }
        self.preferred = self.layers.len().saturating_sub(1);
    }

    /// The [id](Layer::id) of the stream that subscribers get: the seam where each will choose its own.
    pub(super) fn forwarded(&self) -> Option<Ssrc> {
        self.layers.get(self.preferred).map(|layer| layer.id)
    }

    /// Prefers the layer that is sent at the highest rate. The order in which layers are announced says less: peers
    /// list them either way, and stop those that their path cannot carry. True if it is another than before.
    pub(super) fn compare_layers(&mut self, now: Instant) -> bool {
        let mut rates: SmallVec<[u64; LAYERS_MAX]> = SmallVec::new();
        for layer in &mut self.layers {
            let packets = layer.receive.stats().packets;
            let is_sent = std::mem::replace(&mut layer.packets_compared, packets) != packets;
            layer.silent_comparisons = match is_sent {
                true => 0,
                false => layer.silent_comparisons.saturating_add(1),
            };
            rates.push(if is_sent {
                layer.receive.bitrate(now).0
            } else {
                0
            });
        }
        // A still screen may send nothing for a second; a layer that has stopped sends nothing for longer.
        if (self.layers.get(self.preferred)).is_some_and(|layer| layer.silent_comparisons == 1) {
            return false;
        }
        let Some((best, rate)) = (0..).zip(&rates).max_by_key(|(_, rate)| **rate) else {
            return false;
        };
        let current = rates.get(self.preferred).copied().unwrap_or(0);
        let is_better = *rate > current.saturating_mul(BETTER_PERCENT) / 100;
        if is_better {
            self.preferred = best;
        }
        is_better
    }

    /// Bounds what the peer is told that it may send.
    pub(super) fn limit(&mut self, limits: &BandwidthLimits) {
        self.estimate.set_limits(bitrate_limits(limits));
    }

    /// True if somebody gets what comes, here or on another worker.
    pub(super) fn is_watched(&self) -> bool {
        !self.subscribers.is_empty() || !self.trunks.is_empty()
    }

    /// As [`Self::remove_subscriber`], for the way to another worker.
    pub(super) fn remove_trunk(&mut self, key: TrunkKey) {
        self.trunks.retain(|other| *other != key);
        self.rest_if_unwatched();
    }

    /// Takes a subscriber off. Without any, the publisher is not asked for key frames any more.
    pub(super) fn remove_subscriber(&mut self, key: SubscriberKey) {
        self.subscribers.retain(|other| *other != key);
        self.rest_if_unwatched();
    }

    /// Asks for no key frames if nobody would see them.
    pub(super) fn rest_if_unwatched(&mut self) {
        if !self.is_watched() {
            for layer in &mut self.layers {
                layer.key_frames.cancel();
            }
        }
    }

    /// Counters of every layer.
    pub(super) fn stats(&self) -> impl Iterator<Item = StreamStats> + '_ {
        self.layers.iter().map(|layer| {
            let stats = layer.receive.stats();
            StreamStats {
                kind: self.kind,
                direction: Direction::Inbound,
                ssrc: layer.ssrc.0,
                packets: stats.packets + stats.recovered,
                bytes: stats.bytes,
                packets_lost: stats.lost,
                fraction_lost: stats.fraction_lost,
                jitter: stats.jitter,
                round_trip_time: None,
                pli_count: layer.key_frames.requests(),
                fir_count: 0,
                nack_count: stats.nacks,
                remb_bps: (self.kind == MediaKind::Video).then(|| self.estimate.bitrate().0),
            }
        })
    }

    /// When something is due on a layer.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.layers
            .iter()
            .flat_map(|layer| {
                [
                    layer.receive.poll_timeout(),
                    layer.key_frames.poll_timeout(),
                ]
            })
            .flatten()
            .min()
    }
}

fn bitrate_limits(limits: &BandwidthLimits) -> BitrateLimits {
    let bitrate = |limit: media::Kilobits| Bitrate::from_kbps(u64::from(limit.0));
    BitrateLimits {
        min: limits.min_video_recv.map(bitrate),
        max: limits.max_video_recv.map(bitrate),
    }
}
