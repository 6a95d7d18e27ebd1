//! Which publishers a participant of a large room gets.
//!
//! Deliberately absent: what the participant wants itself, but for what it gave the highest priority.

use std::collections::BTreeMap;

use media::{MediaKind, VideoPriority};

use super::Kinds;
use super::speakers::Speakers;
use super::state::MemberId;
use crate::Selection;

/// What is held back of each of the streams that one participant watches. Those without an entry are sent.
///
/// Sound goes to those who speak, then to those who spoke last. Pictures go to what the participant gave the
/// highest priority, then by who had the floor last.
pub(super) fn held(
    selection: Selection,
    speakers: &Speakers,
    watched: &BTreeMap<MemberId, VideoPriority>,
) -> BTreeMap<MemberId, Kinds> {
    let mut held: BTreeMap<MemberId, Kinds> = BTreeMap::new();
    let mut hold = |member, kind| {
        let kinds = held.entry(member).or_default();
        *kinds = kinds.with(Kinds::of(Some(kind)));
    };
    if let Some(audio_max) = selection.audio_max {
        let heard = speakers
            .by_voice()
            .filter(|member| watched.contains_key(member));
        for member in heard.skip(audio_max) {
            hold(member, MediaKind::Audio);
        }
    }
    if let Some(video_max) = selection.video_max {
        let is_pinned = |member: &MemberId| watched.get(member) == Some(&VideoPriority::High);
        let pinned = speakers.by_floor().filter(is_pinned);
        let others = speakers
            .by_floor()
            .filter(|member| watched.contains_key(member) && !is_pinned(member));
        for member in pinned.chain(others).skip(video_max) {
            hold(member, MediaKind::Video);
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// 1 to 5 publish; 4, then 2 have spoken, and 5 speaks.
    fn speakers() -> Speakers {
        let mut speakers = Speakers::default();
        for member in 1..=5 {
            speakers.add(MemberId::of(member));
        }
        let mut now = Instant::now();
        for member in [4, 2] {
            speakers.handle_voice(now, MemberId::of(member), true);
            now += Duration::from_secs(2);
            speakers.handle_timeout(now);
            speakers.handle_voice(now, MemberId::of(member), false);
            now += Duration::from_secs(2);
        }
        speakers.handle_voice(now, MemberId::of(5), true);
        speakers
    }

    fn check(
        (audio_max, video_max): (Option<usize>, Option<usize>),
        watched: &[u64],
        pinned: &[u64],
        (audio, video): (&[u64], &[u64]),
    ) {
        let priority = |member| match pinned.contains(member) {
            true => VideoPriority::High,
            false => VideoPriority::Normal,
        };
        let watched = watched
            .iter()
            .map(|member| (MemberId::of(*member), priority(member)))
            .collect();
        let selection = Selection {
            audio_max,
            video_max,
        };
        let held = held(selection, &speakers(), &watched);
        let of = |kind| -> Vec<_> {
            let held = held.iter().filter(|(_, kinds)| kinds.contains(kind));
            held.map(|(member, _)| *member).collect()
        };
        let members = |of: &[u64]| of.iter().copied().map(MemberId::of).collect::<Vec<_>>();
        assert_eq!(of(MediaKind::Audio), members(audio));
        assert_eq!(of(MediaKind::Video), members(video));
    }

    #[test]
    fn the_best_are_sent() {
        check((None, None), &[1, 2, 3, 4, 5], &[], (&[], &[]));
        check((Some(5), Some(5)), &[1, 2, 3, 4, 5], &[], (&[], &[]));
        // Order of the floor: 2, 4, 1, 3, 5. Order of the voice: 5, 2, 4.
        check(
            (Some(2), Some(2)),
            &[1, 2, 3, 4, 5],
            &[],
            (&[4], &[1, 3, 5]),
        );
        check(
            (Some(0), Some(0)),
            &[1, 2, 4, 5],
            &[],
            (&[2, 4, 5], &[1, 2, 4, 5]),
        );
    }

    #[test]
    fn places_are_for_what_is_watched() {
        check((Some(1), Some(2)), &[1, 3, 4], &[], (&[], &[3]));
    }

    #[test]
    fn who_is_pinned_takes_a_place() {
        check((None, Some(2)), &[1, 2, 3, 4, 5], &[3], (&[], &[1, 4, 5]));
        check(
            (None, Some(2)),
            &[1, 2, 3, 4, 5],
            &[1, 3, 5],
            (&[], &[2, 4, 5]),
        );
    }
}
