//! A browser that publishes: [`Publisher`], with encoders, a sender's estimate, and answers to feedback.

use std::time::{Duration, Instant};

use forwarding::codec::Codec;
use forwarding::pacer::PacketClass;
use forwarding::rate::Bitrate;
use forwarding::rtcp::{Packet as Rtcp, Packets, write_sdes_cname, write_sender_report};
use forwarding::rtp::{ClockRate, Ssrc};
use media::MediaKind;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sfu::engine::clock::Clock;

use super::encoder::{Encoder, StreamConfig};
use super::packetizer::{Packet, Packetizer};
use super::truth::{FrameId, TRUTH_LEN, Truth};
use super::uplink::{OutgoingConfig, Uplink};
use crate::peer::{Direction, Negotiated, Peer, PeerConfig, Received};

/// Between sender reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Requests for key frames that come sooner after another are not heard (libwebrtc: `kMinKeyFrameRequestIntervalMs`).
const KEY_FRAME_INTERVAL_MIN: Duration = Duration::from_millis(300);

const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
const AUDIO_BYTES: usize = 80;
/// What audio takes with its headers, bit/s.
const AUDIO_RATE: u64 = 48_000;

/// RFC 6464: voice, 30 dB below the maximum.
const AUDIO_LEVEL: u8 = 0x80 | 30;

/// Where a sender begins, before it knows its path.
const START: Bitrate = Bitrate::from_kbps(300);

/// A layer that was stopped comes back when there is this much of what it takes at least.
const RETURN_FACTOR: f64 = 1.2;

/// RIDs, lowest layer first.
const RIDS: [&str; 3] = ["q", "h", "f"];

/// A camera and how it is encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoConfig {
    /// VP8, VP9 or AV1.
    pub codec: Codec,
    /// Lowest first.
    pub layers: Vec<StreamConfig>,
    /// All in one stream (SVC: L3T3_KEY), instead of one stream each (simulcast).
    pub is_scalable: bool,
    /// Of the highest temporal layer.
    pub frames_per_second: f64,
    /// Share of the frames that a scalable encoder leaves out, each spatial layer by itself: what it does where a
    /// picture costs more than it may spend.
    pub skips: f64,
}

impl VideoConfig {
    /// Three streams of VP8, as Chromium sends 720p.
    pub fn simulcast() -> Self {
        let layer = |height, rate_min: u64, rate_max: u64| StreamConfig {
            height,
            rate_min: 1_000 * rate_min,
            rate_max: 1_000 * rate_max,
        };
        Self {
            codec: Codec::Vp8,
            layers: vec![
                layer(180, 50, 150),
                layer(360, 150, 500),
                layer(720, 500, 1_500),
            ],
            is_scalable: false,
            frames_per_second: 30.0,
            skips: 0.0,
        }
    }

    /// A small picture in one stream, more often than its encoder can keep up with.
    pub fn small(codec: Codec) -> Self {
        let layer = |height, rate_min: u64, rate_max: u64| StreamConfig {
            height,
            rate_min: 1_000 * rate_min,
            rate_max: 1_000 * rate_max,
        };
        Self {
            codec,
            layers: vec![
                layer(135, 30, 120),
                layer(270, 120, 375),
                layer(540, 350, 1_500),
            ],
            is_scalable: true,
            frames_per_second: 15.0,
            skips: 0.2,
        }
    }

    /// The same layers in one stream.
    pub fn scalable(codec: Codec) -> Self {
        Self {
            codec,
            is_scalable: true,
            ..Self::simulcast()
        }
    }

    /// The same with rates by a factor.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        for layer in &mut self.layers {
            layer.rate_min = (layer.rate_min as f64 * factor) as u64;
            layer.rate_max = (layer.rate_max as f64 * factor) as u64;
        }
        self
    }

    /// One layer only, by its index, in one stream without a name.
    #[must_use]
    pub fn plain(mut self, layer: usize) -> Self {
        self.layers = vec![self.layers[layer]];
        self
    }
}

/// What is published.
#[derive(Clone, Debug, PartialEq)]
pub struct PublisherConfig {
    /// The camera.
    pub video: Option<VideoConfig>,
    /// The microphone.
    pub audio: bool,
    /// Layers follow what the path carries.
    pub is_controlled: bool,
}

impl PublisherConfig {
    /// Of camera and microphone.
    pub fn new(video: VideoConfig) -> Self {
        Self {
            video: Some(video),
            audio: true,
            is_controlled: true,
        }
    }

