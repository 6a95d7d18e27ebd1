//! A light WebRTC client: what a browser does on the wire, without sockets, threads or clocks.
//!
//! Read [`Peer`] first. It offers, takes the answer, checks connectivity, shakes hands, and then sends
//! synthetic media and checks what it receives. Method families as in the engine: `handle_*` for what
//! comes in, `poll_*` for what must go out. Deliberately absent: decoding, congestion control, and a
//! second 5-tuple.

mod bare;
mod check;
mod config;
mod description;
mod forge;
mod incoming;
mod outgoing;
mod receiving;
mod sending;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forwarding::codec::Codec;
use forwarding::rtp::{NtpTime, PacketKind, Seq, is_rtcp};
use forwarding::transport_feedback::TransportFeedback;
use media::MediaKind;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sfu::engine::certificate::Certificate;
use sfu::engine::clock::Clock;
use sfu::engine::dtls::{Dtls, DtlsEvent, DtlsRole};
use sfu::engine::sctp::{ChannelOptions, Sctp, SctpEvent};
use sfu::engine::srtp::{KeyingMaterial, Opener, Profile, ReceiveIndex, Sealer};

use check::Checks;
use description::{Answer, OfferParts};
use forge::SctpTrace;
use outgoing::{Outgoing, OutgoingConfig};

use crate::payload::Stamp;

pub use bare::{Negotiated, Received};
pub use config::{Direction, Numbering, PeerConfig, layer_extensions};
pub use description::AnswerError;
pub use forge::SctpMark;
pub use incoming::{IncomingStream, ReceivedPacket};
pub use outgoing::{Feedback, Pace};

/// Between reports. Browsers send about one a second.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Streams that are looked at. The server sends two and retransmissions.
const STREAMS_MAX: usize = 64;

const KINDS: [MediaKind; 2] = [MediaKind::Audio, MediaKind::Video];

/// What happened to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerEvent {
    /// ICE and DTLS are up.
    Connected,
    /// The handshake failed, for this reason.
    Failed(String),
    /// The server said goodbye.
    Closed,
    /// A data channel is open.
    ChannelOpened {
        /// Stream identifier.
        id: u16,
        /// Its label.
        label: String,
    },
    /// A message came.
    Message {
        /// On which channel.
        id: u16,
        /// False for a string.
        binary: bool,
        /// Its content.
        data: Bytes,
    },
}

/// Datagrams and packets, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounters {
    /// RTP packets that were authentic.
    pub rtp: u64,
    /// RTP packets of which only the header was read; see [`PeerConfig::opens_every`].
    pub unopened: u64,
    /// RTCP packets that were authentic.
    pub rtcp: u64,
    /// SRTP or SRTCP that was not.
    pub unauthentic: u64,
    /// SRTP seen before.
    pub replayed: u64,
    /// Packets received more than once.
    pub duplicates: u64,
    /// Retransmissions of what was there: the sender tries what the path carries.
    pub useless_repairs: u64,
    /// RTP of a payload type that was not offered.
    pub unknown: u64,
    /// Transport-wide feedback packets.
    pub transport_feedbacks: u64,
    /// Transport-wide numbers that they cover.
    pub transport_statuses: u64,
}

struct Srtp {
    sealer: Sealer,
    opener: Opener,
}

/// A light WebRTC client.
pub struct Peer {
    config: PeerConfig,
    /// By payload type: its kind and codec, and whether it is a retransmission.
    formats: [Option<(MediaKind, Codec, bool)>; 128],
    certificate: Certificate,
    clock: Clock,
    random: StdRng,
    checks: Checks,
    version: u64,
    ssrcs: [[u32; 2]; 2],
    answer: Option<Answer>,
    dtls: Option<Dtls>,
    srtp: Option<Srtp>,
    profile: Option<Profile>,
    sctp: Option<Sctp>,
    sctp_trace: SctpTrace,
    outgoing: Vec<Outgoing>,
    transport_seq: u16,
    indices: HashMap<u32, ReceiveIndex>,
    incoming: BTreeMap<u32, IncomingStream>,
    arrivals: TransportFeedback,
    /// Packets until the next one is opened.
    unopened_left: u32,
    last_stamp: Option<Stamp>,
    reports_at: Option<Instant>,
    remb: Option<u64>,
    fir_count: u8,
    transmits: VecDeque<Vec<u8>>,
    /// If it is [bare](PeerConfig::bare).
    received: VecDeque<Received>,
    events: VecDeque<PeerEvent>,
    counters: PeerCounters,
}

