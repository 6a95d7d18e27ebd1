//! The thread of a recorder.

use std::fs::File;
use std::io::{self, BufWriter};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use forwarding::rtcp::{write_picture_loss, write_receiver_report};
use forwarding::rtp::Ssrc;

use super::{Busy, COMMANDS_MAX, Done, Failure, Give, POLL_INTERVAL, Take};
use crate::muxer::Container;
use crate::place::Place;
use crate::recorder::{Recorder, RecorderEvent, RecorderOptions};

/// Bytes written to the system at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Bytes of one recording, at which it ends: a day at 1 Mbit/s and more. Too low: long recordings are cut off. Too high:
/// a forgotten recording fills the disk.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;

/// What a recorder is asked to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The kind of file; `None`: one that would need transcoding, so recording fails.
    pub container: Option<Container>,
    /// With sound.
    pub audio: bool,
    /// With pictures.
    pub video: bool,
}

impl Profile {
    /// By Kurento's `MediaProfileSpecType`; `None` if there is no such profile.
    pub fn by_name(name: &str) -> Option<Self> {
        let (container, kinds) = match name.split_once('_') {
            Some((container, "VIDEO_ONLY")) => (container, (false, true)),
            Some((container, "AUDIO_ONLY")) => (container, (true, false)),
            _ => (name, (true, true)),
        };
        let (audio, video) = kinds;
        let container = match container {
            "WEBM" => Some(Container::WebM),
            "MKV" => Some(Container::Matroska),
            "MP4" => Some(Container::Mp4),
            "JPEG" | "FLV" => None,
            _ => return None,
        };
        Some(Self {
            container,
            audio,
            video,
        })
    }
}

/// What a recorder tells. As from Kurento's, nothing is heard of a command until it shows in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecorderNotice {
    /// The first media is written, or goes on to be.
    Recording,
    /// Media is left out.
    Paused,
    /// The file is complete.
    Stopped,
    /// Something failed. Unless a track alone failed, there is no recording, or `Stopped` follows.
    Failed(Failure),
}

/// What a recorder's thread needs of the media server.
pub struct RecorderLink {
    /// Takes whether packets shall come.
    pub attach: Give<bool>,
    /// Packets for us, RTP and RTCP.
    pub take: Take,
    /// Takes an RTCP packet for whoever sends.
    pub feed_back: Give<Vec<u8>>,
    /// Takes notices.
    pub notify: Give<RecorderNotice>,
}

enum Command {
    Record,
    Pause,
    Stop(Done),
    Reach(Done),
}

/// A recorder and its thread.
#[derive(Debug)]
pub struct RecorderThread {
    commands: SyncSender<Command>,
    thread: JoinHandle<()>,
}

/// A recorder that completes its file.
#[derive(Debug)]
pub struct Ending(JoinHandle<()>);

impl Ending {
    /// Returns when the file is complete.
    pub fn join(self) {
        if self.0.join().is_err() {
            tracing::error!("the thread of a recorder panicked");
        }
    }
}

impl RecorderThread {
    /// Starts a thread that records to `uri` when it is told to.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread.
    pub fn spawn(
        place: Place,
        uri: String,
        profile: Profile,
        link: RecorderLink,
    ) -> io::Result<Self> {
        let (commands, received) = mpsc::sync_channel(COMMANDS_MAX);
        let worker = Worker {
            place,
            uri,
            profile,
            link,
            recorder: None,
        };
        let thread = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || worker.run(&received))?;
        Ok(Self { commands, thread })
    }

    /// Has the thread complete the file and end.
    pub fn end(self) -> Ending {
        Ending(self.thread)
    }

    /// Begins a recording, or goes on after a pause.
    ///
    /// # Errors
    ///
    /// If the thread is busy.
    pub fn record(&self) -> Result<(), Busy> {
        self.send(Command::Record)
    }

    /// Leaves out what comes.
    ///
    /// # Errors
    ///
    /// If the thread is busy.
    pub fn pause(&self) -> Result<(), Busy> {
        self.send(Command::Pause)
    }

    /// Completes the file; calls `done` then.
    ///
    /// # Errors
    ///
    /// If the thread is busy; `done` is dropped then.
    pub fn stop(&self, done: Done) -> Result<(), Busy> {
        self.send(Command::Stop(done))
    }

    /// Calls `done` when all that was asked before has been begun.
    ///
    /// # Errors
    ///
    /// If the thread is busy; `done` is dropped then.
    pub fn reach(&self, done: Done) -> Result<(), Busy> {
        self.send(Command::Reach(done))
    }

    fn send(&self, command: Command) -> Result<(), Busy> {
        self.commands.try_send(command).map_err(|_| Busy)
    }
}

