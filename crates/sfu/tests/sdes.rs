//! RTP endpoints whose media are secured by keys in the descriptions (SDES).

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use forwarding::codec::Codec;
use forwarding::rtp::Header;
use media::{CryptoSuite, ElementId, Error, Event, EventSender, MediaState, OfferOptions, Sdes};
use media_bench::payload::{Picture, Stamp, verify, write};
use media_bench::peer::PeerConfig;
use media_bench::simulation::Simulation;
use sfu::engine::RtpPorts;
use sfu::engine::counters::Discard;
use sfu::engine::flow::{Flow, FlowProtocol};
use sfu::engine::sdp::PlainPorts;
use sfu::engine::srtp::{MasterKey, Opener, Profile, ReceiveIndex, Sealer};
use std::sync::{Arc, Mutex};

const GATEWAY: [u8; 4] = [192, 0, 2, 50];
const HERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const HEADER_LEN: usize = 12;
const SSRC: u32 = 1001;
const SUITES: [(CryptoSuite, &str, Profile); 4] = [
    (
        CryptoSuite::Aes128CmHmacSha1_80,
        "AES_CM_128_HMAC_SHA1_80",
        Profile::Aes128CmHmacSha1_80,
    ),
    (
        CryptoSuite::Aes128CmHmacSha1_32,
        "AES_CM_128_HMAC_SHA1_32",
        Profile::Aes128CmHmacSha1_32,
    ),
    (
        CryptoSuite::Aes256CmHmacSha1_80,
        "AES_256_CM_HMAC_SHA1_80",
        Profile::Aes256CmHmacSha1_80,
    ),
    (
        CryptoSuite::Aes256CmHmacSha1_32,
        "AES_256_CM_HMAC_SHA1_32",
        Profile::Aes256CmHmacSha1_32,
    ),
];

/// An RTP endpoint that returns to its gateway what that sends.
struct Bed {
    simulation: Simulation,
    endpoint: ElementId,
    told: Arc<Mutex<Vec<Event>>>,
}

impl Bed {
    fn new(sdes: Option<Sdes>) -> Self {
        let mut simulation = Simulation::new(1);
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let events = EventSender::new(move |event| sink.lock().unwrap().push(event));
        let (now, pipeline) = (simulation.now(), simulation.pipeline().clone());
        let engine = &mut simulation.engine;
        let endpoint = engine
            .create_rtp_endpoint(now, &pipeline, ports(20_000), sdes, events)
            .unwrap();
        engine.connect(now, &endpoint, &endpoint, None).unwrap();
        Self {
            simulation,
            endpoint,
            told,
        }
    }

    fn process_offer(&mut self, offer: &str) -> String {
        let now = self.simulation.now();
        let engine = &mut self.simulation.engine;
        engine.process_offer(now, &self.endpoint, offer).unwrap()
    }

    fn arrive(&mut self, from: SocketAddr, mut datagram: Vec<u8>) {
        let flow = Flow {
            protocol: FlowProtocol::Udp,
            local: (HERE, 20_000).into(),
            remote: from,
        };
        let now = self.simulation.now();
        let engine = &mut self.simulation.engine;
        engine.handle_plain_datagram(now, flow, &mut datagram);
        self.simulation.run_for(Duration::from_millis(20));
    }

    /// RTP that was sent to an address.
    fn received(&mut self, address: SocketAddr) -> Vec<Vec<u8>> {
        let strays = self.simulation.take_strays().into_iter();
        let to = strays.filter(|(flow, _)| flow.remote == address);
        to.map(|(_, datagram)| datagram).collect()
    }

    fn is_connected(&self) -> bool {
        let connected = Event::MediaStateChanged(MediaState::Connected);
        self.told.lock().unwrap().contains(&connected)
    }

    fn strangers(&self) -> u64 {
        let discarded = self.simulation.engine.counters().discarded;
        discarded[Discard::NotValidated as usize] + discarded[Discard::Unauthentic as usize]
    }
}

