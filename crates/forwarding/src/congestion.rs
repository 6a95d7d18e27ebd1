//! How much the paths to a subscriber carry: [`SendEstimator`], congestion control on the sender's side.
//!
//! In the manner of GCC (draft-ietf-rmcat-gcc-02), fed by transport-wide feedback: what arrives and how long it takes
//! says when the bottleneck is full, probes say when it carries more. Where only REMB comes, that is the estimate.
//!
//! Read [`SendEstimator`] first. The rest: [`feedback`] reads the wire; `paths` and `sent` remember what was sent;
//! `delay` watches queues, `throughput` arrivals and loss; `probe` measures spare capacity. Time is µs since the first packet.
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
//!   the capacity measured while the queue stood, rather than growing back by 8 % per second (section 5.5). What does
//!   not drain although less is sent is no queue of ours, and from then on noise of the path.
//! * **Bursts.** Key frames of several streams fill a queue at any rate. If the bottleneck lets more through than the
//!   estimate says, that drains by itself; and packets that wait leave no faster than it does ([`SendEstimator::pace`]).
//! * **A first rate.** Until the first report more may be sent than was estimated. What arrives of it in a whole window
//!   without a queue is the estimate from then on, as long as the path was never full.
//! * **Probes.** The draft only grows by factors; a subscriber whose layers differ by three times needs to know whether
//!   the next fits before it is sent. Also an estimate that is not used up cannot grow by use.
//! * **Loss without a queue is put on trial.** The draft decreases from 10 % on (section 6); paths that lose this much
//!   at random exist, and retransmission repairs it. Here a fifth less is sent for a while: only loss that goes away
//!   was congestion (`loss`). Up to 8 % nothing is done at all.
//! * **Several connections, one path.** Feedback of several transports feeds one estimate, each with its own least
//!   delay, since their clocks need not agree, and none ahead of the others (`paths`).

mod delay;
pub mod feedback;
mod loss;
mod paths;
mod probe;
mod sent;
mod throughput;
mod tuning;

use std::time::{Duration, Instant};

use delay::DelayMonitor;
use feedback::Feedback;
use loss::{Advice, LossControl};
use paths::{Arrived, Paths};
use probe::{ProbeResult, Prober};
use throughput::Throughput;
use tuning::*;

use crate::rate::{Bitrate, RateMeter};
use crate::rtp::Seq;

/// Connections that share one estimate. Too low → a large call in the old protocol, a connection per stream, has
/// estimates that fight; too high → a hostile client has us keep state.
pub const PATHS_MAX: usize = 32;

/// Arrivals of one report that are taken in before old ones are forgotten. Too low → each looks for what is old; too high →
/// a long report takes memory for good.
const ARRIVED_CHUNK: usize = 256;

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