struct Worker {
    place: Place,
    uri: String,
    profile: Profile,
    link: RecorderLink,
    recorder: Option<Recorder<BufWriter<File>>>,
}

impl Worker {
    fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let command = match &self.recorder {
                Some(_) => commands.recv_timeout(POLL_INTERVAL),
                None => commands.recv().map_err(RecvTimeoutError::from),
            };
            let now = Instant::now();
            match command {
                Ok(Command::Record) => self.record(now),
                Ok(Command::Pause) => self.pause(now),
                Ok(Command::Stop(done)) => {
                    self.take_packets(now);
                    self.stop(now);
                    done();
                }
                Ok(Command::Reach(done)) => done(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.take_packets(now);
                    return self.stop(now);
                }
            }
            self.take_packets(now);
        }
    }

    fn record(&mut self, now: Instant) {
        if let Some(recorder) = &mut self.recorder {
            if recorder.is_paused() {
                recorder.resume(now);
                if recorder.has_begun() {
                    (self.link.notify)(RecorderNotice::Recording);
                }
            }
            return;
        }
        // What is left of a recording before.
        while (self.link.take)(&mut |_| {}) {}
        let opened = match self.profile.container {
            None => Err(Failure::new(
                "STREAM_ERROR_FAILED",
                1,
                "this profile needs transcoding, which is not available",
            )),
            Some(container) => self
                .place
                .write(&self.uri)
                .map(|file| (file, container))
                .map_err(|error| Failure::new("RESOURCE_ERROR_OPEN", 6, error)),
        };
        match opened {
            Ok((file, container)) => {
                let out = BufWriter::with_capacity(BUFFER_BYTES, file);
                let options = RecorderOptions {
                    container,
                    audio: self.profile.audio,
                    video: self.profile.video,
                    bytes_max: FILE_BYTES_MAX,
                };
                self.recorder = Some(Recorder::new(now, out, options));
                (self.link.attach)(true);
            }
            Err(failure) => (self.link.notify)(RecorderNotice::Failed(failure)),
        }
    }

    fn pause(&mut self, now: Instant) {
        if let Some(recorder) = self.recorder.as_mut().filter(|it| !it.is_paused()) {
            recorder.pause(now);
            (self.link.notify)(RecorderNotice::Paused);
        }
    }

    fn stop(&mut self, now: Instant) {
        let Some(recorder) = self.recorder.take() else {
            return;
        };
        let counters = recorder.counters();
        (self.link.attach)(false);
        if let Err(error) = recorder.finish(now) {
            (self.link.notify)(RecorderNotice::Failed(Failure::of_write(&error)));
        }
        tracing::info!(?counters, "recording is complete");
        (self.link.notify)(RecorderNotice::Stopped);
    }

    /// Takes all packets that wait, or throws them away.
    fn take_packets(&mut self, now: Instant) {
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        let mut result = Ok(());
        while result.is_ok()
            && (self.link.take)(&mut |packet| result = recorder.handle_packet(now, packet))
        {
        }
        let mut result = result.and_then(|()| recorder.handle_timeout(now));
        while let Some(ssrc) = recorder.poll_key_frame_request(now) {
            (self.link.feed_back)(picture_loss(ssrc));
        }
        while let Some(event) = recorder.poll_event() {
            match event {
                RecorderEvent::Begun => (self.link.notify)(RecorderNotice::Recording),
                RecorderEvent::TrackLeftOut(reason) => {
                    let failure = Failure::new("STREAM_ERROR_FAILED", 1, reason);
                    (self.link.notify)(RecorderNotice::Failed(failure));
                }
                RecorderEvent::Full => {
                    result = result.and(Err(io::ErrorKind::FileTooLarge.into()));
                }
            }
        }
        if let Err(error) = result {
            (self.link.notify)(RecorderNotice::Failed(Failure::of_write(&error)));
            self.stop(now);
        }
    }
}

/// A compound that asks for a key frame; its sender is nobody in particular.
fn picture_loss(ssrc: Ssrc) -> Vec<u8> {
    let mut packet = Vec::new();
    write_receiver_report(&mut packet, Ssrc(1), &[]);
    write_picture_loss(&mut packet, Ssrc(1), ssrc);
    packet
}
