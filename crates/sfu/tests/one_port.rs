//! Calls over real sockets, whose datagrams the system gives to other workers than those which own them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panic")]

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use media::{ElementId, ElementKind, EventSender, MediaKind, MediaServer, PipelineId};
use media_bench::peer::{Pace, Peer, PeerConfig};
use mio::{Events, Interest, Poll, Token};
use sfu::engine::certificate::Certificate;
use sfu::metrics::Metrics;
use sfu::{Config, NativeMediaServer};

const WORKERS: usize = 3;

/// Limit of waiting; nothing takes that long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// Packets of video that must arrive for a call to count as good.
const ENOUGH: usize = 50;

/// A media server with several workers, and peers with sockets of their own.
struct Bed {
    server: NativeMediaServer,
    address: SocketAddr,
    poll: Poll,
    certificate: Certificate,
    clients: Vec<Client>,
}

struct Client {
    peer: Peer,
    socket: mio::net::UdpSocket,
    element: ElementId,
}

/// Where a session lives.
struct Place {
    pipeline: PipelineId,
    worker: usize,
}

impl Bed {
    fn start() -> Self {
        let config = Config {
            udp_port: 0,
            workers: NonZeroUsize::new(WORKERS).unwrap(),
            listen: vec![Ipv4Addr::LOCALHOST.into()],
            announce: vec![Ipv4Addr::LOCALHOST.into()],
            ..Config::default()
        };
        let server = NativeMediaServer::start(&config).unwrap();
        assert_eq!(server.candidates().len(), 1, "there is one port");
        Self {
            address: server.candidates()[0],
            server,
            poll: Poll::new().unwrap(),
            certificate: Certificate::generate().unwrap(),
            clients: Vec::new(),
        }
    }

    async fn metrics(&self) -> [Metrics; WORKERS] {
        self.server.metrics().await.try_into().unwrap()
    }

    /// Pipelines on the workers 0, 1 and so on.
    async fn places(&self) -> [Place; WORKERS] {
        let mut places = Vec::new();
        for worker in 0..WORKERS {
            let events = EventSender::discard();
            let pipeline = self.server.create_pipeline(events).await.unwrap();
            assert_eq!(pipeline.as_str()[..4], format!("{worker:04x}"));
            places.push(Place { pipeline, worker });
        }
        places.try_into().ok().unwrap()
    }

    /// A socket whose datagrams the system gives to `worker`.
    async fn socket_at(&self, worker: usize) -> UdpSocket {
        loop {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.connect(self.address).unwrap();
            let before = self.metrics().await;
            // Nothing that anybody answers.
            socket.send(&[0xff]).unwrap();
            let receiver = loop {
                let after = self.metrics().await;
                let counts = |metrics: &Metrics| metrics.sockets.udp_received;
                let mut all = before.iter().zip(&after);
                if let Some(receiver) = all.position(|(a, b)| counts(a) != counts(b)) {
                    break receiver;
                }
            };
            if receiver == worker {
                return socket;
            }
        }
    }

    /// A peer begins a session. Returns its number.
    async fn join(&mut self, place: &Place, socket: UdpSocket, config: PeerConfig) -> usize {
        let kind = ElementKind::WebRtcEndpoint {
            data_channels: false,
        };
        let events = EventSender::discard();
        let made = self.server.create_element(&place.pipeline, kind, events);
        let element = made.await.unwrap();
        let now = Instant::now();
        let mut peer = Peer::new(config, self.certificate.clone(), now);
        let offer = peer.offer();
        let answer = self.server.process_offer(&element, &offer).await.unwrap();
        peer.handle_answer(now, &answer).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut socket = mio::net::UdpSocket::from_std(socket);
        let (registry, id) = (self.poll.registry(), self.clients.len());
        registry
            .register(&mut socket, Token(id), Interest::READABLE)
            .unwrap();
        self.clients.push(Client {
            peer,
            socket,
            element,
        });
        id
    }

    /// A publisher and a viewer, whose datagrams reach the workers given. Returns the viewer.
    async fn call(&mut self, place: &Place, publisher_at: usize, viewer_at: usize) -> usize {
        let seed = self.clients.len() as u64;
        let socket = self.socket_at(publisher_at).await;
        let publisher = self.join(place, socket, PeerConfig::publisher(seed)).await;
        self.watch(place, publisher, viewer_at).await
    }

