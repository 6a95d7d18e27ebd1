//! What peers cause by negotiating again, and by numbers that they choose.
//!
//! A [`Peer`] is past ICE and DTLS from the start: its keys are put into its transport.

mod abuse;
mod panics;
mod relay;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use forwarding::rate::Bitrate;
use forwarding::rtcp::write_nacks;
use forwarding::rtp::{
    AbsSendTime, ExtensionId, Header, HeaderFields, HeaderTemplate, NegotiatedExtensions, NtpTime,
    PayloadType, RtpTime, Seq, Ssrc,
};
use media::{ElementId, ElementKind, EventSender, PipelineId};

use super::dtls::DtlsRole;
use super::flow::FlowProtocol;
use super::forward::OUTBOX_BYTES;
use super::sctp::{ChannelOptions, Sctp};
use super::srtp::{MasterKey, Opener, Profile, Sealer};
use super::transport::Protection;
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const VP8: u8 = 96;
const RTX: u8 = 97;
const VP9: u8 = 98;
const TRANSPORT_CC: &str =
    "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\n";
const VP8_ONLY: &str = "a=rtpmap:96 VP8/90000\na=rtcp-fb:96 nack\na=rtcp-fb:96 nack pli\n";
const RTX_ALSO: &str = "a=rtpmap:97 rtx/90000\na=fmtp:97 apt=96\n";
const VP9_ALSO: &str = "a=rtpmap:98 VP9/90000\na=rtcp-fb:98 goog-remb\n";

/// The start of a VP8 key frame: payload descriptor, then frame header.
const KEY_FRAME: [u8; 11] = [0x10, 0x10, 0, 0, 0x9d, 1, 0x2a, 0, 0, 0, 0];

struct Bed {
    engine: Engine,
    now: Instant,
    pipeline: PipelineId,
    peers: u16,
}

struct Peer {
    id: ElementId,
    transport: TransportKey,
    flow: Flow,
    sealer: Sealer,
}

/// A media packet on its way to a peer: (SSRC, sequence number, payload type).
type Sent = (u32, u16, u8);

impl Bed {
    fn new() -> Self {
        let mut bed = Self::on_worker(0, Instant::now());
        let events = EventSender::discard();
        bed.pipeline = bed.engine.create_pipeline(bed.now, events);
        bed
    }

    /// Another worker for the same pipeline.
    fn beside(&self, worker: usize) -> Self {
        let mut bed = Self::on_worker(worker, self.now);
        bed.pipeline = self.pipeline.clone();
        bed.engine.add_branch(&bed.pipeline);
        bed
    }

    fn on_worker(worker: usize, now: Instant) -> Self {
        let config = EngineConfig {
            certificate: Certificate::generate().unwrap(),
            candidates: vec![([192, 0, 2, 1], 7000).into()],
            ice_tcp: false,
            preferred_video_codec: None,
            clock: Clock {
                at: now,
                ntp: NtpTime(1 << 40),
            },
        };
        Self {
            engine: Engine::new(config, worker),
            now,
            pipeline: PipelineId::new(""),
            peers: 0,
        }
    }

    fn join(&mut self, direction: &str, attributes: &str) -> Peer {
        let kind = ElementKind::WebRtcEndpoint {
            data_channels: true,
            peer: None,
        };
        let (now, events) = (self.now, EventSender::discard());
        let id = self
            .engine
            .create_element(now, &self.pipeline, kind, events)
            .unwrap();
        self.negotiate(&id, direction, attributes);
        let element = self.engine.graph.key(&id).unwrap();
        let transport = self.engine.endpoints[&element].transports[0];
        self.peers += 1;
        let flow = Flow {
            protocol: FlowProtocol::Udp,
            local: ([192, 0, 2, 1], 7000).into(),
            remote: SocketAddr::from(([198, 51, 100, 1], self.peers)),
        };
        let key = |salt| MasterKey::new(Profile::AeadAes128Gcm, &[7; 16], &[salt; 12]);
        self.engine.flows.insert(flow, transport);
        let state = &mut self.engine.media.transports[transport.0];
        state.flow = Some(flow);
        state.protection = Some(Protection::Keys {
            profile: Profile::AeadAes128Gcm,
            sealer: Sealer::new(&key(1)),
            opener: Opener::new(&key(2)),
        });
        state.reports_at = Some(self.now);
        self.engine.arm(transport);
        Peer {
            id,
            transport,
            flow,
            sealer: Sealer::new(&key(2)),
        }
    }

