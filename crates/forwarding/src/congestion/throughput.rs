//! What arrives at the receiver: [`Throughput`], and what is lost on the way: [`LossMeter`].

use std::collections::VecDeque;

use crate::rate::Bitrate;

/// Time over which the arriving rate is measured, µs. Too low → bursts of an encoder look like rates; too high → a drop
/// of the capacity shows late.
const WINDOW_MICROS: i64 = 300_000;
/// Where fewer packets than this came, those of a longer time count.
const PACKETS_MIN: usize = 10;
const WINDOW_MICROS_MAX: i64 = 1_200_000;
/// Delay of packets that waited in front of the bottleneck, µs. Too low → gaps of the sender's count as capacity; too
/// high → what is known of a short queue is not used.
const WAITED_MICROS: i64 = 4_000;
/// Packets in a row that waited, and the time they took, µs, which say what the bottleneck carries.
const WAITED_PACKETS_MIN: usize = 6;
const WAITED_MICROS_MIN: i64 = 30_000;

/// Bounds the memory where packets are small.
const PACKETS_MAX: usize = 1_024;

/// Rate of arrivals, by the receiver's clock brought to ours.
#[derive(Clone, Debug, Default)]
pub(super) struct Throughput {
    /// In order of time.
    arrivals: VecDeque<Arrival>,
    /// Of all of them.
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Arrival {
    at: i64,
    bytes: u32,
    waited: bool,
}

impl Throughput {
    /// Takes in a packet with the time of its arrival and its delay above the least, µs. After a few of them comes
    /// [`Self::forget_old`].
    #[inline]
    pub(super) fn handle_arrival(&mut self, micros: i64, delay: i64, bytes: u32) {
        let arrivals = &mut self.arrivals;
        let arrival = Arrival {
            at: micros,
            bytes,
            waited: delay >= WAITED_MICROS,
        };
        if arrivals.back().is_none_or(|last| last.at <= micros) {
            arrivals.push_back(arrival);
        } else {
            let place = arrivals.iter().rposition(|arrival| arrival.at <= micros);
            arrivals.insert(place.map_or(0, |place| place + 1), arrival);
        }
        self.bytes += u64::from(bytes);
    }

    /// Forgets what is too old or too much.
    pub(super) fn forget_old(&mut self) {
        let Some(newest) = self.arrivals.back().map(|arrival| arrival.at) else {
            return;
        };
        while let Some(oldest) = self.arrivals.front() {
            let (count, age) = (self.arrivals.len(), newest - oldest.at);
            let is_kept = count <= PACKETS_MIN || age <= WINDOW_MICROS && count <= PACKETS_MAX;
            if is_kept && (count <= 2 || age <= WINDOW_MICROS_MAX) {
                break;
            }
            self.bytes -= u64::from(oldest.bytes);
            self.arrivals.pop_front();
        }
    }

    /// `None` until enough has arrived.
    pub(super) fn rate(&self) -> Option<Bitrate> {
        let (first, count) = (self.arrivals.front()?, self.arrivals.len());
        let span = self.span(count);
        // The first was on its way before.
        let bytes = self.bytes - u64::from(first.bytes);
        (count >= 4 && span >= WINDOW_MICROS / 6).then(|| rate_of(bytes, span))
    }

    /// As [`Self::rate`], of a whole window: a shorter one measures a burst.
    pub(super) fn sustained_rate(&self) -> Option<Bitrate> {
        let span = self.span(self.arrivals.len());
        self.rate().filter(|_| span >= WINDOW_MICROS * 9 / 10)
    }

    /// Rate of the bottleneck, by the last packets that waited in front of it: what arrives otherwise is what was sent.
    pub(super) fn bottleneck_rate(&self) -> Option<Bitrate> {
        let waited = self
            .arrivals
            .iter()
            .rev()
            .take_while(|arrival| arrival.waited);
        let count = waited.count();
        let span = self.span(count);
        if count < WAITED_PACKETS_MIN || span < WAITED_MICROS_MIN {
            return self.rate();
        }
        let bytes = self.arrivals.iter().rev().take(count - 1);
        let bytes = bytes.map(|arrival| u64::from(arrival.bytes)).sum();
        Some(rate_of(bytes, span))
    }

