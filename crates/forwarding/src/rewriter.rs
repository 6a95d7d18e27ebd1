//! One continuous stream per subscriber out of changing sources: [`Rewriter`].
//!
//! The outgoing numbers are the source's plus an offset. An offset holds for a *segment*; a segment ends where the
//! source changes, where forwarding pauses, where we leave packets out, or where other layers are forwarded. Past
//! segments are kept for late packets and retransmissions. What is deliberately absent: a table with an entry per
//! packet.
//!
//! A number is given to a place in the source's sequence before it is known what belongs there. If a late packet turns
//! out to be of a layer that was left out, it fills its place without payload ([`Rewritten::empty`]): the receiver
//! neither misses it nor decodes it.
//!
//! Picture numbers differ by codec in what a gap means. VP8's picture ids say "a frame is missing", so they close up
//! over frames left out. VP9's picture ids and the frame numbers of dependency descriptors are what references are
//! counted in, so they only shift where the source changes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::codec::dependency::DependencyPatch;
use crate::codec::{Follower, LayerBounds, PictureId, Vp8Patch};
use crate::packet::SourcePacket;
use crate::rtp::{ClockRate, ExtendedSeq, RtpTime, Seq, Ssrc};

/// Past segments kept: two seconds of a stream of which every second frame is left out, longer than histories. Too low
/// → late packets and NACKs find nothing; too high → 72 bytes each, searched for each late packet.
const PAST_SEGMENTS_MAX: usize = 64;

/// Largest gap of a source that the subscriber sees as loss, packets. A larger one is a source that restarted its
/// numbering; the subscriber sees one lost packet instead. Too low → bursts of loss are hidden from NACK; too high →
/// receivers reset (libwebrtc does at half the number space) or ask for thousands of packets nobody has.
const SOURCE_GAP_MAX: u64 = 3_000;

/// How far a source's own clock may run ahead of ours when its forwarding resumes. Too low → resampled clocks break
/// the timestamp continuity of one source; too high → a source that jumps takes the receiver's jitter buffer along.
const CLOCK_SLACK: Duration = Duration::from_secs(10);

/// By how much a source's aligned timestamps may be behind what was sent when it begins: its first picture is then one
/// tick after. Too low → a step that is seen, where streams of one camera do not arrive at one time; too high → one that
/// was late for another reason stays late.
const BEHIND_MAX: Duration = Duration::from_millis(200);

/// What changes on the way to one subscriber. The payload's length stays, unless it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// Outgoing sequence number; also the SRTP packet index.
    pub seq: ExtendedSeq,
    /// Outgoing timestamp.
    pub timestamp: RtpTime,
    /// Outgoing marker bit: set where the last layer that is forwarded ends a picture.
    pub marker: bool,
    /// The packet goes out without payload (and without dependency descriptor): it only fills its place.
    pub empty: bool,
    /// New picture numbers of VP8 or VP9; `None` if the payload goes out as it is.
    pub vp8: Option<Vp8Patch>,
    /// What to write into the dependency descriptor, if the packet came with one that could be read.
    pub dependency: Option<DependencyPatch>,
}

/// Where an outgoing packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The source it was forwarded from, whose history has it.
    pub ssrc: Ssrc,
    /// Its number there.
    pub seq: ExtendedSeq,
}

/// Gives one subscriber's stream its numbers: sequence, timestamp, VP8 picture id and TL0PICIDX.
///
/// Gaps of the source stay gaps, so that the receiver sees and repairs loss. Packets we leave out on purpose
/// ([`Self::leave_out`], or a pause followed by [`Self::start`]) leave no gap.
#[derive(Clone, Debug)]
pub struct Rewriter {
    clock_rate: ClockRate,
    current: Option<Segment>,
    /// Highest outgoing packet; before the first: what it would be.
    head: Head,
    past: VecDeque<Segment>,
    /// Timestamp offset to use at the next start.
    aligned: Option<u32>,
}

/// The frontier of the outgoing stream.
#[derive(Clone, Copy, Debug)]
struct Head {
    next_seq: u64,
    timestamp: RtpTime,
    sent_at: Option<Instant>,
    picture_id: Option<u16>,
    tl0_picture_index: u8,
    frame_number: Option<u16>,
}

