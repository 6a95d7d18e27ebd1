//! What the media server counts.
//!
//! A worker adds to plain numbers of its own; [`Metrics`] is the copy it hands out when asked.

use crate::config::UdpOffload;
use crate::engine::counters::{Counters, Discard, RelayDrop};
use crate::engine::srtp::Profile;

/// Totals of the sockets of one worker since it began, and its open TCP connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketCounters {
    /// UDP datagrams received.
    pub udp_received: u64,
    /// Bytes of the UDP datagrams received.
    pub udp_received_bytes: u64,
    /// UDP datagrams handed to the kernel.
    pub udp_sent: u64,
    /// Bytes of the UDP datagrams handed to the kernel.
    pub udp_sent_bytes: u64,
    /// System calls that sent the UDP datagrams; the fewer per datagram, the better segmentation
    /// offload works.
    pub udp_send_calls: u64,
    /// Datagrams of each message handed to the kernel: more than one where it cuts a run.
    pub udp_runs: Histogram<{ RUN_BOUNDS.len() }>,
    /// UDP datagrams dropped because the socket did not take them and the backlog was full.
    pub udp_backlog_dropped: u64,
    /// UDP datagrams that the system refused to send, as to an unreachable network.
    pub udp_refused: u64,
    /// Runs that left one by one, since the system refused to cut them.
    pub udp_runs_refused: u64,
    /// Failures to receive from a UDP socket.
    pub udp_receive_errors: u64,
    /// Datagrams that arrived at this worker and were handed over to the one that owns their flow, and TCP
    /// connections that moved.
    pub handed_over: u64,
    /// The same, dropped because the other worker did not keep up.
    pub handover_dropped: u64,
    /// Datagrams from addresses that cannot be answered, such as port 0 or multicast.
    pub udp_unanswerable: u64,
    /// TCP connections open at the moment.
    pub tcp_connections: u64,
    /// TCP connections accepted.
    pub tcp_accepted: u64,
    /// TCP connections closed at once because of a limit on their number.
    pub tcp_rejected: u64,
    /// TCP connections closed because the peer broke the framing, began without STUN, or was too slow.
    pub tcp_expelled: u64,
    /// Frames received over TCP.
    pub tcp_received: u64,
    /// Frames queued for sending over TCP.
    pub tcp_sent: u64,
    /// Frames dropped because the peer reads too slowly or its connection is gone.
    pub tcp_dropped: u64,
}

/// How often a measured number fell into each of a row of ranges. The bounds belong to what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram<const N: usize> {
    /// By range: up to its bound and above the one before.
    pub counts: [u64; N],
    /// Above the last bound.
    pub above: u64,
    /// Of all numbers.
    pub sum: u64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self {
            counts: [0; N],
            above: 0,
            sum: 0,
        }
    }
}

impl<const N: usize> Histogram<N> {
    /// Counts `value` `times` times.
    pub(crate) fn record(&mut self, bounds: &[u64; N], value: u64, times: u64) {
        let range = bounds.iter().position(|bound| value <= *bound);
        let count = range.map_or(&mut self.above, |range| &mut self.counts[range]);
        *count += times;
        self.sum += value * times;
    }
}

/// Bounds of [`Metrics::hop`], µs.
pub const HOP_BOUNDS_US: [u64; 11] = [
    25, 50, 100, 200, 300, 500, 1_000, 2_000, 5_000, 10_000, 50_000,
];

/// Bounds of [`SocketCounters::udp_runs`], datagrams.
pub const RUN_BOUNDS: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];

/// A snapshot of one worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metrics {
    /// Times the worker woke up. An idle worker sleeps.
    pub turns: u64,
    /// For each forwarded packet the time in µs from before the call that received its batch until the last packet
    /// of that batch was sent: what this server adds to the way of a packet, at most.
    pub hop: Histogram<{ HOP_BOUNDS_US.len() }>,
    /// Calls of signaling that wait for the worker.
    pub commands_waiting: u64,
    /// Bytes that wait for a full socket.
    pub backlog_bytes: u64,
    /// What all sockets for WebRTC use.
    pub offload: UdpOffload,
    /// UDP datagrams that the system dropped before a socket for WebRTC received them: the worker did not keep up, or
    /// the socket's buffer is too small for a burst.
    pub udp_overflowed: u64,
    /// Sockets.
    pub sockets: SocketCounters,
    /// Media.
    pub engine: Counters,
}