    async fn watch(&mut self, place: &Place, publisher: usize, viewer_at: usize) -> usize {
        let seed = self.clients.len() as u64;
        let socket = self.socket_at(viewer_at).await;
        let viewer = self.join(place, socket, PeerConfig::viewer(seed)).await;
        let [from, to] = [publisher, viewer].map(|id| self.clients[id].element.clone());
        self.server.connect(&from, &to, None).await.unwrap();
        for (kind, pace) in [
            (MediaKind::Audio, Pace::AUDIO),
            (MediaKind::Video, Pace::VIDEO),
        ] {
            let peer = &mut self.clients[publisher].peer;
            peer.set_pace(Instant::now(), kind, Some(pace));
        }
        viewer
    }

    /// The latest peer is gone, which the server does not learn.
    fn vanish(&mut self) {
        let mut client = self.clients.pop().unwrap();
        let registry = self.poll.registry();
        registry.deregister(&mut client.socket).unwrap();
    }

    fn received(&self, id: usize) -> usize {
        let video = self.clients[id].peer.received(MediaKind::Video);
        video.map_or(0, |stream| stream.packets.len())
    }

    /// Moves datagrams until `done`.
    fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut events = Events::with_capacity(64);
        loop {
            for client in &mut self.clients {
                client.drive();
            }
            if done(self) {
                return;
            }
            let now = Instant::now();
            assert!(now < deadline, "the call does not get anywhere");
            let timeouts = self.clients.iter().map(|client| client.peer.poll_timeout());
            let next = timeouts.flatten().min().unwrap_or(deadline).min(deadline);
            let timeout = next.saturating_duration_since(now);
            self.poll.poll(&mut events, Some(timeout)).unwrap();
        }
    }

    /// Runs until a viewer has got `count` more packets, none of them damaged.
    fn run_for_packets(&mut self, viewer: usize, count: usize) {
        let wanted = self.received(viewer) + count;
        self.run_until(|bed| bed.received(viewer) >= wanted);
        let video = self.clients[viewer].peer.received(MediaKind::Video);
        assert_eq!(video.unwrap().corrupt, 0);
        assert!(video.unwrap().packets.iter().all(|it| it.stamp.is_some()));
    }
}

