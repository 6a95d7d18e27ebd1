//! One outgoing stream: counters, sender reports, what the receiver reports, and how much may be sent again.
//!
//! Read [`SendStream`] first. Numbers of packets come from [`crate::rewriter`], not from here.

mod retransmission;

use std::time::{Duration, Instant};

use retransmission::RetransmissionBudget;

use crate::rate::{Bitrate, RateMeter};
use crate::rtcp::{ReportBlock, SenderInfo};
use crate::rtp::{ClockRate, ExtendedSeq, NtpTime, RtpTime, Seq, Ssrc};

/// Sender reports remembered to recognise the receiver's answer. Too low → slow paths give no round trip; more than a
/// few are never outstanding.
const REPORTS_REMEMBERED: usize = 4;

/// Longest round trip believed. Receivers that hold reports back or lie must not stretch our timers.
const RTT_MAX: Duration = Duration::from_secs(10);

/// An RTP timestamp and the wall-clock time at which it was sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReferencePoint {
    /// The wall-clock time.
    pub ntp: NtpTime,
    /// The RTP time.
    pub timestamp: RtpTime,
}

impl ReferencePoint {
    /// The RTP time at another wall-clock time, before or after.
    pub fn timestamp_at(&self, ntp: NtpTime, clock_rate: ClockRate) -> RtpTime {
        self.timestamp
            .wrapping_add(clock_rate.ticks_of_ntp(ntp.units_from(self.ntp)))
    }

    /// The same point on a subscriber's timeline ([`crate::rewriter::Rewriter::timestamp_offset`]).
    #[must_use]
    pub fn shifted(&self, timestamp_offset: u32) -> Self {
        Self {
            timestamp: self.timestamp.wrapping_add(timestamp_offset),
            ..*self
        }
    }
}

/// Timestamp offset that makes `new` continue `old` without a step, given that both are sampled from one wall clock,
/// as the layers of one camera are. For [`crate::rewriter::Rewriter::align`].
pub fn aligned_offset(
    old_offset: u32,
    old: &ReferencePoint,
    new: &ReferencePoint,
    clock_rate: ClockRate,
) -> u32 {
    let old_timestamp = old
        .timestamp_at(new.ntp, clock_rate)
        .wrapping_add(old_offset);
    old_timestamp.ticks_from(new.timestamp)
}

/// Translates a publisher's wall clock into ours. One for all streams of a publisher, so that its audio and video
/// keep their relation whatever the delay of single reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublisherClock {
    /// Ours minus theirs, 2^-32 s.
    offset: Option<i64>,
}

/// How far the offset may creep up per report, 2^-32 s: 100 µs. Too low → a publisher's clock that runs slow is not
/// followed (crystals differ by up to 0.1 ms per s); too high → the delay of single reports moves lip sync.
const CLOCK_CREEP: i64 = (1 << 32) / 10_000;

/// A change of the offset beyond this, 2^-32 s (1 s), is a clock that was set.
const CLOCK_STEP: i64 = 1 << 32;

impl PublisherClock {
    /// Takes note of a sender report: its time, and our time at its arrival. Delay can only make the difference
    /// larger, so the smallest is followed at once and larger ones slowly.
    pub fn handle_sender_report(&mut self, local: NtpTime, remote: NtpTime) {
        let measured = local.units_from(remote);
        self.offset = Some(match self.offset {
            Some(offset) if measured.wrapping_sub(offset).unsigned_abs() < CLOCK_STEP as u64 => {
                measured.min(offset.saturating_add(CLOCK_CREEP))
            }
            _ => measured,
        });
    }

    /// The publisher's reference point by our clock; `None` before the first report.
    pub fn to_local(&self, point: &ReferencePoint) -> Option<ReferencePoint> {
        let offset = self.offset?;
        Some(ReferencePoint {
            ntp: NtpTime(point.ntp.0.wrapping_add(offset as u64)),
            ..*point
        })
    }
}

/// What [`SendStream`] needs to know of an outgoing stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendConfig {
    /// Our SSRC.
    pub ssrc: Ssrc,
    /// Clock of the timestamps.
    pub clock_rate: ClockRate,
    /// First number of the retransmission stream (RFC 4588), random below 2^15.
    pub rtx_first_seq: Seq,
}

/// Counters of one outgoing stream, for the application's statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SendStats {
    /// Packets sent, retransmissions not included.
    pub packets: u64,
    /// Payload bytes of those packets.
    pub bytes: u64,
    /// Packets sent again.
    pub retransmitted_packets: u64,
    /// Payload bytes of those.
    pub retransmitted_bytes: u64,
    /// Sequence numbers the receiver asked for.
    pub nacked: u64,
    /// Fraction lost by the receiver's last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost by the receiver's count.
    pub lost: i32,
    /// Jitter seen by the receiver.
    pub jitter: Duration,
    /// Round trip, once known.
    pub rtt: Option<Duration>,
}

