//! A sender with estimator and pacer, a link, and a receiver that reports, in virtual time.

use std::time::{Duration, Instant};

use forwarding::congestion::{EstimatorConfig, PathId, SendEstimator};
use forwarding::pacer::{Pacer, PacketClass};
use forwarding::rate::Bitrate;
use forwarding::rtcp::{Packet, Packets};
use forwarding::rtp::{Seq, Ssrc};
use forwarding::transport_feedback::TransportFeedback;
use media_bench::network::{Link, LinkConfig};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Step of the virtual clock.
const TICK: Duration = Duration::from_millis(1);
/// Headers below RTP are not counted; this is all that a packet takes.
const PACKET_BYTES_MAX: usize = 1_200;
const AUDIO_BYTES: usize = 100;

/// What a sender sends.
#[derive(Clone, Debug)]
pub(crate) enum Media {
    /// Video at whatever rate the estimate allows, up to a maximum.
    Elastic(u64),
    /// The largest of these rates that fits into the estimate, and nothing if none does, as layers are.
    Layered(Vec<u64>),
}

impl Media {
    /// The rate at an estimate.
    fn rate(&self, estimate: u64) -> u64 {
        match self {
            Self::Elastic(max) => estimate.min(*max),
            Self::Layered(layers) => {
                let fitting = layers.iter().filter(|rate| **rate <= estimate);
                fitting.max().copied().unwrap_or(0)
            }
        }
    }

    fn demand(&self) -> Bitrate {
        match self {
            Self::Elastic(max) => Bitrate(*max),
            Self::Layered(layers) => Bitrate(layers.iter().max().copied().unwrap_or(0)),
        }
    }
}

/// One sender and its receiver: an estimate over one or more connections.
struct Flow {
    media: Media,
    starts: Duration,
    estimator: SendEstimator,
    pacer: Pacer<usize>,
    next_seq: Vec<u16>,
    turn: usize,
    receivers: Vec<TransportFeedback>,
    next_frame: Instant,
    next_audio: Instant,
    delivered_bytes: u64,
    sent_bytes: u64,
}

/// What travels on the link.
#[derive(Clone, Copy, Debug)]
struct OnLink {
    flow: usize,
    path: usize,
    seq: u16,
    size: usize,
}

/// One reading, each 10 ms.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    pub(crate) capacity: u64,
    pub(crate) queue: Duration,
    /// Per flow.
    pub(crate) estimate: Vec<u64>,
    /// Bytes so far, per flow.
    pub(crate) delivered: Vec<u64>,
    pub(crate) sent: Vec<u64>,
}

/// Several flows over one link.
pub(crate) struct World {
    config: LinkConfig,
    start: Instant,
    now: Instant,
    link: Link<OnLink>,
    back: Link<(usize, usize, Vec<u8>)>,
    flows: Vec<Flow>,
    random: StdRng,
    pub(crate) samples: Vec<Sample>,
}

impl World {
    pub(crate) fn new(config: LinkConfig, back: LinkConfig, seed: u64) -> Self {
        let now = Instant::now();
        Self {
            link: Link::new(config.clone(), seed, now),
            back: Link::new(back, seed + 1, now),
            config,
            start: now,
            now,
            flows: Vec::new(),
            random: StdRng::seed_from_u64(seed),
            samples: Vec::new(),
        }
    }

    /// Adds a sender whose connections share one estimate.
    pub(crate) fn add(&mut self, media: Media, connections: usize, starts: Duration) {
        let mut estimator = SendEstimator::new(EstimatorConfig::default());
        estimator.set_demand(Bitrate(media.demand().0 + 40_000));
        let offset = Duration::from_micros(self.random.random_range(0..33_000));
        self.flows.push(Flow {
            media,
            starts,
            pacer: Pacer::new(estimator.bitrate()),
            estimator,
            next_seq: vec![65_000; connections],
            turn: 0,
            receivers: vec![TransportFeedback::default(); connections],
            next_frame: self.now + starts + offset,
            next_audio: self.now + starts + offset,
            delivered_bytes: 0,
            sent_bytes: 0,
        });
    }

