//! One UDP socket of a worker: batched receive, segmented send, and what waits while it is full.
//!
//! Read [`UdpPort`] first; [`ReceiveBatch`] is the memory that all ports of a worker receive into.

use std::array;
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::slice::ChunksMut;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use udp_batch::Batch;

use super::transmit::Message;
use crate::engine::flow::{Flow, FlowProtocol};
use crate::engine::outbox::Outbox;
use crate::metrics::{RUN_BOUNDS, SocketCounters};

/// The longest thing one receive buffer may get: a UDP datagram, or a run that the kernel coalesced.
const RECEIVE_BYTES_MAX: usize = 65_535;

/// Distance between two receive buffers. Not a multiple of the page size, since the first bytes of all
/// buffers would then compete for the same few cache lines.
const RECEIVE_STRIDE_BYTES: usize = RECEIVE_BYTES_MAX + 1 + 21 * 64;

/// Bytes that may wait for a full socket. Too low: a burst is lost. Too high: a stall ends in a flood of
/// stale media.
const BACKLOG_BYTES_MAX: usize = 1024 * 1024;

/// Least time between two attempts to switch segmentation offload on again. Too low: system calls
/// wasted on a peer that cannot be reached. Too high: all others pay for such a peer.
const OFFLOAD_RESTORE_INTERVAL: Duration = Duration::from_millis(100);

/// Time after which a device whose queue was full is tried again. Too low: system calls wasted. Too high:
/// packets late.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// Receive buffers for one system call.
pub(super) struct ReceiveBatch {
    memory: Vec<u8>,
    meta: [RecvMeta; BATCH_SIZE],
    filled: usize,
}

impl ReceiveBatch {
    pub(super) fn new() -> Self {
        Self {
            memory: vec![0; RECEIVE_STRIDE_BYTES * BATCH_SIZE],
            meta: [RecvMeta::default(); BATCH_SIZE],
            filled: 0,
        }
    }

    /// Number of buffers filled by the last [`UdpPort::receive`].
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// Buffer `index`: the peer, the local address if known, and the datagrams.
    pub(super) fn buffer(
        &mut self,
        index: usize,
    ) -> (SocketAddr, Option<IpAddr>, ChunksMut<'_, u8>) {
        let meta = self.meta[index];
        let start = index * RECEIVE_STRIDE_BYTES;
        let bytes = &mut self.memory[start..start + meta.len];
        (meta.addr, meta.dst_ip, bytes.chunks_mut(meta.stride.max(1)))
    }
}

/// One UDP socket.
pub(super) struct UdpPort {
    socket: UdpSocket,
    offload: UdpSocketState,
    /// Segments per send that the system allowed when the socket was opened.
    segments_supported: usize,
    /// Segmentation was switched off for the sake of one peer; see [`restore_offload`](Self::restore_offload).
    offload_suspended: bool,
    offload_restored_at: Option<Instant>,
    local: SocketAddr,
    /// There may be something to receive: readiness is told once, so it must be remembered.
    readable: bool,
    registered: Option<Interest>,
    backlog: Backlog,
    retry_at: Option<Instant>,
}