    fn negotiate(&mut self, id: &ElementId, direction: &str, attributes: &str) {
        let offer = offer(direction, attributes);
        self.engine.process_offer(self.now, id, &offer).unwrap();
    }

    fn connect(&mut self, from: &Peer, to: &Peer) {
        let engine = &mut self.engine;
        engine.connect(self.now, &from.id, &to.id, None).unwrap();
    }

    fn send(&mut self, from: &Peer, ssrc: u32, seq: u16, payload_type: u8, payload: &[u8]) {
        let extensions = NegotiatedExtensions {
            transport_seq: Some(ExtensionId(3)),
            ..NegotiatedExtensions::default()
        };
        let fields = HeaderFields {
            seq: Seq(seq),
            timestamp: RtpTime(u32::from(seq) * 3000),
            marker: true,
            payload_type: PayloadType(payload_type),
            abs_send_time: AbsSendTime::default(),
            transport_seq: seq,
            audio_level: None,
            video_orientation: None,
            raw: &[],
        };
        let mut packet = vec![0; 200];
        let template = HeaderTemplate::new(Ssrc(ssrc), b"", &extensions);
        let header_len = template.write(&mut packet, &fields).unwrap();
        packet.truncate(header_len);
        packet.extend_from_slice(payload);
        packet.resize(packet.len() + from.sealer.rtp_overhead(), 0);
        from.sealer
            .seal_rtp(seq.into(), ssrc, header_len, &mut packet);
        self.engine
            .handle_datagram(self.now, from.flow, &mut packet);
    }

    fn nack(&mut self, from: &mut Peer, ssrc: u32, seqs: &[u16]) {
        let seqs: Vec<_> = seqs.iter().copied().map(Seq).collect();
        let mut packet = Vec::new();
        write_nacks(&mut packet, Ssrc(1), Ssrc(ssrc), &seqs);
        from.sealer.seal_rtcp(&mut packet).unwrap();
        self.engine
            .handle_datagram(self.now, from.flow, &mut packet);
    }

    /// The media packets that left towards `peer` since the last call.
    fn take_sent(&mut self, peer: &Peer) -> Vec<Sent> {
        let mut sent = Vec::new();
        while let Some(outbox) = self.engine.poll_transmits(self.now) {
            let bytes = outbox.datagrams().filter(|(flow, _)| *flow == peer.flow);
            sent.extend(
                bytes
                    .map(|(_, bytes)| bytes)
                    .filter(|bytes| PacketKind::of(bytes) == PacketKind::Rtp && !is_rtcp(bytes))
                    .map(|bytes| Header::parse_protected(bytes).unwrap())
                    .map(|header| (header.ssrc().0, header.seq().0, header.payload_type().0)),
            );
        }
        sent
    }

    fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut turns = 0;
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= end) {
            turns += 1;
            assert!(turns < 1000, "a deadline comes again and again");
            self.now = self.now.max(at);
            self.engine.handle_timeout(self.now);
        }
        self.now = end;
        assert_eq!(self.engine.counters().panics, 0);
    }
}

