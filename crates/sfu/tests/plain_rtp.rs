//! Plain RTP through the engine: gateways that publish to browsers and watch them, and strangers.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forwarding::codec::Codec;
use forwarding::rtcp::{Packet, Packets, write_goodbye, write_picture_loss, write_receiver_report};
use forwarding::rtp::{Header, Ssrc};
use media::MediaKind::{self, Audio, Video};
use media::{
    ElementId, ElementKind, Error, Event, EventSender, IceCandidate, MediaState, OfferOptions,
    PipelineId,
};
use media_bench::payload::{Picture, Stamp, verify, write};
use media_bench::peer::{Pace, PeerConfig};
use media_bench::simulation::Simulation;
use proptest::prelude::*;
use sfu::engine::RtpPorts;
use sfu::engine::counters::Discard;
use sfu::engine::flow::{Flow, FlowProtocol};
use sfu::engine::sdp::PlainPorts;

const SECOND: Duration = Duration::from_secs(1);
/// Where the gateway says it is.
const GATEWAY: [u8; 4] = [192, 0, 2, 50];
const STRANGER: [u8; 4] = [192, 0, 2, 66];
/// Our own address and ports.
const HERE: [u8; 4] = [198, 51, 100, 1];
const PORTS: RtpPorts = RtpPorts {
    bound: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
    told: PlainPorts {
        address: IpAddr::V4(std::net::Ipv4Addr::new(HERE[0], HERE[1], HERE[2], HERE[3])),
        audio: 20_000,
        video: 20_002,
    },
};
/// Payload types and SSRCs of the gateway.
const OPUS: (u8, u32) = (98, 1001);
const VP8: (u8, u32) = (100, 1002);

fn offer(profile: &str, direction: &str) -> String {
    let feedback = if profile == "RTP/AVPF" {
        "a=rtcp-fb:100 nack\r\na=rtcp-fb:100 nack pli\r\n"
    } else {
        ""
    };
    format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.50\r\ns=-\r\nc=IN IP4 192.0.2.50\r\nt=0 0\r\n\
         m=audio 30000 {profile} 98\r\na=rtpmap:98 opus/48000/2\r\na={direction}\r\n\
         m=video 30002 {profile} 100\r\na=rtpmap:100 VP8/90000\r\n{feedback}a={direction}\r\n"
    )
}

/// An RTP endpoint in a simulation, and what it tells.
struct Bed {
    simulation: Simulation,
    endpoint: ElementId,
    told: Arc<Mutex<Vec<Event>>>,
    sent: u16,
}

impl Bed {
    fn new() -> Self {
        let mut simulation = Simulation::new(1);
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let events = EventSender::new(move |event| sink.lock().unwrap().push(event));
        let (now, pipeline) = (simulation.now(), simulation.pipeline().clone());
        let endpoint = simulation
            .engine
            .create_rtp_endpoint(now, &pipeline, PORTS, None, events)
            .unwrap();
        Self {
            simulation,
            endpoint,
            told,
            sent: 0,
        }
    }

    fn offered(offer: &str) -> Self {
        let mut bed = Self::new();
        bed.process_offer(offer).unwrap();
        bed
    }

    fn process_offer(&mut self, offer: &str) -> Result<String, Error> {
        let now = self.simulation.now();
        let engine = &mut self.simulation.engine;
        engine.process_offer(now, &self.endpoint, offer)
    }

    /// Lets a datagram of the gateway arrive on a port of ours.
    fn arrive(&mut self, from: SocketAddr, port: u16, datagram: &[u8]) {
        let flow = Flow {
            protocol: FlowProtocol::Udp,
            local: (HERE, port).into(),
            remote: from,
        };
        let now = self.simulation.now();
        let engine = &mut self.simulation.engine;
        engine.handle_plain_datagram(now, flow, &mut datagram.to_vec());
    }

    /// One packet of audio and a key frame of video every 20 ms.
    fn publish(&mut self, packets: u16) {
        for _ in 0..packets {
            self.sent += 1;
            let (audio, video) = (rtp(OPUS, self.sent), rtp(VP8, self.sent));
            // From other ports than it receives on.
            self.arrive((GATEWAY, 45_678).into(), 20_000, &audio);
            self.arrive((GATEWAY, 45_680).into(), 20_002, &video);
            self.simulation.run_for(Duration::from_millis(20));
        }
    }

