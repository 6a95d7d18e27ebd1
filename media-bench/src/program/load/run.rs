//! One run of one scenario against a fresh server: [`run`].

use std::io;
use std::time::{Duration, Instant};

use forwarding::codec::Codec;
use indicatif::ProgressBar;
use media_bench::peer::{Direction, PeerConfig};

use super::floor::Cores;
use super::scenario::{Scenario, Voice};
use super::server::{Server, Target};
use super::signaling::Job;
use super::source::Source;
use super::traffic::Traffic;
use crate::machine::{self, Machine};
use crate::record::{Quantiles, Record, steps};

/// How long publishers send without viewers, so that the memory of their own streams is not counted as
/// that of viewers.
const REHEARSAL: Duration = Duration::from_millis(1_500);

/// Until buffers and rates have settled.
const WARM_UP: Duration = Duration::from_secs(2);

/// Until the last packets and their repairs have arrived.
const DRAIN: Duration = Duration::from_millis(500);

/// How long all may take to join; joins beyond that fail the run.
const JOIN_PATIENCE: Duration = Duration::from_secs(180);

/// Joins worked on at a time while nothing is measured. Too low: large rooms fill slowly. Too high: each
/// waits for all others, and join times say nothing about the server.
const JOINS_AT_ONCE: usize = 4;

/// The same during a join storm, in which they come whether or not the earlier ones are done.
const STORM_JOINS_AT_ONCE: usize = 10_000;

/// How the names of the server's media threads begin.
const MEDIA_THREADS: &str = "media-";

/// As many viewers open all their packets; of twice as many each opens every second one, and so on. Too
/// low: few latencies. Too high: this program becomes the bottleneck.
const VIEWERS_OPENING_ALL: usize = 25;

/// Of so many packets a viewer opens at least one.
const OPENS_EVERY_MAX: usize = 16;

/// What does not change from run to run.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) target: Target,
    pub(crate) cores: Cores,
    pub(crate) machine: Machine,
    pub(crate) duration: Duration,
    pub(crate) video_bits_per_second: u32,
    /// Take runs of packets as the kernel got them.
    pub(crate) whole: bool,
}

/// Runs `scenario` for the `repeat`th time.
pub(crate) fn run(
    setting: &Setting,
    scenario: &Scenario,
    repeat: u32,
    floor_ns: Option<f64>,
    bar: &ProgressBar,
) -> io::Result<Record> {
    let server = Server::start(&setting.target, &setting.cores.generator)?;
    let mut record = measure(setting, scenario, repeat, &server, bar).map_err(|error| {
        let log = server.log();
        io::Error::other(format!("{scenario}: {error}\n{log}").trim_end().to_owned())
    })?;
    record.floor_ns = floor_ns;
    Ok(record)
}

