//! ICE over TCP, passive side (RFC 6544): peers whose network blocks UDP connect to us, and every
//! frame (RFC 4571) stands for one datagram.
//!
//! [`TcpFlows`] owns the listeners and the connections. What can be had before a peer has proven
//! anything is scarce: connections are limited in total and per source, must begin with STUN in time,
//! and must be found worth an answer. Deliberately absent: what the frames mean.

mod transfer;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use rustc_hash::FxHashMap;
use socket2::SockRef;

pub(super) use self::transfer::Transfer;
use super::framing::{FrameReader, FrameWriter};
use crate::engine::flow::{Flow, FlowProtocol};
use crate::metrics::SocketCounters;

/// How many connections may be open.
#[derive(Clone, Copy, Debug)]
struct Limits {
    total: usize,
    per_source: usize,
}

const LIMITS: Limits = Limits {
    total: CONNECTIONS_MAX,
    per_source: CONNECTIONS_PER_SOURCE_MAX,
};

/// Open connections per worker. Too low: a conference of people behind strict firewalls does not fit.
/// Too high: file descriptors and buffers (up to 300 KiB each) for whoever asks.
const CONNECTIONS_MAX: usize = 1024;

/// Open connections per source: an IPv4 address or an IPv6 /64. Every publisher and every
/// subscription is a transport of its own, so an office behind one address needs many. Too high: one
/// source can take all.
const CONNECTIONS_PER_SOURCE_MAX: usize = 256;

/// Connections accepted in one turn, so that a flood does not delay media.
const ACCEPTS_PER_TURN: usize = 16;

/// Reads from one connection in one turn, so that a fast sender does not delay the others.
const READS_PER_TURN: usize = 4;

/// Time to send the first frame, which must be STUN. Too low: slow mobile networks. Too high: stalled
/// connections pile up.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(5);

/// Time until the engine must have found something to answer. Too low: a peer whose description is
/// still on its way. Too high: connections of strangers pile up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Time without a complete frame. Peers check consent every 5 s and give up after 30 s (RFC 7675).
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Time without progress in writing, while something waits.
const STALL_TIMEOUT: Duration = Duration::from_secs(15);

/// How often the timeouts are checked.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Least time between two complaints in the log that connections cannot be accepted. Too low: whoever uses up
/// the descriptors fills the log. Too high: the operator learns of it late.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// Unsent bytes the kernel may hold per connection. Too low: wake-ups. Too high: media grows old in the
/// kernel, where it can no longer be dropped.
#[cfg(target_os = "linux")]
const KERNEL_UNSENT_BYTES: u32 = 64 * 1024;

/// All TCP connections of one worker.
pub(super) struct TcpFlows {
    listeners: Vec<Listener>,
    connections: FxHashMap<Token, Connection>,
    by_flow: FxHashMap<Flow, Token>,
    per_source: FxHashMap<IpAddr, usize>,
    /// Connections with something to read, each at most once.
    readable: VecDeque<Token>,
    /// Connections with frames queued in this turn, each at most once.
    dirty: Vec<Token>,
    closed: Vec<Flow>,
    next_token: usize,
    limits: Limits,
    sweep_at: Option<Instant>,
}

struct Listener {
    socket: TcpListener,
    /// There may be something to accept: readiness is told once, so it must be remembered.
    ready: bool,
    /// Set when the system has no descriptors left; trying again at once would spin.
    retry_at: Option<Instant>,
    complained_at: Option<Instant>,
}

struct Connection {
    stream: TcpStream,
    flow: Flow,
    reader: FrameReader,
    writer: FrameWriter,
    is_readable: bool,
    is_dirty: bool,
    accepted_at: Instant,
    /// The last complete frame; `None` before the first.
    received_at: Option<Instant>,
    /// Whether the engine ever sent something.
    is_answered: bool,
    /// Whether another worker accepted it.
    has_moved: bool,
    /// Since when something waits to be written without progress.
    stalled_since: Option<Instant>,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The peer closed it, or the network did.
    Gone,
    /// We close it because of what the peer did or did not do.
    Expelled,
}

impl TcpFlows {
    /// Connections get tokens from `first_token` on, which must be above those of everything else.
    pub(super) fn new(
        listeners: Vec<std::net::TcpListener>,
        registry: &Registry,
        first_token: usize,
    ) -> io::Result<Self> {
        let mut registered = Vec::with_capacity(listeners.len());
        for (index, listener) in listeners.into_iter().enumerate() {
            let mut socket = TcpListener::from_std(listener);
            registry.register(&mut socket, Token(first_token + index), Interest::READABLE)?;
            registered.push(Listener {
                socket,
                ready: true,
                retry_at: None,
                complained_at: None,
            });
        }
        Ok(Self {
            next_token: first_token + registered.len(),
            listeners: registered,
            connections: FxHashMap::default(),
            by_flow: FxHashMap::default(),
            per_source: FxHashMap::default(),
            readable: VecDeque::new(),
            dirty: Vec::new(),
            closed: Vec::new(),
            limits: LIMITS,
            sweep_at: None,
        })
    }