impl UdpPort {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let offload = UdpSocketState::new((&socket).into())?;
        Ok(Self {
            socket: UdpSocket::from_std(socket),
            segments_supported: offload.max_gso_segments(),
            offload,
            offload_suspended: false,
            offload_restored_at: None,
            local,
            readable: true,
            registered: None,
            backlog: Backlog::default(),
            retry_at: None,
        })
    }

    /// Tells the poll loop what to wait for. Room to send matters only while something waits for it:
    /// the kernel reports it after every packet that leaves, each time waking the worker.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = if self.backlog.is_empty() {
            Interest::READABLE
        } else {
            Interest::READABLE | Interest::WRITABLE
        };
        match self.registered.replace(interest) {
            Some(registered) if registered == interest => Ok(()),
            Some(_) => registry.reregister(&mut self.socket, token, interest),
            None => registry.register(&mut self.socket, token, interest),
        }
    }

    pub(super) fn handle_readable(&mut self) {
        self.readable = true;
    }

    /// True if [`receive`](Self::receive) may find something.
    pub(super) fn is_readable(&self) -> bool {
        self.readable
    }

    /// True if packets from `local` must leave here.
    pub(super) fn serves(&self, local: SocketAddr) -> bool {
        let (ip, port) = (self.local.ip(), self.local.port());
        port == local.port()
            && (ip == local.ip() || ip.is_unspecified() && ip.is_ipv4() == local.is_ipv4())
    }

    /// The flow of a datagram from `remote`; `None` if an answer could not reach it.
    pub(super) fn flow(&self, remote: SocketAddr, local: Option<IpAddr>) -> Option<Flow> {
        let ip = remote.ip();
        let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        let answerable =
            remote.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast;
        answerable.then(|| Flow {
            protocol: FlowProtocol::Udp,
            local: SocketAddr::new(local.unwrap_or(self.local.ip()), self.local.port()),
            remote,
        })
    }

    /// Fills `batch` by one system call.
    pub(super) fn receive(&mut self, batch: &mut ReceiveBatch, counters: &mut SocketCounters) {
        let mut rest = batch.memory.as_mut_slice();
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = array::from_fn(|_| {
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(RECEIVE_STRIDE_BYTES);
            rest = tail;
            IoSliceMut::new(&mut head[..RECEIVE_BYTES_MAX])
        });
        let (socket, offload, meta) = (&self.socket, &self.offload, &mut batch.meta);
        let result = socket.try_io(|| offload.recv(socket.into(), &mut slices, meta));
        batch.filled = match result {
            Ok(filled) => filled,
            Err(error) => {
                // The system tells again when there is something, after an error as well.
                self.readable = false;
                if error.kind() != io::ErrorKind::WouldBlock {
                    counters.udp_receive_errors += 1;
                    tracing::debug!(%error, "cannot receive");
                }
                0
            }
        };
    }

    /// Datagrams that one send may carry.
    pub(super) fn segments_max(&self) -> usize {
        self.offload.max_gso_segments()
    }

    /// Sends messages that all leave here. Behind a backlog they wait in it, so that order is kept.
    pub(super) fn send(
        &mut self,
        now: Instant,
        outbox: &Outbox,
        messages: &[Message],
        batch: &mut Batch,
        counters: &mut SocketCounters,
    ) {
        let mut rest = messages;
        while let Some(first) = rest.first()
            && self.backlog.is_empty()
        {
            let sent = match self.send_batch(outbox, rest, batch, counters) {
                Ok(sent) => sent,
                Err(error) if is_full(&error) => {
                    self.note_full(now, &error);
                    break;
                }
                // One by one tells what is wrong with it.
                Err(_) => {
                    let bytes = outbox.bytes(first.range.clone());
                    self.send_one(now, first, bytes, counters);
                    1
                }
            };
            rest = &rest[sent.min(rest.len())..];
        }
        for message in rest {
            let bytes = outbox.bytes(message.range.clone());
            self.keep(message, bytes, counters);
        }
    }

    /// Returns how many of `messages` one system call took, at least one.
    fn send_batch(
        &self,
        outbox: &Outbox,
        messages: &[Message],
        batch: &mut Batch,
        counters: &mut SocketCounters,
    ) -> io::Result<usize> {
        counters.udp_send_calls += 1;
        let arguments = messages.iter().map(|message| udp_batch::Message {
            remote: message.flow.remote,
            source: source_of(&message.flow),
            bytes: outbox.bytes(message.range.clone()),
            // No longer than a datagram.
            segment_bytes: (message.range.len() > message.segment_bytes)
                .then_some(message.segment_bytes as u16),
        });
        let socket = &self.socket;
        let sent = socket.try_io(|| batch.send(socket, arguments))?;
        for message in &messages[..sent.min(messages.len())] {
            let datagrams = segments(message.range.len(), message.segment_bytes);
            counters.udp_sent += datagrams;
            counters.udp_sent_bytes += message.range.len() as u64;
            counters.udp_runs.record(&RUN_BOUNDS, datagrams, 1);
        }
        Ok(sent)
    }

    fn send_one(
        &mut self,
        now: Instant,
        message: &Message,
        bytes: &[u8],
        counters: &mut SocketCounters,
    ) {
        let taken = self.try_send(now, &message.flow, bytes, message.segment_bytes, counters);
        if taken < bytes.len() {
            self.keep(message, &bytes[taken..], counters);
        }
    }

    fn keep(&mut self, message: &Message, bytes: &[u8], counters: &mut SocketCounters) {
        if !self
            .backlog
            .push(message.flow, bytes, message.segment_bytes)
        {
            counters.udp_backlog_dropped += segments(bytes.len(), message.segment_bytes);
        }
    }

    /// Bytes that wait for room.
    pub(super) fn backlog_bytes(&self) -> usize {
        self.backlog.arena.len() - self.backlog.sent
    }

    /// When the backlog should be tried again although nothing told that there is room.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Notes that the socket takes nothing now.
    fn note_full(&mut self, now: Instant, error: &io::Error) {
        // A full socket says when there is room; a full queue of the device does not.
        let tells = error.kind() == io::ErrorKind::WouldBlock;
        self.retry_at = (!tells).then(|| now + RETRY_INTERVAL);
    }

    /// The socket takes more: sends what waits.
    pub(super) fn handle_writable(&mut self, now: Instant, counters: &mut SocketCounters) {
        self.retry_at = None;
        let mut backlog = std::mem::take(&mut self.backlog);
        while let Some((run, bytes)) = backlog.first() {
            let taken = self.try_send(now, &run.flow, bytes, run.segment_bytes, counters);
            let finished = taken == bytes.len();
            backlog.advance(taken);
            if !finished {
                break;
            }
        }
        self.backlog = backlog;
    }

    /// Returns how many bytes are dealt with, sent or refused; less than all if the socket is full.
    fn try_send(
        &mut self,
        now: Instant,
        flow: &Flow,
        bytes: &[u8],
        segment_bytes: usize,
        counters: &mut SocketCounters,
    ) -> usize {
        if self.offload_suspended {
            self.restore_offload(now);
        }
        let error = match self.send_once(flow, bytes, segment_bytes, counters) {
            Ok(()) => return bytes.len(),
            Err(error) if is_full(&error) => {
                self.note_full(now, &error);
                return 0;
            }
            Err(error) => error,
        };
        tracing::trace!(%error, "send refused");
        if bytes.len() <= segment_bytes {
            counters.udp_refused += 1;
            self.restore_offload(now);
            return bytes.len();
        }
        // Either the device cannot segment, or nothing reaches this peer; one by one tells which.
        let mut taken = 0;
        let mut sent = false;
        for datagram in bytes.chunks(segment_bytes) {
            match self.send_once(flow, datagram, segment_bytes, counters) {
                Ok(()) => sent = true,
                Err(error) if is_full(&error) => {
                    self.note_full(now, &error);
                    break;
                }
                Err(_) => counters.udp_refused += 1,
            }
            taken += datagram.len();
        }
        if !sent && taken > 0 {
            self.restore_offload(now);
        }
        taken
    }

    fn send_once(
        &self,
        flow: &Flow,
        bytes: &[u8],
        segment_bytes: usize,
        counters: &mut SocketCounters,
    ) -> io::Result<()> {
        counters.udp_send_calls += 1;
        let transmit = Transmit {
            destination: flow.remote,
            ecn: None,
            contents: bytes,
            segment_size: (bytes.len() > segment_bytes).then_some(segment_bytes),
            src_ip: source_of(flow),
        };
        let socket = &self.socket;
        socket.try_io(|| self.offload.try_send(socket.into(), &transmit))?;
        let datagrams = segments(bytes.len(), segment_bytes);
        counters.udp_runs.record(&RUN_BOUNDS, datagrams, 1);
        counters.udp_sent += datagrams;
        counters.udp_sent_bytes += bytes.len() as u64;
        Ok(())
    }

    /// `quinn-udp` takes any `EINVAL` for a device that cannot segment, and never segments again. A
    /// single unreachable peer (its local address is gone, its packets exceed the MTU) causes the same
    /// error and must not slow down all others.
    fn restore_offload(&mut self, now: Instant) {
        self.offload_suspended = self.segments_max() < self.segments_supported;
        let recent = |at| now.saturating_duration_since(at) < OFFLOAD_RESTORE_INTERVAL;
        if !self.offload_suspended || self.offload_restored_at.is_some_and(recent) {
            return;
        }
        self.offload_restored_at = Some(now);
        self.offload_suspended = false;
        match UdpSocketState::new((&self.socket).into()) {
            Ok(offload) => self.offload = offload,
            Err(error) => tracing::debug!(%error, "cannot restore segmentation offload"),
        }
    }
}

