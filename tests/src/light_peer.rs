//! A WebRTC peer on a real socket, every datagram of which a test can make: [`LightPeer`].
//!
//! The peer itself is [`media_bench::peer::Peer`], which has no socket; here it gets one, and joins
//! through the room protocol, or is the other end of an endpoint of the Kurento protocol. For what a sound peer sends, ask it in [`LightPeer::act`]; for what none
//! sends, seal or write it there and pass it to [`LightPeer::send`] or [`LightPeer::flood`].

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Instant;

use media::MediaKind;
pub use media_bench::peer::{Direction, Pace, Peer, PeerConfig, PeerEvent};
use serde_json::{Value, json};
use sfu::engine::certificate::Certificate;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::deadline::within;
use crate::kurento_socket::KurentoSocket;
use crate::room_socket::RoomSocket;
use crate::stun::Target;

/// Datagrams and bytes that are sent before the server has handled those before. Too low: a flood
/// takes long. Too high: the kernel drops what it should deliver, also what others send.
const BURST_DATAGRAMS: usize = 64;
const BURST_BYTES: usize = 64 << 10;

/// Making one takes longer than a handshake.
static CERTIFICATE: LazyLock<Certificate> =
    LazyLock::new(|| Certificate::generate().expect("the provider works"));

/// A connected peer.
#[derive(Debug)]
pub struct LightPeer {
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    socket: UdpSocket,
    received_bytes: AtomicU64,
    /// The test made the peer do something, after which its deadline may be another.
    acted: Notify,
    /// Something happened to the peer.
    changed: watch::Sender<()>,
}

