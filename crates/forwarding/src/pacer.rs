//! Sending no faster than the path takes it: [`Pacer`].
//!
//! A key frame leaves an encoder as one burst, ten times as long as what fits between two frames; the pacer spreads it,
//! and lets audio pass by. It holds handles of the caller's, no bytes. Deliberately absent: any idea of the rate, which
//! is [`crate::congestion::SendEstimator`]'s.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::rate::Bitrate;

/// Longest wait: the rate rises so that all that waits leaves within this. Too low → bursts; too high → delay.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// What may leave at once after a pause. Too low → many small system calls; too high → bursts.
const BURST: Duration = Duration::from_millis(5);

/// Packets that wait in a class. Too low → key frames of large pictures are cut (300 packets at 4 Mbit/s); too high →
/// memory, and packets that come too late.
const PACKETS_MAX: usize = 1_000;

/// Why a packet goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketClass {
    /// Never waits.
    Audio,
    /// Somebody waits for it.
    Retransmission,
    /// The rest.
    Video,
}

const CLASSES: usize = 3;

#[derive(Clone, Debug)]
struct Waiting<T> {
    size_bytes: usize,
    item: T,
}

/// Queues of what is to be sent to one subscriber.
#[derive(Clone, Debug)]
pub struct Pacer<T> {
    queues: [VecDeque<Waiting<T>>; CLASSES],
    waiting_bytes: usize,
    rate: Bitrate,
    /// When what has left is paid for.
    paid_at: Option<Instant>,
    refused: u64,
}

impl<T> Pacer<T> {
    /// An empty pacer.
    pub fn new(rate: Bitrate) -> Self {
        Self {
            queues: [VecDeque::new(), VecDeque::new(), VecDeque::new()],
            waiting_bytes: 0,
            rate,
            paid_at: None,
            refused: 0,
        }
    }

    /// Sets the rate at which packets leave: see [`crate::congestion::SendEstimator::pace`].
    pub fn set_rate(&mut self, rate: Bitrate) {
        self.rate = rate;
    }

    /// Bytes that wait.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    /// Packets that found no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// How long what waits needs at the pacer's rate.
    pub fn delay(&self) -> Duration {
        Duration::from_secs_f64(8.0 * self.waiting_bytes as f64 / self.rate.0.max(1) as f64)
    }

    /// True if a packet of a size on the wire may leave at once, which then counts as sent: most do, and need no queue.
    /// If not, [`Self::push`] it.
    #[inline]
    pub fn pass(&mut self, now: Instant, class: PacketClass, size_bytes: usize) -> bool {
        let passes = class == PacketClass::Audio || self.waiting_bytes == 0 && self.may_leave(now);
        if passes {
            self.pay(now, size_bytes, self.current_rate());
        }
        passes
    }

    /// Adds a packet of a size on the wire; gives it back if there is no room.
    pub fn push(&mut self, class: PacketClass, size_bytes: usize, item: T) -> Result<(), T> {
        let queue = &mut self.queues[class as usize];
        if queue.len() >= PACKETS_MAX {
            self.refused += 1;
            return Err(item);
        }
        queue.push_back(Waiting { size_bytes, item });
        self.waiting_bytes += size_bytes;
        Ok(())
    }

    /// The next packet that may leave. Call until it is `None`.
    pub fn poll(&mut self, now: Instant) -> Option<T> {
        let may_leave = self.may_leave(now);
        let class = (0..CLASSES).find(|class| !self.queues[*class].is_empty())?;
        if class != PacketClass::Audio as usize && !may_leave {
            return None;
        }
        let next = self.queues[class].pop_front()?;
        let rate = self.current_rate();
        self.waiting_bytes -= next.size_bytes;
        self.pay(now, next.size_bytes, rate);
        Some(next.item)
    }

    /// Counts a packet that did not go through here, such as padding.
    pub fn handle_sent(&mut self, now: Instant, size_bytes: usize) {
        self.pay(now, size_bytes, self.current_rate());
    }