    /// The poll loop reported `token`, counted from `first_token` on.
    pub(super) fn handle_ready(
        &mut self,
        now: Instant,
        token: Token,
        first_token: usize,
        readable: bool,
        writable: bool,
        counters: &mut SocketCounters,
    ) {
        if let Some(listener) = self.listeners.get_mut(token.0 - first_token) {
            listener.ready = true;
            return;
        }
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        if readable && !connection.is_readable {
            connection.is_readable = true;
            self.readable.push_back(token);
        }
        if writable && let Err(end) = connection.write(now) {
            self.close(token, end, counters);
        }
    }

    /// True if a turn would find something to do at once.
    pub(super) fn is_ready(&self) -> bool {
        !self.readable.is_empty()
            || !self.closed.is_empty()
            || self
                .listeners
                .iter()
                .any(|listener| listener.ready && listener.retry_at.is_none())
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let retries = self
            .listeners
            .iter()
            .filter_map(|listener| listener.retry_at);
        self.sweep_at.into_iter().chain(retries).min()
    }

    /// Takes in new connections.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        registry: &Registry,
        counters: &mut SocketCounters,
    ) {
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                let listener = &mut self.listeners[index];
                if !listener.ready || listener.retry_at.is_some() {
                    break;
                }
                match listener.socket.accept() {
                    Ok((stream, remote)) => self.admit(now, stream, remote, registry, counters),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        listener.ready = false;
                    }
                    Err(error) if is_about_connection(&error) => {}
                    Err(error) => {
                        listener.retry_at = Some(now + SWEEP_INTERVAL);
                        let told = listener.complained_at;
                        if told.is_none_or(|at| now >= at + COMPLAINT_INTERVAL) {
                            tracing::warn!(%error, "cannot accept connections");
                            listener.complained_at = Some(now);
                        }
                    }
                }
            }
        }
    }

    fn admit(
        &mut self,
        now: Instant,
        mut stream: TcpStream,
        remote: SocketAddr,
        registry: &Registry,
        counters: &mut SocketCounters,
    ) {
        if !self.has_room(remote, counters) {
            counters.tcp_rejected += 1;
            return;
        }
        let token = Token(self.next_token);
        let (Ok(local), Ok(())) = (
            stream.local_addr(),
            registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE),
        ) else {
            counters.tcp_rejected += 1;
            return;
        };
        tune(&stream);
        let flow = Flow {
            protocol: FlowProtocol::Tcp,
            local,
            remote,
        };
        let connection = Connection::new(now, stream, flow);
        self.insert(now, token, connection, counters);
        counters.tcp_accepted += 1;
    }

    /// Takes note of a connection which is registered as `token`, the next one.
    fn insert(
        &mut self,
        now: Instant,
        token: Token,
        connection: Connection,
        counters: &mut SocketCounters,
    ) {
        let flow = connection.flow;
        self.next_token += 1;
        self.by_flow.insert(flow, token);
        *self.per_source.entry(source(flow.remote.ip())).or_default() += 1;
        self.connections.insert(token, connection);
        self.sweep_at.get_or_insert(now + SWEEP_INTERVAL);
        counters.tcp_connections = self.connections.len() as u64;
    }

    /// True if one more connection from `remote` is within the limits.
    fn has_room(&mut self, remote: SocketAddr, counters: &mut SocketCounters) -> bool {
        let source_is_full = self
            .per_source
            .get(&source(remote.ip()))
            .is_some_and(|count| *count >= self.limits.per_source);
        !source_is_full && self.make_room(counters)
    }

    /// Makes room for one more connection at the expense of the oldest that was never answered; false
    /// if all have been.
    fn make_room(&mut self, counters: &mut SocketCounters) -> bool {
        if self.connections.len() < self.limits.total {
            return true;
        }
        let oldest = self
            .connections
            .iter()
            .filter(|(_, connection)| !connection.is_answered)
            .min_by_key(|(_, connection)| connection.accepted_at)
            .map(|(token, _)| *token);
        if let Some(token) = oldest {
            self.close(token, End::Expelled, counters);
        }
        oldest.is_some()
    }

    /// Connections that have something to read.
    pub(super) fn readable(&self) -> usize {
        self.readable.len()
    }

    /// Reads from the connection whose turn it is, and passes each frame to `deliver`.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        counters: &mut SocketCounters,
        mut deliver: impl FnMut(Flow, &mut [u8]),
    ) {
        let Some(token) = self.readable.pop_front() else {
            return;
        };
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        match connection.read(now, counters, &mut deliver) {
            Ok(true) => self.readable.push_back(token),
            Ok(false) => connection.is_readable = false,
            Err(end) => self.close(token, end, counters),
        }
    }

    /// Queues one frame for the peer of `flow`; [`flush`](Self::flush) writes it.
    pub(super) fn send(&mut self, flow: &Flow, frame: &[u8], counters: &mut SocketCounters) {
        let Some(token) = self.by_flow.get(flow) else {
            counters.tcp_dropped += 1;
            return;
        };
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        connection.is_answered = true;
        if !connection.writer.push(frame) {
            counters.tcp_dropped += 1;
            return;
        }
        counters.tcp_sent += 1;
        if !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(*token);
        }
    }

    /// Writes what has been queued, as far as the peers take it.
    pub(super) fn flush(&mut self, now: Instant, counters: &mut SocketCounters) {
        while let Some(token) = self.dirty.pop() {
            let Some(connection) = self.connections.get_mut(&token) else {
                continue;
            };
            connection.is_dirty = false;
            if let Err(end) = connection.write(now) {
                self.close(token, end, counters);
            }
        }
    }

    /// Closes connections that are past a timeout.
    pub(super) fn handle_timeout(&mut self, now: Instant, counters: &mut SocketCounters) {
        for listener in &mut self.listeners {
            listener.retry_at = listener.retry_at.filter(|at| now < *at);
        }
        if self.sweep_at.is_none_or(|at| now < at) {
            return;
        }
        let late: Vec<Token> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.is_late(now))
            .map(|(token, _)| *token)
            .collect();
        for token in late {
            self.close(token, End::Expelled, counters);
        }
        self.sweep_at = (!self.connections.is_empty()).then_some(now + SWEEP_INTERVAL);
    }

    /// The next flow that ended since the last call.
    pub(super) fn poll_closed(&mut self) -> Option<Flow> {
        self.closed.pop()
    }

    fn close(&mut self, token: Token, end: End, counters: &mut SocketCounters) {
        // Dropping the stream deregisters it.
        let Some(Connection { flow, .. }) = self.remove(token, counters) else {
            return;
        };
        self.closed.push(flow);
        if end == End::Expelled {
            counters.tcp_expelled += 1;
        }
        tracing::debug!(remote = %flow.remote, ?end, "connection closed");
    }

    /// Forgets a connection.
    fn remove(&mut self, token: Token, counters: &mut SocketCounters) -> Option<Connection> {
        let connection = self.connections.remove(&token)?;
        let flow = connection.flow;
        self.by_flow.remove(&flow);
        let source = source(flow.remote.ip());
        if let Some(count) = self.per_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&source);
            }
        }
        counters.tcp_connections = self.connections.len() as u64;
        Some(connection)
    }
}