fn measure(
    setting: &Setting,
    scenario: &Scenario,
    repeat: u32,
    server: &Server,
    bar: &ProgressBar,
) -> io::Result<Record> {
    let at_once = match scenario.joins_per_second {
        0 => JOINS_AT_ONCE,
        _ => STORM_JOINS_AT_ONCE,
    };
    let mut traffic = Traffic::new(&server.url, setting.whole, at_once)?;
    let mut crowd = Crowd::new(scenario);

    bar.set_message("publishers join");
    crowd.publishers_join(&mut traffic);
    all_join(&mut traffic)?;
    let source = |publisher: usize| {
        let voice = scenario.voice(publisher % scenario.publishers);
        let share = publisher as u32 * Duration::from_millis(20)
            / (scenario.rooms * scenario.publishers) as u32;
        Source::new(Instant::now() + share, voice, setting.video_bits_per_second)
    };
    traffic.start_media(source);
    traffic.run(Instant::now() + REHEARSAL, |_| false)?;
    traffic.stop_media();
    traffic.run(Instant::now() + DRAIN, |_| false)?;
    let memory_before = server.process.and_then(machine::Process::resident_bytes);

    bar.set_message("viewers join");
    crowd.viewers_join(&mut traffic);
    all_join(&mut traffic)?;
    bar.set_message("warming up");
    traffic.start_media(source);
    traffic.run(Instant::now() + WARM_UP, |_| false)?;

    bar.set_message("measuring");
    traffic.measures_latency = true;
    if scenario.joins_per_second > 0 {
        // Of the storm, not of those who were there before.
        traffic.join_us.reset();
    }
    let before = Sample::take(&traffic, server);
    let end = before.at + setting.duration;
    while Instant::now() < end {
        let elapsed = before.at.elapsed();
        bar.set_position(elapsed.as_millis() as u64);
        crowd.storm(&mut traffic, elapsed);
        let next = Instant::now() + Duration::from_millis(100);
        traffic.run(end.min(next), |_| false)?;
    }
    let after = Sample::take(&traffic, server);
    traffic.measures_latency = false;
    let memory = server.process.and_then(machine::Process::resident_bytes);
    if scenario.joins_per_second > 0 {
        all_join(&mut traffic)?;
    }
    traffic.stop_media();
    traffic.run(Instant::now() + DRAIN, |_| false)?;

    let totals = traffic.totals();
    let seconds = (after.at - before.at).as_secs_f64();
    let forwarded = after.received - before.received;
    let server_cpu = after
        .server
        .zip(before.server)
        .map(|(after, before)| after - before);
    let generator_cpu = after.generator - before.generator;
    let all_cpu = after.machine.saturating_sub(before.machine);
    let percent = |time: Duration| time.as_secs_f64() / seconds * 100.0;
    let publishers = scenario.rooms * scenario.publishers;
    let subscribers = traffic.connected() - publishers;
    let grown = memory
        .zip(memory_before)
        .map(|(after, before)| after.saturating_sub(before));
    let (server_cores, workers) = match &setting.target {
        Target::Binary { cores, workers, .. } => (cores.clone(), Some(*workers)),
        Target::Running { .. } => (Vec::new(), None),
    };
    let record = Record {
        scenario: scenario.name.clone(),
        repeat,
        seconds,
        publishers,
        subscribers,
        published_pps: (after.sent - before.sent) as f64 / seconds,
        forwarded_pps: forwarded as f64 / seconds,
        cpu_ns_per_forwarded_packet: server_cpu
            .filter(|_| forwarded > 0)
            .map(|cpu| cpu.as_nanos() as f64 / forwarded as f64),
        floor_ns: None,
        server_cpu_percent: server_cpu.map(percent),
        media_cpu_percent: after
            .media
            .zip(before.media)
            .map(|(after, before)| percent(after.saturating_sub(before))),
        delivered_ratio: match totals.expected {
            0 => 1.0,
            expected => totals.received as f64 / expected as f64,
        },
        latency_us: Quantiles::of(&traffic.latency_us, 1.0),
        join_ms: Quantiles::of(&traffic.join_us, 1_000.0),
        rss_bytes_per_subscriber: grown
            .filter(|_| subscribers > 0)
            .map(|bytes| bytes as f64 / subscribers as f64),
        rss_bytes: memory,
        key_frame_requests: totals.key_frame_requests,
        nacks: totals.nacks,
        faulty_packets: totals.faulty,
        generator_cpu_percent: percent(generator_cpu),
        other_cpu_percent: server_cpu
            .map(|server| percent(all_cpu.saturating_sub(server + generator_cpu))),
        load_average: machine::load_average(),
        server_cores,
        generator_cores: setting.cores.generator.clone(),
        workers,
        receives_whole_runs: setting.whole,
        machine: setting.machine.clone(),
        latency_histogram: steps(&traffic.latency_us),
    };
    if let Target::Running { .. } = &setting.target {
        traffic.leave();
    }
    Ok(record)
}

fn all_join(traffic: &mut Traffic) -> io::Result<()> {
    let joined = traffic.run(Instant::now() + JOIN_PATIENCE, |traffic| {
        traffic.pending() == 0
    })?;
    if joined {
        return Ok(());
    }
    let missing = traffic.pending();
    Err(io::Error::other(format!(
        "{missing} participants did not connect within {JOIN_PATIENCE:?}"
    )))
}

