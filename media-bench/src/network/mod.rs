//! A network path in virtual time: [`Link`].
//!
//! Pure and seeded: the same seed and the same packets give the same arrivals. A packet waits in a queue for the
//! bottleneck, whose rate may change by a schedule, is delayed, and may be lost, doubled or overtaken on the way. What
//! a packet is does not matter here, only its size. Deliberately absent: sockets, real time and other traffic; a shared
//! bottleneck is one link that several senders use.

mod loss;
mod queue;
mod schedule;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub use loss::Loss;
pub use queue::{ActiveQueue, QueueLimit};
pub use schedule::RateSchedule;

use loss::LossProcess;
use queue::Queue;

/// What a path does to packets.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Rate of the bottleneck over time, counted from the link's making.
    pub rate: RateSchedule,
    /// Time on the way, one way, without queue.
    pub delay: Duration,
    /// Largest extra delay, evenly distributed.
    pub jitter: Duration,
    /// True: jitter changes the order of packets. False: who is late holds up those behind.
    pub jitter_reorders: bool,
    /// What fits in front of the bottleneck; what does not is dropped.
    pub queue: QueueLimit,
    /// Drops before the queue is full.
    pub active_queue: Option<ActiveQueue>,
    /// Behind the bottleneck, as on a radio link.
    pub loss: Loss,
    /// Share of packets that take [`Self::reorder_delay`] longer, so that others overtake them.
    pub reorder: f64,
    /// See [`Self::reorder`].
    pub reorder_delay: Duration,
    /// Share of packets that arrive twice.
    pub duplicate: f64,
}

impl LinkConfig {
    /// A path of one rate, 20 ms each way, with a queue of 300 ms, that does no harm.
    pub fn steady(bits_per_second: u64) -> Self {
        Self {
            rate: RateSchedule::constant(bits_per_second),
            delay: Duration::from_millis(20),
            jitter: Duration::ZERO,
            jitter_reorders: false,
            queue: QueueLimit::Delay(Duration::from_millis(300)),
            active_queue: None,
            loss: Loss::None,
            reorder: 0.0,
            reorder_delay: Duration::from_millis(10),
            duplicate: 0.0,
        }
    }
}

/// What happened to the packets of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Packets given to the link.
    pub sent: u64,
    /// Bytes of those.
    pub sent_bytes: u64,
    /// Packets that arrived, duplicates not counted.
    pub delivered: u64,
    /// Bytes of those.
    pub delivered_bytes: u64,
    /// Packets for which the queue had no room, or that active queue management took out.
    pub dropped: u64,
    /// Packets lost behind the bottleneck.
    pub lost: u64,
}

#[derive(Debug)]
struct Arrival<T> {
    at: Instant,
    order: u64,
    packet: T,
}

impl<T> PartialEq for Arrival<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl<T> Eq for Arrival<T> {}

impl<T> PartialOrd for Arrival<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Arrival<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// One direction of a path.
#[derive(Debug)]
pub struct Link<T> {
    config: LinkConfig,
    began_at: Instant,
    queue: Queue<T>,
    loss: LossProcess,
    arrivals: BinaryHeap<Reverse<Arrival<T>>>,
    arrivals_made: u64,
    /// No packet may arrive before this if the order is kept.
    last_arrival: Instant,
    random: StdRng,
    counters: LinkCounters,
}

impl<T: Clone> Link<T> {
    /// A link whose rate schedule begins `now`.
    pub fn new(config: LinkConfig, seed: u64, now: Instant) -> Self {
        Self {
            queue: Queue::new(config.queue, config.active_queue, now),
            loss: LossProcess::new(config.loss),
            config,
            began_at: now,
            arrivals: BinaryHeap::new(),
            arrivals_made: 0,
            last_arrival: now,
            random: StdRng::seed_from_u64(seed),
            counters: LinkCounters::default(),
        }
    }

    /// Sends a packet. `now` must not go back.
    pub fn send(&mut self, now: Instant, size_bytes: usize, packet: T) {
        self.advance(now);
        self.counters.sent += 1;
        self.counters.sent_bytes += size_bytes as u64;
        let rate = self.config.rate.at(now - self.began_at);
        if !self.queue.push(now, size_bytes, packet, rate) {
            self.counters.dropped += 1;
        }
        self.advance(now);
    }

    /// Takes a packet that has arrived by `now`, with the time at which it did, in the order of arrival.
    pub fn poll(&mut self, now: Instant) -> Option<(Instant, T)> {
        self.advance(now);
        if self.arrivals.peek()?.0.at > now {
            return None;
        }
        let Reverse(arrival) = self.arrivals.pop()?;
        Some((arrival.at, arrival.packet))
    }

    /// When something may arrive; something earlier may still be sent.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let arrival = self.arrivals.peek().map(|next| next.0.at);
        arrival.into_iter().chain(self.queue.served_at()).min()
    }

    /// How long a packet sent now would wait before the bottleneck takes it.
    pub fn queue_delay(&mut self, now: Instant) -> Duration {
        self.advance(now);
        let rate = self.config.rate.at(now - self.began_at);
        self.queue.delay(now, rate)
    }

    /// What happened so far.
    pub fn counters(&self) -> LinkCounters {
        self.counters
    }

    /// Serves the queue up to `now`.
    fn advance(&mut self, now: Instant) {
        loop {
            let (rate, began_at) = (&self.config.rate, self.began_at);
            let finish = |start: Instant, size_bytes: usize| {
                began_at + rate.finish(start - began_at, size_bytes)
            };
            let Some(served) = self.queue.poll(now, finish) else {
                break;
            };
            self.counters.dropped += served.dropped;
            if let Some((at, size_bytes, packet)) = served.packet {
                self.travel(at, size_bytes, packet);
            }
        }
    }

    /// From the bottleneck to the other end.
    fn travel(&mut self, at: Instant, size_bytes: usize, packet: T) {
        if self.loss.loses(&mut self.random) {
            self.counters.lost += 1;
            return;
        }
        self.counters.delivered += 1;
        self.counters.delivered_bytes += size_bytes as u64;
        let jitter = self.config.jitter.mul_f64(self.random.random::<f64>());
        let mut arrives = at + self.config.delay + jitter;
        if !self.config.jitter_reorders {
            arrives = arrives.max(self.last_arrival);
            self.last_arrival = arrives;
        }
        if self.random.random_bool(self.config.reorder) {
            arrives += self.config.reorder_delay;
        }
        if self.random.random_bool(self.config.duplicate) {
            self.arrive(arrives, packet.clone());
        }
        self.arrive(arrives, packet);
    }

    fn arrive(&mut self, at: Instant, packet: T) {
        self.arrivals_made += 1;
        self.arrivals.push(Reverse(Arrival {
            at,
            order: self.arrivals_made,
            packet,
        }));
    }
}

#[cfg(test)]
mod tests;