    fn discarded(&self, reason: Discard) -> u64 {
        self.simulation.engine.counters().discarded[reason as usize]
    }

    fn take_told(&self) -> Vec<Event> {
        std::mem::take(&mut self.told.lock().unwrap())
    }

    /// What the gateway got on a port of its own.
    fn received(&mut self, port: u16) -> Vec<(Flow, Vec<u8>)> {
        self.received_by((GATEWAY, port).into())
    }

    fn received_by(&mut self, address: SocketAddr) -> Vec<(Flow, Vec<u8>)> {
        let mut strays = self.simulation.take_strays();
        strays.retain(|(flow, _)| flow.remote == address);
        strays
    }
}

fn rtp((payload_type, ssrc): (u8, u32), number: u16) -> Vec<u8> {
    let codec = if payload_type == VP8.0 {
        Codec::Vp8
    } else {
        Codec::Opus
    };
    let ticks = codec.clock_rate().hertz() / 50;
    let mut packet = vec![0x80, 0x80 | payload_type];
    packet.extend_from_slice(&number.to_be_bytes());
    packet.extend_from_slice(&(u32::from(number) * ticks).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    let picture = Picture {
        key: true,
        first: true,
        picture_id: number,
        tl0_picture_index: number as u8,
    };
    let stamp = Stamp {
        source: ssrc,
        number: number.into(),
        sent_micros: 0,
    };
    packet.resize(12 + 200, 0);
    write(codec, &picture, &stamp, &mut packet[12..]);
    packet
}

fn picture_losses(datagrams: &[(Flow, Vec<u8>)]) -> usize {
    datagrams
        .iter()
        .flat_map(|(_, bytes)| Packets::new(bytes))
        .filter(|packet| matches!(packet, Ok(Packet::PictureLoss(Ssrc(ssrc))) if *ssrc == VP8.1))
        .count()
}

#[test]
fn gateway_is_seen_by_a_browser() {
    let mut bed = Bed::offered(&offer("RTP/AVPF", "sendonly"));
    let viewer = bed.simulation.join(PeerConfig::viewer(2));
    let (now, sink) = (bed.simulation.now(), bed.simulation.element(viewer).clone());
    let engine = &mut bed.simulation.engine;
    engine.connect(now, &bed.endpoint, &sink, None).unwrap();

    bed.publish(200);

    for (kind, ssrc) in [(Audio, OPUS.1), (Video, VP8.1)] {
        let stream = bed.simulation.peer(viewer).received(kind).unwrap();
        assert_eq!((stream.corrupt, stream.stats().lost), (0, 0));
        assert!(stream.packets.len() > 190, "{kind:?}");
        let stamp = stream.packets[0].stamp.unwrap();
        assert_eq!(stamp.source, ssrc);
    }
    let told = bed.take_told();
    let connected = Event::MediaStateChanged(MediaState::Connected);
    assert!(told.contains(&connected));
    for kind in [Audio, Video] {
        let flowing = true;
        assert!(told.contains(&Event::MediaFlowInChanged { kind, flowing }));
    }
    let reports = bed.received(30_003);
    assert!(reports.iter().all(|(flow, _)| flow.local.port() == 20_003));
    let about_video = |packet: &Packet<'_>| match packet {
        Packet::ReceiverReport(report) => report.blocks.clone().any(|block| block.ssrc.0 == VP8.1),
        _ => false,
    };
    let mut packets = reports.iter().flat_map(|(_, bytes)| Packets::new(bytes));
    assert!(packets.any(|packet| about_video(&packet.unwrap())));
}

