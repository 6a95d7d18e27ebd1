//! Which packets a subscriber gets: [`Selector`].
//!
//! It is told a [`Target`]: a source, which with simulcast is one of several, and a limit to the layers within it. It
//! gets there as fast as a decoder can follow: another source from its key frame on, more layers from a switching point
//! on, fewer layers at the next picture. On the way down to a smaller source the one still seen is cut to its base
//! layer. Deliberately absent: the choice of the target, which is [`crate::allocation`]'s.
//!
//! The answer is a [`Verdict`] per packet; [`Verdict::Start`] is only ever said at a key frame.

mod layers;

use layers::LayerGate;

use crate::codec::{Codec, LayerBounds, LayerId};
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
    /// A layer above those that the subscriber gets.
    LayerLimit,
}

impl DropReason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 7] = [
        Self::NotSelected,
        Self::Paused,
        Self::WaitingForKeyFrame,
        Self::TooLate,
        Self::NotNegotiated,
        Self::Padding,
        Self::LayerLimit,
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
            Self::LayerLimit => "layer_limit",
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
    /// The same, but layers are left out: [`Selector::admit`] decides if the packet is in order.
    Sift,
    /// It is the first after a gate or of another source: [`crate::rewriter::Rewriter::start`].
    Start,
    /// It is not for this subscriber.
    Drop(DropReason),
}

/// What a subscriber should see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The source, with simulcast one of several.
    pub source: Ssrc,
    /// Orders the sources of one publisher by their rate, lowest first; 0 where there is one.
    pub rank: u8,
    /// The highest layer within the source; [`LayerId::HIGHEST`] for all.
    pub limit: LayerId,
}

/// Decides for one subscriber and one medium, packet by packet.
#[derive(Clone, Debug)]
pub struct Selector {
    /// The source that should be seen.
    target: Option<Ssrc>,
    target_rank: u8,
    target_limit: LayerId,
    /// The source that is seen: differs from `target` until the target's key frame.
    current: Option<Ssrc>,
    current_rank: u8,
    current_limit: LayerId,
    /// Layers of `current`.
    gate: LayerGate,
    has_key_frames: bool,
    paused: bool,
}

