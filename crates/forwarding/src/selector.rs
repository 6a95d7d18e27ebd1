//! Which packets a subscriber gets: [`Selector`].
//!
//! The rule here is the one for a single layer: one source is chosen, and video starts at a key frame. A selector
//! that weighs layers (simulcast by bandwidth, temporal and spatial layers by frame) takes this place; what it must
//! keep is the shape, a [`Verdict`] per packet, and that [`Verdict::Start`] is only ever said at a key frame.

use crate::codec::Codec;
use crate::packet::SourcePacket;
use crate::rtp::Ssrc;

/// Why a packet was not forwarded to a subscriber. Not an error; counted in [`DropCounters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// Another source (or simulcast layer) is chosen, or none.
    NotSelected,
    /// The subscriber is paused.
    Paused,
    /// Video that cannot be decoded before the next key frame.
    WaitingForKeyFrame,
    /// A late packet from before the point where forwarding started; there is no number left for it.
    TooLate,
    /// The subscriber has not negotiated the packet's codec.
    NotNegotiated,
    /// The publisher's padding, without payload.
    Padding,
}

impl DropReason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 6] = [
        Self::NotSelected,
        Self::Paused,
        Self::WaitingForKeyFrame,
        Self::TooLate,
        Self::NotNegotiated,
        Self::Padding,
    ];

    /// Name for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotSelected => "not_selected",
            Self::Paused => "paused",
            Self::WaitingForKeyFrame => "waiting_for_key_frame",
            Self::TooLate => "too_late",
            Self::NotNegotiated => "not_negotiated",
            Self::Padding => "padding",
        }
    }
}

/// How many packets were dropped for each [`DropReason`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropCounters([u64; DropReason::ALL.len()]);

impl DropCounters {
    /// Counts one packet.
    #[inline]
    pub fn count(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }

    /// Packets dropped for `reason`.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// All reasons with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .into_iter()
            .map(|reason| (reason, self.of(reason)))
    }

    /// Adds the counts of another subscriber.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

/// What to do with a packet for one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It continues what the subscriber already gets.
    Forward,
    /// It is the first after a gate or of another source: [`crate::rewriter::Rewriter::start`].
    Start,
    /// It is not for this subscriber.
    Drop(DropReason),
}

/// Decides for one subscriber and one medium, packet by packet.
#[derive(Clone, Debug)]
pub struct Selector {
    /// The source that should be seen.
    target: Option<Ssrc>,
    /// The source that is seen: differs from `target` until the target's key frame.
    current: Option<Ssrc>,
    has_key_frames: bool,
    paused: bool,
}

impl Selector {
    /// A selector without a source, not paused.
    pub fn new(codec: Codec) -> Self {
        Self {
            target: None,
            current: None,
            has_key_frames: codec.has_key_frames(),
            paused: false,
        }
    }

    /// The source that should be seen.
    pub fn target(&self) -> Option<Ssrc> {
        self.target
    }

    /// The source that is seen.
    pub fn current(&self) -> Option<Ssrc> {
        self.current
    }

    /// True if nothing is forwarded by the subscriber's or the application's wish.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// The source that must be asked for a key frame before this subscriber sees it.
    pub fn awaits_key_frame(&self) -> Option<Ssrc> {
        self.target
            .filter(|_| self.has_key_frames && !self.paused && self.current != self.target)
    }

    /// Chooses a source. The one seen so far, if its packets still come, is seen until the new one has a key frame.
    pub fn choose(&mut self, source: Option<Ssrc>) {
        self.target = source;
        if source.is_none() {
            self.current = None;
        }
    }

    /// Stops forwarding.
    pub fn pause(&mut self) {
        self.paused = true;
        self.current = None;
    }

    /// Forwards again, from the next key frame on.
    pub fn resume(&mut self) {
        self.paused = false;
    }

    /// Makes the subscriber wait for a key frame, as after a loss that cannot be repaired.
    pub fn close_gate(&mut self) {
        self.current = None;
    }

