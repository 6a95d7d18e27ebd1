//! How much the paths to a subscriber carry: [`SendEstimator`], congestion control on the sender's side.
//!
//! In the manner of GCC (draft-ietf-rmcat-gcc-02), fed by transport-wide feedback: what arrives and how long it takes
//! says when the bottleneck is full, probes say when it carries more. Where only REMB comes, that is the estimate.
//!
//! Read [`SendEstimator`] first. The rest: [`feedback`] reads the wire; `sent` remembers what was sent; `delay` watches
//! queues, `throughput` arrivals and loss; `probe` measures spare capacity. Time is µs since the first packet.
//! Deliberately absent: the pacer ([`crate::pacer`]) and what to do with the rate
//! ([`crate::allocation`]).
//!
//! # What differs from the draft
//!
//! * **Delay itself, not only its gradient.** The draft sums up differences between groups of packets and so forgets
//!   how long the queue is. Here the delay above the least of the last seconds is kept. It tells a real queue from
//!   noise (a trend counts only with a queue), finds a queue that stands without growing, and says how far the rate
//!   must fall for it to drain.
//! * **A line, and its significance.** Instead of a Kalman filter and an adaptive threshold (sections 5.3 and 5.4) a
//!   line is fitted as in libwebrtc; it counts if its slope exceeds its own standard error by a factor. Noise thus
//!   raises the bar by itself, at once, and no gain has to be tuned. The queue is the *least* delay of recent packets,
//!   which jitter hardly moves.
//! * **Drain, then return.** After a decrease the rate stays low until the queue is gone, then returns to just below
//!   the capacity measured while the queue stood, rather than growing back by 8 % per second (section 5.5).
//! * **Probes.** The draft only grows by factors; a subscriber whose layers differ by three times needs to know whether
//!   the next fits before it is sent. Also an estimate that is not used up cannot grow by use.
//! * **Loss without a queue is put on trial.** The draft decreases from 10 % on (section 6); paths that lose this much
//!   at random exist, and retransmission repairs it. Here a fifth less is sent for a while: only loss that goes away
//!   was congestion (`loss`). Up to 8 % nothing is done at all.
//! * **Several connections, one path.** Feedback of several transports feeds one estimate, each with its own least
//!   delay, since their clocks need not agree.

mod delay;
pub mod feedback;
mod loss;
mod probe;
mod sent;
mod throughput;

use std::time::{Duration, Instant};

use delay::{BaseDelay, DelayMonitor};
use feedback::Feedback;
use loss::{Advice, LossControl};
use probe::{ProbeResult, Prober};
use sent::SentPackets;
use throughput::Throughput;

use crate::rate::{Bitrate, RateMeter};
use crate::rtp::Seq;

/// Connections that share one estimate. Too low → a large call in the old protocol, a connection per stream, has
/// estimates that fight; too high → a hostile client has us keep state.
pub const PATHS_MAX: usize = 32;

/// Of the rate that arrives while the queue is full, what is sent on. Too low → capacity is wasted at every decrease;
/// too high → queues drain slowly.
const DECREASE: f64 = 0.85;
/// A queue of this length is still drained by [`DECREASE`] alone, ms; a longer one costs another
/// hundredth per [`DRAIN_MS_PER_PERCENT`], down to [`DECREASE_MIN`].
const QUEUE_SHORT_MS: f64 = 50.0;
const DRAIN_MS_PER_PERCENT: f64 = 4.0;
const DECREASE_MIN: f64 = 0.1;

/// Queue without which a growing delay is noise, ms.
const QUEUE_GROWING_MS: f64 = 8.0;
/// Queue that is too long even if it does not grow, ms, besides the noise of the path.
const QUEUE_STANDING_MS: f64 = 45.0;
/// Queue that is too long at once, ms, besides the noise of the path.
const QUEUE_LONG_MS: f64 = 100.0;
/// Queue that counts as drained, ms.
const QUEUE_DRAINED_MS: f64 = 10.0;

/// Longest time to wait for a queue to drain. If it stands longer, it is others' or the path's.
const DRAIN_MICROS_MAX: i64 = 3_000_000;

/// Where the rate returns to after draining, of the capacity found. Too low → capacity is unused; too high → flows that
/// share a bottleneck keep what they had when they met.
const RETURN: f64 = 0.87;