/// Constant offsets for the source numbers `first..end`; all offsets wrap.
#[derive(Clone, Copy, Debug)]
struct Segment {
    ssrc: Ssrc,
    first: u64,
    /// One past the highest source number that got an outgoing number.
    end: u64,
    seq_offset: u64,
    timestamp_offset: u32,
    picture_id_offset: u16,
    tl0_offset: u8,
    frame_number_offset: u16,
    /// The layers that are forwarded.
    bounds: LayerBounds,
    /// Picture with which other layers began.
    turn: Option<LayerTurn>,
    /// Picture id of the frame left out last, so that a frame of several packets is closed once.
    left_out_picture: Option<u16>,
}

const _: () = assert!(size_of::<Segment>() <= 72);

/// The picture with which other layers began, of which the first packets are missing at the end of a segment.
#[derive(Clone, Copy, Debug)]
struct LayerTurn {
    timestamp: RtpTime,
    bounds: LayerBounds,
    /// What had a number before the turn keeps what it is, whatever timestamp its sender gave it.
    from: u64,
}

impl LayerTurn {
    fn covers(&self, packet: &SourcePacket) -> bool {
        packet.timestamp == self.timestamp && packet.seq.0 >= self.from
    }
}

impl Segment {
    fn contains(&self, ssrc: Ssrc, seq: u64) -> bool {
        self.ssrc == ssrc && (self.first..self.end).contains(&seq)
    }

    #[inline]
    fn apply(&self, packet: &SourcePacket) -> Rewritten {
        let is_whole = self.bounds == LayerBounds::UNLIMITED && self.turn.is_none();
        let (marker, empty) = match is_whole {
            true => (ends_picture(packet), packet.frame.empty),
            false => self.marker_and_empty(packet),
        };
        Rewritten {
            seq: ExtendedSeq(packet.seq.0.wrapping_add(self.seq_offset)),
            timestamp: packet.timestamp.wrapping_add(self.timestamp_offset),
            marker,
            empty,
            vp8: self.patch(packet),
            dependency: self.dependency(packet),
        }
    }

    fn marker_and_empty(&self, packet: &SourcePacket) -> (bool, bool) {
        let frame = &packet.frame;
        let Some(layer) = frame.layer() else {
            return (packet.marker, frame.empty);
        };
        let bounds = match self.turn {
            Some(turn) if turn.covers(packet) => self.bounds.and(turn.bounds),
            _ => self.bounds,
        };
        if !bounds.admit(layer) {
            return (false, true);
        }
        let is_left_out =
            |follower| matches!(follower, Follower::Layer(next) if !bounds.admit(next));
        let is_last =
            || bounds.top(layer.temporal) == Some(layer.spatial) || is_left_out(frame.follower);
        let is_cut = frame.ends_layer_frame() && is_last();
        (ends_picture(packet) || is_cut, false)
    }

    #[inline]
    fn dependency(&self, packet: &SourcePacket) -> Option<DependencyPatch> {
        let dependency = packet.frame.dependency.as_ref()?;
        Some(DependencyPatch {
            frame_number: dependency
                .frame_number
                .wrapping_add(self.frame_number_offset),
            bounds: self.bounds,
        })
    }

    #[inline]
    fn patch(&self, packet: &SourcePacket) -> Option<Vp8Patch> {
        if self.picture_id_offset == 0 && self.tl0_offset == 0 {
            return None;
        }
        let (picture_id, tl0_picture_index) = picture_numbers(packet);
        let picture_id =
            picture_id.map(|id| id.with_value(id.value.wrapping_add(self.picture_id_offset)));
        let tl0_picture_index =
            tl0_picture_index.map(|(value, at)| (value.wrapping_add(self.tl0_offset), at));
        if picture_id.is_none() && tl0_picture_index.is_none() {
            return None;
        }
        Some(Vp8Patch {
            picture_id,
            tl0_picture_index,
        })
    }
}

/// True for the last packet of a picture, whether its sender knew or not.
#[inline]
fn ends_picture(packet: &SourcePacket) -> bool {
    packet.marker || packet.frame.follower == Follower::Picture
}

