//! What congestion control adds to a forwarded packet: numbers and reports of arrivals, the estimate, its division
//! among the subscriptions, probes and all deadlines, beside the same call without.
//!
//! Both engines get the same packets, hand what they send to the same peers, which is not counted, and meet their deadlines.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use media::MediaKind::Video;
use media_bench::peer::{Pace, PeerConfig};
use media_bench::simulation::{ClientId, Simulation};
use sfu::engine::flow::Flow;

use super::beside::Table;

const SUBSCRIBERS: [usize; 2] = [10, 100];

/// Packets that arrive together, as those of a frame do.
const RUN_LEN: u16 = 4;

/// Time between them: 30 frames per second, 1.2 Mbit/s.
const FRAME_INTERVAL: Duration = Duration::from_millis(33);

const FRAME: Pace = Pace {
    interval: FRAME_INTERVAL,
    packets: RUN_LEN,
    packet_bytes: 1_200,
};

/// Frames until every viewer gets all of them: 20 s, while the estimate climbs.
const WARM_UP_FRAMES: usize = 600;

/// Frames of one sample: 1 s, with what is done once a second.
const SAMPLE_FRAMES: usize = 30;

/// Pairs of samples.
const SAMPLES: usize = 41;

/// One packet in so many is decrypted by its viewer.
const OPENS_EVERY: u32 = 64;

struct Call {
    simulation: Simulation,
    publisher: ClientId,
    viewers: HashMap<Flow, ClientId>,
    now: Instant,
}

/// What a part of a call took.
#[derive(Default)]
struct Spent {
    time: Duration,
    forwarded: u64,
}

impl Call {
    fn new(subscribers: usize, transport_cc: bool) -> Self {
        let mut simulation = Simulation::new(1);
        let quiet = |config: PeerConfig| PeerConfig {
            audio: None,
            keeps_packets: false,
            opens_every: OPENS_EVERY,
            ..config
        };
        let publisher = simulation.join(quiet(PeerConfig::publisher(1)));
        let mut viewers = Vec::new();
        for number in 0..subscribers as u64 {
            let config = quiet(PeerConfig::viewer(2 + number));
            let viewer = simulation.add(PeerConfig {
                transport_cc,
                ..config
            });
            simulation.negotiate(viewer);
            simulation.connect(publisher, viewer, None);
            viewers.push(viewer);
        }
        simulation.run_until(Duration::from_secs(10), |simulation| {
            let mut viewers = viewers.iter();
            viewers.all(|viewer| simulation.peer(*viewer).is_connected())
        });
        simulation.peer_mut(publisher).force_key_frame();
        let viewers = viewers.iter();
        let viewers = viewers.map(|viewer| (simulation.flow(*viewer), *viewer));
        let mut call = Self {
            viewers: viewers.collect(),
            publisher,
            now: simulation.now(),
            simulation,
        };
        call.run(WARM_UP_FRAMES);
        let all = (SAMPLE_FRAMES * subscribers) as u64 * u64::from(RUN_LEN);
        let forwarded = call.run(SAMPLE_FRAMES).forwarded;
        assert_eq!(forwarded, all, "with congestion control: {transport_cc}");
        call
    }

    fn run(&mut self, frames: usize) -> Spent {
        let forwarded = |call: &Self| call.simulation.engine.counters().rtp_forwarded;
        let before = forwarded(self);
        let time = (0..frames).map(|_| self.run_frame()).sum();
        Spent {
            time,
            forwarded: forwarded(self) - before,
        }
    }

    /// Takes the engine through a frame and what its viewers have to say; the time that the engine took.
    fn run_frame(&mut self) -> Duration {
        self.now += FRAME_INTERVAL;
        let flow = self.simulation.flow(self.publisher);
        let peer = self.simulation.peer_mut(self.publisher);
        peer.handle_timeout(self.now);
        peer.send_frame(self.now, Video, &FRAME);
        let mut arriving: Vec<(Flow, Vec<u8>)> = Vec::new();
        arriving.extend(std::iter::from_fn(|| peer.poll_transmit()).map(|bytes| (flow, bytes)));
        for (flow, viewer) in &self.viewers {
            let peer = self.simulation.peer_mut(*viewer);
            peer.handle_timeout(self.now);
            let said = std::iter::from_fn(|| peer.poll_transmit());
            arriving.extend(said.map(|bytes| (*flow, bytes)));
        }
        let began = Instant::now();
        let engine = &mut self.simulation.engine;
        for (flow, datagram) in &mut arriving {
            engine.handle_datagram(self.now, *flow, datagram);
        }
        let mut spent = began.elapsed() + self.send();
        let began = Instant::now();
        self.simulation.engine.handle_timeout(self.now);
        spent += began.elapsed();
        spent + self.send()
    }

    /// Takes what the engine sends to its peers; the time that the engine took.
    fn send(&mut self) -> Duration {
        let mut spent = Duration::ZERO;
        loop {
            let began = Instant::now();
            let outbox = self.simulation.engine.poll_transmits(self.now);
            spent += began.elapsed();
            let Some(outbox) = outbox else {
                return spent;
            };
            let datagrams = outbox.datagrams();
            let sent: Vec<_> = datagrams
                .map(|(flow, bytes)| (flow, bytes.to_vec()))
                .collect();
            for (flow, mut datagram) in sent {
                let viewer = self.viewers.get(&flow).copied();
                let peer = self.simulation.peer_mut(viewer.unwrap_or(self.publisher));
                peer.handle_datagram(self.now, &mut datagram);
            }
        }
    }
}

pub(super) fn run(table: &mut Table) {
    for subscribers in SUBSCRIBERS {
        let name = format!("governed/{subscribers}/runs-of-{RUN_LEN}");
        if !table.wants(&name) {
            continue;
        }
        let mut calls = [true, false].map(|governed| Call::new(subscribers, governed));
        let mut sample = |index: usize| {
            let spent = calls[index].run(SAMPLE_FRAMES);
            spent.time.as_nanos() as f64 / spent.forwarded as f64
        };
        let samples = (0..SAMPLES).map(|_| (sample(0), sample(1))).collect();
        table.add(&name, "the same without congestion control", samples);
    }
}
