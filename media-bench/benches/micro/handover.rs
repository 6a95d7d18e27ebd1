//! What it costs that the system gives a datagram to the wrong worker, in CPU time of both workers.
//!
//! Each datagram is received on a loopback socket and refused by the engine, since it is not sealed: what
//! differs between the two figures is the hand-over. Both contain a connectivity check for every burst, whose
//! answer tells that the burst is through.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use media::{ElementKind, EventSender, MediaServer};
use media_bench::peer::{Peer, PeerConfig};
use quinn_udp::{Transmit, UdpSocketState};
use sfu::engine::certificate::Certificate;
use sfu::{Config, NativeMediaServer};
use tokio::runtime::Runtime;

use super::PACKET_LEN;

/// Datagrams sent by one call, and received by one, before the workers are waited for: nearly as many as a run
/// may have bytes. Fewer would measure how the workers sleep and wake up.
const BURST: u64 = 50;

const WORKERS: usize = 2;

pub(super) fn run(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handover");
    group.throughput(Throughput::Elements(1));
    for (name, arrives_at) in [("own worker", 0), ("other worker", 1)] {
        let mut bed = None;
        group.bench_function(name, |bencher| {
            let bed = bed.get_or_insert_with(|| Bed::new(arrives_at));
            bencher.iter_custom(|count| bed.send(count));
        });
    }
    group.finish();
}

/// A session on worker 0 whose datagrams arrive at a worker of choice.
struct Bed {
    runtime: Runtime,
    server: NativeMediaServer,
    socket: UdpSocket,
    check: Vec<u8>,
}

impl Bed {
    fn new(arrives_at: usize) -> Self {
        let config = Config {
            udp_port: 0,
            workers: NonZeroUsize::new(WORKERS).expect("there are some"),
            listen: vec![Ipv4Addr::LOCALHOST.into()],
            announce: vec![Ipv4Addr::LOCALHOST.into()],
            ..Config::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime without I/O");
        let server = NativeMediaServer::start(&config).expect("the port is the system's choice");
        let address = server.candidates()[0];
        let mut bed = Self {
            socket: connect(address),
            runtime,
            server,
            check: Vec::new(),
        };
        bed.reach(arrives_at, address);
        bed.check = bed.make_check();
        bed.run_check();
        bed
    }

    /// Tries sockets until the system has chosen the worker.
    fn reach(&mut self, worker: usize, address: SocketAddr) {
        loop {
            let count = |bed: &Self| {
                let metrics = bed.runtime.block_on(bed.server.metrics());
                [0, 1].map(|worker| metrics[worker].sockets.udp_received)
            };
            let before = count(self);
            self.socket.send(&[0xff]).expect("loopback");
            let after = loop {
                let after = count(self);
                if after != before {
                    break after;
                }
            };
            if after[worker] != before[worker] {
                return;
            }
            self.socket = connect(address);
        }
    }

    /// A check of a session that begins. It may be repeated, since the flow is the same.
    fn make_check(&self) -> Vec<u8> {
        let now = Instant::now();
        let certificate = Certificate::generate().expect("keys");
        let mut peer = Peer::new(PeerConfig::publisher(1), certificate, now);
        let offer = peer.offer();
        let answer = self.runtime.block_on(async {
            let pipeline = self.server.create_pipeline(EventSender::discard()).await?;
            let kind = ElementKind::WebRtcEndpoint {
                data_channels: false,
                peer: None,
            };
            let events = EventSender::discard();
            let element = self.server.create_element(&pipeline, kind, events).await?;
            self.server.process_offer(&element, &offer).await
        });
        peer.handle_answer(now, &answer.expect("an offer of ours"))
            .expect("an answer of ours");
        peer.handle_timeout(now);
        peer.poll_transmit().expect("checks are due at once")
    }

    fn run_check(&self) {
        self.socket.send(&self.check).expect("loopback");
        let answered = self.socket.recv(&mut [0; 2_000]);
        answered.expect("checks are answered");
    }

    /// Returns the CPU time of the workers for `count` datagrams.
    fn send(&self, count: u64) -> Duration {
        let mut run = vec![0x55; PACKET_LEN * BURST as usize];
        for datagram in run.chunks_mut(PACKET_LEN) {
            datagram[..2].copy_from_slice(&[0x80, 96]);
        }
        let offload = UdpSocketState::new((&self.socket).into()).expect("an open socket");
        self.socket.set_nonblocking(false).expect("an open socket");
        let address = self.socket.peer_addr().expect("it is connected");
        let began = workers_cpu();
        let mut sent = 0;
        while sent < count {
            let burst = BURST.min(count - sent);
            let transmit = Transmit {
                destination: address,
                ecn: None,
                contents: &run[..PACKET_LEN * burst as usize],
                segment_size: Some(PACKET_LEN),
                src_ip: None,
            };
            let sent_at_once = offload.try_send((&self.socket).into(), &transmit);
            sent_at_once.expect("loopback");
            self.run_check();
            sent += burst;
        }
        workers_cpu() - began
    }
}

/// Joins the workers, which would else be counted with those of the next.
impl Drop for Bed {
    fn drop(&mut self) {
        self.server.shutdown();
    }
}

fn connect(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    socket.connect(address).expect("loopback");
    socket
}

/// CPU time of all threads named `media-…` (Linux, proc(5)).
fn workers_cpu() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").expect("proc(5)");
    let spent = tasks.flatten().filter_map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let is_worker = name.starts_with("media-");
        let statistics = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let spent = statistics.split(' ').next()?.parse().ok()?;
        is_worker.then_some(Duration::from_nanos(spent))
    });
    spent.sum()
}
