//! What the time that packets take says about the bottleneck's queue: [`DelayMonitor`].

use std::collections::VecDeque;

/// The least delay of the last one to two of these is taken for the path without a queue, µs. Too low → a queue that
/// stands long becomes normal; too high → clocks that drift apart (0.1 ms per second) look like a queue, and so does a
/// longer route.
const BASE_WINDOW_MICROS: i64 = 10_000_000;

/// Packets sent within this time are one group, µs: they leave us as one burst, and what lies between them says
/// nothing.
const GROUP_MICROS: i64 = 5_000;

/// Groups in the line that is fitted. Too low → jitter looks like a trend; too high → a trend is seen late.
const GROUPS_MAX: usize = 24;
const GROUPS_MIN: usize = 6;

/// Age of the groups in the line at most, µs; the groups of slow streams are far apart.
const LINE_MICROS_MAX: i64 = 600_000;

/// Growth of the delay along the line that counts, ms. Too low → bursts of an encoder count; too high → the queue has
/// grown by that much and more before we notice.
const GROWTH_MIN_MS: f64 = 6.0;

/// The slope must exceed its own standard error by this factor, so that noise of the path raises the bar by itself.
const SIGNIFICANCE: f64 = 4.0;

/// The least delay of packets that arrived within this time is the queue of the moment, µs. Too low → jitter looks like
/// a queue; too high → a queue is seen late.
const RECENT_MICROS: i64 = 100_000;
/// So many packets count in any case, and at most.
const RECENT_PACKETS_MIN: usize = 6;
const RECENT_PACKETS_MAX: usize = 64;

/// Weight of a packet in the mean difference of delays.
const JITTER_WEIGHT: f64 = 1.0 / 64.0;
/// Difference from one packet to the next that counts at most, ms: a path that is interrupted is no jitter.
const JITTER_MS_MAX: f64 = 150.0;

/// The least delay of a path.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BaseDelay {
    current: Option<i64>,
    former: Option<i64>,
    began_micros: i64,
}

impl BaseDelay {
    /// Takes in a delay, µs with an unknown offset, and returns by how much it exceeds the least.
    #[inline]
    pub(super) fn above(&mut self, now_micros: i64, delay: i64) -> i64 {
        if self.current.is_none() {
            self.began_micros = now_micros;
        } else if now_micros - self.began_micros >= BASE_WINDOW_MICROS {
            self.former = self.current.take();
            self.began_micros = now_micros;
        }
        let current = self.current.map_or(delay, |least| least.min(delay));
        self.current = Some(current);
        delay - self.former.map_or(current, |former| former.min(current))
    }

    /// Forgets the past: what is seen from here on is the path.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent: i64,
    last_sent: i64,
    /// Sum and number of its packets' delays.
    delay_sum: i64,
    packets: i64,
}

/// Weight of a report in the mean difference of the queue from one to the next.
const UNREST_WEIGHT: f64 = 1.0 / 32.0;
/// How far the queue may seem to be from what it is, in these means. Too low → noise counts as a queue; too high → on
/// noisy paths a queue may stand.
const JITTER_FACTOR: f64 = 2.0;
const UNREST_FACTOR: f64 = 3.0;

/// Of what was learnt to be no queue, what is kept from one report to the next. Too low → the rate falls again and again
/// to learn it; too high → queues of what was someone else's may stand for long.
const LEARNT_KEPT: f64 = 0.998;

/// Watches the queueing delay of packets in the order in which they were sent.
#[derive(Clone, Debug, Default)]
pub(super) struct DelayMonitor {
    open: Option<Group>,
    /// Time of sending and mean delay, ms.
    line: VecDeque<(f64, f64)>,
    /// Time of arrival and delay of the last packets, µs.
    recent: VecDeque<(i64, i64)>,
    /// The least delay of the last packets, µs.
    queue: i64,
    last_delay: Option<i64>,
    jitter_ms: f64,
    last_queue_ms: f64,
    unrest_ms: f64,
    /// What looked like a queue and did not drain.
    learnt_ms: f64,
}

impl DelayMonitor {
    /// Takes in a packet with its delay above the base, µs. After a few of them comes [`Self::forget_old`].
    #[inline]
    pub(super) fn handle_packet(&mut self, sent_micros: i64, delay_micros: i64) {
        self.recent
            .push_back((sent_micros + delay_micros, delay_micros));
        let last = self
            .last_delay
            .replace(delay_micros)
            .unwrap_or(delay_micros);
        let difference = ((delay_micros - last).abs() as f64 / 1000.0).min(JITTER_MS_MAX);
        self.jitter_ms += JITTER_WEIGHT * (difference - self.jitter_ms);
    }

