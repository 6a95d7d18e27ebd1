//! From a file to RTP: what one player is.
//!
//! [`Player`] is fed with time and leaves packets when they are due. On the wire time never jumps: pauses and seeks
//! change what is sent, not the pace of the timestamps. Deliberately absent: where packets go, and the thread that this
//! runs on.

use std::collections::VecDeque;
use std::io::{Read, Seek};
use std::time::{Duration, Instant};

use forwarding::codec::Codec;
use forwarding::rtcp::{SenderInfo, write_sdes_cname, write_sender_report};
use forwarding::rtp::{ClockRate, NtpTime, RtpTime, Ssrc};

use crate::demuxer::Demuxer;
use crate::error::DemuxError;
use crate::rtp::{Packetizer, clock_rate, payload_type_of};
use crate::track::{Frame, TrackFormat, TrackKind};

/// Time between sender reports. Too low: packets. Too high: viewers that join wait for lip sync.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Frames sent in one turn. Too low: a player that was held up does not catch up. Too high: one turn of a broken file
/// takes long.
const FRAMES_PER_TURN: usize = 64;

/// How far behind its time a player may be before it gives the time up. Too low: a slow disk slows the film. Too high:
/// a held-up player bursts.
const LATENESS_MAX: Duration = Duration::from_secs(2);

/// Frames skipped in one turn on the way to the place that was asked for.
const SKIPPED_PER_TURN: usize = 2000;

/// Bytes since the last key frame that are kept to be sent again to a viewer that joins. Too low: late viewers wait for the
/// next key frame, which in files may be 10 s away. Too high: memory, and bursts.
const REPLAY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Bytes sent again in one turn. Too low: late viewers wait. Too high: bursts that networks drop.
const REPLAY_BYTES_PER_TURN: usize = 48 * 1024;

/// Time between two replays.
const REPLAY_INTERVAL: Duration = Duration::from_secs(1);

/// Where a player is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlayerState {
    /// At the beginning, sending nothing.
    Stopped,
    /// Sending.
    Playing,
    /// Somewhere, sending nothing.
    Paused,
}

/// What a player tells.
#[derive(Debug)]
pub enum PlayerEvent {
    /// The file is over; the player is stopped.
    EndOfStream,
    /// The file is broken here; the player is stopped.
    Broken(DemuxError),
}

/// A stream of packets.
#[derive(Debug)]
struct Output {
    kind: TrackKind,
    ssrc: Ssrc,
    payload_type: u8,
    packetizer: Packetizer,
    rate: ClockRate,
    first_timestamp: u32,
    seq: u16,
    /// Timestamp of the last frame.
    last: Option<RtpTime>,
    packets: u32,
    octets: u32,
}

/// What is random about a player's streams (RFC 3550, section 5.1), by [`TrackKind`].
#[derive(Clone, Copy, Debug)]
pub struct FirstNumbers {
    /// SSRCs, of which one is odd and one even: they grow by two for each file.
    pub ssrcs: [u32; 2],
    /// First timestamps.
    pub timestamps: [u32; 2],
    /// First sequence numbers.
    pub seqs: [u16; 2],
}

/// One file being played.
#[derive(Debug)]
pub struct Player<R> {
    demuxer: Demuxer<R>,
    outputs: Vec<Output>,
    state: PlayerState,
    /// When the streams began: their timestamps count from here.
    epoch: Instant,
    /// `epoch` in wall-clock time.
    epoch_ntp: NtpTime,
    /// This place of the file is shown at this moment, while playing.
    anchor: (Instant, Duration),
    /// Where the file stands while not playing.
    position: Duration,
    next: Option<Frame>,
    /// Frames before this place only get decoders there.
    skip_to: Option<Duration>,
    report_at: Option<Instant>,
    /// Pictures since the last key frame; `None` if there are too many.
    replayable: Option<Vec<Frame>>,
    replayable_bytes: usize,
    replay: VecDeque<Frame>,
    replayed_at: Option<Instant>,
    packets: VecDeque<Vec<u8>>,
    events: VecDeque<PlayerEvent>,
}

impl<R: Read + Seek> Player<R> {
    /// Stands at the beginning of a file. `ntp` is `now` in wall-clock time.
    ///
    /// # Errors
    ///
    /// If the file cannot be played.
    pub fn new(
        now: Instant,
        ntp: NtpTime,
        input: R,
        first: &FirstNumbers,
    ) -> Result<Self, DemuxError> {
        let demuxer = Demuxer::open(input)?;
        let outputs = demuxer
            .formats()
            .iter()
            .filter_map(|format| {
                let slot = format.kind() as usize;
                Some(Output {
                    kind: format.kind(),
                    ssrc: Ssrc(first.ssrcs[slot]),
                    payload_type: payload_type_of(format.codec, format.profile)?,
                    packetizer: Packetizer::new(format),
                    rate: clock_rate(format.codec),
                    first_timestamp: first.timestamps[slot],
                    seq: first.seqs[slot],
                    last: None,
                    packets: 0,
                    octets: 0,
                })
            })
            .collect();
        Ok(Self {
            demuxer,
            outputs,
            state: PlayerState::Stopped,
            epoch: now,
            epoch_ntp: ntp,
            anchor: (now, Duration::ZERO),
            position: Duration::ZERO,
            next: None,
            skip_to: None,
            report_at: None,
            replayable: None,
            replayable_bytes: 0,
            replay: VecDeque::new(),
            replayed_at: None,
            packets: VecDeque::new(),
            events: VecDeque::new(),
        })
    }

