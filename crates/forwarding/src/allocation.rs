//! Who gets how much of a subscriber's capacity: [`allocate`].
//!
//! One budget for all that goes to one participant over paths that share a bottleneck, over however many connections.
//! Audio comes first and is never refused. Then every video gets the least that can be seen, before anyone gets more;
//! then they are improved, the important ones first and equals in turn. What does not fit is paused, and the grant says
//! why, so that the subscriber can be told.
//!
//! A pure function of its arguments. What a subscription has already ([`Request::current`]) is kept if it still fits,
//! and more is given only if it fits with a margin: an estimate that wavers must not make pictures waver. Deliberately
//! absent: time, and who measures rates.

use crate::codec::LayerId;
use crate::rate::Bitrate;
use crate::rtp::Ssrc;
use crate::selector::Target;

/// Share of a level's rate that must be spare for a step up to it. Too low → a level is left as soon as the estimate or
/// the encoder wavers, and each return costs a key frame; too high → capacity lies idle.
const STEP_UP_MARGIN: f64 = 0.08;

/// The same for a larger picture than the one that is seen, which begins with a key frame. Too low → that alone takes what
/// is spare, and the step is taken back, again and again; too high → capacity lies idle.
const LARGER_MARGIN: f64 = 0.3;

/// Levels of one stream that are looked at: four simulcast streams with four temporal layers twice. More are a bug of
/// the caller's; the rest is never given.
pub const LEVELS_MAX: usize = 32;

/// How important a subscription is to its subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// Given whatever the budget; all its levels.
    Audio,
    /// Who speaks, a shared screen, a picture that was made large: improved first.
    High,
    /// The rest.
    Normal,
    /// Thumbnails: improved last.
    Low,
}

impl Priority {
    const VIDEO: [Self; 3] = [Self::High, Self::Normal, Self::Low];
}

/// One of the qualities in which a track can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Its stream, by rank: 0 for the smallest of simulcast.
    pub stream: u8,
    /// The highest layer within the stream.
    pub top: LayerId,
    /// The same as a limit: [`LayerId::HIGHEST`] if the stream has nothing above it.
    pub limit: LayerId,
    /// What it takes: the layer and all below it in the same stream, as measured.
    pub bitrate: Bitrate,
    /// Height of the picture, pixels; 0 if it is not known.
    pub height: u16,
    /// Frames per second; 0 if it is not known.
    pub frame_rate: u8,
}

impl Level {
    /// The picture size, 0 the smallest: simulcast streams and spatial layers count alike.
    pub fn size(&self) -> u8 {
        self.stream.saturating_add(self.top.spatial)
    }

    /// What [`crate::selector::Selector::aim`] is told, given the stream's source.
    pub fn target(&self, source: Ssrc) -> Target {
        Target {
            source,
            rank: self.stream,
            limit: self.limit,
        }
    }
}

/// What a client asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Send nothing.
    pub paused: bool,
    /// Nothing larger than this, pixels.
    pub height_max: Option<u16>,
    /// Nothing faster than this, frames per second.
    pub frame_rate_max: Option<u8>,
    /// No larger picture than this one counted from the smallest, simulcast streams and spatial layers alike, and no
    /// higher temporal layer.
    pub top_max: Option<LayerId>,
    /// Nothing of a higher rate, unless there is no choice.
    pub bitrate_max: Option<Bitrate>,
    /// No spatial layer within a stream but the lowest: the client could not tell them apart.
    pub flat: bool,
}

impl Wishes {
    fn allow(&self, level: &Level) -> bool {
        self.height_max.is_none_or(|max| level.height <= max)
            && self
                .frame_rate_max
                .is_none_or(|max| level.frame_rate <= max)
            && self.bitrate_max.is_none_or(|max| level.bitrate <= max)
            && (!self.flat || level.top.spatial == 0)
            && self
                .top_max
                .is_none_or(|max| level.size() <= max.spatial && level.top.temporal <= max.temporal)
    }
}

/// A subscription that wants a share.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// How important it is. Equals are served in the order of the requests.
    pub priority: Priority,
    /// The client's wishes.
    pub wishes: Wishes,
    /// What can be had, worst first, only what is being sent.
    pub levels: &'a [Level],
    /// The index of the level it has.
    pub current: Option<usize>,
}