/// Growth per second: far below the known capacity, close to it, beyond it or where none is known. Too low → capacity
/// is unused; too high → queues.
const GROWTH_BELOW: f64 = 0.25;
const GROWTH_NEAR: f64 = 0.02;
const GROWTH_BEYOND: f64 = 0.10;
/// Rate at which [`GROWTH_NEAR`] holds, bits per second; it is more for smaller ones.
const GROWTH_NEAR_AT: f64 = 1_000_000.0;
/// Shares of the known capacity where "close" begins and ends.
const NEAR_FROM: f64 = 0.87;
const NEAR_TO: f64 = 1.08;
/// Growth per second at least.
const GROWTH_MIN: Bitrate = Bitrate(4_000);

/// The rate exceeds what arrives by no more than this factor by growth alone: what is not used is not known.
const UNUSED: f64 = 1.5;

/// Loss of the path itself that is made up for at most.
const LOSS_FLOOR_MAX: f64 = 0.5;

/// First probes, as factors of the start, and the factor of each that follows a success.
const PROBE_FIRST: [f64; 2] = [3.0, 6.0];
const PROBE_NEXT: f64 = 2.0;
/// Time between probes, µs: from the first on, growing while they find nothing. Too low → each that fails leaves a
/// short queue; too high → a path that has become better is not noticed.
const PROBE_INTERVAL: i64 = 2_000_000;
const PROBE_INTERVAL_MAX: i64 = 4_500_000;
const PROBE_INTERVAL_GROWTH: f64 = 1.5;
/// Time after a probe in which a short queue is of its making, µs.
const PROBE_ECHO: i64 = 150_000;
/// Longest queue of a probe's making, ms.
const PROBE_ECHO_MS: f64 = 80.0;

/// Silence of the receivers, while packets are in flight, after which the rate falls, µs, and by what. Too low →
/// feedback that is lost now and then costs quality; too high → a dead path is flooded.
const SILENCE_MICROS: i64 = 500_000;
const SILENCE_FACTOR: f64 = 0.7;

/// Time that receivers collect reports, ms (libwebrtc: 50 to 250).
const REPORT_MS: f64 = 100.0;

/// Round trips believed at most, µs.
const RTT_MICROS_MAX: i64 = 2_000_000;
const RTT_MICROS_START: i64 = 100_000;

/// Bounds of an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EstimatorConfig {
    /// Before anything is known.
    pub start: Bitrate,
    /// Never less.
    pub min: Bitrate,
    /// Never more.
    pub max: Bitrate,
}

impl Default for EstimatorConfig {
    fn default() -> Self {
        Self {
            start: Bitrate::from_kbps(300),
            min: Bitrate::from_kbps(30),
            max: Bitrate::from_kbps(30_000),
        }
    }
}

/// One of the connections that share an estimate; 0..[`PATHS_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PathId(pub u8);

#[derive(Clone, Debug, Default)]
struct Path {
    sent: SentPackets,
    base: BaseDelay,
    /// Reference time of the last feedback, µs.
    reference: Option<i64>,
}

/// What the rate control is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Growing,
    /// Waits for the queue to drain.
    Draining {
        since: i64,
    },
}

/// For statistics and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EstimatorStats {
    /// Queue in front of the bottleneck.
    pub queue: Duration,
    /// Mean deviation of the delay.
    pub jitter: Duration,
    /// Share of packets lost over the last second, 0 to 1.
    pub loss: f64,
    /// Rate that arrives.
    pub acknowledged: Bitrate,
    /// Round trip of feedback.
    pub rtt: Duration,
    /// Times the rate was decreased for congestion.
    pub decreases: u64,
    /// Probes begun.
    pub probes: u64,
}

/// A packet reported, on our time line.
#[derive(Clone, Copy, Debug)]
struct Arrived {
    sent: i64,
    delay: i64,
    size_bytes: u32,
    cluster: u16,
}

/// Estimates what the path to one subscriber carries. Its connections that share a bottleneck share an estimator.
///
/// Tell it of every packet with a transport-wide number by
/// [`Self::handle_sent`], of feedback by [`Self::handle_feedback`]. When [`Self::poll_padding`] says so, send a packet
/// of padding, or of something sent before.
#[derive(Clone, Debug)]
pub struct SendEstimator {
    config: EstimatorConfig,
    epoch: Option<Instant>,
    paths: Vec<Path>,
    delay: DelayMonitor,
    throughput: Throughput,
    loss: LossControl,
    prober: Prober,
    sent_rate: RateMeter,
    bitrate: Bitrate,
    /// Set by the last REMB.
    remb: Option<Bitrate>,
    /// Transport-wide feedback comes.
    has_feedback: bool,
    /// What could be used.
    demand: Bitrate,
    phase: Phase,
    /// Mean of what arrived while the bottleneck was full.
    capacity: Option<f64>,
    rtt: i64,
    /// The least of the connection's life.
    least_rtt: Option<i64>,
    updated_at: i64,
    feedback_at: Option<i64>,
    decreased_at: i64,
    /// Feedbacks in a row that showed a standing queue.
    standing: u32,
    first_probes: usize,
    probe_interval: i64,
    probe_due: i64,
    probe_ended_at: i64,
    arrived: Vec<Arrived>,
    decreases: u64,
    probes: u64,
}