    /// When [`Self::poll`] has something.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        self.paid_at
            .and_then(|at| at.checked_sub(BURST))
            .or(self.paid_at)
    }

    fn may_leave(&self, now: Instant) -> bool {
        self.paid_at.is_none_or(|at| at <= now + BURST)
    }

    fn current_rate(&self) -> f64 {
        let drain = 8.0 * self.waiting_bytes as f64 / WAIT_MAX.as_secs_f64();
        (self.rate.0 as f64).max(drain).max(1.0)
    }

    fn pay(&mut self, now: Instant, size_bytes: usize, rate: f64) {
        let cost = Duration::from_secs_f64((8.0 * size_bytes as f64 / rate).min(1.0));
        let from = self.paid_at.map_or(now, |at| at.max(now));
        self.paid_at = Some(from + cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When packets leave, ms.
    fn leave(pacer: &mut Pacer<u32>, start: Instant) -> Vec<(u64, u32)> {
        let mut now = start;
        let mut left = Vec::new();
        loop {
            while let Some(item) = pacer.poll(now) {
                left.push(((now - start).as_millis() as u64, item));
            }
            match pacer.poll_timeout() {
                Some(at) => now = at.max(now),
                None => return left,
            }
        }
    }

    #[test]
    fn burst_is_spread_and_audio_passes_by() {
        let mut pacer = Pacer::new(Bitrate::from_kbps(1_500));
        let start = Instant::now();
        for item in 0..10 {
            pacer.push(PacketClass::Video, 1_250, item).unwrap();
        }
        pacer.push(PacketClass::Audio, 100, 100).unwrap();
        pacer.push(PacketClass::Retransmission, 1_250, 50).unwrap();
        let left = leave(&mut pacer, start);
        let items: Vec<_> = left.iter().map(|(_, item)| *item).collect();
        assert_eq!(items, [100, 50, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        // Eleven packets of 6.7 ms each at 1.5 Mbit/s, of which two leave at once.
        let (last, _) = left[11];
        assert!((55..75).contains(&last), "{left:?}");
        assert!(pacer.is_empty());
        assert_eq!(pacer.waiting_bytes(), 0);
    }

    #[test]
    fn nothing_waits_much_longer_than_the_limit() {
        let mut pacer = Pacer::new(Bitrate::from_kbps(100));
        let start = Instant::now();
        for item in 0..300 {
            pacer.push(PacketClass::Video, 1_250, item).unwrap();
        }
        let half = leave(&mut pacer, start)[149].0;
        assert!(half < 250, "{half} ms for the first half");
    }

    #[test]
    fn what_need_not_wait_passes() {
        let mut pacer = Pacer::new(Bitrate::from_kbps(1_500));
        let now = Instant::now();
        let mut passed = 0;
        while pacer.pass(now, PacketClass::Video, 1_250) {
            passed += 1;
        }
        assert_eq!(passed, 1);
        assert!(pacer.pass(now, PacketClass::Audio, 100));
        pacer.push(PacketClass::Video, 1_250, 1).unwrap();
        let later = now + Duration::from_secs(1);
        assert!(!pacer.pass(later, PacketClass::Video, 1_250));
        assert_eq!(pacer.poll(later), Some(1));
        assert!(!pacer.pass(later, PacketClass::Video, 1_250));
        let paid = later + Duration::from_millis(2);
        assert!(pacer.pass(paid, PacketClass::Video, 1_250));
    }

    #[test]
    fn queue_is_bounded() {
        let mut pacer = Pacer::new(Bitrate::from_kbps(100));
        for item in 0..PACKETS_MAX {
            pacer.push(PacketClass::Video, 100, item).unwrap();
        }
        assert_eq!(pacer.push(PacketClass::Video, 100, 7), Err(7));
        assert_eq!(pacer.refused(), 1);
        assert!(pacer.push(PacketClass::Audio, 100, 8).is_ok());
    }

    #[test]
    fn higher_rate_lets_packets_leave_faster() {
        let start = Instant::now();
        let mut pacer = Pacer::new(Bitrate::from_kbps(300));
        let time = |pacer: &mut Pacer<u32>| {
            for item in 0..8 {
                pacer.push(PacketClass::Video, 1_250, item).unwrap();
            }
            leave(pacer, start + Duration::from_secs(1))[7].0
        };
        let slow = time(&mut pacer);
        let mut pacer = Pacer::new(Bitrate::from_kbps(300));
        pacer.set_rate(Bitrate::from_kbps(2_000));
        let fast = time(&mut pacer);
        assert!(fast < slow / 2, "{fast} {slow}");
    }
}
