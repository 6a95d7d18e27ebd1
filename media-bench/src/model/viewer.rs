//! A browser that watches: [`Viewer`], with its feedback to the server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use forwarding::codec::Codec;
use forwarding::receive::{ReceiveConfig, ReceiveStream};
use forwarding::rtcp::{
    Packet as Rtcp, Packets, write_nacks, write_picture_loss, write_receiver_report, write_remb,
    write_sdes_cname,
};
use forwarding::rtp::{AbsSendTime, Header, Seq, Ssrc, Unroller};
use forwarding::transport_feedback::TransportFeedback;
use media::MediaKind;
use sfu::engine::clock::Clock;

use super::missing::Missing;
use super::playback::Playback;
use super::remb::ReceiverEstimate;
use super::truth::Truth;
use crate::peer::{Direction, Peer, PeerConfig, Received};

/// Between receiver reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A stream of which nothing came for so long is not fed.
const FED: Duration = Duration::from_secs(3);

/// What watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewerConfig {
    /// Transport-wide feedback; without, REMB.
    pub transport_cc: bool,
    /// Asks for lost packets.
    pub nacks: bool,
    /// Takes retransmissions on an SSRC of their own.
    pub rtx: bool,
    /// Listens, too.
    pub audio: bool,
    /// Understands, most preferred first.
    pub codecs: Vec<Codec>,
}

impl Default for ViewerConfig {
    fn default() -> Self {
        Self {
            transport_cc: true,
            nacks: true,
            rtx: true,
            audio: true,
            codecs: vec![Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1],
        }
    }
}

impl ViewerConfig {
    /// One from before transport-wide feedback.
    pub fn old() -> Self {
        Self {
            transport_cc: false,
            ..Self::default()
        }
    }

    /// How its peer negotiates.
    pub fn peer(&self, seed: u64) -> PeerConfig {
        PeerConfig {
            bare: true,
            audio: Some(Direction::RecvOnly).filter(|_| self.audio),
            video: Some(Direction::RecvOnly),
            video_codecs: self.codecs.clone(),
            transport_cc: self.transport_cc,
            rtx: self.rtx,
            ..PeerConfig::new(seed)
        }
    }
}

/// Packets of a viewer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewerCounters {
    /// Of media, each once.
    pub packets: u64,
    /// Bytes of all RTP with headers.
    pub bytes: u64,
    /// Bytes of video packets that were new.
    pub video_bytes: u64,
    /// Packets that were there before.
    pub duplicates: u64,
    /// Packets that a retransmission brought.
    pub repaired: u64,
    /// Packets of padding, or repetitions of what was there.
    pub padding: u64,
    /// Audio packets, and their numbers from first to last.
    pub audio_packets: u64,
    /// See [`Self::audio_packets`].
    pub audio_expected: u64,
    /// Key frames asked for.
    pub picture_losses: u64,
    /// Packets asked for, repetitions included.
    pub nacked: u64,
}

struct Stream {
    kind: MediaKind,
    unroller: Unroller,
    receive: ReceiveStream,
    missing: Missing,
    playback: Option<Playback>,
    received: std::collections::BTreeSet<u64>,
    first: Option<u64>,
    last_at: Instant,
}

/// Numbers remembered to tell duplicates.
const RECEIVED_MAX: usize = 4_096;

/// A browser that watches. Its peer is handed in, since that belongs to the network.
pub struct Viewer {
    config: ViewerConfig,
    clock: Clock,
    streams: BTreeMap<u32, Stream>,
    arrivals: TransportFeedback,
    remb: Option<ReceiverEstimate>,
    reports_at: Option<Instant>,
    started_at: Option<Instant>,
    counters: ViewerCounters,
}

impl Viewer {
    /// One that has not begun.
    pub fn new(config: ViewerConfig, clock: Clock) -> Self {
        Self {
            config,
            clock,
            streams: BTreeMap::new(),
            arrivals: TransportFeedback::default(),
            remb: None,
            reports_at: None,
            started_at: None,
            counters: ViewerCounters::default(),
        }
    }

    /// It is connected.
    pub fn start(&mut self, now: Instant) {
        self.started_at = Some(now);
        self.reports_at = Some(now + REPORT_INTERVAL);
        self.remb = (!self.config.transport_cc).then(|| ReceiverEstimate::new(now));
    }

    /// When it was connected.
    pub fn started_at(&self) -> Option<Instant> {
        self.started_at
    }

    /// The video it sees; `None` before the first packet.
    pub fn playback(&self) -> Option<&Playback> {
        self.streams
            .values()
            .find_map(|stream| stream.playback.as_ref())
    }

    /// Totals.
    pub fn counters(&self) -> ViewerCounters {
        self.counters
    }

    /// Takes what came.
    pub fn handle_received(&mut self, now: Instant, received: &Received, peer: &Peer) {
        match received {
            Received::Rtp(packet) => self.handle_rtp(now, packet, peer),
            Received::Rtcp(compound) => {
                for packet in Packets::new(compound).map_while(Result::ok) {
                    if let Rtcp::SenderReport(report) = packet
                        && let Some(stream) = self.streams.get_mut(&report.sender.0)
                    {
                        stream.receive.handle_sender_report(now, &report.info);
                    }
                }
            }
        }
    }