/// Sender's state of one outgoing stream (one SSRC and its retransmission SSRC).
#[derive(Clone, Debug)]
pub struct SendStream {
    config: SendConfig,
    rtx_next: ExtendedSeq,
    last_sent: Option<(Instant, RtpTime)>,
    /// Middle NTP bits and time of recent sender reports, newest last.
    reports: [Option<(u32, Instant)>; REPORTS_REMEMBERED],
    budget: RetransmissionBudget,
    rate: RateMeter,
    stats: SendStats,
}

impl SendStream {
    /// A stream that has sent nothing.
    pub fn new(config: SendConfig) -> Self {
        Self {
            config,
            rtx_next: ExtendedSeq(u64::from(config.rtx_first_seq.0)),
            last_sent: None,
            reports: [None; REPORTS_REMEMBERED],
            budget: RetransmissionBudget::default(),
            rate: RateMeter::default(),
            stats: SendStats::default(),
        }
    }

    /// Our SSRC.
    pub fn ssrc(&self) -> Ssrc {
        self.config.ssrc
    }

    /// Counts time by another clock from here on: that of the codec which is sent.
    pub fn set_clock_rate(&mut self, clock_rate: ClockRate) {
        self.config.clock_rate = clock_rate;
    }

    /// Takes note of packets sent for the first time, together, and the timestamp of the last.
    #[inline]
    pub fn handle_sent(
        &mut self,
        now: Instant,
        timestamp: RtpTime,
        packets: u64,
        payload_bytes: usize,
    ) {
        self.stats.packets += packets;
        self.stats.bytes += payload_bytes as u64;
        self.last_sent = Some((now, timestamp));
        self.rate.add(now, payload_bytes);
        self.budget.handle_sent(now, payload_bytes);
    }

    /// The sender report for `now`, which is `ntp` by our wall clock; `None` before the first packet.
    ///
    /// `reference` is the source's reference point by our wall clock and on this stream's timeline:
    /// [`crate::receive::ReceiveStream::reference_point`], [`PublisherClock::to_local`],
    /// [`ReferencePoint::shifted`]. Without it the time of the last packet is extrapolated, and audio and video of a
    /// publisher may differ by their delays.
    pub fn sender_report(
        &mut self,
        now: Instant,
        ntp: NtpTime,
        reference: Option<&ReferencePoint>,
    ) -> Option<SenderInfo> {
        let (sent_at, last_timestamp) = self.last_sent?;
        let timestamp = match reference {
            Some(reference) => reference.timestamp_at(ntp, self.config.clock_rate),
            None => last_timestamp.wrapping_add(
                self.config
                    .clock_rate
                    .ticks(now.saturating_duration_since(sent_at)),
            ),
        };
        self.reports.rotate_left(1);
        self.reports[REPORTS_REMEMBERED - 1] = Some((ntp.middle(), now));
        Some(SenderInfo {
            ntp,
            timestamp,
            packets: self.stats.packets as u32,
            octets: self.stats.bytes as u32,
        })
    }

    /// Takes note of what the receiver reports about this stream.
    pub fn handle_report(&mut self, now: Instant, block: &ReportBlock) {
        self.stats.fraction_lost = block.fraction_lost;
        self.stats.lost = block.cumulative_lost;
        self.stats.jitter = self.config.clock_rate.duration(block.jitter);
        let answered = self
            .reports
            .iter()
            .flatten()
            .find(|(middle, _)| *middle == block.last_sender_report);
        let Some((_, sent_at)) = answered else {
            return;
        };
        let held = Duration::from_nanos(
            (u64::from(block.delay_since_last_sender_report) * 1_000_000_000) >> 16,
        );
        let elapsed = now.saturating_duration_since(*sent_at);
        if let Some(rtt) = elapsed.checked_sub(held) {
            self.stats.rtt = Some(rtt.min(RTT_MAX));
        }
    }

    /// Round trip to the receiver, once known.
    pub fn rtt(&self) -> Option<Duration> {
        self.stats.rtt
    }

    /// How often a packet the receiver asked for may be sent again, of so many times: not again within a round trip, and
    /// not more than the budget. Counts it as sent.
    pub fn retransmit(
        &mut self,
        now: Instant,
        seq: Seq,
        payload_bytes: usize,
        copies: usize,
    ) -> usize {
        self.stats.nacked += 1;
        let rtt = self.stats.rtt;
        let mut fitting = (1..=copies).rev();
        let granted = fitting.find(|it| self.budget.grant(now, rtt, seq, it * payload_bytes));
        let granted = granted.unwrap_or_default();
        self.stats.retransmitted_packets += granted as u64;
        self.stats.retransmitted_bytes += (granted * payload_bytes) as u64;
        granted
    }

    /// Takes the next number of the retransmission stream.
    pub fn next_rtx_seq(&mut self) -> ExtendedSeq {
        let seq = self.rtx_next;
        self.rtx_next = seq.next();
        seq
    }

    /// Sent bits per second over the last second, retransmissions not included.
    pub fn bitrate(&mut self, now: Instant) -> Bitrate {
        self.rate.rate(now)
    }

    /// The counters.
    pub fn stats(&self) -> SendStats {
        self.stats
    }
}

#[cfg(test)]
mod tests;
