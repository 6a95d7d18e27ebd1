//! The media server on real sockets of this machine.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::num::NonZeroUsize;
use std::process::Command as Process;
use std::time::Duration;

use media::{ElementId, ElementKind, Error, EventSender, MediaServer, PipelineId};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use rtc_stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USERNAME};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId};

use super::framing;
use crate::config::Pinning;
use crate::{Config, NativeMediaServer};

mod placement;
mod port;
mod relay;
mod rtp;

/// Limit of waiting for an answer; nothing takes that long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a peer with sound only offers.
const OFFER: &str = "v=0\r
o=- 1 1 IN IP4 0.0.0.0\r
s=-\r
t=0 0\r
a=group:BUNDLE 0\r
m=audio 9 UDP/TLS/RTP/SAVPF 111\r
c=IN IP4 0.0.0.0\r
a=mid:0\r
a=ice-ufrag:peer\r
a=ice-pwd:0123456789012345678901\r
a=fingerprint:sha-256 \
00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r
a=setup:actpass\r
a=sendonly\r
a=rtcp-mux\r
a=rtpmap:111 opus/48000/2\r
";

fn start(workers: usize) -> NativeMediaServer {
    let config = Config {
        udp_port: 0,
        workers: NonZeroUsize::new(workers).unwrap(),
        ..Config::default()
    };
    NativeMediaServer::start(&config).unwrap()
}

async fn endpoint(server: &NativeMediaServer) -> (PipelineId, ElementId) {
    let pipeline = server
        .create_pipeline(EventSender::discard())
        .await
        .unwrap();
    let element = element(server, &pipeline).await.unwrap();
    (pipeline, element)
}

async fn element(server: &NativeMediaServer, pipeline: &PipelineId) -> Result<ElementId, Error> {
    let kind = ElementKind::WebRtcEndpoint {
        data_channels: false,
        peer: None,
    };
    server
        .create_element(pipeline, kind, EventSender::discard())
        .await
}

/// What a peer must know for its connectivity checks to be answered.
struct Session {
    username: String,
    password: String,
}

impl Session {
    async fn negotiate(server: &NativeMediaServer) -> Self {
        let (_, endpoint) = endpoint(server).await;
        let answer = server.process_offer(&endpoint, OFFER).await.unwrap();
        let attribute = |name: &str| {
            let value = answer.lines().find_map(|line| line.strip_prefix(name));
            value.unwrap().trim().to_owned()
        };
        Self {
            username: format!("{}:peer", attribute("a=ice-ufrag:")),
            password: attribute("a=ice-pwd:"),
        }
    }

    /// A connectivity check, which is good for one 5-tuple.
    fn request(&self) -> Vec<u8> {
        let provider = rtc_crypto::default_provider().unwrap();
        let mut message = Message::new();
        message.set_type(BINDING_REQUEST);
        message.write_header();
        TransactionId::new().add_to(&mut message).unwrap();
        message.add(ATTR_USERNAME, self.username.as_bytes());
        message.add(ATTR_PRIORITY, &[0x6e, 0, 1, 0xff]);
        message.add(ATTR_ICE_CONTROLLING, &[7; 8]);
        let password = self.password.clone();
        MessageIntegrity::new_short_term_integrity_with_provider(password, provider.crypto())
            .add_to(&mut message)
            .unwrap();
        FINGERPRINT.add_to(&mut message).unwrap();
        message.raw
    }
}

fn is_success(answer: &[u8], request: &[u8]) -> bool {
    let mut message = Message::new();
    message.unmarshal_binary(answer).is_ok()
        && message.typ == BINDING_SUCCESS
        && message.transaction_id.0 == request[8..20]
}

fn udp_peer(server: SocketAddr) -> UdpSocket {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server).unwrap();
    socket
}

fn check_udp(peer: &UdpSocket, request: &[u8]) {
    peer.send(request).unwrap();
    let mut answer = [0; 2000];
    let len = peer.recv(&mut answer).unwrap();
    assert!(is_success(&answer[..len], request));
}

fn check_tcp(peer: &mut TcpStream, request: &[u8]) {
    peer.write_all(&u16::try_from(request.len()).unwrap().to_be_bytes())
        .unwrap();
    peer.write_all(request).unwrap();
    let mut len = [0; 2];
    peer.read_exact(&mut len).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    peer.read_exact(&mut answer).unwrap();
    assert!(is_success(&answer, request));
}

/// The loopback addresses which this machine has.
fn loopbacks() -> impl Iterator<Item = IpAddr> {
    [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ]
    .into_iter()
    .filter(|ip| UdpSocket::bind((*ip, 0)).is_ok())
}

