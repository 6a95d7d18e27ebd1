//! The I/O shell of the media core: a worker is one thread with its own sockets and its own engine.
//!
//! Read [`Worker`] first: one turn of [`Worker::run`] receives, sends, takes commands and fires timers,
//! each within a budget, so that none of them starves the others. Signaling reaches a worker through its
//! [`CommandQueue`] only. Workers share one port, and hand over to each other what the system gives to the
//! wrong one ([`handover`]). Deliberately absent: anything about media, and locks on the packet path.

mod bind;
mod doorbell;
mod framing;
mod handover;
mod offload;
mod pinning;
mod queue;
mod relay;
mod ring;
mod rtp;
mod taps;
mod tcp;
mod transmit;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};

use self::doorbell::Doorbell;
use self::handover::Handover;
use self::relay::Relay;
use self::rtp::FIRST_RTP;
use self::tcp::TcpFlows;
use self::transmit::Transmitter;
use self::udp::{ReceiveBatch, UdpPort};
use crate::config::UdpOffload;
use crate::engine::flow::Flow;
use crate::engine::{Engine, Subject};
use crate::metrics::{HOP_BOUNDS_US, Histogram, Metrics, SocketCounters};

pub use self::bind::BindError;
pub(crate) use self::bind::Sockets;
pub(crate) use self::offload::detect as detect_offload;
pub(crate) use self::pinning::plan as plan_pinning;
pub(crate) use self::queue::{Command, CommandQueue, gone};
pub(crate) use self::rtp::{RtpAddresses, RtpPool, RtpSockets};
pub(crate) use self::taps::{TapReceiver, tap};

/// System calls that receive from one UDP socket in one turn. Too low: the loop's own cost is shared by
/// few packets. Too high: commands, timers and the other sockets wait.
const RECEIVES_PER_TURN: usize = 8;

/// Time that receiving from one UDP socket may take in one turn; see [`RECEIVES_PER_TURN`].
const RECEIVE_TIME_PER_TURN: Duration = Duration::from_millis(1);

/// Commands taken in one turn. One that starts a DTLS handshake or parses a long description takes a few
/// 100 µs. Too low: a join storm is worked off slowly. Too high: media waits for it.
const COMMANDS_PER_TURN: usize = 8;

/// Frames that go along when a connection moves to another worker. Peers begin with one check. Too high: whoever
/// sends many makes us keep them before they have proved anything.
const MOVED_FRAMES_MAX: usize = 8;

/// Events taken from the system in one turn. More wait for the next.
const EVENTS_PER_TURN: usize = 256;

const WAKER: Token = Token(0);
const FIRST_UDP: usize = 1;

/// One thread of the media server.
pub(crate) struct Worker {
    poll: Poll,
    doorbell: Arc<Doorbell>,
    queue: Arc<CommandQueue>,
    engine: Engine,
    ports: UdpPorts,
    /// Kept for its memory.
    ready: Vec<usize>,
    tcp: TcpFlows,
    handover: Handover,
    relay: Relay,
    transmitter: Transmitter,
    counters: SocketCounters,
    /// See [`Metrics::hop`].
    hop: Histogram<{ HOP_BOUNDS_US.len() }>,
    turns: u64,
}

/// The UDP sockets of a worker.
struct UdpPorts {
    /// Those that all WebRTC endpoints share, one for each address listened on.
    shared: Vec<UdpPort>,
    rtp: RtpSockets,
}

/// Which socket something came from.
#[derive(Clone, Copy, Debug)]
enum Inlet {
    /// By its index.
    Shared(usize),
    /// By its key.
    Rtp(usize),
}

impl UdpPorts {
    fn port(&mut self, inlet: Inlet) -> Option<&mut UdpPort> {
        match inlet {
            Inlet::Shared(index) => self.shared.get_mut(index),
            Inlet::Rtp(key) => self.rtp.socket(key),
        }
    }

    /// Where packets from `local` must leave.
    fn sender(&mut self, local: SocketAddr) -> Option<&mut UdpPort> {
        let mut shared = self.shared.iter_mut();
        match shared.find(|port| port.serves(local)) {
            Some(port) => Some(port),
            None => self.rtp.sender(local.port()),
        }
    }

    /// Bytes that wait for room in a shared socket.
    fn backlog_bytes(&self) -> usize {
        self.shared.iter().map(UdpPort::backlog_bytes).sum()
    }

    /// What all shared sockets use.
    fn offload(&self) -> UdpOffload {
        let used = self.shared.iter().map(UdpPort::offload);
        used.reduce(UdpOffload::and).unwrap_or(UdpOffload::NONE)
    }