/// Picture id and TL0PICIDX of VP8 or VP9, and where they are.
#[inline]
fn picture_numbers(packet: &SourcePacket) -> (Option<PictureId>, Option<(u8, u8)>) {
    match (&packet.frame.vp8, &packet.frame.vp9) {
        (Some(vp8), _) => (vp8.picture_id, vp8.tl0_picture_index),
        (None, Some(vp9)) => (vp9.picture_id, vp9.tl0_picture_index),
        (None, None) => (None, None),
    }
}

impl Rewriter {
    /// A stream that has sent nothing. `first_seq` should be random below 2^15 (a receiver that misses the first
    /// packets must not misjudge the roll-over count, RFC 3711 section 3.3.1), `first_timestamp` random.
    pub fn new(clock_rate: ClockRate, first_seq: Seq, first_timestamp: RtpTime) -> Self {
        Self {
            clock_rate,
            current: None,
            head: Head {
                next_seq: u64::from(first_seq.0),
                timestamp: first_timestamp,
                sent_at: None,
                picture_id: None,
                tl0_picture_index: 0,
                frame_number: None,
            },
            past: VecDeque::new(),
            aligned: None,
        }
    }

    /// Counts time by another clock from here on: that of the codec which is forwarded.
    pub fn set_clock_rate(&mut self, clock_rate: ClockRate) {
        self.clock_rate = clock_rate;
    }

    /// Outgoing timestamp minus source timestamp (modulo 2^32) of the source forwarded last.
    pub fn timestamp_offset(&self) -> Option<u32> {
        self.current.map(|segment| segment.timestamp_offset)
    }

    /// The source forwarded last, and when.
    pub fn sent_last(&self) -> Option<(Ssrc, Instant)> {
        Some((self.current?.ssrc, self.head.sent_at?))
    }

    /// The number that the next packet in order gets.
    pub fn next_seq(&self) -> ExtendedSeq {
        ExtendedSeq(self.head.next_seq)
    }

    /// Timestamp offset for the next [`Self::start`], instead of one from elapsed time: for two sources of one clock,
    /// as simulcast layers are, [`crate::send::aligned_offset`] computes it from their sender reports. Not used if
    /// it would make timestamps go back.
    pub fn align(&mut self, timestamp_offset: u32) {
        self.aligned = Some(timestamp_offset);
    }

    /// The layers of the current source that are forwarded.
    #[inline]
    pub fn bounds(&self) -> LayerBounds {
        self.current
            .as_ref()
            .map_or(LayerBounds::UNLIMITED, |segment| segment.bounds)
    }

    /// True if a packet is no further than what the current source has sent already, or of another source.
    #[inline]
    pub fn is_late(&self, packet: &SourcePacket) -> bool {
        self.current
            .as_ref()
            .is_none_or(|segment| packet.ssrc != segment.ssrc || packet.seq.0 < segment.end)
    }

    /// Starts or resumes forwarding with this packet, from the same source or another one: the numbers continue
    /// without a gap, the timestamp advances by the time that has passed. All layers are forwarded.
    pub fn start(&mut self, now: Instant, packet: &SourcePacket) -> Rewritten {
        self.start_with(now, packet, LayerBounds::UNLIMITED)
    }

    /// As [`Self::start`], with some of the layers.
    pub fn start_with(
        &mut self,
        now: Instant,
        packet: &SourcePacket,
        bounds: LayerBounds,
    ) -> Rewritten {
        let seq_offset = self.head.next_seq.wrapping_sub(packet.seq.0);
        let timestamp_offset = self.timestamp_offset_at_start(now, packet);
        let (picture_id_offset, tl0_offset) = self.picture_offsets_at_start(packet);
        self.open(Segment {
            ssrc: packet.ssrc,
            first: packet.seq.0,
            end: packet.seq.0,
            seq_offset,
            timestamp_offset,
            picture_id_offset,
            tl0_offset,
            frame_number_offset: self.frame_number_offset_at_start(packet),
            bounds,
            turn: None,
            left_out_picture: None,
        });
        self.advance(now, packet)
    }

