//! Who has the floor, and in which order the others had it.
//!
//! Read [`Speakers`] first. The media server says when somebody's voice sets in and ceases; what counts here is who
//! goes on. Deliberately absent: audio levels, and any clock.

use std::time::{Duration, Instant};

use super::state::MemberId;

/// Too low: a cough makes somebody the main speaker. Too high: whoever answers is seen late.
const FLOOR_AFTER: Duration = Duration::from_millis(500);
/// How long who has the floor may pause before another's voice takes it. Too low: pictures jump to and fro
/// between sentences. Too high: after a question, the one who asked is still shown.
const FLOOR_KEPT: Duration = Duration::from_secs(1);

/// The publishers of a room, whoever had the floor last first.
///
/// Who has the floor keeps it as long as they speak. When they are silent, it goes to the one next in order whose
/// voice has lasted. Voices that last while the floor is taken queue up behind it. Those who never
/// spoke stay behind all others, in the order in which they began to publish.
#[derive(Debug, Default)]
pub(super) struct Speakers {
    order: Vec<Speaker>,
}

#[derive(Debug)]
struct Speaker {
    member: MemberId,
    voice: Voice,
    /// Its voice has lasted at some time.
    has_spoken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voice {
    /// Not heard yet; perhaps its client does not tell.
    Unknown,
    Speaking {
        since: Instant,
        /// It has lasted, and had its effect on the order.
        counts: bool,
    },
    Silent {
        since: Instant,
    },
}

impl Speakers {
    /// Somebody begins to publish.
    pub(super) fn add(&mut self, member: MemberId) {
        self.remove(member);
        self.order.push(Speaker {
            member,
            voice: Voice::Unknown,
            has_spoken: false,
        });
    }

    /// Somebody ceases to publish.
    pub(super) fn remove(&mut self, member: MemberId) {
        self.order.retain(|speaker| speaker.member != member);
    }

    /// A voice sets in or ceases.
    pub(super) fn handle_voice(&mut self, now: Instant, member: MemberId, speaking: bool) {
        let Some(speaker) = self.order.iter_mut().find(|other| other.member == member) else {
            return;
        };
        match (speaker.voice, speaking) {
            (Voice::Speaking { .. }, true) | (Voice::Silent { .. } | Voice::Unknown, false) => {}
            (Voice::Silent { .. } | Voice::Unknown, true) => {
                speaker.voice = Voice::Speaking {
                    since: now,
                    counts: false,
                };
            }
            (Voice::Speaking { .. }, false) => speaker.voice = Voice::Silent { since: now },
        }
        self.handle_timeout(now);
    }

    /// The instant of [`poll_timeout`](Self::poll_timeout) has come.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.give_floor(now);
        while let Some(at) = self.next_lasting(now) {
            let mut speaker = self.order.remove(at);
            speaker.has_spoken = true;
            if let Voice::Speaking { counts, .. } = &mut speaker.voice {
                *counts = true;
            }
            self.order.insert(at.min(1), speaker);
            self.give_floor(now);
        }
    }

    /// When time alone changes the order.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let lasting = self.order.iter().filter_map(Speaker::lasts_at);
        let awaited = self.order.iter().any(Speaker::counts);
        let free = self.floor_free_at().filter(|_| awaited);
        lasting.chain(free).min()
    }

    /// Who has the floor; `None` if nobody spoke yet.
    pub(super) fn dominant(&self) -> Option<MemberId> {
        let first = self.order.first()?;
        first.has_spoken.then_some(first.member)
    }

    /// Who speaks, whether it lasts or not.
    pub(super) fn speaking(&self) -> impl Iterator<Item = MemberId> {
        let speaking = self.order.iter().filter(|speaker| speaker.is_speaking());
        speaking.map(|speaker| speaker.member)
    }

    /// All publishers by how much their pictures matter.
    pub(super) fn by_floor(&self) -> impl Iterator<Item = MemberId> {
        self.order.iter().map(|speaker| speaker.member)
    }

    /// Publishers by how much their sound matters: whoever speaks goes first, so that no syllable is lost. Those
    /// that were never heard are left out, for their clients may not tell.
    pub(super) fn by_voice(&self) -> impl Iterator<Item = MemberId> {
        let silent = self
            .order
            .iter()
            .filter(|speaker| matches!(speaker.voice, Voice::Silent { .. }));
        self.speaking().chain(silent.map(|speaker| speaker.member))
    }

    /// The earliest voice that has lasted without having counted.
    fn next_lasting(&self, now: Instant) -> Option<usize> {
        let lasting = self.order.iter().enumerate().filter_map(|(at, speaker)| {
            let since = speaker.lasts_at().filter(|lasts_at| *lasts_at <= now)?;
            Some((since, at))
        });
        lasting.min().map(|(_, at)| at)
    }

    fn give_floor(&mut self, now: Instant) {
        if self.floor_free_at().is_some_and(|at| at <= now)
            && let Some(next) = self.order.iter().position(Speaker::counts)
        {
            let speaker = self.order.remove(next);
            self.order.insert(0, speaker);
        }
    }

    /// When the floor may go to somebody else; `None` while it is taken.
    fn floor_free_at(&self) -> Option<Instant> {
        let (first, others) = self.order.split_first()?;
        match first.voice {
            // It is nobody's: whoever waits has waited long enough.
            _ if !first.has_spoken => others.iter().find_map(Speaker::lasted_at),
            Voice::Silent { since } => Some(since + FLOOR_KEPT),
            Voice::Unknown | Voice::Speaking { .. } => None,
        }
    }
}

