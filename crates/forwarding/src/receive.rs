//! One incoming stream: what arrived, what is missing, what to report. Read [`ReceiveStream`] first.
//!
//! Statistics follow RFC 3550, appendix A. Bytes are kept elsewhere ([`crate::history`]).

mod nack;

use std::time::{Duration, Instant};

use nack::MissingPackets;

use crate::rate::{Bitrate, RateMeter};
use crate::rtcp::{ReportBlock, SenderInfo};
use crate::rtp::{ClockRate, ExtendedSeq, NtpTime, RtpTime, Seq, Ssrc, Unroller};
use crate::send::ReferencePoint;

/// Numbers behind the highest that are still accepted, a multiple of 64. Too low → retransmissions over long paths
/// come too late; too high → one bit each, and old packets are forwarded that nobody can play.
const WINDOW_LEN: u64 = 1024;

/// Steps forward that are taken for loss (MAX_DROPOUT of RFC 3550, appendix A.1). More than that must be confirmed
/// by a second packet in sequence.
const DROPOUT_MAX: u16 = 3_000;

/// What a packet is to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Not seen before, in order or late.
    New(ExtendedSeq),
    /// Seen before: drop it.
    Duplicate,
    /// Too far from the highest number, in either direction: drop it.
    TooOld,
}

/// What [`ReceiveStream`] needs to know of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveConfig {
    /// The source.
    pub ssrc: Ssrc,
    /// Clock of its timestamps.
    pub clock_rate: ClockRate,
    /// Generic NACK is negotiated.
    pub nack: bool,
}

/// Counters of one incoming stream, for the application's statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReceiveStats {
    /// Packets received, retransmissions not included.
    pub packets: u64,
    /// Bytes of those packets as given to [`ReceiveStream::handle_packet`].
    pub bytes: u64,
    /// Packets lost on the way (negative with duplicates), whether or not repaired since.
    pub lost: i64,
    /// Packets that came by retransmission.
    pub recovered: u64,
    /// Packets received twice.
    pub duplicates: u64,
    /// Fraction lost in the last report, in 1/256.
    pub fraction_lost: u8,
    /// Interarrival jitter.
    pub jitter: Duration,
    /// Packets asked for again, repetitions included.
    pub nacks: u64,
}

/// Receiver's state of one source (one SSRC).
#[derive(Clone, Debug)]
pub struct ReceiveStream {
    config: ReceiveConfig,
    unroller: Unroller,
    window: Window,
    missing: MissingPackets,
    /// The number that would confirm a restarted numbering.
    restart_seq: Option<Seq>,
    key_frame_wanted: bool,

    /// First number of the stream, by which loss is counted.
    base_seq: u64,
    /// Numbers below are not accepted: they were used before the source restarted.
    floor_seq: u64,
    received: u64,
    prior: Prior,
    jitter: Jitter,
    rate: RateMeter,
    stats: ReceiveStats,
    sender_report: Option<(SenderInfo, Instant)>,
}

/// Counts at the previous report (RFC 3550, appendix A.3).
#[derive(Clone, Copy, Debug, Default)]
struct Prior {
    expected: u64,
    received: u64,
}

impl ReceiveStream {
    /// A stream of which nothing was received.
    pub fn new(config: ReceiveConfig) -> Self {
        Self {
            config,
            unroller: Unroller::default(),
            window: Window::default(),
            missing: MissingPackets::default(),
            restart_seq: None,
            key_frame_wanted: false,
            base_seq: 0,
            floor_seq: 0,
            received: 0,
            prior: Prior::default(),
            jitter: Jitter::default(),
            rate: RateMeter::default(),
            stats: ReceiveStats::default(),
            sender_report: None,
        }
    }

    /// The source.
    pub fn ssrc(&self) -> Ssrc {
        self.config.ssrc
    }

    /// Counts time by another clock from here on, as when the source changes its codec (RFC 7160). What was
    /// measured by the former clock is forgotten.
    pub fn set_clock_rate(&mut self, clock_rate: ClockRate) {
        if clock_rate != self.config.clock_rate {
            self.config.clock_rate = clock_rate;
            self.jitter = Jitter::default();
            self.sender_report = None;
        }
    }

    /// The highest number received.
    pub fn highest_seq(&self) -> Option<ExtendedSeq> {
        self.unroller.highest()
    }

    /// Takes note of a packet. `size_bytes` is what statistics shall count.
    #[inline]
    pub fn handle_packet(
        &mut self,
        now: Instant,
        seq: Seq,
        timestamp: RtpTime,
        size_bytes: usize,
    ) -> Arrival {
        let arrival = self.place(now, seq);
        match arrival {
            Arrival::New(_) => {
                self.received += 1;
                self.stats.packets += 1;
                self.stats.bytes += size_bytes as u64;
                self.rate.add(now, size_bytes);
                self.jitter.update(now, timestamp, self.config.clock_rate);
            }
            Arrival::Duplicate => {
                self.received += 1;
                self.stats.duplicates += 1;
            }
            Arrival::TooOld => {}
        }
        arrival
    }