    /// How its peer negotiates.
    pub fn peer(&self, seed: u64) -> PeerConfig {
        let send = Some(Direction::SendOnly);
        let video = self.video.as_ref();
        let streams = video.map_or(0, |video| match video.is_scalable {
            true => 1,
            false => video.layers.len(),
        });
        PeerConfig {
            bare: true,
            audio: send.filter(|_| self.audio),
            video: send.filter(|_| video.is_some()),
            video_codecs: video.map_or_else(Vec::new, |video| vec![video.codec]),
            simulcast: if streams > 1 {
                RIDS[..streams].to_vec()
            } else {
                Vec::new()
            },
            ..PeerConfig::new(seed)
        }
    }
}

/// What happened to a publisher.
#[derive(Clone, Debug, Default)]
pub struct PublisherCounters {
    /// Requests for key frames with the layer that they name: PLI and FIR.
    pub key_frame_requests: Vec<(Instant, usize)>,
    /// Pictures that were key frames, by layer.
    pub key_frames: Vec<(Instant, usize)>,
    /// NACK packets.
    pub nacks: u64,
    /// Packets sent again.
    pub repeated: u64,
}

/// One RTP stream of video: a simulcast layer, or all layers.
struct VideoStream {
    uplink: usize,
    encoder: Encoder,
    packetizer: Packetizer,
}

struct Video {
    config: VideoConfig,
    streams: Vec<VideoStream>,
    /// By layer: the application sends it.
    enabled: Vec<bool>,
    /// By layer: what it gets of the estimate; 0 if it is stopped.
    rates: Vec<u64>,
    pictures: u32,
    next_at: Instant,
    key_frames_at: Option<Instant>,
}

struct Audio {
    uplink: usize,
    next_at: Instant,
    frames: u32,
}

/// A browser that publishes. Its peer is handed in, since that belongs to the network.
pub struct Publisher {
    config: PublisherConfig,
    clock: Clock,
    random: StdRng,
    uplink: Option<Uplink>,
    video: Option<Video>,
    audio: Option<Audio>,
    source: u32,
    reports_at: Option<Instant>,
    counters: PublisherCounters,
}

impl Publisher {
    /// One that has not begun. `source` tells its encoders from those of others: it and the next ones.
    pub fn new(config: PublisherConfig, source: u32, clock: Clock, seed: u64) -> Self {
        Self {
            config,
            clock,
            random: StdRng::seed_from_u64(seed),
            uplink: None,
            video: None,
            audio: None,
            source,
            reports_at: None,
            counters: PublisherCounters::default(),
        }
    }

    /// Begins to send what was agreed.
    pub fn start(&mut self, now: Instant, peer: &Peer) {
        let video = peer.negotiated(MediaKind::Video);
        let audio = peer.negotiated(MediaKind::Audio);
        let transport_cc = |it: &Negotiated| it.extensions.transport_seq.is_some();
        let is_told = video.iter().chain(&audio).any(transport_cc);
        let mut uplink = Uplink::new(self.clock, START, self.config.is_controlled && is_told);
        if let (Some(agreed), Some(config)) = (video, self.config.video.clone()) {
            self.video = Some(self.start_video(now, &mut uplink, &agreed, config));
        }
        if let Some(agreed) = audio.filter(|_| self.config.audio) {
            let config = self.outgoing(&agreed, None, PacketClass::Audio, ClockRate::OPUS);
            self.audio = Some(Audio {
                uplink: uplink.add(config),
                next_at: now + Duration::from_micros(self.random.random_range(0..20_000)),
                frames: 0,
            });
        }
        self.uplink = Some(uplink);
        self.reports_at = Some(now + Duration::from_millis(100));
    }

    fn outgoing(
        &mut self,
        agreed: &Negotiated,
        rid: Option<&'static str>,
        class: PacketClass,
        clock_rate: ClockRate,
    ) -> OutgoingConfig {
        let rtx = agreed.rtx_payload_type;
        OutgoingConfig {
            ssrc: Ssrc(self.random.random()),
            payload_type: agreed.payload_type,
            repair: rtx.map(|payload_type| (Ssrc(self.random.random()), payload_type)),
            mid: agreed.mid,
            rid,
            extensions: agreed.extensions,
            dependency: agreed.has(crate::peer::layer_extensions::DEPENDENCY),
            clock_rate,
            first_seq: self.random.random::<u16>() & 0x7fff,
            first_timestamp: self.random.random(),
            class,
        }
    }

