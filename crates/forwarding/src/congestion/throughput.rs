//! What arrives at the receiver: [`Throughput`], and what is lost on the way: [`LossMeter`].

use std::collections::VecDeque;

use crate::rate::Bitrate;

/// Time over which the arriving rate is measured, µs. Too low → bursts of an encoder look like rates; too high → a drop
/// of the capacity shows late.
const WINDOW_MICROS: i64 = 300_000;
/// Where fewer packets than this came, those of a longer time count.
const PACKETS_MIN: usize = 10;
const WINDOW_MICROS_MAX: i64 = 1_200_000;
/// Bounds the memory where packets are small.
const PACKETS_MAX: usize = 1_024;

/// Rate of arrivals, by the receiver's clock brought to ours.
#[derive(Clone, Debug, Default)]
pub(super) struct Throughput {
    /// Time and bytes, in order of time.
    arrivals: VecDeque<(i64, u32)>,
}

impl Throughput {
    pub(super) fn handle_arrival(&mut self, micros: i64, size_bytes: u32) {
        let place = self.arrivals.iter().rposition(|(at, _)| *at <= micros);
        self.arrivals
            .insert(place.map_or(0, |place| place + 1), (micros, size_bytes));
        let newest = self.arrivals.back().map_or(micros, |(at, _)| *at);
        while self.arrivals.len() > PACKETS_MAX
            || (self.arrivals.len() > PACKETS_MIN && newest - self.arrivals[0].0 > WINDOW_MICROS)
            || (self.arrivals.len() > 2 && newest - self.arrivals[0].0 > WINDOW_MICROS_MAX)
        {
            self.arrivals.pop_front();
        }
    }

    /// `None` until enough has arrived.
    pub(super) fn rate(&self) -> Option<Bitrate> {
        let ((first, first_bytes), (last, _)) = (self.arrivals.front()?, self.arrivals.back()?);
        let span = last - first;
        if self.arrivals.len() < 4 || span < WINDOW_MICROS / 6 {
            return None;
        }
        let bytes: u64 = self
            .arrivals
            .iter()
            .map(|(_, bytes)| u64::from(*bytes))
            .sum();
        let bits = 8 * (bytes - u64::from(*first_bytes));
        Some(Bitrate(bits * 1_000_000 / span as u64))
    }

    pub(super) fn forget(&mut self) {
        self.arrivals.clear();
    }
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
            0..LOSS_PACKETS_MIN => 0.0,
            all => f64::from(lost) / f64::from(all),
        };
    }

    /// 0 to 1; 0 if too little is known.
    pub(super) fn share(&self) -> f64 {
        self.shares.into_iter().fold(1.0, f64::min)
    }
}