    /// Takes note of a packet that came by retransmission, under its original number (RFC 4588). It repairs, but
    /// does not count as received: reports show what the path loses.
    pub fn handle_retransmission(&mut self, now: Instant, seq: Seq, size_bytes: usize) -> Arrival {
        // A number the stream itself has not reached must not move it.
        let known = self
            .unroller
            .highest()
            .is_some_and(|highest| !seq.is_after(highest.seq()));
        if !known {
            return Arrival::TooOld;
        }
        let arrival = self.place(now, seq);
        if matches!(arrival, Arrival::New(_)) {
            self.stats.recovered += 1;
            self.rate.add(now, size_bytes);
        }
        arrival
    }

    /// Takes note of the source's sender report.
    pub fn handle_sender_report(&mut self, now: Instant, info: &SenderInfo) {
        self.sender_report = Some((*info, now));
    }

    /// The source's last sender report: which RTP time was which wall-clock time, by the publisher's clock.
    pub fn reference_point(&self) -> Option<ReferencePoint> {
        self.sender_report.map(|(info, _)| ReferencePoint {
            ntp: info.ntp,
            timestamp: info.timestamp,
        })
    }

    /// The report to send, covering the time since the previous call; `None` before the first packet.
    pub fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        let highest = self.unroller.highest()?;
        let expected = self.expected(highest);
        let interval = expected.saturating_sub(self.prior.expected);
        let interval_received = self.received - self.prior.received;
        self.prior = Prior {
            expected,
            received: self.received,
        };
        let lost = interval.saturating_sub(interval_received);
        self.stats.fraction_lost = (lost * 256).checked_div(interval).unwrap_or(0).min(255) as u8;
        let (last_sender_report, delay) = match &self.sender_report {
            Some((info, at)) => (
                info.ntp.middle(),
                short_ntp(now.saturating_duration_since(*at)),
            ),
            None => (0, 0),
        };
        Some(ReportBlock {
            ssrc: self.config.ssrc,
            fraction_lost: self.stats.fraction_lost,
            cumulative_lost: (expected as i64 - self.received as i64).clamp(-0x80_0000, 0x7f_ffff)
                as i32,
            highest_seq: highest.0 as u32,
            jitter: self.jitter.ticks(),
            last_sender_report,
            delay_since_last_sender_report: delay,
        })
    }

    /// Appends the numbers to ask for again, in ascending order. `rtt` is the round trip to the publisher, if known.
    pub fn poll_nacks(&mut self, now: Instant, rtt: Option<Duration>, out: &mut Vec<Seq>) {
        let before = out.len();
        if self.missing.poll(now, rtt, out) {
            self.key_frame_wanted = true;
        }
        self.stats.nacks += (out.len() - before) as u64;
    }

    /// When [`Self::poll_nacks`] has something to say.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.missing.poll_timeout()
    }

    /// True once after a loss that is not going to be repaired, or a restart of the source: receivers of video
    /// need a key frame.
    pub fn poll_key_frame_request(&mut self) -> bool {
        std::mem::take(&mut self.key_frame_wanted)
    }

    /// Received bits per second over the last second.
    pub fn bitrate(&mut self, now: Instant) -> Bitrate {
        self.rate.rate(now)
    }

    /// The counters.
    pub fn stats(&self) -> ReceiveStats {
        let expected = self
            .unroller
            .highest()
            .map_or(0, |highest| self.expected(highest));
        ReceiveStats {
            lost: expected as i64 - self.received as i64,
            jitter: self.config.clock_rate.duration(self.jitter.ticks()),
            ..self.stats
        }
    }

    fn expected(&self, highest: ExtendedSeq) -> u64 {
        highest.0 + 1 - self.base_seq
    }

    /// Finds the packet's place in the stream and marks it as received.
    #[inline]
    fn place(&mut self, now: Instant, seq: Seq) -> Arrival {
        let Some(highest) = self.unroller.highest() else {
            let extended = self.unroller.unroll_forward(seq);
            self.base_seq = extended.0;
            self.window.restart(extended.0);
            return Arrival::New(extended);
        };
        let ahead = seq.steps_from(highest.seq());
        if (1..DROPOUT_MAX).contains(&ahead) {
            self.restart_seq = None;
            return self.advance(now, highest, u64::from(ahead));
        }
        let behind = highest.seq().steps_from(seq);
        if u64::from(behind) < WINDOW_LEN {
            return self.fill(now, highest, u64::from(behind));
        }
        self.confirm_restart(seq)
    }

    #[inline]
    fn advance(&mut self, now: Instant, highest: ExtendedSeq, ahead: u64) -> Arrival {
        let extended = ExtendedSeq(highest.0 + ahead);
        self.unroller.unroll(extended.seq());
        self.window.advance(highest.0, extended.0);
        if ahead > 1 && self.config.nack && !self.missing.add(now, highest.0 + 1..extended.0) {
            self.key_frame_wanted = true;
        }
        Arrival::New(extended)
    }

    fn fill(&mut self, now: Instant, highest: ExtendedSeq, behind: u64) -> Arrival {
        let Some(extended) = highest
            .0
            .checked_sub(behind)
            .filter(|seq| *seq >= self.floor_seq)
        else {
            return Arrival::TooOld;
        };
        if !self.window.mark(extended) {
            return Arrival::Duplicate;
        }
        if extended < self.base_seq {
            // The stream's first packets have overtaken each other.
            let between = extended + 1..std::mem::replace(&mut self.base_seq, extended);
            if !between.is_empty() && self.config.nack && !self.missing.add_below(now, between) {
                self.key_frame_wanted = true;
            }
            return Arrival::New(ExtendedSeq(extended));
        }
        self.missing.remove(extended);
        Arrival::New(ExtendedSeq(extended))
    }

    /// A number from elsewhere: the stream restarts there if the next packet follows it (RFC 3550, appendix A.1).
    #[cold]
    fn confirm_restart(&mut self, seq: Seq) -> Arrival {
        if self.restart_seq != Some(seq) {
            self.restart_seq = Some(seq.wrapping_add(1));
            return Arrival::TooOld;
        }
        self.restart_seq = None;
        self.floor_seq = self.unroller.highest().map_or(0, |highest| highest.0 + 1);
        let extended = self.unroller.unroll_forward(seq);
        self.base_seq = extended.0;
        self.received = 0;
        self.prior = Prior::default();
        self.jitter = Jitter::default();
        self.window.restart(extended.0);
        self.missing.clear();
        self.key_frame_wanted = true;
        Arrival::New(extended)
    }
}