struct State {
    peer: Peer,
    events: Vec<PeerEvent>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl LightPeer {
    /// Publishes as `name`, who has joined with `socket`, and connects.
    pub async fn publish(socket: &mut RoomSocket, name: &str, config: PeerConfig) -> Self {
        let mut peer = Self::peer(config);
        let params = json!({ "sdpOffer": peer.offer(), "doLoopback": false });
        let answer = socket.request("publishVideo", params).await;
        let answer = answer.unwrap_or_else(|refusal| panic!("{name} publishes: {refusal:?}"));
        Self::connect(socket, name, peer, &answer).await
    }

    /// Receives what `publisher` publishes in the room joined with `socket`, and connects.
    pub async fn receive(socket: &mut RoomSocket, publisher: &str, config: PeerConfig) -> Self {
        let mut peer = Self::peer(config);
        let sender = format!("{publisher}_webcam");
        let params = json!({ "sender": sender, "sdpOffer": peer.offer() });
        let answer = socket.request("receiveVideoFrom", params).await;
        let answer = answer.unwrap_or_else(|refusal| panic!("{publisher}: {refusal:?}"));
        Self::connect(socket, publisher, peer, &answer).await
    }

    /// Is the other end of `endpoint`, a `WebRtcEndpoint` that has not negotiated, and connects.
    pub async fn of_endpoint(
        kurento: &mut KurentoSocket,
        endpoint: &str,
        config: PeerConfig,
    ) -> Self {
        let mut peer = Self::peer(config);
        kurento.subscribe(endpoint, "IceCandidateFound").await;
        let offer = json!({ "offer": peer.offer() });
        let answer = kurento.invoke(endpoint, "processOffer", offer).await;
        let sdp = answer.as_str().expect("a description");
        kurento
            .invoke(endpoint, "gatherCandidates", json!({}))
            .await;
        let found = kurento.event(endpoint, "IceCandidateFound").await;
        let candidate = found["candidate"]["candidate"].as_str();
        let candidate = candidate.expect("a candidate").to_owned();
        Self::answered(peer, sdp, &[candidate], endpoint).await
    }

    /// What such a peer offers, for somebody who does not connect.
    pub fn offer(config: PeerConfig) -> String {
        Self::peer(config).offer()
    }

    fn peer(config: PeerConfig) -> Peer {
        Peer::new(config, CERTIFICATE.clone(), Instant::now())
    }

    async fn connect(socket: &mut RoomSocket, endpoint: &str, peer: Peer, answer: &Value) -> Self {
        let sdp = answer["sdpAnswer"].as_str().expect("a description");
        let mut candidates = Vec::new();
        while candidates.is_empty() && !sdp.contains("a=candidate:") {
            let params = socket.notification("iceCandidate").await;
            if params["endpointName"] == endpoint {
                candidates.push(params["candidate"].as_str().unwrap_or_default().to_owned());
            }
        }
        Self::answered(peer, sdp, &candidates, endpoint).await
    }

    /// Connects to the other end of `name`, whose description and candidates these are.
    async fn answered(mut peer: Peer, sdp: &str, candidates: &[String], name: &str) -> Self {
        let address = Target::of_answer(sdp, candidates).address;
        peer.handle_answer(Instant::now(), sdp)
            .unwrap_or_else(|error| panic!("{error}:\n{sdp}"));
        let this = Self::start(peer, address).await;
        this.until(format!("{name} is connected"), |peer| {
            peer.is_connected().then_some(())
        })
        .await;
        this
    }

    async fn start(peer: Peer, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        socket.connect(server).await.expect("a local address");
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                peer,
                events: Vec::new(),
            }),
            socket,
            received_bytes: AtomicU64::new(0),
            acted: Notify::new(),
            changed: watch::Sender::new(()),
        });
        let driver = tokio::spawn(drive(Arc::clone(&shared)));
        Self { shared, driver }
    }

    /// Lets the peer do something, and sends what it has to send then.
    pub async fn act<T>(&self, act: impl FnOnce(&mut Peer, Instant) -> T) -> T {
        let (result, datagrams) = self.shared.with(|state| {
            let now = Instant::now();
            let result = act(&mut state.peer, now);
            if state.peer.poll_timeout().is_some_and(|at| at <= now) {
                state.peer.handle_timeout(now);
            }
            (result, state.take_transmits())
        });
        self.shared.send_all(&datagrams).await;
        self.shared.acted.notify_one();
        result
    }

    /// Lets the peer do something, and gives what it would have sent.
    pub fn intercept(&self, act: impl FnOnce(&mut Peer, Instant)) -> Vec<Vec<u8>> {
        self.shared.with(|state| {
            act(&mut state.peer, Instant::now());
            state.take_transmits()
        })
    }

    /// Sends a datagram as it is, from the address that ICE has validated.
    pub async fn send(&self, datagram: &[u8]) {
        self.shared.send(datagram).await;
    }

    /// Sends datagrams as fast as the server takes them, each made by the session when its turn
    /// comes; `None` is none. Returns when all have been handled.
    pub async fn flood(
        &self,
        count: usize,
        mut make: impl FnMut(&mut Peer, usize) -> Option<Vec<u8>>,
    ) {
        let mut next = 0;
        while next < count {
            let burst = self.shared.with(|state| {
                let (mut burst, mut bytes) = (Vec::new(), 0);
                while next < count && burst.len() < BURST_DATAGRAMS && bytes < BURST_BYTES {
                    if let Some(datagram) = make(&mut state.peer, next) {
                        bytes += datagram.len();
                        burst.push(datagram);
                    }
                    next += 1;
                }
                burst
            });
            self.shared.send_all(&burst).await;
            self.settle().await;
        }
    }

    /// Waits until the server has handled everything sent before.
    ///
    /// Datagrams of one socket are handled in order, so the answer to a connectivity check says so. The
    /// first answer may belong to a check that was under way already.
    pub async fn settle(&self) {
        for _ in 0..2 {
            let answered = self
                .act(|peer, now| {
                    peer.check_path(now);
                    peer.checks_answered()
                })
                .await;
            self.until("a check is answered", |peer| {
                (peer.checks_answered() > answered).then_some(())
            })
            .await;
        }
    }

    /// Looks at the peer.
    pub fn see<T>(&self, look: impl FnOnce(&Peer) -> T) -> T {
        self.shared.with(|state| look(&state.peer))
    }

    /// Waits until `condition` gives something; it is tried whenever something happens to the peer.
    pub async fn until<T>(
        &self,
        what: impl Display,
        mut condition: impl FnMut(&Peer) -> Option<T>,
    ) -> T {
        let mut changed = self.shared.changed.subscribe();
        within(what, async {
            loop {
                if let Some(found) = self.see(&mut condition) {
                    return found;
                }
                changed.changed().await.expect("the sender is ours");
            }
        })
        .await
    }

    /// Waits for an event that `pick` likes, those before included.
    pub async fn event<T>(
        &self,
        what: impl Display,
        mut pick: impl FnMut(&PeerEvent) -> Option<T>,
    ) -> T {
        let mut changed = self.shared.changed.subscribe();
        within(what, async {
            loop {
                let found = self
                    .shared
                    .with(|state| state.events.iter().find_map(&mut pick));
                if let Some(found) = found {
                    return found;
                }
                changed.changed().await.expect("the sender is ours");
            }
        })
        .await
    }

    /// Bytes of all datagrams of the server so far.
    pub fn received_bytes(&self) -> u64 {
        self.shared.received_bytes.load(Ordering::Relaxed)
    }

    /// Sends media by itself from now on, or not any more.
    pub async fn set_pace(&self, audio: Option<Pace>, video: Option<Pace>) {
        self.act(|peer, now| {
            peer.set_pace(now, MediaKind::Audio, audio);
            peer.set_pace(now, MediaKind::Video, video);
        })
        .await;
    }

    /// Lets `publisher` send a frame of `kind`, a key frame, and waits until all of it has arrived
    /// intact. Packets to one peer arrive in order, so what was sent before has arrived as well.
    pub async fn gets(&self, publisher: &Self, kind: MediaKind) {
        let pace = match kind {
            MediaKind::Audio => Pace::AUDIO,
            _ => Pace::VIDEO,
        };
        let sent = publisher.act(|peer, now| {
            peer.force_key_frame();
            peer.send_frame(now, kind, &pace);
            peer.ssrc(kind).zip(peer.packets_made(kind))
        });
        let (ssrc, packets) = sent.await.expect("the kind is published");
        self.until(format!("a frame of {kind:?}"), |peer| {
            let mut stamps = peer.streams().filter_map(|stream| stream.last_stamp);
            stamps
                .any(|stamp| stamp.source == ssrc && stamp.number + 1 >= packets)
                .then_some(())
        })
        .await;
    }
}