    /// Forgets what is too old or too much.
    pub(super) fn forget_old(&mut self) {
        let newest = self.recent.back().map_or(0, |(arrival, _)| *arrival);
        while let Some((arrival, _)) = self.recent.front()
            && self.recent.len() > RECENT_PACKETS_MIN
            && (self.recent.len() > RECENT_PACKETS_MAX || newest - arrival > RECENT_MICROS)
        {
            self.recent.pop_front();
        }
    }

    /// Finds the queue, and how restless it is.
    pub(super) fn end_report(&mut self) {
        let delays = self.recent.iter().map(|(_, delay)| *delay);
        self.queue = delays.min().unwrap_or(0);
        let queue = self.queue_ms();
        let difference = (queue - self.last_queue_ms).abs().min(JITTER_MS_MAX);
        self.last_queue_ms = queue;
        self.unrest_ms += UNREST_WEIGHT * (difference - self.unrest_ms);
        self.learnt_ms *= LEARNT_KEPT;
    }

    /// Takes a packet into the line. Packets of a probe are left out: their queue is of our making.
    #[inline]
    pub(super) fn extend_line(&mut self, sent_micros: i64, delay_micros: i64) {
        match &mut self.open {
            Some(open) if sent_micros - open.first_sent <= GROUP_MICROS => {
                open.last_sent = open.last_sent.max(sent_micros);
                open.delay_sum += delay_micros;
                open.packets += 1;
            }
            open => {
                let former = open.replace(Group {
                    first_sent: sent_micros,
                    last_sent: sent_micros,
                    delay_sum: delay_micros,
                    packets: 1,
                });
                if let Some(group) = former {
                    self.close(&group);
                }
            }
        }
    }

    fn close(&mut self, group: &Group) {
        let time = group.last_sent as f64 / 1000.0;
        let delay = group.delay_sum as f64 / group.packets as f64 / 1000.0;
        self.line.push_back((time, delay));
        while self.line.len() > GROUPS_MAX
            || time - self.line[0].0 > LINE_MICROS_MAX as f64 / 1000.0
        {
            self.line.pop_front();
        }
    }

    /// The queue in front of the bottleneck, ms: the least delay of recent packets. Jitter makes most packets late, but
    /// hardly all of them.
    pub(super) fn queue_ms(&self) -> f64 {
        self.queue as f64 / 1000.0
    }

    /// By how much [`Self::queue_ms`] may be wrong: paths that hold packets back and release them in clumps, as radio
    /// links do, make it rise and fall without a queue.
    pub(super) fn noise_ms(&self) -> f64 {
        let seen = (JITTER_FACTOR * self.jitter_ms).max(UNREST_FACTOR * self.unrest_ms);
        seen.max(self.learnt_ms)
    }

    /// Takes note of what looked like a queue and did not drain although less was sent.
    pub(super) fn learn_noise(&mut self, queue_ms: f64) {
        self.learnt_ms = self.learnt_ms.max(queue_ms);
        self.forget_line();
    }

    /// Mean difference of delays from one packet to the next (as RFC 3550, section 6.4.1), ms.
    pub(super) fn jitter_ms(&self) -> f64 {
        self.jitter_ms
    }

    /// True if the delay grows: by a line through the groups, as far as it stands out from their scatter.
    pub(super) fn is_growing(&self) -> bool {
        let count = self.line.len();
        if count < GROUPS_MIN {
            return false;
        }
        let n = count as f64;
        let mean_time = self.line.iter().map(|(time, _)| time).sum::<f64>() / n;
        let mean_delay = self.line.iter().map(|(_, delay)| delay).sum::<f64>() / n;
        let (mut time_squares, mut products, mut delay_squares) = (0.0, 0.0, 0.0);
        for (time, delay) in &self.line {
            let (time, delay) = (time - mean_time, delay - mean_delay);
            time_squares += time * time;
            products += time * delay;
            delay_squares += delay * delay;
        }
        if time_squares <= 0.0 {
            return false;
        }
        let slope = products / time_squares;
        let residual = (delay_squares - slope * products).max(0.0) / (n - 2.0);
        let error = (residual / time_squares).sqrt();
        let span = self.line[count - 1].0 - self.line[0].0;
        slope * span >= GROWTH_MIN_MS && slope >= SIGNIFICANCE * error
    }

    /// Begins a line anew: after the rate was changed, the past says nothing about the present.
    pub(super) fn forget_line(&mut self) {
        self.line.clear();
        self.open = None;
    }

    /// The base has changed by so much, µs.
    pub(super) fn forget(&mut self) {
        self.forget_line();
        self.recent.clear();
        self.queue = 0;
        self.last_delay = None;
    }
}