fn ports(audio: u16) -> RtpPorts {
    RtpPorts {
        bound: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        told: PlainPorts {
            address: HERE.into(),
            audio,
            video: audio + 2,
        },
    }
}

fn secret(suite: CryptoSuite) -> Vec<u8> {
    (0..suite.key_bytes() as u8).collect()
}

fn offer(profile: &str, attributes: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.50\r\ns=-\r\nc=IN IP4 192.0.2.50\r\nt=0 0\r\n\
         m=audio 30000 {profile} 98\r\na=rtpmap:98 opus/48000/2\r\n{attributes}a=sendrecv\r\n"
    )
}

fn crypto(suite: CryptoSuite, name: &str) -> String {
    let key = BASE64.encode(secret(suite));
    format!(
        "a=crypto:1 F8_128_HMAC_SHA1_80 inline:{key}\r\na=crypto:3 {name} inline:{key}|2^31\r\n"
    )
}

fn master_key(profile: Profile, bytes: &[u8]) -> MasterKey {
    let (key, salt) = bytes.split_at(profile.key_len());
    MasterKey::new(profile, key, salt)
}

/// A packet of audio, with room for a tag.
fn packet(number: u16, tag_len: usize) -> Vec<u8> {
    let mut packet = vec![0x80, 0x80 | 98];
    packet.extend_from_slice(&number.to_be_bytes());
    packet.extend_from_slice(&(u32::from(number) * 960).to_be_bytes());
    packet.extend_from_slice(&SSRC.to_be_bytes());
    packet.resize(HEADER_LEN + 100, 0);
    let picture = Picture {
        key: true,
        first: true,
        picture_id: number,
        tl0_picture_index: 0,
    };
    let stamp = Stamp {
        source: SSRC,
        number: number.into(),
        sent_micros: 0,
    };
    write(Codec::Opus, &picture, &stamp, &mut packet[HEADER_LEN..]);
    packet.resize(packet.len() + tag_len, 0);
    packet
}

fn sealed(sealer: &Sealer, number: u16) -> Vec<u8> {
    let mut packet = packet(number, sealer.rtp_overhead());
    sealer.seal_rtp(number.into(), SSRC, HEADER_LEN, &mut packet);
    packet
}

#[test]
fn secured_gateway_gets_back_what_it_sends() {
    for (suite, name, profile) in SUITES {
        let ours: Vec<u8> = secret(suite).into_iter().rev().collect();
        let mut bed = Bed::new(Sdes::with_key(suite, ours.clone()));
        let answer = bed.process_offer(&offer("RTP/SAVPF", &crypto(suite, name)));
        assert!(answer.contains("m=audio 20000 RTP/SAVPF 98"), "{answer}");
        let line = format!("a=crypto:3 {name} inline:{}\r\n", BASE64.encode(&ours));
        assert!(answer.contains(&line), "{answer}");

        let sealer = Sealer::new(&master_key(profile, &secret(suite)));
        for number in 0..20 {
            bed.arrive((GATEWAY, 41_000).into(), sealed(&sealer, number));
        }

        assert!(bed.is_connected());
        let opener = Opener::new(&master_key(profile, &ours));
        let mut index = ReceiveIndex::default();
        let received = bed.received((GATEWAY, 30_000).into());
        assert_eq!(received.len(), 20, "{name}");
        for (mut packet, number) in received.into_iter().zip(0..) {
            let len = opener
                .open_rtp(&mut index, HEADER_LEN, &mut packet)
                .unwrap();
            let stamp = verify(Codec::Opus, &packet[HEADER_LEN..len]).unwrap();
            assert_eq!(stamp.number, number);
        }
    }
}

