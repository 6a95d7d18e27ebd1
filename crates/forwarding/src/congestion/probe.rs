//! Finding out whether the path carries more: [`Prober`].
//!
//! A probe is a short time in which packets leave at a higher rate: media if there is some, padding or retransmissions
//! for the rest. How fast they arrive tells what the path carries, up to the rate of the probe.

use crate::rate::Bitrate;

/// How long a probe lasts, µs. Too low → the receiver's clock and bursts of a radio link falsify the result; too high →
/// one that the path does not carry leaves as long a queue.
const DURATION_MICROS: i64 = 25_000;
/// One that cannot be filled in this time is given up.
const DURATION_MICROS_MAX: i64 = 150_000;

/// Who was asked for padding and did not send any is asked again after this time, µs.
const ASK_INTERVAL: i64 = 10_000;

/// Packets that a probe has at least. Too low → one late packet decides; too high → small rates cannot be probed.
const PACKETS_MIN: u32 = 5;

/// Bounds of a padding packet, bytes on the wire. Probes of small rates take small packets.
const PADDING_BYTES_MIN: i64 = 100;
const PADDING_BYTES_MAX: i64 = 1_200;

/// Share of a probe's packets that must be reported for a result.
const REPORTED_MIN: f64 = 0.8;

/// Packets of a probe that must arrive for a result.
const ARRIVED_MIN: u32 = 3;

/// Wait for the reports of a probe, µs. Too low → slow paths never have a result; too high → the next has to wait.
const REPORT_MICROS_MAX: i64 = 1_000_000;

/// If packets arrive slower than this share of the rate at which they left, the path is full, and its rate is known.
const FULL: f64 = 0.9;

/// Of the rate that was measured on a full path, what may be used at once.
const FULL_USED: f64 = 0.95;

#[derive(Clone, Copy, Debug)]
struct Cluster {
    id: u8,
    rate: Bitrate,
    began: i64,
    sent_packets: u32,
    sent_bytes: i64,
    last_sent: i64,
    last_sent_bytes: i64,
    /// Padding was asked for and has not come.
    asked_at: Option<i64>,
    /// Sending is over.
    is_complete: bool,
    reported_packets: u32,
    arrived_packets: u32,
    arrived_bytes: i64,
    first_arrival: i64,
    first_arrival_bytes: i64,
    least_arrived_bytes: i64,
    last_arrival: i64,
}

impl Cluster {
    fn padding_due(&self) -> Option<i64> {
        let sent = self.sent_bytes * 8_000_000 / (self.rate.0.clamp(1, 1 << 40) as i64);
        let due = self.began + sent;
        let asked = self.asked_at.map_or(due, |at| at + ASK_INTERVAL);
        (!self.is_complete).then_some(due.max(asked))
    }

    /// When it is over without a result.
    fn expires_at(&self) -> i64 {
        match self.is_complete {
            true => self.last_sent + REPORT_MICROS_MAX,
            false => self.began + 2 * DURATION_MICROS_MAX,
        }
    }
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProbeResult {
    /// What the path carries at least.
    pub(super) rate: Bitrate,
    /// It carries no more.
    pub(super) is_full: bool,
}

/// Runs one probe at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prober {
    cluster: Option<Cluster>,
    ids: u8,
}

impl Prober {
    /// True if a probe is being sent or its result awaited.
    pub(super) fn is_busy(&self) -> bool {
        self.cluster.is_some()
    }

    /// Begins a probe, in place of one that is under way.
    pub(super) fn begin(&mut self, now: i64, rate: Bitrate) {
        self.ids = self.ids.wrapping_add(1).max(1);
        self.cluster = Some(Cluster {
            id: self.ids,
            rate,
            began: now,
            sent_packets: 0,
            sent_bytes: 0,
            last_sent: now,
            last_sent_bytes: 0,
            asked_at: None,
            is_complete: false,
            reported_packets: 0,
            arrived_packets: 0,
            arrived_bytes: 0,
            first_arrival: i64::MAX,
            first_arrival_bytes: 0,
            least_arrived_bytes: i64::MAX,
            last_arrival: i64::MIN,
        });
    }

    /// Gives up the probe under way.
    pub(super) fn cancel(&mut self) {
        self.cluster = None;
    }

    /// The rate at which packets should leave while a probe is being sent.
    pub(super) fn sending(&self) -> Option<Bitrate> {
        let cluster = self.cluster.as_ref().filter(|cluster| !cluster.is_complete);
        cluster.map(|cluster| cluster.rate)
    }