    fn start_video(
        &mut self,
        now: Instant,
        uplink: &mut Uplink,
        agreed: &Negotiated,
        config: VideoConfig,
    ) -> Video {
        let layers = config.layers.len();
        let count = if config.is_scalable { 1 } else { layers };
        let streams = (0..count).map(|index| {
            let rid = (count > 1).then(|| RIDS[index]);
            let outgoing = self.outgoing(agreed, rid, PacketClass::Video, ClockRate::VIDEO);
            let first = outgoing.first_seq ^ 0x0fff;
            VideoStream {
                uplink: uplink.add(outgoing),
                encoder: Encoder::new(self.source + index as u32, config.codec, config.skips),
                packetizer: Packetizer::new(config.codec, first),
            }
        });
        let streams = streams.collect();
        Video {
            streams,
            enabled: vec![true; layers],
            rates: vec![0; layers],
            pictures: 0,
            next_at: now + Duration::from_micros(self.random.random_range(0..33_000)),
            key_frames_at: None,
            config,
        }
    }

    /// What happened so far.
    pub fn counters(&self) -> PublisherCounters {
        PublisherCounters {
            repeated: self.uplink.as_ref().map_or(0, |uplink| uplink.repeated),
            ..self.counters.clone()
        }
    }

    /// What the layers are encoded at, lowest first, bit/s.
    pub fn rates(&self) -> &[u64] {
        self.video.as_ref().map_or(&[], |video| &video.rates)
    }

    /// What its path carries, by its own estimate.
    pub fn estimate(&self) -> u64 {
        self.uplink.as_ref().map_or(0, Uplink::estimate)
    }

    /// Makes a layer go on or rest.
    pub fn enable(&mut self, layer: usize, enabled: bool) {
        if let Some(video) = &mut self.video {
            video.enabled[layer] = enabled;
        }
    }

    /// Changes the heights of all layers, lowest first, as a camera that is turned or swapped does.
    pub fn set_heights(&mut self, heights: &[u16]) {
        if let Some(video) = &mut self.video {
            for (layer, height) in video.config.layers.iter_mut().zip(heights) {
                layer.height = *height;
            }
            for stream in &mut video.streams {
                stream.encoder.wants_key_frame = true;
            }
        }
    }

    /// Takes what came.
    pub fn handle_received(&mut self, now: Instant, received: &Received) {
        let Received::Rtcp(compound) = received else {
            return;
        };
        for packet in Packets::new(compound).map_while(Result::ok) {
            self.handle_rtcp(now, &packet);
        }
    }

    fn handle_rtcp(&mut self, now: Instant, packet: &Rtcp<'_>) {
        let Some(uplink) = &mut self.uplink else {
            return;
        };
        match packet {
            Rtcp::TransportFeedback(content) => uplink.handle_feedback(now, content),
            Rtcp::Remb(remb) => uplink.handle_remb(remb.bitrate),
            Rtcp::Nack(nack) => {
                self.counters.nacks += 1;
                uplink.handle_nack(nack.media, nack.seqs());
            }
            Rtcp::PictureLoss(media) => self.handle_key_frame_request(now, *media),
            Rtcp::FullIntraRequest(request) => {
                for (media, _) in request.entries() {
                    self.handle_key_frame_request(now, media);
                }
            }
            _ => {}
        }
    }