impl SendEstimator {
    /// An estimate that knows nothing.
    pub fn new(config: EstimatorConfig) -> Self {
        Self {
            config,
            epoch: None,
            paths: Vec::new(),
            delay: DelayMonitor::default(),
            throughput: Throughput::default(),
            loss: LossControl::default(),
            prober: Prober::default(),
            sent_rate: RateMeter::default(),
            bitrate: config.start,
            remb: None,
            has_feedback: false,
            demand: config.max,
            phase: Phase::Growing,
            capacity: None,
            rtt: RTT_MICROS_START,
            least_rtt: None,
            updated_at: 0,
            feedback_at: None,
            decreased_at: i64::MIN / 2,
            standing: 0,
            first_probes: 0,
            probe_interval: PROBE_INTERVAL,
            probe_due: 0,
            probe_ended_at: i64::MIN / 2,
            arrived: Vec::new(),
            decreases: 0,
            probes: 0,
        }
    }

    /// What may be sent, everything included: media, retransmissions and padding.
    pub fn bitrate(&self) -> Bitrate {
        self.bitrate
    }

    /// The same without what is held back for a short time, so that a queue drains.
    pub fn sustained(&self) -> Bitrate {
        match (self.phase, self.capacity) {
            (Phase::Draining { .. }, Some(capacity)) => {
                self.bitrate.max(Bitrate((capacity * RETURN) as u64))
            }
            _ => self.bitrate,
        }
    }

    /// True once receivers have said something about the path.
    pub fn is_known(&self) -> bool {
        self.has_feedback || self.remb.is_some()
    }

    /// Forgets what was sent on a path, whose id another connection may then have.
    pub fn forget_path(&mut self, path: PathId) {
        if let Some(path) = self.paths.get_mut(usize::from(path.0)) {
            *path = Path::default();
        }
    }

    /// The rate of a probe that is being sent: packets that wait may leave this fast.
    pub fn probe_rate(&self) -> Option<Bitrate> {
        self.prober.sending()
    }

    /// What is known of the path.
    pub fn stats(&self) -> EstimatorStats {
        let ms = |ms: f64| Duration::from_secs_f64((ms / 1000.0).clamp(0.0, 3600.0));
        EstimatorStats {
            queue: ms(self.delay.queue_ms()),
            jitter: ms(self.delay.jitter_ms()),
            loss: self.loss.meter.share(),
            acknowledged: self.throughput.rate().unwrap_or_default(),
            rtt: Duration::from_micros(self.rtt as u64),
            decreases: self.decreases,
            probes: self.probes,
        }
    }

    /// Bytes in flight: sent, and not named by any feedback.
    pub fn in_flight_bytes(&self) -> u64 {
        self.paths
            .iter()
            .map(|path| path.sent.in_flight_bytes())
            .sum()
    }

    /// Sets the rate that could be used if the path carried it: the sum of the best layers wanted. Nothing beyond it is
    /// probed for.
    pub fn set_demand(&mut self, demand: Bitrate) {
        self.demand = demand;
    }

    /// Sets the bounds.
    pub fn set_config(&mut self, config: EstimatorConfig) {
        self.config = config;
        self.bitrate = self.bitrate.clamp(config.min, config.max);
    }

    /// Takes note of a packet sent on a path: its transport-wide number, and its size on the wire.
    #[inline]
    pub fn handle_sent(&mut self, now: Instant, path: PathId, seq: Seq, size_bytes: usize) {
        let micros = self.micros(now);
        let index = usize::from(path.0);
        if index >= PATHS_MAX {
            return;
        }
        if index >= self.paths.len() {
            self.paths.resize_with(index + 1, Path::default);
        }
        let size = size_bytes.min(1 << 16) as u32;
        self.sent_rate.add(now, size_bytes);
        let cluster = self.prober.handle_sent(micros, size);
        self.paths[index]
            .sent
            .handle_sent(micros, seq, size, cluster);
        if self.feedback_at.is_none() {
            self.feedback_at = Some(micros);
        }
    }

