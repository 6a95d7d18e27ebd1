//! What was sent on the connections that share an estimate, and what their receivers say of it: [`Paths`].
//!
//! Each receiver collects its own reports, so those of several are about overlapping times. What came on one connection
//! waits until the others have told as much: otherwise bytes that arrived and are not reported would be missing in
//! rates, and delays would jump back and forth.

use super::delay::BaseDelay;
use super::feedback::Feedback;
use super::probe::Prober;
use super::sent::SentPackets;
use super::{PATHS_MAX, PathId};

/// Longest wait for what other connections tell, µs since they told something. Too low → reports that come less often
/// are not waited for; too high → one that has ended holds up the others.
const REPORT_WAIT_MICROS: i64 = 250_000;

/// Packets that wait at most. Too low → those of fast paths are taken before their time; too high → memory.
const WAITING_MAX: usize = 2_048;

#[derive(Clone, Debug, Default)]
struct Path {
    sent: SentPackets,
    base: BaseDelay,
    /// Reference time of the last feedback, µs.
    reference: Option<i64>,
    /// When feedback came last, and when the latest packet left that it told of, µs.
    reported: Option<(i64, i64)>,
}

/// A packet that has arrived, on our time line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    pub(super) sent: i64,
    /// Above the least of its path, µs.
    pub(super) delay: i64,
    pub(super) size_bytes: u32,
    /// The probe it was part of; 0 for none.
    pub(super) cluster: u8,
}

/// What one report told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) arrived: u32,
    /// Without those that were called lost before, and are not.
    pub(super) lost: i64,
    /// When the latest that arrived had left.
    pub(super) newest_sent: Option<i64>,
}

/// The connections, by [`PathId`].
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    paths: Vec<Path>,
    /// Reported, and not taken yet.
    waiting: Vec<Arrived>,
}

impl Paths {
    /// Bytes sent, and not named by any feedback.
    pub(super) fn in_flight_bytes(&self) -> u64 {
        let paths = self.paths.iter();
        paths.map(|path| path.sent.in_flight_bytes()).sum()
    }

    /// What was sent on a path, which may be new; `None` beyond [`PATHS_MAX`].
    #[inline]
    pub(super) fn sent(&mut self, path: PathId) -> Option<&mut SentPackets> {
        let index = usize::from(path.0);
        if index >= PATHS_MAX {
            return None;
        }
        if index >= self.paths.len() {
            self.paths.resize_with(index + 1, Path::default);
        }
        Some(&mut self.paths[index].sent)
    }

    /// Takes in a report. `None` if nothing was sent there.
    pub(super) fn handle_feedback(
        &mut self,
        now: i64,
        path: PathId,
        feedback: &Feedback<'_>,
        prober: &mut Prober,
    ) -> Option<Told> {
        let path = self.paths.get_mut(usize::from(path.0))?;
        let reference = feedback.reference_micros(path.reference);
        path.reference = Some(reference);
        let mut told = Told::default();
        for status in feedback.statuses() {
            let Some(arrival) = status.arrival_micros else {
                if let Some(lost) = path.sent.lose(status.seq) {
                    told.lost += 1;
                    prober.handle_report(lost.cluster, None, lost.size_bytes);
                }
                continue;
            };
            let Some(reported) = path.sent.arrive(status.seq) else {
                continue;
            };
            told.arrived += 1;
            told.lost -= i64::from(reported.was_lost);
            told.newest_sent = told.newest_sent.max(Some(reported.sent_micros));
            let transit = reference + arrival - reported.sent_micros;
            self.waiting.push(Arrived {
                sent: reported.sent_micros,
                delay: path.base.above(now, transit),
                size_bytes: reported.size_bytes,
                cluster: reported.cluster,
            });
        }
        let before = path.reported.map(|(_, sent)| sent);
        if let Some(sent) = told.newest_sent.max(before) {
            path.reported = Some((now, sent));
        }
        Some(told)
    }