    /// The tracks that are sent.
    pub fn formats(&self) -> &[TrackFormat] {
        self.demuxer.formats()
    }

    /// Codecs of the tracks that are left out.
    pub fn others(&self) -> &[String] {
        self.demuxer.others()
    }

    /// How long the file is, if it says so.
    pub fn duration(&self) -> Option<Duration> {
        self.demuxer.duration()
    }

    /// Where the player is.
    pub fn state(&self) -> PlayerState {
        self.state
    }

    /// The place in the file.
    pub fn position(&self, now: Instant) -> Duration {
        let position = match self.state {
            PlayerState::Playing => self.media_time(now),
            PlayerState::Stopped | PlayerState::Paused => self.position,
        };
        self.duration()
            .map_or(position, |duration| position.min(duration))
    }

    /// Plays, or goes on.
    pub fn play(&mut self, now: Instant) {
        if self.state != PlayerState::Playing {
            self.state = PlayerState::Playing;
            self.anchor = (now, self.position);
            self.report_at = Some(now);
        }
    }

    /// Holds.
    pub fn pause(&mut self, now: Instant) {
        if self.state == PlayerState::Playing {
            self.position = self.position(now);
            self.state = PlayerState::Paused;
        }
    }

    /// Goes back to the beginning and holds.
    pub fn stop(&mut self, now: Instant) {
        self.state = PlayerState::Stopped;
        // A file that cannot be rewound tells when it is played again.
        if let Err(error) = self.go_to(now, Duration::ZERO) {
            tracing::debug!(%error, "cannot rewind");
        }
    }