impl Selector {
    /// A selector without a source, not paused.
    pub fn new(codec: Codec) -> Self {
        Self {
            target: None,
            target_rank: 0,
            target_limit: LayerId::HIGHEST,
            current: None,
            current_rank: 0,
            current_limit: LayerId::HIGHEST,
            gate: LayerGate::OPEN,
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

    /// The highest layer within the target that should be seen.
    pub fn limit(&self) -> LayerId {
        self.target_limit
    }

    /// The layers of the current source that are seen.
    #[inline]
    pub fn bounds(&self) -> LayerBounds {
        self.gate.bounds()
    }

    /// True if what is seen is what should be, layers included.
    pub fn has_arrived(&self) -> bool {
        self.current == self.target && self.gate.has_arrived()
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

    /// The source that should be asked for a key frame so that this subscriber sees more of its spatial layers: few
    /// streams have another point to switch up to them. Temporal layers are never worth one, their points come by
    /// themselves.
    pub fn wants_spatial_layer(&self) -> Option<Ssrc> {
        let is_below = |spatial| self.gate.bounds().temporal(spatial).is_none();
        self.target.filter(|_| {
            !self.paused
                && self.current == self.target
                && !self.gate.is_open()
                && is_below(self.gate.limit().spatial)
        })
    }

    /// True if something is seen that need not make way for something smaller: a key frame of the target is not urgent.
    pub fn is_patient(&self) -> bool {
        self.current.is_some() && self.target_rank >= self.current_rank
    }

    /// Chooses a source with all its layers. The one seen so far, if its packets still come, is seen until the new one
    /// has a key frame.
    pub fn choose(&mut self, source: Option<Ssrc>) {
        let rank = self.target_rank;
        self.aim(source.map(|source| Target {
            source,
            rank,
            limit: LayerId::HIGHEST,
        }));
    }

    /// Chooses a source and the layers within it.
    pub fn aim(&mut self, target: Option<Target>) {
        let Some(Target {
            source,
            rank,
            limit,
        }) = target
        else {
            self.target = None;
            self.current = None;
            return;
        };
        self.target = Some(source);
        self.target_rank = rank;
        self.target_limit = limit;
        if self.current == self.target {
            self.current_rank = rank;
            self.current_limit = limit;
        }
        self.gate
            .set_limit(match self.current.is_some() && rank < self.current_rank {
                true => LayerId::BASE,
                false => self.current_limit,
            });
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

    /// Decides about one packet.
    #[inline]
    pub fn select(&mut self, packet: &SourcePacket) -> Verdict {
        let source = Some(packet.ssrc);
        if source == self.current && source == self.target {
            return self.continued();
        }
        if self.paused {
            return Verdict::Drop(DropReason::Paused);
        }
        if source == self.target {
            if !packet.frame.key_frame {
                return Verdict::Drop(DropReason::WaitingForKeyFrame);
            }
            self.current = source;
            self.current_rank = self.target_rank;
            self.current_limit = self.target_limit;
            self.gate.start(packet, self.target_limit);
            return Verdict::Start;
        }
        if source == self.current {
            self.continued()
        } else {
            Verdict::Drop(DropReason::NotSelected)
        }
    }

    /// After [`Verdict::Sift`], for a packet in order: true if its layer is forwarded. [`Self::bounds`] may be others
    /// afterwards, from this packet on.
    #[inline]
    pub fn admit(&mut self, packet: &SourcePacket) -> bool {
        self.gate.admit(packet)
    }

    /// After [`Verdict::Sift`], for a packet that is not in order.
    pub fn handle_late(&mut self, packet: &SourcePacket) {
        self.gate.handle_late(packet);
    }

    #[inline]
    fn continued(&self) -> Verdict {
        match self.gate.is_open() {
            true => Verdict::Forward,
            false => Verdict::Sift,
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

    fn temporal(ssrc: Ssrc, seq: u64, key_frame: bool, temporal: u8, sync: bool) -> SourcePacket {
        let layer = temporal << 6 | u8::from(sync) << 5;
        let payload = [0x90, 0x20, layer, u8::from(!key_frame)];
        SourcePacket {
            frame: crate::codec::inspect(Codec::Vp8, &payload),
            ..video(ssrc, seq)
        }
    }

    fn target(source: Ssrc, rank: u8, limit: LayerId) -> Option<Target> {
        Some(Target {
            source,
            rank,
            limit,
        })
    }

    #[test]
    fn way_down_to_a_smaller_source_cuts_the_one_seen_to_its_base_layer() {
        let mut selector = selector_on(A);
        selector.aim(target(A, 2, LayerId::HIGHEST));
        selector.select(&temporal(A, 1, true, 0, false));
        assert_eq!(
            selector.select(&temporal(A, 2, false, 2, true)),
            Verdict::Forward
        );
        selector.aim(target(B, 0, LayerId::HIGHEST));
        let upper = temporal(A, 3, false, 2, true);
        assert_eq!(selector.select(&upper), Verdict::Sift);
        assert!(!selector.admit(&upper));
        assert!(selector.admit(&temporal(A, 4, false, 0, false)));
        // Back again: its layers return at their switching points.
        selector.aim(target(A, 2, LayerId::HIGHEST));
        assert!(!selector.admit(&temporal(A, 5, false, 1, false)));
        assert!(selector.admit(&temporal(A, 6, false, 1, true)));
        assert!(!selector.has_arrived());
        // A larger source changes nothing on the one seen.
        selector.aim(target(B, 3, LayerId::HIGHEST));
        assert!(selector.admit(&temporal(A, 7, false, 1, false)));
        let key = temporal(B, 1, true, 0, false);
        assert_eq!(selector.select(&key), Verdict::Start);
        assert!(selector.has_arrived());
        assert_eq!(
            selector.select(&temporal(B, 2, false, 2, false)),
            Verdict::Forward
        );
    }

    #[test]
    fn upper_spatial_layer_wants_a_key_frame_only_where_there_is_one() {
        let mut selector = selector_on(A);
        selector.aim(target(A, 0, LayerId::BASE));
        selector.select(&key(A, 1));
        selector.aim(target(A, 0, LayerId::HIGHEST));
        assert_eq!(selector.wants_spatial_layer(), Some(A));
        // No layers in this stream.
        assert!(selector.admit(&video(A, 2)));
        assert_eq!(selector.wants_spatial_layer(), None);
        assert_eq!(selector.select(&video(A, 3)), Verdict::Forward);
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
