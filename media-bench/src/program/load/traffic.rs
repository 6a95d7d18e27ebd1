//! The media of all participants in one thread: a socket for each transport, one poll loop.
//!
//! Read [`Traffic::run`] first. A datagram costs this thread less than it costs the server: one wake-up and
//! one system call take a whole run of one transport, and of hundreds of peers each opens only some of its
//! packets ([`PeerConfig::opens_every`](media_bench::peer::PeerConfig::opens_every)). When a packet
//! arrived is the kernel's word, so a backlog here does not count as latency.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use media::MediaKind;
use media_bench::peer::{IncomingStream, Peer, PeerEvent};
use mio::event::Event;
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{RecvMeta, UdpSocketState};
use sfu::engine::certificate::Certificate;

use super::signaling::{Job, Role, Signaling, Told};
use super::source::Source;

/// Runs taken by one system call. Too low: more calls. Too high: memory that leaves the cache.
const RECEIVE_RUNS: usize = 8;

/// The longest run that the kernel coalesces.
const RUN_BYTES_MAX: usize = 65_535;

/// Distance between receive buffers, no multiple of a page.
const RUN_STRIDE_BYTES: usize = RUN_BYTES_MAX + 1 + 21 * 64;

/// Receive buffer of a socket. Too low: a key frame is lost while this thread is elsewhere. Too high: memory.
const SOCKET_BUFFER_BYTES: usize = 1 << 20;

/// Sockets reported by one look.
const EVENTS_MAX: usize = 1024;

/// The longest time between two looks at the caller's condition.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The highest latency told apart, in microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;

/// How long arrivals are left alone while media is measured. To wake this thread is work of the server's system
/// call, as it would not be if viewers were elsewhere. Too short: each run wakes it. Too long: it falls behind.
pub(super) const NAP: Duration = Duration::from_millis(1);

const WAKER: Token = Token(usize::MAX);

/// A transport on its socket.
struct Client {
    peer: Peer,
    socket: UdpSocket,
    offload: UdpSocketState,
    role: Role,
    job: usize,
    began: Instant,
    connected_at: Option<Instant>,
    /// When it was last told the time, which never runs backwards for it.
    told_at: Instant,
    /// When the timers will come back to it.
    scheduled_at: Option<Instant>,
    source: Option<Source>,
    /// Packets sent while media is counted.
    sent: u64,
    /// Packets received before media was counted.
    received_before: u64,
}

/// Jobs under way.
struct Pending {
    transports: usize,
    counts: bool,
}

/// Totals since [`Traffic::start_media`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Packets sent by publishers.
    pub(crate) sent: u64,
    /// Packets received by viewers, each once.
    pub(crate) received: u64,
    /// Packets that viewers should have received.
    pub(crate) expected: u64,
    /// Packets with a byte that is wrong, or that were not authentic.
    pub(crate) faulty: u64,
    /// PLIs and FIRs that publishers got.
    pub(crate) key_frame_requests: u64,
    /// NACK packets that publishers got.
    pub(crate) nacks: u64,
}

/// All transports of all participants.
pub(crate) struct Traffic {
    poll: Poll,
    events: Events,
    signaling: Signaling,
    /// Time zero of the stamps in the payload.
    epoch: Instant,
    whole: bool,
    clients: Vec<Client>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    pending: HashMap<usize, Pending>,
    next_job: usize,
    connected: usize,
    media_began: Option<Instant>,
    memory: Vec<u8>,
    /// From send to arrival, in microseconds, while [`Self::measures_latency`].
    pub(crate) latency_us: Histogram<u64>,
    pub(crate) measures_latency: bool,
    /// From the start of a job to the connection of its last transport, in microseconds.
    pub(crate) join_us: Histogram<u64>,
    failure: Option<String>,
}