    pub(crate) fn run(&mut self, duration: Duration) {
        let ticks = duration.as_millis() as u64;
        for tick in 0..ticks {
            self.now += TICK;
            for flow in 0..self.flows.len() {
                if self.now - self.start >= self.flows[flow].starts {
                    self.send(flow);
                }
            }
            self.receive();
            if tick % 10 == 0 {
                self.sample();
            }
        }
    }

    fn send(&mut self, index: usize) {
        let now = self.now;
        let flow = &mut self.flows[index];
        flow.estimator.handle_timeout(now);
        flow.pacer.set_rate(flow.estimator.pace());
        while now >= flow.next_audio {
            let _ = flow
                .pacer
                .push(PacketClass::Audio, AUDIO_BYTES, AUDIO_BYTES);
            flow.next_audio += Duration::from_millis(20);
        }
        while now >= flow.next_frame {
            let estimate = flow.estimator.bitrate();
            let video = flow.media.rate(estimate.0.saturating_sub(40_000));
            let fps = if video < 200_000 { 15 } else { 30 };
            let noise = self.random.random_range(0.8..1.2);
            let mut bytes = (video as f64 / 8.0 / f64::from(fps) * noise) as usize;
            let packets = bytes.div_ceil(PACKET_BYTES_MAX).max(1);
            let each = (bytes / packets).max(1);
            while bytes >= each && bytes > 0 {
                let _ = flow.pacer.push(PacketClass::Video, each, each);
                bytes -= each;
            }
            flow.next_frame += Duration::from_secs(1) / fps;
        }
        while let Some(size) = self.flows[index].pacer.poll(now) {
            self.transmit(index, size);
        }
        loop {
            let flow = &mut self.flows[index];
            let Some(size) = flow.estimator.poll_padding(now) else {
                break;
            };
            flow.pacer.handle_sent(now, size);
            self.transmit(index, size);
        }
    }

    fn transmit(&mut self, index: usize, size: usize) {
        let flow = &mut self.flows[index];
        flow.turn = (flow.turn + 1) % flow.next_seq.len();
        let path = flow.turn;
        let seq = flow.next_seq[path];
        flow.next_seq[path] = seq.wrapping_add(1);
        flow.sent_bytes += size as u64;
        flow.estimator
            .handle_sent(self.now, PathId(path as u8), Seq(seq), &[size as u16]);
        let packet = OnLink {
            flow: index,
            path,
            seq,
            size,
        };
        self.link.send(self.now, size, packet);
    }

    fn receive(&mut self) {
        while let Some((at, packet)) = self.link.poll(self.now) {
            let flow = &mut self.flows[packet.flow];
            flow.delivered_bytes += packet.size as u64;
            flow.receivers[packet.path].handle_packet(at, Seq(packet.seq));
        }
        for (index, flow) in self.flows.iter_mut().enumerate() {
            for (path, receiver) in flow.receivers.iter_mut().enumerate() {
                let mut out = Vec::new();
                while receiver.poll(self.now, Ssrc(1), Ssrc(2), &mut out) {}
                if !out.is_empty() {
                    self.back.send(self.now, out.len(), (index, path, out));
                }
            }
        }
        while let Some((_, (index, path, compound))) = self.back.poll(self.now) {
            for packet in Packets::new(&compound) {
                if let Ok(Packet::TransportFeedback(body)) = packet {
                    let estimator = &mut self.flows[index].estimator;
                    assert!(estimator.handle_feedback(self.now, PathId(path as u8), body));
                }
            }
        }
    }