impl Drop for LightPeer {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl State {
    fn take_transmits(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.peer.poll_transmit()).collect()
    }

    fn take_events(&mut self) {
        self.events
            .extend(std::iter::from_fn(|| self.peer.poll_event()));
    }
}

impl Shared {
    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().expect("no panic while locked"))
    }

    /// Like the network, without a promise: a server that is gone is noticed when its answer is missing.
    async fn send(&self, datagram: &[u8]) {
        let _ = self.socket.send(datagram).await;
    }

    async fn send_all(&self, datagrams: &[Vec<u8>]) {
        for datagram in datagrams {
            self.send(datagram).await;
        }
    }
}

/// Serves the peer until it is dropped.
async fn drive(shared: Arc<Shared>) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (datagrams, deadline) =
            shared.with(|state| (state.take_transmits(), state.peer.poll_timeout()));
        shared.send_all(&datagrams).await;
        // Whoever hears of an event knows that its answer is under way.
        shared.with(State::take_events);
        shared.changed.send_replace(());
        let due = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            received = shared.socket.recv(&mut buffer) => {
                // An error tells of a datagram that did not arrive.
                let len = received.unwrap_or_default();
                shared.received_bytes.fetch_add(len as u64, Ordering::Relaxed);
                shared.with(|state| {
                    let datagram = &mut buffer[..len];
                    state.peer.handle_datagram(Instant::now(), datagram);
                });
            }
            () = due => shared.with(|state| state.peer.handle_timeout(Instant::now())),
            () = shared.acted.notified() => {}
        }
    }
}