fn offer(direction: &str, attributes: &str) -> String {
    let formats: String = [RTX, VP9]
        .into_iter()
        .filter(|format| attributes.contains(&format!("a=rtpmap:{format} ")))
        .map(|format| format!(" {format}"))
        .collect();
    format!(
        "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nt=0 0\na=group:BUNDLE 0\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96{formats}\nc=IN IP4 0.0.0.0\na=mid:0\na=ice-ufrag:peer\n\
         a=ice-pwd:apasswordof24characters+\na=setup:actpass\na=rtcp-mux\na={direction}\n\
         a=fingerprint:sha-256 0B:30:55:7A:9F:C4:E9:0E:33:58:7D:A2:C7:EC:11:36:5B:80:A5:CA:EF:14:39:5E:83:A8:CD:F2:17:3C:61:86\n\
         {attributes}"
    )
    .replace('\n', "\r\n")
}

#[test]
fn bug_met_over_one_subscriber_costs_only_that_one() {
    let mut bed = Bed::new();
    let publisher = bed.join("sendonly", VP8_ONLY);
    let viewers = [0; 3].map(|_| bed.join("recvonly", VP8_ONLY));
    for viewer in &viewers {
        bed.connect(&publisher, viewer);
    }
    // As if the track's transport had been forgotten.
    let broken = bed.engine.media.transports[viewers[1].transport.0].subscribers[0];
    bed.engine.media.subscribers[broken.0].transport = TransportKey(9999);
    for seq in 1..4 {
        bed.send(&publisher, 5, seq, VP8, &KEY_FRAME);
    }
    let mut sent = HashMap::new();
    while let Some(outbox) = bed.engine.poll_transmits(bed.now) {
        for (flow, bytes) in outbox.datagrams().filter(|(_, bytes)| !is_rtcp(bytes)) {
            assert_eq!(PacketKind::of(bytes), PacketKind::Rtp);
            *sent.entry(flow).or_insert(0) += 1;
        }
    }
    let expected = HashMap::from([(viewers[0].flow, 3), (viewers[2].flow, 3)]);
    assert_eq!(sent, expected);
    assert_eq!(bed.engine.counters().panics, 1);
    assert!(!bed.engine.media.transports[publisher.transport.0].closed);
}

#[test]
fn packets_beyond_the_limit_are_forwarded_without_being_asked() {
    let mut bed = Bed::new();
    let publisher = bed.join("sendonly", VP8_ONLY);
    let viewer = bed.join("recvonly", VP8_ONLY);
    bed.connect(&publisher, &viewer);
    for seq in 1..=500 {
        bed.send(&publisher, 5, seq, VP8, &KEY_FRAME);
    }
    assert_eq!(bed.take_sent(&viewer).len(), 500);
}

#[test]
fn full_outbox_does_not_stop_what_must_be_forwarded() {
    const VIEWERS: usize = 20;
    const PACKETS: u16 = 150;
    let mut bed = Bed::new();
    let publisher = bed.join("sendonly", VP8_ONLY);
    let viewers = [0; VIEWERS].map(|_| bed.join("recvonly", VP8_ONLY));
    for viewer in &viewers {
        bed.connect(&publisher, viewer);
    }
    let mut payload = [0; 1100];
    payload[..KEY_FRAME.len()].copy_from_slice(&KEY_FRAME);
    for seq in 1..=PACKETS {
        bed.send(&publisher, 5, seq, VP8, &payload);
    }
    assert!(bed.engine.media.outbox.len_bytes() > OUTBOX_BYTES);
    let mut sent = 0;
    while let Some(outbox) = bed.engine.poll_transmits(bed.now) {
        let media = outbox.datagrams().filter(|(_, bytes)| !is_rtcp(bytes));
        sent += media.count();
    }
    assert_eq!(sent, VIEWERS * usize::from(PACKETS));
}