    /// Takes note of a packet sent; the probe it belongs to, or 0.
    pub(super) fn handle_sent(&mut self, now: i64, size_bytes: u32) -> u8 {
        let Some(cluster) = self.cluster.as_mut().filter(|cluster| !cluster.is_complete) else {
            return 0;
        };
        if cluster.sent_packets == 0 {
            cluster.began = now;
        }
        cluster.sent_packets += 1;
        cluster.sent_bytes += i64::from(size_bytes);
        cluster.last_sent = now;
        cluster.asked_at = None;
        cluster.last_sent_bytes = i64::from(size_bytes);
        let elapsed = now - cluster.began;
        let is_long = elapsed >= DURATION_MICROS && cluster.sent_packets >= PACKETS_MIN;
        cluster.is_complete = is_long || elapsed >= DURATION_MICROS_MAX;
        cluster.id
    }

    /// Size of a padding packet that is due for the probe, bytes on the wire. Who cannot send one is asked again, but not
    /// at once.
    pub(super) fn poll_padding(&mut self, now: i64) -> Option<usize> {
        let cluster = self.cluster.as_mut()?;
        let due = cluster.padding_due()?;
        if now < due {
            return None;
        }
        cluster.asked_at = Some(now);
        let bytes = bytes_in(cluster.rate, DURATION_MICROS) / i64::from(PACKETS_MIN + 1);
        Some(bytes.clamp(PADDING_BYTES_MIN, PADDING_BYTES_MAX) as usize)
    }

    /// When padding is due if nothing else is sent, or the result given up.
    pub(super) fn poll_timeout(&self) -> Option<i64> {
        let cluster = self.cluster.as_ref()?;
        let given_up = cluster.expires_at();
        Some(
            cluster
                .padding_due()
                .map_or(given_up, |due| due.min(given_up)),
        )
    }

    /// Gives up what takes too long; true if so.
    pub(super) fn expire(&mut self, now: i64) -> bool {
        let is_late = self
            .cluster
            .is_some_and(|cluster| now >= cluster.expires_at());
        if is_late {
            self.cluster = None;
        }
        is_late
    }

    /// Takes note of a report about a packet of probe `id`: when it arrived, if it did, and its size.
    pub(super) fn handle_report(&mut self, id: u8, arrival: Option<i64>, size_bytes: u32) {
        let Some(cluster) = self.cluster.as_mut().filter(|cluster| cluster.id == id) else {
            return;
        };
        cluster.reported_packets += 1;
        let Some(arrival) = arrival else {
            return;
        };
        cluster.arrived_packets += 1;
        cluster.arrived_bytes += i64::from(size_bytes);
        if arrival < cluster.first_arrival {
            cluster.first_arrival = arrival;
            cluster.first_arrival_bytes = i64::from(size_bytes);
        }
        cluster.least_arrived_bytes = cluster.least_arrived_bytes.min(i64::from(size_bytes));
        cluster.last_arrival = cluster.last_arrival.max(arrival);
    }

    /// The result, once enough is reported. `None` for one of which too much is lost, which is over then, too. `floor`
    /// is the share that the path loses whatever is sent, below 1.
    pub(super) fn poll_result(&mut self, floor: f64) -> Option<ProbeResult> {
        let cluster = self.cluster.filter(|cluster| cluster.is_complete)?;
        let reported = f64::from(cluster.reported_packets) / f64::from(cluster.sent_packets);
        if reported < REPORTED_MIN {
            return None;
        }
        self.cluster = None;
        let enough =
            f64::from(cluster.arrived_packets) >= REPORTED_MIN * f64::from(cluster.sent_packets);
        let send_span = cluster.last_sent - cluster.began;
        let arrival_span = cluster.last_arrival.saturating_sub(cluster.first_arrival);
        if !enough || cluster.arrived_packets < ARRIVED_MIN || send_span <= 0 {
            return None;
        }
        // Two lower bounds of what the path carries. What came after the first packet says little if that one was large;
        // the time since it left contains the noise of the path, but not the time that the smallest packet takes.
        let behind_first = cluster.arrived_bytes - cluster.first_arrival_bytes;
        let after_first = rate_of(behind_first, arrival_span.max(1_000));
        let but_least = cluster.arrived_bytes - cluster.least_arrived_bytes;
        let since_sent = rate_of(but_least, cluster.last_arrival - cluster.began);
        let carried = after_first.max(since_sent).scaled(1.0 / (1.0 - floor));
        let sent = rate_of(cluster.sent_bytes - cluster.last_sent_bytes, send_span);
        let is_full = carried < sent.scaled(FULL);
        let rate = if is_full {
            carried.scaled(FULL_USED)
        } else {
            sent.min(carried)
        };
        Some(ProbeResult { rate, is_full })
    }
}

fn bytes_in(rate: Bitrate, micros: i64) -> i64 {
    (rate.0.min(1 << 40) as i64) * micros / 8_000_000
}