    /// Time from the first to the last of so many packets, µs.
    fn span(&self, count: usize) -> i64 {
        let first = self.arrivals.len().checked_sub(count);
        let first = first.and_then(|first| self.arrivals.get(first));
        let (first, last) = (first.map(|it| it.at), self.arrivals.back().map(|it| it.at));
        first.zip(last).map_or(0, |(first, last)| last - first)
    }

    pub(super) fn forget(&mut self) {
        self.arrivals.clear();
        self.bytes = 0;
    }
}

/// Of so many bytes in a time that is not 0.
fn rate_of(bytes: u64, span_micros: i64) -> Bitrate {
    Bitrate(8 * bytes * 1_000_000 / span_micros as u64)
}

/// Time over which loss is measured, µs. Too low → a single burst is a trend; too high → congestion lasts.
const LOSS_WINDOW_MICROS: i64 = 1_000_000;
const LOSS_REPORTS_MAX: usize = 64;
/// Fewer packets say nothing.
const LOSS_PACKETS_MIN: u32 = 20;

/// Reports of which the one with the least loss counts. Too low → packets that are late, and called lost until they
/// come, look like loss; too high → loss is noticed late.
const LOSS_SHARES: usize = 4;

/// Share of packets lost over the last second.
#[derive(Clone, Debug, Default)]
pub(super) struct LossMeter {
    /// Time, lost, arrived. Packets that arrived after they were called lost are taken off.
    reports: VecDeque<(i64, i64, u32)>,
    /// After each of the last reports.
    shares: [f64; LOSS_SHARES],
}

impl LossMeter {
    pub(super) fn handle_report(&mut self, now_micros: i64, lost: i64, arrived: u32) {
        self.reports.push_back((now_micros, lost, arrived));
        while self.reports.len() > LOSS_REPORTS_MAX
            || now_micros - self.reports[0].0 > LOSS_WINDOW_MICROS
        {
            self.reports.pop_front();
        }
        let lost: i64 = self.reports.iter().map(|(_, lost, _)| lost).sum();
        let arrived: u32 = self.reports.iter().map(|(_, _, arrived)| arrived).sum();
        let lost = u32::try_from(lost).unwrap_or(0);
        self.shares.rotate_left(1);
        self.shares[LOSS_SHARES - 1] = match lost + arrived {
            0..LOSS_PACKETS_MIN => self.shares[LOSS_SHARES - 2],
            all => f64::from(lost) / f64::from(all),
        };
    }

    /// Forgets what was reported: the loss is this until more is known.
    pub(super) fn restart(&mut self, share: f64) {
        self.reports.clear();
        self.shares = [share; LOSS_SHARES];
    }

    /// 0 to 1; 0 if too little is known.
    pub(super) fn share(&self) -> f64 {
        self.shares.into_iter().fold(1.0, f64::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bottleneck_is_measured_by_what_waited() {
        let mut throughput = Throughput::default();
        // A packet each 10 ms, then a key frame that a bottleneck lets through at a packet per ms.
        for packet in 0..30 {
            throughput.handle_arrival(10_000 * packet, 0, 1_000);
            throughput.forget_old();
        }
        assert_eq!(throughput.bottleneck_rate(), throughput.rate());
        for packet in 0..40 {
            throughput.handle_arrival(300_000 + 1_000 * packet, 10_000, 1_000);
        }
        throughput.forget_old();
        let Bitrate(rate) = throughput.rate().unwrap();
        assert!(rate < 2_500_000, "{rate}");
        assert_eq!(throughput.bottleneck_rate(), Some(Bitrate(8_000_000)));
    }
}
