//! From RTP to a file: what one recording is.
//!
//! [`Recorder`] is fed with packets and time. A file begins with a key frame once the tracks are known, or after a
//! while with those that are; losses cost whole frames up to the next key frame, which it asks for. Deliberately
//! absent: how packets come, and the thread that this runs on.

use std::collections::VecDeque;
use std::io::{self, Seek, Write};
use std::time::{Duration, Instant};

use forwarding::codec::Codec;
use forwarding::rtcp;
use forwarding::rtp::{Header, RtpTime, Ssrc, is_rtcp};

use crate::muxer::{Container, Muxer};
use crate::rtp::{
    Depacketizer, MediaClock, Reorder, WallClock, clock_rate, format_of_payload_type,
};
use crate::stream_header::format_of;
use crate::track::{Frame, TrackFormat, TrackKind};

/// How long all tracks are waited for. Too low: a camera that starts late is missing. Too high: a recording of a silent
/// peer begins late, and more is held in memory.
const TRACKS_WAIT: Duration = Duration::from_secs(5);

/// How long the first sender reports are waited for, without which sound and pictures are put together by their
/// arrival. They come every second. Too low: worse lip sync. Too high: more is held in memory.
const REPORTS_WAIT: Duration = Duration::from_millis(1500);

/// Bytes of frames that are held while waiting. Too low: the beginning of a stream of high rate is lost. Too high:
/// memory.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Time between requests for a key frame. Too low: encoders burst key frames. Too high: more is lost.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(500);

/// What to record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecorderOptions {
    /// The kind of file.
    pub container: Container,
    /// Sound is expected.
    pub audio: bool,
    /// Pictures are expected.
    pub video: bool,
    /// The recording ends when the file has that many bytes.
    pub bytes_max: u64,
}

/// What a recording tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecorderEvent {
    /// The first frames are written.
    Begun,
    /// A track is not recorded, or not any more; says why.
    TrackLeftOut(String),
    /// The file has as many bytes as it may have.
    Full,
}

/// Totals of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecorderCounters {
    /// Written into the file.
    pub frames: u64,
    /// Of which something was missing, or what they refer to.
    pub frames_dropped: u64,
}

#[derive(Debug)]
struct Packet {
    timestamp: RtpTime,
    marker: bool,
    payload: Vec<u8>,
}

/// What comes of one kind.
#[derive(Debug)]
struct Input {
    ssrc: Ssrc,
    codec: Codec,
    reorder: Reorder<Packet>,
    depacketizer: Depacketizer,
    clock: MediaClock,
    format: Option<TrackFormat>,
    asked_at: Option<Instant>,
}

impl Input {
    fn new(now: Instant, epoch: Instant, ssrc: Ssrc, codec: Codec) -> Self {
        Self {
            ssrc,
            codec,
            reorder: Reorder::default(),
            depacketizer: Depacketizer::new(codec),
            clock: MediaClock::new(epoch, clock_rate(codec)),
            format: None,
            // A key frame is asked for when a source is connected.
            asked_at: Some(now),
        }
    }
}

/// A frame with its time in nanoseconds since the epoch.
#[derive(Debug)]
struct Taken {
    kind: TrackKind,
    time: i64,
    timestamp: RtpTime,
    is_key: bool,
    data: Vec<u8>,
}

/// The file before and after its head is written.
#[derive(Debug)]
enum File<W> {
    Waiting {
        out: W,
        since: Option<Instant>,
        frames: Vec<Taken>,
        bytes: usize,
    },
    Open(Muxer<W>),
    /// An error has made an end of it.
    Broken,
}

/// One recording.
#[derive(Debug)]
pub struct Recorder<W> {
    options: RecorderOptions,
    epoch: Instant,
    wall: WallClock,
    /// By [`TrackKind`].
    inputs: [Option<Input>; 2],
    file: File<W>,
    /// Nanoseconds since the epoch that are the beginning of the file.
    zero: i64,
    /// Time left out by pauses, nanoseconds.
    left_out: i64,
    paused_at: Option<i64>,
    /// Time of the last frame in the file, by [`TrackKind`].
    last: [Duration; 2],
    in_file: [Option<Codec>; 2],
    is_told: [bool; 2],
    events: VecDeque<RecorderEvent>,
    counters: RecorderCounters,
}

impl<W: Write + Seek> Recorder<W> {
    /// Begins a recording into `out`, which is empty.
    pub fn new(now: Instant, out: W, options: RecorderOptions) -> Self {
        Self {
            options,
            epoch: now,
            wall: WallClock::default(),
            inputs: [None, None],
            file: File::Waiting {
                out,
                since: None,
                frames: Vec::new(),
                bytes: 0,
            },
            zero: 0,
            left_out: 0,
            paused_at: None,
            last: [Duration::ZERO; 2],
            in_file: [None; 2],
            is_told: [false; 2],
            events: VecDeque::new(),
            counters: RecorderCounters::default(),
        }
    }

