//! A jitter buffer and a decoder: [`Playback`] says which pictures are seen when, and which cannot be.
//!
//! Pictures are decoded in order and whole, once the frame came that says it is the last (libwebrtc's `FrameBuffer` does
//! so): where a frame of one cannot be decoded or none says so, none is. Where one is missing, those behind wait for as long as a jitter buffer may
//! hold them; then it is given up. Each is judged twice: by the numbers on the wire, as a decoder would, and by what
//! it truly refers to. A forwarder is at fault where the two differ.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use forwarding::codec::Codec;
use forwarding::rtp::{ClockRate, Header, RtpTime};

use super::assembly::{Assembled, Assembly, Frame, Wire};
use super::references::References;
use super::truth::FrameId;

/// How long a frame may take beyond the least that any took: what a conversation bears (ITU-T G.114).
const DELAY_MAX: Duration = Duration::from_millis(400);

/// Without anything to decode for this long, a key frame is asked for (libwebrtc: `kMaxWaitForFrame`,
/// `kMaxWaitForKeyFrame`).
const FRAME_WAIT_MAX: Duration = Duration::from_secs(3);
const KEY_FRAME_WAIT_MAX: Duration = Duration::from_millis(200);

/// Difference between timestamps and time of capture, from one picture to the next, that is seen.
const TIMESTAMP_STEP_MAX: Duration = Duration::from_millis(50);

/// Frames a decoder can still refer to.
const DECODED_MAX: usize = 512;

/// Fillers remembered.
const FILLERS_MAX: usize = 4_096;

/// A picture that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureShown {
    /// When.
    pub at: Instant,
    /// When it was taken, µs since the beginning of the stage.
    pub captured_micros: u64,
    /// Pixels.
    pub height: u16,
    /// Temporal layer.
    pub temporal: u8,
    /// It was a key frame.
    pub is_key: bool,
}

/// What became of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlaybackCounters {
    /// Frames decoded.
    pub decoded: u64,
    /// Those of them that were not too late.
    pub in_time: u64,
    /// Frames that came whole, but whose references did not, or may not have for all that their numbers tell.
    pub undecodable: u64,
    /// Frames that could be decoded, but whose numbers make a decoder wait.
    pub misnumbered: u64,
    /// Frames whose numbers a decoder believes, but whose references it does not have: garbage on the screen.
    pub corrupt: u64,
    /// Packets that make no frame by their own account.
    pub faulty: u64,
    /// Gaps given up, each at least one frame.
    pub given_up: u64,
    /// Frames that came whole after they were given up.
    pub late: u64,
    /// Pictures whose last frame did not say so, although all came.
    pub unmarked: u64,
    /// Steps of the timestamps that the camera did not make.
    pub timestamp_jumps: u64,
}

impl PlaybackCounters {
    /// Frames that should have been seen.
    pub fn expected(&self) -> u64 {
        self.decoded + self.undecodable + self.misnumbered + self.corrupt + self.given_up
    }
}

#[derive(Clone, Copy, Debug)]
struct Picture {
    timestamp: RtpTime,
    shown: PictureShown,
}

/// What pictures may refer to, for all that their numbers tell, and was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Nothing,
    /// It came behind the latest picture of the base layer.
    SinceBase,
    /// It came before that; a middle layer is known not to refer to it from where it says that it needs the base only.
    BeforeBase,
}

impl Missing {
    /// What it is once a frame was decoded.
    fn after(self, frame: &Frame) -> Self {
        match (self, frame.wire) {
            (_, wire) if wire.is_key() => Self::Nothing,
            (_, Wire::Vp9 { .. } | Wire::Dependency(_)) if frame.truth.temporal == 0 => {
                Self::Nothing
            }
            (Self::SinceBase, _) if frame.truth.temporal == 0 => Self::BeforeBase,
            (
                Self::BeforeBase,
                Wire::Vp8 {
                    is_sync: true,
                    temporal: 1,
                    ..
                },
            ) => Self::Nothing,
            (missing, _) => missing,
        }
    }
}

/// One video stream as its viewer sees it.
#[derive(Debug)]
pub struct Playback {
    epoch: Instant,
    assembly: Assembly,
    references: References,
    decoded: VecDeque<FrameId>,
    waiting: BTreeMap<u64, Frame>,
    /// The packet behind the latest frame that was decoded or given up.
    next: Option<u64>,
    /// Packets without payload.
    fillers: BTreeSet<u64>,
    /// Least time from capture to the last packet, µs.
    transit_min: Option<u64>,
    picture: Option<Picture>,
    /// The frames of the picture in progress.
    unfinished: Vec<Frame>,
    missing: Missing,
    needs_key: bool,
    /// When a key frame is asked for, unless something is decoded before.
    ask_at: Instant,
    pub(super) shown: Vec<PictureShown>,
    counters: PlaybackCounters,
}