    fn handle_rtp(&mut self, now: Instant, packet: &[u8], peer: &Peer) {
        let Ok(header) = Header::parse(packet) else {
            return;
        };
        let Some((kind, codec, is_repair)) = peer.format(header.payload_type().0) else {
            return;
        };
        let extensions = peer.config().extensions(kind);
        let extension = |id: Option<_>| id.and_then(|id| header.extension(id));
        if let Some(seq) = extension(extensions.transport_seq)
            && let Some(seq) = seq.first_chunk::<2>()
        {
            let seq = Seq(u16::from_be_bytes(*seq));
            self.arrivals.handle_packet(now, seq);
        }
        self.counters.bytes += packet.len() as u64;
        if let Some(remb) = &mut self.remb
            && let Some(sent) = extension(extensions.abs_send_time)
            && let Some(sent) = AbsSendTime::from_bytes(sent)
        {
            remb.handle_packet(now, now - self.clock.at, sent, packet.len());
        }
        let (ssrc, seq, payload) = match is_repair {
            false => (header.ssrc(), header.seq(), header.payload()),
            true => {
                let media = peer
                    .negotiated(kind)
                    .and_then(|agreed| agreed.ssrcs.first().copied());
                let Some((original, payload)) = header.payload().split_first_chunk::<2>() else {
                    self.counters.padding += 1;
                    return;
                };
                let Some(media) = media.filter(|media| self.streams.contains_key(&media.0)) else {
                    return;
                };
                (media, Seq(u16::from_be_bytes(*original)), payload)
            }
        };
        let stream = self.streams.entry(ssrc.0).or_insert_with(|| Stream {
            kind,
            unroller: Unroller::default(),
            receive: ReceiveStream::new(ReceiveConfig {
                ssrc,
                clock_rate: codec.clock_rate(),
                nack: false,
            }),
            missing: Missing::default(),
            playback: (kind == MediaKind::Video).then(|| Playback::new(codec, self.clock.at, now)),
            received: std::collections::BTreeSet::new(),
            first: None,
            last_at: now,
        });
        stream.last_at = now;
        let Some(extended) = stream.unroller.unroll(seq) else {
            return;
        };
        let size_bytes = payload.len();
        match is_repair {
            false => {
                stream
                    .receive
                    .handle_packet(now, seq, header.timestamp(), size_bytes);
            }
            true => {
                stream.receive.handle_retransmission(now, seq, size_bytes);
            }
        }
        if !stream.received.insert(extended.0) {
            self.counters.duplicates += u64::from(!is_repair);
            self.counters.padding += u64::from(is_repair);
            return;
        }
        if stream.received.len() > RECEIVED_MAX {
            stream.received.pop_first();
        }
        self.counters.packets += 1;
        self.counters.repaired += u64::from(is_repair);
        self.counters.padding += u64::from(payload.is_empty());
        match &mut stream.playback {
            Some(playback) => {
                self.counters.video_bytes += packet.len() as u64;
                stream.missing.handle_packet(now, extended.0);
                playback.handle_packet(now, extended.0, &header, payload);
                if let Some(awaited) = playback.awaited() {
                    stream.missing.forget_before(awaited);
                }
            }
            None => {
                self.counters.audio_packets += u64::from(Truth::find(payload).is_some());
                let first = *stream.first.get_or_insert(extended.0);
                let span = extended.0.saturating_sub(first) + 1;
                self.counters.audio_expected = self.counters.audio_expected.max(span);
            }
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let reports_at = self.reports_at?;
        let streams = self.streams.values().flat_map(|stream| {
            let playback = stream.playback.as_ref();
            let nacks = stream.missing.poll_timeout().filter(|_| self.config.nacks);
            [nacks, playback.and_then(Playback::poll_timeout)]
        });
        streams
            .chain([
                Some(reports_at),
                self.arrivals.poll_timeout(),
                self.remb.as_ref().map(ReceiverEstimate::poll_timeout),
            ])
            .flatten()
            .min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, peer: &mut Peer) {
        let ours = peer.feedback_ssrc();
        let mut compound = Vec::new();
        for (ssrc, stream) in &mut self.streams {
            let ssrc = Ssrc(*ssrc);
            let Some(playback) = &mut stream.playback else {
                continue;
            };
            let is_fed = now - stream.last_at < FED;
            let mut asks = playback.handle_timeout(now, is_fed);
            if let Some(awaited) = playback.awaited() {
                stream.missing.forget_before(awaited);
            }
            if self.config.nacks {
                let missing = stream.missing.poll(now);
                self.counters.nacked += missing.len() as u64;
                if !missing.is_empty() {
                    write_nacks(&mut compound, ours, ssrc, &missing);
                }
                asks |= stream.missing.take_given_up();
            }
            if asks {
                self.counters.picture_losses += 1;
                write_picture_loss(&mut compound, ours, ssrc);
            }
        }
        while self.arrivals.poll(now, ours, ours, &mut compound) {}
        let video = self
            .streams
            .iter()
            .find(|(_, it)| it.kind == MediaKind::Video);
        if let Some((ssrc, _)) = video
            && let Some(bitrate) = self.remb.as_mut().and_then(|remb| remb.poll(now))
        {
            write_remb(&mut compound, ours, bitrate, &[Ssrc(*ssrc)]);
        }
        if self.reports_at.is_some_and(|at| at <= now) {
            self.reports_at = Some(now + REPORT_INTERVAL);
            let streams = self.streams.values_mut();
            let blocks: Vec<_> = streams
                .filter_map(|stream| stream.receive.report(now))
                .collect();
            write_receiver_report(&mut compound, ours, &blocks);
            write_sdes_cname(&mut compound, ours, "peer");
        }
        if !compound.is_empty() {
            peer.send_rtcp(compound);
        }
    }
}
