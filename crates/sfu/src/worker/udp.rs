//! One UDP socket of a worker: batched receive, segmented send, and what waits while it is full.
//!
//! Read [`UdpPort`] first; [`ReceiveBatch`] is the memory that all ports of a worker receive into. What the system
//! turns out not to do (cut runs, take many messages at once) is done without from then on, and nothing is lost
//! by finding out.

mod backlog;
#[cfg(test)]
pub(super) mod faults;
#[cfg(test)]
mod tests;

use std::array;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::slice::ChunksMut;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use udp_batch::Batch;

use self::backlog::Backlog;
use super::transmit::Message;
use crate::config::UdpOffload;
use crate::engine::flow::{Flow, FlowProtocol};
use crate::engine::outbox::Outbox;
use crate::metrics::{RUN_BOUNDS, SocketCounters};

/// The longest thing one receive buffer may get: a UDP datagram, or a run that the kernel coalesced.
const RECEIVE_BYTES_MAX: usize = 65_535;

/// Distance between two receive buffers. Not a multiple of the page size, since the first bytes of all
/// buffers would then compete for the same few cache lines.
const RECEIVE_STRIDE_BYTES: usize = RECEIVE_BYTES_MAX + 1 + 21 * 64;

/// Datagrams that Linux cuts from one message (`UDP_MAX_SEGMENTS`).
const SEGMENTS_MAX: usize = 64;

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
    state: UdpSocketState,
    /// What is in use: what was wanted, without what the system has refused since.
    offload: UdpOffload,
    local: SocketAddr,
    /// There may be something to receive: readiness is told once, so it must be remembered.
    readable: bool,
    registered: Option<Interest>,
    backlog: Backlog,
    retry_at: Option<Instant>,
    #[cfg(test)]
    faults: std::cell::RefCell<faults::Faults>,
}