/// One number as a metrics endpoint shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What is counted, in snake case. Names are shared by samples that differ in their label only.
    pub name: &'static str,
    /// What it counts, for people.
    pub help: &'static str,
    /// Key and value of the label, if the name has several numbers.
    pub label: Option<(&'static str, &'static str)>,
    /// Whether it only grows.
    pub kind: SampleKind,
    /// The number.
    pub value: u64,
}

/// One histogram as a metrics endpoint shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSample {
    /// What is measured, in snake case, with its unit.
    pub name: &'static str,
    /// What it tells, for people.
    pub help: &'static str,
    /// Upper bounds, rising.
    pub bounds: Vec<f64>,
    /// Numbers up to each bound, all lower ones included.
    pub cumulative: Vec<u64>,
    /// How many numbers there are.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

impl HistogramSample {
    fn new<const N: usize>(
        name: &'static str,
        help: &'static str,
        bounds: &[u64; N],
        units: f64,
        histogram: &Histogram<N>,
    ) -> Self {
        let mut total = 0;
        let cumulative = histogram.counts.iter().map(|count| {
            total += count;
            total
        });
        Self {
            name,
            help,
            bounds: bounds.iter().map(|bound| *bound as f64 / units).collect(),
            cumulative: cumulative.collect(),
            count: total + histogram.above,
            sum: histogram.sum as f64 / units,
        }
    }
}

/// How a number moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleKind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

impl Metrics {
    /// Every histogram, in a fixed order.
    pub fn histograms(&self) -> [HistogramSample; 2] {
        [
            HistogramSample::new(
                "hop_seconds",
                "Time from receiving a packet to having sent it to the last subscriber, by forwarded packet",
                &HOP_BOUNDS_US,
                1e6,
                &self.hop,
            ),
            HistogramSample::new(
                "udp_run_datagrams",
                "Datagrams handed to the kernel at once for one peer",
                &RUN_BOUNDS,
                1.0,
                &self.sockets.udp_runs,
            ),
        ]
    }