    /// Forwards other layers of the current source from this packet on, which is not [late](Self::is_late). What is
    /// missing before it keeps the old ones.
    pub fn rebound(&mut self, packet: &SourcePacket, bounds: LayerBounds) {
        let Some(segment) = self.current.as_mut() else {
            return;
        };
        let mut next = Segment {
            first: packet.seq.0,
            end: packet.seq.0,
            bounds,
            ..*segment
        };
        if packet.seq.0.saturating_sub(segment.end) > SOURCE_GAP_MAX {
            self.head.next_seq += 1;
            next.seq_offset = self.head.next_seq.wrapping_sub(next.first);
        } else {
            segment.turn = Some(LayerTurn {
                timestamp: packet.timestamp,
                bounds,
                from: segment.end,
            });
            segment.end = segment.end.max(packet.seq.0);
            self.head.next_seq = packet.seq.0.wrapping_add(next.seq_offset);
        }
        self.open(next);
    }

    /// Numbers for a packet that continues the source forwarded last, in order or late; `None` for a late packet
    /// from before the start.
    #[inline]
    pub fn rewrite(&mut self, now: Instant, packet: &SourcePacket) -> Option<Rewritten> {
        let segment = self.current.as_ref()?;
        if packet.ssrc != segment.ssrc || packet.seq.0 < segment.end {
            return self.replay(packet);
        }
        if packet.seq.0 - segment.end > SOURCE_GAP_MAX {
            let seq_offset = (self.head.next_seq + 1).wrapping_sub(packet.seq.0);
            self.open(Segment {
                first: packet.seq.0,
                end: packet.seq.0,
                seq_offset,
                ..*segment
            });
        }
        Some(self.advance(now, packet))
    }

    /// True if it is not known yet whether the latest packet, which was [rewritten](Self::rewrite) and ends a frame, is
    /// the last of its picture that is forwarded: layers above may come or not.
    #[inline]
    pub fn is_open_ended(&self, packet: &SourcePacket) -> bool {
        let frame = &packet.frame;
        let is_open = || frame.follower == Follower::Unknown && frame.ends_layer_frame();
        if packet.marker || !is_open() || frame.layer().is_none() {
            return false;
        }
        self.current.as_ref().is_some_and(|segment| {
            let is_newest = packet.ssrc == segment.ssrc && packet.seq.0 + 1 == segment.end;
            is_newest && !segment.apply(packet).marker
        })
    }

    /// The numbers that a packet has had, or would have had if it had come in time: for retransmissions. The marker of the
    /// last packet of a frame may have changed with what follows it.
    pub fn replay(&self, packet: &SourcePacket) -> Option<Rewritten> {
        let covers = |segment: &&Segment| segment.contains(packet.ssrc, packet.seq.0);
        let segment = self.segments().find(covers)?;
        Some(segment.apply(packet))
    }

    /// Keeps a packet of the current source from the subscriber on purpose: later ones close up. False if that is
    /// not possible, for a late packet: its number is given, and stays a gap unless it is sent.
    pub fn leave_out(&mut self, packet: &SourcePacket) -> bool {
        let Some(segment) = self.current.as_ref() else {
            return false;
        };
        if packet.ssrc != segment.ssrc || packet.seq.0 < segment.end {
            return false;
        }
        let mut next = *segment;
        if let Some(id) = packet.frame.vp8.and_then(|vp8| vp8.picture_id)
            && next.left_out_picture != Some(id.value)
            && self.head.picture_id != Some(id.value.wrapping_add(next.picture_id_offset))
        {
            next.left_out_picture = Some(id.value);
            next.picture_id_offset = next.picture_id_offset.wrapping_sub(1);
        }
        next.first = packet.seq.0 + 1;
        next.end = next.first;
        if packet.seq.0 - segment.end > SOURCE_GAP_MAX {
            self.head.next_seq += 1;
        } else {
            // Numbers missing before this one may still come late: they keep the old offset.
            self.head.next_seq = packet.seq.0.wrapping_add(segment.seq_offset);
            self.current = Some(Segment {
                end: packet.seq.0,
                ..*segment
            });
        }
        next.seq_offset = self.head.next_seq.wrapping_sub(next.first);
        self.open(next);
        true
    }