    /// See [`Metrics::udp_overflowed`].
    fn dropped(&self) -> u64 {
        self.shared.iter().map(UdpPort::dropped).sum()
    }

    /// When [`Self::handle_timeout`] wants to be called.
    fn poll_timeout(&self) -> Option<Instant> {
        let shared = self.shared.iter().filter_map(UdpPort::poll_timeout);
        shared.chain(self.rtp.poll_timeout()).min()
    }

    /// Tries again what did not leave.
    fn handle_timeout(&mut self, now: Instant, counters: &mut SocketCounters) {
        for port in &mut self.shared {
            if port.poll_timeout().is_some_and(|at| at <= now) {
                port.handle_writable(now, counters);
            }
        }
        self.rtp.handle_timeout(now, counters);
    }
}

impl Worker {
    /// Takes the sockets into a poll loop that has not begun.
    pub(crate) fn new(
        sockets: Sockets,
        engine: Engine,
        rtp_pool: Arc<RtpPool>,
        rtp_addresses: RtpAddresses,
        offload: UdpOffload,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let queue = Arc::new(CommandQueue::new(Arc::clone(&waker)));
        let mut shared = Vec::with_capacity(sockets.udp.len());
        for (index, socket) in sockets.udp.into_iter().enumerate() {
            let mut port = UdpPort::new(socket, offload)?;
            port.register(poll.registry(), Token(FIRST_UDP + index))?;
            shared.push(port);
        }
        let tcp = TcpFlows::new(sockets.tcp, poll.registry(), FIRST_UDP + shared.len())?;
        let registry = poll.registry().try_clone()?;
        let rtp = RtpSockets::new(rtp_pool, rtp_addresses, offload, registry);
        Ok(Self {
            poll,
            doorbell: Arc::new(Doorbell::new(waker)),
            queue,
            engine,
            ports: UdpPorts { shared, rtp },
            ready: Vec::new(),
            tcp,
            handover: Handover::alone(),
            relay: Relay::alone(),
            transmitter: Transmitter::new(),
            counters: SocketCounters::default(),
            hop: Histogram::default(),
            turns: 0,
        })
    }

    /// Has workers that share a port hand over to each other. Their engines must have the indices that they
    /// have here.
    pub(crate) fn share_port(workers: &mut [Self]) {
        let all = Handover::among(Self::doorbells(workers));
        for (worker, handover) in workers.iter_mut().zip(all) {
            worker.handover = handover;
        }
    }

    /// Has workers pass media on to each other. Their engines must have the indices that they have here.
    pub(crate) fn share_media(workers: &mut [Self]) {
        let all = Relay::among(&Self::doorbells(workers));
        for (worker, relay) in workers.iter_mut().zip(all) {
            worker.relay = relay;
        }
    }

    fn doorbells(workers: &[Self]) -> Vec<Arc<Doorbell>> {
        let doorbells = workers.iter().map(|worker| &worker.doorbell);
        doorbells.cloned().collect()
    }

    /// Where commands for this worker go.
    pub(crate) fn queue(&self) -> Arc<CommandQueue> {
        Arc::clone(&self.queue)
    }

    /// Runs until [`Command::Stop`], on a thread named `media-` and `index`, and on `cpu` only if there is one.
    pub(crate) fn spawn(mut self, index: usize, cpu: Option<usize>) -> io::Result<JoinHandle<()>> {
        thread::Builder::new()
            .name(format!("media-{index}"))
            .spawn(move || {
                let abort = AbortOnPanic;
                if let Some(cpu) = cpu {
                    pinning::pin(cpu);
                }
                self.run();
                self.queue.close();
                drop(abort);
            })
    }

    fn run(&mut self) {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut batch = ReceiveBatch::new();
        loop {
            self.wait(&mut events);
            self.turns += 1;
            self.receive_handed_over();
            self.receive_relayed();
            self.receive_udp(&mut batch);
            self.receive_rtp(&mut batch);
            self.receive_tcp();
            let stopped = self.take_commands();
            self.fire_timers();
            self.release_flows();
            if stopped {
                return;
            }
        }
    }