/// Clocks and counters at one moment.
struct Sample {
    at: Instant,
    server: Option<Duration>,
    media: Option<Duration>,
    generator: Duration,
    machine: Duration,
    sent: u64,
    received: u64,
}

impl Sample {
    fn take(traffic: &Traffic, server: &Server) -> Self {
        let totals = traffic.totals();
        Self {
            at: Instant::now(),
            server: server.process.and_then(machine::Process::cpu),
            media: server
                .process
                .and_then(|process| process.cpu_of_threads(MEDIA_THREADS)),
            generator: machine::program_cpu(),
            machine: machine::machine_cpu(),
            sent: totals.sent,
            received: totals.received,
        }
    }
}

/// Who joins which room. Publishers have the first numbers, room by room.
struct Crowd<'a> {
    scenario: &'a Scenario,
    opens_every: u32,
    next_participant: usize,
    stormed: u32,
    /// Tells our rooms from those of others, on a server that runs anyway.
    nonce: u32,
}

impl<'a> Crowd<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let opens_every =
            (scenario.subscriptions() / VIEWERS_OPENING_ALL).clamp(1, OPENS_EVERY_MAX);
        Self {
            scenario,
            opens_every: opens_every as u32,
            next_participant: scenario.rooms * scenario.publishers,
            stormed: 0,
            nonce: rand::random(),
        }
    }

    fn publishers_join(&self, traffic: &mut Traffic) {
        for participant in 0..self.next_participant {
            let room = participant / self.scenario.publishers;
            let voice = self.scenario.voice(participant % self.scenario.publishers);
            let seed = participant as u64 + 1;
            let config = PeerConfig {
                video: (voice == Voice::Full || voice == Voice::Mute)
                    .then_some(Direction::SendOnly),
                ..light(PeerConfig::publisher(seed))
            };
            let job = Job {
                number: 0,
                participant,
                room: self.room_name(room),
                publishes: Some(config),
                watches: Vec::new(),
            };
            traffic.ask(job, false);
        }
    }

    fn viewers_join(&mut self, traffic: &mut Traffic) {
        let publishers = self.scenario.publishers;
        if self.scenario.mutual {
            for participant in 0..self.scenario.rooms * publishers {
                let room = participant / publishers;
                self.watch(traffic, participant, room);
            }
        }
        for room in 0..self.scenario.rooms {
            for _ in 0..self.scenario.viewers {
                self.join_one(traffic, room);
            }
        }
    }

    /// Lets those join who should have by now.
    fn storm(&mut self, traffic: &mut Traffic, elapsed: Duration) {
        let due = elapsed.as_secs_f64() * f64::from(self.scenario.joins_per_second);
        while f64::from(self.stormed) < due {
            self.stormed += 1;
            self.join_one(traffic, 0);
        }
    }

    fn join_one(&mut self, traffic: &mut Traffic, room: usize) {
        let participant = self.next_participant;
        self.next_participant += 1;
        self.watch(traffic, participant, room);
    }

    fn room_name(&self, room: usize) -> String {
        format!("bench-{:08x}-{room}", self.nonce)
    }

    fn watch(&self, traffic: &mut Traffic, participant: usize, room: usize) {
        let publishers = self.scenario.publishers;
        let watched = room * publishers..(room + 1) * publishers;
        let watches = watched
            .filter(|publisher| *publisher != participant)
            .map(|publisher| {
                let voice = self.scenario.voice(publisher % publishers);
                let seed = (participant as u64 + 1) << 32 | publisher as u64;
                let config = PeerConfig {
                    video: (voice == Voice::Full || voice == Voice::Mute)
                        .then_some(Direction::RecvOnly),
                    opens_every: self.opens_every,
                    ..light(PeerConfig::viewer(seed))
                };
                (publisher, config)
            })
            .collect();
        let job = Job {
            number: 0,
            participant,
            room: self.room_name(room),
            publishes: None,
            watches,
        };
        traffic.ask(job, true);
    }
}

fn light(config: PeerConfig) -> PeerConfig {
    PeerConfig {
        video_codecs: vec![Codec::Vp8],
        keeps_packets: false,
        ..config
    }
}