#[tokio::test]
async fn stun_is_answered_over_udp_and_tcp() {
    let server = start(1);
    let session = Session::negotiate(&server).await;
    for ip in loopbacks() {
        let address = SocketAddr::new(ip, server.ports()[0]);

        check_udp(&udp_peer(address), &session.request());

        let mut peer = TcpStream::connect(address).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        check_tcp(&mut peer, &session.request());
    }
}

#[tokio::test]
async fn garbage_leaves_the_server_alive() {
    let server = start(1);
    let request = Session::negotiate(&server).await.request();
    let peer = udp_peer((Ipv4Addr::LOCALHOST, server.ports()[0]).into());
    let mut random = StdRng::seed_from_u64(1);
    let mut garbage = [0; 1500];
    for _ in 0..200 {
        for _ in 0..50 {
            random.fill_bytes(&mut garbage);
            let len = random.random_range(1..=garbage.len());
            peer.send(&garbage[..len]).unwrap();
        }
        peer.send(&[]).unwrap();
        // The answer tells that all before it has been handled, so that no socket overflows.
        check_udp(&peer, &request);
    }

    let metrics = server.metrics().await[0];
    // The empty datagrams do not count.
    assert_eq!(metrics.sockets.udp_received, 200 * 51);
    assert_eq!(metrics.sockets.udp_sent, 200);
}

#[tokio::test]
async fn datagrams_of_every_length_leave_the_server_alive() {
    /// What UDP over IPv4 carries.
    const LEN_MAX: usize = 65_507;
    let server = start(1);
    let request = Session::negotiate(&server).await.request();
    let peer = udp_peer((Ipv4Addr::LOCALHOST, server.ports()[0]).into());
    let mut random = StdRng::seed_from_u64(2);
    let mut bytes = vec![0; LEN_MAX];
    random.fill_bytes(&mut bytes);
    let lengths = (0..1600)
        .chain((1600..LEN_MAX).step_by(499))
        .chain([LEN_MAX - 1, LEN_MAX]);
    for len in lengths {
        // STUN, DTLS, RTP and RTCP by the look of it.
        for start in [[0, 1], [22, 254], [128, 111], [128, 200]] {
            bytes[..2].copy_from_slice(&start);
            peer.send(&bytes[..len]).unwrap();
        }
        // From the first one on, all come from a flow that ICE has validated.
        if len > 1600 || len.is_multiple_of(10) {
            check_udp(&peer, &request);
        }
    }
    assert_eq!(server.metrics().await[0].engine.panics, 0);
}

#[tokio::test]
async fn frames_of_every_length_cost_their_connection_at_most() {
    let server = start(1);
    let session = Session::negotiate(&server).await;
    let request = session.request();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.ports()[0]));
    let connect = |request: &[u8]| {
        let mut peer = TcpStream::connect(address).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        check_tcp(&mut peer, request);
        peer
    };
    let mut peer = connect(&request);
    let frame = |peer: &mut TcpStream, len: u16| {
        peer.write_all(&len.to_be_bytes()).unwrap();
        peer.write_all(&vec![128; usize::from(len)])
    };
    let longest = u16::try_from(framing::FRAME_BYTES_MAX).unwrap();
    for len in 0..=longest {
        frame(&mut peer, len).unwrap();
        if len.is_multiple_of(100) || len == longest {
            check_tcp(&mut peer, &request);
        }
    }
    for len in [longest + 1, 10_000, 32_768, u16::MAX] {
        let mut liar = connect(&session.request());
        // It may be closed before all of it is written.
        let _ = frame(&mut liar, len);
        assert!(!matches!(liar.read(&mut [0; 100]), Ok(1..)), "{len}");
        check_tcp(&mut peer, &request);
    }
}