impl Traffic {
    /// `url` is that of the server; `whole`: take runs of packets as the kernel got them, not cut up.
    pub(crate) fn new(url: &str, whole: bool, joins_at_once: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let epoch = Instant::now();
        let certificate = Certificate::generate().map_err(io::Error::other)?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let signaling = Signaling::start(url, certificate, epoch, waker, joins_at_once)?;
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX_US, 3);
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            signaling,
            epoch,
            whole,
            clients: Vec::new(),
            timers: BinaryHeap::new(),
            pending: HashMap::new(),
            next_job: 0,
            connected: 0,
            media_began: None,
            memory: vec![0; RECEIVE_RUNS * RUN_STRIDE_BYTES],
            latency_us: histogram().map_err(io::Error::other)?,
            measures_latency: false,
            join_us: histogram().map_err(io::Error::other)?,
            failure: None,
        })
    }

    /// Lets a participant do something; `counts`: its time is a time to join. The job gets its number here.
    pub(crate) fn ask(&mut self, mut job: Job, counts: bool) {
        job.number = self.next_job;
        self.next_job += 1;
        let transports = usize::from(job.publishes.is_some()) + job.watches.len();
        if transports > 0 {
            self.pending
                .insert(job.number, Pending { transports, counts });
        }
        self.signaling.ask(job);
    }

    /// Jobs whose transports are not all connected.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Transports that are connected.
    pub(crate) fn connected(&self) -> usize {
        self.connected
    }

    /// Lets publishers send by these timetables, and counts from here on. The publisher's number is the argument.
    pub(crate) fn start_media(&mut self, source: impl Fn(usize) -> Source) {
        self.media_began = Some(Instant::now());
        for (index, client) in self.clients.iter_mut().enumerate() {
            client.sent = 0;
            client.received_before = received(&client.peer);
            if let Role::Publishes(publisher) = client.role {
                client.peer.force_key_frame();
                client.source = Some(source(publisher));
                self.timers.push(Reverse((self.epoch, index)));
            }
        }
    }

    /// Publishers send nothing any more.
    pub(crate) fn stop_media(&mut self) {
        for client in &mut self.clients {
            client.source = None;
        }
    }

    /// Totals since [`Self::start_media`].
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        let mut sent = HashMap::new();
        for client in &self.clients {
            let counters = client.peer.counters();
            totals.faulty += counters.unauthentic;
            totals.faulty += client
                .peer
                .streams()
                .map(|stream| stream.corrupt)
                .sum::<u64>();
            if let Role::Publishes(publisher) = client.role {
                totals.sent += client.sent;
                sent.insert(publisher, client.sent);
                for kind in [MediaKind::Audio, MediaKind::Video] {
                    if let Some(feedback) = client.peer.feedback(kind) {
                        totals.key_frame_requests +=
                            feedback.picture_losses + feedback.full_intra_requests;
                        totals.nacks += feedback.nacks;
                    }
                }
            }
        }
        for client in &self.clients {
            if let Role::Watches(publisher) = client.role {
                let received = received(&client.peer) - client.received_before;
                let was_there = client.connected_at < self.media_began;
                totals.received += received;
                totals.expected += if was_there {
                    sent.get(&publisher).copied().unwrap_or(0)
                } else {
                    // Who comes later can know only by gaps in the numbers.
                    let missing: i64 = client.peer.streams().map(IncomingStream::missing).sum();
                    received.saturating_add_signed(missing)
                };
            }
        }
        totals
    }

    /// Carries media until `end`, or until `done` says so, which is asked often; true if it did.
    ///
    /// # Errors
    /// A participant could not join or connect, or the system refuses.
    pub(crate) fn run(
        &mut self,
        end: Instant,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> io::Result<bool> {
        loop {
            if let Some(failure) = self.failure.take() {
                return Err(io::Error::other(failure));
            }
            let now = Instant::now();
            if done(self) {
                return Ok(true);
            }
            if now >= end {
                return Ok(false);
            }
            let next = self.timers.peek().map_or(end, |timer| timer.0.0);
            let mut wait = next.min(end).saturating_duration_since(now);
            if self.measures_latency {
                let nap = wait.min(NAP);
                thread::sleep(nap);
                wait -= nap;
            }
            let poll = self
                .poll
                .poll(&mut self.events, Some(wait.min(LOOK_INTERVAL)));
            match poll {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let ready: Vec<usize> = self
                .events
                .iter()
                .map(Event::token)
                .filter(|token| *token != WAKER)
                .map(usize::from)
                .collect();
            for index in ready {
                self.receive(index)?;
                self.serve_timers();
            }
            self.serve_timers();
            while let Some(told) = self.signaling.poll_told() {
                self.handle_told(told)?;
            }
        }
    }

    /// Ends; participants leave their rooms, as far as the server listens.
    pub(crate) fn leave(self) {
        self.signaling.leave();
    }

    fn handle_told(&mut self, told: Told) -> io::Result<()> {
        match told {
            Told::Failed(failure) => {
                self.failure.get_or_insert(failure);
            }
            Told::Transport {
                job,
                role,
                began,
                peer,
            } => self.add(job, role, began, *peer)?,
        }
        Ok(())
    }

    fn add(&mut self, job: usize, role: Role, began: Instant, peer: Peer) -> io::Result<()> {
        let server = peer
            .server()
            .ok_or_else(|| io::Error::other("the server's answer has no UDP candidate"))?;
        let local: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = std::net::UdpSocket::bind(local)?;
        socket.connect(server)?;
        let offload = UdpSocketState::new((&socket).into())?;
        setsockopt(&socket, sockopt::UdpGroSegment, &self.whole)?;
        setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BUFFER_BYTES)?;
        let mut socket = UdpSocket::from_std(socket);
        let index = self.clients.len();
        let registry = self.poll.registry();
        registry.register(&mut socket, Token(index), Interest::READABLE)?;
        self.clients.push(Client {
            peer,
            socket,
            offload,
            role,
            job,
            began,
            connected_at: None,
            told_at: began,
            scheduled_at: None,
            source: None,
            sent: 0,
            received_before: 0,
        });
        self.settle(index);
        Ok(())
    }

    /// Takes all that waits on a socket.
    fn receive(&mut self, index: usize) -> io::Result<()> {
        loop {
            let client = &mut self.clients[index];
            let mut meta = [RecvMeta::default(); RECEIVE_RUNS];
            let filled = {
                let mut rest = self.memory.as_mut_slice();
                let mut slices: [IoSliceMut<'_>; RECEIVE_RUNS] = std::array::from_fn(|_| {
                    let (head, tail) = std::mem::take(&mut rest).split_at_mut(RUN_STRIDE_BYTES);
                    rest = tail;
                    IoSliceMut::new(&mut head[..RUN_BYTES_MAX])
                });
                let socket = &client.socket;
                let received =
                    socket.try_io(|| client.offload.recv(socket.into(), &mut slices, &mut meta));
                match received {
                    Ok(filled) => filled,
                    // The server ended or refuses: what it sent so far counts.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => 0,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                    Err(error) => return Err(error),
                }
            };
            let (now, wall) = (Instant::now(), wall_clock());
            for (run, meta) in meta[..filled].iter().enumerate() {
                let age = meta
                    .timestamp
                    .map_or(Duration::ZERO, |at| wall.saturating_sub(at));
                let arrived_at = now.checked_sub(age).unwrap_or(now);
                let client = &mut self.clients[index];
                client.told_at = client.told_at.max(arrived_at);
                let start = run * RUN_STRIDE_BYTES;
                let bytes = &mut self.memory[start..start + meta.len];
                for datagram in bytes.chunks_mut(meta.stride.max(1)) {
                    client.peer.handle_datagram(client.told_at, datagram);
                    if let Some(stamp) = client.peer.take_stamp()
                        && self.measures_latency
                    {
                        let sent_at = self.epoch + Duration::from_micros(stamp.sent_micros);
                        let latency = arrived_at.saturating_duration_since(sent_at);
                        self.latency_us
                            .saturating_record((latency.as_micros() as u64).max(1));
                    }
                }
            }
            self.settle(index);
            if filled < RECEIVE_RUNS {
                return Ok(());
            }
        }
    }

    fn serve_timers(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, index))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            let client = &mut self.clients[index];
            if client.scheduled_at == Some(at) {
                client.scheduled_at = None;
            }
            client.told_at = client.told_at.max(now);
            if client.peer.poll_timeout().is_some_and(|due| due <= now) {
                client.peer.handle_timeout(client.told_at);
            }
            client.publish();
            self.settle(index);
        }
    }

    /// Sends what a peer has to send, hears what it has to say, and notes when it must be woken.
    fn settle(&mut self, index: usize) {
        let client = &mut self.clients[index];
        while let Some(datagram) = client.peer.poll_transmit() {
            // As on any network: what does not leave is lost.
            let _ = client.socket.send(&datagram);
        }
        let mut connected = false;
        while let Some(event) = client.peer.poll_event() {
            match event {
                PeerEvent::Connected => connected = true,
                PeerEvent::Failed(reason) => {
                    self.failure
                        .get_or_insert(format!("a handshake failed: {reason}"));
                }
                PeerEvent::Closed => {
                    self.failure
                        .get_or_insert("the server closed a transport".to_owned());
                }
                _ => {}
            }
        }
        let source = client.source.as_ref().and_then(Source::poll_timeout);
        let due = client.peer.poll_timeout().into_iter().chain(source).min();
        if let Some(due) = due
            && client.scheduled_at.is_none_or(|scheduled| due < scheduled)
        {
            client.scheduled_at = Some(due);
            self.timers.push(Reverse((due, index)));
        }
        if connected {
            self.handle_connected(index);
        }
    }

    fn handle_connected(&mut self, index: usize) {
        let now = Instant::now();
        let client = &mut self.clients[index];
        client.connected_at = Some(now);
        self.connected += 1;
        let Some(pending) = self.pending.get_mut(&client.job) else {
            return;
        };
        pending.transports -= 1;
        if pending.transports == 0 {
            if pending.counts {
                let took = now.saturating_duration_since(client.began);
                self.join_us.saturating_record(took.as_micros() as u64);
            }
            self.pending.remove(&client.job);
        }
    }
}

impl Client {
    /// Sends the frames that are due.
    fn publish(&mut self) {
        loop {
            let now = Instant::now();
            let key = self.peer.wants_key_frame(MediaKind::Video);
            let Some(source) = &mut self.source else {
                return;
            };
            let Some((kind, pace)) = source.poll_frame(now, key) else {
                return;
            };
            self.peer.send_frame(now, kind, &pace);
            self.sent += u64::from(pace.packets);
            while let Some(datagram) = self.peer.poll_transmit() {
                let _ = self.socket.send(&datagram);
            }
        }
    }
}

/// Packets received, each once.
fn received(peer: &Peer) -> u64 {
    let counters = peer.counters();
    (counters.rtp + counters.unopened).saturating_sub(counters.duplicates + counters.unknown)
}

fn wall_clock() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