    /// Every number, in a fixed order.
    pub fn samples(&self) -> Vec<Sample> {
        let (sockets, engine) = (&self.sockets, &self.engine);
        let counters = [
            ("turns", self.turns, "Times a worker woke up"),
            (
                "udp_received",
                sockets.udp_received,
                "UDP datagrams received",
            ),
            (
                "udp_received_bytes",
                sockets.udp_received_bytes,
                "Bytes of the UDP datagrams received",
            ),
            (
                "udp_overflowed",
                self.udp_overflowed,
                "UDP datagrams that the system dropped as the buffer of a socket for WebRTC was full, or for a wrong checksum",
            ),
            (
                "udp_sent",
                sockets.udp_sent,
                "UDP datagrams handed to the kernel",
            ),
            (
                "udp_sent_bytes",
                sockets.udp_sent_bytes,
                "Bytes of the UDP datagrams handed to the kernel",
            ),
            (
                "udp_send_calls",
                sockets.udp_send_calls,
                "System calls that sent UDP datagrams",
            ),
            (
                "udp_backlog_dropped",
                sockets.udp_backlog_dropped,
                "UDP datagrams dropped because the socket did not take them and the backlog was full",
            ),
            (
                "udp_refused",
                sockets.udp_refused,
                "UDP datagrams that the system refused to send",
            ),
            (
                "udp_runs_refused",
                sockets.udp_runs_refused,
                "Runs of UDP datagrams that left one by one, since the system refused to cut them",
            ),
            (
                "udp_receive_errors",
                sockets.udp_receive_errors,
                "Failures to receive from a UDP socket",
            ),
            (
                "handed_over",
                sockets.handed_over,
                "UDP datagrams and TCP connections handed over to the worker they belong to",
            ),
            (
                "handover_dropped",
                sockets.handover_dropped,
                "UDP datagrams and TCP connections dropped as the worker they belong to did not keep up",
            ),
            (
                "udp_unanswerable",
                sockets.udp_unanswerable,
                "Datagrams from addresses that cannot be answered",
            ),
            (
                "tcp_accepted",
                sockets.tcp_accepted,
                "TCP connections accepted",
            ),
            (
                "tcp_rejected",
                sockets.tcp_rejected,
                "TCP connections closed at once because of a limit on their number",
            ),
            (
                "tcp_expelled",
                sockets.tcp_expelled,
                "TCP connections closed because the peer broke the framing, began without STUN, or was too slow",
            ),
            (
                "tcp_received",
                sockets.tcp_received,
                "Frames received over TCP",
            ),
            (
                "tcp_sent",
                sockets.tcp_sent,
                "Frames queued for sending over TCP",
            ),
            (
                "tcp_dropped",
                sockets.tcp_dropped,
                "Frames dropped because the peer reads too slowly or its connection is gone",
            ),
            (
                "rtp_received",
                engine.rtp_received,
                "RTP packets that were authenticated and belonged to a stream",
            ),
            (
                "rtp_forwarded",
                engine.rtp_forwarded,
                "RTP packets sent to subscribers, retransmissions not included",
            ),
            (
                "rtp_retransmitted",
                engine.rtp_retransmitted,
                "RTP packets sent again because a subscriber missed them",
            ),
            (
                "rtp_withheld",
                engine.rtp_withheld,
                "RTP packets that a subscriber did not get, because it is not connected or for a reason of dropped_packets",
            ),
            (
                "rtp_relayed",
                engine.rtp_relayed,
                "RTP packets passed on to other workers, for subscribers there",
            ),
            (
                "rtp_relay_received",
                engine.rtp_relay_received,
                "RTP packets that other workers passed on to this one",
            ),
            (
                "rtcp_received",
                engine.rtcp_received,
                "RTCP packets that were authenticated",
            ),
            ("rtcp_sent", engine.rtcp_sent, "RTCP packets sent"),
            (
                "key_frames_requested",
                engine.key_frames_requested,
                "Key frames asked of publishers",
            ),
            (
                "stun_answered",
                engine.stun_answered,
                "STUN requests answered",
            ),
            (
                "nacks_sent",
                engine.nacks_sent,
                "Packets asked of publishers by NACK",
            ),
            (
                "transports_connected",
                engine.transports_connected,
                "Transports that connected: by DTLS, or plain RTP that was heard",
            ),
            (
                "transports_expired",
                engine.transports_expired,
                "Transports closed because the peer fell silent",
            ),
            (
                "handshakes_failed",
                engine.handshakes_failed,
                "Transports closed because their DTLS handshake failed",
            ),
            (
                "panics",
                engine.panics,
                "Bugs met: transports closed because of a packet, and commands that were broken off",
            ),
            (
                "messages_forwarded",
                engine.messages_forwarded,
                "Data-channel messages passed on",
            ),
        ];
        let gauges = [
            (
                "tcp_connections",
                sockets.tcp_connections,
                "TCP connections open",
            ),
            (
                "commands_waiting",
                self.commands_waiting,
                "Calls of signaling that wait for the worker",
            ),
            (
                "backlog_bytes",
                self.backlog_bytes,
                "Bytes that wait for a full UDP socket",
            ),
            ("transports", engine.transports, "Sessions with peers"),
            ("elements", engine.elements, "Media elements"),
            (
                "mirrors",
                engine.mirrors,
                "Stand-ins for media elements of other workers, by kind of media",
            ),
            (
                "trunks",
                engine.trunks,
                "Ways to stand-ins on other workers",
            ),
        ];
        let plain = |kind| {
            move |(name, value, help)| Sample {
                name,
                help,
                label: None,
                kind,
                value,
            }
        };
        let by_reason = |name, help| {
            move |(reason, value)| Sample {
                name,
                help,
                label: Some(("reason", reason)),
                kind: SampleKind::Counter,
                value,
            }
        };
        let profiles = Profile::ALL.map(Profile::name).into_iter();
        let by_profile = |(profile, value)| Sample {
            name: "srtp_transports",
            help: "Transports that connected by SRTP profile; those with HMAC cost several times as much",
            label: Some(("profile", profile)),
            kind: SampleKind::Counter,
            value,
        };
        let by_offload = |(offload, is_used)| Sample {
            name: "udp_offload",
            help: "1 if all media sockets of the worker use it, 0 if it is off or the system does not do it",
            label: Some(("offload", offload)),
            kind: SampleKind::Gauge,
            value: u64::from(is_used),
        };
        let discarded = Discard::ALL.map(Discard::label).into_iter();
        let relay_dropped = RelayDrop::ALL.map(RelayDrop::label).into_iter();
        let dropped = engine.dropped.iter();
        counters
            .into_iter()
            .map(plain(SampleKind::Counter))
            .chain(gauges.into_iter().map(plain(SampleKind::Gauge)))
            .chain(self.offload.parts().map(by_offload))
            .chain(profiles.zip(engine.srtp_profiles).map(by_profile))
            .chain(
                discarded
                    .zip(engine.discarded)
                    .map(by_reason("discarded", "Datagrams thrown away")),
            )
            .chain(
                relay_dropped
                    .zip(engine.relay_dropped)
                    .map(by_reason(
                        "relay_dropped",
                        "What was lost on its way to another worker: packets and messages for which it was full, as the other worker did not keep up, and packets that came when nobody wanted them any more",
                    )),
            )
            .chain(
                dropped
                    .map(|(reason, value)| (reason.name(), value))
                    .map(by_reason(
                        "dropped_packets",
                        "RTP packets that were left out for a connected subscriber",
                    )),
            )
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use forwarding::selector::DropReason;

    use super::*;

    #[test]
    fn samples_have_distinct_names_and_labels() {
        let samples = Metrics::default().samples();

        let distinct: HashSet<_> = samples
            .iter()
            .map(|sample| (sample.name, sample.label))
            .collect();

        assert_eq!(distinct.len(), samples.len());
    }

    #[test]
    fn histograms_are_cumulative() {
        let mut metrics = Metrics::default();
        for (us, packets) in [(25, 2), (26, 3), (60_000, 1)] {
            metrics.hop.record(&HOP_BOUNDS_US, us, packets);
        }

        let [hop, runs] = metrics.histograms();

        assert_eq!(hop.bounds[..2], [0.000_025, 0.000_05]);
        assert_eq!(hop.cumulative, [2, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5]);
        assert_eq!(hop.count, 6);
        assert!((hop.sum - 0.060_128).abs() < 1e-9, "{}", hop.sum);
        assert_eq!((runs.count, runs.cumulative.len()), (0, RUN_BOUNDS.len()));
    }

    #[test]
    fn dropped_packets_are_told_apart_by_reason() {
        let mut metrics = Metrics::default();
        metrics.engine.dropped.count(DropReason::TooLate);

        let samples = metrics.samples();

        let counted: Vec<_> = samples.iter().filter(|sample| sample.value > 0).collect();
        assert_eq!(counted.len(), 1);
        assert_eq!(counted[0].name, "dropped_packets");
        assert_eq!(counted[0].label, Some(("reason", "too_late")));
    }

    #[test]
    fn discarded_datagrams_are_told_apart_by_reason() {
        let mut metrics = Metrics::default();
        metrics.engine.discarded[Discard::Stun as usize] = 7;

        let samples = metrics.samples();

        let stun = samples
            .iter()
            .find(|sample| sample.label == Some(("reason", "stun")));
        assert_eq!(stun.map(|sample| sample.value), Some(7));
        let total: u64 = samples.iter().map(|sample| sample.value).sum();
        assert_eq!(total, 7);
    }
}