    /// Takes an RTP or RTCP packet in the clear, with the payload types of [`FORMATS`](crate::rtp::FORMATS).
    ///
    /// # Errors
    ///
    /// If the file cannot be written; the recording is over then.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) -> io::Result<()> {
        if is_rtcp(packet) {
            self.handle_rtcp(now, packet);
            return Ok(());
        }
        let Ok(header) = Header::parse(packet) else {
            return Ok(());
        };
        let Some(format) = format_of_payload_type(header.payload_type().0) else {
            return Ok(());
        };
        let Some(kind) = TrackKind::of(format.codec).filter(|kind| self.expects(*kind)) else {
            return Ok(());
        };
        let slot = kind as usize;
        let (ssrc, codec) = (header.ssrc(), format.codec);
        let is_known = |input: &&mut Input| input.ssrc == ssrc && input.codec == codec;
        if self.in_file[slot].is_some_and(|known| known != codec) {
            self.tell_left_out(kind, "its codec changed");
            return Ok(());
        }
        let input = match self.inputs[slot].as_mut().filter(is_known) {
            Some(input) => input,
            None => self.inputs[slot].insert(Input::new(now, self.epoch, ssrc, codec)),
        };
        let packet = Packet {
            timestamp: header.timestamp(),
            marker: header.marker(),
            payload: header.payload().to_vec(),
        };
        input.reorder.handle_packet(now, header.seq(), packet);
        self.take_frames(now, kind)
    }

    /// Serves what is due. To be called some ten times a second.
    ///
    /// # Errors
    ///
    /// As [`Self::handle_packet`].
    pub fn handle_timeout(&mut self, now: Instant) -> io::Result<()> {
        for kind in TrackKind::ALL {
            self.take_frames(now, kind)?;
        }
        self.begin_if_due(now)
    }

    /// Leaves out what comes, until [`Self::resume`].
    pub fn pause(&mut self, now: Instant) {
        let now = self.since_epoch(now);
        self.paused_at.get_or_insert(now);
    }

    /// Goes on after [`Self::pause`], with a key frame.
    pub fn resume(&mut self, now: Instant) {
        let Some(paused_at) = self.paused_at.take() else {
            return;
        };
        self.left_out += self.since_epoch(now) - paused_at;
        for input in self.inputs.iter_mut().flatten() {
            input.depacketizer.interrupt();
            input.asked_at = None;
        }
    }

    /// True between [`Self::pause`] and [`Self::resume`].
    pub fn is_paused(&self) -> bool {
        self.paused_at.is_some()
    }

    /// True once the first frames are written.
    pub fn has_begun(&self) -> bool {
        matches!(self.file, File::Open(_))
    }

    /// The stream of which a key frame must be asked for.
    pub fn poll_key_frame_request(&mut self, now: Instant) -> Option<Ssrc> {
        let is_paused = self.is_paused();
        let input = self.inputs[TrackKind::Video as usize].as_mut()?;
        let asked = input.asked_at;
        let is_due =
            asked.is_none_or(|asked| now.saturating_duration_since(asked) >= KEY_FRAME_INTERVAL);
        if is_paused || !input.depacketizer.needs_key() || !is_due {
            return None;
        }
        input.asked_at = Some(now);
        Some(input.ssrc)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<RecorderEvent> {
        self.events.pop_front()
    }

    /// Totals so far.
    pub fn counters(&self) -> RecorderCounters {
        let inputs = self.inputs.iter().flatten();
        let dropped: u64 = inputs.map(|input| input.depacketizer.dropped()).sum();
        RecorderCounters {
            frames_dropped: self.counters.frames_dropped + dropped,
            ..self.counters
        }
    }

    /// Completes the file. `None`: nothing was written, and `out` is empty or broken.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn finish(mut self, now: Instant) -> io::Result<Option<W>> {
        // What waits for other tracks waits in vain.
        if let File::Waiting { frames, .. } = &self.file
            && !frames.is_empty()
        {
            self.begin(now)?;
        }
        match self.file {
            File::Open(muxer) => muxer.finish().map(Some),
            File::Waiting { .. } | File::Broken => Ok(None),
        }
    }

    fn expects(&self, kind: TrackKind) -> bool {
        match kind {
            TrackKind::Audio => self.options.audio,
            TrackKind::Video => self.options.video,
        }
    }

    fn handle_rtcp(&mut self, now: Instant, compound: &[u8]) {
        for packet in rtcp::Packets::new(compound).map_while(Result::ok) {
            let rtcp::Packet::SenderReport(report) = packet else {
                continue;
            };
            let mut inputs = self.inputs.iter_mut().flatten();
            if let Some(input) = inputs.find(|input| input.ssrc == report.sender) {
                let info = report.info;
                let clock = &mut input.clock;
                clock.handle_report(now, &mut self.wall, info.ntp, info.timestamp);
            }
        }
    }

    fn take_frames(&mut self, now: Instant, kind: TrackKind) -> io::Result<()> {
        let mut taken = Vec::new();
        let Some(input) = &mut self.inputs[kind as usize] else {
            return Ok(());
        };
        while let Some(arrived) = input.reorder.poll_packet(now) {
            let Packet {
                timestamp,
                marker,
                payload,
            } = arrived.packet;
            let depacketizer = &mut input.depacketizer;
            depacketizer.handle_payload(arrived.is_continuous, timestamp, marker, &payload);
            while let Some(media) = depacketizer.poll_frame() {
                if media.is_key && (input.format.is_none() || kind == TrackKind::Video) {
                    let format = format_of(input.codec, &media.data);
                    input.format = format.or(input.format.take());
                }
                taken.push(Taken {
                    kind,
                    time: input.clock.time(now, media.timestamp),
                    timestamp: media.timestamp,
                    is_key: media.is_key,
                    data: media.data,
                });
            }
        }
        for frame in taken {
            if self.is_paused() {
                continue;
            }
            match &mut self.file {
                File::Waiting {
                    since,
                    frames,
                    bytes,
                    ..
                } => {
                    since.get_or_insert(now);
                    *bytes += frame.data.len();
                    frames.push(frame);
                }
                File::Open(_) => self.write(frame)?,
                File::Broken => {}
            }
        }
        self.begin_if_due(now)
    }

    fn begin_if_due(&mut self, now: Instant) -> io::Result<()> {
        let File::Waiting {
            since: Some(since),
            bytes,
            ..
        } = &self.file
        else {
            return Ok(());
        };
        let waited = now.saturating_duration_since(*since);
        let is_complete = TrackKind::ALL.into_iter().all(|kind| {
            let input = self.inputs[kind as usize].as_ref();
            !self.expects(kind) || input.is_some_and(|input| input.format.is_some())
        });
        let one = self.options.audio != self.options.video;
        let mut inputs = self.inputs.iter().flatten();
        let is_synchronous = one || inputs.all(|input| input.clock.is_reported());
        let is_due = is_complete && (is_synchronous || waited >= REPORTS_WAIT)
            || waited >= TRACKS_WAIT
            || *bytes >= WAITING_BYTES_MAX;
        if is_due { self.begin(now) } else { Ok(()) }
    }

    /// Writes the head of the file and what has waited for it.
    fn begin(&mut self, now: Instant) -> io::Result<()> {
        let File::Waiting {
            out, mut frames, ..
        } = std::mem::replace(&mut self.file, File::Broken)
        else {
            return Ok(());
        };
        let formats: Vec<TrackFormat> = (self.inputs.iter().flatten())
            .filter_map(|input| input.format.clone())
            .collect();
        for format in &formats {
            self.in_file[format.kind() as usize] = Some(format.codec);
        }
        // Reports that came meanwhile say better when these were taken.
        for frame in &mut frames {
            if let Some(input) = &mut self.inputs[frame.kind as usize] {
                frame.time = input.clock.time(now, frame.timestamp);
            }
        }
        frames.sort_by_key(|frame| frame.time);
        let video = self.in_file[TrackKind::Video as usize].is_some();
        let mut first = frames
            .iter()
            .filter(|frame| !video || frame.kind == TrackKind::Video && frame.is_key);
        self.zero = first.next().map_or(0, |frame| frame.time);
        for input in self.inputs.iter_mut().flatten() {
            input.clock.settle();
        }
        self.file = File::Open(Muxer::new(out, self.options.container, &formats)?);
        self.events.push_back(RecorderEvent::Begun);
        for frame in frames {
            if frame.time >= self.zero {
                self.write(frame)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, frame: Taken) -> io::Result<()> {
        let slot = frame.kind as usize;
        if self.in_file[slot].is_none() {
            self.tell_left_out(frame.kind, "it began after the file");
            self.counters.frames_dropped += 1;
            return Ok(());
        }
        let File::Open(muxer) = &mut self.file else {
            return Ok(());
        };
        let time = frame.time.saturating_sub(self.zero + self.left_out);
        let time = Duration::from_nanos(u64::try_from(time).unwrap_or(0)).max(self.last[slot]);
        self.last[slot] = time;
        let written = muxer.write_frame(&Frame {
            kind: frame.kind,
            time,
            is_key: frame.is_key,
            data: frame.data,
        });
        self.counters.frames += 1;
        if muxer.len_bytes() > self.options.bytes_max {
            self.events.push_back(RecorderEvent::Full);
        }
        if written.is_err() {
            self.file = File::Broken;
        }
        written
    }

    fn tell_left_out(&mut self, kind: TrackKind, reason: &str) {
        if !std::mem::replace(&mut self.is_told[kind as usize], true) {
            let kind = match kind {
                TrackKind::Audio => "audio",
                TrackKind::Video => "video",
            };
            let text = format!("{kind} is not recorded: {reason}");
            self.events.push_back(RecorderEvent::TrackLeftOut(text));
        }
    }

    fn since_epoch(&self, now: Instant) -> i64 {
        let since = now.saturating_duration_since(self.epoch);
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }
}