impl Speaker {
    fn is_speaking(&self) -> bool {
        matches!(self.voice, Voice::Speaking { .. })
    }

    fn counts(&self) -> bool {
        matches!(self.voice, Voice::Speaking { counts: true, .. })
    }

    /// When the voice will count, if it does not.
    fn lasts_at(&self) -> Option<Instant> {
        match self.voice {
            Voice::Speaking {
                since,
                counts: false,
            } => Some(since + FLOOR_AFTER),
            _ => None,
        }
    }

    /// When the voice began to count, if it does.
    fn lasted_at(&self) -> Option<Instant> {
        match self.voice {
            Voice::Speaking {
                since,
                counts: true,
            } => Some(since + FLOOR_AFTER),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: u64 = 1;
    const BEN: u64 = 2;
    const CAT: u64 = 3;

    /// Plays voices, each at a time in milliseconds, and looks at times after them.
    struct Play {
        start: Instant,
        speakers: Speakers,
    }

    impl Play {
        fn new() -> Self {
            let mut speakers = Speakers::default();
            for member in [ANN, BEN, CAT] {
                speakers.add(MemberId::of(member));
            }
            Self {
                start: Instant::now(),
                speakers,
            }
        }

        fn at(&mut self, ms: u64) -> Instant {
            let now = self.start + Duration::from_millis(ms);
            while let Some(due) = self.speakers.poll_timeout().filter(|due| *due <= now) {
                self.speakers.handle_timeout(due);
            }
            now
        }

        fn voice(&mut self, ms: u64, member: u64, speaking: bool) {
            let now = self.at(ms);
            self.speakers
                .handle_voice(now, MemberId::of(member), speaking);
        }

        fn expect(&mut self, ms: u64, dominant: Option<u64>, order: [u64; 3]) {
            self.at(ms);
            let order = order.map(MemberId::of);
            assert_eq!(self.speakers.dominant(), dominant.map(MemberId::of), "{ms}");
            assert_eq!(self.speakers.by_floor().collect::<Vec<_>>(), order, "{ms}");
        }
    }

    #[test]
    fn a_voice_that_lasts_gets_the_floor() {
        let mut play = Play::new();
        play.expect(0, None, [ANN, BEN, CAT]);
        play.voice(100, BEN, true);
        play.expect(599, None, [ANN, BEN, CAT]);
        play.expect(600, Some(BEN), [BEN, ANN, CAT]);
        play.voice(5_000, BEN, false);
        play.expect(60_000, Some(BEN), [BEN, ANN, CAT]);
        assert_eq!(play.speakers.poll_timeout(), None);
    }

    #[test]
    fn a_cough_changes_nothing() {
        let mut play = Play::new();
        play.voice(0, ANN, true);
        play.voice(300, ANN, false);
        play.expect(10_000, None, [ANN, BEN, CAT]);
        play.voice(20_000, CAT, true);
        play.expect(20_500, Some(CAT), [CAT, ANN, BEN]);
    }

    #[test]
    fn who_speaks_keeps_the_floor() {
        let mut play = Play::new();
        play.voice(0, ANN, true);
        play.voice(1_000, BEN, true);
        play.voice(2_000, CAT, true);
        play.expect(9_000, Some(ANN), [ANN, CAT, BEN]);
        // A pause between two sentences.
        play.voice(9_000, ANN, false);
        play.voice(9_900, ANN, true);
        play.expect(10_200, Some(ANN), [ANN, CAT, BEN]);
        play.voice(10_500, ANN, false);
        play.expect(11_499, Some(ANN), [ANN, CAT, BEN]);
        play.expect(11_500, Some(CAT), [CAT, ANN, BEN]);
    }

    #[test]
    fn the_floor_of_who_leaves_is_free() {
        let mut play = Play::new();
        play.voice(0, ANN, true);
        play.voice(100, BEN, true);
        play.at(1_000);
        play.speakers.remove(MemberId::of(ANN));
        let now = play.at(1_000);
        play.speakers.handle_timeout(now);
        assert_eq!(play.speakers.dominant(), Some(MemberId::of(BEN)));
        play.speakers.remove(MemberId::of(BEN));
        assert_eq!(play.speakers.dominant(), None);
    }

    #[test]
    fn sound_goes_by_voice_at_once() {
        let mut play = Play::new();
        play.voice(0, ANN, true);
        play.voice(2_000, BEN, true);
        play.voice(2_100, ANN, false);
        let by_voice: Vec<_> = play.speakers.by_voice().collect();
        assert_eq!(by_voice, [BEN, ANN].map(MemberId::of));
    }
}