    /// Moves what all connections have told of, or should have, to the end of `arrived`, in the order of sending.
    pub(super) fn take_arrived(&mut self, now: i64, arrived: &mut Vec<Arrived>) {
        let told_by = |path: &Path| {
            let (at, sent) = path.reported?;
            (path.sent.in_flight_bytes() > 0 && now - at < REPORT_WAIT_MICROS).then_some(sent)
        };
        let complete = self.paths.iter().filter_map(told_by).min();
        let complete = complete.filter(|_| self.waiting.len() < WAITING_MAX);
        let complete = complete.unwrap_or(i64::MAX);
        self.waiting.sort_unstable_by_key(|it| it.sent);
        let count = self.waiting.partition_point(|it| it.sent <= complete);
        arrived.extend(self.waiting.drain(..count));
    }

    /// Forgets what was sent on a path, whose id another connection may then have.
    pub(super) fn forget(&mut self, path: PathId) {
        if let Some(path) = self.paths.get_mut(usize::from(path.0)) {
            *path = Path::default();
        }
    }

    /// Forgets what the paths were like without a queue.
    pub(super) fn forget_delays(&mut self) {
        self.waiting.clear();
        for path in &mut self.paths {
            path.base.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::rtcp::{Packet, Packets};
    use crate::rtp::{Seq, Ssrc};
    use crate::transport_feedback::TransportFeedback;

    /// Reports that packets of a path came after 20 ms.
    fn report(paths: &mut Paths, now: i64, path: PathId, packets: &[(u16, i64)]) -> Told {
        let began_at = Instant::now();
        let at = |micros: i64| began_at + Duration::from_micros(micros as u64);
        let mut receiver = TransportFeedback::default();
        let mut rtcp = Vec::new();
        for (seq, sent) in packets {
            receiver.handle_packet(at(sent + 20_000), Seq(*seq));
        }
        receiver.poll(at(now + 1_000_000), Ssrc(1), Ssrc(2), &mut rtcp);
        let body = Packets::new(&rtcp).find_map(|packet| match packet.unwrap() {
            Packet::TransportFeedback(body) => Some(body),
            _ => None,
        });
        let feedback = Feedback::read(body.unwrap()).unwrap();
        let told = paths.handle_feedback(now, path, &feedback, &mut Prober::default());
        told.unwrap()
    }

    fn taken(paths: &mut Paths, now: i64) -> Vec<i64> {
        let mut arrived = Vec::new();
        paths.take_arrived(now, &mut arrived);
        arrived.iter().map(|arrived| arrived.sent).collect()
    }

    #[test]
    fn what_one_connection_tells_waits_until_the_others_have() {
        let (one, other) = (PathId(0), PathId(1));
        let mut paths = Paths::default();
        for seq in 0..20 {
            let path = if seq % 2 == 0 { one } else { other };
            let now = 10_000 * i64::from(seq);
            let sent = paths.sent(path).unwrap();
            sent.handle_sent(now, Seq(seq / 2), 100, 0);
        }
        let sent = |seq: u16, odd: i64| (seq, 20_000 * i64::from(seq) + 10_000 * odd);
        report(&mut paths, 150_000, other, &[sent(0, 1)]);
        assert_eq!(taken(&mut paths, 150_000), [10_000], "nobody else reports");
        report(
            &mut paths,
            160_000,
            one,
            &[sent(0, 0), sent(1, 0), sent(2, 0)],
        );
        assert_eq!(taken(&mut paths, 160_000), [0]);
        report(&mut paths, 170_000, other, &[sent(1, 1), sent(2, 1)]);
        assert_eq!(taken(&mut paths, 170_000), [20_000, 30_000, 40_000]);
        // One of them has ended.
        let later = 170_000 + REPORT_WAIT_MICROS;
        let told = report(&mut paths, later, one, &[sent(3, 0), sent(4, 0)]);
        assert_eq!((told.arrived, told.newest_sent), (2, Some(80_000)));
        assert_eq!(taken(&mut paths, later), [50_000, 60_000, 80_000]);
    }
}