    fn sample(&mut self) {
        let at = self.now - self.start;
        self.samples.push(Sample {
            at,
            capacity: self.config.rate.at(at),
            queue: self.link.queue_delay(self.now),
            estimate: self
                .flows
                .iter()
                .map(|flow| flow.estimator.bitrate().0)
                .collect(),
            delivered: self.flows.iter().map(|flow| flow.delivered_bytes).collect(),
            sent: self.flows.iter().map(|flow| flow.sent_bytes).collect(),
        });
    }

    fn between(&self, from: f64, to: f64) -> &[Sample] {
        let place = |seconds: f64| {
            let at = Duration::from_secs_f64(seconds);
            self.samples.partition_point(|sample| sample.at < at)
        };
        &self.samples[place(from)..place(to)]
    }

    /// Share of the capacity that arrived between two times, s.
    pub(crate) fn share(&self, from: f64, to: f64) -> f64 {
        let samples = self.between(from, to);
        let (first, last) = (&samples[0], &samples[samples.len() - 1]);
        let delivered: u64 =
            last.delivered.iter().sum::<u64>() - first.delivered.iter().sum::<u64>();
        let capacity: f64 = samples
            .iter()
            .map(|sample| sample.capacity as f64 / 800.0)
            .sum();
        delivered as f64 / capacity
    }

    /// Share of what arrived that each flow got.
    pub(crate) fn shares_of_flows(&self, from: f64, to: f64) -> Vec<f64> {
        let samples = self.between(from, to);
        let (first, last) = (&samples[0], &samples[samples.len() - 1]);
        let delivered = |flow: usize| (last.delivered[flow] - first.delivered[flow]) as f64;
        let all: f64 = (0..self.flows.len()).map(delivered).sum();
        (0..self.flows.len())
            .map(|flow| delivered(flow) / all)
            .collect()
    }

    /// Share of all packets that did not arrive.
    pub(crate) fn lost(&self) -> f64 {
        let counters = self.link.counters();
        (counters.dropped + counters.lost) as f64 / counters.sent as f64
    }

    /// Quantile of the queue between two times, ms.
    pub(crate) fn queue_ms(&self, from: f64, to: f64, quantile: f64) -> f64 {
        let mut queues: Vec<_> = self.between(from, to).iter().map(|it| it.queue).collect();
        queues.sort_unstable();
        let place = (quantile * (queues.len() - 1) as f64) as usize;
        queues[place].as_secs_f64() * 1000.0
    }

    /// Seconds after `from` until what is sent in 200 ms stays below the capacity for half a second.
    pub(crate) fn below_capacity_after(&self, from: f64) -> f64 {
        let samples = self.between(from, f64::from(3600));
        let is_below = |at: usize| {
            let (before, now) = (&samples[at - 20], &samples[at]);
            let sent = now.sent.iter().sum::<u64>() - before.sent.iter().sum::<u64>();
            sent as f64 * 8.0 / 0.2 <= now.capacity as f64 * 1.05
        };
        let found = (20..samples.len() - 50).find(|at| (*at..at + 50).all(is_below));
        found.map_or(f64::INFINITY, |at| (at - 20) as f64 / 100.0)
    }

    /// Seconds after `from` until the queue is shorter than `ms`.
    pub(crate) fn drained_after(&self, from: f64, ms: u64) -> f64 {
        let samples = self.between(from, f64::from(3600));
        let full = samples
            .iter()
            .position(|it| it.queue > Duration::from_millis(ms))
            .unwrap_or(0);
        let drained = samples[full..]
            .iter()
            .position(|it| it.queue <= Duration::from_millis(ms));
        drained.map_or(f64::INFINITY, |at| (full + at) as f64 / 100.0)
    }

    /// Seconds after `from` until the estimate of the first flow reaches `rate`.
    pub(crate) fn reached_after(&self, from: f64, rate: u64) -> f64 {
        let mut samples = self.between(from, f64::from(3600)).iter();
        let found = samples.position(|sample| sample.estimate[0] >= rate);
        found.map_or(f64::INFINITY, |at| at as f64 / 100.0)
    }
}