#[test]
fn gateway_is_asked_for_a_key_frame_if_it_speaks_feedback() {
    for (profile, expected) in [("RTP/AVPF", true), ("RTP/AVP", false)] {
        let mut bed = Bed::offered(&offer(profile, "sendonly"));
        bed.publish(1);
        let viewer = bed.simulation.join(PeerConfig::viewer(2));
        let (now, sink) = (bed.simulation.now(), bed.simulation.element(viewer).clone());
        bed.simulation.take_strays();
        let engine = &mut bed.simulation.engine;
        engine.connect(now, &bed.endpoint, &sink, None).unwrap();
        bed.simulation.run_for(SECOND);

        let asked = picture_losses(&bed.received(30_003));

        assert_eq!(asked > 0, expected, "{profile}");
    }
}

#[test]
fn browser_is_seen_by_a_gateway() {
    let mut bed = Bed::new();
    let publisher = bed.simulation.join(PeerConfig::publisher(2));
    let source = bed.simulation.element(publisher).clone();
    let now = bed.simulation.now();
    let engine = &mut bed.simulation.engine;
    engine.connect(now, &source, &bed.endpoint, None).unwrap();
    let answer = bed.process_offer(&offer("RTP/AVPF", "recvonly")).unwrap();
    for line in ["c=IN IP4 198.51.100.1", "m=audio 20000 ", "m=video 20002 "] {
        assert!(answer.contains(line), "{line}: {answer}");
    }
    let peer = bed.simulation.peer_mut(publisher);
    peer.set_pace(now, Audio, Some(Pace::AUDIO));
    peer.set_pace(now, Video, Some(Pace::VIDEO));
    bed.simulation.run_for(3 * SECOND);

    let strays = bed.simulation.take_strays();
    let mut video_ssrc = 0;
    for (kind, codec, payload_type, port) in [
        (Audio, Codec::Opus, OPUS.0, 30_000),
        (Video, Codec::Vp8, VP8.0, 30_002),
    ] {
        let to = |port: u16| {
            let address = SocketAddr::from((GATEWAY, port));
            strays
                .iter()
                .filter(move |(flow, _)| flow.remote == address)
        };
        assert!(to(port).count() > 140, "{kind:?}");
        for ((flow, packet), number) in to(port).zip(0..) {
            assert_eq!(flow.local.port(), port - 10_000);
            let header = Header::parse(packet).unwrap();
            assert_eq!(header.payload_type().0, payload_type);
            assert_eq!(verify(codec, header.payload()).unwrap().number, number);
            video_ssrc = header.ssrc().0;
        }
        let mut reports = to(port + 1).flat_map(|(_, bytes)| Packets::new(bytes));
        assert!(reports.any(|packet| matches!(packet, Ok(Packet::SenderReport(_)))));
    }
    // What it asks for reaches the browser.
    let before = bed
        .simulation
        .peer(publisher)
        .feedback(Video)
        .unwrap()
        .picture_losses;
    let mut rtcp = Vec::new();
    write_receiver_report(&mut rtcp, Ssrc(9), &[]);
    write_picture_loss(&mut rtcp, Ssrc(9), Ssrc(video_ssrc));
    bed.arrive((GATEWAY, 30_003).into(), 20_003, &rtcp);
    bed.simulation.run_for(SECOND);
    let after = bed
        .simulation
        .peer(publisher)
        .feedback(Video)
        .unwrap()
        .picture_losses;
    assert_eq!(after, before + 1);

    let (now, endpoint) = (bed.simulation.now(), bed.endpoint.clone());
    bed.simulation.take_strays();
    bed.simulation.engine.release_element(now, &endpoint);
    bed.simulation.run_for(SECOND);

    let rest = bed.simulation.take_strays();
    assert_eq!(rest.len(), 2, "one goodbye for each stream");
    let mut goodbye = Vec::new();
    write_goodbye(&mut goodbye, &[Ssrc(video_ssrc)]);
    assert!(rest.iter().any(|(_, bytes)| bytes.ends_with(&goodbye)));
    assert_eq!(bed.simulation.engine.poll_released_ports(), Some(PORTS));
    assert_eq!(bed.simulation.engine.poll_released_ports(), None);
    assert_eq!(bed.simulation.engine.counters().transports, 1);
}