impl Peer {
    /// A peer that has done nothing yet. A certificate may be shared by many peers.
    pub fn new(config: PeerConfig, certificate: Certificate, now: Instant) -> Self {
        let mut random = StdRng::seed_from_u64(config.seed);
        let clock = Clock {
            at: now,
            ntp: NtpTime(random.random()),
        };
        let mut formats = [None; 128];
        for kind in KINDS {
            for format in config.formats(kind) {
                let entry = |repairs| Some((kind, format.codec, repairs));
                formats[usize::from(format.payload_type)] = entry(false);
                if let Some(repair) = format.rtx_payload_type {
                    formats[usize::from(repair)] = entry(true);
                }
            }
        }
        Self {
            formats,
            certificate,
            clock,
            checks: Checks::new(&mut random),
            version: 1,
            ssrcs: random.random(),
            answer: None,
            dtls: None,
            srtp: None,
            profile: None,
            sctp: None,
            sctp_trace: SctpTrace::default(),
            outgoing: Vec::new(),
            transport_seq: random.random(),
            indices: HashMap::new(),
            incoming: BTreeMap::new(),
            arrivals: TransportFeedback::default(),
            unopened_left: 0,
            last_stamp: None,
            reports_at: None,
            remb: None,
            fir_count: 0,
            transmits: VecDeque::new(),
            received: VecDeque::new(),
            events: VecDeque::new(),
            counters: PeerCounters::default(),
            random,
            config,
        }
    }

    /// What it was made with.
    pub fn config(&self) -> &PeerConfig {
        &self.config
    }

    /// Writes an offer; the first one, or one that repeats it.
    pub fn offer(&mut self) -> String {
        self.version += 1;
        description::offer(
            &self.config,
            &OfferParts {
                version: self.version,
                ice: self.checks.local(),
                fingerprint: self.certificate.fingerprint(),
                ssrcs: self.ssrcs,
            },
        )
    }

    /// Draws new ICE credentials: the next offer restarts ICE.
    pub fn restart_ice(&mut self) {
        self.checks.restart(&mut self.random);
    }

    /// Takes the answer, and begins to connect if it is the first.
    ///
    /// # Errors
    /// The answer has no transport.
    pub fn handle_answer(&mut self, now: Instant, answer: &str) -> Result<(), AnswerError> {
        let answer = Answer::parse(answer)?;
        self.checks.start(now, answer.ice.clone());
        for kind in KINDS {
            let sends = self.config.direction(kind).is_some_and(Direction::sends);
            let taken = answer
                .section(kind)
                .is_some_and(|section| section.receives && !section.payload_types.is_empty());
            let known = self.outgoing.iter().any(|stream| stream.kind == kind);
            if sends && taken && !known {
                self.add_outgoing(now, kind, &answer);
            } else if !(sends && taken) {
                self.outgoing.retain(|stream| stream.kind != kind);
            }
        }
        if self.dtls.is_none() {
            let role = match answer.passive {
                true => DtlsRole::Client,
                false => DtlsRole::Server,
            };
            let fingerprint = answer.fingerprint.clone();
            self.dtls = Dtls::new(role, &self.certificate, fingerprint, now).ok();
        }
        self.answer = Some(answer);
        self.start_data(now);
        self.drive(now);
        Ok(())
    }

    fn add_outgoing(&mut self, now: Instant, kind: MediaKind, answer: &Answer) {
        let formats = self.config.formats(kind);
        let Some(section) = answer.section(kind) else {
            return;
        };
        let taken = |payload_type: u8| section.payload_types.contains(&payload_type);
        let Some(format) = formats.iter().find(|format| taken(format.payload_type)) else {
            return;
        };
        let extensions = section.taken(self.config.extensions(kind));
        self.outgoing.push(Outgoing::new(
            now,
            &OutgoingConfig {
                kind,
                codec: format.codec,
                payload_type: format.payload_type,
                rtx_payload_type: format.rtx_payload_type.filter(|number| taken(*number)),
                ssrcs: self.ssrcs[kind as usize],
                mid: self.config.numbering.mid(kind),
                extensions,
                first_seq: self.random.random::<u16>() & 0x7fff,
                first_timestamp: self.random.random(),
            },
        ));
    }

    /// Where to send everything: the first UDP candidate of the answer.
    pub fn server(&self) -> Option<SocketAddr> {
        self.answer.as_ref()?.candidates.first().copied()
    }

