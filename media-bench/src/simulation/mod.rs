//! An engine, or several that share a pipeline, and their peers on a simulated network, in virtual time.
//!
//! [`Simulation`] owns all of them and moves datagrams between them: with delay, with loss from a seed,
//! and past filters that a test sets; or over bottlenecks ([`Simulation::add_path`]), which several peers may share.
//! Everything else that takes time in the world is instantaneous here.

mod inlet;
mod path;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use forwarding::rtp::NtpTime;
use media::{ElementId, ElementKind, Event, EventSender, MediaKind, PeerId, PipelineId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sfu::engine::certificate::Certificate;
use sfu::engine::clock::Clock;
use sfu::engine::flow::{Flow, FlowProtocol};
use sfu::engine::relay::Parcel;
use sfu::engine::{Engine, EngineConfig};

use inlet::{Carried, Inlet};
use path::OnPath;

use crate::network::{self, LinkConfig, LinkCounters};
use crate::peer::{Pace, Peer, PeerConfig, PeerEvent};

/// Where the engine is reached; others, if there are, have the next ports.
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 3478);

/// Engines of a simulation.
const WORKERS_MAX: usize = 16;

/// Turns without time passing. More means that a deadline is not taken back once it is served.
const TURNS_PER_INSTANT_MAX: u32 = 10_000;

/// Decides about a datagram; false loses it.
pub type Filter = Box<dyn FnMut(&[u8]) -> bool>;

/// The path between a peer and the engine.
pub struct Link {
    /// One way.
    pub delay: Duration,
    /// Share of the datagrams lost towards the engine, 0 to 1.
    pub loss_up: f64,
    /// The same towards the peer.
    pub loss_down: f64,
    /// Looks at datagrams towards the engine.
    pub up: Option<Filter>,
    /// Looks at datagrams towards the peer.
    pub down: Option<Filter>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(10),
            loss_up: 0.0,
            loss_down: 0.0,
            up: None,
            down: None,
        }
    }
}

/// One direction of a bottleneck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PathId(usize);

/// Handle of a peer in a [`Simulation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(usize);

/// The peers of [`Simulation::call`].
#[derive(Clone, Debug)]
pub struct Call {
    /// Who sends.
    pub publisher: ClientId,
    /// Who watches.
    pub viewers: Vec<ClientId>,
}

struct Client {
    peer: Peer,
    /// Index of its engine.
    worker: usize,
    element: ElementId,
    address: SocketAddr,
    link: Link,
    told: Arc<Mutex<Vec<Event>>>,
    events: Vec<PeerEvent>,
    /// False: its process is gone.
    runs: bool,
    /// Bottlenecks towards the engine and towards the peer, instead of `link`.
    paths: Option<[PathId; 2]>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    arrives: Reverse<Instant>,
    order: Reverse<u64>,
    from: SocketAddr,
    to: SocketAddr,
    datagram: Vec<u8>,
}

/// An engine with its peers.
pub struct Simulation {
    /// The engine, for everything that has no method here.
    pub engine: Engine,
    /// Engines on further workers, from the second on.
    pub others: Vec<Engine>,
    inlets: Vec<Inlet>,
    pipeline: PipelineId,
    now: Instant,
    certificate: Certificate,
    clients: Vec<Client>,
    by_address: HashMap<SocketAddr, ClientId>,
    in_flight: BinaryHeap<InFlight>,
    paths: Vec<network::Link<OnPath>>,
    strays: Vec<(Flow, Vec<u8>)>,
    sent: u64,
    next_port: u16,
    random: StdRng,
}

impl Simulation {
    /// An engine with one pipeline and no peers.
    ///
    /// # Panics
    /// If the cryptographic provider is out of order.
    pub fn new(seed: u64) -> Self {
        Self::with_workers(seed, 1)
    }