#[test]
fn strangers_are_not_heard() {
    let mut bed = Bed::offered(&offer("RTP/AVPF", "sendrecv"));
    let packet = rtp(OPUS, 1);
    bed.arrive((STRANGER, 30_000).into(), 20_000, &packet);
    bed.arrive(
        (STRANGER, 30_001).into(),
        20_001,
        &[0x80, 201, 0, 1, 0, 0, 0, 9],
    );
    // A port that nobody has.
    bed.arrive((GATEWAY, 30_000).into(), 20_004, &packet);

    assert_eq!(bed.discarded(Discard::NotValidated), 3);
    assert_eq!(bed.simulation.engine.counters().rtp_received, 0);
    assert_eq!(bed.take_told(), []);
    bed.arrive((GATEWAY, 30_000).into(), 20_000, &packet);
    assert_eq!(bed.simulation.engine.counters().rtp_received, 1);
}

#[test]
fn plain_media_does_not_pass_at_the_door_of_browsers() {
    let mut bed = Bed::offered(&offer("RTP/AVPF", "sendrecv"));
    let flow = Flow {
        protocol: FlowProtocol::Udp,
        local: (HERE, 20_000).into(),
        remote: (GATEWAY, 30_000).into(),
    };
    bed.simulation.inject(flow, &rtp(OPUS, 1));
    assert_eq!(bed.discarded(Discard::NotValidated), 1);
}

#[test]
fn active_peer_is_learnt_from_its_first_media() {
    let active = offer("RTP/AVPF", "sendrecv").replace("t=0 0", "t=0 0\r\na=direction:active");
    let mut bed = Bed::new();
    let answer = bed.process_offer(&active).unwrap();
    assert!(answer.contains("a=direction:passive"));
    let publisher = bed.simulation.join(PeerConfig::publisher(2));
    let (now, source) = (
        bed.simulation.now(),
        bed.simulation.element(publisher).clone(),
    );
    let engine = &mut bed.simulation.engine;
    engine.connect(now, &source, &bed.endpoint, None).unwrap();
    let peer = bed.simulation.peer_mut(publisher);
    peer.set_pace(now, Video, Some(Pace::VIDEO));
    bed.simulation.run_for(SECOND);
    assert_eq!(bed.simulation.take_strays(), [], "nobody was heard yet");

    // What is no media of this session teaches nothing.
    bed.arrive((STRANGER, 1000).into(), 20_002, &rtp(OPUS, 1));
    bed.arrive((STRANGER, 1000).into(), 20_002, b"hello");
    let home = SocketAddr::from(([203, 0, 113, 9], 6000));
    bed.arrive(home, 20_002, &rtp(VP8, 1));
    bed.arrive((STRANGER, 1000).into(), 20_002, &rtp(VP8, 2));
    bed.simulation.run_for(SECOND);

    let strays = bed.simulation.take_strays();
    assert!(strays.len() > 20, "{}", strays.len());
    assert!(strays.iter().all(|(flow, _)| flow.remote == home));
    assert_eq!(bed.simulation.engine.counters().rtp_received, 1 + 75 * 2);
    // Its RTCP comes from another port of the same host.
    let home_rtcp = SocketAddr::new(home.ip(), 6999);
    bed.arrive(home_rtcp, 20_003, &[0x80, 201, 0, 1, 0, 0, 0, 9]);
    bed.simulation.run_for(2 * SECOND);
    assert!(!bed.received_by(home_rtcp).is_empty());
}

#[test]
fn two_rtp_endpoints_understand_each_other() {
    let mut bed = Bed::new();
    let (now, pipeline) = (bed.simulation.now(), bed.simulation.pipeline().clone());
    let there = RtpPorts {
        told: PlainPorts {
            audio: 20_004,
            video: 20_006,
            ..PORTS.told
        },
        ..PORTS
    };
    let engine = &mut bed.simulation.engine;
    let other = engine
        .create_rtp_endpoint(now, &pipeline, there, None, EventSender::discard())
        .unwrap();
    let options = OfferOptions {
        audio: true,
        video: true,
    };

    let offer = engine.generate_offer(now, &bed.endpoint, options).unwrap();
    let answer = engine.process_offer(now, &other, &offer).unwrap();
    assert_eq!(
        engine.process_answer(now, &bed.endpoint, &answer),
        Ok(offer)
    );

    bed.arrive((HERE, 20_006).into(), 20_002, &rtp((VP8.0, 7), 1));
    assert_eq!(bed.discarded(Discard::NotValidated), 0);
}