    /// Blocks until there is something to do, and notes which sockets are ready.
    fn wait(&mut self, events: &mut Events) {
        self.update_interest();
        let mut timeout = self.idle_time();
        if timeout != Some(Duration::ZERO) {
            self.doorbell.fall_asleep();
            if self.handover.is_pending() || self.relay.is_pending() {
                timeout = Some(Duration::ZERO);
            }
        }
        let polled = self.poll.poll(events, timeout);
        self.doorbell.wake_up();
        match polled {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(error) => panic!("the poll loop is unusable: {error}"),
        }
        let now = Instant::now();
        let first_tcp = FIRST_UDP + self.ports.shared.len();
        for event in &*events {
            let token = event.token();
            if token == WAKER {
                continue;
            }
            let readable = event.is_readable() || event.is_error() || event.is_read_closed();
            if token.0 >= FIRST_RTP {
                let counters = &mut self.counters;
                let rtp = &mut self.ports.rtp;
                rtp.handle_ready(now, token, readable, event.is_writable(), counters);
                continue;
            }
            if token.0 >= first_tcp {
                let (tcp, counters) = (&mut self.tcp, &mut self.counters);
                tcp.handle_ready(
                    now,
                    token,
                    first_tcp,
                    readable,
                    event.is_writable(),
                    counters,
                );
                continue;
            }
            let port = &mut self.ports.shared[token.0 - FIRST_UDP];
            if readable {
                port.handle_readable();
            }
            if event.is_writable() {
                port.handle_writable(now, &mut self.counters);
            }
        }
    }

    /// How long there is nothing to do; `None` until an event comes.
    fn idle_time(&self) -> Option<Duration> {
        let busy = self.ports.shared.iter().any(UdpPort::is_readable)
            || self.ports.rtp.is_ready()
            || self.tcp.is_ready()
            || self.handover.is_pending()
            || self.relay.is_pending()
            || !self.queue.is_empty();
        if busy {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.engine.poll_timeout(),
            self.tcp.poll_timeout(),
            self.ports.poll_timeout(),
        ];
        let next = deadlines.into_iter().flatten().min();
        let until = next.map(|next| next.saturating_duration_since(Instant::now()));
        [until, self.relay.retry_interval()]
            .into_iter()
            .flatten()
            .min()
    }

    fn receive_udp(&mut self, batch: &mut ReceiveBatch) {
        for index in 0..self.ports.shared.len() {
            let started = Instant::now();
            let mut now = started;
            for _ in 0..RECEIVES_PER_TURN {
                let port = &mut self.ports.shared[index];
                if !port.is_readable() {
                    break;
                }
                let forwarded = self.engine.packets_forwarded();
                port.receive(batch, &mut self.counters);
                self.handle_batch(Inlet::Shared(index), batch, now);
                self.flush(now);
                let hop = now.elapsed();
                now += hop;
                self.record_hop(hop, forwarded);
                if now.saturating_duration_since(started) > RECEIVE_TIME_PER_TURN {
                    break;
                }
            }
        }
    }

    /// Counts the time that packets took which were forwarded since there were `forwarded`.
    fn record_hop(&mut self, hop: Duration, forwarded: u64) {
        let packets = self.engine.packets_forwarded() - forwarded;
        let hop_us = u64::try_from(hop.as_micros()).unwrap_or(u64::MAX);
        self.hop.record(&HOP_BOUNDS_US, hop_us, packets);
    }

    /// Once from every RTP socket that is ready: each carries the few packets of one stream.
    fn receive_rtp(&mut self, batch: &mut ReceiveBatch) {
        let mut ready = std::mem::take(&mut self.ready);
        self.ports.rtp.take_ready(&mut ready);
        for key in ready.drain(..) {
            let Some(port) = self.ports.rtp.socket(key) else {
                continue;
            };
            let now = Instant::now();
            let forwarded = self.engine.packets_forwarded();
            port.receive(batch, &mut self.counters);
            self.ports.rtp.keep_ready(key);
            self.handle_batch(Inlet::Rtp(key), batch, now);
            self.flush(now);
            self.record_hop(now.elapsed(), forwarded);
        }
        self.ready = ready;
    }

    fn handle_batch(&mut self, inlet: Inlet, batch: &mut ReceiveBatch, now: Instant) {
        // After the receive, so that no claim is missed which was made before a peer sent.
        self.take_notes(now);
        for buffer in 0..batch.filled() {
            let (remote, local, datagrams) = batch.buffer(buffer);
            let port = self.ports.port(inlet);
            let Some(flow) = port.and_then(|port| port.flow(remote, local)) else {
                self.counters.udp_unanswerable += 1;
                continue;
            };
            for datagram in datagrams {
                self.counters.udp_received += 1;
                self.counters.udp_received_bytes += datagram.len() as u64;
                match inlet {
                    Inlet::Shared(_) => self.handle_shared(now, flow, datagram),
                    Inlet::Rtp(_) => self.engine.handle_plain_datagram(now, flow, datagram),
                }
                self.flush_if_much(now);
            }
        }
        self.handover.announce();
    }

