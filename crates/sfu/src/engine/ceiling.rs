//! How much of a track its viewers can take, where it cannot be had in several sizes: [`MediaPath::viewers_ceiling`].
//!
//! A publisher of one stream that does not fit is asked for no more than its best viewer can take, by REMB. Who can take less shares the
//! fate of all who are behind a path that is too slow ([`super::delivery`]): one of them must not spoil the picture of
//! the others. Deliberately absent: the application's limits, which are [`MediaPath::viewers_limit`].

use std::time::{Duration, Instant};

use forwarding::rate::Bitrate;
use media::MediaKind;
use smallvec::SmallVec;

use super::delivery::{Claim, request};
use super::downlink::DownlinkKey;
use super::media_path::MediaPath;
use super::source::Source;

/// No publisher is asked for less on behalf of its viewers. Too low: a picture that nobody can make out. Too high: slow
/// paths get none at all.
const CEILING_MIN: Bitrate = Bitrate::from_kbps(100);

/// Share of what a viewer has room for that is asked for. Too low: room is wasted. Too high: headers, an encoder that
/// wavers, and the margin that a paused picture needs to return do not fit.
const SHARE: f64 = 0.85;

/// Growth per second of what a publisher is asked for. Too low: a picture stays poor long after a
/// path has recovered. Too high: what is found out to be too much is found out by a queue.
const GROWTH: f64 = 0.15;

/// Time for which a track that did not fit is limited: of a way that is not full nobody knows what it carries. Too low:
/// publishers that follow what they are asked for overshoot again and again. Too high: a still screen begins to move at
/// the rate of a still one.
const SHORTAGE: Duration = Duration::from_secs(30);

/// What a viewer has room for of one track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    /// It does not want any.
    Unwanted,
    /// So much.
    Limited(Bitrate),
    /// Nobody knows, or it takes what comes.
    Unknown,
}

impl Room {
    /// What may be sent at most.
    pub(super) fn limit(self) -> Option<Bitrate> {
        match self {
            Self::Limited(room) => Some(room),
            Self::Unwanted | Self::Unknown => None,
        }
    }
}

impl Source {
    /// True if viewers can only have all of it or nothing.
    fn is_of_one_size(&self) -> bool {
        self.kind == MediaKind::Video && self.layers.len() == 1 && self.levels.sizes() <= 1
    }
}

impl MediaPath {
    /// Finds out what a way has room for of each track, and keeps it with its subscriber. `budget` is what it
    /// carries once a queue has drained.
    pub(super) fn make_room(
        &mut self,
        now: Instant,
        key: DownlinkKey,
        budget: Bitrate,
        claims: &[Claim],
    ) {
        let downlink = &self.downlinks[key.0];
        let is_known = downlink.estimator.is_known() && downlink.is_settled(now);
        let mut left = budget.0;
        let mut rates: SmallVec<[Option<u64>; 8]> = SmallVec::new();
        for claim in claims {
            let source = &self.sources[claim.source.0];
            let subscriber = &self.subscribers[claim.subscriber.0];
            let request = request(subscriber, source, source.levels.list());
            let rate = |level: usize| source.levels.list().get(level).map(|it| it.bitrate.0);
            let best = request.best().and_then(rate);
            if source.is_of_one_size() {
                rates.push(best.filter(|_| is_known));
                continue;
            }
            rates.push(None);
            // Layers give way to each other; what they have at least is not shared.
            let least = match subscriber.kind {
                MediaKind::Video => request.worst().and_then(rate),
                MediaKind::Audio | MediaKind::Data => best,
            };
            left = left.saturating_sub(least.unwrap_or(0));
        }
        let level = water_level(left, rates.iter().copied().flatten());
        for (claim, rate) in claims.iter().zip(rates) {
            let subscriber = &mut self.subscribers[claim.subscriber.0];
            let former = subscriber.room;
            let since = subscriber.room_at.replace(now).unwrap_or(now);
            let elapsed = now.saturating_duration_since(since).as_secs_f64();
            let growth = 1.0 + GROWTH * elapsed.min(1.0);
            subscriber.room = match rate {
                Some(rate) => {
                    let (room, is_short) = match level {
                        Level::Spare(spare) => (rate.saturating_add(spare), false),
                        Level::Each(level) => (level, rate > level),
                    };
                    let room = Bitrate(room).scaled(SHARE);
                    let former = former.limit().map(|former| former.scaled(growth));
                    let room = former.map_or(room, |former| room.min(former));
                    if is_short {
                        subscriber.short_at = Some(now);
                    }
                    let shortage = subscriber.short_at;
                    let since = shortage.map(|at| now.saturating_duration_since(at));
                    match since.is_some_and(|since| since < SHORTAGE) {
                        true => Room::Limited(room.max(CEILING_MIN)),
                        false => Room::Unknown,
                    }
                }
                None if !subscriber.delivery.video => Room::Unwanted,
                None => Room::Unknown,
            };
            if subscriber.room < former {
                self.tell_limit(claim.source);
                self.hurry_remb(now, claim.source);
            }
        }
    }

    /// What the best of those who watch a track has room for.
    pub(super) fn viewers_ceiling(&self, source: &Source) -> Room {
        if !source.is_of_one_size() {
            return Room::Unknown;
        }
        let here = source.subscribers.iter();
        let here = here.map(|subscriber| self.subscribers[subscriber.0].room);
        let elsewhere = source.trunks.iter().map(|trunk| self.trunks[trunk.0].room);
        here.chain(elsewhere).max().unwrap_or(Room::Unwanted)
    }
}

/// How a budget meets rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// All fit, and this much is spare.
    Spare(u64),
    /// They do not: each that takes more gets this much.
    Each(u64),
}

/// Fills rates evenly.
fn water_level(budget: u64, rates: impl Iterator<Item = u64>) -> Level {
    let mut rates: SmallVec<[u64; 8]> = rates.collect();
    rates.sort_unstable();
    let mut left = budget;
    for (position, rate) in rates.iter().enumerate() {
        let each = left / (rates.len() - position) as u64;
        if each < *rate {
            return Level::Each(each);
        }
        left -= rate;
    }
    Level::Spare(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_is_shared_evenly_where_it_is_short() {
        let rows: [(u64, &[u64], Level); 7] = [
            (1000, &[], Level::Spare(1000)),
            (1000, &[300], Level::Spare(700)),
            (300, &[800], Level::Each(300)),
            (1000, &[800, 800], Level::Each(500)),
            (1000, &[100, 800, 800], Level::Each(450)),
            (1000, &[800, 100, 100], Level::Spare(0)),
            (0, &[800, 100], Level::Each(0)),
        ];
        for (budget, rates, expected) in rows {
            let level = water_level(budget, rates.iter().copied());
            assert_eq!(level, expected, "{budget} {rates:?}");
        }
    }

    #[test]
    fn best_viewer_counts_and_who_watches_nothing_does_not() {
        let kbps = |kbps| Room::Limited(Bitrate::from_kbps(kbps));
        let rooms = [Room::Unwanted, kbps(300), kbps(500)];
        assert_eq!(rooms.into_iter().max(), Some(kbps(500)));
        assert!(Room::Unknown > kbps(u64::MAX / 1000));
    }
}