#[test]
fn secured_gateway_that_never_sends_is_sent_to() {
    for (suite, name, profile) in SUITES {
        let ours: Vec<u8> = secret(suite).into_iter().rev().collect();
        let mut bed = Bed::new(Sdes::with_key(suite, ours.clone()));
        let publisher = bed.simulation.join(PeerConfig::publisher(2));
        // Its key frame is over when the gateway comes.
        bed.simulation.start_media(publisher);
        bed.simulation.run_for(Duration::from_secs(2));
        let source = bed.simulation.element(publisher).clone();
        let now = bed.simulation.now();
        let engine = &mut bed.simulation.engine;
        engine.connect(now, &source, &bed.endpoint, None).unwrap();
        let keys = crypto(suite, name);
        let offer = offer("RTP/SAVPF", &keys).replace("sendrecv", "recvonly");
        let video = format!(
            "m=video 30002 RTP/SAVPF 100\r\na=rtpmap:100 VP8/90000\r\n{keys}a=recvonly\r\n"
        );
        bed.process_offer(&(offer + &video));

        bed.simulation.run_for(Duration::from_secs(2));

        let sent = bed.simulation.take_strays();
        for (codec, port) in [(Codec::Opus, 30_000), (Codec::Vp8, 30_002)] {
            let opener = Opener::new(&master_key(profile, &ours));
            let mut index = ReceiveIndex::default();
            let address = SocketAddr::from((GATEWAY, port));
            let packets = sent.iter().filter(|(flow, _)| flow.remote == address);
            let mut count = 0;
            for (_, packet) in packets {
                let header_len = Header::parse_protected(packet).unwrap().header_len();
                let mut packet = packet.clone();
                let len = opener
                    .open_rtp(&mut index, header_len, &mut packet)
                    .unwrap();
                verify(codec, &packet[header_len..len]).unwrap();
                count += 1;
            }
            assert!(count > 50, "{count} packets of {codec:?} by {name}");
        }
    }
}

#[test]
fn who_has_no_key_is_nobody() {
    let (suite, name, profile) = SUITES[0];
    let active = format!("{}a=direction:active\r\n", crypto(suite, name));
    for attributes in [crypto(suite, name), active] {
        let mut bed = Bed::new(Some(Sdes::random(suite)));
        bed.process_offer(&offer("RTP/SAVP", &attributes));
        let stranger = Sealer::new(&master_key(profile, &[7; 30]));
        bed.arrive((GATEWAY, 666).into(), packet(1, 0));
        bed.arrive((GATEWAY, 666).into(), sealed(&stranger, 2));
        assert!(!bed.is_connected());
        assert_eq!(bed.strangers(), 2);

        let peer = Sealer::new(&master_key(profile, &secret(suite)));
        bed.arrive((GATEWAY, 30_000).into(), sealed(&peer, 3));
        bed.arrive((GATEWAY, 30_000).into(), sealed(&peer, 4));
        assert!(bed.is_connected());
        assert!(!bed.received((GATEWAY, 30_000).into()).is_empty());
    }
}

#[test]
fn secured_endpoints_understand_each_other() {
    let (suite, name, _) = SUITES[2];
    let mut bed = Bed::new(Some(Sdes::random(suite)));
    let (now, pipeline) = (bed.simulation.now(), bed.simulation.pipeline().clone());
    let engine = &mut bed.simulation.engine;
    let mut make = |port, suite| {
        let (sdes, events) = (Some(Sdes::random(suite)), EventSender::discard());
        let made = engine.create_rtp_endpoint(now, &pipeline, ports(port), sdes, events);
        made.unwrap()
    };
    let (alike, other) = (make(20_004, suite), make(20_008, SUITES[3].0));
    let options = OfferOptions::default();
    let offer = engine.generate_offer(now, &bed.endpoint, options).unwrap();
    assert_eq!(
        offer.matches(&format!("a=crypto:1 {name} inline:")).count(),
        2
    );

    let answer = engine.process_offer(now, &other, &offer).unwrap();
    assert!(!answer.contains("a=crypto") && answer.contains("m=audio 0 "));
    let answer = engine.process_offer(now, &alike, &offer).unwrap();
    let in_the_clear = answer.replace("a=crypto", "a=x-crypto");
    let refused = engine.process_answer(now, &bed.endpoint, &in_the_clear);
    assert!(matches!(refused, Err(Error::Sdp(_))), "{refused:?}");
    let local = engine.process_answer(now, &bed.endpoint, &answer).unwrap();
    assert_eq!(local, offer);
}