fn short_ntp(duration: Duration) -> u32 {
    NtpTime(0).wrapping_add(duration).middle()
}

/// Which of the last [`WINDOW_LEN`] numbers were received: bit `n % WINDOW_LEN` for number `n`.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    bits: [u64; (WINDOW_LEN / 64) as usize],
}

impl Window {
    fn restart(&mut self, seq: u64) {
        *self = Self::default();
        self.mark(seq);
    }

    /// Makes room for the numbers up to `to` and marks `to`.
    #[inline]
    fn advance(&mut self, from: u64, to: u64) {
        if to - from >= WINDOW_LEN {
            self.bits = [0; (WINDOW_LEN / 64) as usize];
        } else {
            for seq in from + 1..to {
                *self.word(seq) &= !Self::bit(seq);
            }
        }
        *self.word(to) |= Self::bit(to);
    }

    /// Marks a number inside the window; false if it was marked.
    fn mark(&mut self, seq: u64) -> bool {
        let (word, bit) = (self.word(seq), Self::bit(seq));
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }

    fn word(&mut self, seq: u64) -> &mut u64 {
        &mut self.bits[(seq % WINDOW_LEN / 64) as usize]
    }

    fn bit(seq: u64) -> u64 {
        1 << (seq % 64)
    }
}

/// Interarrival jitter (RFC 3550, appendix A.8), scaled by 16.
#[derive(Clone, Copy, Debug, Default)]
struct Jitter {
    last: Option<(Instant, RtpTime)>,
    scaled: u64,
}

/// A difference in transit beyond this is a jump of a clock, not jitter. Too low → real congestion is hidden; too
/// high → one jump dominates the report for minutes.
const JITTER_STEP_MAX: Duration = Duration::from_secs(5);

impl Jitter {
    #[inline]
    fn update(&mut self, now: Instant, timestamp: RtpTime, clock_rate: ClockRate) {
        if let Some((last_at, last_timestamp)) = self.last {
            // Packets of one frame have the same timestamp by intention; their spread is not jitter.
            if timestamp == last_timestamp {
                return;
            }
            let arrived = clock_rate.ticks(now.saturating_duration_since(last_at));
            let sent = timestamp.ticks_from(last_timestamp);
            let difference = u64::from((arrived.wrapping_sub(sent) as i32).unsigned_abs());
            if difference <= u64::from(clock_rate.ticks(JITTER_STEP_MAX)) {
                self.scaled = self.scaled + difference - (self.scaled + 8) / 16;
            }
        }
        self.last = Some((now, timestamp));
    }

    fn ticks(&self) -> u32 {
        (self.scaled / 16) as u32
    }
}

#[cfg(test)]
mod tests;