    fn receive_tcp(&mut self) {
        let now = Instant::now();
        let forwarded = self.engine.packets_forwarded();
        self.tcp
            .accept(now, self.poll.registry(), &mut self.counters);
        for _ in 0..self.tcp.readable() {
            let (engine, handover) = (&mut self.engine, &self.handover);
            let mut moving: Option<(usize, Flow, Vec<Vec<u8>>)> = None;
            self.tcp.receive(now, &mut self.counters, |flow, frame| {
                if let Some((.., frames)) = &mut moving {
                    // What is left out, the peer sends again: they are checks.
                    if frames.len() < MOVED_FRAMES_MAX {
                        frames.push(frame.to_vec());
                    }
                } else if let Some(owner) = handover.addressee(frame) {
                    moving = Some((owner, flow, vec![frame.to_vec()]));
                } else {
                    engine.handle_datagram(now, flow, frame);
                }
            });
            if let Some((owner, flow, frames)) = moving {
                self.move_connection(now, owner, flow, frames);
            }
            self.flush_if_much(now);
        }
        self.flush(now);
        self.record_hop(now.elapsed(), forwarded);
        while let Some(flow) = self.tcp.poll_closed() {
            self.engine.handle_flow_closed(now, flow);
        }
        self.flush(now);
    }

    /// True if the worker was told to stop.
    fn take_commands(&mut self) -> bool {
        for _ in 0..COMMANDS_PER_TURN {
            let Some(command) = self.queue.pop() else {
                return false;
            };
            let now = Instant::now();
            match command {
                Command::Call(call) => call(&mut self.engine, &mut self.ports.rtp, now),
                Command::AddBranch(pipeline) => self.engine.add_branch(&pipeline),
                Command::ReleaseElement(element) => self.release(Subject::Element(element), now),
                Command::ReleasePipeline(pipeline) => {
                    self.release(Subject::Pipeline(pipeline), now);
                }
                Command::Metrics(reply) => {
                    // Nobody waits for the answer if this fails.
                    let _ = reply.send(Metrics {
                        turns: self.turns,
                        hop: self.hop,
                        commands_waiting: self.queue.len() as u64,
                        backlog_bytes: self.ports.backlog_bytes() as u64,
                        offload: self.ports.offload(),
                        udp_overflowed: self.ports.dropped(),
                        sockets: self.counters,
                        engine: self.engine.counters(),
                    });
                }
                Command::Stop => return true,
            }
            self.flush(now);
            self.release_flows();
            while let Some(ports) = self.engine.poll_released_ports() {
                self.ports.rtp.close(&ports);
            }
        }
        false
    }

    fn release(&mut self, subject: Subject, now: Instant) {
        // After a panic it is released as well.
        let _ = self.engine.contain(&subject, |engine| {
            match &subject {
                Subject::Element(element) => engine.release_element(now, element),
                Subject::Pipeline(pipeline) => engine.release_pipeline(now, pipeline),
                Subject::None => {}
            }
            Ok(())
        });
    }

    fn fire_timers(&mut self) {
        let now = Instant::now();
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now);
        }
        if self.tcp.poll_timeout().is_some_and(|at| at <= now) {
            self.tcp.handle_timeout(now, &mut self.counters);
        }
        if self.ports.poll_timeout().is_some_and(|at| at <= now) {
            self.ports.handle_timeout(now, &mut self.counters);
        }
        self.flush(now);
    }

    fn flush_if_much(&mut self, now: Instant) {
        if self.engine.is_brimming() {
            self.flush(now);
        }
    }

    fn flush(&mut self, now: Instant) {
        // First, so that the others work on it while we send.
        self.pass_on(now);
        while let Some(outbox) = self.engine.poll_transmits(now) {
            let (ports, tcp) = (&mut self.ports, &mut self.tcp);
            self.transmitter
                .send(now, outbox, ports, tcp, &mut self.counters);
        }
    }

    /// Waits for room to send on those sockets where something waits for it.
    fn update_interest(&mut self) {
        const WHY: &str = "an open socket in a poll loop of the same thread can be registered";
        for (index, port) in self.ports.shared.iter_mut().enumerate() {
            port.register(self.poll.registry(), Token(FIRST_UDP + index))
                .expect(WHY);
        }
        self.ports.rtp.update_interest().expect(WHY);
    }
}

/// What the engine contains does not come here; see [`Engine::contain`]. A worker that panicked would leave
/// its calls without media and signaling without answers; a supervisor can restart a process that is gone,
/// but not see one that hangs.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("a media worker panicked; aborting");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests;
