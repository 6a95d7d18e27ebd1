//! One published track: what a peer sends in one media section.
//!
//! [`Source`] knows what was negotiated for the section and who subscribes. Each RTP stream that
//! arrives in it is a [`Layer`]; there is more than one only with simulcast. Deliberately absent: the
//! choice between layers, which is each subscriber's.

use std::time::Instant;

use forwarding::allocation::Level;
use forwarding::bandwidth::{BitrateLimits, ReceiverEstimate};
use forwarding::codec::dependency::DependencyReader;
use forwarding::codec::{Codec, FrameInfo, PictureHeights};
use forwarding::history::{History, HistoryLimits, Stored};
use forwarding::keyframe::{KeyFrameRequests, LastKeyFrame};
use forwarding::packet::SourcePacket;
use forwarding::rate::Bitrate;
use forwarding::receive::{ReceiveConfig, ReceiveStream};
use forwarding::rtp::{ClockRate, ExtensionId, Header, PayloadType, Ssrc};
use media::{BandwidthLimits, Direction, MediaKind, StreamStats};
use smallvec::SmallVec;

use super::demand::Demand;
use super::levels::{Levels, Offer, StreamMeter};
use super::relay::{LayerIds, TrunkKey};
use super::sdp::{CodecDescription, Section};
use super::speaking::Speaking;
use super::subscriber::SubscriberKey;
use super::transport::TransportKey;

/// Simulcast streams of one track. Browsers send three. Too low: the best layer is missing. Too high:
/// a hostile publisher makes histories at will.
pub(super) const LAYERS_MAX: usize = 4;

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
    pub(super) last_key_frame: LastKeyFrame,
    pub(super) meter: StreamMeter,
    /// Made with the first dependency descriptor.
    dependencies: Option<Box<DependencyReader>>,
}

impl Layer {
    /// Adds to what is known about a packet what came with it in a dependency descriptor. A mirror reads it again: what
    /// was read elsewhere refers to a reader there.
    pub(super) fn describe(&mut self, frame: FrameInfo, descriptor: &[u8]) -> FrameInfo {
        if descriptor.is_empty() {
            return frame;
        }
        let reader = self.dependencies.get_or_insert_default();
        let frame = FrameInfo {
            dependency: None,
            ..frame
        };
        frame.with_dependency(reader.read(descriptor))
    }

    /// What describes the frames, if descriptors come.
    pub(super) fn dependencies(&self) -> Option<&DependencyReader> {
        self.dependencies.as_deref()
    }

    /// Measures a packet that is new.
    pub(super) fn measure(
        &mut self,
        now: Instant,
        codec: Codec,
        packet: &SourcePacket,
        payload: &[u8],
    ) {
        self.meter.handle_packet(now, packet, payload.len());
        if packet.frame.key_frame {
            let described = self.dependencies().map(DependencyReader::heights);
            let heights = PictureHeights::read(codec, &packet.frame, payload).or(described);
            if let Some(heights) = heights.filter(|heights| heights.largest() > 0) {
                self.meter.heights = heights;
            }
        }
    }
}

/// One published track.
pub(super) struct Source {
    pub(super) transport: TransportKey,
    pub(super) kind: MediaKind,
    pub(super) section: Section,
    pub(super) layers: Vec<Layer>,
    /// What subscribers can get of them.
    pub(super) levels: Levels,
    pub(super) subscribers: Vec<SubscriberKey>,
    /// The ways to subscribers on other workers.
    pub(super) trunks: SmallVec<[TrunkKey; 2]>,
    /// Of a mirrored track: SSRCs of the layers that need not cross, as the other worker was told.
    pub(super) unwanted: LayerIds,
    pub(super) estimate: ReceiverEstimate,
    /// Of audio.
    pub(super) speaking: Speaking,
    /// Of simulcast.
    pub(super) demand: Demand,
    payloads: [Option<Payload>; 128],
    /// Codec of the packet before, as an index into the section's codecs.
    pub(super) codec: Option<u8>,
    /// Reports since the last packet.
    pub(super) quiet_reports: u8,
    /// The application was told that packets come.
    pub(super) flowing: bool,
}

impl Source {
    /// The codec of the last packet.
    pub(super) fn codec_sent(&self) -> Option<Codec> {
        let codec = usize::from(self.codec?);
        self.section.codecs.get(codec).map(|it| it.codec)
    }

    pub(super) fn new(transport: TransportKey, section: Section, limits: &BandwidthLimits) -> Self {
        let mut source = Self {
            transport,
            kind: section.kind,
            section,
            layers: Vec::new(),
            levels: Levels::default(),
            subscribers: Vec::new(),
            trunks: SmallVec::new(),
            unwanted: LayerIds::new(),
            estimate: ReceiverEstimate::new(bitrate_limits(limits)),
            speaking: Speaking::default(),
            demand: Demand::default(),
            payloads: [None; 128],
            codec: None,
            quiet_reports: 0,
            flowing: false,
        };
        source.index_payloads();
        source
    }

    /// Takes over what a renegotiation of the same section agreed on.
    pub(super) fn renegotiate(&mut self, section: Section) {
        self.demand.keep(&section.simulcast_rids);
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

    /// A packet in the clear, with its layer: from the history, the one place where it is kept. `None` once it is gone
    /// from there.
    pub(super) fn stored<'a>(
        &'a self,
        packet: &'a SourcePacket,
    ) -> Option<(&'a Layer, Stored<'a>)> {
        let layer = self.layers.iter().find(|layer| layer.id == packet.ssrc)?;
        let stored = match packet.frame.empty {
            true => Stored {
                packet,
                descriptor: &[],
                payload: &[],
            },
            false => layer.history.get(packet.seq)?,
        };
        Some((layer, stored))
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
        self.levels.expire();
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
            last_key_frame: LastKeyFrame::default(),
            meter: StreamMeter::default(),
            dependencies: None,
        })
    }

    /// Has the layers that another worker knows of, the smallest first: each by its [id](Layer::id) there, which takes
    /// the place of an SSRC, with its levels, whether it sleeps, and an id for it here if it is not known yet.
    pub(super) fn mirror_layers<'a>(
        &mut self,
        now: Instant,
        layers: impl Iterator<Item = (Ssrc, &'a [Level], bool, Ssrc)>,
    ) {
        let codec = self.codec.unwrap_or(0);
        let mut known = std::mem::take(&mut self.layers);
        for (theirs, levels, is_asleep, id) in layers.take(LAYERS_MAX) {
            let layer = match known.iter().position(|layer| layer.ssrc == theirs) {
                Some(position) => Some(known.swap_remove(position)),
                None => self.layer(id, theirs, None, codec),
            };
            self.layers.extend(layer.map(|mut layer| {
                layer.meter.set_levels(now, levels);
                layer.meter.may_sleep = is_asleep;
                layer
            }));
        }
        let had = self
            .layers
            .iter()
            .filter(|layer| !layer.meter.levels().is_empty());
        let had = had.map(|layer| Offer {
            id: layer.id,
            levels: layer.meter.levels(),
            is_asleep: layer.meter.may_sleep,
        });
        self.levels.tell(had);
    }

    /// Measures what comes of the layers, unless that was done just before. True if others come than before.
    pub(super) fn measure(&mut self, now: Instant) -> bool {
        if !self.levels.is_due(now) {
            return false;
        }
        let layers = self.layers.iter_mut();
        let streams = layers.map(|layer| (layer.id, &mut layer.meter));
        self.levels.measure(now, streams)
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
                sent_bps: None,
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