impl Request<'_> {
    /// True if it may have a level. If the wishes allow none, it is the worst, since the client did not ask to see
    /// nothing.
    fn may_have(&self, level: usize) -> bool {
        let allowed = |level: &Level| self.wishes.allow(level);
        match self.levels.get(level) {
            Some(it) if level < LEVELS_MAX && !self.wishes.paused => {
                allowed(it) && !self.stutters(it) || level == 0 && !self.levels.iter().any(allowed)
            }
            _ => false,
        }
    }

    /// True for a picture that is not the smallest and has lost more than one temporal layer: one that is smaller and
    /// does not stutter is better.
    fn stutters(&self, level: &Level) -> bool {
        let is_alike = |other: &&Level| {
            (other.stream, other.top.spatial) == (level.stream, level.top.spatial)
                && self.wishes.allow(other)
        };
        let others = self.levels.iter().filter(is_alike);
        let highest = others.map(|other| other.top.temporal).max();
        level.size() > 0 && highest.is_some_and(|highest| level.top.temporal + 1 < highest)
    }

    /// The index of the worst level that it may have.
    pub fn worst(&self) -> Option<usize> {
        (0..self.levels.len()).find(|level| self.may_have(*level))
    }

    /// The index of the best level that it may have.
    pub fn best(&self) -> Option<usize> {
        (0..self.levels.len()).rfind(|level| self.may_have(*level))
    }

    /// Share of a level's rate that must be spare for a step up to it.
    fn margin(&self, level: usize) -> f64 {
        let current = self.current.and_then(|current| self.levels.get(current));
        match current.is_some_and(|current| current.size() < self.levels[level].size()) {
            true => LARGER_MARGIN,
            false => STEP_UP_MARGIN,
        }
    }

    fn bitrate(&self, level: usize) -> u64 {
        self.levels[level].bitrate.0
    }
}

/// Why a subscription gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PauseReason {
    /// Its client wants it so.
    Wish,
    /// Nothing is sent by the publisher.
    NoLevel,
    /// Not even the worst level fits.
    NoRoom,
}

/// What a subscription gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grant {
    /// The level with this index.
    Level(usize),
    /// Nothing.
    Paused(PauseReason),
}

impl Grant {
    /// The index of the level, for the next [`Request::current`].
    pub fn level(self) -> Option<usize> {
        match self {
            Self::Level(level) => Some(level),
            Self::Paused(_) => None,
        }
    }
}

/// Divides `budget`; `grants` gets one grant for each request, in their order.
///
/// The sum of what is granted does not exceed the budget, except by audio. If any video has more than its worst
/// level, none is paused for want of room that the difference would have given.
pub fn allocate(budget: Bitrate, requests: &[Request<'_>], grants: &mut Vec<Grant>) {
    grants.clear();
    let mut left = budget.0;
    for request in requests {
        grants.push(match request.best() {
            Some(best) if request.priority == Priority::Audio => {
                left = left.saturating_sub(request.bitrate(best));
                Grant::Level(best)
            }
            Some(_) => Grant::Paused(PauseReason::NoRoom),
            None if request.wishes.paused => Grant::Paused(PauseReason::Wish),
            None => Grant::Paused(PauseReason::NoLevel),
        });
    }
    for priority in Priority::VIDEO {
        for (request, grant) in requests.iter().zip(grants.iter_mut()) {
            if let Some(worst) = request.worst()
                && request.priority == priority
            {
                give(worst, request, grant, &mut left);
            }
        }
    }
    let levels = requests.iter().map(|request| request.levels.len());
    let levels = levels.max().unwrap_or(0).min(LEVELS_MAX);
    for priority in Priority::VIDEO {
        for level in 0..levels {
            for (request, grant) in requests.iter().zip(grants.iter_mut()) {
                // A level that did not fit may be passed over for a better one that costs less.
                let is_more = grant.level().is_some_and(|given| given < level);
                if request.priority == priority && is_more && request.may_have(level) {
                    give(level, request, grant, &mut left);
                }
            }
        }
    }
}

/// Gives a level in place of what was given, if there is room. A better level may cost less, the least of a larger
/// picture than the most of a smaller one: what it costs less is there to be given.
fn give(level: usize, request: &Request<'_>, grant: &mut Grant, left: &mut u64) {
    let has = grant.level().map_or(0, |given| request.bitrate(given));
    let costs = request.bitrate(level);
    let room = left.saturating_add(has);
    let is_kept = request.current.is_some_and(|current| level <= current);
    let margin = match is_kept {
        true => 0,
        false => {
            request.levels[level]
                .bitrate
                .scaled(request.margin(level))
                .0
        }
    };
    if costs <= has || costs.saturating_add(margin) <= room {
        *left = room.saturating_sub(costs);
        *grant = Grant::Level(level);
    }
}

/// What all requests would take at their best: what to probe for
/// ([`crate::congestion::SendEstimator::set_demand`]), the margin of the last step included.
pub fn demand(requests: &[Request<'_>]) -> Bitrate {
    let best = |request: &Request<'_>| request.best().map_or(0, |best| request.bitrate(best));
    let sum = requests.iter().map(best).fold(0, u64::saturating_add);
    Bitrate(sum).scaled(1.0 + LARGER_MARGIN)
}

#[cfg(test)]
mod tests;