    /// True once media can flow.
    pub fn is_connected(&self) -> bool {
        self.dtls.as_ref().is_some_and(Dtls::is_connected)
    }

    /// The SRTP profile that was agreed on.
    pub fn profile(&self) -> Option<Profile> {
        self.profile
    }

    /// Connectivity checks that were answered.
    pub fn checks_answered(&self) -> u64 {
        self.checks.answered
    }

    /// Totals.
    pub fn counters(&self) -> PeerCounters {
        self.counters
    }

    /// Latest REMB of the server, in bit/s.
    pub fn remb(&self) -> Option<u64> {
        self.remb
    }

    /// What came back about a published stream.
    pub fn feedback(&self, kind: MediaKind) -> Option<&Feedback> {
        Some(&self.stream(kind)?.feedback)
    }

    /// Round trip to the server by its receiver reports.
    pub fn round_trip_time(&self, kind: MediaKind) -> Option<Duration> {
        self.stream(kind)?.send.rtt()
    }

    /// The number that the next packet of a published stream gets.
    pub fn next_seq(&self, kind: MediaKind) -> Option<Seq> {
        Some(self.stream(kind)?.next_seq())
    }

    /// SSRC of a published stream.
    pub fn ssrc(&self, kind: MediaKind) -> Option<u32> {
        Some(self.stream(kind)?.ssrc)
    }

    /// The stream received in a kind; the first one if there are several.
    pub fn received(&self, kind: MediaKind) -> Option<&IncomingStream> {
        self.incoming.values().find(|stream| stream.kind == kind)
    }

    /// Every stream received.
    pub fn streams(&self) -> impl Iterator<Item = &IncomingStream> {
        self.incoming.values()
    }

    /// Takes the stamp of the latest packet that was opened.
    pub fn take_stamp(&mut self) -> Option<Stamp> {
        self.last_stamp.take()
    }

    /// True if the next frame of a published stream will be a key frame.
    pub fn wants_key_frame(&self, kind: MediaKind) -> bool {
        self.stream(kind)
            .is_some_and(|stream| stream.wants_key_frame)
    }

    fn stream(&self, kind: MediaKind) -> Option<&Outgoing> {
        self.outgoing.iter().find(|stream| stream.kind == kind)
    }

    fn stream_mut(&mut self, kind: MediaKind) -> Option<&mut Outgoing> {
        self.outgoing.iter_mut().find(|stream| stream.kind == kind)
    }