impl Client {
    fn drive(&mut self) {
        let now = Instant::now();
        let mut buffer = [0; 2000];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(len) => self.peer.handle_datagram(now, &mut buffer[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        if self.peer.poll_timeout().is_some_and(|at| at <= now) {
            self.peer.handle_timeout(now);
        }
        while let Some(datagram) = self.peer.poll_transmit() {
            self.socket.send(&datagram).unwrap();
        }
    }
}

#[tokio::test]
async fn call_succeeds_whichever_workers_its_datagrams_reach() {
    let mut bed = Bed::start();
    let places = bed.places().await;
    let mut viewers = Vec::new();
    for place in &places {
        for (publisher_at, viewer_at) in [(0, 1), (1, 2), (2, 0)] {
            viewers.push(bed.call(place, publisher_at, viewer_at).await);
        }
    }
    bed.run_until(|bed| viewers.iter().all(|id| bed.received(*id) >= ENOUGH));

    for viewer in &viewers {
        let peer = &bed.clients[*viewer].peer;
        let video = peer.received(MediaKind::Video).unwrap();
        assert_eq!((video.corrupt, peer.counters().unauthentic), (0, 0));
    }
    for (worker, metrics) in bed.metrics().await.iter().enumerate() {
        let sockets = &metrics.sockets;
        // Two of three publishers whose datagrams reach a worker have their session elsewhere.
        assert!(sockets.handed_over as usize > 2 * ENOUGH, "{worker}");
        assert_eq!(sockets.handover_dropped, 0, "{worker}");
        assert_eq!(metrics.engine.transports_connected, 6, "{worker}");
    }
}

#[tokio::test]
async fn datagrams_that_reach_their_worker_are_not_handed_over() {
    let mut bed = Bed::start();
    let places = bed.places().await;
    for place in &places {
        let viewer = bed.call(place, place.worker, place.worker).await;
        bed.run_for_packets(viewer, ENOUGH);
    }
    let metrics = bed.metrics().await;
    assert!(metrics.iter().all(|it| it.sockets.handed_over == 0));
}

#[tokio::test]
async fn forged_checks_do_not_divert_a_call() {
    let mut bed = Bed::start();
    let places = bed.places().await;
    let viewer = bed.call(&places[0], 0, 1).await;
    // Sessions whose ufrags the forger knows.
    let other = bed.call(&places[2], 2, 2).await;
    bed.run_for_packets(viewer, ENOUGH);
    bed.run_for_packets(other, ENOUGH);
    let before = bed.metrics().await;

    for (publisher, worker) in [(viewer - 1, 0), (viewer, 0), (other, 2)] {
        let offer = bed.clients[publisher].peer.offer();
        let element = bed.clients[publisher].element.clone();
        let answer = bed.server.process_offer(&element, &offer).await.unwrap();
        let ufrag = attribute(&answer, "a=ice-ufrag:");
        assert_eq!(ufrag[..4], format!("{worker:04x}"));
        let remote = attribute(&offer, "a=ice-ufrag:");
        for victim in [viewer - 1, viewer] {
            for _ in 0..20 {
                let forged = check(&ufrag, &remote);
                bed.clients[victim].socket.send(&forged).unwrap();
            }
        }
    }
    bed.run_for_packets(viewer, ENOUGH);

    let [a, b] = [&before, &bed.metrics().await].map(|all| {
        let discarded = all.iter().map(|it| {
            let stun = sfu::engine::counters::Discard::Stun as usize;
            it.engine.discarded[stun]
        });
        discarded.sum::<u64>()
    });
    assert_eq!(b - a, 3 * 2 * 20, "every forged check is refused");
    // What the publisher sends still reaches its worker: only forged checks left worker 0.
    let handed = |metrics: &[Metrics; WORKERS]| metrics[0].sockets.handed_over;
    assert_eq!(handed(&bed.metrics().await) - handed(&before), 20);
}

#[tokio::test]
async fn session_on_another_worker_takes_the_port_of_a_former_one() {
    let mut bed = Bed::start();
    let places = bed.places().await;
    // From the worker that the datagrams reach to another one, to a third one, and back.
    let socket = bed.socket_at(0).await;
    for (round, worker) in [0, 1, 2, 0, 0, 1].into_iter().enumerate() {
        let again = socket.try_clone().unwrap();
        let config = PeerConfig::publisher(round as u64);
        let publisher = bed.join(&places[worker], again, config).await;
        let viewer = bed.watch(&places[worker], publisher, worker).await;

        bed.run_for_packets(viewer, ENOUGH);

        bed.vanish();
        bed.vanish();
        while socket.recv(&mut [0; 2000]).is_ok() {}
    }
    assert_eq!(bed.metrics().await[0].sockets.handover_dropped, 0);
}

#[tokio::test]
async fn nothing_is_handed_over_for_a_session_that_ended() {
    let mut bed = Bed::start();
    let places = bed.places().await;
    let viewer = bed.call(&places[0], 1, 2).await;
    bed.run_for_packets(viewer, ENOUGH);

    bed.server.release_pipeline(&places[0].pipeline);
    // The owner answers when it has told the others.
    let before = bed.metrics().await;
    for client in &bed.clients {
        client.socket.send(&[0x80; 100]).unwrap();
    }
    let handed = |metrics: &Metrics| metrics.sockets.handed_over;
    let received = |metrics: &Metrics| metrics.sockets.udp_received;
    let after = loop {
        let after = bed.metrics().await;
        if (1..WORKERS).all(|worker| received(&after[worker]) > received(&before[worker])) {
            break after;
        }
    };
    assert_eq!(after.each_ref().map(handed), before.each_ref().map(handed));
}

fn attribute(description: &str, name: &str) -> String {
    let line = description.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().to_owned()
}

/// A connectivity check of somebody who does not know the password.
fn check(local: &str, remote: &str) -> Vec<u8> {
    use rtc_stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USERNAME};
    use rtc_stun::fingerprint::FINGERPRINT;
    use rtc_stun::integrity::MessageIntegrity;
    use rtc_stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};

    let provider = rtc_crypto::default_provider().unwrap();
    let mut message = Message::new();
    message.set_type(BINDING_REQUEST);
    message.write_header();
    TransactionId::new().add_to(&mut message).unwrap();
    message.add(ATTR_USERNAME, format!("{local}:{remote}").as_bytes());
    message.add(ATTR_PRIORITY, &[0x6e, 0, 1, 0xff]);
    message.add(ATTR_ICE_CONTROLLING, &[7; 8]);
    let password = "a password of twenty-four".to_owned();
    MessageIntegrity::new_short_term_integrity_with_provider(password, provider.crypto())
        .add_to(&mut message)
        .unwrap();
    FINGERPRINT.add_to(&mut message).unwrap();
    message.raw
}