    /// Takes note of transport-wide feedback from a path's receiver. False if it cannot be read.
    pub fn handle_feedback(&mut self, now: Instant, path: PathId, body: &[u8]) -> bool {
        let micros = self.micros(now);
        let Some(feedback) = Feedback::read(body) else {
            return false;
        };
        let Some(path) = self.paths.get_mut(usize::from(path.0)) else {
            return true;
        };
        let reference = feedback.reference_micros(path.reference);
        path.reference = Some(reference);
        self.arrived.clear();
        let mut lost = 0i64;
        for status in feedback.statuses() {
            match status.arrival_micros {
                Some(arrival) => {
                    let Some(reported) = path.sent.arrive(status.seq) else {
                        continue;
                    };
                    lost -= i64::from(reported.was_lost);
                    let delay = path
                        .base
                        .above(micros, reference + arrival - reported.sent_micros);
                    self.arrived.push(Arrived {
                        sent: reported.sent_micros,
                        delay,
                        size_bytes: reported.size_bytes,
                        cluster: reported.cluster,
                    });
                }
                None => {
                    let Some(reported) = path.sent.lose(status.seq) else {
                        continue;
                    };
                    lost += 1;
                    self.prober
                        .handle_report(reported.cluster, None, reported.size_bytes);
                }
            }
        }
        if self.arrived.is_empty() && lost == 0 {
            return true;
        }
        self.has_feedback = true;
        self.feedback_at = Some(micros);
        self.take_in_arrivals(micros);
        let arrived = self.arrived.len() as u32;
        self.loss.meter.handle_report(micros, lost, arrived);
        self.update(now, micros);
        true
    }

    /// Takes note of a receiver's own estimate; it counts where no transport-wide feedback comes, and bounds the
    /// estimate where both do.
    pub fn handle_remb(&mut self, remb: Bitrate) {
        self.remb = Some(remb);
        if !self.has_feedback {
            self.set_bitrate(remb);
        }
    }

    /// Size on the wire, bytes, of a packet of padding that should be sent now; tell of it by [`Self::handle_sent`].
    /// Call until it is `None`.
    pub fn poll_padding(&mut self, now: Instant) -> Option<usize> {
        let micros = self.micros(now);
        self.prober.poll_padding(micros)
    }

    /// Serves what is due by time.
    pub fn handle_timeout(&mut self, now: Instant) {
        let micros = self.micros(now);
        if self.prober.expire(micros) {
            self.probe_ended_at = micros;
            self.schedule_probe(micros, false);
        }
        let silence = SILENCE_MICROS + 2 * self.rtt;
        if let Some(feedback_at) = self.feedback_at
            && self.has_feedback
            && self.in_flight_bytes() > 0
            && micros - feedback_at >= silence
        {
            self.feedback_at = Some(micros - 2 * self.rtt);
            self.prober.cancel();
            self.set_bitrate(self.bitrate.scaled(SILENCE_FACTOR));
        }
        self.begin_probe_if_due(now, micros);
    }