impl Playback {
    /// A stream of which nothing came yet; capture times count from `epoch`.
    pub(super) fn new(codec: Codec, epoch: Instant, now: Instant) -> Self {
        Self {
            epoch,
            assembly: Assembly::new(codec),
            references: References::default(),
            decoded: VecDeque::new(),
            waiting: BTreeMap::new(),
            next: None,
            fillers: BTreeSet::new(),
            transit_min: None,
            picture: None,
            unfinished: Vec::new(),
            missing: Missing::Nothing,
            needs_key: true,
            ask_at: now + KEY_FRAME_WAIT_MAX,
            shown: Vec::new(),
            counters: PlaybackCounters::default(),
        }
    }

    /// What was seen, in order.
    pub fn shown(&self) -> &[PictureShown] {
        &self.shown
    }

    /// What became of frames.
    pub fn counters(&self) -> PlaybackCounters {
        self.counters
    }

    /// The packet that the decoder waits for: those before need not be asked for again.
    pub(super) fn awaited(&self) -> Option<u64> {
        self.next
    }

    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        seq: u64,
        header: &Header<'_>,
        payload: &[u8],
    ) {
        if self.next.is_some_and(|next| seq < next) {
            return;
        }
        match self.assembly.handle_packet(now, seq, header, payload) {
            Assembled::Waiting => {}
            Assembled::Faulty => self.counters.faulty += 1,
            // What it is described by may have been lost.
            Assembled::Unreadable => {
                let is_fault = self.missing == Missing::Nothing && self.has_all_before(seq);
                self.counters.faulty += u64::from(is_fault);
            }
            Assembled::Padding => {
                self.fillers.insert(seq);
                if self.fillers.len() > FILLERS_MAX {
                    self.fillers.pop_first();
                }
            }
            Assembled::Frame(frame) => {
                let took = self.transit_micros(&frame);
                self.transit_min = Some(self.transit_min.map_or(took, |least| least.min(took)));
                self.waiting.insert(frame.first, frame);
            }
        }
        self.advance(now);
    }

    /// True if nothing is missing between what was decoded and a packet.
    fn has_all_before(&self, seq: u64) -> bool {
        let has = |it: u64| {
            let frame = self.waiting.range(..=it).next_back();
            self.fillers.contains(&it)
                || self.assembly.has(it)
                || frame.is_some_and(|(_, frame)| it <= frame.last)
        };
        self.next.is_some_and(|next| (next..seq).all(has))
    }

    fn transit_micros(&self, frame: &Frame) -> u64 {
        let at = frame.completed_at - self.epoch;
        (at.as_micros() as u64).saturating_sub(frame.truth.captured_micros)
    }

    /// When a frame is too late.
    fn due_at(&self, frame: &Frame) -> Instant {
        let micros = frame.truth.captured_micros + self.transit_min.unwrap_or(0);
        self.epoch + Duration::from_micros(micros) + DELAY_MAX
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.waiting.values().next();
        let given_up = waiting.map(|frame| self.due_at(frame));
        [given_up, Some(self.ask_at)].into_iter().flatten().min()
    }

    /// Gives up what is due. True if a key frame must be asked for.
    pub(super) fn handle_timeout(&mut self, now: Instant, is_fed: bool) -> bool {
        self.advance(now);
        if self.ask_at > now {
            return false;
        }
        self.ask_again(now);
        // As long as nothing comes at all there is nobody to ask.
        is_fed || self.needs_key
    }

    fn ask_again(&mut self, now: Instant) {
        let wait = match self.needs_key {
            true => KEY_FRAME_WAIT_MAX,
            false => FRAME_WAIT_MAX,
        };
        self.ask_at = now + wait;
    }

    /// Decodes what can be.
    fn advance(&mut self, now: Instant) {
        loop {
            while let Some(next) = &mut self.next
                && self.fillers.remove(next)
            {
                *next += 1;
                // The publisher's packet was late, so it is not known what of its pictures was left out.
                self.missing = Missing::SinceBase;
            }
            let Some((&first, frame)) = self.waiting.first_key_value() else {
                return;
            };
            let frame = *frame;
            let follows = self.next.is_none_or(|next| first <= next);
            // A key frame needs nothing that is missing; a decoder goes on with it once it is due all the same.
            if !follows && now < self.due_at(&frame) {
                return;
            }
            self.waiting.pop_first();
            if self.next.is_some_and(|next| first < next) {
                self.counters.late += 1;
                continue;
            }
            if !follows {
                self.counters.given_up += 1;
            }
            self.next = Some(frame.last + 1);
            if !follows {
                self.missing = Missing::SinceBase;
            }
            self.collect(now, frame, follows);
        }
    }

    /// Decodes a picture when the last of its frames came.
    fn collect(&mut self, now: Instant, frame: Frame, follows: bool) {
        let is_other = |first: &Frame| first.timestamp != frame.timestamp || !follows;
        if self.unfinished.first().is_some_and(is_other) {
            self.counters.unmarked += u64::from(follows);
            self.counters.undecodable += self.unfinished.len() as u64;
            self.unfinished.clear();
            self.missing = Missing::SinceBase;
        }
        self.unfinished.push(frame);
        if !frame.marker {
            return;
        }
        let frames = std::mem::take(&mut self.unfinished);
        let begins = frames.first().is_some_and(|first| first.wire.is_key());
        if self.needs_key && !begins {
            // Not yet begun, or begun anew: what comes before a key frame is of no use.
            self.counters.undecodable += frames.len() as u64 * u64::from(!self.shown.is_empty());
            return;
        }
        match self.first_refused(&frames) {
            None => {
                for frame in &frames {
                    self.decode(now, frame);
                }
            }
            Some(refused) => {
                self.decode(now, refused);
                self.counters.undecodable += frames.len() as u64 - 1;
            }
        }
    }

    /// The frame of a picture on account of which a decoder would wait.
    fn first_refused<'a>(&self, frames: &'a [Frame]) -> Option<&'a Frame> {
        if let [frame] = frames {
            return (!self.references.admit(&frame.wire)).then_some(frame);
        }
        let mut references = self.references.clone();
        frames.iter().find(|frame| {
            let is_refused = !references.admit(&frame.wire);
            references.handle_decoded(&frame.wire);
            is_refused
        })
    }

    fn decode(&mut self, now: Instant, frame: &Frame) {
        let is_numbered = self.references.admit(&frame.wire);
        let is_sound = (frame.truth.references()).all(|it| self.decoded.contains(&it));
        match (is_numbered, is_sound) {
            (true, true) => {}
            // Numbers do not say what was lost: a decoder waits for a frame of VP8 that nothing refers to.
            (false, true) if self.missing != Missing::Nothing && frame.truth.temporal > 0 => {
                self.counters.undecodable += 1;
                return;
            }
            (false, true) => {
                self.counters.misnumbered += 1;
                return;
            }
            (true, false) => {
                self.counters.corrupt += 1;
                self.needs_key = true;
                self.ask_at = now;
                return;
            }
            (false, false) => {
                self.counters.undecodable += 1;
                self.missing = Missing::SinceBase;
                return;
            }
        }
        self.needs_key = false;
        self.ask_again(now);
        self.references.handle_decoded(&frame.wire);
        if self.decoded.len() == DECODED_MAX {
            self.decoded.pop_front();
        }
        self.decoded.push_back(frame.truth.frame);
        self.counters.decoded += 1;
        self.counters.in_time += u64::from(now <= self.due_at(frame));
        self.show(now, frame);
    }

    /// Shows a picture with the last of its frames.
    fn show(&mut self, now: Instant, frame: &Frame) {
        let shown = PictureShown {
            at: now,
            captured_micros: frame.truth.captured_micros,
            height: frame.truth.height,
            temporal: frame.truth.temporal,
            is_key: frame.wire.is_key(),
        };
        if let Some(before) = self.picture
            && before.timestamp != frame.timestamp
        {
            let ticks = frame.timestamp.ticks_from(before.timestamp);
            let stepped = match frame.timestamp.is_after(before.timestamp) {
                true => ClockRate::VIDEO.duration(ticks),
                false => Duration::MAX,
            };
            // Timestamps cannot step back where a larger picture was late.
            let passed = shown.captured_micros;
            let passed = passed.saturating_sub(before.shown.captured_micros);
            let is_jump = stepped.abs_diff(Duration::from_micros(passed)) > TIMESTAMP_STEP_MAX;
            self.counters.timestamp_jumps += u64::from(is_jump);
        }
        if frame.marker {
            self.shown.push(shown);
        }
        self.missing = self.missing.after(frame);
        self.picture = Some(Picture {
            timestamp: frame.timestamp,
            shown,
        });
    }
}