    /// As in libwebrtc, a request for one simulcast stream makes all of them begin anew.
    fn handle_key_frame_request(&mut self, now: Instant, media: Ssrc) {
        let (Some(uplink), Some(video)) = (&self.uplink, &mut self.video) else {
            return;
        };
        let Some(stream) = uplink.stream_of(media) else {
            return;
        };
        let mut streams = video.streams.iter();
        let layer = streams.position(|other| other.uplink == stream);
        self.counters
            .key_frame_requests
            .push((now, layer.unwrap_or(0)));
        let is_heard = video
            .key_frames_at
            .is_none_or(|at| now - at >= KEY_FRAME_INTERVAL_MIN);
        if is_heard {
            video.key_frames_at = Some(now);
            for stream in &mut video.streams {
                stream.encoder.wants_key_frame = true;
            }
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let uplink = self.uplink.as_ref()?;
        [
            uplink.poll_timeout(),
            self.reports_at,
            self.video.as_ref().map(|video| video.next_at),
            self.audio.as_ref().map(|audio| audio.next_at),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, peer: &mut Peer) {
        let Some(uplink) = &mut self.uplink else {
            return;
        };
        let since = now - self.clock.at;
        if let Some(audio) = self.audio.as_mut().filter(|audio| audio.next_at <= now) {
            audio.next_at += AUDIO_INTERVAL;
            let frame = FrameId {
                source: self.source,
                picture: audio.frames,
                spatial: 0,
            };
            audio.frames += 1;
            let mut payload = Vec::with_capacity(AUDIO_BYTES);
            payload.push(0x78);
            Truth::new(frame, 0, 0, since.as_micros() as u64, &[]).write(&mut payload);
            payload.resize(AUDIO_BYTES.max(TRUTH_LEN + 1), 0);
            let packet = Packet {
                payload,
                marker: false,
                dependency: None,
            };
            uplink.push(now, audio.uplink, since, Some(AUDIO_LEVEL), vec![packet]);
        }
        if let Some(video) = self.video.as_mut().filter(|video| video.next_at <= now) {
            video.allocate(uplink.estimate().saturating_sub(AUDIO_RATE));
            let demand: u64 = video.config.layers.iter().map(|it| it.rate_max).sum();
            uplink.set_demand(demand + AUDIO_RATE);
            video.pictures += 1;
            video.next_at += Duration::from_secs_f64(1.0 / video.config.frames_per_second);
            let keys = video.capture(now, since, uplink, &mut self.random);
            self.counters.key_frames.extend(keys);
        }
        uplink.handle_timeout(now, peer);
        if self.reports_at.is_some_and(|at| at <= now) {
            self.reports_at = Some(now + REPORT_INTERVAL);
            self.send_reports(now, peer);
        }
    }

    fn send_reports(&mut self, now: Instant, peer: &mut Peer) {
        let (Some(uplink), ntp) = (&mut self.uplink, self.clock.ntp(now)) else {
            return;
        };
        let video = self.video.iter().flat_map(|video| &video.streams);
        let streams = video.map(|stream| stream.uplink);
        let all = streams.chain(self.audio.iter().map(|audio| audio.uplink));
        for stream in all {
            let ssrc = uplink.ssrc(stream);
            if let Some(info) = uplink.send_stream(stream).sender_report(now, ntp, None) {
                let mut compound = Vec::new();
                write_sender_report(&mut compound, ssrc, &info, &[]);
                write_sdes_cname(&mut compound, ssrc, "peer");
                peer.send_rtcp(compound);
            }
        }
    }
}

impl Video {
    /// Gives every layer its share, the lowest first, as libwebrtc does.
    fn allocate(&mut self, estimate: u64) {
        let mut left = estimate;
        let mut is_open = true;
        for (index, layer) in self.config.layers.iter().enumerate() {
            if !self.enabled[index] {
                self.rates[index] = 0;
                continue;
            }
            let needed = match self.rates[index] {
                0 if index > 0 => (layer.rate_min as f64 * RETURN_FACTOR) as u64,
                _ => layer.rate_min,
            };
            // The lowest is sent whatever the path carries.
            is_open &= index == 0 || left >= needed;
            self.rates[index] = match is_open {
                true => left.clamp(layer.rate_min, layer.rate_max),
                false => 0,
            };
            left = left.saturating_sub(self.rates[index]);
        }
    }

    /// Takes a picture and sends it in every layer that is not stopped. Returns which were key frames.
    fn capture(
        &mut self,
        now: Instant,
        since: Duration,
        uplink: &mut Uplink,
        random: &mut StdRng,
    ) -> Vec<(Instant, usize)> {
        let layers: Vec<_> = (self.config.layers.iter().zip(&self.rates))
            .map(|(layer, rate)| (layer.height, *rate))
            .collect();
        let mut keys = Vec::new();
        for (index, stream) in self.streams.iter_mut().enumerate() {
            let active: Vec<_> = match self.config.is_scalable {
                true => layers.iter().take_while(|it| it.1 > 0).copied().collect(),
                false => layers[index..=index].to_vec(),
            };
            if active.first().is_none_or(|(_, rate)| *rate == 0) {
                stream.encoder.wants_key_frame = true;
                continue;
            }
            let frames = stream.encoder.encode(
                &active,
                self.config.frames_per_second,
                since.as_micros() as u64,
                random,
            );
            if frames.first().is_some_and(|frame| frame.is_key) {
                keys.push((now, index));
            }
            let packets = stream
                .packetizer
                .packetize(&frames, |height| height / 9 * 16);
            uplink.push(now, stream.uplink, since, None, packets);
        }
        keys
    }
}