fn segments(len: usize, segment_bytes: usize) -> u64 {
    len.div_ceil(segment_bytes.max(1)).max(1) as u64
}

/// Where a datagram comes from; `None` as long as nothing has told which of our addresses the peer knows.
fn source_of(flow: &Flow) -> Option<IpAddr> {
    Some(flow.local.ip()).filter(|ip| !ip.is_unspecified())
}

/// True if the same may succeed later: the socket's buffer or the device's queue is full.
fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(NOBUFS)
}

/// `ENOBUFS`, for which the standard library has no kind of its own.
#[cfg(target_os = "linux")]
const NOBUFS: i32 = 105;
#[cfg(not(target_os = "linux"))]
const NOBUFS: i32 = 55;

/// Datagrams of one flow and size.
#[derive(Clone, Copy, Debug)]
struct Run {
    flow: Flow,
    bytes: usize,
    segment_bytes: usize,
}

/// What waits for a full socket, in order.
#[derive(Debug, Default)]
struct Backlog {
    arena: Vec<u8>,
    sent: usize,
    runs: VecDeque<Run>,
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// False if there is no room.
    fn push(&mut self, flow: Flow, bytes: &[u8], segment_bytes: usize) -> bool {
        if self.arena.len() - self.sent + bytes.len() > BACKLOG_BYTES_MAX {
            return false;
        }
        if self.arena.len() + bytes.len() > BACKLOG_BYTES_MAX {
            self.arena.drain(..self.sent);
            self.sent = 0;
        }
        self.arena.extend_from_slice(bytes);
        self.runs.push_back(Run {
            flow,
            bytes: bytes.len(),
            segment_bytes,
        });
        true
    }

    fn first(&self) -> Option<(Run, &[u8])> {
        let run = *self.runs.front()?;
        Some((run, &self.arena[self.sent..self.sent + run.bytes]))
    }

    /// Forgets the first `bytes` of the first run.
    fn advance(&mut self, bytes: usize) {
        let Some(run) = self.runs.front_mut() else {
            return;
        };
        self.sent += bytes;
        run.bytes -= bytes;
        if run.bytes == 0 {
            self.runs.pop_front();
        }
        if self.runs.is_empty() {
            self.arena.clear();
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests;