#[test]
fn sound_closes_a_picture_only_where_all_fits() {
    for is_wanting in [false, true] {
        let mut bed = Bed::new();
        let now = bed.now;
        let publisher = bed.join("sendonly", VP8_ONLY);
        let viewer = bed.join("recvonly", VP8_ONLY);
        bed.connect(&publisher, &viewer);
        bed.send(&publisher, 5, 1, VP8, &KEY_FRAME);
        assert_eq!(bed.take_sent(&viewer).len(), 1);
        let media = &mut bed.engine.media;
        let rate = Bitrate::from_kbps(500);
        media.handle_remb(now, viewer.transport, rate);
        let membership = media.transports[viewer.transport.0].downlink.unwrap();
        let way = &mut media.downlinks[membership.downlink.0];
        way.handle_division(now, rate, rate, is_wanting);
        bed.take_sent(&viewer);

        // As its sound would.
        let media = &mut bed.engine.media;
        media.outbox.push(viewer.flow, &[0x80; 20]);
        media.transports[viewer.transport.0].sound = Some(media.outbox.place());
        bed.send(&publisher, 5, 2, VP8, &KEY_FRAME);
        let outbox = bed.engine.poll_transmits(now).unwrap();

        let count = outbox.departures(true).count();
        assert_eq!(outbox.runs().len(), 2);
        assert_eq!(count, if is_wanting { 2 } else { 1 });
    }
}

#[test]
fn track_that_pauses_goes_on_with_its_numbers() {
    let mut bed = Bed::new();
    let publisher = bed.join("sendonly", VP8_ONLY);
    let viewer = bed.join("recvonly", VP8_ONLY);
    bed.connect(&publisher, &viewer);
    bed.send(&publisher, 5, 1, VP8, &KEY_FRAME);
    let before = bed.take_sent(&viewer);

    bed.negotiate(&viewer.id, "inactive", VP8_ONLY);
    bed.send(&publisher, 5, 2, VP8, &KEY_FRAME);
    assert_eq!(bed.take_sent(&viewer), []);
    bed.negotiate(&viewer.id, "recvonly", VP8_ONLY);
    bed.send(&publisher, 5, 3, VP8, &KEY_FRAME);

    let (ssrc, seq, payload_type) = before[0];
    let after = bed.take_sent(&viewer);
    assert_eq!(after, [(ssrc, seq + 1, payload_type)]);
}

#[test]
fn publishers_with_the_same_ssrc_are_told_apart() {
    let mut bed = Bed::new();
    let one = bed.join("sendonly", VP8_ONLY);
    let two = bed.join("sendonly", VP8_ONLY);
    let viewer = bed.join("recvonly", VP8_ONLY);
    bed.connect(&one, &viewer);
    for seq in 100..110 {
        bed.send(&one, 5, seq, VP8, &KEY_FRAME);
    }
    bed.send(&two, 5, 94, VP8, &KEY_FRAME);
    let seen = bed.take_sent(&viewer);

    bed.connect(&two, &viewer);
    for seq in 95..105 {
        bed.send(&two, 5, seq, VP8, &KEY_FRAME);
    }

    let after = bed.take_sent(&viewer);
    assert_eq!(after.len(), 10);
    let numbers: HashMap<_, _> = seen
        .iter()
        .chain(&after)
        .map(|sent| (sent.1, sent))
        .collect();
    assert_eq!(numbers.len(), 20, "a number was used twice");
}

#[test]
fn arrivals_of_a_publisher_that_stopped_are_not_waited_for() {
    let mut bed = Bed::new();
    let attributes = format!("{VP8_ONLY}a=rtcp-fb:96 transport-cc\n{TRANSPORT_CC}");
    let publisher = bed.join("sendonly", &attributes);
    bed.send(&publisher, 5, 1, VP8, &KEY_FRAME);
    bed.negotiate(&publisher.id, "inactive", &attributes);

    bed.run_for(3 * SECOND);
}

#[test]
fn publisher_may_negotiate_fewer_codecs_than_it_used() {
    let mut bed = Bed::new();
    let both = format!("{VP8_ONLY}{VP9_ALSO}");
    let publisher = bed.join("sendonly", &both);
    bed.send(&publisher, 5, 1, VP9, &[0x8a, 0, 0, 0]);
    bed.negotiate(&publisher.id, "sendonly", VP8_ONLY);

    bed.run_for(3 * SECOND);
}

