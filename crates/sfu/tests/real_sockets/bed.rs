//! A media server on sockets of this machine, and light peers that reach it by sockets of their own.

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
use udp_batch::{Batch, Message};

/// Limit of waiting; nothing takes that long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// A media server, and peers with sockets of their own.
pub(crate) struct Bed {
    pub(crate) server: NativeMediaServer,
    pub(crate) address: SocketAddr,
    poll: Poll,
    certificate: Certificate,
    pub(crate) clients: Vec<Client>,
}

pub(crate) struct Client {
    pub(crate) peer: Peer,
    pub(crate) socket: mio::net::UdpSocket,
    pub(crate) element: ElementId,
}

/// Where a session lives.
pub(crate) struct Place {
    pub(crate) pipeline: PipelineId,
    pub(crate) worker: usize,
}

impl Bed {
    /// On a loopback address, with so many workers.
    pub(crate) fn start(workers: usize, config: Config) -> Self {
        let config = Config {
            udp_port: 0,
            workers: NonZeroUsize::new(workers).unwrap(),
            listen: vec![Ipv4Addr::LOCALHOST.into()],
            announce: vec![Ipv4Addr::LOCALHOST.into()],
            ..config
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

    pub(crate) async fn metrics(&self) -> Vec<Metrics> {
        self.server.metrics().await
    }

    /// Pipelines on the workers 0, 1 and so on.
    pub(crate) async fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for worker in 0..self.metrics().await.len() {
            let events = EventSender::discard();
            let pipeline = self.server.create_pipeline(events).await.unwrap();
            assert_eq!(pipeline.as_str()[..4], format!("{worker:04x}"));
            places.push(Place { pipeline, worker });
        }
        places
    }

    /// A socket whose datagrams the system gives to `worker`.
    pub(crate) async fn socket_at(&self, worker: usize) -> UdpSocket {
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
    pub(crate) async fn join(
        &mut self,
        place: &Place,
        socket: UdpSocket,
        config: PeerConfig,
    ) -> usize {
        let kind = ElementKind::WebRtcEndpoint {
            data_channels: false,
            peer: None,
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
    pub(crate) async fn call(
        &mut self,
        place: &Place,
        publisher_at: usize,
        viewer_at: usize,
    ) -> usize {
        let seed = self.clients.len() as u64;
        let socket = self.socket_at(publisher_at).await;
        let publisher = self.join(place, socket, PeerConfig::publisher(seed)).await;
        self.watch(place, publisher, viewer_at).await
    }

    pub(crate) async fn watch(
        &mut self,
        place: &Place,
        publisher: usize,
        viewer_at: usize,
    ) -> usize {
        let seed = self.clients.len() as u64;
        let socket = self.socket_at(viewer_at).await;
        // Nothing is held back from who does not report.
        let config = PeerConfig {
            transport_cc: false,
            ..PeerConfig::viewer(seed)
        };
        let viewer = self.join(place, socket, config).await;
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

    /// From here on a peer sends what it is told to.
    pub(crate) fn stop_media(&mut self, id: usize) {
        for kind in [MediaKind::Audio, MediaKind::Video] {
            self.clients[id].peer.set_pace(Instant::now(), kind, None);
        }
    }

    /// The latest peer is gone, which the server does not learn.
    pub(crate) fn vanish(&mut self) {
        let mut client = self.clients.pop().unwrap();
        let registry = self.poll.registry();
        registry.deregister(&mut client.socket).unwrap();
    }

    pub(crate) fn received(&self, id: usize) -> usize {
        let video = self.clients[id].peer.received(MediaKind::Video);
        video.map_or(0, |stream| stream.packets.len())
    }

    /// Moves datagrams until `done`.
    pub(crate) fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
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
    pub(crate) fn run_for_packets(&mut self, viewer: usize, count: usize) {
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

    /// Lets the peer send a frame by one call, its packets in runs, which may reach the server as they are.
    pub(crate) fn send_frame(&mut self, kind: MediaKind, pace: &Pace) {
        self.peer.send_frame(Instant::now(), kind, pace);
        let remote = self.socket.peer_addr().unwrap();
        let packets: Vec<_> = std::iter::from_fn(|| self.peer.poll_transmit()).collect();
        let runs: Vec<_> = packets
            .chunk_by(|one, two| one.len() == two.len())
            .map(|run| (run[0].len(), run.concat()))
            .collect();
        let messages = runs.iter().map(|(len, bytes)| Message {
            remote,
            source: None,
            parts: [bytes, &[]],
            segment_bytes: (bytes.len() > *len).then_some(*len as u16),
        });
        let sent = Batch::with_capacity(runs.len()).send(&self.socket, messages);
        assert_eq!(sent.unwrap(), runs.len());
    }
}