    /// When [`Self::handle_timeout`] or [`Self::poll_padding`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let epoch = self.epoch?;
        let silence = self
            .feedback_at
            .filter(|_| self.has_feedback && self.in_flight_bytes() > 0);
        let silence = silence.map(|at| at + SILENCE_MICROS + 2 * self.rtt);
        let probe = match self.prober.poll_timeout() {
            Some(at) => Some(at),
            None => self.may_probe().then_some(self.probe_due),
        };
        let next = silence.into_iter().chain(probe).min()?;
        Some(epoch + Duration::from_micros(next.max(0) as u64))
    }

    fn micros(&mut self, now: Instant) -> i64 {
        let epoch = *self.epoch.get_or_insert(now);
        now.saturating_duration_since(epoch).as_micros() as i64
    }

    fn take_in_arrivals(&mut self, now: i64) {
        self.arrived.sort_unstable_by_key(|arrived| arrived.sent);
        for arrived in &self.arrived {
            let Arrived {
                sent,
                delay,
                size_bytes,
                cluster,
            } = *arrived;
            self.throughput
                .handle_arrival(sent + delay, delay, size_bytes);
            self.delay.handle_packet(sent, delay);
            if cluster == 0 {
                self.delay.extend_line(sent, delay);
            } else {
                self.prober
                    .handle_report(cluster, Some(sent + delay), size_bytes);
            }
        }
        if let Some(newest) = self.arrived.last() {
            // The queue is part of it, the time until the feedback left, too: reactions take that long.
            let rtt = (now - newest.sent).clamp(1_000, RTT_MICROS_MAX);
            self.rtt += (rtt - self.rtt) / 8;
            self.least_rtt = Some(self.least_rtt.map_or(rtt, |least| least.min(rtt)));
        }
    }

    /// Decides about the rate after feedback.
    fn update(&mut self, now: Instant, micros: i64) {
        let elapsed = (micros - self.updated_at).clamp(0, 500_000) as f64 / 1e6;
        self.updated_at = micros;
        let queue = self.delay.queue_ms();
        self.delay.end_report();
        let noise = self.delay.noise_ms();
        let in_echo = micros - self.probe_ended_at < PROBE_ECHO + self.rtt || self.prober.is_busy();
        let is_echo = in_echo && queue < PROBE_ECHO_MS;
        let is_standing = queue > QUEUE_STANDING_MS + noise;
        self.standing = if is_standing { self.standing + 1 } else { 0 };
        let is_growing = self.delay.is_growing() && queue > QUEUE_GROWING_MS;
        let is_long = queue > QUEUE_LONG_MS + noise;
        let is_congested = (is_growing || self.standing >= 2 || is_long) && !is_echo;

        if let Some(result) = self
            .prober
            .poll_result(self.loss.floor().min(LOSS_FLOOR_MAX))
        {
            self.probe_ended_at = micros;
            self.take_in_result(micros, result);
        }
        match self.phase {
            Phase::Growing if is_congested => self.decrease(micros, queue, noise),
            Phase::Growing => self.grow(now, elapsed, is_echo, queue),
            Phase::Draining { since } => {
                if queue < QUEUE_DRAINED_MS + noise / 2.0 {
                    self.phase = Phase::Growing;
                    self.delay.forget_line();
                    // What a full queue has dropped says nothing about the rate at which it is empty.
                    let floor = self.loss.floor().min(self.loss.meter.share());
                    self.loss.meter.restart(floor);
                    if let Some(capacity) = self.capacity {
                        let back = Bitrate((capacity * RETURN) as u64);
                        self.set_bitrate(self.bitrate.max(back));
                    }
                } else if micros - since > DRAIN_MICROS_MAX {
                    self.phase = Phase::Growing;
                    self.forget_base();
                } else if micros - self.decreased_at > self.rtt + 100_000 {
                    self.decrease(micros, queue, noise);
                }
            }
        }
        if self.phase == Phase::Growing && queue < QUEUE_STANDING_MS + noise {
            self.follow_loss(micros);
        }
        if let Some(remb) = self.remb {
            self.set_bitrate(self.bitrate.min(remb));
        }
        self.begin_probe_if_due(now, micros);
    }

    fn decrease(&mut self, now: i64, queue: f64, noise: f64) {
        let Some(found) = self.carried() else {
            return;
        };
        self.decreases += 1;
        self.decreased_at = now;
        self.prober.cancel();
        self.loss.cancel_trial();
        let capacity = match self.capacity {
            Some(capacity) if (0.75..1.33).contains(&(found / capacity)) => {
                capacity + 0.3 * (found - capacity)
            }
            _ => found,
        };
        self.capacity = Some(capacity);
        // What is in flight tells of a long queue before packets have passed through it.
        let in_flight = 8_000.0 * self.in_flight_bytes() as f64 / found.max(1.0);
        let unreported = self.least_rtt.unwrap_or(0) as f64 / 1000.0 + REPORT_MS;
        let queue = (queue - noise).max(in_flight - unreported);
        let excess = (queue - QUEUE_SHORT_MS).max(0.0);
        let factor = (DECREASE - excess / DRAIN_MS_PER_PERCENT / 100.0).max(DECREASE_MIN);
        self.set_bitrate(self.bitrate.min(Bitrate((found * factor) as u64)));
        if self.phase == Phase::Growing {
            self.phase = Phase::Draining { since: now };
        }
        self.delay.forget_line();
        self.standing = 0;
        self.probe_interval = PROBE_INTERVAL;
        self.probe_due = now + self.probe_interval;
    }

    fn grow(&mut self, now: Instant, elapsed: f64, is_echo: bool, queue: f64) {
        let is_long = queue > QUEUE_STANDING_MS + self.delay.noise_ms();
        if !self.loss.is_free() || is_echo || is_long {
            return;
        }
        let Bitrate(bitrate) = self.bitrate;
        let rate = bitrate as f64;
        // Less than in proportion to the rate, so that flows that share a bottleneck come together.
        let near = GROWTH_NEAR * (GROWTH_NEAR_AT / rate).sqrt();
        let growth = match self.capacity {
            Some(capacity) if rate < capacity * NEAR_FROM => GROWTH_BELOW,
            Some(capacity) if rate < capacity * NEAR_TO => near,
            Some(_) => {
                self.capacity = None;
                GROWTH_BEYOND
            }
            None => GROWTH_BEYOND,
        };
        let used = self
            .throughput
            .rate()
            .unwrap_or_default()
            .min(self.sent_rate.rate(now));
        let grown = rate + (rate * growth).max(GROWTH_MIN.0 as f64) * elapsed;
        let ceiling = used.0 as f64 * UNUSED + 10_000.0;
        self.set_bitrate(Bitrate(grown.min(ceiling.max(rate)) as u64));
    }

    fn follow_loss(&mut self, now: i64) {
        let rate = self.bitrate.0 as f64;
        let advice = self.loss.update(now, self.rtt, rate);
        match advice {
            Advice::Free | Advice::Hold => {}
            Advice::Fall(to) => {
                self.decreases += 1;
                self.prober.cancel();
                self.set_bitrate(Bitrate(to as u64));
            }
            Advice::Return(to) => self.set_bitrate(Bitrate(to as u64)),
            Advice::Full => self.capacity = Some(rate / RETURN),
        }
    }

    /// What is sent for what arrives: the path loses the rest whatever is sent.
    fn carried(&self) -> Option<f64> {
        let arrives = self.throughput.bottleneck_rate()?.0 as f64;
        Some(arrives / (1.0 - self.loss.floor().min(LOSS_FLOOR_MAX)))
    }

    fn take_in_result(&mut self, now: i64, result: ProbeResult) {
        let is_better = result.rate > self.bitrate;
        if self.phase == Phase::Growing && is_better {
            if result.is_full {
                self.capacity = Some(result.rate.0 as f64 / 0.95);
            } else if self
                .capacity
                .is_some_and(|capacity| capacity < result.rate.0 as f64)
            {
                self.capacity = None;
            }
            self.set_bitrate(result.rate);
        }
        let success = is_better && !result.is_full;
        self.schedule_probe(now, success);
    }

    fn schedule_probe(&mut self, now: i64, success: bool) {
        if success {
            self.probe_interval = PROBE_INTERVAL;
            self.probe_due = now;
        } else {
            self.probe_due = now + self.probe_interval;
            let grown = self.probe_interval as f64 * PROBE_INTERVAL_GROWTH;
            self.probe_interval = (grown as i64).min(PROBE_INTERVAL_MAX);
        }
    }

    fn may_probe(&self) -> bool {
        self.phase == Phase::Growing
            && self.has_feedback
            && !self.prober.is_busy()
            && self.bitrate < self.demand.min(self.config.max).scaled(0.98)
            && self.loss.is_free()
            && self.delay.queue_ms() < QUEUE_STANDING_MS + self.delay.noise_ms()
    }

    fn begin_probe_if_due(&mut self, now: Instant, micros: i64) {
        if !self.may_probe() || micros < self.probe_due {
            return;
        }
        let factor = match PROBE_FIRST.get(self.first_probes) {
            Some(factor) => {
                self.first_probes += 1;
                factor * self.config.start.0 as f64 / self.bitrate.0 as f64
            }
            None => PROBE_NEXT,
        };
        let wanted = self.demand.min(self.config.max).scaled(1.1);
        let rate = self.bitrate.scaled(factor.max(1.2)).min(wanted);
        // A probe that media fills by themselves would measure nothing new.
        let rate = rate.max(self.sent_rate.rate(now).scaled(1.2)).min(wanted);
        self.probes += 1;
        self.prober.begin(micros, rate);
    }

    /// What looks like a queue is the path.
    fn forget_base(&mut self) {
        for path in &mut self.paths {
            path.base.forget();
        }
        self.delay.forget();
        self.throughput.forget();
        self.loss.forget();
    }

    fn set_bitrate(&mut self, bitrate: Bitrate) {
        self.bitrate = bitrate.clamp(self.config.min, self.config.max);
    }
}

#[cfg(test)]
mod tests;