#[tokio::test]
async fn idle_worker_sleeps() {
    let server = start(1);
    let before = server.metrics().await[0].turns;
    for _ in 0..100 {
        server.metrics().await;
    }

    let turns = server.metrics().await[0].turns - before;

    // One for each request; a few more are harmless.
    assert!(turns <= 110, "{turns} turns for 101 requests");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn workers_stay_on_the_cpus_they_are_pinned_to() {
    use nix::sched::{CpuSet, sched_getaffinity};
    use nix::unistd::Pid;
    let cpus_of_this_thread = || {
        let set = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let cpus = (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap());
        cpus.collect::<Vec<_>>()
    };
    let allowed = cpus_of_this_thread();
    for (pin_workers, is_pinned) in [(Pinning::On, true), (Pinning::Off, false)] {
        let config = Config {
            udp_port: 0,
            workers: NonZeroUsize::new(2).unwrap(),
            pin_workers,
            ..Config::default()
        };
        let server = NativeMediaServer::start(&config).unwrap();
        for (index, queue) in server.queues().iter().enumerate() {
            let (told, tells) = std::sync::mpsc::channel();
            queue
                .call(Box::new(move |_, _, _| {
                    let name = std::thread::current().name().map(str::to_owned);
                    told.send((name, cpus_of_this_thread())).unwrap();
                }))
                .unwrap();
            let expected = match is_pinned {
                true => vec![allowed[index % allowed.len()]],
                false => allowed.clone(),
            };
            let name = Some(format!("media-{index}"));
            assert_eq!(tells.recv().unwrap(), (name, expected));
        }
    }
}

#[tokio::test]
async fn pipelines_spread_over_the_workers() {
    let server = start(2);
    let (first, element) = endpoint(&server).await;
    let (second, other) = endpoint(&server).await;
    assert_ne!(first.as_str()[..4], second.as_str()[..4]);
    let connected = server.connect(&element, &other, None).await;
    assert_eq!(connected, Err(Error::DifferentPipelines));

    server.release_pipeline(&second);
    let (third, _) = endpoint(&server).await;
    assert_eq!(third.as_str()[..4], second.as_str()[..4]);
    assert_eq!(server.ports().len(), 1);
}

#[tokio::test]
async fn ids_of_nobody_are_not_found() {
    let server = start(1);
    for text in ["", "x", "zzzz_x", "ffff0000_kurento.MediaPipeline", "äöüß"] {
        let (pipeline, id) = (PipelineId::new(text), ElementId::new(text));
        let made = element(&server, &pipeline).await;
        assert_eq!(made, Err(Error::PipelineNotFound(pipeline.clone())));
        let answered = server.process_offer(&id, "").await;
        assert_eq!(answered, Err(Error::ElementNotFound(id.clone())));
        server.release_element(&id);
        server.release_pipeline(&pipeline);
    }
}

#[tokio::test]
async fn element_is_released_if_its_maker_gave_up_waiting() {
    let server = start(1);
    let (pipeline, _) = endpoint(&server).await;

    drop(element(&server, &pipeline));
    let kind = ElementKind::PassThrough;
    drop(server.create_element(&pipeline, kind, EventSender::discard()));

    // The release is queued when the first request is answered, and done before the second.
    server.metrics().await;
    assert_eq!(server.metrics().await[0].engine.elements, 1);
}

#[tokio::test]
async fn calls_fail_after_shutdown_and_ports_are_free() {
    let server = start(1);
    let pending = server.create_pipeline(EventSender::discard());

    server.shutdown();
    server.shutdown();

    assert!(
        pending.await.is_ok(),
        "a call before the shutdown is answered"
    );
    let late = server.create_pipeline(EventSender::discard()).await;
    assert!(matches!(late, Err(Error::Unavailable(_))));
    assert!(server.metrics().await.is_empty());
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, server.ports()[0])).unwrap();
}

#[tokio::test]
async fn panic_in_a_call_costs_its_element_only() {
    let server = start(1);
    let (pipeline, endpoint) = endpoint(&server).await;
    let other = element(&server, &pipeline).await.unwrap();
    server.process_offer(&endpoint, OFFER).await.unwrap();

    let failed = server.panic_in(&endpoint).await;

    assert_eq!(failed, Err(Error::Unavailable("internal error".to_owned())));
    let late = server.process_offer(&endpoint, OFFER).await;
    assert_eq!(late, Err(Error::ElementNotFound(endpoint.clone())));
    server.process_offer(&other, OFFER).await.unwrap();
    // The application releases what it knows of, as ever.
    server.release_element(&endpoint);
    let engine = server.metrics().await[0].engine;
    assert_eq!(
        (engine.panics, engine.elements, engine.transports),
        (1, 1, 1)
    );
}

#[test]
fn panic_of_a_worker_aborts_the_process() {
    const CHILD: &str = "TERTULIA_TEST_PANIC";
    if std::env::var_os(CHILD).is_some() {
        let server = start(1);
        server.queues()[0]
            .call(Box::new(|_, _, _| panic!("on purpose")))
            .unwrap();
        std::thread::park_timeout(PATIENCE);
        return;
    }

    let output = Process::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "worker::tests::panic_of_a_worker_aborts_the_process",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .output()
        .unwrap();

    assert_eq!(output.status.code(), None, "{output:?}");
}