    /// Where the outgoing packet came from: for a NACK. `None` if it was never sent or its segment is forgotten.
    /// A packet that never arrived from the source has an origin too.
    pub fn unmap(&self, seq: Seq) -> Option<Origin> {
        let highest = self.head.next_seq.checked_sub(1)?;
        let back = Seq(highest as u16).steps_from(seq);
        let out = highest.checked_sub(u64::from(back))?;
        self.segments().find_map(|segment| {
            let source = out.wrapping_sub(segment.seq_offset);
            (segment.first..segment.end)
                .contains(&source)
                .then_some(Origin {
                    ssrc: segment.ssrc,
                    seq: ExtendedSeq(source),
                })
        })
    }

    /// Newest first.
    fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.current.iter().chain(self.past.iter().rev())
    }

    fn open(&mut self, next: Segment) {
        if let Some(past) = self.current.replace(next)
            && past.first < past.end
        {
            if self.past.len() == PAST_SEGMENTS_MAX {
                self.past.pop_front();
            }
            self.past.push_back(past);
        }
    }

    /// Takes a packet that is the highest of the current segment.
    #[inline]
    fn advance(&mut self, now: Instant, packet: &SourcePacket) -> Rewritten {
        let segment = self
            .current
            .as_mut()
            .expect("called with an open segment only");
        segment.end = packet.seq.0 + 1;
        let rewritten = segment.apply(packet);
        let head = &mut self.head;
        head.next_seq = rewritten.seq.0 + 1;
        head.timestamp = rewritten.timestamp;
        head.sent_at = Some(now);
        let (picture_id, tl0_picture_index) = picture_numbers(packet);
        if let Some(id) = picture_id {
            head.picture_id = Some(id.value.wrapping_add(segment.picture_id_offset));
        }
        if let Some((index, _)) = tl0_picture_index {
            head.tl0_picture_index = index.wrapping_add(segment.tl0_offset);
        }
        if let Some(patch) = &rewritten.dependency {
            head.frame_number = Some(patch.frame_number);
        }
        rewritten
    }

    fn timestamp_offset_at_start(&mut self, now: Instant, packet: &SourcePacket) -> u32 {
        let aligned = self.aligned.take();
        let last = self.head.timestamp;
        let Some(sent_at) = self.head.sent_at else {
            return last.ticks_from(packet.timestamp);
        };
        let elapsed = now.saturating_duration_since(sent_at);
        let ahead_max = self
            .clock_rate
            .ticks(elapsed + CLOCK_SLACK)
            .min(i32::MAX as u32);
        let same_source = self.current.filter(|segment| segment.ssrc == packet.ssrc);
        let expected = last.wrapping_add(self.clock_rate.ticks(elapsed).clamp(1, i32::MAX as u32));
        let behind_max = self.clock_rate.ticks(BEHIND_MAX);
        let is_just_behind =
            |offset: u32| last.ticks_from(packet.timestamp.wrapping_add(offset)) <= behind_max;
        if aligned.is_some_and(is_just_behind) {
            return last.wrapping_add(1).ticks_from(packet.timestamp);
        }
        aligned
            .or(same_source.map(|segment| segment.timestamp_offset))
            .filter(|offset| {
                let timestamp = packet.timestamp.wrapping_add(*offset);
                (1..=ahead_max).contains(&timestamp.ticks_from(last))
            })
            .unwrap_or_else(|| expected.ticks_from(packet.timestamp))
    }

    fn picture_offsets_at_start(&self, packet: &SourcePacket) -> (u16, u8) {
        let Some(last) = self.head.picture_id else {
            return (0, 0);
        };
        let (picture_id, tl0_picture_index) = picture_numbers(packet);
        let picture_id = picture_id.map_or(0, |id| last.wrapping_add(1).wrapping_sub(id.value));
        let last_index = self.head.tl0_picture_index;
        let tl0 = tl0_picture_index.map_or(0, |(index, _)| {
            last_index.wrapping_add(1).wrapping_sub(index)
        });
        (picture_id, tl0)
    }

    fn frame_number_offset_at_start(&self, packet: &SourcePacket) -> u16 {
        match (self.head.frame_number, &packet.frame.dependency) {
            (Some(last), Some(dependency)) => {
                last.wrapping_add(1).wrapping_sub(dependency.frame_number)
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests;
