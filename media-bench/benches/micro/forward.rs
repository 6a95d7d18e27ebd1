//! What one forwarded packet costs: SRTP opened once, rewritten and sealed for every subscriber, in
//! memory, without the kernel; and what a retransmission costs.
//!
//! Criterion's figures are per received packet, those of the table per packet sent. The floor is the bare
//! cipher on as many bytes, with a key for each subscriber.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use forwarding::rtp::{Header, Seq};
use media::MediaKind::Video;
use media_bench::peer::{Pace, PeerConfig};
use media_bench::simulation::{ClientId, Simulation};
use sfu::engine::flow::Flow;
use sfu::engine::srtp::Profile;

use super::beside::Table;
use super::srtp::{Bare, packet};

const SUBSCRIBERS: [usize; 4] = [1, 10, 100, 1000];

/// One packet at a time, as of audio, and the packets of a frame together.
const RUN_LENS: [usize; 2] = [1, 4];

/// Packets made ahead of each measurement, so that sealing by the publisher is not counted.
const BATCH: u16 = 64;

/// Time that passes with each packet: 8 Mbit/s.
const PACKET_INTERVAL: Duration = Duration::from_micros(1_200);

/// Samples for the table.
const SAMPLES: usize = 31;

/// Packets sent in a sample.
const PACKETS_PER_SAMPLE: u64 = 50_000;

const PACKET: Pace = Pace {
    interval: PACKET_INTERVAL,
    packets: 1,
    packet_bytes: 1_200,
};

/// A publisher with subscribers of its video.
struct Room {
    simulation: Simulation,
    publisher: ClientId,
    viewers: Vec<ClientId>,
    now: Instant,
    /// Packets that the engine gets before it is asked for its own.
    run_len: usize,
}

impl Room {
    /// With the subscribers on a worker, and the publisher on the first.
    fn new(subscribers: usize, worker: usize) -> Self {
        let mut simulation = Simulation::with_workers(1, worker + 1);
        let quiet = |config: PeerConfig| PeerConfig {
            audio: None,
            keeps_packets: false,
            reports: false,
            ..config
        };
        let publisher = simulation.join(quiet(PeerConfig::publisher(1)));
        let viewers: Vec<_> = (0..subscribers)
            .map(|number| {
                let config = quiet(PeerConfig::viewer(2 + number as u64));
                simulation.add_on(worker, config)
            })
            .collect();
        for viewer in &viewers {
            simulation.negotiate(*viewer);
            simulation.connect(publisher, *viewer, None);
        }
        let limit = Duration::from_secs(10);
        simulation.run_until(limit, |simulation| {
            let mut viewers = viewers.iter();
            viewers.all(|viewer| simulation.peer(*viewer).is_connected())
        });
        simulation.peer_mut(publisher).force_key_frame();
        let now = simulation.now();
        let mut room = Self {
            simulation,
            publisher,
            viewers,
            now,
            run_len: 1,
        };
        for _ in 0..20 {
            room.run(BATCH);
        }
        let before = room.simulation.engine_on(worker).counters().rtp_forwarded;
        room.run(BATCH);
        let after = room.simulation.engine_on(worker).counters().rtp_forwarded;
        let forwarded = after - before;
        assert_eq!(forwarded, u64::from(BATCH) * subscribers as u64);
        room
    }

    /// Takes the engine through some packets and returns what that took.
    fn run(&mut self, packets: u16) -> Duration {
        let flow = self.simulation.flow(self.publisher);
        let mut batch = Vec::with_capacity(usize::from(packets));
        for _ in 0..packets {
            self.now += PACKET_INTERVAL;
            let peer = self.simulation.peer_mut(self.publisher);
            peer.send_frame(self.now, Video, &PACKET);
            let datagram = peer.poll_transmit().expect("the peer is connected");
            batch.push((self.now, datagram));
        }
        let (engine, others) = (&mut self.simulation.engine, &mut self.simulation.others);
        let began = Instant::now();
        for run in batch.chunks_mut(self.run_len) {
            let mut now = began;
            for (at, datagram) in run {
                engine.handle_datagram(*at, flow, datagram);
                now = *at;
            }
            engine.poll_relayed(now, |to, parcel| {
                others[to - 1].handle_relayed(now, 0, parcel);
                true
            });
            while engine.poll_transmits(now).is_some() {}
            for other in &mut *others {
                while other.poll_transmits(now).is_some() {}
            }
        }
        began.elapsed()
    }

    fn run_many(&mut self, packets: u64) -> Duration {
        let batch = u64::from(BATCH);
        let whole: Duration = (0..packets / batch).map(|_| self.run(BATCH)).sum();
        whole + self.run((packets % batch) as u16)
    }
}

pub(super) fn run(criterion: &mut Criterion, table: &mut Table) {
    fan_out(criterion, table);
    relay(table);
    retransmit(table);
}