impl Connection {
    fn new(now: Instant, stream: TcpStream, flow: Flow) -> Self {
        Self {
            stream,
            flow,
            reader: FrameReader::new(),
            writer: FrameWriter::default(),
            is_readable: false,
            is_dirty: false,
            accepted_at: now,
            received_at: None,
            is_answered: false,
            has_moved: false,
            stalled_since: None,
        }
    }

    /// True if there may be more to read.
    fn read(
        &mut self,
        now: Instant,
        counters: &mut SocketCounters,
        deliver: &mut impl FnMut(Flow, &mut [u8]),
    ) -> Result<bool, End> {
        for _ in 0..READS_PER_TURN {
            match self.stream.read(self.reader.space()) {
                Ok(0) => return Err(End::Gone),
                Ok(len) => self.reader.advance(len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(End::Gone),
            }
            while let Some(frame) = self.reader.next_frame().map_err(|_| End::Expelled)? {
                if self.received_at.is_none() && !is_stun_request(frame) {
                    return Err(End::Expelled);
                }
                self.received_at = Some(now);
                counters.tcp_received += 1;
                deliver(self.flow, frame);
            }
        }
        Ok(true)
    }

    fn write(&mut self, now: Instant) -> Result<(), End> {
        while !self.writer.pending().is_empty() {
            match self.stream.write(self.writer.pending()) {
                Ok(0) => return Err(End::Gone),
                Ok(len) => {
                    self.writer.advance(len);
                    self.stalled_since = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stalled_since.get_or_insert(now);
                    return Ok(());
                }
                // Linux completes the connection before it accepts; elsewhere the first write may be
                // early, and readiness follows.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(End::Gone),
            }
        }
        self.stalled_since = None;
        Ok(())
    }

    fn is_late(&self, now: Instant) -> bool {
        let since = |at| now.saturating_duration_since(at);
        let silent_too_long = self
            .received_at
            .map_or(since(self.accepted_at) > FIRST_FRAME_TIMEOUT, |at| {
                since(at) > IDLE_TIMEOUT
            });
        silent_too_long
            || !self.is_answered && since(self.accepted_at) > ANSWER_TIMEOUT
            || self
                .stalled_since
                .is_some_and(|at| since(at) > STALL_TIMEOUT)
    }
}

/// A STUN binding request with the magic cookie (RFC 8489, section 5).
fn is_stun_request(frame: &[u8]) -> bool {
    frame.len() >= 20 && frame[..2] == [0x00, 0x01] && frame[4..8] == [0x21, 0x12, 0xa4, 0x42]
}

/// Failures that concern one incoming connection, not the listener (accept(2)).
fn is_about_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// What one subscriber line can have many of: an IPv6 network, or an IPv4 address.
fn source(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// Latency before throughput. Refusals are harmless.
fn tune(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(KERNEL_UNSENT_BYTES);
}

#[cfg(test)]
mod tests;