#[test]
fn rtp_endpoint_negotiates_once_and_without_ice() {
    let mut bed = Bed::new();
    let now = bed.simulation.now();
    let endpoint = bed.endpoint.clone();
    let offer = offer("RTP/AVP", "sendrecv");
    let refused = Err(Error::AlreadyNegotiated);
    let engine = &mut bed.simulation.engine;
    assert_eq!(
        engine.process_answer(now, &endpoint, &offer),
        Err(Error::NoOffer)
    );
    engine.process_offer(now, &endpoint, &offer).unwrap();
    assert_eq!(engine.process_offer(now, &endpoint, &offer), refused);
    assert_eq!(engine.process_answer(now, &endpoint, &offer), refused);
    let offered = engine.generate_offer(now, &endpoint, OfferOptions::default());
    assert_eq!(offered, refused);
    let unsupported = |operation| {
        Err(Error::Unsupported {
            element: endpoint.clone(),
            operation,
        })
    };
    let gathered = engine.gather_candidates(now, &endpoint);
    assert_eq!(gathered, unsupported("gatherCandidates"));
    let candidate = IceCandidate {
        candidate: String::new(),
        sdp_mid: String::new(),
        sdp_m_line_index: 0,
    };
    let added = engine.add_ice_candidate(now, &endpoint, &candidate);
    assert_eq!(added, unsupported("addIceCandidate"));
}

#[test]
fn peers_that_cannot_be_reached_are_refused() {
    let mut bed = Bed::new();
    let foreign =
        offer("RTP/AVP", "sendrecv").replace("c=IN IP4 192.0.2.50", "c=IN IP6 2001:db8::1");
    assert!(matches!(bed.process_offer(&foreign), Err(Error::Sdp(_))));
    // Nothing has changed.
    assert_eq!(bed.simulation.engine.counters().transports, 0);
    assert!(bed.process_offer(&offer("RTP/AVP", "sendrecv")).is_ok());
}

#[test]
fn ports_come_back_if_the_endpoint_cannot_be_made() {
    let mut bed = Bed::new();
    let now = bed.simulation.now();
    let nowhere = PipelineId::new("nowhere");
    let engine = &mut bed.simulation.engine;
    let events = EventSender::discard;
    let made = engine.create_rtp_endpoint(now, &nowhere, PORTS, None, events());
    assert_eq!(made, Err(Error::PipelineNotFound(nowhere)));
    assert_eq!(engine.poll_released_ports(), Some(PORTS));
    let pipeline = bed.simulation.pipeline().clone();
    let engine = &mut bed.simulation.engine;
    let made = engine.create_element(
        now,
        &pipeline,
        ElementKind::RtpEndpoint {
            sdes: None,
            ipv6: false,
        },
        events(),
    );
    assert!(matches!(made, Err(Error::Unsupported { .. })));

    engine.release_pipeline(now, &pipeline);

    assert_eq!(engine.poll_released_ports(), Some(PORTS));
}

fn any_kind() -> impl Strategy<Value = MediaKind> {
    prop_oneof![Just(Audio), Just(Video)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_changes_nothing(
        datagrams in prop::collection::vec(
            (any_kind(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..200)),
            0..40,
        ),
        learns in any::<bool>(),
    ) {
        let mut offer = offer("RTP/AVPF", "sendrecv");
        if learns {
            offer = offer.replace("t=0 0", "t=0 0\r\na=direction:active");
        }
        let mut bed = Bed::offered(&offer);
        for (kind, is_rtcp, mut datagram) in datagrams {
            let port = if kind == Audio { 20_000 } else { 20_002 } + u16::from(is_rtcp);
            bed.arrive((GATEWAY, port).into(), port, &datagram);
            // As much as possible of what looks right.
            if let Some(first) = datagram.first_mut() {
                *first = 0x80 | *first & 0x3f;
                bed.arrive((GATEWAY, port).into(), port, &datagram);
            }
        }
        bed.simulation.run_for(SECOND);
        assert_eq!(bed.simulation.engine.counters().panics, 0);
    }
}