#[test]
fn simulcast_by_ssrc_keeps_every_layer() {
    let mut bed = Bed::new();
    let simulcast = format!(
        "{VP8_ONLY}a=ssrc-group:SIM 11 12 13\na=ssrc:11 cname:c\na=ssrc:12 cname:c\na=ssrc:13 cname:c\n"
    );
    let publisher = bed.join("sendonly", &simulcast);
    let viewer = bed.join("recvonly", VP8_ONLY);
    bed.connect(&publisher, &viewer);
    for seq in 1..=5 {
        for ssrc in [11, 12, 13] {
            bed.send(&publisher, ssrc, seq, VP8, &KEY_FRAME);
        }
    }

    // Each layer is the best so far when it begins.
    assert_eq!(bed.take_sent(&viewer).len(), 5 + 2);
    let inbound = &bed.engine.media.transports[publisher.transport.0].inbound;
    assert_eq!(inbound.len(), 3);
}

#[test]
fn best_layer_that_is_sent_is_forwarded() {
    let mut bed = Bed::new();
    let simulcast = format!(
        "{VP8_ONLY}a=ssrc-group:SIM 11 12 13\na=ssrc:11 cname:c\na=ssrc:12 cname:c\na=ssrc:13 cname:c\n"
    );
    let publisher = bed.join("sendonly", &simulcast);
    let viewer = bed.join("recvonly", VP8_ONLY);
    bed.connect(&publisher, &viewer);
    let mut seq = 0;
    let mut send_for_3_seconds = |bed: &mut Bed, ssrcs: &[u32]| {
        let mut forwarded = 0;
        for _ in 0..75 {
            seq += 1;
            for ssrc in ssrcs {
                let mut payload = KEY_FRAME.to_vec();
                payload.resize(50 * (*ssrc as usize - 10).pow(3), 0);
                bed.send(&publisher, *ssrc, seq, VP8, &payload);
            }
            bed.run_for(SECOND / 25);
            forwarded += bed.take_sent(&viewer).len();
        }
        let transport = &bed.engine.media.transports[publisher.transport.0];
        let source = &bed.engine.media.sources[transport.sources[0].0];
        let layer = source
            .layer_of(source.levels.streams().last().unwrap())
            .unwrap();
        (source.layers[layer].ssrc.0, forwarded)
    };

    // Besides the frames of one layer, a switch may send a frame of both.
    let (ssrc, forwarded) = send_for_3_seconds(&mut bed, &[11, 12, 13]);
    assert!(ssrc == 13 && (75..=77).contains(&forwarded), "{forwarded}");
    let (ssrc, forwarded) = send_for_3_seconds(&mut bed, &[11, 12]);
    assert!(ssrc == 12 && (20..75).contains(&forwarded), "{forwarded}");
    assert_eq!(send_for_3_seconds(&mut bed, &[11, 12]), (12, 75));
    assert_eq!(send_for_3_seconds(&mut bed, &[13, 12, 11]).0, 13);
}

#[test]
fn publisher_may_change_its_ssrcs_any_number_of_times() {
    let mut bed = Bed::new();
    let with_rtx = format!("{VP8_ONLY}{RTX_ALSO}");
    let publisher = bed.join("sendonly", &with_rtx);
    let viewer = bed.join("recvonly", VP8_ONLY);
    bed.connect(&publisher, &viewer);
    for restart in 0..30 {
        bed.send(&publisher, 100 + restart, 1, VP8, &KEY_FRAME);
        bed.send(&publisher, 200 + restart, 1, RTX, &[0, 1, 0x10, 1]);
        bed.run_for(SECOND / 5);
    }

    assert_eq!(bed.take_sent(&viewer).len(), 30);
}