fn rate_of(bytes: i64, micros: i64) -> Bitrate {
    Bitrate((bytes.max(0) as u64) * 8_000_000 / (micros.max(1) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a probe at 1 Mbit/s over a path of `capacity` that loses every `lost_each`th packet.
    fn probe(capacity: u64, lost_each: usize) -> Option<ProbeResult> {
        let mut prober = Prober::default();
        prober.begin(0, Bitrate::from_kbps(1_000));
        let (mut now, mut free_at) = (0, 0);
        let mut packets = Vec::new();
        while prober.sending().is_some() {
            now = prober.poll_timeout().unwrap().max(now);
            let bytes = prober.poll_padding(now).unwrap();
            let id = prober.handle_sent(now, bytes as u32);
            free_at = now.max(free_at) + (bytes as i64) * 8_000_000 / (capacity as i64);
            packets.push((id, free_at, bytes as u32));
        }
        assert!(now < 40_000, "{now}");
        assert_eq!(prober.poll_padding(now + 1_000_000), None);
        for (index, (id, arrival, bytes)) in packets.into_iter().enumerate() {
            let lost = (index + 1).is_multiple_of(lost_each);
            prober.handle_report(id, (!lost).then_some(arrival), bytes);
        }
        let result = prober.poll_result(0.0);
        assert!(!prober.is_busy());
        result
    }

    #[test]
    fn result_is_what_the_path_carries_up_to_the_probe() {
        // (capacity, found at least, at most, full) in kbit/s
        let rows = [
            (5_000, 900, 1_100, false),
            (500, 440, 500, true),
            (250, 220, 250, true),
        ];
        for (capacity, low, high, is_full) in rows {
            let found = probe(1000 * capacity, 1000).unwrap();
            let Bitrate(rate) = found.rate;
            assert!(
                (1000 * low..=1000 * high).contains(&rate),
                "{capacity}: {rate}"
            );
            assert_eq!(found.is_full, is_full, "{capacity}");
        }
        assert!(probe(5_000_000, 3).is_none(), "a third lost");
    }

    #[test]
    fn large_packet_in_front_of_small_ones_is_no_sign_of_a_full_path() {
        let mut prober = Prober::default();
        prober.begin(0, Bitrate::from_kbps(600));
        let mut now = 0;
        let mut sizes = vec![1_200];
        while prober.sending().is_some() {
            let bytes = sizes.pop().unwrap_or(200);
            let id = prober.handle_sent(now, bytes);
            // At 5 Mbit/s.
            prober.handle_report(id, Some(now + i64::from(bytes) * 8 / 5), bytes);
            now = prober.poll_timeout().unwrap().max(now);
        }
        let result = prober.poll_result(0.0).unwrap();
        assert!(!result.is_full);
        let Bitrate(rate) = result.rate;
        assert!((500_000..700_000).contains(&rate), "{rate}");
    }

    #[test]
    fn large_packet_in_front_of_small_ones_does_not_hide_a_full_path() {
        let mut prober = Prober::default();
        prober.begin(0, Bitrate::from_kbps(570));
        let (mut now, mut free_at) = (0, 0);
        let mut sizes = vec![1_200];
        while prober.sending().is_some() {
            let bytes = sizes.pop().unwrap_or(150);
            let id = prober.handle_sent(now, bytes);
            // At 300 kbit/s.
            free_at = now.max(free_at) + i64::from(bytes) * 80 / 3;
            prober.handle_report(id, Some(free_at), bytes);
            now = prober.poll_timeout().unwrap().max(now);
        }
        let result = prober.poll_result(0.0).unwrap();
        assert!(result.is_full);
        let Bitrate(rate) = result.rate;
        assert!((250_000..300_000).contains(&rate), "{rate}");
    }

    #[test]
    fn probe_without_reports_expires() {
        let mut prober = Prober::default();
        prober.begin(0, Bitrate::from_kbps(100));
        for now in 0..30 {
            prober.handle_sent(1_000 * now, 100);
        }
        assert!(prober.poll_result(0.0).is_none());
        assert_eq!(prober.poll_timeout(), Some(1_025_000));
        assert!(!prober.expire(1_024_999));
        assert!(prober.expire(1_025_000));
        assert!(!prober.is_busy());
    }

    #[test]
    fn who_cannot_pad_is_not_asked_without_end() {
        let mut prober = Prober::default();
        prober.begin(0, Bitrate::from_kbps(100));
        let mut asked = 0;
        while let Some(at) = prober.poll_timeout() {
            asked += usize::from(prober.poll_padding(at).is_some());
            assert_eq!(prober.poll_padding(at), None);
            prober.expire(at);
        }
        assert!((10..40).contains(&asked), "{asked}");
    }
}