    /// Decides about one packet.
    #[inline]
    pub fn select(&mut self, packet: &SourcePacket) -> Verdict {
        let source = Some(packet.ssrc);
        if source == self.current && source == self.target {
            return Verdict::Forward;
        }
        if self.paused {
            return Verdict::Drop(DropReason::Paused);
        }
        if source == self.target {
            if !packet.frame.key_frame {
                return Verdict::Drop(DropReason::WaitingForKeyFrame);
            }
            self.current = source;
            return Verdict::Start;
        }
        if source == self.current {
            Verdict::Forward
        } else {
            Verdict::Drop(DropReason::NotSelected)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{audio, key, video};

    const A: Ssrc = Ssrc(1);
    const B: Ssrc = Ssrc(2);

    fn selector_on(source: Ssrc) -> Selector {
        let mut selector = Selector::new(Codec::Vp8);
        selector.choose(Some(source));
        selector
    }

    #[test]
    fn video_starts_at_a_key_frame() {
        let mut selector = selector_on(A);
        assert_eq!(selector.awaits_key_frame(), Some(A));
        assert_eq!(
            selector.select(&video(A, 1)),
            Verdict::Drop(DropReason::WaitingForKeyFrame)
        );
        assert_eq!(selector.select(&key(A, 2)), Verdict::Start);
        assert_eq!(selector.select(&video(A, 3)), Verdict::Forward);
        assert_eq!(selector.select(&key(A, 4)), Verdict::Forward);
        assert_eq!(selector.awaits_key_frame(), None);
    }

    #[test]
    fn audio_starts_at_once() {
        let mut selector = Selector::new(Codec::Opus);
        assert_eq!(
            selector.select(&audio(A, 1)),
            Verdict::Drop(DropReason::NotSelected)
        );
        selector.choose(Some(A));
        assert_eq!(selector.awaits_key_frame(), None);
        assert_eq!(selector.select(&audio(A, 2)), Verdict::Start);
        assert_eq!(selector.select(&audio(A, 3)), Verdict::Forward);
    }

    #[test]
    fn switch_waits_for_key_frame_and_shows_the_old_source_meanwhile() {
        let mut selector = selector_on(A);
        selector.select(&key(A, 1));
        selector.choose(Some(B));
        assert_eq!(selector.awaits_key_frame(), Some(B));
        assert_eq!(
            selector.select(&video(B, 1)),
            Verdict::Drop(DropReason::WaitingForKeyFrame)
        );
        assert_eq!(selector.select(&video(A, 2)), Verdict::Forward);
        assert_eq!(selector.select(&key(B, 2)), Verdict::Start);
        assert_eq!(
            selector.select(&video(A, 3)),
            Verdict::Drop(DropReason::NotSelected)
        );
        assert_eq!(selector.select(&video(B, 3)), Verdict::Forward);
    }

    #[test]
    fn switching_back_needs_no_key_frame() {
        let mut selector = selector_on(A);
        selector.select(&key(A, 1));
        selector.choose(Some(B));
        selector.choose(Some(A));
        assert_eq!(selector.awaits_key_frame(), None);
        assert_eq!(selector.select(&video(A, 2)), Verdict::Forward);
    }

    #[test]
    fn only_the_chosen_layer_is_forwarded() {
        let mut selector = selector_on(A);
        selector.select(&key(A, 1));
        assert_eq!(
            selector.select(&key(B, 1)),
            Verdict::Drop(DropReason::NotSelected)
        );
    }

    #[test]
    fn resume_waits_for_key_frame() {
        let mut selector = selector_on(A);
        selector.select(&key(A, 1));
        selector.pause();
        assert_eq!(
            selector.select(&key(A, 2)),
            Verdict::Drop(DropReason::Paused)
        );
        assert_eq!(selector.awaits_key_frame(), None);
        selector.resume();
        assert_eq!(selector.awaits_key_frame(), Some(A));
        assert_eq!(
            selector.select(&video(A, 3)),
            Verdict::Drop(DropReason::WaitingForKeyFrame)
        );
        assert_eq!(selector.select(&key(A, 4)), Verdict::Start);
    }

    #[test]
    fn without_a_source_nothing_is_forwarded() {
        let mut selector = selector_on(A);
        selector.select(&key(A, 1));
        selector.choose(None);
        assert_eq!(
            selector.select(&key(A, 2)),
            Verdict::Drop(DropReason::NotSelected)
        );
    }

    #[test]
    fn counters_have_a_place_for_every_reason() {
        let mut drops = DropCounters::default();
        for reason in DropReason::ALL {
            drops.count(reason);
        }
        let mut sum = drops;
        sum.add(&drops);
        assert!(sum.iter().all(|(_, count)| count == 2));
        assert_eq!(sum.of(DropReason::NotNegotiated), 2);
    }
}