#[test]
fn packets_from_before_a_negotiation_are_not_repeated_on_their_ssrc() {
    let mut bed = Bed::new();
    let publisher = bed.join("sendonly", VP8_ONLY);
    let mut viewer = bed.join("recvonly", VP8_ONLY);
    bed.connect(&publisher, &viewer);
    bed.send(&publisher, 5, 1, VP8, &KEY_FRAME);
    let (ssrc, first, _) = bed.take_sent(&viewer)[0];
    bed.nack(&mut viewer, ssrc, &[first]);
    assert_eq!(bed.take_sent(&viewer).len(), 1);

    bed.negotiate(&viewer.id, "recvonly", VP8_ONLY);
    bed.send(&publisher, 5, 2, VP8, &KEY_FRAME);
    bed.take_sent(&viewer);
    bed.run_for(SECOND);
    bed.take_sent(&viewer);

    bed.nack(&mut viewer, ssrc, &[first, first + 1]);
    let repeated: Vec<_> = bed.take_sent(&viewer).iter().map(|sent| sent.1).collect();
    assert_eq!(repeated, [first + 1]);
}

#[test]
fn packet_that_is_missed_for_long_costs_a_key_frame() {
    let mut bed = Bed::new();
    let publisher = bed.join("sendonly", VP8_ONLY);
    let mut viewer = bed.join("recvonly", VP8_ONLY);
    bed.connect(&publisher, &viewer);
    bed.engine.media.transports[viewer.transport.0].connected = true;
    bed.send(&publisher, 5, 1, VP8, &KEY_FRAME);
    bed.run_for(3 * SECOND);
    let (ssrc, first, _) = bed.take_sent(&viewer)[0];
    for seq in 2..20 {
        bed.send(&publisher, 5, seq, VP8, &[0x10, 1]);
    }
    assert_eq!(bed.take_sent(&viewer).len(), 18);
    let asked = bed.engine.counters().key_frames_requested;
    // 30 ms each.
    for (back, is_asked) in [(8, false), (10, true)] {
        bed.nack(&mut viewer, ssrc, &[first + 18 - back]);
        bed.run_for(SECOND / 4);
        let more = bed.engine.counters().key_frames_requested > asked;
        assert_eq!(more, is_asked, "{back} pictures ago");
    }
}

#[test]
fn publisher_that_nobody_watches_is_not_asked_for_key_frames() {
    let mut bed = Bed::new();
    let publisher = bed.join("sendonly", VP8_ONLY);
    let viewer = bed.join("recvonly", VP8_ONLY);
    bed.connect(&publisher, &viewer);
    bed.send(&publisher, 5, 1, VP8, &[0x10, 1]);
    bed.run_for(3 * SECOND);
    let asked = bed.engine.counters().key_frames_requested;
    assert!(asked > 1, "{asked}");

    bed.engine.release_element(bed.now, &viewer.id);
    bed.run_for(10 * SECOND);

    assert_eq!(bed.engine.counters().key_frames_requested, asked);
}

#[test]
fn burst_of_messages_opens_one_channel() {
    let mut bed = Bed::new();
    let viewer = bed.join("recvonly", VP8_ONLY);
    let now = bed.now;
    let sctp = Sctp::new(DtlsRole::Server, 5000, 5000, 0, now);
    bed.engine.media.transports[viewer.transport.0].sctp = Some(Box::new(sctp));
    let sink = bed.engine.graph.key(&viewer.id).unwrap();

    for _ in 0..5 {
        bed.engine.send_message(now, sink, "chat", false, b"hello");
    }

    assert_eq!(bed.engine.endpoints[&sink].channels.len(), 1);
    let transport = &mut bed.engine.media.transports[viewer.transport.0];
    let next = transport.sctp.as_mut().unwrap();
    let next = next.open(now, ChannelOptions::default()).unwrap();
    assert_eq!(next, 3, "the stream after the first of a server");
}
