//! Timestamps count by the clock of the codec that is forwarded, whichever is listed first.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use forwarding::rtcp::{Packet, Packets, SenderInfo};
use forwarding::rtp::Header;
use media::{ElementId, EventSender};
use media_bench::simulation::Simulation;
use sfu::engine::RtpPorts;
use sfu::engine::flow::{Flow, FlowProtocol};
use sfu::engine::sdp::PlainPorts;

const HERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const SENDER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);
const RECEIVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 60);
const PACKET_TIME: Duration = Duration::from_millis(20);
const PACKETS: usize = 50;
const SILENCE: Duration = Duration::from_secs(5);

/// Payload type and clock rate.
const OPUS: (u8, u32) = (98, 48_000);
const PCMU: (u8, u32) = (0, 8_000);

/// Two gateways, one of which hears the other.
struct Bed {
    simulation: Simulation,
    sent: u16,
    timestamp: u32,
}

impl Bed {
    /// With the one who hears on a worker of two.
    fn new(sender_formats: &str, worker: usize) -> Self {
        let mut simulation = Simulation::with_workers(1, 2);
        let source = join(
            &mut simulation,
            0,
            SENDER,
            20_000,
            sender_formats,
            "sendonly",
        );
        let sink = join(
            &mut simulation,
            worker,
            RECEIVER,
            20_010,
            "98 0",
            "recvonly",
        );
        let now = simulation.now();
        let engine = simulation.engine_on(worker);
        engine.connect(now, &source, &sink, None).unwrap();
        simulation.run_for(PACKET_TIME);
        Self {
            simulation,
            sent: 0,
            timestamp: 1_000_000,
        }
    }

    /// Sends for a second, and returns the clock by which the receiver is told of time, in Hz: that of
    /// packets, and that of sender reports in the silence after them.
    fn speak(&mut self, (payload_type, clock_rate): (u8, u32)) -> (f64, f64) {
        for _ in 0..PACKETS {
            self.sent += 1;
            self.timestamp += clock_rate / 50;
            let mut packet = vec![0x80, payload_type];
            packet.extend_from_slice(&self.sent.to_be_bytes());
            packet.extend_from_slice(&self.timestamp.to_be_bytes());
            packet.extend_from_slice(&77_u32.to_be_bytes());
            packet.extend_from_slice(&[1; 160]);
            let flow = Flow {
                protocol: FlowProtocol::Udp,
                local: (HERE, 20_000).into(),
                remote: (SENDER, 30_000).into(),
            };
            let now = self.simulation.now();
            let engine = &mut self.simulation.engine;
            engine.handle_plain_datagram(now, flow, &mut packet);
            self.simulation.run_for(PACKET_TIME);
        }
        let timestamps: Vec<_> = received(&self.simulation.take_strays(), 30_000)
            .map(|bytes| Header::parse(bytes).unwrap().timestamp())
            .collect();
        assert_eq!(timestamps.len(), PACKETS);
        let ticks = timestamps[PACKETS - 1].ticks_from(timestamps[0]);
        let packets = f64::from(ticks) / (PACKET_TIME.as_secs_f64() * (PACKETS - 1) as f64);

        self.simulation.run_for(SILENCE);
        let strays = self.simulation.take_strays();
        let infos: Vec<SenderInfo> = received(&strays, 30_001)
            .flat_map(Packets::new)
            .filter_map(|packet| match packet.unwrap() {
                Packet::SenderReport(report) => Some(report.info),
                _ => None,
            })
            .collect();
        assert!(infos.len() >= 3);
        let (first, last) = (infos[0], infos[infos.len() - 1]);
        let elapsed = last.ntp.units_from(first.ntp) as f64 / (1_u64 << 32) as f64;
        let reports = f64::from(last.timestamp.ticks_from(first.timestamp)) / elapsed;
        self.timestamp += clock_rate * SILENCE.as_secs() as u32;
        (packets, reports)
    }
}

fn received(strays: &[(Flow, Vec<u8>)], port: u16) -> impl Iterator<Item = &[u8]> {
    let to = SocketAddr::from((RECEIVER, port));
    strays
        .iter()
        .filter(move |(flow, _)| flow.remote == to)
        .map(|(_, bytes)| &bytes[..])
}

fn join(
    simulation: &mut Simulation,
    worker: usize,
    address: Ipv4Addr,
    port: u16,
    formats: &str,
    direction: &str,
) -> ElementId {
    let ports = RtpPorts {
        bound: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        told: PlainPorts {
            address: HERE.into(),
            audio: port,
            video: port + 2,
        },
    };
    let (now, pipeline) = (simulation.now(), simulation.pipeline().clone());
    let engine = simulation.engine_on(worker);
    let id = engine
        .create_rtp_endpoint(now, &pipeline, ports, None, EventSender::discard())
        .unwrap();
    let offer = format!(
        "v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n\
         m=audio 30000 RTP/AVPF {formats}\r\na=rtpmap:98 opus/48000/2\r\na={direction}\r\n"
    );
    engine.process_offer(now, &id, &offer).unwrap();
    id
}

fn check((packets, reports): (f64, f64), (_, clock_rate): (u8, u32)) {
    let expected = f64::from(clock_rate);
    for measured in [packets, reports] {
        assert!(
            (measured / expected - 1.0).abs() < 0.02,
            "packets by {packets} Hz, reports by {reports} Hz, instead of {expected}"
        );
    }
}

#[test]
fn reports_count_by_the_codec_that_is_sent_and_not_the_first_in_the_list() {
    for (formats, sent) in [("0", PCMU), ("98", OPUS), ("98 0", PCMU), ("98 0", OPUS)] {
        for worker in [0, 1] {
            let mut bed = Bed::new(formats, worker);
            check(bed.speak(sent), sent);
        }
    }
}

#[test]
fn reports_follow_a_publisher_that_changes_its_codec() {
    for worker in [0, 1] {
        let mut bed = Bed::new("98 0", worker);
        for sent in [OPUS, PCMU, OPUS] {
            check(bed.speak(sent), sent);
        }
    }
}