/// With the subscribers on another worker: both engines, without the ring between them.
fn relay(table: &mut Table) {
    for subscribers in SUBSCRIBERS {
        let name = format!("relay/{subscribers}/runs-of-4");
        if table.wants(&name) {
            let mut room = Room::new(subscribers, 1);
            room.run_len = 4;
            table.add(&name, CIPHER, room.samples(&bare_ciphers(subscribers)));
        }
    }
}

fn fan_out(criterion: &mut Criterion, table: &mut Table) {
    let mut group = criterion.benchmark_group("forward");
    for subscribers in SUBSCRIBERS {
        let names =
            RUN_LENS.map(|run_len| (run_len, format!("forward/{subscribers}/runs-of-{run_len}")));
        if !names.iter().any(|(_, name)| table.wants(name)) {
            continue;
        }
        let mut room = Room::new(subscribers, 0);
        let ciphers = bare_ciphers(subscribers);
        group.throughput(Throughput::Elements(subscribers as u64));
        for (run_len, name) in names {
            room.run_len = run_len;
            let id = BenchmarkId::new(subscribers.to_string(), format!("runs-of-{run_len}"));
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|packets| room.run_many(packets));
            });
            if table.wants(&name) {
                table.add(&name, CIPHER, room.samples(&ciphers));
            }
        }
    }
    group.finish();
}

const CIPHER: &str = "aws-lc-rs AES-GCM of the same bytes";

fn bare_ciphers(subscribers: usize) -> Vec<Bare> {
    (0..subscribers)
        .map(|_| Bare::new(Profile::AeadAes128Gcm))
        .collect()
}

/// Seals so many packets for every subscriber; nanoseconds.
fn seal_bare(ciphers: &[Bare], packets: u64) -> f64 {
    let mut packet = packet();
    let began = Instant::now();
    for _ in 0..packets {
        for cipher in ciphers {
            cipher.seal(&mut packet);
        }
    }
    began.elapsed().as_nanos() as f64
}

/// Packets asked for by one NACK, as after a burst of loss. Below what the engine repairs at once.
const ASKED_AT_ONCE: usize = 16;

/// A part of the packets is asked for once.
fn retransmit(table: &mut Table) {
    if !table.wants("retransmit") {
        return;
    }
    let mut room = Room::new(1, 0);
    let viewer = room.viewers[0];
    let flow = room.simulation.flow(viewer);
    let cipher = bare_ciphers(1);
    let samples = (0..SAMPLES * 4)
        .map(|_| {
            let mut seqs = room.forwarded_seqs();
            seqs.truncate(ASKED_AT_ONCE);
            let count = seqs.len();
            let peer = room.simulation.peer_mut(viewer);
            peer.send_nack(Video, &seqs);
            let datagrams: Vec<_> = std::iter::from_fn(|| peer.poll_transmit()).collect();
            let (ours, sent) = room.handle(flow, datagrams);
            assert_eq!(sent, count, "every packet is sent again");
            let floor = seal_bare(&cipher, count as u64);
            (ours / count as f64, floor / count as f64)
        })
        .collect();
    table.add("retransmit", CIPHER, samples);
}

impl Room {
    /// Nanoseconds per packet sent, ours and the bare cipher's.
    fn samples(&mut self, ciphers: &[Bare]) -> Vec<(f64, f64)> {
        let subscribers = ciphers.len() as u64;
        let packets = (PACKETS_PER_SAMPLE / subscribers).max(u64::from(BATCH));
        let forwarded = (packets * subscribers) as f64;
        (0..SAMPLES)
            .map(|_| {
                let ours = self.run_many(packets).as_nanos() as f64 / forwarded;
                (ours, seal_bare(ciphers, packets) / forwarded)
            })
            .collect()
    }

    /// Forwards a batch; the numbers that the only viewer should have got.
    fn forwarded_seqs(&mut self) -> Vec<Seq> {
        let flow = self.simulation.flow(self.publisher);
        let mut seqs = Vec::new();
        for _ in 0..BATCH {
            self.now += PACKET_INTERVAL;
            let peer = self.simulation.peer_mut(self.publisher);
            peer.send_frame(self.now, Video, &PACKET);
            let mut datagram = peer.poll_transmit().expect("the peer is connected");
            let engine = &mut self.simulation.engine;
            engine.handle_datagram(self.now, flow, &mut datagram);
            while let Some(outbox) = engine.poll_transmits(self.now) {
                for (_, bytes) in outbox.datagrams() {
                    let header = Header::parse_protected(bytes).expect("the engine wrote it");
                    seqs.push(header.seq());
                }
            }
        }
        seqs
    }

    /// Hands datagrams to the engine; nanoseconds that this took, and datagrams that it made.
    fn handle(&mut self, flow: Flow, mut datagrams: Vec<Vec<u8>>) -> (f64, usize) {
        let engine = &mut self.simulation.engine;
        let began = Instant::now();
        for datagram in &mut datagrams {
            engine.handle_datagram(self.now, flow, datagram);
        }
        let mut sent = 0;
        while let Some(outbox) = engine.poll_transmits(self.now) {
            sent += outbox.datagrams().count();
        }
        let spent = began.elapsed();
        (spent.as_nanos() as f64, sent)
    }
}