impl UdpPort {
    pub(super) fn new(socket: std::net::UdpSocket, wanted: UdpOffload) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let state = UdpSocketState::new((&socket).into())?;
        let coalesces = state.gro_segments() > 1;
        if coalesces && !wanted.gro {
            receive_singly(&socket)?;
        }
        Ok(Self {
            socket: UdpSocket::from_std(socket),
            offload: UdpOffload {
                gso: wanted.gso && state.max_gso_segments() > 1,
                gro: wanted.gro && coalesces,
                sendmmsg: wanted.sendmmsg,
            },
            state,
            local,
            readable: true,
            registered: None,
            backlog: Backlog::default(),
            retry_at: None,
            #[cfg(test)]
            faults: std::cell::RefCell::default(),
        })
    }

    #[cfg(test)]
    pub(super) fn faults(&mut self) -> &mut faults::Faults {
        self.faults.get_mut()
    }

    /// The address it is bound to.
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// What is in use.
    pub(super) fn offload(&self) -> UdpOffload {
        self.offload
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
        let (socket, state, meta) = (&self.socket, &self.state, &mut batch.meta);
        let result = socket.try_io(|| state.recv(socket.into(), &mut slices, meta));
        batch.filled = match result {
            Ok(filled) => {
                // The system call took fewer than there was room for, so it ended by finding nothing: to ask again would be
                // for nothing, and whatever comes is told of.
                self.readable = filled == BATCH_SIZE;
                filled
            }
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

    /// Datagrams that one message may have.
    pub(super) fn segments_max(&self) -> usize {
        if self.offload.gso { SEGMENTS_MAX } else { 1 }
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
        while let Some((first, others)) = rest.split_first()
            && self.backlog.is_empty()
        {
            let refusal = match self.send_batch(outbox, rest, batch, counters) {
                Ok(sent) if sent > 0 => {
                    rest = &rest[sent.min(rest.len())..];
                    continue;
                }
                Err(error) if is_full(&error) => {
                    self.note_full(now, &error);
                    break;
                }
                // Alone it leaves, or tells what is wrong with it.
                answer => answer.err(),
            };
            let refused = counters.udp_refused;
            for part in first.parts() {
                self.send_one(now, first, outbox.bytes(part), counters);
            }
            // Parts that are runs themselves have told.
            let is_pair = !first.closing.is_empty() && first.range.len() <= first.segment_bytes;
            let has_left = counters.udp_refused == refused && self.backlog.is_empty();
            if let Some(refusal) = refusal.filter(|_| is_pair && has_left) {
                self.note_refused_run(&refusal, counters);
            }
            rest = others;
        }
        for message in rest {
            for part in message.parts() {
                self.keep(message, outbox.bytes(part), counters);
            }
        }
    }

    /// Returns how many of `messages` one system call took; 0 if there is no such call.
    fn send_batch(
        &mut self,
        outbox: &Outbox,
        messages: &[Message],
        batch: &mut Batch,
        counters: &mut SocketCounters,
    ) -> io::Result<usize> {
        if !self.offload.sendmmsg {
            return Ok(0);
        }
        counters.udp_send_calls += 1;
        let sent = match self.call_batch(outbox, messages, batch) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                self.offload.sendmmsg = false;
                tracing::warn!(%error, "no sendmmsg on this system; sending message by message");
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        for message in &messages[..sent.min(messages.len())] {
            let datagrams = segments(message.len(), message.segment_bytes);
            counters.udp_sent += datagrams;
            counters.udp_sent_bytes += message.len() as u64;
            counters.udp_runs.record(&RUN_BOUNDS, datagrams, 1);
        }
        Ok(sent)
    }

    fn call_batch(
        &self,
        outbox: &Outbox,
        messages: &[Message],
        batch: &mut Batch,
    ) -> io::Result<usize> {
        #[cfg(test)]
        let messages = self.faults.borrow_mut().taken(messages)?;
        let arguments = messages.iter().map(|message| udp_batch::Message {
            remote: message.flow.remote,
            source: source_of(&message.flow),
            parts: [&message.range, &message.closing].map(|part| outbox.bytes(part.clone())),
            // No longer than a datagram.
            segment_bytes: (message.is_run()).then_some(message.segment_bytes as u16),
        });
        let socket = &self.socket;
        socket.try_io(|| batch.send(socket, arguments))
    }

    /// Sends a part of a message. Behind a backlog it waits, as that of the part before may have just begun.
    fn send_one(
        &mut self,
        now: Instant,
        message: &Message,
        bytes: &[u8],
        counters: &mut SocketCounters,
    ) {
        let taken = match self.backlog.is_empty() {
            true => self.try_send(now, &message.flow, bytes, message.segment_bytes, counters),
            false => 0,
        };
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

    /// Datagrams that the system dropped before they were received; 0 if it does not tell.
    pub(super) fn dropped(&self) -> u64 {
        udp_batch::dropped(&self.socket).map_or(0, u64::from)
    }

    /// Bytes that wait for room.
    pub(super) fn backlog_bytes(&self) -> usize {
        self.backlog.len_bytes()
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
        let len_max = segment_bytes * self.segments_max();
        let mut taken = 0;
        loop {
            let message = &bytes[taken..bytes.len().min(taken + len_max)];
            let done = match self.send_once(flow, message, segment_bytes, counters) {
                Ok(()) => message.len(),
                Err(error) if is_full(&error) => {
                    self.note_full(now, &error);
                    0
                }
                Err(error) if message.len() > segment_bytes => {
                    self.try_singly(now, flow, message, segment_bytes, &error, counters)
                }
                Err(error) => {
                    tracing::trace!(%error, "send refused");
                    counters.udp_refused += 1;
                    message.len()
                }
            };
            taken += done;
            if done < message.len() || taken == bytes.len() {
                return taken;
            }
        }
    }

    /// As [`Self::try_send`], for a run that was refused with `refusal`: either the device does not cut runs, or
    /// nothing reaches this peer. Single datagrams tell which.
    fn try_singly(
        &mut self,
        now: Instant,
        flow: &Flow,
        bytes: &[u8],
        segment_bytes: usize,
        refusal: &io::Error,
        counters: &mut SocketCounters,
    ) -> usize {
        let (mut taken, mut gets_through) = (0, false);
        for datagram in bytes.chunks(segment_bytes) {
            match self.send_once(flow, datagram, segment_bytes, counters) {
                // A shorter one may have a length that the others exceed.
                Ok(()) => gets_through |= datagram.len() == segment_bytes,
                Err(error) if is_full(&error) => {
                    self.note_full(now, &error);
                    break;
                }
                Err(_) => counters.udp_refused += 1,
            }
            taken += datagram.len();
        }
        if gets_through {
            self.note_refused_run(refusal, counters);
        }
        taken
    }

    /// Takes note of a run whose datagrams left one by one.
    fn note_refused_run(&mut self, refusal: &io::Error, counters: &mut SocketCounters) {
        counters.udp_runs_refused += 1;
        if self.offload.gso && is_about_runs(refusal) {
            self.offload.gso = false;
            tracing::warn!(
                error = %refusal,
                "a network device does not cut runs of datagrams (GSO); sending single ones to all peers of this worker"
            );
        }
    }

    fn send_once(
        &self,
        flow: &Flow,
        bytes: &[u8],
        segment_bytes: usize,
        counters: &mut SocketCounters,
    ) -> io::Result<()> {
        counters.udp_send_calls += 1;
        #[cfg(test)]
        self.faults
            .borrow_mut()
            .check(bytes.len() > segment_bytes)?;
        let transmit = Transmit {
            destination: flow.remote,
            ecn: None,
            contents: bytes,
            segment_size: (bytes.len() > segment_bytes).then_some(segment_bytes),
            src_ip: source_of(flow),
        };
        let socket = &self.socket;
        socket.try_io(|| self.state.try_send(socket.into(), &transmit))?;
        let datagrams = segments(bytes.len(), segment_bytes);
        counters.udp_runs.record(&RUN_BOUNDS, datagrams, 1);
        counters.udp_sent += datagrams;
        counters.udp_sent_bytes += bytes.len() as u64;
        Ok(())
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

/// True if the device, or what encrypts on the way to it, may be to blame rather than the message.
fn is_about_runs(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EIO)
        || matches!(
            error.kind(),
            io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
        )
}

/// `EIO`, for which the standard library has no kind of its own.
const EIO: i32 = 5;

/// `ENOBUFS`, for which the standard library has no kind of its own.
#[cfg(target_os = "linux")]
const NOBUFS: i32 = 105;
#[cfg(not(target_os = "linux"))]
const NOBUFS: i32 = 55;

/// Undoes what `quinn-udp` does to every socket: lets the system give each datagram by itself.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn receive_singly(socket: &std::net::UdpSocket) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt::UdpGroSegment};
    Ok(setsockopt(socket, UdpGroSegment, &false)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn receive_singly(_socket: &std::net::UdpSocket) -> io::Result<()> {
    Ok(())
}
