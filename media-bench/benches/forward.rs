//! What one forwarded packet costs: SRTP opened once, rewritten and sealed for every subscriber, in
//! memory, without the kernel.
//!
//! `cargo bench -p media-bench` prints criterion's figures per received packet, and at the end the
//! nanoseconds per *forwarded* packet as a median with quartiles.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use media::MediaKind::Video;
use media_bench::peer::{Pace, PeerConfig};
use media_bench::simulation::{ClientId, Simulation};
use sfu::engine::srtp::{MasterKey, Opener, Profile, ReceiveIndex, Sealer};

const SUBSCRIBERS: [usize; 4] = [1, 10, 100, 1000];

/// Packets made ahead of each measurement, so that sealing by the publisher is not counted.
const BATCH: u16 = 64;

/// Time that passes with each packet: 8 Mbit/s.
const PACKET_INTERVAL: Duration = Duration::from_micros(1_200);

/// Samples for our own median.
const SAMPLES: usize = 31;

const PACKET: Pace = Pace {
    interval: PACKET_INTERVAL,
    packets: 1,
    packet_bytes: 1_200,
};

/// A publisher with subscribers of its video.
struct Room {
    simulation: Simulation,
    publisher: ClientId,
    now: Instant,
}

impl Room {
    fn new(subscribers: usize) -> Self {
        let mut simulation = Simulation::new(1);
        let quiet = |config: PeerConfig| PeerConfig {
            audio: None,
            keeps_packets: false,
            reports: false,
            ..config
        };
        let publisher = simulation.join(quiet(PeerConfig::publisher(1)));
        let viewers: Vec<_> = (0..subscribers)
            .map(|number| simulation.add(quiet(PeerConfig::viewer(2 + number as u64))))
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
            now,
        };
        for _ in 0..20 {
            room.run(BATCH);
        }
        let before = room.simulation.engine.counters().rtp_forwarded;
        room.run(BATCH);
        let forwarded = room.simulation.engine.counters().rtp_forwarded - before;
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
        let engine = &mut self.simulation.engine;
        let began = Instant::now();
        for (now, datagram) in &mut batch {
            engine.handle_datagram(*now, flow, datagram);
            while engine.poll_transmits(*now).is_some() {}
        }
        began.elapsed()
    }

    fn run_many(&mut self, packets: u64) -> Duration {
        let batch = u64::from(BATCH);
        let whole: Duration = (0..packets / batch).map(|_| self.run(BATCH)).sum();
        whole + self.run((packets % batch) as u16)
    }
}

fn forward(criterion: &mut Criterion) -> Vec<String> {
    let mut group = criterion.benchmark_group("forward");
    let mut summary = Vec::new();
    for subscribers in SUBSCRIBERS {
        let mut room = Room::new(subscribers);
        group.throughput(Throughput::Elements(subscribers as u64));
        group.bench_function(BenchmarkId::from_parameter(subscribers), |bencher| {
            bencher.iter_custom(|packets| room.run_many(packets));
        });
        let packets = (200_000 / subscribers as u64).clamp(u64::from(BATCH), 5_000);
        let mut samples: Vec<_> = (0..SAMPLES)
            .map(|_| {
                let spent = room.run_many(packets);
                spent.as_nanos() as f64 / (packets * subscribers as u64) as f64
            })
            .collect();
        samples.sort_by(f64::total_cmp);
        let quantile = |quarter: usize| samples[quarter * (SAMPLES - 1) / 4];
        summary.push(format!(
            "{subscribers:>5} subscribers: {:>6.0} ns per forwarded packet ({:.0} to {:.0})",
            quantile(2),
            quantile(1),
            quantile(3),
        ));
    }
    group.finish();
    summary
}

const PROFILES: [(Profile, &str); 3] = [
    (Profile::AeadAes128Gcm, "AEAD_AES_128_GCM"),
    (Profile::AeadAes256Gcm, "AEAD_AES_256_GCM"),
    (Profile::Aes128CmHmacSha1_80, "AES_CM_128_HMAC_SHA1_80"),
];

const HEADER_LEN: usize = 12;

fn packet(seq: u16, overhead: usize) -> Vec<u8> {
    let mut packet = vec![0; HEADER_LEN + 1_200 + overhead];
    packet[0] = 0x80;
    packet[1] = 96;
    packet[2..4].copy_from_slice(&seq.to_be_bytes());
    packet[8..12].copy_from_slice(&7u32.to_be_bytes());
    packet
}

fn srtp(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("srtp");
    for (profile, name) in PROFILES {
        let key = MasterKey::new(
            profile,
            &[1; 32][..profile.key_len()],
            &[2; 14][..profile.salt_len()],
        );
        let (sealer, opener) = (Sealer::new(&key), Opener::new(&key));
        let overhead = sealer.rtp_overhead();
        group.bench_function(BenchmarkId::new("seal", name), |bencher| {
            let mut packet = packet(9, overhead);
            bencher.iter(|| sealer.seal_rtp(9, 7, HEADER_LEN, &mut packet));
        });
        group.bench_function(BenchmarkId::new("open", name), |bencher| {
            bencher.iter_batched_ref(
                || {
                    let mut packet = packet(9, overhead);
                    sealer.seal_rtp(9, 7, HEADER_LEN, &mut packet);
                    (packet, ReceiveIndex::default())
                },
                |(packet, index)| opener.open_rtp(index, HEADER_LEN, packet),
                criterion::BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

#[expect(clippy::print_stdout, reason = "a bench reports on the terminal")]
fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
        .configure_from_args();
    srtp(&mut criterion);
    let summary = forward(&mut criterion);
    criterion.final_summary();
    println!("\n1200-byte VP8 packets, SRTP opened and sealed, median (quartiles):");
    for line in summary {
        println!("{line}");
    }
}
