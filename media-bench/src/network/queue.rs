//! What waits for the bottleneck: [`Queue`], with tail drop and optional active management.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Room of a queue. One packet always fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueLimit {
    /// Bytes, whatever the rate.
    Bytes(usize),
    /// Time that its content takes at the rate of the moment.
    Delay(Duration),
}

/// CoDel (RFC 8289): drops where packets have waited longer than `target` for at least `interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveQueue {
    /// Usually 5 ms.
    pub target: Duration,
    /// Usually 100 ms.
    pub interval: Duration,
}

#[derive(Debug)]
struct Waiting<T> {
    since: Instant,
    size_bytes: usize,
    packet: T,
}

/// State of RFC 8289, section 5.
#[derive(Debug)]
struct Codel {
    config: ActiveQueue,
    above_since: Option<Instant>,
    next_drop: Option<Instant>,
    drops: u32,
}

impl Codel {
    /// True if a packet that waited this long is taken out at the head of the queue.
    fn drops(&mut self, now: Instant, waited: Duration) -> bool {
        if waited < self.config.target {
            self.above_since = None;
            self.next_drop = None;
            return false;
        }
        let above_since = *self.above_since.get_or_insert(now);
        if now - above_since < self.config.interval {
            return false;
        }
        match self.next_drop {
            Some(next) if now < next => return false,
            Some(_) => self.drops += 1,
            // Back soon after the last time: go on at nearly the same pace.
            None => self.drops = self.drops.saturating_sub(2).max(1),
        }
        let pause = self.config.interval.div_f64(f64::from(self.drops).sqrt());
        self.next_drop = Some(now + pause);
        true
    }
}

/// What came out of the queue.
#[derive(Debug)]
pub(super) struct Served<T> {
    /// Packets taken out before it.
    pub(super) dropped: u64,
    /// When it was through, its size, and itself.
    pub(super) packet: Option<(Instant, usize, T)>,
}

#[derive(Debug)]
pub(super) struct Queue<T> {
    limit: QueueLimit,
    codel: Option<Codel>,
    waiting: VecDeque<Waiting<T>>,
    waiting_bytes: usize,
    in_service: Option<(Instant, usize, T)>,
    free_at: Instant,
}

impl<T> Queue<T> {
    pub(super) fn new(limit: QueueLimit, active: Option<ActiveQueue>, now: Instant) -> Self {
        Self {
            limit,
            codel: active.map(|config| Codel {
                config,
                above_since: None,
                next_drop: None,
                drops: 0,
            }),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            in_service: None,
            free_at: now,
        }
    }

    /// False if there is no room.
    pub(super) fn push(&mut self, now: Instant, size_bytes: usize, packet: T, rate: u64) -> bool {
        let bytes_max = match self.limit {
            QueueLimit::Bytes(bytes) => bytes,
            QueueLimit::Delay(delay) => (delay.as_secs_f64() * rate as f64 / 8.0) as usize,
        };
        if !self.waiting.is_empty() && self.waiting_bytes + size_bytes > bytes_max {
            return false;
        }
        self.waiting_bytes += size_bytes;
        self.waiting.push_back(Waiting {
            since: now,
            size_bytes,
            packet,
        });
        true
    }

    /// When the packet in service is through.
    pub(super) fn served_at(&self) -> Option<Instant> {
        self.in_service.as_ref().map(|(at, ..)| *at)
    }

    /// How long a packet that comes now waits for service.
    pub(super) fn delay(&self, now: Instant, rate: u64) -> Duration {
        let service = self
            .served_at()
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        service + Duration::from_secs_f64(8.0 * self.waiting_bytes as f64 / rate as f64)
    }

    /// Takes the next packet that was through by `now`; `None` if nothing happens until then. `finish` says when a
    /// packet of a size that begins at a time is through.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        finish: impl Fn(Instant, usize) -> Instant,
    ) -> Option<Served<T>> {
        let mut dropped = 0;
        if self.in_service.is_none() {
            loop {
                let Some(next) = self.waiting.pop_front() else {
                    return (dropped > 0).then_some(Served {
                        dropped,
                        packet: None,
                    });
                };
                self.waiting_bytes -= next.size_bytes;
                let start = self.free_at.max(next.since);
                let codel = self.codel.as_mut();
                if codel.is_some_and(|codel| codel.drops(start, start - next.since)) {
                    dropped += 1;
                    continue;
                }
                let through = finish(start, next.size_bytes);
                self.in_service = Some((through, next.size_bytes, next.packet));
                break;
            }
        }
        let packet = self.in_service.take_if(|(at, ..)| *at <= now);
        if let Some((at, ..)) = &packet {
            self.free_at = *at;
        }
        (packet.is_some() || dropped > 0).then_some(Served { dropped, packet })
    }
}