    /// Goes to another place. Pictures begin at the key frame before it, which is sent at once.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn set_position(&mut self, now: Instant, position: Duration) -> Result<(), DemuxError> {
        self.go_to(now, position)
    }

    fn go_to(&mut self, now: Instant, position: Duration) -> Result<(), DemuxError> {
        let position = self
            .duration()
            .map_or(position, |duration| position.min(duration));
        self.demuxer.seek(position)?;
        self.next = None;
        self.skip_to = Some(position).filter(|position| !position.is_zero());
        self.position = position;
        self.anchor = (now, position);
        self.replayable = None;
        self.replay.clear();
        Ok(())
    }

    /// A viewer joined, or lost too much: sends what it needs to show the picture, as far as that is kept.
    pub fn handle_key_frame_request(&mut self, now: Instant) {
        let is_due = self
            .replayed_at
            .is_none_or(|at| now.saturating_duration_since(at) >= REPLAY_INTERVAL);
        if self.state == PlayerState::Playing
            && is_due
            && self.replay.is_empty()
            && let Some(frames) = &self.replayable
        {
            self.replayed_at = Some(now);
            self.replay.extend(frames.iter().cloned());
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.state != PlayerState::Playing {
            return None;
        }
        let due = self.next.as_ref().map(|frame| self.due(frame.time));
        let now = self.anchor.0;
        let next = if self.replay.is_empty() {
            due.unwrap_or(now)
        } else {
            now
        };
        Some(self.report_at.map_or(next, |at| at.min(next)))
    }

    /// Sends what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.state != PlayerState::Playing {
            return;
        }
        self.send_replay(now);
        for _ in 0..FRAMES_PER_TURN {
            if self.next.is_none() && !self.read(now) {
                return;
            }
            let Some(frame) = &self.next else {
                break;
            };
            let late = now.saturating_duration_since(self.due(frame.time));
            if late > LATENESS_MAX {
                self.anchor = (now, frame.time);
            }
            let Some(frame) = self.next.take_if(|frame| {
                let (at, place) = self.anchor;
                frame.time <= place + now.saturating_duration_since(at)
            }) else {
                break;
            };
            // The pictures of a replay and those that follow must not overtake each other.
            if frame.kind == TrackKind::Video && !self.replay.is_empty() {
                self.keep(&frame);
                self.replay.push_back(frame);
                continue;
            }
            if frame.kind == TrackKind::Video {
                self.keep(&frame);
            }
            let timestamp_at = self.due(frame.time);
            self.send(&frame, timestamp_at, false);
        }
        if self.report_at.is_some_and(|at| at <= now) {
            self.report_at = Some(now + REPORT_INTERVAL);
            self.send_reports(now);
        }
    }

    /// The next packet, RTP or RTCP, in the clear.
    pub fn poll_packet(&mut self) -> Option<Vec<u8>> {
        self.packets.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<PlayerEvent> {
        self.events.pop_front()
    }

    fn media_time(&self, now: Instant) -> Duration {
        let (at, place) = self.anchor;
        place + now.saturating_duration_since(at)
    }

    /// When a place of the file is shown.
    fn due(&self, time: Duration) -> Instant {
        let (at, place) = self.anchor;
        let later = time.saturating_sub(place);
        let due = at.checked_add(later).unwrap_or(at);
        due.checked_sub(place.saturating_sub(time)).unwrap_or(due)
    }

    /// Reads the next frame to send; false if there is none now.
    fn read(&mut self, now: Instant) -> bool {
        for _ in 0..SKIPPED_PER_TURN {
            let frame = match self.demuxer.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    self.stop(now);
                    self.events.push_back(PlayerEvent::EndOfStream);
                    return false;
                }
                Err(error) => {
                    self.stop(now);
                    self.events.push_back(PlayerEvent::Broken(error));
                    return false;
                }
            };
            match self.skip_to {
                Some(place) if frame.time < place => match frame.kind {
                    // Decoders need the pictures before the one that is shown first.
                    TrackKind::Video => {
                        if frame.is_key {
                            self.replay.clear();
                        }
                        self.keep(&frame);
                        if self.replayable.is_some() {
                            self.replay.push_back(frame);
                        }
                    }
                    TrackKind::Audio => {}
                },
                _ => {
                    self.skip_to = None;
                    self.next = Some(frame);
                    return true;
                }
            }
        }
        true
    }

    /// Remembers a picture for those who join.
    fn keep(&mut self, frame: &Frame) {
        if frame.is_key {
            self.replayable = Some(Vec::new());
            self.replayable_bytes = 0;
        }
        self.replayable_bytes += frame.data.len();
        if self.replayable_bytes > REPLAY_BYTES_MAX {
            self.replayable = None;
        }
        if let Some(frames) = &mut self.replayable {
            frames.push(frame.clone());
        }
    }

    /// Sends pictures again as fast as networks take them, one tick of the clock apart, so that receivers show the last
    /// of them at once.
    fn send_replay(&mut self, now: Instant) {
        let mut bytes = 0;
        while bytes < REPLAY_BYTES_PER_TURN
            && let Some(frame) = self.replay.pop_front()
        {
            bytes += frame.data.len();
            // The last ones may be on time.
            let is_on_time = self.replay.is_empty() && self.due(frame.time) + LATENESS_MAX > now;
            let at = self.due(frame.time);
            self.send(&frame, at, !is_on_time);
        }
    }

    fn send(&mut self, frame: &Frame, at: Instant, is_hurried: bool) {
        let Some(output) = self.outputs.iter_mut().find(|it| it.kind == frame.kind) else {
            return;
        };
        let elapsed = at.saturating_duration_since(self.epoch);
        let own = RtpTime(output.first_timestamp).wrapping_add(output.rate.ticks(elapsed));
        let timestamp = match output.last {
            // Only pictures that are shown in another order than they are sent may step back.
            Some(last) if is_hurried => last.wrapping_add(1),
            _ => own,
        };
        output.last = Some(timestamp);
        let packets = &mut self.packets;
        let (ssrc, payload_type) = (output.ssrc, output.payload_type);
        let (seq, count, octets) = (&mut output.seq, &mut output.packets, &mut output.octets);
        let packetizer = &mut output.packetizer;
        packetizer.packetize(&frame.data, frame.is_key, |payload, marker| {
            let mut packet = Vec::with_capacity(12 + payload.len());
            packet.push(0x80);
            packet.push(u8::from(marker) << 7 | payload_type);
            packet.extend(seq.to_be_bytes());
            packet.extend(timestamp.0.to_be_bytes());
            packet.extend(ssrc.0.to_be_bytes());
            packet.extend(payload);
            packets.push_back(packet);
            *seq = seq.wrapping_add(1);
            *count = count.wrapping_add(1);
            *octets = octets.wrapping_add(payload.len() as u32);
        });
    }

    fn send_reports(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.epoch);
        for output in &self.outputs {
            let info = SenderInfo {
                ntp: self.epoch_ntp.wrapping_add(elapsed),
                timestamp: RtpTime(output.first_timestamp).wrapping_add(output.rate.ticks(elapsed)),
                packets: output.packets,
                octets: output.octets,
            };
            let mut packet = Vec::new();
            write_sender_report(&mut packet, output.ssrc, &info, &[]);
            write_sdes_cname(&mut packet, output.ssrc, "player");
            self.packets.push_back(packet);
        }
    }

    /// The codec of a kind, if there is a track.
    pub fn codec(&self, kind: TrackKind) -> Option<Codec> {
        let mut formats = self.formats().iter();
        formats.find(|it| it.kind() == kind).map(|it| it.codec)
    }
}