    /// As many engines with one pipeline, made on the first, and no peers.
    ///
    /// # Panics
    /// If the cryptographic provider is out of order, or there are more than 16.
    pub fn with_workers(seed: u64, workers: usize) -> Self {
        assert!((1..=WORKERS_MAX).contains(&workers));
        let now = Instant::now();
        let certificate = || Certificate::generate().expect("the provider works");
        let start = |worker| {
            let config = EngineConfig {
                certificate: certificate(),
                candidates: vec![address(worker)],
                ice_tcp: false,
                preferred_video_codec: None,
                clock: Clock {
                    at: now,
                    ntp: NtpTime(0xe000_0000 << 32),
                },
            };
            Engine::new(config, worker)
        };
        let mut engine = start(0);
        let pipeline = engine.create_pipeline(now, EventSender::discard());
        let mut others: Vec<_> = (1..workers).map(start).collect();
        for other in &mut others {
            other.add_branch(&pipeline);
        }
        Self {
            engine,
            others,
            inlets: (0..workers).map(|_| Inlet::default()).collect(),
            pipeline,
            now,
            certificate: certificate(),
            clients: Vec::new(),
            by_address: HashMap::new(),
            in_flight: BinaryHeap::new(),
            paths: Vec::new(),
            strays: Vec::new(),
            sent: 0,
            next_port: 10_000,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The pipeline of all elements.
    pub fn pipeline(&self) -> &PipelineId {
        &self.pipeline
    }

    /// The engine on a worker.
    pub fn engine_on(&mut self, worker: usize) -> &mut Engine {
        match worker.checked_sub(1) {
            None => &mut self.engine,
            Some(other) => &mut self.others[other],
        }
    }

    fn engines(&mut self) -> impl Iterator<Item = &mut Engine> {
        [&mut self.engine].into_iter().chain(&mut self.others)
    }

    /// The engine on a worker takes nothing from the others any more, and so many packets may wait for it; `None`: it
    /// goes on.
    pub fn stall(&mut self, worker: usize, packets_max: Option<usize>) {
        self.inlets[worker].stalled = packets_max;
    }

    /// Adds a peer with an endpoint that waits for its offer.
    ///
    /// # Panics
    /// If the engine refuses.
    pub fn add(&mut self, config: PeerConfig) -> ClientId {
        self.add_on(0, config)
    }

    /// As [`Self::add`], on a worker.
    ///
    /// # Panics
    /// If the engine refuses.
    pub fn add_on(&mut self, worker: usize, config: PeerConfig) -> ClientId {
        self.add_member(worker, config, None)
    }

    /// As [`Self::add_on`], for one connection of a participant.
    ///
    /// # Panics
    /// If the engine refuses.
    pub fn add_member(
        &mut self,
        worker: usize,
        config: PeerConfig,
        participant: Option<PeerId>,
    ) -> ClientId {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let events = EventSender::new(move |event| {
            sink.lock().expect("nobody panics with it").push(event);
        });
        let kind = ElementKind::WebRtcEndpoint {
            data_channels: config.data,
            peer: participant,
        };
        let (now, pipeline) = (self.now, self.pipeline.clone());
        let element = self
            .engine_on(worker)
            .create_element(now, &pipeline, kind, events)
            .expect("the pipeline exists");
        let id = ClientId(self.clients.len());
        let address = self.free_address(id);
        self.clients.push(Client {
            peer: Peer::new(config, self.certificate.clone(), self.now),
            worker,
            element,
            address,
            link: Link::default(),
            told,
            events: Vec::new(),
            runs: true,
            paths: None,
        });
        id
    }

    /// Adds a bottleneck, whose time begins here. Its losses and jitter follow from the seed of the simulation.
    pub fn add_path(&mut self, config: LinkConfig) -> PathId {
        let seed = self.random.random();
        self.paths.push(network::Link::new(config, seed, self.now));
        PathId(self.paths.len() - 1)
    }

    /// Leads what a peer sends over one bottleneck, and what the engine sends to it over another.
    pub fn set_paths(&mut self, id: ClientId, up: PathId, down: PathId) {
        self.clients[id.0].paths = Some([up, down]);
    }

    /// What a bottleneck has done so far.
    pub fn path_counters(&self, path: PathId) -> LinkCounters {
        self.paths[path.0].counters()
    }

    /// How long a packet would wait in front of a bottleneck.
    pub fn queue_delay(&mut self, path: PathId) -> Duration {
        self.paths[path.0].queue_delay(self.now)
    }

    fn free_address(&mut self, owner: ClientId) -> SocketAddr {
        let address = SocketAddr::from(([192, 0, 2, 1], self.next_port));
        self.next_port += 1;
        self.by_address.insert(address, owner);
        address
    }

    /// Adds a peer and connects it.
    ///
    /// # Panics
    /// If it does not connect within ten seconds.
    pub fn join(&mut self, config: PeerConfig) -> ClientId {
        self.join_on(0, config)
    }

    /// As [`Self::join`], on a worker.
    ///
    /// # Panics
    /// If it does not connect within ten seconds.
    pub fn join_on(&mut self, worker: usize, config: PeerConfig) -> ClientId {
        let id = self.add_on(worker, config);
        self.negotiate(id);
        self.run_until(Duration::from_secs(10), |simulation| {
            simulation.peer(id).is_connected()
        });
        id
    }

    /// A publisher that sends audio and video, and viewers of it.
    pub fn call(&mut self, publisher: PeerConfig, viewers: &[PeerConfig]) -> Call {
        self.call_on(publisher, 0, viewers)
    }

    /// As [`Self::call`], with all viewers on a worker.
    pub fn call_on(
        &mut self,
        publisher: PeerConfig,
        worker: usize,
        viewers: &[PeerConfig],
    ) -> Call {
        let publisher = self.join(publisher);
        let viewers = viewers
            .iter()
            .map(|config| {
                let viewer = self.join_on(worker, config.clone());
                self.connect(publisher, viewer, None);
                viewer
            })
            .collect();
        self.start_media(publisher);
        Call { publisher, viewers }
    }

    /// Makes a peer send all it has negotiated, from here on.
    pub fn start_media(&mut self, id: ClientId) {
        let now = self.now;
        let peer = self.peer_mut(id);
        peer.set_pace(now, MediaKind::Audio, Some(Pace::AUDIO));
        peer.set_pace(now, MediaKind::Video, Some(Pace::VIDEO));
    }

    /// Makes a peer send nothing any more.
    pub fn stop_media(&mut self, id: ClientId) {
        let now = self.now;
        for kind in [MediaKind::Audio, MediaKind::Video] {
            self.peer_mut(id).set_pace(now, kind, None);
        }
    }

    /// Carries an offer of the peer to the engine and the answer back.
    ///
    /// # Panics
    /// If either refuses.
    pub fn negotiate(&mut self, id: ClientId) {
        let offer = self.clients[id.0].peer.offer();
        let (now, element) = (self.now, self.clients[id.0].element.clone());
        let answer = self
            .engine_on(self.clients[id.0].worker)
            .process_offer(now, &element, &offer)
            .unwrap_or_else(|error| panic!("offer refused: {error}\n{offer}"));
        self.clients[id.0]
            .peer
            .handle_answer(self.now, &answer)
            .unwrap_or_else(|error| panic!("answer refused: {error}\n{answer}"));
    }

    /// Feeds one peer from another.
    ///
    /// # Panics
    /// If the engine refuses.
    pub fn connect(&mut self, source: ClientId, sink: ClientId, kind: Option<MediaKind>) {
        let (now, worker) = (self.now, self.clients[sink.0].worker);
        let (source, sink) = (self.element(source).clone(), self.element(sink).clone());
        self.engine_on(worker)
            .connect(now, &source, &sink, kind)
            .expect("both exist, in one pipeline");
    }

    /// Cuts one peer off another.
    ///
    /// # Panics
    /// If the engine refuses.
    pub fn disconnect(&mut self, source: ClientId, sink: ClientId, kind: Option<MediaKind>) {
        let (now, worker) = (self.now, self.clients[sink.0].worker);
        let (source, sink) = (self.element(source).clone(), self.element(sink).clone());
        self.engine_on(worker)
            .disconnect(now, &source, &sink, kind)
            .expect("both exist");
    }

    /// Releases the endpoint of a peer.
    pub fn release(&mut self, id: ClientId) {
        let (now, element) = (self.now, self.element(id).clone());
        let worker = self.clients[id.0].worker;
        self.engine_on(worker).release_element(now, &element);
    }

    /// The peer.
    pub fn peer(&self, id: ClientId) -> &Peer {
        &self.clients[id.0].peer
    }

    /// The peer, to make it do something. Time passes with the next `run`.
    pub fn peer_mut(&mut self, id: ClientId) -> &mut Peer {
        &mut self.clients[id.0].peer
    }

    /// Its path to the engine.
    pub fn link_mut(&mut self, id: ClientId) -> &mut Link {
        &mut self.clients[id.0].link
    }

    /// Its endpoint.
    pub fn element(&self, id: ClientId) -> &ElementId {
        &self.clients[id.0].element
    }

    /// The 5-tuple of its datagrams.
    pub fn flow(&self, id: ClientId) -> Flow {
        Flow {
            protocol: FlowProtocol::Udp,
            local: address(self.clients[id.0].worker),
            remote: self.clients[id.0].address,
        }
    }

    /// Takes what the engine told the owner of the endpoint.
    pub fn take_told(&mut self, id: ClientId) -> Vec<Event> {
        let mut told = self.clients[id.0]
            .told
            .lock()
            .expect("nobody panics with it");
        std::mem::take(&mut told)
    }

    /// Takes what happened to the peer.
    pub fn take_events(&mut self, id: ClientId) -> Vec<PeerEvent> {
        std::mem::take(&mut self.clients[id.0].events)
    }

    /// Takes what the engine sent to addresses of no peer, oldest first.
    pub fn take_strays(&mut self) -> Vec<(Flow, Vec<u8>)> {
        std::mem::take(&mut self.strays)
    }

    /// Its process ends without a word.
    pub fn vanish(&mut self, id: ClientId) {
        self.clients[id.0].runs = false;
    }

    /// Its address changes, as behind a NAT that forgot it.
    pub fn change_address(&mut self, id: ClientId) {
        let address = self.free_address(id);
        self.by_address.remove(&self.clients[id.0].address);
        self.clients[id.0].address = address;
    }

    /// Lets a datagram arrive at the engine.
    pub fn inject(&mut self, flow: Flow, datagram: &[u8]) {
        let mut datagram = datagram.to_vec();
        let now = self.now;
        self.engine_on(worker_at(flow.local))
            .handle_datagram(now, flow, &mut datagram);
        self.collect();
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.run(end, |_| false);
    }

    /// Lets time pass until something is the case.
    ///
    /// # Panics
    /// If it is not within `limit`.
    pub fn run_until(&mut self, limit: Duration, done: impl FnMut(&Self) -> bool) {
        let end = self.now + limit;
        assert!(self.run(end, done), "did not happen within {limit:?}");
    }

    /// Lets time pass until something happens, `limit` at the latest. For those who act in between.
    pub fn step(&mut self, limit: Instant) {
        self.collect();
        let next = self.next_at().map_or(limit, |at| at.min(limit));
        self.now = self.now.max(next);
        self.deliver();
        self.serve();
    }

    fn run(&mut self, end: Instant, mut done: impl FnMut(&Self) -> bool) -> bool {
        let mut turns = 0;
        loop {
            self.collect();
            if done(self) {
                return true;
            }
            let next = self.next_at().filter(|at| *at <= end);
            let Some(next) = next else {
                self.now = end;
                return false;
            };
            turns = if next > self.now { 0 } else { turns + 1 };
            assert!(
                turns < TURNS_PER_INSTANT_MAX,
                "a deadline stays although it was served"
            );
            self.now = self.now.max(next);
            self.deliver();
            self.serve();
        }
    }

    fn next_at(&self) -> Option<Instant> {
        let arrival = self.in_flight.peek().map(|next| next.arrives.0);
        let peers = self.clients.iter().filter(|client| client.runs);
        peers
            .filter_map(|client| client.peer.poll_timeout())
            .chain(arrival)
            .chain(self.paths.iter().filter_map(network::Link::poll_timeout))
            .chain(self.engine.poll_timeout())
            .chain(self.others.iter().filter_map(Engine::poll_timeout))
            .min()
    }

    /// Takes what everybody has to send.
    fn collect(&mut self) {
        self.carry();
        let engines = [&mut self.engine].into_iter().chain(&mut self.others);
        for engine in engines {
            while let Some(outbox) = engine.poll_transmits(self.now) {
                for (flow, bytes) in outbox.datagrams() {
                    let Some(&id) = self.by_address.get(&flow.remote) else {
                        self.strays.push((flow, bytes.to_vec()));
                        continue;
                    };
                    let client = &mut self.clients[id.0];
                    if let Some([_, down]) = client.paths {
                        let (from, to) = (flow.local, client.address);
                        let datagram = bytes.to_vec();
                        let on_path = OnPath { from, to, datagram };
                        self.paths[down.0].send(self.now, on_path.size_bytes(), on_path);
                        continue;
                    }
                    let link = &mut client.link;
                    let passes = link.down.as_mut().is_none_or(|filter| filter(bytes));
                    if passes && !self.random.random_bool(link.loss_down) {
                        self.sent += 1;
                        self.in_flight.push(InFlight {
                            arrives: Reverse(self.now + link.delay),
                            order: Reverse(self.sent),
                            from: flow.local,
                            to: client.address,
                            datagram: bytes.to_vec(),
                        });
                    }
                }
            }
        }
        for client in self.clients.iter_mut().filter(|client| client.runs) {
            client
                .events
                .extend(std::iter::from_fn(|| client.peer.poll_event()));
            while let Some(datagram) = client.peer.poll_transmit() {
                if let Some([up, _]) = client.paths {
                    let (from, to) = (client.address, address(client.worker));
                    let on_path = OnPath { from, to, datagram };
                    self.paths[up.0].send(self.now, on_path.size_bytes(), on_path);
                    continue;
                }
                let link = &mut client.link;
                let passes = link.up.as_mut().is_none_or(|filter| filter(&datagram));
                if passes && !self.random.random_bool(link.loss_up) {
                    self.sent += 1;
                    self.in_flight.push(InFlight {
                        arrives: Reverse(self.now + link.delay),
                        order: Reverse(self.sent),
                        from: client.address,
                        to: address(client.worker),
                        datagram,
                    });
                }
            }
        }
    }

    /// Carries what engines have for each other.
    fn carry(&mut self) {
        let now = self.now;
        loop {
            let inlets = &mut self.inlets;
            for (from, engine) in (0..).zip([&mut self.engine].into_iter().chain(&mut self.others))
            {
                engine.poll_relayed(now, |to, parcel| inlets[to].push(from, parcel));
            }
            let mut is_done = true;
            for to in 0..self.inlets.len() {
                while self.inlets[to].stalled.is_none()
                    && let Some((from, carried)) = self.inlets[to].waiting.pop_front()
                {
                    is_done = false;
                    let engine = self.engine_on(to);
                    match carried {
                        Carried::Packet(head, payload) => {
                            let payload = &payload;
                            engine.handle_relayed(now, from, Parcel::Packet { head, payload });
                        }
                        Carried::Control(control) => {
                            engine.handle_relayed(now, from, Parcel::Control(control));
                        }
                    }
                }
            }
            if is_done {
                return;
            }
        }
    }

    fn deliver(&mut self) {
        while let Some(next) = self.in_flight.peek()
            && next.arrives.0 <= self.now
        {
            let Some(next) = self.in_flight.pop() else {
                return;
            };
            self.arrive(next.from, next.to, next.datagram);
        }
        for path in 0..self.paths.len() {
            while let Some((_, OnPath { from, to, datagram })) = self.paths[path].poll(self.now) {
                self.arrive(from, to, datagram);
            }
        }
    }

    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, mut datagram: Vec<u8>) {
        let now = self.now;
        if to.ip() == SERVER.ip() {
            let flow = Flow {
                protocol: FlowProtocol::Udp,
                local: to,
                remote: from,
            };
            self.engine_on(worker_at(to))
                .handle_datagram(now, flow, &mut datagram);
        } else if let Some(id) = self.by_address.get(&to)
            && self.clients[id.0].runs
        {
            let peer = &mut self.clients[id.0].peer;
            peer.handle_datagram(now, &mut datagram);
        }
    }

    fn serve(&mut self) {
        let now = self.now;
        for engine in self.engines() {
            if engine.poll_timeout().is_some_and(|at| at <= now) {
                engine.handle_timeout(now);
            }
        }
        for client in self.clients.iter_mut().filter(|client| client.runs) {
            if client.peer.poll_timeout().is_some_and(|at| at <= self.now) {
                client.peer.handle_timeout(self.now);
            }
        }
    }
}

/// Where the engine on a worker is reached.
fn address(worker: usize) -> SocketAddr {
    SocketAddr::new(SERVER.ip(), SERVER.port() + worker as u16)
}

/// The worker that is reached there; the first also has every other address.
fn worker_at(reached: SocketAddr) -> usize {
    let offset = reached.port().wrapping_sub(SERVER.port());
    let worker = usize::from(offset);
    if worker < WORKERS_MAX { worker } else { 0 }
}