/// What the rate control is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Growing,
    /// Waits for the queue to drain.
    Draining {
        since: i64,
        /// When a queue of our making is gone.
        until: i64,
        /// The rate before.
        before: Bitrate,
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

/// Estimates what the path to one subscriber carries. Its connections that share a bottleneck share an estimator.
///
/// Tell it of every packet with a transport-wide number by
/// [`Self::handle_sent`], of feedback by [`Self::handle_feedback`]. When [`Self::poll_padding`] says so, send a packet
/// of padding, or of something sent before.
#[derive(Clone, Debug)]
pub struct SendEstimator {
    config: EstimatorConfig,
    epoch: Option<Instant>,
    paths: Paths,
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
    /// Queue at the last decrease, ms.
    drained_ms: f64,
    /// Feedbacks in a row that showed a standing queue.
    standing: u32,
    first_probes: usize,
    probe_interval: i64,
    probe_due: i64,
    probe_ended_at: i64,
    /// What a probe found that is beyond all experience; the next one has to confirm it.
    doubted: Option<Bitrate>,
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
            paths: Paths::default(),
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
            drained_ms: 0.0,
            standing: 0,
            first_probes: 0,
            probe_interval: PROBE_INTERVAL,
            probe_due: 0,
            probe_ended_at: i64::MIN / 2,
            doubted: None,
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

    /// What layers may be chosen for: while a short queue drains, what is carried afterwards, since what is too much until
    /// then can wait in the pacer.
    pub fn allotted(&self) -> Bitrate {
        let sustained = self.sustained();
        match self.bitrate < sustained.scaled(DRAIN_SHORT) {
            true => self.bitrate,
            false => sustained,
        }
    }

    /// How fast packets should leave that wait: faster than the estimate, but no faster than the bottleneck lets them
    /// through if that is known.
    pub fn pace(&self) -> Bitrate {
        let fast = self.bitrate.scaled(PACE);
        let capacity = self.capacity.map(|capacity| Bitrate(capacity as u64));
        let pace = capacity.map_or(fast, |capacity| fast.min(capacity));
        pace.max(self.bitrate.scaled(PACE_MIN))
            .max(self.prober.sending().unwrap_or_default())
    }

    /// True once receivers have said something about the path.
    pub fn is_known(&self) -> bool {
        self.has_feedback || self.remb.is_some()
    }

    /// Forgets what was sent on a path, whose id another connection may then have.
    pub fn forget_path(&mut self, path: PathId) {
        self.paths.forget(path);
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

    /// Share of packets lost over the last second, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.loss.meter.share()
    }

    /// Bytes in flight: sent, and not named by any feedback.
    pub fn in_flight_bytes(&self) -> u64 {
        self.paths.in_flight_bytes()
    }

    /// Sets the rate that could be used if the path carried it: the sum of the best layers wanted. Nothing beyond it is
    /// probed for.
    pub fn set_demand(&mut self, demand: Bitrate) {
        self.demand = demand;
    }

    /// Takes note of packets sent together on a path: the transport-wide number of the first, and their sizes on the wire.
    #[inline]
    pub fn handle_sent(&mut self, now: Instant, path: PathId, first: Seq, sizes_bytes: &[u16]) {
        let micros = self.micros(now);
        let Some(sent) = self.paths.sent(path) else {
            return;
        };
        let (mut seq, mut sum_bytes) = (first, 0);
        for &size_bytes in sizes_bytes {
            let cluster = self.prober.handle_sent(micros, u32::from(size_bytes));
            sent.handle_sent(micros, seq, size_bytes, cluster);
            sum_bytes += usize::from(size_bytes);
            seq = seq.wrapping_add(1);
        }
        self.sent_rate.add(now, sum_bytes);
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
        let prober = &mut self.prober;
        let told = self.paths.handle_feedback(micros, path, &feedback, prober);
        let Some(told) = told.filter(|told| told.arrived > 0 || told.lost != 0) else {
            return true;
        };
        self.has_feedback = true;
        self.feedback_at = Some(micros);
        if let Some(sent) = told.newest_sent {
            // The queue is part of it, the time until the feedback left, too: reactions take that long.
            let rtt = (micros - sent).clamp(1_000, RTT_MICROS_MAX);
            self.rtt += (rtt - self.rtt) / 8;
            self.least_rtt = Some(self.least_rtt.map_or(rtt, |least| least.min(rtt)));
        }
        self.take_in_arrivals(micros);
        self.loss
            .meter
            .handle_report(micros, told.lost, told.arrived);
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
            self.handle_vain_probe(micros);
        }
        let silence = SILENCE_MICROS + 2 * self.rtt;
        if let Some(feedback_at) = self.feedback_at
            && self.has_feedback
            && self.in_flight_bytes() > 0
            && micros - feedback_at >= silence
        {
            self.feedback_at = Some(micros - 2 * self.rtt);
            self.abandon_probe();
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
        self.arrived.clear();
        self.paths.take_arrived(now, &mut self.arrived);
        for some in self.arrived.chunks(ARRIVED_CHUNK) {
            for arrived in some {
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
            self.throughput.forget_old();
            self.delay.forget_old();
        }
        self.delay.end_report();
    }

    /// Decides about the rate after feedback.
    fn update(&mut self, now: Instant, micros: i64) {
        let elapsed = (micros - self.updated_at).clamp(0, 500_000) as f64 / 1e6;
        self.updated_at = micros;
        let queue = self.delay.queue_ms();
        let noise = self.delay.noise_ms();
        let in_echo = micros - self.probe_ended_at < PROBE_ECHO + self.rtt || self.prober.is_busy();
        let is_echo = in_echo && queue < PROBE_ECHO_MS;
        let packet = self.packet_ms();
        let is_standing = queue > self.standing_ms();
        self.standing = if is_standing { self.standing + 1 } else { 0 };
        let is_growing = queue > QUEUE_GROWING_MS + packet.max(noise / 4.0)
            && self.delay.is_growing()
            && !self.is_burst();
        let is_long = queue > QUEUE_LONG_MS + noise.max(packet);
        let is_congested = (is_growing || self.standing >= 2 || is_long) && !is_echo;

        let floor = self.loss.floor().min(LOSS_FLOOR_MAX);
        let was_probing = self.prober.is_busy();
        if let Some(result) = self.prober.poll_result(floor) {
            self.probe_ended_at = micros;
            self.take_in_result(micros, result);
        } else if was_probing && !self.prober.is_busy() {
            self.handle_vain_probe(micros);
        }
        match self.phase {
            Phase::Growing if is_congested => self.decrease(micros, queue, noise),
            Phase::Growing => self.grow(now, elapsed, is_echo, queue),
            Phase::Draining {
                since,
                until,
                before,
            } => {
                if queue < QUEUE_DRAINED_MS + packet.max(noise) / 2.0 {
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
                } else if micros > until && self.sent_rate.rate(now) < self.bitrate.scaled(1.1) {
                    // It was not ours, or none.
                    self.phase = Phase::Growing;
                    self.delay.learn_noise(queue);
                    self.capacity = None;
                    self.set_bitrate(self.bitrate.max(before));
                } else if micros - self.decreased_at > self.rtt + 100_000
                    && queue > DRAIN_PROGRESS * self.drained_ms
                {
                    self.decrease(micros, queue, noise);
                }
            }
        }
        if self.phase == Phase::Growing && queue < self.standing_ms() {
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
        self.abandon_probe();
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
        let before = self.bitrate;
        self.set_bitrate(before.min(Bitrate((found * factor) as u64)));
        self.drained_ms = queue;
        if self.phase == Phase::Growing {
            let share = self.bitrate.0 as f64 / found.max(1.0);
            let drain = DRAIN_PATIENCE * 1000.0 * queue / (1.0 - share).max(0.1);
            self.phase = Phase::Draining {
                since: now,
                until: now + 2 * self.rtt + drain as i64,
                before,
            };
        }
        self.delay.forget_line();
        self.standing = 0;
        self.probe_interval = PROBE_INTERVAL;
        self.probe_due = now + self.probe_interval;
    }

    fn grow(&mut self, now: Instant, elapsed: f64, is_echo: bool, queue: f64) {
        let is_long = queue > self.standing_ms();
        if !self.loss.is_free() || is_long {
            return;
        }
        let sent = self.sent_rate.rate(now);
        let used = self.throughput.rate().unwrap_or_default().min(sent);
        // Before the first report more was sent than had been estimated. What arrives of it is carried, if the path was
        // never full: later it could be what stood in a queue.
        if self.decreases == 0 {
            let carried = self.throughput.sustained_rate().unwrap_or_default();
            self.set_bitrate(self.bitrate.max(carried.min(sent)));
        }
        if is_echo {
            return;
        }
        let Bitrate(bitrate) = self.bitrate;
        let rate = bitrate as f64;
        let is_used = used.0 as f64 >= rate * USED;
        // Less than in proportion to the rate, so that flows that share a bottleneck come together.
        let near = GROWTH_NEAR * (GROWTH_NEAR_AT / rate).sqrt();
        let growth = match self.capacity {
            Some(capacity) if rate < capacity * NEAR_FROM => GROWTH_BELOW,
            Some(capacity) if rate < capacity => near,
            Some(_) if !is_used => return,
            Some(capacity) if rate < capacity * NEAR_TO => near,
            Some(_) => {
                self.capacity = None;
                GROWTH_BEYOND
            }
            None => GROWTH_BEYOND,
        };
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
                self.abandon_probe();
                self.set_bitrate(Bitrate(to as u64));
            }
            Advice::Return(to) => self.set_bitrate(Bitrate(to as u64)),
            Advice::Full => self.capacity = Some(rate / RETURN),
        }
    }

    /// Time that a packet takes through a bottleneck as slow as the estimate, ms: the least delay is that of small ones.
    fn packet_ms(&self) -> f64 {
        let micros = 8e6 * PACKET_BYTES / self.sustained().0.max(1) as f64;
        (micros / 1000.0).min(PACKET_MS_MAX)
    }

    /// Queue that is too long even if it does not grow, ms.
    fn standing_ms(&self) -> f64 {
        QUEUE_STANDING_MS + self.delay.noise_ms().max(self.packet_ms())
    }

    /// True if less than what the bottleneck lets through would be sent but for a burst: what waits leaves by itself.
    fn is_burst(&self) -> bool {
        let carried = self.carried();
        carried.is_some_and(|carried| (self.bitrate.0 as f64) < BURST * carried)
    }

    /// What is sent for what arrives: the path loses the rest whatever is sent.
    fn carried(&self) -> Option<f64> {
        let arrives = self.throughput.bottleneck_rate()?.0 as f64;
        Some(arrives / (1.0 - self.loss.floor().min(LOSS_FLOOR_MAX)))
    }

    fn take_in_result(&mut self, now: i64, mut result: ProbeResult) {
        let doubted = self.doubted.take();
        let is_doubtful = self
            .capacity
            .is_some_and(|capacity| result.rate.0 as f64 > DOUBTED_FROM * capacity);
        if is_doubtful && !result.is_full {
            let Some(before) = doubted else {
                self.doubted = Some(result.rate);
                self.probe_due = now;
                return;
            };
            result.rate = result.rate.min(before);
        }
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

    /// A probe is over of which too little arrived to tell anything.
    fn handle_vain_probe(&mut self, now: i64) {
        self.doubted = None;
        self.probe_ended_at = now;
        self.schedule_probe(now, false);
    }

    /// What was being found out, the path is no longer like.
    fn abandon_probe(&mut self) {
        self.prober.cancel();
        self.doubted = None;
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
            && self.delay.queue_ms() < self.standing_ms()
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
        self.paths.forget_delays();
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