    /// The next datagram for [`Self::server`].
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<PeerEvent> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let below = [
            self.checks.poll_timeout(),
            self.dtls.as_ref().and_then(Dtls::poll_timeout),
            self.sctp.as_ref().and_then(Sctp::poll_timeout),
        ];
        let media = self.is_connected().then(|| self.media_timeout());
        below.into_iter().chain(media).flatten().min()
    }

    fn media_timeout(&self) -> Option<Instant> {
        let streams = self.outgoing.iter().filter_map(Outgoing::poll_timeout);
        let losses = self.incoming.values();
        let losses = losses.filter_map(|stream| stream.receive.poll_timeout());
        [self.reports_at, self.arrivals.poll_timeout()]
            .into_iter()
            .flatten()
            .chain(streams)
            .chain(losses)
            .min()
    }

    /// Serves what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(check) = self.checks.poll_check(now, &mut self.random) {
            self.transmits.push_back(check);
        }
        if let Some(dtls) = &mut self.dtls {
            dtls.handle_timeout(now);
        }
        if let Some(sctp) = &mut self.sctp {
            sctp.handle_timeout(now);
        }
        if self.is_connected() {
            for kind in KINDS {
                while let Some(pace) = self
                    .stream_mut(kind)
                    .and_then(|stream| stream.poll_frame(now))
                {
                    self.send_frame(now, kind, &pace);
                }
            }
            self.send_feedback(now);
            if self.reports_at.is_some_and(|at| at <= now) {
                self.reports_at = Some(now + REPORT_INTERVAL);
                self.send_reports(now);
            }
        }
        self.drive(now);
    }

    /// Takes a datagram of the server. `datagram` is used as scratch space.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8]) {
        match PacketKind::of(datagram) {
            PacketKind::Stun => {
                self.checks.handle_answer(datagram);
            }
            PacketKind::Dtls => {
                if let Some(dtls) = &mut self.dtls {
                    dtls.handle_datagram(now, datagram);
                }
            }
            PacketKind::Rtp | PacketKind::Rtcp if is_rtcp(datagram) => {
                self.handle_rtcp(now, datagram);
            }
            PacketKind::Rtp | PacketKind::Rtcp => self.handle_rtp(now, datagram),
            _ => {}
        }
        self.drive(now);
    }

    /// Passes on what the layers below the media have to say and to send.
    fn drive(&mut self, now: Instant) {
        let Some(dtls) = &mut self.dtls else {
            return;
        };
        let mut connected = false;
        while let Some(event) = dtls.poll_event() {
            match event {
                DtlsEvent::Connected { keys } => {
                    self.profile = keys.as_ref().map(|keys| keys.profile);
                    self.srtp = keys.map(|keys| {
                        let material = KeyingMaterial::from_exporter(
                            keys.profile,
                            &keys.bytes,
                            keys.is_client,
                        );
                        Srtp {
                            sealer: Sealer::new(&material.local),
                            opener: Opener::new(&material.remote),
                        }
                    });
                    let reports = self.config.reports && !self.config.bare;
                    self.reports_at = reports.then_some(now + REPORT_INTERVAL);
                    connected = true;
                    self.events.push_back(PeerEvent::Connected);
                }
                DtlsEvent::Data(packet) => {
                    if let Some(sctp) = &mut self.sctp {
                        sctp.handle_packet(now, packet);
                    }
                }
                DtlsEvent::Failed(failure) => self
                    .events
                    .push_back(PeerEvent::Failed(failure.to_string())),
                DtlsEvent::Closed => self.events.push_back(PeerEvent::Closed),
                _ => {}
            }
        }
        if connected {
            self.start_data(now);
        }
        let Some(dtls) = &mut self.dtls else {
            return;
        };
        if let Some(sctp) = &mut self.sctp {
            while let Some(event) = sctp.poll_event() {
                match event {
                    SctpEvent::Opened { id, options, .. } => {
                        self.events.push_back(PeerEvent::ChannelOpened {
                            id,
                            label: options.label,
                        });
                    }
                    SctpEvent::Message { id, binary, data } => {
                        self.events
                            .push_back(PeerEvent::Message { id, binary, data });
                    }
                    _ => {}
                }
            }
            while let Some(packet) = sctp.poll_transmit(now) {
                self.sctp_trace.note(&packet);
                if dtls.write(now, &packet).is_err() {
                    break;
                }
            }
        }
        // The handshake waits for a path.
        if self.checks.succeeded() || dtls.is_connected() {
            while let Some(record) = dtls.poll_transmit() {
                self.transmits.push_back(record.to_vec());
            }
        }
    }

    fn start_data(&mut self, now: Instant) {
        let Some(dtls) = self.dtls.as_ref().filter(|dtls| dtls.is_connected()) else {
            return;
        };
        let section = self
            .answer
            .as_ref()
            .and_then(|answer| answer.section(MediaKind::Data));
        if let (Some(section), None) = (section, &self.sctp) {
            let port = section.sctp_port.unwrap_or(5000);
            let size_max = section.max_message_size;
            self.sctp = Some(Sctp::new(dtls.role(), 5000, port, size_max, now));
        }
    }

    /// Opens a data channel; it can be used after [`PeerEvent::ChannelOpened`]. `None` if data was not
    /// negotiated or the peer is not connected.
    pub fn open_channel(&mut self, now: Instant, label: &str) -> Option<u16> {
        let options = ChannelOptions {
            label: label.to_owned(),
            ordered: true,
            ..ChannelOptions::default()
        };
        let id = self.sctp.as_mut()?.open(now, options).ok();
        self.drive(now);
        id
    }

    /// Sends a message; false if that is not possible.
    pub fn send_message(&mut self, now: Instant, id: u16, binary: bool, data: &[u8]) -> bool {
        let sent = self
            .sctp
            .as_mut()
            .is_some_and(|sctp| sctp.send(now, id, binary, data).is_ok());
        self.drive(now);
        sent
    }

    /// Checks the path at once, as after a change of address.
    pub fn check_path(&mut self, now: Instant) {
        self.checks.check_now(now);
    }

    /// Ends DTLS in an orderly way.
    pub fn close(&mut self, now: Instant) {
        if let Some(dtls) = &mut self.dtls {
            dtls.close(now);
        }
        self.drive(now);
    }
}
